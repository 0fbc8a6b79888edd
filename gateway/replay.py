"""Gives one client, from the log, what it missed on some channels, until the hub can let it in between two batches."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Set
from typing import Final

import msgspec

from gateway.catchup import LOST_PLACE_S
from gateway.counted import CountedOutbox
from gateway.groups import encode_frame
from gateway.hub import Hub
from gateway.log import Entry
from gateway.reader import Reader
from gateway.receipt import Lane
from shared.batch import Mark
from shared.channels import find_cover, get_event_type, is_wildcard
from shared.demand import ASKED_S, HELD_S
from shared.names import Names
from shared.notice import Addressed, decode_notice, make_gap
from shared.protocol import encode_status

_log = logging.getLogger(__name__)
_FRAME_BYTES: Final = 128 * 1024
_CAUSE: Final = "this client was away for longer than the log reaches"
_UNHELD: Final = "upstream may not have sent it while this client was away"


class Skipped:
    """What a replay of a wildcard leaves out: the bus channels of exact channels, and whole event types."""

    def __init__(self, names: Names, channels: Set[str]) -> None:
        self.exact = {names.get_bus_channel(channel).encode() for channel in channels if not is_wildcard(channel)}
        self.types = {get_event_type(channel) for channel in channels if is_wildcard(channel)}


class Replay:
    """One lane of one client, from its position to the live stream; `until_mark` waits for the next mark.

    `apart` are channels under its wildcards that the client gets from elsewhere until it is let in, and `got` such as
    it has further than the lane.

    Theory.  The log holds what upstream sent.  If nobody else held the channels, upstream was asked for them only until
    the linger had passed, or until another ingest took over, which knows of no linger.  Who held them meanwhile nobody
    has written down, so in both cases the client is told a gap: up to when upstream surely sends them again, thus not
    before this gateway counts for them (`are_ready`), and before anything that comes from beyond it.
    """

    def __init__(
        self,
        reader: Reader,
        hub: Hub,
        names: Names,
        outbox: CountedOutbox,
        lane: Lane,
        until_mark: Callable[[], Awaitable[None]],
        apart: Set[str],
        got: Iterable[Lane],
    ) -> None:
        self._reader = reader
        self._hub = hub
        self._names = names
        self._notices = names.notices.encode()
        self._outbox = outbox
        self._until_mark = until_mark
        self._channels = set(lane.channels)
        self._apart = frozenset(apart)
        self._got = sorted(got, key=lambda some: some.position[:2])
        self._skipped = self._make_skipped()
        self._position = lane.position
        self._left_us = lane.position.received_us
        self._lower_since: float | None = None  # loop time of the first live mark of a lower epoch, if all since are
        self._told_us = 0  # up to then a gap is told
        self._has_begun = False
        self._is_ready = False
        self._lane = outbox.receipt.open_lane(lane.position, lane.channels, self._got)
        self._choose()
        self._parts: list[bytes] = []
        self._size = 0

    def _choose(self) -> None:
        """Look at what the client still holds of it."""
        still = self._channels & self._hub.find_late(self._outbox)
        self._cover = find_cover(self._names.feed, still)
        self._exact = {self._names.get_bus_channel(c).encode() for c in self._cover if not is_wildcard(c)}
        self._whole = {get_event_type(channel) for channel in self._cover if is_wildcard(channel)}

    def extend(self, channels: Set[str]) -> bool:
        """Give these exact channels, which are at the same place, as well.

        False if it has begun; or if these, unlike its own, come back so late that a gap must be told.
        """
        if self._has_begun or (not self._left_us and self._is_long_ago(self._position.received_us)):
            return False
        self._channels |= channels
        self._outbox.receipt.extend_lane(self._lane, channels)
        self._left_us = self._position.received_us
        return True

    def note_ready(self) -> None:
        """It waits to begin: what upstream is asked for again in time needs no gap, however long the rest takes."""
        if self._hub.are_ready(self._hub.find_late(self._outbox) & self._channels) and not self._was_long_away():
            self._left_us = 0

    async def run(self) -> None:
        """Return when the client is live on these channels, or holds them no more; raises redis.RedisError."""
        if not self._has_begun:
            self._has_begun = True
            self._choose()
        ready_at = 0
        while not self._outbox.is_closed and (late := self._hub.find_late(self._outbox) & self._channels):
            if not self._is_ready and self._hub.are_ready(late):
                self._is_ready = True
                ready_at = self._hub.seals
                if self._was_long_away():
                    self._tell_unheld(self._hub.last_mark)
                self._left_us = 0  # asked for again, however long the rest takes
            if not self._was_long_away() and await self._read():
                continue
            # What is listened to only now may lack the beginning of the batch under way, so a mark must have come.
            if self._is_ready and self._hub.seals > ready_at:
                await self._outbox.until_writable()
                if self._hub.let_in(self._outbox, frozenset(self._channels), self._position):
                    self._outbox.join(self._position, self._lane)
                    return
            await self._until_mark()
        if not self._outbox.is_closed:
            self._outbox.receipt.close_lane(self._lane)

    def _was_long_away(self) -> bool:
        """Whether the linger may have passed before upstream was asked again, and that is not told yet."""
        return not self._told_us and self._left_us > 0 and self._is_long_ago(self._left_us)

    def _is_long_ago(self, us: int) -> bool:
        return us < self._hub.last_mark.received_us - HELD_S * 1e6

    async def _read(self) -> bool:
        """Send what the log holds beyond the position; whether there may be more that can be sent now.

        Never what the hub does not have yet: whoever gives a channel up and asks for it again is at the hub's mark.
        """
        live = self._hub.last_mark
        if live.epoch < self._position.epoch and self._has_epoch_been_lost():
            self._tell_unheld(live)
            self._position = live
        entries, is_logged, is_end = await self._reader.read(self._position)
        await self._until_writable()
        for entry in entries:
            is_ahead = entry.mark[:2] > self._hub.last_mark[:2]
            if is_ahead or not self._account_for(entry.mark, is_next=entry.is_next):
                self._send()
                return False
            self._collect(entry)
            self._position = entry.mark
            if self._size >= _FRAME_BYTES:
                self._send()
                await self._until_writable()
        # The log was read to its end after the live mark came; as it does not have it, it never will.
        is_next = live.sequence == 0 and bool(entries or is_logged)
        if is_end and live[:2] > self._position[:2] and self._account_for(live, is_next=is_next):
            self._position = live
        self._send()
        return not is_end

    def _has_epoch_been_lost(self) -> bool:
        """Whether the lower epoch is a new beginning: this gateway saw it begin, or it goes on (gateway/catchup.py)."""
        now = asyncio.get_running_loop().time()
        is_lower = 0 < self._hub.live_epoch < self._position.epoch
        self._lower_since = (self._lower_since or now) if is_lower else None
        goes_on = self._lower_since is not None and now - self._lower_since > LOST_PLACE_S
        return goes_on or self._position.epoch <= self._hub.lost_epoch

    async def _until_writable(self) -> None:
        """Wait for a slow client, which may give channels up meanwhile: what it gets next is collected after that."""
        await self._outbox.until_writable()
        self._choose()

    def _account_for(self, mark: Mark, *, is_next: bool) -> bool:
        """Tell what may be missing between the position and the mark; False if it must wait until all is ready."""
        has_taken_over = 0 < self._position.epoch < mark.epoch
        if mark.received_us <= self._told_us or (is_next and not has_taken_over):
            return True
        if has_taken_over and not self._is_ready:
            return False
        if has_taken_over:
            self._tell_unheld(mark)
        else:
            self._tell_gap(mark.received_us, _CAUSE)
        return True

    def _tell_unheld(self, mark: Mark) -> None:
        self._told_us = max(mark.received_us, self._hub.last_mark.received_us) + int(ASKED_S * 1e6)
        self._tell_gap(self._told_us, _UNHELD)

    def _tell_gap(self, to_us: int, cause: str) -> None:
        first_ms, last_ms = sorted((self._position.received_us // 1000, to_us // 1000))  # perhaps of two clocks
        self._collect_status(Addressed(make_gap(first_ms, last_ms, cause, sorted(self._channels))))

    def _make_skipped(self) -> Skipped:
        return Skipped(self._names, self._apart.union(*(lane.channels for lane in self._got)))

    def _find_skipped(self, mark: Mark) -> Skipped:
        if self._got and self._got[0].position[:2] < mark[:2]:
            self._got = [lane for lane in self._got if lane.position[:2] >= mark[:2]]
            self._skipped = self._make_skipped()
        return self._skipped

    def _collect(self, entry: Entry) -> None:
        # One by one, if nobody held them whole then, or the client has some of them from elsewhere.
        skipped = self._find_skipped(entry.mark)
        types = self._whole - skipped.types
        rest = types if skipped.exact else types - entry.mark.alls
        whole = {self._names.get_bus_channel(f"{kind}.*").encode() for kind in types - rest}
        wanted = (self._exact | whole) - skipped.exact
        if rest or self._notices in entry.payloads:
            self._collect_in_order(entry, wanted, rest, skipped.exact)
        else:
            for channel in wanted & entry.payloads.keys():
                for payload in entry.payloads[channel]:
                    self._add(payload)

    def _collect_in_order(self, entry: Entry, wanted: Set[bytes], rest: Set[str], skipped: Set[bytes]) -> None:
        for channel, payload in entry.messages:
            if channel == self._notices:
                self._collect_notice(payload)
            elif channel in wanted or (rest and channel not in skipped and self._names.find_type(channel) in rest):
                self._add(payload)

    def _add(self, payload: bytes) -> None:
        self._parts.append(payload[1:-1])
        self._size += len(payload)

    def _collect_notice(self, payload: bytes) -> None:
        try:
            notice = decode_notice(payload)
        except msgspec.DecodeError:
            _log.error("log: a notice of an unknown shape")
            return
        self._collect_status(Addressed(notice))

    def _collect_status(self, addressed: Addressed) -> None:
        status = addressed.find_status(self._cover)
        if status is not None:
            self._parts.append(encode_status(status))

    def _send(self) -> None:
        if self._parts:
            self._outbox.send_missed(encode_frame(self._parts), self._position, self._lane)
            self._parts.clear()
            self._size = 0
