"""A door without sockets: visitors with a session and an outbox, ingest's notices, and a clock that only tests move."""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from gateway.client import Client
from gateway.held import Held
from gateway.hub import Hub
from gateway.keys import Keys
from gateway.outbox import Outbox
from gateway.returning import Returning
from gateway.server import Door, Limits
from gateway.session import Session
from shared.batch import Mark
from shared.held import HeldNotice, encode_held
from shared.names import Names
from tests.unit.gateway.frames import close_batch, read_events

KEY = "right-key"


class Timer(NamedTuple):
    """What was put off, and for how long."""

    delay_s: float
    call: Callable[[], None]


class Clock:
    """The loop's clock, as far as the door uses it."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, delay_s: float, function: Callable[..., None], *args: Any) -> None:
        self.timers.append(Timer(delay_s, lambda: function(*args)))


class Edges:
    """The interest: what it was told to want and to want no more."""

    def __init__(self) -> None:
        self.wanted: list[str] = []
        self.unwanted: list[str] = []

    def want(self, channels: Iterable[str]) -> None:
        self.wanted += channels

    def unwant(self, channels: Iterable[str]) -> None:
        self.unwanted += channels


class Line:
    """A connection and its transport."""

    def __init__(self) -> None:
        self.transport = self
        self.remote_address = ("192.0.2.1", 1)
        self.outbox: object = None
        self.frames: list[bytes] = []
        self.closed_with: int | None = None

    def write(self, data: bytes) -> None:
        self.frames.append(data)

    async def close(self, code: int, _reason: str) -> None:
        self.closed_with = code


class Visitor:
    """A client of the door's that has authenticated."""

    def __init__(self, door: Door, feed: str) -> None:
        self.line = Line()
        outbox = Outbox(cast(Any, self.line), 1000)
        self.client = Client(cast(Any, self.line), Session(feed, lambda key: key == KEY), outbox)
        self._door = door

    async def say(self, action: str, params: str) -> list[str]:
        """Send a message; what is answered at once."""
        await self._door._act(
            self.client, self.client.session.receive(json.dumps({"action": action, "params": params}))
        )
        return self.take()

    async def subscribe(self, params: str) -> list[str]:
        return await self.say("subscribe", params)

    async def unsubscribe(self, params: str) -> list[str]:
        return await self.say("unsubscribe", params)

    def take(self) -> list[str]:
        """The statuses since the last look."""
        statuses = [status for frame in self.line.frames for status in read_events(frame)]
        self.line.frames.clear()
        return [f"{status['status']}: {status['message']}" for status in statuses]


class House:
    """The door, its visitors, and what they hear of upstream; must be built inside a running event loop."""

    def __init__(self, feed: str = "stocks") -> None:
        self._feed = feed
        self._names = Names(feed)
        self._hub = Hub(self._names)
        self.edges = Edges()
        self.held = Held(cast(Any, None), self._names, lambda: self.door.on_change())
        self._returning = Returning(cast(Any, None), cast(Any, None), self._hub, self._names, cast(Any, None))
        self.door = Door(
            feed, Keys([KEY]), self._hub, cast(Any, self.edges), self.held, self._returning, Limits(10, 1000)
        )
        self.clock = Clock()
        self.door._loop = cast(Any, self.clock)

    async def visit(self, params: str = "") -> Visitor:
        """A client comes, and may subscribe at once; what it was answered is read."""
        visitor = Visitor(self.door, self._feed)
        self.door.clients.add(visitor.client)
        assert await visitor.say("auth", KEY) == ["auth_success: authenticated"]
        await visitor.subscribe(params)
        return visitor

    def leave(self, visitor: Visitor) -> None:
        """The client's connection ends."""
        visitor.client.outbox.close()
        self.door.clients.discard(visitor.client)
        self.edges.unwant(self._hub.drop(visitor.client.outbox))

    def get_ready(self, *channels: str) -> None:
        """The interest counts these in Redis and listens to them."""
        self._hub.set_ready(channels)
        self.door.on_change()

    def hold_off(self, visitor: Visitor, *channels: str) -> None:
        """What the visitor missed of these is replayed."""
        self._hub.hold_off(visitor.client.outbox, channels)

    def let_in(self, visitor: Visitor, *channels: str) -> None:
        """The replay is over."""
        assert self._hub.let_in(visitor.client.outbox, frozenset(channels), self._hub.last_mark)
        self._returning.on_caught_up(visitor.client)

    def mark(self, *event_types: str) -> None:
        """Ingest publishes these event types whole from now on."""
        list(close_batch(self._hub, Mark(7, 1, 1, 0, frozenset(event_types))))
        self.door.on_change()

    def hear(self, *added: str, **more: Any) -> None:
        """Ingest's notice of what upstream holds and refuses."""
        self.held.on_notice(encode_held(HeldNotice(added=list(added), **more)))

    def let_time_pass(self) -> None:
        """Everything that was put off happens."""
        timers, self.clock.timers = self.clock.timers, []
        for timer in timers:
            timer.call()
