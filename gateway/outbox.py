"""What is on its way to one client.

The transport takes short stalls (WRITE_LIMIT_BYTES).  Beyond it frames are queued here, which costs a reference each,
since all members of a group share the same bytes.  A client that is a quarter of `limit_events` behind is conflated:
its frames are taken apart (conflate.py), until it has read all that waited for it.  A client that is `limit_events`
behind even so, or conflated for too long, is given up: `full`, and `why`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.conflate import Conflation, count_events
from shared.batch import Mark

WRITE_LIMIT_BYTES: Final = 1024 * 1024
# Whoever has not caught up for so long lives on what is a minute old, and would do better to hold less; and TCP alone
# takes many minutes to notice a client that is gone.
CONFLATED_MOST_S: Final = 60.0
_SOFT_SHARE: Final = 4
_FOLD_FRAMES: Final = 4  # taken apart at a send: more than the one that came, but never the whole backlog at once


class Outbox:
    """Frames to one client, in order; never waits.  `clock` gives Unix seconds; a step of it moves what it times."""

    __slots__ = (
        *("_clock", "_conflated_since_ms", "_conflation", "_frame_events", "_frames"),
        *("_limit_events", "_paused", "_transport", "full", "is_closed", "why"),
    )

    def __init__(self, transport: asyncio.Transport, limit_events: int, clock: Callable[[], float] = time.time) -> None:
        self._transport = transport
        self._limit_events = limit_events
        self._clock = clock
        self._paused = False
        # What waits: first the conflated events, then whole frames: number of events, time of receipt, last batch.
        self._conflation = Conflation()
        self._frames: deque[tuple[bytes, int, int, Mark | None]] = deque()
        self._frame_events = 0
        self._conflated_since_ms: int | None = None
        self.full = asyncio.Event()
        self.why = ""  # once `full`: for the client, why it was given up
        self.is_closed = False

    @property
    def queued_events(self) -> int:
        """Events and statuses that wait here; never above `limit_events`."""
        return len(self._conflation) + self._frame_events

    @property
    def conflated_events(self) -> int:
        """Events that this client did not get, since it connected."""
        return self._conflation.omitted_events

    @property
    def is_conflating(self) -> bool:
        """Whether this client gets the newest only."""
        return self._conflated_since_ms is not None

    def get_lag_ms(self) -> int:
        """The age of the oldest frame that was neither sent nor told to be left out; 0 if there is none."""
        oldest_ms = self._find_oldest_ms()
        return 0 if oldest_ms is None else max(0, self._get_now_ms() - oldest_ms)

    def send(self, frame: bytes) -> None:
        """Send one encoded frame, or queue it."""
        if self.is_closed:
            return
        if not self._paused:
            self._transport.write(frame)
            return
        now_ms = self._get_now_ms()
        events = count_events(frame)
        self._frames.append((frame, events, now_ms, self._find_mark()))
        self._frame_events += events
        if self.is_conflating or self.queued_events > self._limit_events // _SOFT_SHARE:
            self._conflate(now_ms)

    def _find_mark(self) -> Mark | None:
        """The batch that a frame is of which is sent now, for whom that matters."""
        return None

    def pause(self) -> None:
        """The transport has WRITE_LIMIT_BYTES to send."""
        self._paused = True

    def resume(self) -> None:
        """The transport has sent most of what it had."""
        self._paused = False
        # The transport may pause us again from within write().
        while not self._paused and self._is_waiting():
            self._write_next()
        if not self._is_waiting():
            self._conflated_since_ms = None

    def flush(self) -> None:
        """Hand everything to the transport, whether it likes it or not; for a client that is about to be closed."""
        while self._is_waiting():
            self._write_next()

    def _write_next(self) -> None:
        self._transport.write(self._take_frame())

    def close(self) -> None:
        """Take no more, and forget what is queued."""
        self.is_closed = True
        self._frames.clear()
        self._frame_events = 0
        self._conflation.clear()
        self._conflated_since_ms = None

    def is_under_way(self) -> bool:
        """Whether it matters that something written has not arrived yet."""
        return False

    def end(self, exc: Exception | None, *, has_said_goodbye: bool) -> None:
        """The connection has ended: the client's doing (EOF), ours, or with an error; with a close frame or without."""
        self.close()

    def _get_now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _is_waiting(self) -> bool:
        return bool(self._frames) or not self._conflation.is_empty

    def _find_oldest_ms(self) -> int | None:
        oldest_ms = self._conflation.find_oldest_ms()
        return self._frames[0][2] if oldest_ms is None and self._frames else oldest_ms

    def _take_frame(self) -> bytes:
        if not self._conflation.is_empty:
            return self._conflation.take_frame()
        frame, events, _, _ = self._frames.popleft()
        self._frame_events -= events
        return frame

    def _conflate(self, now_ms: int) -> None:
        """Take apart what has waited longest; all of it before a client is given up."""
        since_ms = self._conflated_since_ms = now_ms if self._conflated_since_ms is None else self._conflated_since_ms
        turns = _FOLD_FRAMES
        while self._frames and (turns > 0 or self.queued_events > self._limit_events):
            turns -= 1
            frame, events, at_ms, mark = self._frames.popleft()
            self._frame_events -= events
            self._conflation.add(frame, at_ms, mark)
        if self.queued_events > self._limit_events:
            self._give_up(f"more than {self._limit_events} events were waiting")
        elif now_ms - since_ms > CONFLATED_MOST_S * 1000:
            self._give_up(f"it did not catch up within {CONFLATED_MOST_S:g} s")

    def _give_up(self, cause: str) -> None:
        self.why = f"{cause}, none of those received from {self._find_oldest_ms()} (Unix ms) on were sent"
        self.close()
        self.full.set()
