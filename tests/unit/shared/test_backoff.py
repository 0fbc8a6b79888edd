"""Backoff: later and later, within bounds, and from the start after a success."""

from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import Backoff


def test_delays_double_up_to_the_cap_without_jitter() -> None:
    backoff = Backoff(0.5, 4.0, draw=lambda: 0.0)
    assert [backoff.next_s() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_the_first_delay_after_a_reset_is_the_base_again() -> None:
    backoff = Backoff(0.5, 4.0, draw=lambda: 0.0)
    for _ in range(5):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_a_floor_lifts_one_delay_above_the_cap_and_leaves_the_next_alone() -> None:
    backoff = Backoff(0.5, 4.0, draw=lambda: 0.0)
    assert backoff.next_s(floor_s=30.0) == 30.0
    assert backoff.next_s() == 1.0


def test_a_base_above_the_cap_is_cut_to_it() -> None:
    assert Backoff(10.0, 4.0, draw=lambda: 0.0).next_s() == 4.0


@given(
    base_s=st.floats(0.001, 10.0),
    factor=st.floats(1.0, 1000.0),
    floor_s=st.floats(0.0, 60.0),
    draws=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=80),
)
def test_each_delay_lies_between_half_and_all_of_what_is_due(
    base_s: float, factor: float, floor_s: float, draws: list[float]
) -> None:
    cap_s = base_s * factor
    rest = iter(draws)
    backoff = Backoff(base_s, cap_s, draw=lambda: next(rest))
    for tries in range(len(draws)):
        due_s = max(floor_s, min(cap_s, base_s * 2.0 ** min(tries, 64)))
        assert due_s / 2 <= backoff.next_s(floor_s) <= due_s


def test_ten_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(1.0, 30.0)
    assert all(0.5 <= backoff.next_s() <= 30.0 for _ in range(10_000))
