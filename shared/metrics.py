"""Counting without a dependency on who reads it.  Pure."""

import json
from bisect import bisect_left
from typing import Final

_RATIO: Final = 1.1
LATENCY_BOUNDS_US: Final = tuple(int(50 * _RATIO**power) for power in range(140))  # 50 us .. 28 s


class Histogram:
    """Counts of durations in geometric buckets, cumulative since start; a quantile errs by at most a tenth."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LATENCY_BOUNDS_US) + 1)

    def add(self, duration_us: int) -> None:
        """Count one duration in microseconds."""
        self._counts[bisect_left(LATENCY_BOUNDS_US, duration_us)] += 1

    def encode(self) -> str:
        """JSON object: upper bound of a bucket in microseconds -> count, empty buckets left out."""
        bounds = (*LATENCY_BOUNDS_US, LATENCY_BOUNDS_US[-1] * 10)
        return json.dumps({str(bound): count for bound, count in zip(bounds, self._counts, strict=True) if count})
