"""Refusals, acks and silence mixed, in random histories: whatever is blamed was refused, and all doubt ends.

The model's upstream answers within CONFIRM_S, or never (`mute`: topics that it does not know, PROTOCOL c.1).
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.reconcile import CONFIRM_S, LINGER_S, REFUSED_S, Plan
from shared.channels import expand, find_cover, is_covered
from tests.property.examples import FACTOR
from tests.unit.ingest.live import NOTHING, make_live

REFUSAL = "not authorized"
CHANNELS = ["T.AAPL", "T.MSFT", "T.*", "Q.AAPL", "Q.*", "NOI.*", "LULD.*", "*"]
STEP = st.one_of(
    st.tuples(st.just("want"), st.sampled_from(CHANNELS)),
    st.tuples(st.just("unwant"), st.sampled_from(CHANNELS)),
    st.tuples(st.just("answer"), st.just("")),
    st.tuples(st.just("wait"), st.sampled_from(["0.1", "1", "3", "31", "301"])),
    st.tuples(st.just("drop"), st.just("")),
)


class World:
    """Demand, the reconcile, and an upstream that takes, refuses (`barred`) or takes in silence (`mute`)."""

    def __init__(self, barred: set[str], mute: set[str]) -> None:
        self.reconcile = make_live()
        self.barred = barred
        self.mute = mute
        self.now_s = 0.0
        self.wanted: set[str] = set()
        self.holds: set[str] = set()
        self._answers: list[str] = []
        self._asked_at = 0.0
        self._is_open = False  # whether the last subscribe waits for answers

    def act(self, kind: str, argument: str) -> None:
        if kind == "want":
            self.wanted.add(argument)
            self.reconcile.update_wanted([argument], [], self.now_s)
        elif kind == "unwant":
            self.wanted.discard(argument)
            self.reconcile.update_wanted([], [argument], self.now_s)
        elif kind == "wait":
            self._wait(float(argument))
        elif kind == "answer":
            self._answer()
        else:
            self.holds.clear()
            self._answers.clear()
            self.reconcile.disconnected()
            self.reconcile.connected()
        self.plan()

    def _wait(self, seconds: float) -> None:
        if self.now_s + seconds - self._asked_at >= CONFIRM_S:
            self._answer()
        self.now_s += seconds

    def _answer(self) -> None:
        answers, self._answers = self._answers, []
        for channel in answers:
            if channel in self.barred:
                assert self.reconcile.rejected(REFUSAL, True, self.now_s), "nothing was under way"
            else:
                self.reconcile.confirmed(channel, self.now_s)

    def plan(self) -> Plan:
        served = {c for c in self._get_due() if is_covered(c, self.reconcile.held & self.holds)}
        was_asking = self.reconcile.is_asking
        plan = self.reconcile.plan(self.now_s)
        if plan.subscribe:
            assert not was_asking or self.now_s - self._asked_at >= CONFIRM_S, "two subscribes under way"
            self._asked_at = self.now_s
        assert self.barred.isdisjoint(plan.drop), "dropped what was refused"
        new = [channel for channel in plan.subscribe if channel not in self.holds and channel not in self.mute]
        self._answers += sorted(new, key=lambda channel: channel not in self.barred)
        self.holds.update(set(plan.subscribe) - self.barred)
        self.holds.difference_update(plan.drop)
        assert all(is_covered(channel, self.holds) for channel in served), "gave up what is wanted"
        return plan

    def _get_due(self) -> frozenset[str]:
        """The least set that carries all that is wanted and allowed."""
        return find_cover("stocks", expand("stocks", self.wanted) - self.barred)

    def check(self) -> None:
        reconcile = self.reconcile
        assert reconcile.refused.keys() <= self.barred, "blamed what was not refused"
        assert reconcile.held.isdisjoint(self.barred), "took a refusal for silence"
        assert reconcile.held <= self.holds

    def settle(self) -> None:
        """Linger, silence and doubt run out; what is still refused is not tried again meanwhile."""
        self.act("wait", str(LINGER_S))
        self.act("wait", str(REFUSED_S))
        for _ in range(4 * len(CHANNELS)):
            self.act("answer", "")
            self.act("wait", "3")
            self.check()


@settings(deadline=None, max_examples=150 * FACTOR)
@given(
    st.lists(STEP, max_size=40),
    st.sets(st.sampled_from(CHANNELS[:-1]), max_size=4),
    st.sets(st.sampled_from(CHANNELS[:-1]), max_size=3),
)
def test_in_any_history_of_acks_refusals_and_silence_all_doubt_ends(
    history: list[tuple[str, str]], barred: set[str], mute: set[str]
) -> None:
    world = World(barred, mute - barred)
    for kind, argument in history:
        world.act(kind, argument)
        world.check()
    world.settle()
    due = world._get_due()
    assert world.reconcile.held == world.holds == due
    asked = {c for c in expand("stocks", world.wanted) & barred if not is_covered(c, due)}
    assert world.reconcile.refused.keys() >= asked, "a refusal that nobody is told of"
    assert world.reconcile.doubled == frozenset()
    assert world.plan() == NOTHING
