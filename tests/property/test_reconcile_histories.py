"""The reconcile alone, beside an upstream that accepts, refuses, limits, stays silent, answers late and drops.

Promised: a refusal is attributed to the channel that upstream meant, and never counts as held; upstream has acked the
new before it loses the old; one subscribe at a time; and after quiet time upstream holds the least set and no more.
"""

import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingest.reconcile import CONFIRM_S, LINGER_S, REFUSED_S, Reconcile
from tests.fakes.session import TOPICS, Script
from tests.property.examples import histories
from tests.property.model import TYPES, cover_of, parts_of
from tests.property.polygon import ANSWERED_WITHIN_S, LIMIT, Wire

EXACT = ("T.AAPL", "T.MSFT", "T.BRK.A", "Q.AAPL", "Q.MSFT", "A.AAPL")
UNKNOWN = "NOI.AAPL"  # of a topic that this upstream does not know
CHANNELS = (*EXACT, UNKNOWN, "T.*", "Q.*", "*")
SOME = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=4, unique=True)
JUDGED = st.sets(st.sampled_from((*EXACT, "T.*", "Q.*", "A")), max_size=3)
TICK_S = 0.25
TOPICS_BUT_ONE = TOPICS | {"stocks": TOPICS["stocks"] - {"NOI"}}


class ReconcileHistories(RuleBasedStateMachine):
    """Demand on one side, a wire on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.reconcile = Reconcile("stocks")
        self.wanted: set[str] = set()
        self.unwanted_s: dict[str, float] = {}
        self.script = Script(topics=TOPICS_BUT_ONE)

    @initialize(
        refused=JUDGED,
        silent=JUDGED,
        limit=st.sampled_from([None, None, 1, 2]),
        statuses=st.integers(1, 3),
    )
    def begin(self, refused: set[str], silent: set[str], limit: int | None, statuses: int) -> None:
        # Statuses of a limit name nothing and come in any number: beside silence nobody can tell whom they meant.
        self.script.refused, self.script.silent = refused, silent if limit is None else set()
        if limit is not None:
            self.script.topics = Script().topics
        self.script.limits = {("stocks", "Q"): limit} if limit is not None else {}
        self.script.limit_statuses = statuses
        self.reconnect()

    # What gateways do.

    @rule(channels=SOME)
    def want(self, channels: list[str]) -> None:
        self.wanted.update(channels)
        for channel in channels:
            self.unwanted_s.pop(channel, None)
        self.reconcile.update_wanted(channels, [], self.now_s)
        self._plan()

    @rule(channels=SOME)
    def unwant(self, channels: list[str]) -> None:
        self.unwanted_s.update(dict.fromkeys(self.wanted & set(channels), self.now_s))
        self.wanted.difference_update(channels)
        self.reconcile.update_wanted([], channels, self.now_s)
        self._plan()

    @rule()
    def read_all_of_demand(self) -> None:
        self.reconcile.set_wanted(self.wanted, self.now_s)
        self._plan()

    # What upstream does.

    @rule()
    def reconnect(self) -> None:
        self.reconcile.disconnected()
        self.wire = Wire(self.script, lambda: self.now_s, self._get_protected)
        self.reconcile.connected()
        self._plan()

    @rule()
    def stay_away(self) -> None:
        self.reconcile.disconnected()
        self.now_s += LINGER_S / 2
        self.reconnect()

    @rule(refused=JUDGED)
    def change_what_is_refused(self, refused: set[str]) -> None:
        held = self.wire.held | {channel.split(".")[0] for channel in self.wire.held}
        self.script.refused = refused - held  # whether upstream takes back what it gave is unknown

    @rule(count=st.integers(1, 6))
    def answer(self, count: int) -> None:
        for _ in range(count):
            if (status := self.wire.read()) is None:
                return
            self._on_status(json.loads(status))

    # What time does.

    @rule(ticks=st.sampled_from([1, 2, 5, 8, 9, 40]))
    def wait(self, ticks: int, tick_s: float = TICK_S) -> None:
        for _ in range(ticks):
            if self.now_s + tick_s - self.wire.asked_s > ANSWERED_WITHIN_S:
                self.answer(1000)
            self.now_s += tick_s
            self._plan()
            self._check_always()

    @rule()
    def wait_until_refusals_are_forgotten(self) -> None:
        for _ in range(11):
            self.wait(1, LINGER_S - CONFIRM_S)
            self.wait(2, CONFIRM_S)  # silence is taken for what it means in time

    @rule()
    def be_quiet(self) -> None:
        self.wait(3, LINGER_S / 2)
        self.wait(len(CHANNELS) + len(TYPES), CONFIRM_S)  # if need be, each channel alone
        expected = self._known(cover_of(parts_of(self.wanted) - self.reconcile.refused.keys()))
        missing = self._get_refused(REFUSED_S) & expected
        assert not missing, f"upstream refused {sorted(missing)} in the last {REFUSED_S:g} s, but we do not know"
        assert self._known(self.reconcile.held) == expected, "after quiet time, held = cover of wanted minus refused"
        assert self.wire.held == expected, "after quiet time, upstream holds what we think it holds"

    def _on_status(self, status: dict[str, Any]) -> None:
        message = status["message"]
        if status["status"] == "error":
            self.reconcile.rejected(message, not message.startswith(LIMIT), self.now_s)
        elif message.startswith("subscribed to: "):
            self.reconcile.confirmed(message.removeprefix("subscribed to: "), self.now_s)
        if not self.reconcile.is_asking:
            self._plan()

    def _plan(self) -> bool:
        plan = self.reconcile.plan(self.now_s)
        dropped = self.reconcile.dropped(plan.drop, self.now_s)
        for action, channels in (("subscribe", plan.subscribe), ("unsubscribe", dropped)):
            if channels:
                self.wire.send(json.dumps({"action": action, "params": ",".join(channels)}))
        return bool(plan.subscribe or dropped)

    # What the model says.

    def _get_protected(self) -> set[str]:
        return self._known(parts_of(self.wanted) - self.reconcile.refused.keys())

    def _known(self, channels: set[str]) -> set[str]:
        topics = self.script.topics["stocks"]
        return {channel for channel in channels if channel.split(".")[0] in topics}

    def _get_refused(self, within_s: float) -> set[str]:
        return {c for c, since_s in self.wire.refused_s.items() if self.now_s - since_s < within_s}

    def _check_always(self) -> None:
        self.nothing_wanted_is_unsubscribed_and_one_subscribe_is_under_way()
        self.a_refusal_is_attributed_to_what_upstream_refused()
        self.nothing_refused_counts_as_held()
        self.doubled_is_what_is_subscribed_beside_its_wildcard()
        self.held_is_within_wanted_and_linger()

    @invariant()
    def nothing_wanted_is_unsubscribed_and_one_subscribe_is_under_way(self) -> None:
        assert self.wire.faults == []

    @invariant()
    def a_refusal_is_attributed_to_what_upstream_refused(self) -> None:
        wrong = self.reconcile.refused.keys() - self._get_refused(REFUSED_S + CONFIRM_S)
        assert not wrong, f"upstream did not refuse {sorted(wrong)} in the last {REFUSED_S:g} s"

    @invariant()
    def nothing_refused_counts_as_held(self) -> None:
        assert not self.reconcile.held & self.reconcile.refused.keys()
        wrong = self._known(self.reconcile.held) - self.wire.held
        assert not wrong, f"upstream does not hold {sorted(wrong)}"

    @invariant()
    def doubled_is_what_is_subscribed_beside_its_wildcard(self) -> None:
        doubled = self._known(set(self.reconcile.doubled))
        missing = self.wire.surely_double - doubled
        assert not missing, f"doubled upstream, but not known to be: {sorted(missing)}"
        assert doubled <= self.wire.maybe_double

    @invariant()
    def held_is_within_wanted_and_linger(self) -> None:
        if self.reconcile.is_asking:
            return  # a changeover may keep the old until the new is acked
        lately = {c for c, since_s in self.unwanted_s.items() if self.now_s - since_s <= LINGER_S + TICK_S}
        assert self.reconcile.held <= parts_of(self.wanted | lately)


TestReconcileHistories = ReconcileHistories.TestCase
TestReconcileHistories.settings = histories(200, 40)
