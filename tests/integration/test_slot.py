"""Several claimants of one upstream slot, on a real redis-server and with a clock that only the test moves."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

import ingest.slot
from ingest.slot import LEASE_S, RENEW_S, Slot
from shared.names import Names
from tests.integration.conftest import RedisServer
from tests.property.clock import Clock
from tests.property.examples import FACTOR

NAMES = Names("stocks")
LATER_S = 0.01  # claims follow one another; none comes in the very moment of another


class World:
    """Claimants, and a Redis whose keys run out by our clock."""

    def __init__(self, redis: "Redis", clock: Clock) -> None:
        self.redis = redis
        self.clock = clock
        self.slots: list[Slot] = []
        self._runs_out_at = 0.0
        self.epochs: list[int] = []  # in the order of their taking

    def add(self) -> Slot:
        self.slots.append(Slot(self.redis, NAMES))
        return self.slots[-1]

    async def claim(self, slot: Slot) -> int:
        """One renewal, as `Slot.run` makes it; returns the epoch that the slot then has."""
        await self._expire()
        before = slot.epoch
        await slot._renew()
        if slot.epoch:
            self._runs_out_at = self.clock.now_s + LEASE_S
            if slot.epoch != before:
                self.epochs.append(slot.epoch)
        self.check()
        return slot.epoch

    async def _expire(self) -> None:
        if self.clock.now_s >= self._runs_out_at:
            await self.redis.delete(NAMES.ingest)

    async def leave(self, slot: Slot) -> None:
        """Its process ends."""
        await slot.give_up()
        self.slots.remove(slot)

    async def empty(self) -> None:
        await self.redis.flushall()

    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds
        self.check()

    async def live(self, slots: list[Slot], seconds: float) -> None:
        """They renew as they do while all is well."""
        for _ in range(round(seconds / RENEW_S)):
            for slot in slots:
                await self.claim(slot)
                self.wait(LATER_S)
            self.wait(RENEW_S)

    def check(self) -> None:
        assert sum(slot.is_sure() for slot in self.slots) <= 1
        assert self.epochs == sorted(set(self.epochs))


def use_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clock.now_s = 1_795_000_000.0
    monkeypatch.setattr(ingest.slot, "time", SimpleNamespace(monotonic=clock.monotonic, time_ns=clock.time_ns))
    return clock


@pytest.fixture
async def world(redis: "Redis", monkeypatch: pytest.MonkeyPatch) -> World:
    return World(redis, use_clock(monkeypatch))


async def test_first_comer_has_the_slot_and_the_next_one_stands_by(world: World) -> None:
    first, second = world.add(), world.add()
    assert await world.claim(first) > 0
    assert await world.claim(second) == 0
    assert first.is_sure() and first.taken.is_set() and not first.lost.is_set()
    assert not second.is_sure() and second.lost.is_set() and not second.taken.is_set()


async def test_standby_takes_over_as_soon_as_the_lease_has_run_out_and_not_before(world: World) -> None:
    first, second = world.add(), world.add()
    await world.live([first, second], 2.0)
    await world.claim(first)
    await world.live([second], LEASE_S - RENEW_S)
    assert second.epoch == 0
    await world.live([second], 2 * RENEW_S)
    assert second.epoch > first.epoch
    assert not first.is_sure()
    assert await world.claim(first) == 0
    assert first.lost.is_set() and not first.taken.is_set()


async def test_holder_is_not_sure_any_more_when_its_lease_has_run_out_for_redis(world: World) -> None:
    holder = world.add()
    await world.claim(holder)
    world.wait(LEASE_S)
    assert not holder.is_sure() and not holder.sure.is_set()
    assert holder.taken.is_set()  # nobody else has it, as far as it knows
    epoch = holder.epoch
    assert await world.claim(holder) == epoch
    assert holder.is_sure() and holder.sure.is_set()


async def test_slot_that_was_given_up_is_taken_at_the_next_claim(world: World) -> None:
    first, second = world.add(), world.add()
    await world.live([first, second], 1.0)
    await second.give_up()
    assert await world.claim(second) == 0  # what was not its own was not given up
    await world.leave(first)
    assert await world.claim(second) > 0


@pytest.mark.parametrize("away_s", [0.5, 1.5, 3.5, 6.5, 30.0, 600.0])
@pytest.mark.parametrize("is_emptied", [True, False], ids=["restarted empty", "frozen"])
async def test_after_an_outage_of_redis_the_holder_has_the_slot_again_though_the_standby_asks_first(
    is_emptied: bool, away_s: float, world: World
) -> None:
    """The holder has batches that Redis must still be told, and the upstream connection."""
    holder, standby = world.add(), world.add()
    await world.live([holder, standby], 10.0)
    epoch = holder.epoch
    world.wait(away_s)
    if is_emptied:
        await world.empty()
    assert await world.claim(standby) == 0
    world.wait(RENEW_S)
    assert await world.claim(standby) == 0
    world.wait(RENEW_S)  # a try of the holder's may just have begun to wait
    assert await world.claim(holder) == epoch
    await world.live([standby, holder], 5.0)
    assert holder.epoch == epoch and world.epochs == [epoch]


@pytest.mark.parametrize("is_emptied", [True, False], ids=["restarted empty", "frozen"])
async def test_after_an_outage_that_the_holder_did_not_survive_a_standby_takes_over_in_time(
    is_emptied: bool, world: World
) -> None:
    holder, standby = world.add(), world.add()
    await world.live([holder, standby], 10.0)
    world.wait(20.0)
    if is_emptied:
        await world.empty()
    await world.live([standby], LEASE_S + 2 * RENEW_S)
    assert standby.epoch > holder.epoch


async def test_new_process_that_was_there_before_redis_came_back_leaves_the_slot_to_its_holder(world: World) -> None:
    holder = world.add()
    epoch = await world.claim(holder)
    world.wait(LEASE_S + 1.0)
    new = world.add()
    new._has_failed = True  # as `Slot.run` notes it
    assert await world.claim(new) == 0
    world.wait(RENEW_S)
    assert await world.claim(new) == 0
    assert await world.claim(holder) == epoch
    await world.live([holder, new], 5.0)
    assert world.epochs == [epoch]


async def test_new_process_takes_an_empty_redis_at_once(world: World) -> None:
    assert await world.claim(world.add()) > 0


async def test_epochs_grow_although_the_clock_of_the_next_holder_is_behind(world: World) -> None:
    first, second = world.add(), world.add()
    epoch = await world.claim(first)
    await world.leave(first)
    world.clock.now_s -= 3600.0
    assert await world.claim(second) == epoch + 1


async def test_holder_that_lost_the_slot_to_one_who_gave_it_up_again_gets_a_new_epoch(world: World) -> None:
    first, second = world.add(), world.add()
    old = await world.claim(first)
    world.wait(LEASE_S + 1)
    between = await world.claim(second)
    await world.leave(second)
    assert await world.claim(first) == 0  # it must first let go of all that belongs to its former epoch
    await world.live([first], LEASE_S + 2 * RENEW_S)
    assert first.epoch > between > old


STEPS = st.one_of(
    st.tuples(st.just("claim"), st.integers(0, 2)),
    st.tuples(st.just("claim"), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.4, 0.5, 1.4, 2.9, 3.0, 3.1, 7.0])),
    st.tuples(st.just("empty"), st.none()),
    st.tuples(st.just("give up"), st.integers(0, 2)),
)


@given(history=st.lists(STEPS, max_size=40))
@settings(
    max_examples=100 * FACTOR,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_happens_no_two_are_sure_at_once(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, history: list[tuple[str, Any]]
) -> None:
    """Also if Redis forgets everything: then only a claimant whose last answer is old may be a danger."""
    clock = use_clock(monkeypatch)

    async def play() -> None:
        async with Redis.from_url(redis_server.url) as redis:
            await redis.flushall()
            world = World(redis, clock)
            slots = [world.add() for _ in range(3)]
            for slot in slots:  # so that each has met a holder
                await world.claim(slot)
            for step, value in history:
                await do(world, slots, step, value)

    with asyncio.Runner() as runner:
        runner.run(play())


async def do(world: World, slots: list[Slot], step: str, value: Any) -> None:
    if step == "claim":
        await world.claim(slots[value])
    elif step == "wait":
        world.wait(value)
    elif step == "empty":
        await world.empty()
    elif not slots[value].epoch:
        return
    else:
        slots[value]._set_epoch(0)  # as its process does by ending
        await slots[value].give_up()
    world.wait(LATER_S)
