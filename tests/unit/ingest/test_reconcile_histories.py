"""Demand against what upstream holds, in random histories beside an upstream that is a simple model."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.channels import expand, find_cover, is_covered
from tests.property.examples import FACTOR
from tests.unit.ingest.live import make_live

REFUSAL = "not authorized"
CHANNELS = st.sampled_from(["T.AAPL", "T.MSFT", "T.*", "Q.AAPL", "Q.*", "NOI.*", "*"])
WANT = st.tuples(st.sampled_from(["want", "unwant"]), CHANNELS)
DROP = st.tuples(st.just("drop"), st.just(""))
WAIT = st.tuples(st.just("wait"), st.sampled_from(["0.1", "1", "3", "31"]))
ANSWER = st.tuples(st.just("answer"), st.sampled_from(["1", "2", "9"]))


class Upstream:
    """Upstream as PROTOCOL c says it: refusals ahead of acks, nothing for what is held already."""

    def __init__(self, forbidden: set[str]) -> None:
        self.reconcile = make_live()
        self.forbidden = forbidden
        self.now_s = 0.0
        self.wanted: set[str] = set()
        self.holds: set[str] = set()
        self._answers: list[str] = []

    def act(self, kind: str, argument: str) -> None:
        reconcile = self.reconcile
        if kind == "want":
            self.wanted.add(argument)
            reconcile.update_wanted([argument], [], self.now_s)
        elif kind == "unwant":
            self.wanted.discard(argument)
            reconcile.update_wanted([], [argument], self.now_s)
        elif kind == "answer":
            self._answer(int(argument))
        elif kind == "wait":
            self.now_s += float(argument)
        else:
            self.holds.clear()
            self._answers.clear()
            reconcile.disconnected()
            reconcile.connected()
        self._plan()

    def _answer(self, count: int) -> None:
        for channel in self._answers[:count]:
            if channel in self.forbidden:
                self.reconcile.rejected(REFUSAL, True, self.now_s)
            else:
                self.reconcile.confirmed(channel, self.now_s)
        del self._answers[:count]

    def _plan(self) -> None:
        cover = find_cover("stocks", expand("stocks", self.wanted) - self.forbidden)
        served = {channel for channel in cover if is_covered(channel, self.reconcile.held & self.holds)}
        plan = self.reconcile.plan(self.now_s)
        assert not self.holds.intersection(plan.subscribe), "asked for what is there"
        self.holds.update(set(plan.subscribe) - self.forbidden)
        self._answers += sorted(plan.subscribe, key=lambda channel: channel not in self.forbidden)
        assert self.holds.issuperset(set(plan.drop) - self.forbidden), "dropped what is not there"
        self.holds.difference_update(plan.drop)
        assert all(is_covered(channel, self.holds) for channel in served), "gave up what is wanted"

    def settle(self) -> None:
        """Time and answers enough for everything to end."""
        for _ in range(12):
            self.act("wait", "31")
            self.act("answer", "99")


@settings(deadline=None, max_examples=150 * FACTOR)
@given(st.lists(st.one_of(WANT, DROP, WAIT, ANSWER), max_size=40))
def test_in_any_history_of_acks_and_silence_demand_ends_up_held_alone(
    history: list[tuple[str, str]],
) -> None:
    upstream = Upstream(forbidden=set())
    for kind, argument in history:
        upstream.act(kind, argument)
        assert upstream.reconcile.held <= upstream.holds
        assert upstream.reconcile.refused == {}
    upstream.settle()
    assert upstream.reconcile.held == upstream.holds == find_cover("stocks", upstream.wanted)
    assert upstream.reconcile.doubled == frozenset()


@settings(deadline=None, max_examples=150 * FACTOR)
@given(st.lists(st.one_of(WANT, DROP, ANSWER, ANSWER), max_size=40), st.sets(CHANNELS.filter(lambda c: c != "*")))
def test_in_any_history_of_acks_and_refusals_only_the_forbidden_is_refused(
    history: list[tuple[str, str]], forbidden: set[str]
) -> None:
    upstream = Upstream(forbidden)
    for kind, argument in history:
        upstream.act(kind, argument)
        assert upstream.reconcile.held <= upstream.holds
        assert upstream.reconcile.refused.keys() <= forbidden
    for _ in range(9):  # everything is answered before time moves: silence would be another story
        upstream.act("answer", "99")
    upstream.act("wait", "31")
    for _ in range(9):
        upstream.act("answer", "99")
    allowed = expand("stocks", upstream.wanted) - upstream.reconcile.refused.keys()
    assert upstream.reconcile.held == upstream.holds == find_cover("stocks", allowed)
    assert not upstream.holds & forbidden
