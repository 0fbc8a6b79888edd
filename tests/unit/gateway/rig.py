"""A client with a name as its gateway sees it, up to the resumption, whose record says what it held before."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

from websockets.exceptions import ConnectionClosedOK
from websockets.protocol import State

from gateway.client import Client, ClientConnection
from gateway.counted import CountedOutbox
from gateway.hub import Hub
from gateway.receipt import LIVE, Lane, Receipt
from gateway.resume import Resumer, Resumption
from gateway.returning import Returning
from gateway.session import Session
from shared.batch import NOTHING, Mark
from shared.names import Names

NAMES = Names("stocks")


def make_mark(sequence: int) -> Mark:
    return NOTHING._replace(epoch=7, sequence=sequence)


class Wire(asyncio.Transport):
    """Its socket is closed; what is under way is what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.under_way = 0

    def write(self, data: Any) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.under_way

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        closed = socket.socket()
        closed.close()
        return closed


class Connection:
    """A connection as far as a client's tasks see it; each ping is answered when the test says so."""

    remote_address = None
    state = State.OPEN

    def __init__(self) -> None:
        self.wire = Wire()
        self.transport: Any = self.wire
        self.before_close: Callable[[], None] = lambda: None
        self.pings: list[asyncio.Future[float]] = []
        self.closed: list[tuple[int, str]] = []
        self.is_over = False

    async def ping(self) -> asyncio.Future[float]:
        if self.is_over:
            raise ConnectionClosedOK(None, None)
        self.pings.append(asyncio.get_running_loop().create_future())
        return self.pings[-1]

    async def close(self, code: int, reason: str) -> None:
        self.before_close()
        self.closed.append((code, reason))


class Records:
    """The resumption, which hands out one resumer and keeps nothing."""

    def __init__(self, resumer: Resumer | None) -> None:
        self.resumer = resumer
        self.claims = 0
        self.saves = 0
        self.ended: list[list[str]] = []

    async def claim(self, name: str, receipt: Receipt, is_over: object) -> Resumer | None:
        self.claims += 1
        return self.resumer

    def save_soon(self) -> None:
        self.saves += 1

    async def end(self, resumer: Resumer) -> None:
        self.ended.append([channel for part in resumer.confirmed for channel in part.channels])


class Rig:
    """A client with a name, of which the record says what it held before."""

    def __init__(self, *missed: str, name: str | None = "bot-1") -> None:
        self.hub = Hub(NAMES)
        self.hub.begin(make_mark(9))
        self.connection = Connection()
        self.records = Records(None)
        resumption = cast(Resumption, self.records)
        self.returning = Returning(resumption, cast(Any, None), self.hub, NAMES, cast(Any, None))
        session = Session("stocks", lambda key: True)
        connection = cast(ClientConnection, self.connection)
        self.outbox = self.returning.make_outbox(connection, name, 1000)
        self.client = Client(connection, session, self.outbox, name)
        self.started: dict[str, Coroutine[Any, Any, None]] = {}
        self.client.start = self._start  # type: ignore[method-assign]
        if isinstance(self.outbox, CountedOutbox):
            lanes = [Lane(make_mark(3), missed)] if missed else []
            self.records.resumer = Resumer("bot-1", "a/1", lanes, self.outbox.receipt)

    def _start(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        if what in self.started:
            self.started[what].close()
        self.started[what] = work

    @property
    def resumer(self) -> Resumer:
        assert self.records.resumer is not None
        return self.records.resumer

    async def claim(self) -> None:
        await self.returning.claim(self.client)

    def add(self, *channels: str) -> None:
        """As the server does: the session knows them first."""
        self.client.session.spellings.update(zip(channels, channels, strict=True))
        self.returning.add(self.client, channels)

    def give_up(self, *channels: str) -> set[str]:
        """As the server does; returns what does not come any more."""
        for channel in channels:
            del self.client.session.spellings[channel]
        gone = self.returning.remove(self.client, channels)
        self.hub.remove(self.outbox, gone)
        return set(gone)

    @property
    def wire(self) -> Wire:
        return self.connection.wire

    @property
    def live(self) -> set[str]:
        return self.resumer.receipt.lanes[LIVE].channels

    @property
    def late(self) -> Iterable[str]:
        return self.hub.find_late(self.outbox)

    def end_tasks(self) -> None:
        for task in self.started.values():
            task.close()
