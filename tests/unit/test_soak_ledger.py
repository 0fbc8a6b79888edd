"""The soak's checker is fed losses, doubles, swaps, and notices that cover them or do not, and must tell them apart."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.notice import Addressed, make_gap
from shared.protocol import Status, conflated
from tests.soak.ledger import REPEATED_MS, Account, Emitted, Outage, Stream
from tests.soak.notices import SLACK_MS, Conflated, Gap, parse_notice

BEGAN_MS = 1_800_000_000_000
EVERY_MS = 100
LAST = 100
ALWAYS = [Outage(0, 2 * BEGAN_MS)]


def at(number: int) -> int:
    return BEGAN_MS + number * EVERY_MS


def make_emitted(*channels: str) -> Emitted:
    emitted = Emitted(channels, BEGAN_MS)
    for times in emitted.times.values():
        times.extend(number * EVERY_MS for number in range(1, LAST + 1))
    return emitted


class Told:
    """A client of one channel that was acked before the first event, and what it is fed."""

    def __init__(self, channel: str = "T.A", held: str = "") -> None:
        self.channel = channel
        self.emitted = Emitted([channel, "T.B"], BEGAN_MS)
        self.stream = Stream([held or channel], self.emitted)
        self.stream.begin(anew=True)
        self.stream.acked()
        self.emitted.times = make_emitted(channel, "T.B").times

    def get(self, *numbers: int) -> None:
        kind, _, symbol = self.channel.partition(".")
        self.stream.feed(json.dumps([{"ev": kind, "sym": symbol, "q": number} for number in numbers]).encode())

    def hear(self, status: Status) -> None:
        self.stream.feed(json.dumps([{"ev": "status", "status": status.status, "message": status.message}]).encode())

    def hear_gap(self, from_ms: int, to_ms: int, *channels: str) -> None:
        status = Addressed(make_gap(from_ms, to_ms, "why", channels)).find_status(frozenset(channels))
        assert status is not None
        self.hear(status)

    def come_back(self, crashed_ms: int | None = None) -> None:
        if crashed_ms is not None:
            self.stream.crashed(crashed_ms)
        self.stream.begin(anew=False)

    def judge(self, outages: list[Outage] | None = None) -> Account:
        return self.stream.judge(ALWAYS if outages is None else outages)


def run(first: int, last: int = LAST) -> range:
    return range(first, last + 1)


def test_everything_once_is_clean() -> None:
    told = Told()
    told.get(*run(1))
    account = told.judge()
    assert account.is_clean and account.delivered == LAST


def test_loss_without_a_word_is_a_fault() -> None:
    told = Told()
    told.get(*run(1, 40), *run(42))
    account = told.judge()
    assert not account.is_clean and account.unexplained == 1
    assert account.examples == [f"unexplained: T.A 41, sent {at(41)}"]


def test_loss_at_the_end_is_a_fault() -> None:
    told = Told()
    told.get(*run(1, LAST - 3))
    assert told.stream.count_tail() == 3
    assert told.judge().unexplained == 3


def test_loss_between_the_ack_and_the_first_event_is_a_fault() -> None:
    told = Told()
    told.get(*run(4))
    assert told.judge().unexplained == 3


def test_silence_is_a_fault() -> None:
    assert Told().judge().unexplained == LAST


def test_silence_under_a_wildcard_is_a_fault() -> None:
    told = Told("T.A", held="T.*")
    told.get(*run(1))
    assert told.judge().unexplained == LAST  # of T.B


def test_gap_that_names_channel_and_time_explains_a_loss() -> None:
    told = Told()
    told.get(*run(1, 40))
    told.hear_gap(at(41), at(45), "T.A")
    told.get(*run(46))
    account = told.judge()
    assert account.is_clean and account.told == {"why": 5}


def test_gap_of_a_wildcard_explains_a_loss_under_it() -> None:
    told = Told("T.A", held="T.*")
    told.hear_gap(at(0), at(LAST), "T.*")
    assert told.judge().is_clean


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "channel"),
    [
        (at(41), at(44), "T.A"),
        (at(41) + SLACK_MS + 1, at(50), "T.A"),
        (at(41), at(45), "T.B"),
        (at(41), at(45), "Q.*"),
    ],
    ids=["ends too early", "begins too late", "another channel", "another event type"],
)
def test_gap_that_does_not_cover_explains_nothing(from_ms: int, to_ms: int, channel: str) -> None:
    told = Told()
    told.get(*run(1, 40))
    told.hear_gap(from_ms, to_ms, channel)
    told.get(*run(46))
    account = told.judge()
    assert not account.is_clean and account.unexplained >= 1


def test_gap_that_was_told_to_somebody_else_explains_nothing() -> None:
    lucky, unlucky = Told(), Told()
    lucky.hear_gap(at(0), at(LAST), "T.A")
    assert lucky.judge().is_clean and not unlucky.judge().is_clean


def test_gap_where_nothing_was_broken_is_a_fault() -> None:
    told = Told()
    told.get(*run(1, 40), *run(46))
    told.hear_gap(at(41), at(45), "T.A")
    account = told.judge([Outage(at(1), at(40)), Outage(at(44), at(60))])
    assert not account.is_clean and account.needless == 3 and account.unexplained == 0


def test_gap_with_more_channels_than_it_names_covers_them_all() -> None:
    names = [f"T.{number}" for number in range(30)]
    status = Addressed(make_gap(1, 2, "why; and how", names)).find_status(frozenset(names))
    assert status is not None
    gap = parse_notice(status.status, status.message)
    assert isinstance(gap, Gap) and gap.more == 10 and gap.cause == "why; and how"
    assert gap.covers("T.9", 1)


def test_double_without_a_crash_is_a_fault() -> None:
    told = Told()
    told.get(*run(1, 50))
    told.come_back()
    told.get(*run(50))
    account = told.judge()
    assert not account.is_clean and account.doubled == 1


@pytest.mark.parametrize("is_old", [False, True])
def test_double_after_a_crash_is_allowed_if_it_came_just_before(is_old: bool) -> None:
    told = Told()
    told.get(*run(1, 49 if is_old else 48))
    told.stream.note(at(50))
    told.get(*run(50 if is_old else 49, 50))
    told.stream.note(at(50) + 1)
    told.come_back(crashed_ms=at(50) + REPEATED_MS)
    told.get(*run(49))
    account = told.judge()
    assert account.repeated == 2 - is_old and account.doubled == is_old
    assert account.is_clean is not is_old


@pytest.mark.parametrize("is_old", [False, True])
def test_time_in_which_nothing_came_does_not_make_a_repeat_old(is_old: bool) -> None:
    """It got 49 or 50 s ago, nothing for all that time, a note every second; then 51, and a crash soon after."""
    told = Told()
    told.get(*run(1, 49))
    told.stream.note(at(50))
    if not is_old:
        told.get(50)
    told.stream.note(at(50) + 100)
    for second in range(1, 11):
        told.stream.note(at(50) + 100 + 1000 * second)
    told.get(*([50, 51] if is_old else [51]))
    told.stream.note(at(50) + 10_200)
    told.come_back(crashed_ms=at(50) + 10_100 + 950 + 100 * is_old)
    told.get(*run(49 if is_old else 50))
    account = told.judge()
    assert account.doubled == is_old and account.repeated == 2


def test_what_crashed_and_came_back_in_order_has_crashed_no_more() -> None:
    told = Told()
    told.get(*run(1, 50))
    told.come_back(crashed_ms=at(50))
    told.get(*run(50, 60))
    told.stream.acked()
    told.come_back()
    told.get(*run(60))
    account = told.judge()
    assert account.repeated == 1 and account.doubled == 1


def test_double_on_the_same_connection_is_a_fault_even_after_a_crash() -> None:
    told = Told()
    told.get(*run(1, 50))
    told.come_back(crashed_ms=at(50))
    told.get(*run(49, 60), 60, *run(61))
    account = told.judge()
    assert account.repeated == 2 and account.disordered == 1 and not account.is_clean


def test_what_is_repeated_must_be_in_order_too() -> None:
    told = Told()
    told.get(*run(1, 50))
    told.come_back(crashed_ms=at(50))
    told.get(48, 47, *run(49))
    account = told.judge()
    assert account.disordered == 1 and not account.is_clean


def test_swap_is_a_fault_though_nothing_is_missing() -> None:
    told = Told()
    told.get(*run(1, 40), 42, 41, *run(43))
    account = told.judge()
    assert account.disordered == 1 and not account.is_clean


def test_what_was_missed_may_come_on_the_next_connection() -> None:
    told = Told()
    told.get(*run(1, 40))
    told.come_back()
    told.get(*run(41))
    assert told.judge().is_clean


def test_who_comes_anew_misses_nothing_while_away_but_all_before_counts() -> None:
    told = Told()
    told.get(*run(1, 10), *run(12, 40))
    told.stream.begin(anew=True)
    told.get(*run(60))
    account = told.judge()
    assert account.unexplained == 1 and account.delivered == 39 + 41


def test_conflation_explains_as_many_quotes_as_it_tells() -> None:
    for count, is_clean in ((5, True), (4, False)):
        told = Told("Q.A")
        told.get(*run(1, 40))
        told.hear(conflated(count, at(41), at(45)))
        told.get(*run(46))
        account = told.judge()
        assert account.conflated == 5 and account.is_clean is is_clean


def test_what_was_left_out_after_an_outage_is_counted_so_though_the_gap_was_told_further_ahead() -> None:
    for count, is_clean in ((5, True), (4, False)):
        told = Told("Q.A")
        told.get(*run(1, 40))
        told.hear_gap(at(41), at(60), "Q.A")
        told.hear(conflated(count, at(46), at(50)))
        told.get(*run(51))
        account = told.judge([Outage(at(41), at(45))])
        assert account.told == {"why": 5} and account.conflated == 5
        assert account.needless == 0 and account.is_clean is is_clean


def test_conflation_explains_no_trade() -> None:
    told = Told("T.A")
    told.get(*run(1, 40))
    told.hear(conflated(5, at(41), at(45)))
    told.get(*run(46))
    assert told.judge().unexplained == 5


def test_status_that_a_client_cannot_read_is_a_fault() -> None:
    told = Told()
    told.get(*run(1))
    told.hear(Status("status", "gap", "something is missing"))
    assert told.judge().malformed == 1


def test_other_channels_events_are_a_fault() -> None:
    told = Told()
    told.get(*run(1))
    told.channel = "T.B"
    told.get(1)
    assert told.judge().foreign == 1


def test_notices_are_read_as_they_are_written() -> None:
    status = conflated(7, 11, 13)
    assert parse_notice(status.status, status.message) == Conflated(7, 11, 13)
    assert parse_notice("success", "subscribed to: T.A") is None


@given(st.sets(st.integers(1, LAST)), st.integers(1, LAST), st.integers(0, 20))
def test_each_missing_event_is_explained_exactly_if_the_gap_covers_it(missing: set[int], first: int, size: int) -> None:
    told = Told()
    told.get(*(number for number in run(1) if number not in missing))
    from_ms, to_ms = at(first), at(first + size)
    told.hear_gap(from_ms, to_ms, "T.A")
    account = told.judge()
    covered = {number for number in missing if from_ms - SLACK_MS <= at(number) <= to_ms}
    assert account.told.total() == len(covered)
    assert account.unexplained == len(missing - covered)
    assert account.is_clean is (missing == covered)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30))
def test_whatever_comes_on_one_connection_only_each_number_once_in_order_is_clean(numbers: list[int]) -> None:
    told = Told()
    del told.emitted.times["T.A"][12:]
    told.get(*numbers)
    assert told.judge().is_clean is (numbers == list(run(1, 12)))
