"""Limit up, limit down: the price bands of the National Market System plan.  Pure.

The reference price is the mean of the trades of the last five minutes; it is looked at every 30 seconds and changed
only if it moved by 1 % or more.  Bands are a part of it to either side, from 9:30 to 16:00:

| reference   | tier 1 | tier 2 | 15:35 to 16:00           |
|-------------|--------|--------|--------------------------|
| over $3     | 5 %    | 10 %   | doubled for tier 1 only  |
| $0.75 to $3 | 20 %   | 20 %   | doubled                  |
| below $0.75 | the lesser of $0.15 and 75 % | doubled    |

Bands are no longer doubled from 9:30 to 9:45 (amendment 18 of the plan, February 2020; Massive's live bands of IWM at
9:38 on 2026-08-28 were at 5 %).  Which row holds is decided by the close of the day before; here, by the first price
of the day.

Codes of LULD events are those of Polygon's glossary; 17 and 18 are sent for Nasdaq's listings only.  What code the
first bands of a day have is not documented, nor is one for a limit state, which the tapes put into quotes: the former
are sent as any other bands, the beginning and the end of a limit state as a repetition of the bands.
"""

from typing import Final

import msgspec

from ingest.simulator.listing import DOLLAR
from ingest.simulator.prices import divide

DOUBLED_MS: Final = 25 * 60_000  # before the close
LOOK_MS: Final = 30_000
_LOOKS: Final = 10  # are five minutes
_NASDAQ: Final = 3
UPDATE, REPEAT, HALT, REOPENING = range(4)
_CODES: Final = {UPDATE: (21, 15), REPEAT: (22, 16), HALT: (None, 17), REOPENING: (21, 18)}  # tapes 1 and 2, tape 3


def find_code(kind: int, tape: int) -> int | None:
    """The indicator of an LULD event; None: no such event on this tape."""
    return _CODES[kind][tape == _NASDAQ]


def make_bands(reference: int, tier: int, base: int, is_doubled: bool) -> tuple[int, int]:
    """Low and high in 1/10,000 dollar, on whole cents; base: the price that decides the row."""
    if base > 3 * DOLLAR:
        width = reference * (5 if tier == 1 else 10) / 100
        factor = 2 if is_doubled and tier == 1 else 1
    elif base >= 0.75 * DOLLAR:
        width, factor = reference * 20 / 100, 1 + is_doubled
    else:
        width, factor = min(0.15 * DOLLAR, reference * 75 / 100), 1 + is_doubled
    low, high = reference - factor * width, reference + factor * width
    return max(100, int(low / 100 + 0.5) * 100), int(high / 100 + 0.5) * 100


class Reference(msgspec.Struct):
    """The reference price of one symbol."""

    price: int
    base: int
    total: int = 0  # since the last look
    count: int = 0
    looks: list[tuple[int, int]] = msgspec.field(default_factory=list)  # of the last five minutes

    def add(self, last_sales: list[int]) -> None:
        """Prices of trades that set prices."""
        self.total += sum(last_sales)
        self.count += len(last_sales)

    def look(self, is_fixed: bool) -> bool:
        """Every 30 seconds: whether the price changed; `is_fixed`: it must not, but the five minutes go on."""
        self.looks = [*self.looks[1 - _LOOKS :], (self.total, self.count)]
        self.total, self.count = 0, 0
        count = sum(count for _, count in self.looks)
        if is_fixed or not count:
            return False
        mean = divide(sum(total for total, _ in self.looks), count)
        if abs(mean - self.price) * 100 < self.price:
            return False
        self.price = mean
        return True

    def restart(self, price: int) -> None:
        """After a reopening or a jump: what was traded before counts no more."""
        self.price = price
        self.total, self.count = 0, 0
        self.looks.clear()
