"""What is on its way to one client.

The transport takes short stalls (WRITE_LIMIT_BYTES).  Beyond it frames are queued here, which costs a reference each,
since all members of a group share the same bytes.  A client that is `limit_events` behind is given up: `full`.
"""

import asyncio
from collections import deque
from typing import Final

WRITE_LIMIT_BYTES: Final = 1024 * 1024


class Outbox:
    """Frames to one client, in order; never waits."""

    __slots__ = ("_limit_events", "_paused", "_queue", "_queued_events", "_transport", "full", "is_closed")

    def __init__(self, transport: asyncio.Transport, limit_events: int) -> None:
        self._transport = transport
        self._limit_events = limit_events
        self._queue: deque[bytes] = deque()
        self._queued_events = 0
        self._paused = False
        self.full = asyncio.Event()
        self.is_closed = False

    def send(self, frame: bytes) -> None:
        """Send one encoded frame, or queue it."""
        if self.is_closed:
            return
        if not self._paused:
            self._transport.write(frame)
            return
        self._queue.append(frame)
        self._queued_events += max(1, frame.count(b'"ev"'))
        if self._queued_events > self._limit_events:
            self.close()
            self.full.set()

    def pause(self) -> None:
        """The transport has WRITE_LIMIT_BYTES to send."""
        self._paused = True

    def resume(self) -> None:
        """The transport has sent most of what it had."""
        self._paused = False
        while self._queue and not self._paused:
            # The transport may pause us again from within write().
            frame = self._queue.popleft()
            self._queued_events -= max(1, frame.count(b'"ev"'))
            self._transport.write(frame)

    def flush(self) -> None:
        """Hand everything to the transport, whether it likes it or not; for a client that is about to be closed."""
        while self._queue and not self.is_closed:
            self._transport.write(self._queue.popleft())
        self._queued_events = 0

    def close(self) -> None:
        """Take no more, and forget what is queued."""
        self.is_closed = True
        self._queue.clear()
        self._queued_events = 0
