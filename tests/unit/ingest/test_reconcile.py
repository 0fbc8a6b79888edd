"""Demand against what upstream holds, as histories; times are seconds of a clock that only these tests move."""

from ingest.reconcile import ACTION_CHANNELS, CONFIRM_S, LINGER_S, Plan, Reconcile
from shared.channels import EVENT_TYPES, is_covered
from tests.unit.ingest.live import NOTHING, make_live


def test_what_is_wanted_is_asked_for_once_and_held_with_its_ack() -> None:
    reconcile = make_live()
    reconcile.update_wanted(["T.MSFT", "T.AAPL"], [], 1.0)
    assert reconcile.plan(1.0) == Plan(["T.AAPL", "T.MSFT"], [])
    assert reconcile.plan(1.1) == NOTHING
    assert not is_covered("T.AAPL", reconcile.held)
    reconcile.confirmed("T.AAPL", 0.0)
    assert reconcile.held == {"T.AAPL"}
    assert is_covered("T.AAPL", reconcile.held)
    assert not is_covered("T.MSFT", reconcile.held)
    assert reconcile.plan(1.2) == NOTHING


def test_nothing_is_asked_for_before_upstream_is_live() -> None:
    reconcile = Reconcile("stocks")
    reconcile.set_wanted(["T.AAPL"], 0.0)
    assert reconcile.plan(0.0) == NOTHING
    assert reconcile.held == set()
    reconcile.connected()
    assert reconcile.plan(5.0) == Plan(["T.AAPL"], [])


def test_silence_counts_as_acceptance_after_confirm_s() -> None:
    reconcile = make_live()
    reconcile.set_wanted(["T.AAPL"], 0.0)
    reconcile.plan(0.0)
    assert reconcile.is_waiting
    assert reconcile.plan(CONFIRM_S - 0.01) == NOTHING
    assert reconcile.held == set()
    assert reconcile.plan(CONFIRM_S) == NOTHING
    assert reconcile.held == {"T.AAPL"}
    assert not reconcile.is_waiting


def test_an_ack_of_what_was_not_asked_for_changes_nothing() -> None:
    reconcile = make_live("T.AAPL")
    reconcile.confirmed("T.TSLA", 0.0)
    assert reconcile.held == {"T.AAPL"}
    assert reconcile.plan(1.0) == NOTHING


def test_an_unwanted_channel_lingers_and_is_then_unsubscribed_once() -> None:
    reconcile = make_live("T.AAPL", "Q.AAPL")
    reconcile.update_wanted([], ["T.AAPL"], 10.0)
    assert reconcile.is_waiting
    assert reconcile.plan(10.0 + LINGER_S - 0.01) == NOTHING
    assert is_covered("T.AAPL", reconcile.held)
    assert reconcile.plan(10.0 + LINGER_S) == Plan([], ["T.AAPL"])
    assert reconcile.held == {"Q.AAPL"}
    assert reconcile.plan(20.0 + LINGER_S) == NOTHING
    assert not reconcile.is_waiting


def test_back_in_time_within_the_linger_sends_nothing() -> None:
    reconcile = make_live("T.AAPL")
    reconcile.update_wanted([], ["T.AAPL"], 10.0)
    reconcile.plan(20.0)
    reconcile.update_wanted(["T.AAPL"], [], 39.0)
    for now_s in (39.0, 41.0, 100.0):
        assert reconcile.plan(now_s) == NOTHING
    assert reconcile.held == {"T.AAPL"}


def test_the_linger_starts_anew_with_each_leaving() -> None:
    reconcile = make_live("T.AAPL")
    reconcile.update_wanted([], ["T.AAPL"], 10.0)
    reconcile.update_wanted(["T.AAPL"], [], 35.0)
    reconcile.update_wanted([], ["T.AAPL"], 36.0)
    assert reconcile.plan(41.0) == NOTHING
    assert reconcile.plan(36.0 + LINGER_S) == Plan([], ["T.AAPL"])


def test_a_repeated_leaving_does_not_prolong_the_linger() -> None:
    reconcile = make_live("T.AAPL")
    reconcile.update_wanted([], ["T.AAPL"], 10.0)
    reconcile.update_wanted([], ["T.AAPL"], 30.0)
    reconcile.set_wanted([], 35.0)
    assert reconcile.plan(10.0 + LINGER_S) == Plan([], ["T.AAPL"])


def test_the_leaving_of_what_nobody_wanted_changes_nothing() -> None:
    reconcile = make_live("T.AAPL")
    reconcile.update_wanted([], ["T.TSLA"], 1.0)
    assert not reconcile.is_waiting
    assert reconcile.plan(100.0) == NOTHING


def test_the_whole_of_demand_heals_lost_edges() -> None:
    reconcile = make_live("T.AAPL", "T.MSFT")
    reconcile.set_wanted(["T.MSFT", "T.TSLA"], 1.0)
    assert reconcile.plan(1.0) == Plan(["T.TSLA"], [])
    reconcile.confirmed("T.TSLA", 0.0)
    assert reconcile.plan(1.0 + LINGER_S) == Plan([], ["T.AAPL"])


def test_a_redis_that_lost_all_counts_for_less_than_the_linger_costs_nothing() -> None:
    reconcile = make_live("T.AAPL", "Q.*")
    reconcile.set_wanted([], 10.0)
    assert reconcile.wanted_types == {"Q"}
    assert reconcile.plan(12.0) == NOTHING
    reconcile.set_wanted(["T.AAPL", "Q.*"], 15.0)
    assert reconcile.plan(100.0) == NOTHING


def test_a_wildcard_takes_over_only_after_its_ack() -> None:
    reconcile = make_live("T.AAPL", "T.MSFT", "Q.AAPL")
    reconcile.update_wanted(["T.*"], [], 1.0)
    assert reconcile.plan(1.0) == Plan(["T.*"], [])
    assert reconcile.plan(1.5) == NOTHING
    reconcile.confirmed("T.*", 0.0)
    assert reconcile.plan(1.6) == Plan([], ["T.AAPL", "T.MSFT"])
    assert reconcile.held == {"T.*", "Q.AAPL"}
    assert is_covered("T.AAPL", reconcile.held)


def test_under_a_wildcard_single_channels_are_not_asked_for() -> None:
    reconcile = make_live("T.*")
    reconcile.update_wanted(["T.AAPL"], [], 1.0)
    assert reconcile.plan(1.0) == NOTHING
    assert is_covered("T.AAPL", reconcile.held)


def test_a_wildcard_that_goes_is_replaced_before_it_is_dropped() -> None:
    reconcile = make_live("T.*", "T.AAPL", "T.MSFT", "Q.AAPL")
    reconcile.update_wanted([], ["T.*"], 1.0)
    assert reconcile.plan(1.0 + LINGER_S - 0.1) == NOTHING
    assert reconcile.plan(1.0 + LINGER_S) == Plan(["T.AAPL", "T.MSFT"], [])
    reconcile.confirmed("T.AAPL", 0.0)
    assert reconcile.plan(1.1 + LINGER_S) == NOTHING
    reconcile.confirmed("T.MSFT", 0.0)
    assert reconcile.plan(1.2 + LINGER_S) == Plan([], ["T.*"])
    assert reconcile.held == {"T.AAPL", "T.MSFT", "Q.AAPL"}


def test_a_wildcard_wanted_while_its_single_is_under_way_waits_and_then_takes_over() -> None:
    reconcile = make_live()
    reconcile.set_wanted(["T.AAPL"], 0.0)
    reconcile.plan(0.0)
    reconcile.set_wanted(["T.AAPL", "T.*"], 0.1)
    assert reconcile.plan(0.1) == NOTHING
    reconcile.confirmed("T.AAPL", 0.2)
    assert reconcile.plan(0.2) == Plan(["T.*"], [])
    reconcile.confirmed("T.*", 0.3)
    assert reconcile.plan(0.3) == Plan([], ["T.AAPL"])


def test_a_star_is_every_event_type_of_the_feed() -> None:
    reconcile = make_live("T.AAPL")
    reconcile.update_wanted(["*"], [], 1.0)
    wildcards = sorted(f"{event_type}.*" for event_type in EVENT_TYPES["stocks"])
    assert reconcile.wanted_types == set(EVENT_TYPES["stocks"])
    assert reconcile.plan(1.0) == Plan(wildcards, [])
    reconcile.confirmed("Q.*", 0.0)
    assert reconcile.plan(1.1) == NOTHING
    reconcile.confirmed("T.*", 0.0)
    assert reconcile.plan(1.2) == Plan([], ["T.AAPL"])
    reconcile.update_wanted([], ["*"], 10.0)
    assert reconcile.plan(10.0 + LINGER_S).subscribe == ["T.AAPL"]


def test_wildcards_under_a_star_stay_when_the_star_goes() -> None:
    reconcile = make_live("*", "Q.*")
    reconcile.update_wanted([], ["*"], 1.0)
    plan = reconcile.plan(1.0 + LINGER_S)
    assert plan == Plan([], sorted(f"{event_type}.*" for event_type in EVENT_TYPES["stocks"] if event_type != "Q"))


def test_wanted_types_are_those_of_wildcards_and_stay_for_the_linger() -> None:
    reconcile = make_live("T.AAPL", "Q.*")
    assert reconcile.wanted_types == {"Q"}
    reconcile.update_wanted([], ["Q.*"], 10.0)
    reconcile.plan(9.0 + LINGER_S)
    assert reconcile.wanted_types == {"Q"}
    reconcile.plan(10.0 + LINGER_S)
    assert reconcile.wanted_types == frozenset()


def test_a_type_is_published_whole_until_its_wildcard_is_given_up() -> None:
    """Whoever comes back to it meanwhile is acked, because it is held."""
    reconcile = Reconcile("stocks")
    reconcile.connected()
    reconcile.update_wanted(["Q.*"], [], 0.0)
    reconcile.plan(0.0)
    reconcile.confirmed("Q.*", 0.0)
    reconcile.update_wanted([], ["Q.*"], 10.0)
    assert reconcile.plan(10.0 + LINGER_S).drop == ["Q.*"]
    assert reconcile.wanted_types == {"Q"}
    reconcile.dropped(["Q.*"], 10.0 + LINGER_S)
    assert reconcile.wanted_types == frozenset()


def test_a_drop_forgets_what_was_held_and_the_next_connection_asks_for_all_of_it_again() -> None:
    reconcile = make_live("T.AAPL", "Q.*")
    reconcile.update_wanted(["T.MSFT"], [], 1.0)
    reconcile.plan(1.0)
    reconcile.disconnected()
    assert reconcile.held == set()
    assert not is_covered("T.AAPL", reconcile.held)
    assert reconcile.plan(1.1) == NOTHING
    reconcile.confirmed("T.AAPL", 0.0)
    assert reconcile.held == set()
    reconcile.connected()
    assert reconcile.plan(2.0) == Plan(["Q.*", "T.AAPL", "T.MSFT"], [])


def test_silence_from_before_a_drop_does_not_count_after_it() -> None:
    reconcile = make_live()
    reconcile.set_wanted(["T.AAPL"], 0.0)
    reconcile.plan(0.0)
    reconcile.disconnected()
    reconcile.connected()
    assert reconcile.plan(1.0) == Plan(["T.AAPL"], [])
    assert reconcile.plan(1.0 + CONFIRM_S - 0.1) == NOTHING
    assert reconcile.held == set()


def test_what_left_during_an_outage_is_not_asked_for_after_its_linger() -> None:
    reconcile = make_live("T.AAPL", "T.MSFT")
    reconcile.disconnected()
    reconcile.update_wanted([], ["T.AAPL"], 1.0)
    reconcile.connected()
    assert reconcile.plan(2.0 + LINGER_S) == Plan(["T.MSFT"], [])


def test_an_outage_does_not_collect_unwanted_channels_without_bound() -> None:
    reconcile = make_live()
    reconcile.disconnected()
    for second in range(1000):
        reconcile.set_wanted([f"T.S{second}"], float(second))
        reconcile.plan(float(second))
    reconcile.set_wanted([], 1000.0)
    reconcile.plan(1000.0 + 2 * LINGER_S)
    assert not reconcile.is_waiting


# One subscribe at a time, in bounded messages.


def test_the_next_subscribe_waits_until_upstream_answered_the_one_before() -> None:
    reconcile = make_live()
    reconcile.update_wanted(["T.AAPL", "T.MSFT"], [], 0.0)
    reconcile.plan(0.0)
    assert reconcile.is_asking
    reconcile.update_wanted(["Q.AAPL"], [], 0.1)
    assert reconcile.plan(0.1) == NOTHING
    reconcile.confirmed("T.AAPL", 0.2)
    assert reconcile.plan(0.2) == NOTHING
    reconcile.confirmed("T.MSFT", 0.3)
    assert not reconcile.is_asking
    assert reconcile.plan(0.3) == Plan(["Q.AAPL"], [])


def test_large_demand_is_asked_for_in_parts_and_given_up_in_parts() -> None:
    wanted = {f"T.S{number}" for number in range(2 * ACTION_CHANNELS + 1)}
    reconcile = make_live(*wanted)
    assert reconcile.held == wanted
    reconcile.set_wanted([], 1.0)
    sizes = [len(reconcile.plan(1.0 + LINGER_S).drop) for _ in range(4)]
    assert sizes == [ACTION_CHANNELS, ACTION_CHANNELS, 1, 0]
