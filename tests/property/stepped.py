"""A gateway's demand, stepped: the real Interest and the real scripts, with something else happening between any two.

The Interest runs as its own task and comes to rest where it would sleep; `step` lets it do its next round.  Whatever
was armed happens just before one of its script calls, which are the only points where Redis sees anything of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.held import Held
from gateway.hub import Hub
from gateway.interest import Interest
from gateway.listener import Listener
from gateway.log import Log
from shared.demand import Demand
from shared.names import Names


@dataclass
class Armed:
    """To be done before the script call after `calls` more."""

    calls: int
    act: Callable[[], Awaitable[None]]


class InterruptedDemand(Demand):
    """Demand whose script calls can be interrupted, and whose replies can be lost."""

    def __init__(self, redis: "Redis", names: Names, on_joined: Callable[[], None] = lambda: None) -> None:
        super().__init__(redis, names)
        self._on_joined = on_joined
        self._is_over: Callable[[], bool] = lambda: False
        self.armed: list[Armed] = []
        self.lose_reply_after: int | None = None
        self.lose_request_after: int | None = None

    def set_owner(self, is_over: Callable[[], bool]) -> None:
        """Say how to find out whether the process that makes these calls has died in one of them."""
        self._is_over = is_over

    async def _call(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> int:
        await self._interrupt()
        self.lose_request_after, is_lost = _count_down(self.lose_request_after)
        if is_lost:
            raise RedisConnectionError("the request was lost")
        reply = await super()._call(script, keys, args)
        if script == "join":
            self._on_joined()
        self.lose_reply_after, is_lost = _count_down(self.lose_reply_after)
        if is_lost:
            raise RedisConnectionError("the reply was lost")
        return reply

    async def _interrupt(self) -> None:
        due = [armed for armed in self.armed if armed.calls <= 0]
        self.armed = [armed for armed in self.armed if armed.calls > 0]
        for armed in self.armed:
            armed.calls -= 1
        for armed in due:
            await armed.act()
        if self._is_over():
            raise asyncio.CancelledError


def _count_down(after: int | None) -> tuple[int | None, bool]:
    if after is None:
        return None, False
    return (after - 1, False) if after > 0 else (None, True)


class ReadyHub(Hub):
    """A hub of which one can see what was made ready."""

    def __init__(self, names: Names) -> None:
        super().__init__(names)
        self.ready: set[str] = set()

    def set_ready(self, channels: Iterable[str]) -> None:
        made = list(channels)
        self.ready.update(made)
        super().set_ready(made)

    def set_unready(self, channels: Iterable[str]) -> None:
        made = list(channels)
        self.ready.difference_update(made)
        super().set_unready(made)


class DeafListener(Listener):
    """Confirms at once, and hears nothing."""

    def __init__(self, names: Names, hub: Hub) -> None:
        super().__init__("", names, hub, Log(Redis(), names), {})
        self.listened: set[str] = set()

    async def listen(self, channels: Iterable[str]) -> None:
        self.listened.update(channels)

    def unlisten(self, channels: Iterable[str]) -> None:
        self.listened.difference_update(channels)


class Outcome(Enum):
    """How a step came to its end."""

    RESTED = "all edges are served"
    FAILED = "Redis did not answer, the rest is for the next step"
    ENDED = "the process is gone"


_running: "WeakKeyDictionary[asyncio.Task[Any], SteppedInterest]" = WeakKeyDictionary()


async def sleep_after_failure(_delay_s: float) -> None:
    """To be put in the place of `asyncio.sleep` in gateway/interest.py."""
    task = asyncio.current_task()
    assert task is not None
    await _running[task].sleep_after_failure()


class SteppedInterest(Interest):
    """An Interest that does a round when it is told to."""

    def __init__(self, ident: str, redis: "Redis", names: Names, demand: InterruptedDemand) -> None:
        self.hub = ReadyHub(names)
        self.listener = DeafListener(names, self.hub)
        held = Held(redis, names, lambda: None)
        super().__init__(ident, names, self.hub, self.listener, demand, held, lambda: {"pid": 1})
        self.demand = demand
        self._resting = asyncio.Event()
        self._go = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed = False

    async def _sleep(self) -> None:
        await self._rest()

    async def _rest(self) -> None:
        self._resting.set()
        await self._go.wait()
        self._go.clear()

    async def sleep_after_failure(self) -> None:
        """What `asyncio.sleep` is to the Interest: it does so only when Redis does not answer."""
        self._failed = True
        await self._rest()

    async def step(self) -> Outcome:
        """Do a round, to its end or to the first failure."""
        self._resting.clear()
        self._failed = False
        if self._task is None:
            self._task = asyncio.create_task(self.run(), name="interest")
            _running[self._task] = self
        else:
            self._go.set()
        rest = asyncio.create_task(self._resting.wait())
        await asyncio.wait({self._task, rest}, return_when=asyncio.FIRST_COMPLETED)
        rest.cancel()
        if self._task.done() and not self._task.cancelled():
            self._task.result()
            raise AssertionError("a permanent task returned")
        if self._task.done():
            return Outcome.ENDED
        return Outcome.FAILED if self._failed else Outcome.RESTED

    async def end(self) -> None:
        """The process is gone, in whatever it was doing."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait({self._task})
