"""The soak's judgement on memory, fed with processes that grow and such as do not."""

import pytest

from tests.soak.memory import SETTLED_S, Memory
from tests.soak.report import render_memory

MINUTES_30 = 1800


def sample(grow_mb: float, seconds: int = MINUTES_30) -> Memory:
    """A process that fills its buffers in its first minutes, and then grows by so much until the end."""
    memory = Memory(dict)
    settled = int(SETTLED_S)
    memory.samples["ingest 1"] = [
        (at, 50.0 + 50.0 * min(at, settled) / settled + grow_mb * max(0, at - settled) / (seconds - settled))
        for at in range(0, seconds, 10)
    ]
    return memory


@pytest.mark.parametrize(("grow_mb", "is_flat"), [(0.0, True), (-30.0, True), (5.0, True), (8.0, False)])
def test_growth_after_the_settling_counts_and_filling_bounded_buffers_does_not(grow_mb: float, is_flat: bool) -> None:
    growth = sample(grow_mb).find_growth("ingest 1")
    assert growth is not None
    assert growth.second < growth.settled
    assert growth.is_flat == is_flat
    assert ("FAULT" in render_memory({"ingest 1": growth}, must_be_flat=True)) != is_flat
    assert "FAULT" not in render_memory({"ingest 1": growth}, must_be_flat=False)


def test_who_lived_for_a_short_time_is_not_judged() -> None:
    assert sample(100.0, seconds=800).find_growth("ingest 1") is None
