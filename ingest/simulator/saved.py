"""What a market takes from one run into another, as JSON.  Pure.

Not the scenario, nor what it does: a limit state or a halt begins anew with it.
"""

from datetime import date

import msgspec

from ingest.simulator.bands import Reference
from ingest.simulator.bars import Bar, Totals


class SavedStock(msgspec.Struct):
    """One symbol.

    `trades` and `totals` are used on the same day only, and of these the minute and the second in the same one.  A run
    that begins before they were saved does not use `totals`.
    """

    fair: float
    regime: float
    trades: int
    totals: Totals  # with the trades of the second under way
    reference: Reference | None  # None: there were no bands, or it was halted


class Saved(msgspec.Struct):
    """A market between two runs."""

    day: date
    second_ms: int  # when the second under way began
    sequence: int
    imbalances: int
    stocks: dict[str, SavedStock]
    bars: list[tuple[int, list[tuple[str, Bar]]]]  # when to send, and each with its symbol
