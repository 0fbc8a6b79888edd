"""A client that was away asks for what it held, and more, in any order, while the log and its gateway go on."""

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from gateway.client import MOST_REPLAYS
from tests.property.examples import TIMEOUT_S, histories
from tests.property.visit import EXACT, Lanes, Visit

CHANNELS = (*EXACT, "T.*", "Q.*", "*")
SOME = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3, unique=True)
RECORDS: tuple[Lanes, ...] = (
    [(1, ("T.A",))],
    [(1, ("T.A", "T.B", "Q.A"))],
    [(1, ("T.*",))],
    [(1, ("T.*", "T.A", "Q.A"))],
    [(1, ("*",))],
    [(1, ("T.*", "Q.*"))],
    [(1, ("*", "Q.*"))],
    [(1, ("*", "T.A"))],
    [(3, ("T.A",)), (1, ("T.B",))],
    [(3, ("T.*",)), (1, ("Q.*",))],
    [(3, ("T.A",)), (2, ("T.B",)), (1, ("Q.*",))],
    [(3, ("T.A",)), (1, ("T.*",))],
    [(3, ("T.*",)), (1, ("T.A",))],
    [(3, ("T.*",)), (1, ("*", "T.A"))],
    [(3, ("*",)), (1, ("T.*", "Q.A"))],
    [(4, ("T.*",)), (3, ("T.A", "Q.A")), (2, ("T.B", "Q.*")), (1, ("*",))],
)


class ReturningHistories(RuleBasedStateMachine):
    """Rules are what happens; `runner` is set by the test below."""

    runner: ClassVar[asyncio.Runner]

    def run_now(self, what: Coroutine[Any, Any, None]) -> None:
        self.runner.run(what)

    @initialize(lanes=st.sampled_from(RECORDS), away=st.integers(3, 6), replays=st.sampled_from((1, MOST_REPLAYS)))
    def begin(self, lanes: Lanes, away: int, replays: int) -> None:
        async def begin() -> None:
            self.visit = Visit(lanes, away, replays)

        self.run_now(begin())

    @rule(channels=SOME)
    def subscribe(self, channels: list[str]) -> None:
        self.run_now(self.visit.say("subscribe", channels))

    @rule(channels=SOME)
    def unsubscribe(self, channels: list[str]) -> None:
        self.run_now(self.visit.say("unsubscribe", channels))

    @rule(channels=st.sets(st.sampled_from(EXACT)))
    def log(self, channels: set[str]) -> None:
        self.visit.log(sorted(channels))

    @rule()
    def begin_batch(self) -> None:
        self.visit.begin_batch()

    @rule()
    def take_in(self) -> None:
        self.visit.take_in()

    @rule()
    def take_up(self) -> None:
        self.visit.take_up()

    @rule()
    def publish_wholes(self) -> None:
        self.visit.publish_wholes()

    @rule(away=st.integers(0, 3), under_way=st.sampled_from((0, 0, 1, 3, 10)))
    def come_back(self, away: int, under_way: int) -> None:
        self.run_now(self.visit.come_back(away, under_way))

    @rule(turns=st.integers(1, 12))
    def let_run(self, turns: int) -> None:
        self.run_now(self.visit.let_run(turns))

    def teardown(self) -> None:
        if hasattr(self, "visit"):
            self.run_now(self.visit.finish())
            self.visit.check()


@pytest.mark.timeout(TIMEOUT_S)
def test_whoever_comes_back_gets_each_event_once_or_is_told(runner: asyncio.Runner) -> None:
    ReturningHistories.runner = runner
    run_state_machine_as_test(ReturningHistories, settings=histories(300, 30))
