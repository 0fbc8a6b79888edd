"""The hub and wildcards: each event once, whatever is held beside it and in whatever order that came."""

from itertools import permutations

import pytest

from shared.batch import Mark
from shared.channels import EVENT_TYPES
from tests.unit.gateway.bus import Bus
from tests.unit.gateway.frames import close_batch


@pytest.fixture
def bus() -> Bus:
    return Bus()


def test_a_wildcard_counts_once_a_mark_names_its_type(bus: Bus) -> None:
    bus.hold("a", "T.*")
    bus.trade("AAPL", 1)
    assert bus.mark() == {}
    assert not bus.hub.has_joined("a", "T.*")
    bus.publish_whole("T")
    assert bus.hub.has_joined("a", "T.*")
    bus.trade("AAPL", 2)
    bus.trade("NEW", 3)
    assert bus.mark() == {"a": [2, 3]}


@pytest.mark.parametrize("order", list(permutations(["add single", "add wildcard", "publish whole"])))
def test_a_single_and_its_wildcard_give_each_event_once_in_whatever_order_they_come(bus: Bus, order: list[str]) -> None:
    steps = {
        "add single": lambda: bus.hold("a", "T.AAPL"),
        "add wildcard": lambda: bus.hold("a", "T.*"),
        "publish whole": lambda: bus.publish_whole("T"),
    }
    number = 0
    for step in order:
        steps[step]()
        for _ in range(2):
            number += 1
            joined = bus.hub.has_joined("a", "T.AAPL") or bus.hub.has_joined("a", "T.*")
            bus.trade("AAPL", number)
            assert bus.mark() == ({"a": [number]} if joined else {})
    assert bus.hub.has_joined("a", "T.AAPL")
    assert bus.hub.has_joined("a", "T.*")


@pytest.mark.parametrize("order", list(permutations(["add wildcard", "trade", "trade", "remove single"])))
def test_a_changeover_happens_at_a_mark_and_never_within_a_batch(bus: Bus, order: list[str]) -> None:
    bus.publish_whole("T")
    bus.hold("a", "T.AAPL")
    bus.trade("AAPL", 1)
    number = 1
    for step in order:
        if step == "add wildcard":
            bus.hold("a", "T.*")
        elif step == "remove single":
            bus.hub.remove("a", ["T.AAPL"])
        else:
            number += 1
            bus.trade("AAPL", number)
    assert bus.mark() == {"a": list(range(1, number + 1))}
    bus.trade("AAPL", 10)
    bus.trade("MSFT", 11)
    assert bus.mark() == {"a": [10, 11]}


def test_a_changeover_between_batches_waits_for_a_mark(bus: Bus) -> None:
    bus.publish_whole("T")
    bus.hold("a", "T.AAPL")
    bus.hold("a", "T.*")
    assert not bus.hub.has_joined("a", "T.*")
    bus.trade("AAPL", 1)
    assert bus.mark() == {"a": [1]}
    assert bus.hub.has_joined("a", "T.*")


def test_a_heartbeat_is_mark_enough_for_a_changeover(bus: Bus) -> None:
    bus.publish_whole("T")
    bus.hold("a", "T.AAPL")
    bus.hold("a", "T.*")
    bus.mark(bus.sequence)
    assert bus.hub.has_joined("a", "T.*")


def test_unsubscribing_the_single_does_not_mute_it_under_the_wildcard_nor_the_other_way(bus: Bus) -> None:
    bus.publish_whole("T")
    bus.hold("a", "T.*", "T.AAPL")
    bus.mark()
    bus.hub.remove("a", ["T.AAPL"])
    bus.trade("AAPL", 1)
    assert bus.mark() == {"a": [1]}
    bus.hold("a", "T.AAPL")
    bus.hub.remove("a", ["T.*"])
    bus.trade("AAPL", 2)
    bus.trade("MSFT", 3)
    assert bus.mark() == {"a": [2, 3]}
    bus.trade("AAPL", 4)
    bus.trade("MSFT", 5)
    assert bus.mark() == {"a": [4]}


def test_singles_take_over_when_a_type_is_no_longer_published_whole(bus: Bus) -> None:
    bus.publish_whole("T")
    bus.hold("a", "T.*", "T.AAPL")
    bus.mark()
    bus.publish_whole()
    assert not bus.hub.has_joined("a", "T.*")
    assert bus.hub.has_joined("a", "T.AAPL")
    bus.trade("AAPL", 1)
    assert bus.mark() == {"a": [1]}


def test_a_star_is_joined_once_every_type_is_published_whole(bus: Bus) -> None:
    bus.hold("a", "*", "T.AAPL")
    bus.publish_whole("T", "Q")
    assert not bus.hub.has_joined("a", "*")
    bus.trade("AAPL", 1)
    bus.send_whole("Q", 2)
    assert bus.mark() == {"a": [1, 2]}
    bus.publish_whole(*EVENT_TYPES["stocks"])
    assert bus.hub.has_joined("a", "*")
    assert bus.hub.has_joined("a", "T.AAPL")
    bus.trade("AAPL", 3)
    bus.send_whole("NOI", 4)
    assert bus.mark() == {"a": [3, 4]}


def test_a_mark_that_is_sent_again_does_not_bring_back_what_was_published_whole_then(bus: Bus) -> None:
    """Ingest sends again what Redis did not answer; the hub has gone on since, and so has ingest."""
    bus.hold("a", "T.*")
    bus.mark()
    bus.publish_whole("T")
    bus.trade("AAPL", 1)
    assert bus.mark() == {"a": [1]}
    list(close_batch(bus.hub, Mark(bus.epoch, 1, 1, 1, frozenset())))
    bus.trade("AAPL", 2)
    assert bus.mark() == {"a": [2]}


# Beside a channel that is caught up from the log.


def let_in(bus: Bus, *channels: str) -> bool:
    """Whether the member, which has these up to the last mark, gets them live from now on."""
    return bus.hub.let_in("a", frozenset(channels), bus.hub.last_mark)


@pytest.mark.parametrize("whole", ["T.*", "*"])
def test_a_wildcard_waits_for_a_channel_that_is_caught_up(bus: Bus, whole: str) -> None:
    bus.publish_whole(*EVENT_TYPES["stocks"])
    bus.hold("a", "T.B")
    bus.hub.hold_off("a", ["T.A"])
    bus.hold("a", "T.A")
    bus.hold("a", whole)
    bus.trade("A", 1)
    bus.trade("B", 2)
    assert bus.mark() == {"a": [2]}
    assert not bus.hub.has_joined("a", whole)
    assert let_in(bus, "T.A")
    assert bus.hub.has_joined("a", whole)
    for number, symbol in enumerate("ABC", 3):
        bus.trade(symbol, number)
    assert bus.mark() == {"a": [3, 4, 5]}


def test_a_wildcard_of_another_type_does_not_wait(bus: Bus) -> None:
    bus.publish_whole("T", "Q")
    bus.hub.hold_off("a", ["T.A"])
    bus.hold("a", "T.A", "Q.*")
    bus.mark()
    assert bus.hub.has_joined("a", "Q.*")


def test_a_wildcard_that_comes_whole_already_goes_on_though_something_is_caught_up(bus: Bus) -> None:
    bus.publish_whole("T")
    bus.hold("a", "T.*")
    bus.hub.hold_off("a", ["*"])
    bus.hold("a", "*")
    bus.trade("A", 1)
    assert bus.mark() == {"a": [1]}


def test_a_wildcard_that_is_caught_up_itself_waits_for_a_channel_that_is_caught_up_apart(bus: Bus) -> None:
    bus.publish_whole("T")
    bus.hub.hold_off("a", ["T.A", "T.*"])
    bus.hold("a", "T.A", "T.*")
    bus.mark()
    assert not let_in(bus, "T.*")
    assert let_in(bus, "T.A")
    assert let_in(bus, "T.*")
    bus.trade("A", 1)
    assert bus.mark() == {"a": [1]}


def test_a_wildcard_waits_no_more_for_a_channel_that_is_given_up(bus: Bus) -> None:
    bus.publish_whole("T")
    bus.hub.hold_off("a", ["T.A"])
    bus.hold("a", "T.A", "T.*")
    bus.hub.remove("a", ["T.A"])
    bus.mark()
    assert bus.hub.has_joined("a", "T.*")


@pytest.mark.parametrize("whole", ["T.*", "*"])
def test_a_channel_asked_for_under_a_wildcard_that_is_caught_up_comes_live_with_it(bus: Bus, whole: str) -> None:
    bus.publish_whole(*EVENT_TYPES["stocks"])
    bus.hold("a", "T.A")
    bus.hub.hold_off("a", [whole])
    bus.hold("a", whole)
    bus.hold("a", "T.B")
    bus.trade("A", 1)
    bus.trade("B", 2)
    assert bus.mark() == {"a": [1]}, "T.A was live before"
    assert not bus.hub.has_joined("a", "T.B")
    assert let_in(bus, whole)
    bus.trade("A", 3)
    bus.trade("B", 4)
    assert bus.mark() == {"a": [3, 4]}


def test_a_channel_that_was_caught_up_goes_on_live_while_its_wildcard_is_still_caught_up(bus: Bus) -> None:
    bus.publish_whole("T")
    bus.hub.hold_off("a", ["T.A", "T.*"])
    bus.hold("a", "T.A", "T.*")
    bus.mark()
    assert let_in(bus, "T.A")
    bus.hold("a", "Q.A")
    bus.trade("A", 1)
    bus.trade("B", 2)
    assert bus.mark() == {"a": [1]}


def test_a_type_that_is_published_whole_from_now_on_concerns_nobody_else() -> None:
    """Else whoever asks for a wildcard has each gateway look at all that all clients hold, again and again."""
    bus = Bus()
    bus.hold("exact", "T.AAPL")
    bus.hold("other", "Q.*")
    bus.hold("whole", "T.*")
    bus.hold("all", "*")
    bus.hub.seal(Mark(bus.epoch, 1, 1, 0, frozenset("T")))
    assert bus.hub._moves.keys() == {"whole", "all"}
