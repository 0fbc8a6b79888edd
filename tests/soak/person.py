"""A client that comes back after any end of its connection, to any gateway: with a name it goes on from there."""

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any, Final, cast

from tests.bench.client import Client
from tests.proxy import CLIENT_KEY, Gateway
from tests.soak.ledger import Emitted, Stream

_ACKED_WITHIN_S: Final = 30.0
_RETRY_S: Final = 0.2
_SEGMENT_BYTES: Final = 1400  # of busy ones, as over Ethernet: on loopback the kernel alone takes 2.5 MB
_RECEIVE_BYTES: Final = 8 * 1024
CRASHED, CUT, KILLED = "we crashed", "we cut it", "its gateway was killed"
RESTARTED, LEFT = "close 1012", "closed by us"
EXPECTED: Final = frozenset((CRASHED, CUT, KILLED, RESTARTED, LEFT))  # any other end breaks a promise


class Connection(Client):
    """One connection of a person; what comes goes to the person's stream."""

    def __init__(self, url: str, channels: Sequence[str], stream: Stream) -> None:
        super().__init__(url, CLIENT_KEY, channels, latency_ms=Counter())
        self.checker = stream
        self._is_mute = False
        stream.on_told = self._on_status

    async def connect_by(self, own: socket.socket) -> None:
        """As `connect`, by a socket of our own making."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(own, (self._url.hostname, self._url.port))
            await loop.create_connection(lambda: self, sock=own)
        except OSError:
            own.close()
            raise

    def say_no_more(self) -> None:
        """Half-close: pings go unanswered from now on, and what comes is still read."""
        self.transport.write_eof()
        self._is_mute = True

    def _send(self, opcode: int, payload: bytes) -> None:
        if not self._is_mute:
            super()._send(opcode, payload)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        super().connection_made(transport)


class Person:
    """One client over all its connections; a name makes it resume."""

    def __init__(
        self,
        name: str | None,
        channels: Sequence[str],
        emitted: Emitted,
        choose: Callable[[], Gateway | None],
        killed: Set[int],
        *,
        is_busy: bool = False,
    ) -> None:
        """`killed` are the ids of processes that were killed; a busy one has small buffers in its kernel."""
        self.name = name
        self.channels = tuple(channels)
        self.is_busy = is_busy
        self.stream = Stream(self.channels, emitted)
        self.gateway: Gateway | None = None
        self.connection: Connection | None = None
        self.is_reading = True
        self.is_ending = False
        self.ends: Counter[str] = Counter()  # how connections ended
        self._emitted = emitted
        self._choose = choose
        self._killed = killed
        self._deed = ""  # what we did to end the connection

    @property
    def is_settled(self) -> bool:
        """Connected, and everything acked."""
        connection = self.connection
        return connection is not None and not connection.closed.done() and _is_good(connection.acked)

    def is_beyond(self, last: dict[str, int], enough: Callable[[Iterable[bool]], bool] = any) -> bool:
        """Whether something that was sent after these numbers came on each channel held (of a wildcard: on any)."""
        for channel in self.channels:
            names = self._emitted.find_covered([channel]) if channel.endswith("*") else [channel]
            if not enough(self.stream.get_due(name) > last[name] + 1 for name in names):
                return False
        return True

    async def live(self) -> None:
        """Connect again and again until `is_ending`."""
        while not self.is_ending:
            self.gateway = self._choose()
            if self.gateway is not None:
                await self._stay(self.gateway)
            if not self.is_ending:
                await asyncio.sleep(_RETRY_S * random.uniform(0.5, 1.5))

    async def _stay(self, gateway: Gateway) -> None:
        """One connection."""
        query = f"?resume={self.name}" if self.name else ""
        connection = Connection(gateway.url + query, self.channels, self.stream)
        self.stream.begin(anew=self.name is None)
        try:
            await connection.connect_by(_make_socket(is_narrow=self.is_busy))
        except OSError:
            return  # nobody listens there just now
        self.connection = connection
        ends: list[asyncio.Future[Any]] = [connection.acked, connection.closed]
        await asyncio.wait(ends, timeout=_ACKED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if _is_good(connection.acked):
            self.stream.acked()
        elif not connection.closed.done():
            connection.transport.abort()
            self.ends["acks did not come"] += 1
        cause = await connection.closed
        self._note_end(gateway, cause)

    def _note_end(self, gateway: Gateway, cause: str) -> None:
        self.connection = None
        if self._deed:
            cause = self._deed
        elif gateway.process.pid in self._killed:
            cause = KILLED
        if cause in (CRASHED, KILLED):
            self.stream.crashed(time.time_ns() // 1_000_000)
        self._deed = ""
        self.is_reading = True
        self.ends[cause] += 1

    # What befalls a client.

    def stop_reading(self) -> None:
        """Leave everything in the socket."""
        if self.connection is not None:
            self.is_reading = False
            self.connection.transport.pause_reading()

    def read_on(self) -> None:
        """And take it."""
        if self.connection is not None and not self.is_reading:
            self.connection.transport.resume_reading()
        self.is_reading = True

    def cut(self) -> None:
        """No close frame: say no more, and read what is still on its way."""
        if self.connection is not None:
            self._deed = CUT
            self.connection.say_no_more()

    def crash(self) -> None:
        """Gone at once, with what was not read."""
        if self.connection is not None:
            self._deed = CRASHED
            self.connection.transport.abort()

    def leave(self) -> None:
        """For good."""
        self.is_ending = True
        if self.connection is not None:
            self.connection.close()


def _make_socket(*, is_narrow: bool) -> socket.socket:
    own = socket.socket()
    own.setblocking(False)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if is_narrow:
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    return own


def _is_good(future: "asyncio.Future[None]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
