"""When a scenario is in which phase."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.simulator.scenario import CALM, Phase, Scenario

ONE, TWO = Phase(name="one", seconds=0.1), Phase(name="two", seconds=0.2)
ENDLESS = Phase(name="endless", seconds=0)


def make(*phases: Phase, repeat: bool = False) -> Scenario:
    return Scenario("test", None, phases, repeat)


def test_a_phase_holds_its_first_moment_and_not_its_last() -> None:
    scenario = make(ONE, TWO)
    assert scenario.find(0.0) == (0, ONE, 0.0)
    assert scenario.find(0.099999) == (0, ONE, 0.099999)
    assert scenario.find(0.1) == (1, TWO, 0.0)
    assert scenario.find(0.299) == (1, TWO, 0.199)


def test_after_the_last_phase_it_is_calm() -> None:
    assert make(ONE, TWO).find(0.3) == (2, CALM, 0.0)  # 0.1 + 0.2 > 0.3 in floats
    assert make(ONE, TWO).find(1000.3) == (2, CALM, 1000.0)


def test_before_its_first_moment_it_is_in_the_first_phase() -> None:
    assert make(ONE, TWO).find(-5.0) == (0, ONE, 0.0)


def test_a_last_phase_of_0_seconds_never_ends() -> None:
    assert make(ONE, ENDLESS).find(0.1) == (1, ENDLESS, 0.0)
    assert make(ONE, ENDLESS).find(86400.1) == (1, ENDLESS, 86400.0)
    assert make(ENDLESS).find(0.0) == (0, ENDLESS, 0.0)


def test_the_index_counts_on_through_repeats() -> None:
    scenario = make(ONE, TWO, repeat=True)
    assert scenario.find(0.3) == (2, ONE, 0.0)
    assert scenario.find(0.45) == (3, TWO, 0.05)
    assert scenario.find(3000.0) == (20_000, ONE, 0.0)


PHASES_MS = st.lists(st.integers(1, 5000), min_size=1, max_size=6)


@given(PHASES_MS, st.booleans(), st.integers(0, 20_000))
def test_each_millisecond_is_in_the_phase_that_counting_them_says(lengths: list[int], repeat: bool, at: int) -> None:
    scenario = make(*(Phase(name=str(length), seconds=length / 1000) for length in lengths), repeat=repeat)
    index, start = 0, 0
    while (repeat or index < len(lengths)) and at >= start + lengths[index % len(lengths)]:
        start += lengths[index % len(lengths)]
        index += 1
    phase = CALM if index >= len(lengths) and not repeat else scenario.phases[index % len(lengths)]
    assert scenario.find(at / 1000) == (index, phase, (at - start) / 1000)


@given(PHASES_MS, st.booleans(), st.lists(st.floats(0, 30), min_size=2))
def test_the_index_never_goes_back(lengths: list[int], repeat: bool, times: list[float]) -> None:
    scenario = make(*(Phase(name="p", seconds=length / 1000) for length in lengths), repeat=repeat)
    found = [scenario.find(time)[::2] for time in sorted(times)]
    assert all(earlier <= later for earlier, later in pairwise(found))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_time_that_is_none_is_our_own_fault(value: float) -> None:
    with pytest.raises((OverflowError, ValueError)):
        make(ONE).find(value)
