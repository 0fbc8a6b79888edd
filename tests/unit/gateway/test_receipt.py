"""What has arrived at a client, counted in bytes: the position is the mark up to which it has everything."""

from gateway.receipt import LIVE, Receipt
from shared.batch import NOTHING, Mark


def make_mark(sequence: int) -> Mark:
    return NOTHING._replace(epoch=7, sequence=sequence)


def test_the_position_is_the_last_mark_of_which_every_byte_has_arrived() -> None:
    receipt = Receipt(make_mark(1))
    receipt.wrote(100, make_mark(2))
    receipt.wrote(200, make_mark(3))
    for count, sequence in ((0, 1), (99, 1), (100, 2), (199, 2), (200, 3)):
        receipt.arrived(count)
        assert receipt.lanes[LIVE].position == make_mark(sequence)


def test_marks_with_nothing_written_in_between_keep_one_note() -> None:
    receipt = Receipt(make_mark(1))
    for sequence in range(2, 1000):
        receipt.wrote(100, make_mark(sequence))
    assert len(receipt._notes) == 1
    receipt.arrived(100)
    assert receipt.lanes[LIVE].position == make_mark(999)


def test_a_note_of_another_lane_at_the_same_byte_is_kept() -> None:
    receipt = Receipt(make_mark(1))
    lane = receipt.open_lane(make_mark(1), ["T.AAPL"])
    receipt.wrote(100, make_mark(5))
    receipt.wrote(100, make_mark(2), lane)
    receipt.arrived(100)
    assert (receipt.lanes[LIVE].position, receipt.lanes[lane].position) == (make_mark(5), make_mark(2))


def test_each_lane_has_a_position_of_its_own() -> None:
    receipt = Receipt(make_mark(5))
    first = receipt.open_lane(make_mark(1), ["T.AAPL"])
    second = receipt.open_lane(make_mark(2), ["T.MSFT"])
    receipt.wrote(100, make_mark(3), second)
    receipt.arrived(100)
    assert [receipt.lanes[lane].position.sequence for lane in (LIVE, first, second)] == [5, 1, 3]


def test_a_lane_is_live_once_the_bytes_up_to_its_joining_have_arrived() -> None:
    receipt = Receipt(make_mark(5))
    receipt.add(["Q.AAPL"])
    lane = receipt.open_lane(make_mark(1), ["T.AAPL"])
    receipt.wrote(100, make_mark(6), lane, joins=True)
    receipt.arrived(99)
    assert receipt.lanes[lane].channels == {"T.AAPL"}
    receipt.arrived(100)
    assert list(receipt.lanes) == [LIVE]
    assert receipt.lanes[LIVE].channels == {"Q.AAPL", "T.AAPL"}


def test_a_channel_that_is_given_up_leaves_every_lane() -> None:
    receipt = Receipt(make_mark(5))
    receipt.add(["Q.AAPL", "Q.MSFT"])
    lane = receipt.open_lane(make_mark(1), ["T.AAPL", "T.MSFT"])
    receipt.remove(["Q.AAPL", "T.AAPL", "T.TSLA"])
    assert receipt.lanes[LIVE].channels == {"Q.MSFT"}
    assert receipt.lanes[lane].channels == {"T.MSFT"}


def test_who_gives_a_wildcard_up_has_what_it_brought_live_and_what_was_missed_itself_where_it_was() -> None:
    receipt = Receipt(make_mark(5))
    lane = receipt.open_lane(make_mark(1), ["*", "T.*"])
    receipt.add(["Q.AAPL"])
    assert receipt.lanes[lane].channels == {"*", "T.*", "Q.AAPL"}
    receipt.remove(["*"], late={"*", "T.*"})
    assert (receipt.lanes[lane].channels, receipt.lanes[LIVE].channels) == ({"T.*"}, {"Q.AAPL"})
