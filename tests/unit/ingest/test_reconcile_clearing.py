"""What is to be dropped is cleared first: a gateway may have acquired it a moment ago."""

from ingest.reconcile import LINGER_S, Plan, Reconcile
from tests.unit.ingest.live import NOTHING


def make_idle() -> Reconcile:
    """T.AAPL is held, and nobody has wanted it for LINGER_S."""
    reconcile = Reconcile("stocks")
    reconcile.connected()
    reconcile.set_wanted(["T.AAPL"], 0.0)
    reconcile.plan(0.0)
    reconcile.confirmed("T.AAPL", 0.0)
    reconcile.update_wanted([], ["T.AAPL"], 1.0)
    assert reconcile.plan(1.0 + LINGER_S) == Plan([], ["T.AAPL"])
    return reconcile


def test_a_channel_stays_held_until_it_is_cleared_and_is_named_once() -> None:
    reconcile = make_idle()
    assert reconcile.held == {"T.AAPL"}
    assert reconcile.plan(2.0 + LINGER_S) == NOTHING


def test_a_cleared_channel_is_dropped() -> None:
    reconcile = make_idle()
    assert reconcile.dropped(["T.AAPL"], 32.0) == ["T.AAPL"]
    assert reconcile.held == set()
    assert reconcile.plan(33.0) == NOTHING


def test_a_channel_that_was_not_cleared_is_kept_and_named_again() -> None:
    reconcile = make_idle()
    reconcile.spare(["T.AAPL"])
    assert reconcile.held == {"T.AAPL"}
    assert reconcile.plan(33.0) == Plan([], ["T.AAPL"])


def test_a_channel_that_is_wanted_again_while_it_is_cleared_is_not_dropped() -> None:
    reconcile = make_idle()
    reconcile.update_wanted(["T.AAPL"], [], 31.5)
    assert reconcile.dropped(["T.AAPL"], 32.0) == []
    assert reconcile.held == {"T.AAPL"}
    assert reconcile.plan(33.0) == NOTHING


def test_a_clearing_that_upstreams_end_overtook_drops_nothing() -> None:
    reconcile = make_idle()
    reconcile.disconnected()
    assert reconcile.dropped(["T.AAPL"], 32.0) == []
