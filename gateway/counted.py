"""The outbox of a client that can resume: it knows what has been written, and at the end what has arrived."""

import asyncio
import fcntl
import struct
import termios
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from gateway.outbox import Outbox
from gateway.receipt import Receipt
from shared.batch import Mark

ACKED_WITHIN_S: Final = 0.25  # Linux acknowledges within 0.04 to 0.2 s; beyond it the client gets the rest again
LOOK_S: Final = 0.01
_INT: Final = struct.Struct("i")


class CountedTransport:
    """Counts what is written through it; `arrived` is, once the connection ends, how much of that has arrived.

    None if the client's machine reset the connection: then some of what it acknowledged was never read.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_settled = False
        self.written = 0
        self.arrived: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As the transport's."""
        self.written += len(data)
        self._transport.write(data)

    def abort(self) -> None:
        """As the transport's; what waits in it is thrown away."""
        self.settle()
        self._transport.abort()

    def settle(self, exc: Exception | None = None) -> None:
        """The connection ends now; the first call counts."""
        if self._is_settled:
            return
        self._is_settled = True
        if exc is None:
            self.arrived = self.written - self.count_under_way()

    def count_under_way(self) -> int:
        """Bytes that are written and not known to have arrived."""
        return self._transport.get_write_buffer_size() + self._get_unacknowledged()

    def _get_unacknowledged(self) -> int:
        """Bytes that the kernel has not been told to have arrived (SIOCOUTQ; where there is no such thing: 0)."""
        socket = self._transport.get_extra_info("socket")
        try:
            (count,) = _INT.unpack(fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))
        except (OSError, ValueError):
            return 0
        return int(count)


class CountedOutbox(Outbox):
    """Notes in a receipt, with each frame that is written, up to which mark the client has everything by then."""

    __slots__ = ("_counted", "_get_mark", "_is_writable", "_marks", "is_settled", "receipt")

    def __init__(
        self, transport: CountedTransport, limit_events: int, receipt: Receipt, get_mark: Callable[[], Mark]
    ) -> None:
        super().__init__(transport, limit_events)  # type: ignore[arg-type]  # it is one, by __getattr__
        self._counted = transport
        self._get_mark = get_mark
        self._marks: deque[Mark] = deque()  # of what waits: a frame each, so for CONFLATED_MOST_S at most
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self.receipt = receipt
        self.is_settled = False  # whether the receipt says what has arrived in the end

    def send(self, frame: bytes) -> None:
        """Send one encoded frame, or queue it."""
        if self.is_closed:
            return
        is_written = not self._paused  # the transport may pause us from within the write
        super().send(frame)
        if is_written:
            self.receipt.wrote(self._counted.written, self._get_mark())

    def _find_mark(self) -> Mark:
        mark = self._get_mark()
        self._marks.append(mark)
        return mark

    def send_missed(self, frame: bytes, mark: Mark, lane: int) -> None:
        """Send what the client missed, up to the mark; to be called when it is writable."""
        if not self.is_closed:
            self._transport.write(frame)
            self.receipt.wrote(self._counted.written, mark, lane)

    def join(self, mark: Mark, lane: int) -> None:
        """What the client missed is all written: from this mark on these channels come live."""
        self.note()
        self.receipt.wrote(self._counted.written, mark, lane, joins=True)

    async def until_writable(self) -> None:
        """Wait until nothing waits here."""
        await self._is_writable.wait()

    def pause(self) -> None:
        """The transport has enough to send."""
        super().pause()
        self._is_writable.clear()

    def resume(self) -> None:
        """The transport has sent most of what it had."""
        super().resume()
        if not self._paused:
            self.note()
            self._is_writable.set()

    def flush(self) -> None:
        """Hand everything to the transport."""
        super().flush()
        self.note()

    def _write_next(self) -> None:
        super()._write_next()
        waiting = self._conflation.find_oldest_mark() or (self._frames[0][3] if self._frames else None)
        done: Mark | None = None
        while self._marks and (waiting is None or self._marks[0][:2] < waiting[:2]):
            done = self._marks.popleft()
        if done is not None:
            self.receipt.wrote(self._counted.written, done)

    def close(self) -> None:
        """Take no more, and forget what is queued."""
        self.note()
        super().close()
        self._marks.clear()
        self._is_writable.set()

    def is_under_way(self) -> bool:
        """Whether something written has not arrived yet."""
        return self._counted.count_under_way() > 0

    def end(self, exc: Exception | None, *, has_said_goodbye: bool) -> None:
        """The connection has ended: bring the receipt up to what arrived, if that is known.

        A client that sent a close frame may have read on until ours, and then it has everything.  If our close frame
        did not arrive it closed its socket at once (the official Go client does), and what it read is not known.
        """
        super().end(exc, has_said_goodbye=has_said_goodbye)
        self._counted.settle(exc)
        arrived = self._counted.arrived
        if arrived is not None and (arrived == self._counted.written or not has_said_goodbye):
            self.receipt.arrived(arrived)
            self.is_settled = True

    async def finish(self) -> None:
        """Take no more, and settle what has arrived, once it has; the connection may stay."""
        self.close()
        until = time.monotonic() + ACKED_WITHIN_S
        while self.is_under_way():
            if time.monotonic() > until:
                break  # the client gets the rest again
            await asyncio.sleep(LOOK_S)
        self.end(None, has_said_goodbye=False)

    def note(self) -> int:
        """How many bytes are written; if nothing waits here, they are complete up to the last mark."""
        if not self.is_closed and not self._is_waiting():
            self.receipt.wrote(self._counted.written, self._get_mark())
        return self._counted.written
