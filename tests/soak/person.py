"""A client that comes back after any end of its connection, to any gateway: with a name it goes on from there."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from typing import Any, Final, cast

from tests.bench.client import Client
from tests.proxy import CLIENT_KEY, Gateway
from tests.soak.ledger import Emitted, Stream

_ACKED_WITHIN_S: Final = 30.0
_RETRY_S: Final = 0.2


class Connection(Client):
    """One connection of a person; what comes goes to the person's stream."""

    def __init__(self, url: str, channels: Sequence[str], stream: Stream) -> None:
        super().__init__(url, CLIENT_KEY, channels, latency_ms=Counter())
        self.checker = stream
        stream.on_told = self._on_status

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
    ) -> None:
        """`killed` are the ids of processes that were killed."""
        self.name = name
        self.channels = tuple(channels)
        self.stream = Stream(self.channels, emitted)
        self.gateway: Gateway | None = None
        self.connection: Connection | None = None
        self.is_reading = True
        self.is_ending = False
        self.ends: Counter[str] = Counter()  # how connections ended
        self._emitted = emitted
        self._choose = choose
        self._killed = killed
        self._is_crashing = False
        self._crashed_ms: int | None = None

    @property
    def is_settled(self) -> bool:
        """Connected, and everything acked."""
        connection = self.connection
        return connection is not None and not connection.closed.done() and _is_good(connection.acked)

    def is_beyond(self, last: dict[str, int]) -> bool:
        """Whether something that was sent after these numbers came on each channel held (of a wildcard: on any)."""
        for channel in self.channels:
            names = self._emitted.find_covered([channel]) if channel.endswith("*") else [channel]
            if not any(self.stream.get_due(name) > last[name] + 1 for name in names):
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
        self.stream.begin(crashed_ms=self._crashed_ms, anew=self.name is None)
        try:
            await connection.connect()
        except OSError:
            return  # nobody listens there just now
        self.connection = connection
        ends: list[asyncio.Future[Any]] = [connection.acked, connection.closed]
        await asyncio.wait(ends, timeout=_ACKED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if _is_good(connection.acked):
            self.stream.acked()
            self._crashed_ms = None
        elif not connection.closed.done():
            connection.transport.abort()
            self.ends["acks did not come"] += 1
        cause = await connection.closed
        self._note_end(gateway, cause)

    def _note_end(self, gateway: Gateway, cause: str) -> None:
        self.connection = None
        if self._is_crashing or (not cause.startswith("close ") and gateway.process.pid in self._killed):
            self._crashed_ms = self._crashed_ms or time.time_ns() // 1_000_000
            cause = "we crashed" if self._is_crashing else "its gateway was killed"
        self._is_crashing = False
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
            self.connection.transport.write_eof()

    def crash(self) -> None:
        """Gone at once, with what was not read."""
        if self.connection is not None:
            self._is_crashing = True
            self.connection.transport.abort()

    def leave(self) -> None:
        """For good."""
        self.is_ending = True
        if self.connection is not None:
            self.connection.close()


def _is_good(future: "asyncio.Future[None]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
