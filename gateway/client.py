"""One client's connection: its session, its outbox, and the acks it is owed."""

import asyncio
import itertools
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, Final, NamedTuple

from websockets.asyncio.server import ServerConnection
from websockets.protocol import State as WsState

from gateway.counted import ACKED_WITHIN_S, LOOK_S
from gateway.groups import encode_frame
from gateway.outbox import Outbox
from gateway.replay import Replay
from gateway.resume import Resumer
from gateway.session import Session
from shared.protocol import CLOSE_POLICY, Status, encode_statuses, slow_consumer

_log = logging.getLogger(__name__)
CLOSE_WITHIN_S: Final = 2.0
_UNREAD_BYTES: Final = 4 * 1024 * 1024  # pongs and acks to a client that reads nothing; beyond it the socket is cut
# Of exact channels, under way at once.  Whoever subscribes channel by channel gets all that it asks for meanwhile with
# the next one; each for itself, some hundreds of them would keep this process busy for ever.
MOST_REPLAYS: Final = 4
_numbers = itertools.count(1)


class ClientConnection(ServerConnection):
    """websockets' connection, whose flow control and end drive our outbox."""

    outbox: Outbox | None = None
    _acks_until = 0.0  # loop time

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.outbox is not None:
            self.outbox.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.outbox is not None:
            self.outbox.resume()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.paused and self.transport.get_write_buffer_size() > _UNREAD_BYTES:
            self.transport.abort()

    def send_data(self) -> None:
        super().send_data()
        # Whatever ends a connection says so through here: after it, nothing may be written any more.
        if self.outbox is not None and self.protocol.state is not WsState.OPEN:
            self.outbox.close()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio knows both, websockets returns None
        """The client says no more, but may still read: what it got is known once its machine has acknowledged it."""
        if self.outbox is not None:
            self.outbox.close()
        self._acks_until = self.loop.time() + ACKED_WITHIN_S
        self._end_once_acked()
        return True  # the transport stays open until then

    def _end_once_acked(self) -> None:
        if self.transport.is_closing():
            return
        if self.outbox is not None and self.outbox.is_under_way() and self.loop.time() < self._acks_until:
            self.loop.call_later(LOOK_S, self._end_once_acked)
            return
        self._end(None)
        super().eof_received()
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        super().connection_lost(exc)

    def _end(self, exc: Exception | None) -> None:
        if self.outbox is not None:
            self.outbox.end(exc, has_said_goodbye=self.protocol.close_rcvd is not None)


class Slow(NamedTuple):
    """How far a client is behind: age of the oldest event that waits for it, events that wait, events left out."""

    client: str
    lag_ms: int
    queued: int
    conflated: int


class Client:
    """A connected client as the server sees it."""

    def __init__(self, connection: ClientConnection, session: Session, outbox: Outbox, name: str | None = None) -> None:
        self.connection = connection
        self.session = session
        self.authenticated = asyncio.Event()
        self.outbox = connection.outbox = outbox
        self.name = name
        self.resumer: Resumer | None = None  # of a client with a name, once it has authenticated
        self.given_up: set[str] = set()  # but to come on until a wildcard above it does; part of what was held then
        self.replays = 0  # of exact channels, under way
        self.next_replays: dict[tuple[int, int], Replay] = {}  # the last one from each place in its record
        self._tasks: asyncio.TaskGroup | None = None
        self._started: list[asyncio.Task[None]] = []
        peer: Any = connection.remote_address
        self.label = f"client {next(_numbers)} ({peer[0]}:{peer[1]})" if isinstance(peer, tuple) else "client"

    async def run(self, conversation: Coroutine[Any, Any, None]) -> None:
        """Serve the client until the conversation ends, and with it what was started beside it."""
        async with asyncio.TaskGroup() as self._tasks:
            await conversation
            for task in self._started:
                task.cancel()

    def start(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        """Do some work beside the conversation; it may end before it."""
        assert self._tasks is not None
        self._started.append(self._tasks.create_task(work, name=f"{self.label} {what}"))

    def send(self, statuses: Iterable[Status]) -> None:
        """Send statuses, in one frame where they fit, in order with the events."""
        for frame in encode_statuses(statuses):
            self.outbox.send(encode_frame([frame[1:-1]]))

    def measure(self) -> Slow:
        """How far it is behind now."""
        outbox = self.outbox
        return Slow(self.label, outbox.get_lag_ms(), outbox.queued_events, outbox.conflated_events)

    async def close(self, code: int, reason: str) -> None:
        """Send what is queued and a close frame; cut the socket if the client does not take it in time."""
        self.outbox.flush()
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self.connection.close(code, reason)
        except TimeoutError:
            self.connection.transport.abort()

    async def close_slow(self) -> None:
        """Tell a client that does not read why it is closed, in case it reads on, and cut it soon."""
        _log.warning("%s: closed, it did not read fast enough: %s", self.label, self.outbox.why)
        self.send_last([slow_consumer(self.outbox.why)])
        await self.close(CLOSE_POLICY, "slow consumer")

    def send_last(self, statuses: Iterable[Status]) -> None:
        """Send statuses though the outbox takes no more; for a client that is about to be closed."""
        if self.connection.state is WsState.OPEN:
            for frame in encode_statuses(statuses):
                self.connection.transport.write(encode_frame([frame[1:-1]]))
