"""What upstream is about to give up, against gateways that acquire at that very moment; on a real redis-server."""

import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from gateway.held import Held
from ingest.state import StateWriter
from ingest.upstream import Upstream
from shared.demand import Demand
from shared.names import Names
from tests.redis_state import running_redis
from tests.sure_slot import make_sure_slot

NAMES = Names("stocks")


class Scene:
    """An ingest whose upstream holds some channels that nobody wants, and a gateway."""

    def __init__(self, redis: "Redis") -> None:
        self.sent: list[str] = []
        self.upstream = Upstream("stocks", "key")
        self.state = StateWriter(redis, NAMES, self.upstream, make_sure_slot(), dict)
        self.upstream.on_drop = self.state.request_drop
        self.upstream.opened(self.sent.append)
        self.upstream.reconcile.connected()
        self.demand = Demand(redis, NAMES)
        self.copy = Held(redis, NAMES, lambda: None)

    async def hold(self, *channels: str) -> None:
        """Upstream holds these, and the gateway knows it."""
        self.upstream.reconcile.held.update(channels)
        await self.state.write()
        await self.copy.load()
        await self.demand.join("g1")

    async def acquire(self, *channels: str) -> list[str]:
        """The gateway counts for these; which of them it may ack at once."""
        await self.demand.acquire("g1", channels)
        await self.copy.refresh(channels)
        return [channel for channel in channels if self.copy.is_held(channel)]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with running_redis() as redis:
        yield Scene(redis.client)


async def test_what_was_acquired_before_it_is_cleared_is_not_given_up(scene: Scene) -> None:
    await scene.hold("T.AAPL")
    scene.upstream.plan()
    assert await scene.acquire("T.AAPL") == ["T.AAPL"]
    await scene.state.write()
    assert scene.sent == [], "the edge has not reached ingest yet, but Redis knew"
    assert scene.upstream.reconcile.held == {"T.AAPL"}


async def test_what_is_acquired_after_it_was_cleared_is_not_taken_for_held(scene: Scene) -> None:
    await scene.hold("T.AAPL")
    scene.upstream.plan()
    await scene.state.write()
    assert scene.sent == ['{"action":"unsubscribe","params":"T.AAPL"}']
    assert scene.copy.is_held("T.AAPL"), "its copy is a moment old"
    assert await scene.acquire("T.AAPL") == []


async def test_a_wildcard_stays_while_a_channel_under_it_that_is_not_held_itself_is_wanted(scene: Scene) -> None:
    await scene.hold("T.*")
    scene.upstream.plan()
    assert await scene.acquire("T.AAPL") == ["T.AAPL"]
    await scene.state.write()
    assert scene.sent == []
    assert scene.upstream.reconcile.held == {"T.*"}


async def test_a_wildcard_goes_once_each_channel_under_it_is_held_itself(scene: Scene) -> None:
    await scene.hold("T.*", "T.AAPL", "Q.AAPL")
    await scene.acquire("T.AAPL", "Q.AAPL")
    scene.upstream.update_wanted(["T.AAPL", "Q.AAPL"], [])
    await scene.state.write()
    assert scene.sent == ['{"action":"unsubscribe","params":"T.*"}']
    assert scene.upstream.reconcile.held == {"T.AAPL", "Q.AAPL"}


async def test_a_wildcard_goes_though_a_channel_under_it_that_upstream_refuses_is_wanted(scene: Scene) -> None:
    await scene.hold("T.*")
    await scene.acquire("T.AAPL")
    scene.upstream.update_wanted(["T.AAPL"], [])
    scene.upstream.reconcile.rejected("not authorized", True, time.monotonic())
    scene.upstream.plan()
    await scene.state.write()
    assert scene.sent[-1] == '{"action":"unsubscribe","params":"T.*"}'
    assert scene.upstream.reconcile.held == set()


async def test_a_single_goes_under_its_wildcard_though_it_is_wanted(scene: Scene) -> None:
    await scene.hold("T.*", "T.AAPL")
    await scene.acquire("T.*", "T.AAPL")
    scene.upstream.update_wanted(["T.*", "T.AAPL"], [])
    await scene.state.write()
    assert scene.sent == ['{"action":"unsubscribe","params":"T.AAPL"}']
    assert await scene.acquire("T.AAPL") == ["T.AAPL"]


async def test_nothing_is_given_up_while_somebody_wants_everything(scene: Scene) -> None:
    await scene.hold("T.*")
    scene.upstream.plan()
    await scene.acquire("*")
    await scene.state.write()
    assert scene.sent == []
