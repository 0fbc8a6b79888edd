"""From a frame to a published batch: split, collect, and decide when the batch is full.

A batch leaves as soon as what has arrived is taken in, but not within BATCH_S of the one before: so an idle feed
waits for nothing, and a busy one costs each client at most 1 / BATCH_S frames a second.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from ingest.batch import Batch
from ingest.logbook import Logbook
from ingest.overlap import Overlap
from ingest.publisher import Publisher
from ingest.tape import Tape
from shared.batch import HEARTBEAT_S, Mark
from shared.names import Names
from shared.notice import Notice
from shared.split import Head, MalformedFrame, Split, join, keep, split_frame

_log = logging.getLogger(__name__)
BATCH_S: Final = 0.002
BATCH_BYTES: Final = 256 * 1024
Screen = Callable[[Split], Split]
MAX_EVENT_BYTES: Final = 256 * 1024  # a larger event fits no client's frame beside others: it is dropped and counted


def drop_statuses(split: Split) -> Split:
    """A split's events alone."""
    return keep(split, lambda head: head.ev != "status")


class Intake:
    """Takes frames from whatever feeds this process; the statuses among them go to `on_status`."""

    def __init__(self, names: Names, publisher: Publisher, epoch: int, on_status: Callable[[bytes], None]) -> None:
        self._publisher = publisher
        self._on_status = on_status
        self._batch = Batch(names)
        self._logbook = Logbook(epoch)
        self.overlap = Overlap(names.feed)
        self.tape = Tape(names, epoch)
        self._epoch = epoch
        self._sequence = 0
        self._bytes = 0
        self._received_us = 0
        self._last_at = 0.0  # loop time of the last batch or heartbeat
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._malformed_logged_at = float("-inf")
        self.frames = 0
        self.events = 0
        self.malformed = 0
        self.last_event_us = 0
        self.last_live_us = 0  # last frame of live data, kept only where test data comes beside it
        self.screen: Screen | None = None  # what of live frames passes; None: all
        self.test_screen: Screen = drop_statuses  # what of test frames passes

    def take(self, frame: bytes) -> None:
        """Take one frame in; never raises for what the frame holds."""
        if self.screen is not None:
            self.last_live_us = time.time_ns() // 1000
        self._take(frame, self.screen)

    def take_test(self, frame: bytes) -> None:
        """Take one frame of test data in; a status in it says nothing of upstream."""
        self._take(frame, self.test_screen)

    def _take(self, frame: bytes, screen: Screen | None) -> None:
        self.frames += 1
        if self.tape.is_on and screen is None:
            self.tape.take(frame, time.time_ns() // 1000)
        try:
            split = split_frame(frame)
        except MalformedFrame as exc:
            self._count_malformed(1, str(exc))
            return
        if split.malformed:
            self._count_malformed(split.malformed, "elements that are no events")
        received = len(split.heads)
        if screen is not None:
            split = screen(split)
        if self.overlap.channels:
            split = self.overlap.filter(split)
        if self.tape.is_on and screen is not None:
            self._record_passed(frame, received, split)
        if self._bytes and self._bytes + len(frame) > BATCH_BYTES:
            self.flush()
        if len(frame) > BATCH_BYTES:
            self._take_in_parts(split)
        else:
            self._add(split, len(frame))

    def _record_passed(self, frame: bytes, received: int, passed: Split) -> None:
        """What of a frame with so many events clients get: played again, a symbol must not be live and simulated."""
        if passed.heads:
            data = frame if len(passed.heads) == received else join(passed.bodies)
            self.tape.take(data, time.time_ns() // 1000)

    def _add(self, split: Split, size: int) -> None:
        if not self._bytes:
            self._received_us = time.time_ns() // 1000
        self._batch.add(split)
        self._bytes += size
        statuses = self._batch.take_statuses()
        if unroutable := self._batch.take_unroutable():
            self._count_malformed(len(unroutable), "events without a symbol")
        for status in statuses:
            self._on_status(status)  # which may close the batch
        if self._timer is None:
            self._timer = self._loop.call_at(max(self._loop.time(), self._last_at + BATCH_S), self.flush)

    def _take_in_parts(self, split: Split) -> None:
        heads: list[Head] = []
        bodies: list[bytes] = []
        size = 0
        for head, body in zip(split.heads, split.bodies, strict=True):
            if len(body) > MAX_EVENT_BYTES:
                self._count_malformed(1, "an event above 256 KiB")
                continue
            if size + len(body) > BATCH_BYTES:
                self._add(Split(heads, bodies, 0), size)
                self.flush()
                heads, bodies, size = [], [], 0
            heads.append(head)
            bodies.append(body)
            size += len(body) + 3
        if heads:
            self._add(Split(heads, bodies, 0), size)

    def flush(self) -> None:
        """Publish what was taken in, if anything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._bytes = 0
        if self._batch.events:
            self.events += self._batch.events
            self.last_event_us = self._received_us
            self._publish()

    def _publish(self) -> None:
        self._sequence += 1
        self._last_at = self._loop.time()
        oldest = self._logbook.get_oldest(self._last_at)
        encoded = self._batch.encode(self._epoch, self._sequence, self._received_us, oldest)
        self._logbook.add(self._last_at, self._sequence, encoded.size)
        if self.tape.has_frames:
            encoded = encoded.with_frames(self.tape.encode(self._last_at, self._sequence))
        self._publisher.publish(encoded)

    def keep_log_from(self, ident: str) -> None:
        """The next batch lets the log forget what earlier epochs logged before this id."""
        self._logbook.keep_from(ident)

    def set_alls(self, event_types: frozenset[str]) -> None:
        """Publish these event types whole as well, from the next batch on; a mark says so at once."""
        if event_types != self._batch.alls:
            self.flush()
            self._batch.set_alls(event_types)
            self._heartbeat()

    def tell(self, notice: Notice, events: Sequence[bytes] = (), end: Notice | None = None) -> None:
        """Let clients know something between the events before it and those after it; with events that it is about."""
        self.flush()
        self._received_us = time.time_ns() // 1000
        self._batch.add_notice(notice)
        if events:
            split = split_frame(b"[%b]" % b",".join(events))
            self._batch.add(self.screen(split) if self.screen is not None else split)
        if end is not None:
            self._batch.add_notice(end, at_end=True)
        self._publish()

    def _heartbeat(self) -> None:
        now = self._loop.time()
        self._last_at = now
        self._publisher.heartbeat(Mark(self._epoch, self._sequence, time.time_ns() // 1000, 0, self._batch.alls))

    async def run(self) -> None:
        """Repeat the last mark whenever nothing was published for HEARTBEAT_S."""
        while True:
            idle_s = self._loop.time() - self._last_at
            if idle_s >= HEARTBEAT_S:
                self._heartbeat()
                idle_s = 0.0
            await asyncio.sleep(HEARTBEAT_S - idle_s)

    def _count_malformed(self, count: int, why: str) -> None:
        self.malformed += count
        now = self._loop.time()
        if now - self._malformed_logged_at >= 1.0:
            self._malformed_logged_at = now
            _log.warning("upstream sent what cannot be routed (%s); %d so far", why, self.malformed)
