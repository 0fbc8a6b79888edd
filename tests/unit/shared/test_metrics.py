"""The histogram: a quantile read from it errs by at most a tenth."""

import json

from hypothesis import given
from hypothesis import strategies as st

from shared.metrics import LATENCY_BOUNDS_US, Histogram


@given(st.integers(50, LATENCY_BOUNDS_US[-1]))
def test_a_duration_is_counted_under_the_next_bound_above_it(duration_us: int) -> None:
    histogram = Histogram()
    histogram.add(duration_us)
    ((bound, count),) = json.loads(histogram.encode()).items()
    assert count == 1
    assert duration_us <= int(bound) <= duration_us * 1.1 + 1


def test_extremes_are_counted_and_none_is_lost() -> None:
    histogram = Histogram()
    for duration_us in (-5, 0, 1, 50, 10**12):
        histogram.add(duration_us)
    counts = json.loads(histogram.encode())
    assert sum(counts.values()) == 5
    assert counts["50"] == 4


def test_an_empty_histogram_is_an_empty_object() -> None:
    assert Histogram().encode() == "{}"
