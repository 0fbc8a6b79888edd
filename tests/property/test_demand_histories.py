"""Demand under random histories: gateways come, go, die, stand still and lose replies; Redis and ingest restart.

The same histories run on fakeredis and on a real redis-server.  What is promised (DESIGN 4) are the invariants below;
what a gateway counts for, and when, is said in tests/property/model.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar

import fakeredis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from ingest.reconcile import LINGER_S
from tests.fakes.session import Script
from tests.integration.conftest import RedisServer, find_redis_program
from tests.property.clock import Clock
from tests.property.examples import TIMEOUT_S, histories
from tests.property.model import TYPES, cover_of, parts_of
from tests.property.world import SLOTS, SWEEPER, TICK_S, World

EXACT = ("T.AAPL", "T.MSFT", "Q.AAPL")
CHANNELS = (*EXACT, "T.*", "Q.*", "*")
SLOT = st.sampled_from(SLOTS)
CLIENTS = st.integers(0, 1)
CALLS = st.integers(0, 3)
SOME = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=4, unique=True)
JUDGED = st.sets(st.sampled_from((*EXACT, "T.*", "Q.*")), max_size=2)
FATES = st.sampled_from(("at once", "at once", "later", "reply lost", "request lost"))
MEANWHILE = (
    "subscribe",
    "unsubscribe",
    "expire",
    "expire and sweep",
    "sweep",
    "step",
    "crash",
    "restart Redis",
    "read",
)


class DemandHistories(RuleBasedStateMachine):
    """Rules are what happens; `runner`, `make_redis` and `clock` are set by the tests below."""

    runner: ClassVar[asyncio.Runner]
    make_redis: ClassVar[Callable[[], "Redis"]]
    clock: ClassVar[Clock]

    def run_now(self, what: Coroutine[Any, Any, None]) -> None:
        self.is_broken = True
        self.runner.run(what)
        self.is_broken = False

    @initialize(refused=JUDGED, silent=JUDGED)
    def begin(self, refused: set[str], silent: set[str]) -> None:
        self.is_broken = True
        self.world = self.runner.run(self._make_world(Script(refused=refused, silent=silent)))
        self.run_now(self.world.open())

    async def _make_world(self, script: Script) -> World:
        return World(type(self).make_redis(), self.clock, script)

    # Clients and gateways.

    @rule(slot=SLOT, client=CLIENTS, channels=SOME, fate=FATES)
    def subscribe(self, slot: int, client: int, channels: list[str], fate: str) -> None:
        self.run_now(self.world.subscribe(slot, client, channels))
        self._serve(slot, fate)

    @rule(slot=SLOT, client=CLIENTS, channels=SOME, fate=FATES)
    def unsubscribe(self, slot: int, client: int, channels: list[str], fate: str) -> None:
        self.run_now(self.world.unsubscribe(slot, client, channels))
        self._serve(slot, fate)

    @rule(slot=SLOT, client=CLIENTS, fate=FATES)
    def disconnect(self, slot: int, client: int, fate: str) -> None:
        self.unsubscribe(slot, client, list(CHANNELS), fate)

    def _serve(self, slot: int, fate: str) -> None:
        if fate == "later":
            return
        if fate != "at once":
            self.world.lose(slot, 0, reply=fate == "reply lost")
        self.step(slot)

    @rule(slot=SLOT)
    def step(self, slot: int) -> None:
        self.run_now(self.world.step(slot))

    @rule(slot=SLOT)
    def start(self, slot: int) -> None:
        self.run_now(self.world.start(slot))

    @rule(slot=SLOT)
    def leave(self, slot: int) -> None:
        self.run_now(self.world.leave(slot))

    @rule(slot=SLOT)
    def crash(self, slot: int) -> None:
        self.run_now(self.world.crash(slot))

    @rule(slot=SLOT)
    def pause(self, slot: int) -> None:
        self.run_now(self.world.pause(slot))

    @rule(slot=SLOT)
    def resume(self, slot: int) -> None:
        self.run_now(self.world.resume(slot))

    @rule(slot=SLOT)
    def pause_until_the_lease_is_gone_and_go_on(self, slot: int) -> None:
        for what in (self.world.pause, self.world.expire, self.world.resume):
            self.run_now(what(slot))

    # Redis, ingest and upstream.

    @rule(slot=SLOT)
    def lose_the_lease(self, slot: int) -> None:
        self.run_now(self.world.expire(slot))

    @rule()
    def sweep(self) -> None:
        self.run_now(self.world.sweep())

    @rule()
    def restart_redis(self) -> None:
        self.run_now(self.world.restart_redis())

    @rule()
    def restart_ingest(self) -> None:
        self.run_now(self.world.restart_ingest())

    @rule()
    def upstream_drops(self) -> None:
        self.world.reconnect()

    @rule(count=st.integers(1, 5))
    def upstream_answers(self, count: int) -> None:
        self.world.answer(count)

    @rule()
    def read_notices(self) -> None:
        self.run_now(self.world.read_notices())

    @rule(count=st.integers(1, 3))
    def lose_notices(self, count: int) -> None:
        self.world.notices_to_lose += count

    @rule(owner=SLOT, calls=CALLS, reply=st.booleans())
    def lose_a_message(self, owner: int, calls: int, reply: bool) -> None:
        self.world.lose(owner, calls, reply=reply)

    @rule(
        owner=st.sampled_from((SWEEPER, *SLOTS)),
        calls=CALLS,
        what=st.sampled_from(MEANWHILE),
        slot=SLOT,
        client=CLIENTS,
        channels=SOME,
    )
    def meanwhile(self, owner: int, calls: int, what: str, slot: int, client: int, channels: list[str]) -> None:
        """While `owner` is in the middle of something, between two calls of a script."""
        world = self.world

        async def expire_and_sweep() -> None:
            await world.expire(slot)
            await world.sweep()

        acts: dict[str, Callable[[], Awaitable[None]]] = {
            "subscribe": lambda: world.subscribe(slot, client, channels),
            "unsubscribe": lambda: world.unsubscribe(slot, client, channels),
            "expire": lambda: world.expire(slot),
            "expire and sweep": expire_and_sweep,
            "sweep": world.sweep,
            "step": lambda: world.step(slot),
            "crash": lambda: world.crash(slot),
            "restart Redis": world.restart_redis,
            "read": world.read_notices,
        }
        world.arm(owner, calls, acts[what])

    # Time.

    @rule(ticks=st.sampled_from([1, 1, 2, 18]))
    def wait(self, ticks: int) -> None:
        for _ in range(ticks):
            self.run_now(self.world.tick())
            self.nothing_a_live_gateway_holds_is_ever_unsubscribed()
            self.held_is_within_wanted_and_linger()

    # What is promised.

    @invariant()
    def no_count_is_below_one(self) -> None:
        counts = self._get(self.world.get_counts())
        self._judge(all(count > 0 for count in counts.values()), counts)

    @invariant()
    def each_count_is_the_number_of_gateways_that_hold_the_channel(self) -> None:
        counts, counted = self._get(self.world.get_counts()), self._get(self.world.get_counted())
        self._judge(counts == counted, counts, counted)
        model = self.world.model
        self._judge(model.get_least_counts() <= counts, "too low", counts, model.gateways)
        self._judge(counts <= model.get_most_counts(), "too high", counts, model.gateways)

    @invariant()
    def whatever_a_gateway_counts_for_can_be_swept(self) -> None:
        self._judge(not self.world.faults, self.world.faults)

    @invariant()
    def nothing_a_live_gateway_holds_is_ever_unsubscribed(self) -> None:
        cuts = [fault for fault in self.world.wire.faults if "cuts" in fault]
        self._judge(not cuts, cuts)

    @invariant()
    def one_subscribe_is_under_way_at_most(self) -> None:
        second = [fault for fault in self.world.wire.faults if "under way" in fault]
        self._judge(not second, second)

    @invariant()
    def held_is_within_wanted_and_linger(self) -> None:
        reconcile, wanted = self.world.upstream.reconcile, set(self._get(self.world.get_counts()))
        self.world.wanted_s.update(dict.fromkeys(wanted, self.clock.now_s))
        if not reconcile.is_asking:  # a changeover keeps the old until the new is acked
            oldest_s = self.clock.now_s - LINGER_S - 2 * TICK_S
            lately = {channel for channel, since_s in self.world.wanted_s.items() if since_s >= oldest_s}
            self._judge(reconcile.held <= parts_of(lately), reconcile.held, lately)

    def teardown(self) -> None:
        try:
            if not self.is_broken:
                self.after_quiet_time_counts_are_exact_and_held_is_what_is_wanted()
        finally:
            self.runner.run(self.world.close())

    def after_quiet_time_counts_are_exact_and_held_is_what_is_wanted(self) -> None:
        """However the history went: 30 s linger, and time for upstream to be asked about each channel alone."""
        world = self.world
        for _ in range(round(LINGER_S / TICK_S) + len(TYPES) + len(CHANNELS)):
            self.run_now(world.tick())
        counts, exact = self._get(world.get_counts()), world.model.get_exact_counts()
        self._judge(counts == exact, "after quiet time", counts, exact)
        reconcile = world.upstream.reconcile
        expected = cover_of(parts_of(counts) - reconcile.refused.keys())
        self._judge(reconcile.held == expected, "held", reconcile.held, expected)
        self._judge(world.wire.held == expected, "upstream holds", world.wire.held, expected)
        self._judge(reconcile.refused.keys() <= world.script.refused, "refused", reconcile.refused)
        self.nothing_a_live_gateway_holds_is_ever_unsubscribed()

    def _get(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)

    def _judge(self, is_right: bool, *facts: object) -> None:
        self.is_broken = not is_right
        assert is_right, "\n".join(map(str, facts))


@pytest.mark.timeout(TIMEOUT_S)
def test_demand_histories_on_fakeredis(runner: asyncio.Runner, clock: Clock) -> None:
    DemandHistories.runner, DemandHistories.clock = runner, clock
    DemandHistories.make_redis = lambda: fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    run_state_machine_as_test(DemandHistories, settings=histories(30, 40))


@pytest.mark.timeout(TIMEOUT_S)
def test_demand_histories_on_redis(runner: asyncio.Runner, clock: Clock) -> None:
    DemandHistories.runner, DemandHistories.clock = runner, clock
    find_redis_program()
    with RedisServer() as server:
        redis = Redis.from_url(server.url)
        DemandHistories.make_redis = lambda: redis
        run_state_machine_as_test(DemandHistories, settings=histories(60, 40))
        runner.run(redis.aclose())
