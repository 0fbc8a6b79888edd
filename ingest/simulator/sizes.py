"""How much is traded and shown: tables of trades' sizes with their conditions, and of quotes' sizes.  Pure.

Conditions are those of Polygon's glossary: 12 form T (outside regular hours), 14 intermarket sweep, 37 odd lot,
41 exempt from the trade-through rule.  An odd lot counts for the volume but sets no price; form T does set the prices
of second and minute bars (Massive's knowledge base: "Does a Form T trade update a pre-market minute bar").
"""

from functools import lru_cache
from typing import Final, NamedTuple

from ingest.simulator.draws import GAPS

_ODD_SHARES: Final = (1, 1, 1, 2, 2, 3, 4, 5, 5, 6, 8, 10, 10, 12, 15, 18, 20, 24, 25, 30, 36, 40, 50, 50, 60, 75, 88)
_DEPTHS: Final = tuple(GAPS[64 * i + 32] for i in range(16))


class Print(NamedTuple):
    size: int
    text: str  # from `s` to the end of `c`
    counts: bool  # sets prices


def write_conditions(codes: tuple[int, ...]) -> str:
    """The key `c` with its comma; nothing where there are no conditions."""
    return f'"c":[{",".join(map(str, codes))}],' if codes else ""


@lru_cache(maxsize=64)
def make_prints(lot: int, is_extended: bool, scale: float) -> tuple[Print, ...]:
    """1,024 trades in the mix of real life: 56 % odd lots, 25 % one round lot, blocks one in 500.

    lot: shares in a round lot; scale: of all sizes, 0.01 to 100.
    """
    return tuple(_make_print(i, lot, is_extended, scale) for i in range(1024))


def _make_print(i: int, lot: int, is_extended: bool, scale: float) -> Print:
    size = max(1, round(_choose_size(i, lot) * scale))
    is_odd = size < lot
    codes = [12] if is_extended else []
    if i * 37 % 10 < 3:
        codes += [14, 41]
    if is_odd:
        codes.append(37)
    return Print(size, f'"s":{size},{write_conditions(tuple(sorted(codes)))}', not is_odd)


def _choose_size(i: int, lot: int) -> int:
    kind, rest = i % 500, i // 16
    if kind < 280:
        return max(1, _ODD_SHARES[(i * 7 + rest) % len(_ODD_SHARES)] * lot // 100)
    if kind < 405:
        return lot
    if kind < 460:
        return lot * (2 + (i * 13 + rest) % 9)
    if kind < 495:
        return lot + 1 + (i * 29 + rest) % (4 * lot)
    return lot * (25 + (i * 17) % 60) if kind < 499 else lot * 150


@lru_cache(maxsize=256)
def make_depths(mean: float) -> tuple[str, ...]:
    """256 pairs of quoted sizes in round lots, each at least 1, as text; mean: of one side, 0.1 to 1000."""
    lots = [max(1, round(mean * depth)) for depth in _DEPTHS]
    return tuple(f'"bs":{bid},"as":{ask},' for bid in lots for ask in lots)
