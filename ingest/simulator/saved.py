"""What a market takes from one run into another, as JSON.  Pure.

Not the scenario, nor what it does: a limit state or a halt begins anew with it.
"""

from datetime import date

import msgspec

from ingest.simulator.bands import Reference
from ingest.simulator.bars import Bar, Totals, close_minute, close_second


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

    def leave(self, second_ms: int, jump: int) -> "SavedStock":
        """What is kept while it is not simulated: its bars under way are lost.  jump: added to its trade ids."""
        close_second(self.totals, second_ms, [], [], [])
        close_minute(self.totals, second_ms)
        return SavedStock(self.fair, self.regime, self.trades + jump, self.totals, None)


class Saved(msgspec.Struct):
    """A market between two runs."""

    day: date
    second_ms: int  # when the second under way began
    sequence: int
    imbalances: int
    stocks: dict[str, SavedStock]  # those that left on this day first
    bars: list[tuple[int, list[tuple[str, Bar]]]]  # when to send, and each with its symbol
