"""What upstream refuses without naming it (PROTOCOL d.6.7), and what it may send twice."""

from ingest.reconcile import DROPPED_S, REFUSED_S, Plan, Reconcile
from shared.channels import EVENT_TYPES
from tests.unit.ingest.live import NOTHING, make_live

REFUSAL = "not authorized"
LIMIT = "Subscription limit reached for feed. Please remove some subscriptions and try again."


def make_asking(*asked: str) -> Reconcile:
    reconcile = make_live("T.AAPL")
    reconcile.update_wanted(asked, [], 0.0)
    assert reconcile.plan(0.0) == Plan(sorted(asked), [])
    return reconcile


def test_what_was_not_acked_is_what_was_refused_once_all_is_answered() -> None:
    reconcile = make_asking("NOI.*", "Q.AAPL", "Q.MSFT")
    assert reconcile.rejected(REFUSAL, True, 0.1)
    assert reconcile.refused == {}
    reconcile.confirmed("Q.AAPL", 0.1)
    reconcile.confirmed("Q.MSFT", 0.1)
    assert reconcile.refused == {"NOI.*": REFUSAL}
    assert reconcile.held == {"T.AAPL", "Q.AAPL", "Q.MSFT"}
    assert reconcile.plan(0.2) == NOTHING


def test_a_refusal_may_come_behind_the_acks_as_well() -> None:
    reconcile = make_asking("NOI.*", "Q.AAPL")
    reconcile.confirmed("Q.AAPL", 0.1)
    assert reconcile.rejected(REFUSAL, True, 0.1)
    assert reconcile.refused == {"NOI.*": REFUSAL}


def test_a_refusal_of_everything_needs_no_acks() -> None:
    reconcile = make_asking("NOI.*", "LULD.*")
    reconcile.rejected(REFUSAL, True, 0.1)
    reconcile.rejected(REFUSAL, True, 0.1)
    assert set(reconcile.refused) == {"NOI.*", "LULD.*"}
    assert reconcile.held == {"T.AAPL"}


def test_if_silence_leaves_doubt_the_doubtful_are_asked_for_one_by_one() -> None:
    reconcile = make_asking("NOI.*", "Q.AAPL", "Q.MSFT")
    reconcile.rejected(REFUSAL, True, 0.1)
    reconcile.confirmed("Q.MSFT", 0.1)
    asked = []
    for step in range(2):
        now_s = (step + 1) * 3.0
        (channel,) = reconcile.plan(now_s).subscribe
        asked.append(channel)
        if channel == "NOI.*":
            reconcile.rejected(REFUSAL, True, now_s)
        else:
            reconcile.confirmed(channel, now_s)
    assert sorted(asked) == ["NOI.*", "Q.AAPL"]
    assert reconcile.refused == {"NOI.*": REFUSAL}
    assert reconcile.held == {"T.AAPL", "Q.AAPL", "Q.MSFT"}
    assert reconcile.plan(20.0) == NOTHING


def test_a_refusal_of_a_whole_message_refuses_all_that_it_still_waits_for() -> None:
    reconcile = make_asking("Q.AAPL", "Q.MSFT")
    assert reconcile.rejected(LIMIT, False, 0.1)
    assert reconcile.refused == {"Q.AAPL": LIMIT, "Q.MSFT": LIMIT}


def test_a_refusal_of_nothing_changes_nothing() -> None:
    reconcile = make_live("T.AAPL")
    assert not reconcile.rejected(REFUSAL, True, 1.0)
    assert reconcile.refused == {}
    assert reconcile.held == {"T.AAPL"}


def test_what_was_refused_is_tried_again_after_a_while_and_after_a_reconnect() -> None:
    reconcile = make_asking("NOI.*")
    reconcile.rejected(REFUSAL, True, 1.0)
    assert reconcile.plan(1.0 + REFUSED_S - 0.1) == NOTHING
    assert reconcile.plan(1.0 + REFUSED_S) == Plan(["NOI.*"], [])
    assert reconcile.refused == {}
    reconcile.rejected(REFUSAL, True, 400.0)
    reconcile.connected()
    assert reconcile.refused == {}
    assert reconcile.plan(401.0) == Plan(["NOI.*", "T.AAPL"], [])


def test_a_refused_wildcard_leaves_its_singles_subscribed() -> None:
    reconcile = make_asking("T.*")
    reconcile.rejected(REFUSAL, True, 0.1)
    assert reconcile.plan(0.2) == NOTHING
    assert reconcile.held == {"T.AAPL"}
    reconcile.update_wanted(["T.MSFT"], [], 1.0)
    assert reconcile.plan(1.0) == Plan(["T.MSFT"], [])


def test_a_star_is_held_as_far_as_upstream_allows() -> None:
    reconcile = make_live()
    reconcile.update_wanted(["*"], [], 0.0)
    reconcile.plan(0.0)
    reconcile.rejected(REFUSAL, True, 0.1)
    for event_type in set(EVENT_TYPES["stocks"]) - {"NOI"}:
        reconcile.confirmed(f"{event_type}.*", 0.1)
    assert reconcile.refused == {"NOI.*": REFUSAL}
    assert reconcile.wanted_types == set(EVENT_TYPES["stocks"])


# Doubles.


def test_singles_are_doubled_from_the_wildcards_subscribe_until_nothing_of_theirs_is_under_way() -> None:
    reconcile = make_live("T.AAPL", "Q.AAPL")
    assert reconcile.doubled == frozenset()
    reconcile.update_wanted(["T.*"], [], 1.0)
    reconcile.plan(1.0)
    assert reconcile.doubled == {"T.AAPL"}
    reconcile.confirmed("T.*", 1.1)
    assert reconcile.plan(1.1) == Plan([], ["T.AAPL"])
    assert reconcile.doubled == {"T.AAPL"}
    reconcile.plan(1.1 + DROPPED_S)
    assert reconcile.doubled == frozenset()


def test_nothing_is_doubled_after_a_drop() -> None:
    reconcile = make_live("T.AAPL")
    reconcile.update_wanted(["T.*"], [], 1.0)
    reconcile.plan(1.0)
    reconcile.disconnected()
    assert reconcile.doubled == frozenset()
