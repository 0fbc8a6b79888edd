"""The hub by example: who gets which event, in how many frames, and when a change counts."""

import pytest

from shared.batch import NOTHING, Mark
from tests.unit.gateway.bus import Bus
from tests.unit.gateway.frames import close_batch


@pytest.fixture
def bus() -> Bus:
    return Bus()


def test_a_member_gets_what_it_holds_and_nothing_else(bus: Bus) -> None:
    bus.hold("a", "T.AAPL")
    bus.hold("b", "Q.AAPL", "T.MSFT")
    bus.send("T.AAPL", 1, 2)
    bus.send("T.MSFT", 3)
    bus.send("Q.AAPL", 4)
    bus.send("Q.TSLA", 5)
    assert bus.mark() == {"a": [1, 2], "b": [3, 4]}
    assert bus.mark() == {}


def test_members_with_the_same_channels_get_the_very_same_bytes(bus: Bus) -> None:
    bus.hold("a", "T.AAPL", "Q.AAPL")
    bus.hold("b", "Q.AAPL")
    bus.hold("b", "T.AAPL")
    bus.hold("c", "T.AAPL", "T.MSFT", "Q.AAPL")
    bus.hub.remove("c", ["T.MSFT"])
    bus.hold("other", "Q.AAPL")
    bus.send("T.AAPL", 1)
    bus.send("Q.AAPL", 2)
    frames = [(frame, list(members)) for frame, members in close_batch(bus.hub, Mark(7, 1, 1, 2, frozenset()))]
    assert sorted(sorted(map(str, members)) for _, members in frames) == [["a", "b", "c"], ["other"]]


def test_all_events_of_a_batch_come_in_one_frame_in_order(bus: Bus) -> None:
    bus.hold("a", "T.AAPL", "T.MSFT")
    for number in range(100):
        bus.send("T.AAPL" if number % 2 else "T.MSFT", number)
    assert bus.mark() == {"a": list(range(100))}


def test_without_a_mark_nothing_is_sent(bus: Bus) -> None:
    bus.hold("a", "T.AAPL")
    bus.send("T.AAPL", 1)
    assert bus.hub.last_mark == NOTHING
    assert bus.mark() == {"a": [1]}


# Edges.


def test_only_the_first_to_come_and_the_last_to_go_are_edges(bus: Bus) -> None:
    hub = bus.hub
    assert hub.add("a", ["T.AAPL", "Q.AAPL"]) == ["T.AAPL", "Q.AAPL"]
    assert hub.add("b", ["T.AAPL", "T.*"]) == ["T.*"]
    assert hub.add("b", ["T.AAPL"]) == []
    assert hub.remove("a", ["T.AAPL", "Q.AAPL"]) == ["Q.AAPL"]
    assert hub.remove("a", ["T.AAPL"]) == []
    assert hub.is_wanted("T.AAPL")
    assert sorted(hub.drop("b")) == ["T.*", "T.AAPL"]
    assert hub.get_wanted() == []
    assert not hub.is_wanted("T.AAPL")


def test_removing_what_is_not_held_and_dropping_a_stranger_change_nothing(bus: Bus) -> None:
    bus.hold("a", "T.AAPL")
    assert bus.hub.remove("stranger", ["T.AAPL"]) == []
    assert bus.hub.remove("a", ["T.MSFT"]) == []
    assert bus.hub.drop("stranger") == []
    assert bus.hub.drop("stranger") == []
    bus.send("T.AAPL", 1)
    assert bus.mark() == {"a": [1]}


def test_a_channel_counts_only_once_it_is_ready(bus: Bus) -> None:
    bus.hub.add("a", ["T.AAPL"])
    assert not bus.hub.has_joined("a", "T.AAPL")
    bus.hub.set_ready(["T.AAPL"])
    assert bus.hub.has_joined("a", "T.AAPL")
    assert not bus.hub.has_joined("a", "T.MSFT")
    assert not bus.hub.has_joined("stranger", "T.AAPL")
    bus.hub.add("b", ["T.AAPL"])
    assert bus.hub.has_joined("b", "T.AAPL")


def test_a_channel_let_go_must_become_ready_again(bus: Bus) -> None:
    bus.hold("a", "T.AAPL")
    bus.hub.drop("a")
    bus.hub.set_unready(["T.AAPL"])
    bus.hub.add("b", ["T.AAPL"])
    assert not bus.hub.has_joined("b", "T.AAPL")
    bus.hub.set_ready(["T.AAPL"])
    bus.trade("AAPL", 1)
    assert bus.mark() == {"b": [1]}


# Changes within a batch.


def test_a_member_that_comes_within_a_batch_joins_with_its_mark(bus: Bus) -> None:
    bus.hold("a", "T.AAPL")
    bus.send("T.AAPL", 1)
    bus.hold("b", "T.AAPL")
    assert not bus.hub.has_joined("b", "T.AAPL")
    bus.send("T.AAPL", 2)
    assert bus.mark() == {"a": [1, 2]}
    assert bus.hub.has_joined("b", "T.AAPL")
    bus.send("T.AAPL", 3)
    assert bus.mark() == {"a": [3], "b": [3]}


def test_a_member_that_leaves_a_channel_within_a_batch_leaves_with_its_mark(bus: Bus) -> None:
    bus.hold("a", "T.AAPL", "T.MSFT")
    bus.send("T.AAPL", 1)
    bus.hub.remove("a", ["T.AAPL"])
    bus.send("T.MSFT", 2)
    assert 2 in bus.mark()["a"]
    bus.send("T.AAPL", 3)
    bus.send("T.MSFT", 4)
    assert bus.mark() == {"a": [4]}


def test_a_member_dropped_within_a_batch_gets_nothing_of_it_and_the_others_all(bus: Bus) -> None:
    for member in "ab":
        bus.hold(member, "T.AAPL")
    bus.hold("c", "T.AAPL", "T.MSFT")
    bus.send("T.AAPL", 1)
    bus.hub.drop("a")
    bus.hub.drop("c")
    bus.send("T.AAPL", 2)
    assert bus.mark() == {"b": [1, 2]}


def test_the_last_member_of_a_group_dropped_within_a_batch_leaves_no_trace(bus: Bus) -> None:
    bus.hold("a", "T.AAPL")
    bus.send("T.AAPL", 1)
    bus.hub.drop("a")
    bus.hold("b", "T.AAPL")
    assert bus.mark() == {}
    bus.send("T.AAPL", 2)
    assert bus.mark() == {"b": [2]}


def test_to_leave_and_come_back_within_a_batch_is_to_stay(bus: Bus) -> None:
    bus.hold("a", "T.AAPL")
    bus.send("T.AAPL", 1)
    bus.hub.remove("a", ["T.AAPL"])
    bus.hub.add("a", ["T.AAPL"])
    bus.send("T.AAPL", 2)
    assert bus.mark() == {"a": [1, 2]}


# Faults.


@pytest.mark.parametrize("first", [1, 2, 3])
def test_batches_that_were_flushed_are_discarded_when_they_are_sent_again(bus: Bus, first: int) -> None:
    """Ingest sends again whatever was not answered when the connection broke, which may be any number of batches."""
    bus.hold("a", "T.AAPL")
    for sequence in (1, 2, 3):
        bus.send("T.AAPL", sequence)
        assert bus.mark() == {"a": [sequence]}
    for sequence in range(first, 4):
        bus.send("T.AAPL", sequence)
        assert bus.mark(sequence) == {}
    bus.send("T.AAPL", 4)
    assert bus.mark(4) == {"a": [4]}
    assert bus.hub.missed_batches == 0


def test_what_was_collected_of_a_batch_that_never_ends_is_discarded(bus: Bus) -> None:
    bus.hold("a", "T.AAPL")
    bus.send("T.AAPL", 1)
    bus.hub.discard()
    bus.send("T.AAPL", 1)
    assert bus.mark() == {"a": [1]}


def test_a_new_epoch_starts_its_sequence_anew(bus: Bus) -> None:
    bus.hold("a", "T.AAPL")
    bus.sequence = 100
    bus.send("T.AAPL", 1)
    bus.mark()
    bus.epoch, bus.sequence = 8, 0
    bus.send("T.AAPL", 2)
    assert bus.mark() == {"a": [2]}
    assert bus.hub.missed_batches == 0


def test_missed_batches_are_counted(bus: Bus) -> None:
    bus.hold("a", "T.AAPL")
    bus.mark(1)
    bus.send("T.AAPL", 5)
    assert bus.mark(5) == {"a": [5]}
    assert bus.hub.missed_batches == 3
    bus.mark(5)
    bus.mark(6)
    assert bus.hub.missed_batches == 3


def test_batches_that_only_a_heartbeat_tells_of_are_missed_as_well(bus: Bus) -> None:
    """A heartbeat closes nothing (shared/batch.py): if it names batch 4 after we flushed 1, three are missed."""
    bus.mark(1)
    list(close_batch(bus.hub, Mark(bus.epoch, 4, 1, 0, frozenset())))
    assert bus.hub.missed_batches == 3
