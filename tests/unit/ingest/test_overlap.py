"""While a wildcard takes over, of two events with the same bytes only the first passes."""

from ingest.overlap import Overlap
from shared.split import Split, split_frame

T1 = '{"ev":"T","sym":"AAPL","i":"1"}'
T2 = '{"ev":"T","sym":"AAPL","i":"2"}'
MSFT = '{"ev":"T","sym":"MSFT","i":"1"}'
STATUS = '{"ev":"status","status":"success","message":"subscribed to: T.*"}'


def make_split(*events: str) -> Split:
    return split_frame(f"[{','.join(events)}]".encode())


def pass_on(overlap: Overlap, *events: str) -> list[str]:
    split = overlap.filter(make_split(*events))
    assert len(split.heads) == len(split.bodies)
    return [f"{{{body.decode()}}}" for body in split.bodies]


def make_overlap(*channels: str) -> Overlap:
    overlap = Overlap("stocks")
    overlap.set_channels(frozenset(channels))
    return overlap


def test_a_double_is_removed_and_counted_within_a_frame_and_across_frames() -> None:
    overlap = make_overlap("T.AAPL")
    assert pass_on(overlap, T1, T2, T1) == [T1, T2]
    assert pass_on(overlap, T1, T2) == []
    assert overlap.removed == 3


def test_other_channels_statuses_and_what_cannot_be_routed_always_pass() -> None:
    overlap = make_overlap("T.AAPL")
    for _ in range(2):
        assert pass_on(overlap, MSFT, MSFT, STATUS, STATUS, '{"ev":"T"}') == [MSFT, MSFT, STATUS, STATUS, '{"ev":"T"}']
    assert overlap.removed == 0


def test_events_that_differ_in_a_single_byte_both_pass() -> None:
    assert pass_on(make_overlap("T.AAPL"), T1, T1.replace('"i":"1"', '"i": "1"')) == [
        T1,
        T1.replace('"i":"1"', '"i": "1"'),
    ]


def test_once_nothing_is_doubled_everything_is_forgotten() -> None:
    overlap = make_overlap("T.AAPL")
    pass_on(overlap, T1)
    overlap.set_channels(frozenset())
    overlap.set_channels(frozenset({"T.AAPL"}))
    assert pass_on(overlap, T1) == [T1]


def test_a_change_of_channels_in_between_forgets_nothing() -> None:
    overlap = make_overlap("T.AAPL")
    pass_on(overlap, T1)
    overlap.set_channels(frozenset({"T.AAPL", "T.MSFT"}))
    assert pass_on(overlap, T1, MSFT, MSFT) == [MSFT]


def test_what_is_remembered_is_bounded() -> None:
    overlap = make_overlap("T.AAPL")
    events = [f'{{"ev":"T","sym":"AAPL","i":"{number}"}}' for number in range(100_001)]
    assert pass_on(overlap, *events) == events
    assert pass_on(overlap, events[1], events[-1]) == []
    assert pass_on(overlap, events[0]) == [events[0]]


def test_the_malformed_stay_counted() -> None:
    split = make_overlap("T.AAPL").filter(make_split(T1, "5", T1))
    assert (len(split.bodies), split.malformed) == (1, 1)
