"""How prices are written, and how they are rounded.  Pure.

Inside the simulator a price is a whole number of 1/10,000 dollar, so sums are exact.  What is divided (vw, a and the
middle of a spread in reports) is rounded half up to 1/10,000 dollar; z, the mean size, is rounded down.
"""

from typing import Final

_MOST_TEXTS: Final = 100_000  # about 15 MB; then all are forgotten and written anew


class PriceTexts(dict[int, str]):
    """The text of each price that was seen; `texts[2715000]` is "271.5"."""

    def __missing__(self, price: int) -> str:
        if len(self) >= _MOST_TEXTS:
            self.clear()
        text = self[price] = write_price(price)
        return text


def write_price(price: int) -> str:
    """As upstream does: no more digits than needed, no point in a whole number."""
    whole, rest = divmod(price, 10_000)
    return f"{whole}.{rest:04d}".rstrip("0") if rest else str(whole)


def divide(sum_: int, count: int) -> int:
    """Rounded half up; both are positive."""
    return (2 * sum_ + count) // (2 * count)
