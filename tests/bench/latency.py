"""The gateways' own latency histograms: {"<upper bound in us>": count}, cumulative since they started.  Pure."""

from collections.abc import Iterable, Mapping

import msgspec

_decode = msgspec.json.Decoder(dict[str, int]).decode

Histogram = Mapping[float, int]


def parse_histogram(text: bytes) -> dict[float, int]:
    """Upper bound (us) -> samples, from a gateway's `latency_us`."""
    return {float(bound): count for bound, count in _decode(text).items()}


def add_histograms(histograms: Iterable[Histogram]) -> dict[float, int]:
    """Of several gateways together."""
    total: dict[float, int] = {}
    for histogram in histograms:
        for bound, count in histogram.items():
            total[bound] = total.get(bound, 0) + count
    return total


def subtract_histograms(later: Histogram, earlier: Histogram) -> dict[float, int]:
    """What was counted in between."""
    return {bound: count - earlier.get(bound, 0) for bound, count in later.items() if count > earlier.get(bound, 0)}


def find_percentile_ms(histogram: Histogram, share: float) -> float | None:
    """The smallest bound, in ms, that at least `share` of the samples do not exceed; None without samples."""
    due = share * sum(histogram.values())
    seen = 0
    for bound in sorted(histogram):
        seen += histogram[bound]
        if seen >= due:
            return bound / 1000
    return None
