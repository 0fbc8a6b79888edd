"""What was missed in a gap upstream, fetched over REST: the gap's channels, without what was delivered already.

A gap's edges are our clock's; `Delivered.measure_lag_ms` says how far the feed's times are behind it.  MARGIN_MS more
is fetched on both sides, since the latency varies, and what was delivered of it is dropped by identity.  An edge that
the log does not reach back to is taken as it is, without the margin: there an event whose latency was not the usual one
may come twice or not at all, within the difference.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.delivered import Delivered, Seen
from ingest.history import EVENT_TYPES, Found, Identity, get_request, map_results
from ingest.rest import NotEntitled, Rest, RestError
from shared.channels import get_event_type, is_wildcard
from shared.gap import Gap
from shared.names import Names

_log = logging.getLogger(__name__)
WITHIN_S: Final = 20.0  # for all of it; what is not there by then stays missing
MOST_CHANNELS: Final = 100  # of one gap, in its order; the rest stays missing
MOST_EVENTS: Final = 100_000  # of one gap, ~30 MB here; then no further page is asked for, and the rest stays missing
MARGIN_MS: Final = 2000
SETTLE_S: Final = 3.0  # after the gap: by then what the margin holds came live as well; how late REST is, is unknown
_AT_ONCE: Final = 4  # requests under way
_READ_LOG_WITHIN_S: Final = 5.0  # of WITHIN_S; if it takes longer nothing is delivered, rather than all of it twice
_NAMED: Final = 5  # channels in a note, for each reason; of the others it says how many they are


class Filled(NamedTuple):
    """Whole events in the order of their time; `note` is a sentence for clients, empty if nothing is missing."""

    events: list[bytes]
    note: str
    channels: list[str]  # that were asked for


class _Missing:
    """What could not be filled, and why."""

    def __init__(self) -> None:
        self._reasons: dict[str, list[str]] = {}

    def add(self, why: str, *channels: str) -> None:
        if channels:
            self._reasons.setdefault(why, []).extend(channels)

    @property
    def note(self) -> str:
        parts = [f"{_name(channels)} ({why})" for why, channels in self._reasons.items()]
        return f"not or not wholly filled: {'; '.join(parts)}" if parts else ""


def _name(channels: list[str]) -> str:
    more = len(channels) - _NAMED
    return ", ".join(channels[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class _Span(NamedTuple):
    """From and before, in the feed's times (Unix ms)."""

    from_ms: int
    to_ms: int


class _Fetch:
    """What one fill has found so far, and what is still to be asked for."""

    def __init__(self, rest: Rest, channels: list[str], span: _Span, missing: _Missing) -> None:
        self._rest = rest
        self._waiting = deque(channels)
        self._under_way: set[str] = set()
        self._span = span
        self._missing = missing
        self._refused: dict[str, str] = {}  # event type -> why
        self._count = 0
        self.found: dict[str, list[Found]] = {channel: [] for channel in channels}

    async def run(self, within_s: float) -> None:
        """Ask for all of it; what is not there in time is missing."""
        try:
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
                for number in range(_AT_ONCE):
                    tasks.create_task(self._work(), name=f"backfill {number}")
        except TimeoutError:
            self._missing.add("time ran out", *sorted(self._under_way), *self._waiting)

    async def _work(self) -> None:
        while self._waiting:
            channel = self._waiting.popleft()
            self._under_way.add(channel)
            event_type = get_event_type(channel)
            try:
                if event_type in self._refused:
                    raise NotEntitled(self._refused[event_type])
                await self._fetch(channel)
            except NotEntitled as exc:
                self._refused[event_type] = str(exc)
                self._missing.add(str(exc), channel)
            except RestError as exc:
                self._missing.add(str(exc), channel)
            self._under_way.remove(channel)

    async def _fetch(self, channel: str) -> None:
        request = get_request(channel, self._span.from_ms, self._span.to_ms)
        while request:
            if self._count >= MOST_EVENTS:
                raise RestError(f"more than {MOST_EVENTS} events")
            page = await self._rest.get(request)
            await self._take(channel, bytes(page.results))
            request = self._rest.resolve(page.next_url) if page.next_url else ""

    async def _take(self, channel: str, results: bytes) -> None:
        try:
            # In a thread, for ingest has live events to take meanwhile.
            found, unknown = await asyncio.to_thread(map_results, channel, results)
        except msgspec.DecodeError:
            raise RestError("an answer that is not understood") from None
        self._count += len(found)
        self.found[channel] += found
        if unknown:
            _log.warning("backfill: %d results for %s have an unknown shape", unknown, channel)
            self._missing.add("an answer that is not understood", channel)


class Backfill:
    """Fills the gaps of one feed, one at a time: what another fill is about to deliver is not known yet."""

    def __init__(self, redis: "Redis", names: Names, rest_url: str, api_key: str) -> None:
        self._redis = redis
        self._names = names
        self._rest_url = rest_url
        self._key = api_key

    async def fill(self, gap: Gap) -> Filled:
        """What was missed, within WITHIN_S; never raises for what REST or Redis do, but says it in the note."""
        missing = _Missing()
        channels = _choose(gap.channels, missing)
        events: list[bytes] = []
        if channels:
            try:
                async with asyncio.timeout(WITHIN_S):
                    events = await self._fill(gap, channels, missing)
            except (RedisError, OSError) as exc:
                _log.warning("backfill: what was delivered cannot be read (%s)", exc)
                missing.add("what was delivered already is not known", *channels)
        seconds = (gap.to_ms - gap.from_ms) / 1000.0
        _log.info("backfill: %d events for a gap of %.1f s. %s", len(events), seconds, missing.note)
        return Filled(events, missing.note, channels)

    async def _fill(self, gap: Gap, channels: list[str], missing: _Missing) -> list[bytes]:
        deadline_s = time.monotonic() + WITHIN_S - _READ_LOG_WITHIN_S
        await asyncio.sleep(min(SETTLE_S, max(0.0, gap.to_ms / 1000.0 + SETTLE_S - time.time())))
        delivered = Delivered(self._redis, self._names, channels)
        lag_ms = await delivered.measure_lag_ms()
        span = _Span(gap.from_ms - lag_ms - MARGIN_MS, gap.to_ms - lag_ms + MARGIN_MS)
        async with Rest(self._rest_url, self._key) as rest:
            fetch = _Fetch(rest, channels, span, missing)
            await fetch.run(deadline_s - time.monotonic())
        wanted = await asyncio.to_thread(_collect, fetch.found)
        seen = await delivered.find(wanted, gap.from_ms - MARGIN_MS)
        if seen.reach_ms > gap.from_ms - MARGIN_MS:
            span = span._replace(from_ms=gap.from_ms - lag_ms)
        if seen.reach_ms > gap.to_ms:
            span = span._replace(to_ms=gap.to_ms - lag_ms)
        return await asyncio.to_thread(_order, fetch.found, span, seen)


def _choose(channels: Iterable[str], missing: _Missing) -> list[str]:
    """Those that can be asked for, each once, in their order."""
    exact: list[str] = []
    for channel in dict.fromkeys(channels):
        if is_wildcard(channel):
            missing.add("wildcards are not filled", channel)
        elif get_event_type(channel) not in EVENT_TYPES:
            missing.add("REST has no history of it", channel)
        else:
            exact.append(channel)
    missing.add(f"more than {MOST_CHANNELS} channels", *exact[MOST_CHANNELS:])
    return exact[:MOST_CHANNELS]


def _collect(found: dict[str, list[Found]]) -> set[Identity]:
    return {identity for ones in found.values() for one in ones for identity in one.identities}


def _order(found: dict[str, list[Found]], span: _Span, seen: Seen) -> list[bytes]:
    """The new ones by time; at the same time in the order of channels, and of one channel by sequence."""
    new = [
        (one.at_ns, rank, one.sequence, one.event)
        for rank, ones in enumerate(found.values())
        for one in ones
        if span.from_ms <= one.at_ns // 1_000_000 < span.to_ms and seen.identities.isdisjoint(one.identities)
    ]
    return [event for *_, event in sorted(new)]
