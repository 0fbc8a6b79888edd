"""What /health makes of a gateway's lease."""

import time

import pytest

from ingest.ops import _find_problem


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ({"since": 1.0}, "gateway g1 has just come"),  # it has joined, and said nothing yet
        ({"last_mark": 0.0}, "gateway g1 has not seen a mark for"),
        ({"last_mark": time.time() - 20.0}, "gateway g1 has not seen a mark for 2"),
        ({"last_mark": time.time() + 3600.0}, ""),
    ],
)
def test_a_gateway_that_sees_no_marks_is_a_problem(numbers: dict[str, float], problem: str) -> None:
    found = _find_problem("g1", numbers)
    assert found.startswith(problem) and bool(found) == bool(problem)
