"""One client of the fake: a reader, which logs each action the moment it arrives, and a worker, which answers in order.

All writes are synchronous and never wait, so that an ack is on the wire before any event of its channel, and
no client that does not read can hold up a test; the bound on what it leaves unread is `Script.buffer_bytes`.
"""

import asyncio
import contextlib
import json
import struct
import time
from dataclasses import dataclass
from typing import Protocol

from websockets.asyncio.connection import broadcast
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.protocol import State

from tests.fakes.session import Script, Session, render_frame, render_status

# Actions read but not yet answered; beyond it the reader waits, and with it the client.
_TODO_ACTIONS = 1000


@dataclass(frozen=True, slots=True)
class Action:
    """One message as received; anything that is no action has the action "" and the whole text as params."""

    connection: int
    at: float  # time.monotonic()
    action: str
    params: str


class Server(Protocol):
    """What a connection asks of the server that it belongs to."""

    def record(self, action: Action) -> None: ...

    def accepts(self, key: str) -> bool: ...

    def authenticated(self, connection: "Connection") -> None: ...

    def subscribed(self, connection: "Connection") -> None: ...

    def note(self) -> None: ...


class Connection:
    """One client: its socket, its session, and what is yet to be answered."""

    def __init__(self, number: int, cluster: str, socket: ServerConnection, script: Script, server: Server) -> None:
        self.number = number  # from 1, in order of connecting
        self.socket = socket
        self.script = script
        self.server = server
        self.session = Session(cluster, script)
        self.key: str | None = None  # set once authenticated
        self.admitted = False  # counts against the connection limit
        self._todo: asyncio.Queue[Action] = asyncio.Queue(_TODO_ACTIONS)

    @property
    def live(self) -> bool:
        """Authenticated, and neither side has begun to close."""
        return self.key is not None and self.socket.state is State.OPEN and not self.socket.transport.is_closing()

    @property
    def account(self) -> tuple[str, str | None]:
        """What the connection limit is counted by: the cluster and the key, never the host [c.1]."""
        return self.session.cluster, self.key

    @property
    def unread_bytes(self) -> int:
        """What the client has left unread on our side of the kernel's buffers."""
        return self.socket.transport.get_write_buffer_size()

    # -- out

    def write(self, frame: bytes, *, text: bool = True) -> None:
        """Send one frame, or drop a client that left too much unread [c 12]; nothing once the connection is closing."""
        transport = self.socket.transport
        if transport.is_closing() or self.socket.state is not State.OPEN:
            return
        if transport.get_write_buffer_size() > self.script.buffer_bytes:
            self.drop_after("slow_consumer", self.script.slow_consumer_text)
        elif self.socket.protocol.extensions:
            broadcast([self.socket], frame, text=text)
        else:  # what broadcast would write, at a fifth of its cost: the load's budget is < 1 us an event
            transport.write(_head_of(len(frame), text) + frame)

    def drop_after(self, status: str, message: str) -> None:
        """Say this, then end the TCP connection without a close frame, as after `auth_failed` [c 3]."""
        broadcast([self.socket], _frame_of(status, message), text=True)
        self.socket.transport.close()  # not abort(): what was written must still get out

    async def evict(self) -> None:
        """`max_connections`, then close 1008 [c 11]."""
        self.write(_frame_of("max_connections", self.script.max_connections_text))
        await self.socket.close(1008)

    def _say(self, statuses: list[bytes]) -> None:
        """Send statuses in the form that `Script.acks` asks for."""
        groups = [[status] for status in statuses] if self.script.acks == "frames" else [statuses]
        for group in filter(None, groups):
            self.write(render_frame(group))

    # -- in

    async def run(self) -> None:
        """Read and answer until the connection has ended."""
        async with asyncio.TaskGroup() as tasks:
            worker = tasks.create_task(self._work(), name=f"answer-{self.number}")
            # However the connection ends, here it has ended; how it looked is for the client's side to judge.
            with contextlib.suppress(ConnectionClosed):
                async for message in self.socket:
                    action = parse_action(self.number, message)
                    self.server.record(action)
                    await self._todo.put(action)
            worker.cancel()

    async def _work(self) -> None:
        if self.script.greeting:
            await asyncio.sleep(self.script.greeting_delay_s)
            self.write(_frame_of("connected", "Connected Successfully"))
        await self._answer_until_authenticated()
        while True:
            await self._answer(await self._todo.get())

    async def _answer_until_authenticated(self) -> None:
        try:
            async with asyncio.timeout(self.script.auth_timeout_s):
                while self.key is None:
                    await self._answer(await self._todo.get())
        except TimeoutError:
            self.drop_after("auth_timeout", "No authentication request received.")

    async def _answer(self, action: Action) -> None:
        match action.action:
            case "auth":
                self._auth(action.params)
            case "subscribe" | "unsubscribe" if self.key is None:
                self.write(_frame_of("auth_required", self.script.auth_required_text))
            case "subscribe":
                await self._until_due(action)
                self._say(self.session.subscribe(action.params))
                self.server.subscribed(self)
            case "unsubscribe":
                await self._until_due(action)
                self._say(self.session.unsubscribe(action.params))
            case _ if self.script.garbage == "error":
                self.write(_frame_of("error", "invalid message"))
        self.server.note()

    async def _until_due(self, action: Action) -> None:
        await asyncio.sleep(max(0.0, action.at + self.script.ack_delay_s - time.monotonic()))

    def _auth(self, key: str) -> None:
        """A second auth is judged like a first: what the real server does is UNKNOWN [g]."""
        if not self.script.auth_reply:
            return
        if not self.server.accepts(key):
            self.drop_after("auth_failed", self.script.auth_failed_text)
        elif key in self.script.no_plan_keys:
            self.drop_after("auth_failed", self.script.no_plan_text)
        else:
            self.key = key
            self.write(_frame_of(*self.script.auth_success))
            self.server.authenticated(self)


def parse_action(number: int, message: str | bytes) -> Action:
    """The action in a message; what holds none becomes the action "" [c.1: binary frames are UNKNOWN]."""
    now = time.monotonic()
    try:
        fields = json.loads(message) if isinstance(message, str) else None
    except ValueError:
        fields = None
    match fields:
        case {"action": str(action), "params": str(params)} if action in ("auth", "subscribe", "unsubscribe"):
            return Action(number, now, action, params)
        case _:
            return Action(number, now, "", message if isinstance(message, str) else repr(message))


def _head_of(length: int, text: bool) -> bytes:
    """The head of an unmasked, unfragmented frame (RFC 6455 section 5.2)."""
    first = 0x80 | (Opcode.TEXT if text else Opcode.BINARY)
    if length < 126:
        return bytes((first, length))
    return struct.pack("!BBH", first, 126, length) if length < 65536 else struct.pack("!BBQ", first, 127, length)


def _frame_of(status: str, message: str) -> bytes:
    return render_frame([render_status(status, message)])
