"""What the log in Redis says was delivered, so that nothing is delivered twice.

The log reaches back some 30 s (ingest/logbook.py), which may be less than a gap lasted: then what was delivered before
the gap is forgotten, and `reach_ms` says so.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Set
from typing import Any, Final, NamedTuple

import hiredis
import msgspec
from redis.asyncio import Redis

from ingest.history import Identity, Sighting, identify
from shared.batch import parse_mark
from shared.names import Names

_log = logging.getLogger(__name__)
_CHUNK_ENTRIES: Final = 10  # read at a time: ~0.1 MB at 50,000 events/s, 3 MB at the very most
_LOG_BYTES: Final = 64 * 1024 * 1024  # read at most, in ~3 s: ~10 s at 50,000 events/s; `reach_ms` tells
_LAG_BYTES: Final = 4 * 1024 * 1024  # of the newest, from which the lag is measured
_LONGEST_LAG_MS: Final = 3_600_000  # delayed feeds are 15 min behind; more is a recording's time or an invented one
_NOTHING_MS: Final = 2**63  # the reach of an empty log


class Seen(NamedTuple):
    """Which of the identities asked for were delivered; nothing is known of before `reach_ms` (our clock)."""

    identities: set[Identity]
    reach_ms: int


class _Chunk(NamedTuple):
    """Some batches of the log: what they delivered, each with the time of its batch, and the oldest batch's time."""

    sightings: list[tuple[int, Sighting]]
    oldest_ms: int


class Delivered:
    """Reads one feed's log; its methods raise RedisError or OSError when Redis does not answer."""

    def __init__(self, redis: "Redis", names: Names, channels: Iterable[str]) -> None:
        """`channels`: the exact ones that matter; an event is always on its exact channel, whoever wants it."""
        self._redis = redis
        self._log_name = names.log
        self._channels = {names.get_exact_bus_channel(channel).encode(): channel for channel in channels}

    async def measure_lag_ms(self) -> int:
        """How far our clock is ahead of the times in the newest events of these channels; 0 if nothing tells.

        That is the feed's latency (15 min if it is a delayed one) and what our clock is off.  The lowest twentieth
        decides, for an earlier fill's events stand in the log as well, and came late.
        """
        lags: list[int] = []
        async for chunk in self._walk_back(_LAG_BYTES):
            lags += [received_ms - sighting.at_ms for received_ms, sighting in chunk.sightings]
        lag_ms = sorted(lags)[len(lags) // 20] if lags else 0
        return lag_ms if abs(lag_ms) <= _LONGEST_LAG_MS else 0

    async def find(self, wanted: Set[Identity], since_ms: int) -> Seen:
        """Those of `wanted` that were delivered since then (our clock), as far as the log reaches back."""
        seen: set[Identity] = set()
        reach_ms = _NOTHING_MS
        async for chunk in self._walk_back(_LOG_BYTES):
            seen |= wanted & {sighting.identity for _, sighting in chunk.sightings}
            reach_ms = min(reach_ms, chunk.oldest_ms)
            if reach_ms < since_ms:
                break
        return Seen(seen, reach_ms)

    async def _walk_back(self, most_bytes: int) -> AsyncIterator[_Chunk]:
        """The log from its newest batch back."""
        newest, size = "+", 0
        while size < most_bytes:
            reply: Any = await self._redis.xrevrange(self._log_name, newest, "-", count=_CHUNK_ENTRIES)
            if not reply:
                return
            newest = f"({reply[-1][0].decode()}"
            size += sum(len(fields.get(b"batch", b"")) for _, fields in reply)
            # In a thread, for ingest has live events to take meanwhile.
            yield await asyncio.to_thread(self._parse, [fields for _, fields in reply])

    def _parse(self, entries: list[dict[bytes, bytes]]) -> _Chunk:
        sightings: list[tuple[int, Sighting]] = []
        oldest_ms = _NOTHING_MS
        for fields in entries:
            try:
                at_ms = parse_mark(fields[b"mark"]).received_us // 1000
                sightings += [(at_ms, sighting) for sighting in self._find_sightings(fields[b"batch"])]
            except (KeyError, ValueError, hiredis.ProtocolError):
                _log.error("log: an entry of an unknown shape, what it delivered may come twice")
            else:
                oldest_ms = min(oldest_ms, at_ms)
        return _Chunk(sightings, oldest_ms)

    def _find_sightings(self, batch: bytes) -> Iterator[Sighting]:
        """What a batch's PUBLISH commands delivered on the channels that matter; raises as hiredis, or ValueError."""
        reader = hiredis.Reader()
        reader.feed(batch)
        while (command := reader.gets()) is not False:
            match command:
                case [b"PUBLISH", bytes(bus_channel), bytes(payload)]:
                    if (channel := self._channels.get(bus_channel)) is not None:
                        yield from _identify(channel, payload)
                case _:
                    raise ValueError("not a PUBLISH")


def _identify(channel: str, payload: bytes) -> list[Sighting]:
    try:
        return identify(channel, payload)
    except msgspec.DecodeError as exc:
        _log.warning("backfill: delivered events of %s have an unknown shape, they may come twice: %s", channel, exc)
        return []
