"""Makes a scenario's phases true in the market: the first at once, the others on whole seconds.  Pure.

A halt's life: trading stops (LULD 17 for Nasdaq's listings; quotes go wide and carry the halt's condition; no trade is
printed), imbalances are told, and when the phase is over the symbol reopens: quotes, the auction's trade with condition
28, new bands around its price (LULD 18).  A limit state's: the price is driven to the band within a third of the phase
(10 s at most), pinned there, and trades only at the band.

A jump or a drift beyond the bands, outside of a limit state or a halt, takes the bands along: a scenario may do what
the plan would not allow.  "Beyond" is where the price would have to turn, so that no quote leaves the bands.
"""

from math import ceil
from typing import Final

from ingest.simulator.auctions import Auctions
from ingest.simulator.bands import HALT
from ingest.simulator.limits import Limits
from ingest.simulator.scenario import Phase, Scenario
from ingest.simulator.stock import Factors, Stock
from ingest.simulator.wire import Wire

_CALM: Final = Phase(name="calm", seconds=0)
_MOST_DRIVE_S: Final = 10.0
_PERCENT_MOST: Final = 90  # a price never loses more at once


class Director:
    """Owns the scenario and where it has got to."""

    def __init__(self, stocks: list[Stock], wire: Wire, limits: Limits, auctions: Auctions) -> None:
        self._stocks = stocks
        self._wire = wire
        self._limits = limits
        self._auctions = auctions
        self._scenario: Scenario | None = None
        self._concerned: list[Stock] = []
        self._start_ms = 0
        self._index = -1  # of the phase; -1: the next one is new whatever it is
        self.phase = _CALM
        self._is_over = False

    def set_scenario(self, scenario: Scenario, start_ms: int) -> None:
        """It begins at that time."""
        self._scenario, self._start_ms, self._index, self._is_over = scenario, start_ms, -1, False
        self._concerned = [s for s in self._stocks if scenario.symbols is None or s.symbol in scenario.symbols]

    def on_close(self, now_ms: int) -> None:
        """A phase that lasts until the close is over; a halt stays one until the day is."""
        phase = self._find_phase(now_ms)
        self._is_over = self._is_over or (not phase.seconds and not phase.halt)

    def on_day(self, now_ms: int) -> None:
        """A new day: so is a halt until the close."""
        self._is_over = self._is_over or not self._find_phase(now_ms).seconds

    def _find_phase(self, now_ms: int) -> Phase:
        """Which it ought to be: nobody may have played when it should have begun."""
        if self._scenario is None or now_ms < self._start_ms:
            return self.phase
        return self._scenario.find((now_ms - self._start_ms) / 1000)[1]

    def on_second(self, now_ms: int, is_regular: bool) -> None:
        """What the scenario says for this second."""
        if self._scenario is not None and now_ms >= self._start_ms:
            into_s = self.change_phase(now_ms, is_regular)
            self._go_on(into_s, now_ms, is_regular)

    def change_phase(self, now_ms: int, is_regular: bool) -> float:
        """Begin the phase that the scenario has now, if it is a new one; returns the seconds into it."""
        assert self._scenario is not None, "set before"
        index, phase, into_s = self._scenario.find((now_ms - self._start_ms) / 1000)
        if self._is_over and not phase.seconds:
            index, phase = -2, _CALM
        if index != self._index:
            self._index, self.phase = index, phase
            self._change(now_ms, is_regular)
        return into_s

    def _change(self, now_ms: int, is_regular: bool) -> None:
        phase = self.phase
        concerned = {stock.symbol for stock in self._concerned}
        for stock in self._stocks:
            is_concerned = stock.symbol in concerned
            stock.factors = _get_factors(phase, phase.activity) if is_concerned else Factors()
            halt = phase.halt if is_concerned or phase.halt.startswith("level") else ""
            jump = 1 + max(-_PERCENT_MOST, phase.jump) / 100 if is_concerned else 1
            self._release(stock, now_ms)
            if halt or stock.halt:
                stock.fair *= jump
                self._set_halt(stock, halt, now_ms, is_regular)
            elif jump != 1:
                self._jump(stock, jump, now_ms, is_regular)
            else:
                stock.refit(not is_regular)

    def _release(self, stock: Stock, now_ms: int) -> None:
        if stock.limit:
            stock.limit = ""
            self._limits.repeat(stock, now_ms)

    def _set_halt(self, stock: Stock, halt: str, now_ms: int, is_regular: bool) -> None:
        was, stock.halt = stock.halt, halt
        if halt and not was and is_regular:
            self._wire.luld(stock, HALT, now_ms)
        stock.low_band = stock.high_band = 0  # or neither the halt's quotes nor the reopening could leave the old ones
        stock.refit(not is_regular)
        stock.requote()
        self._wire.quote(stock, now_ms)
        if was and not halt and is_regular:
            self._auctions.reopen(stock, now_ms)
            self._limits.restart(stock, now_ms, is_reopening=True)

    def _jump(self, stock: Stock, factor: float, now_ms: int, is_regular: bool) -> None:
        stock.fair *= factor
        stock.refit(not is_regular)  # its bounds may be others now: with the scenario's spread, or across a dollar
        if stock.low_band and not stock.low <= stock.fair <= stock.high:
            stock.low_band = stock.high_band = 0
            stock.refit(not is_regular)
        stock.requote()
        self._wire.quote(stock, now_ms)
        if is_regular and not stock.low_band:
            self._limits.restart(stock, now_ms, is_reopening=False)

    def _go_on(self, into_s: float, now_ms: int, is_regular: bool) -> None:
        phase = self.phase
        for stock in self._stocks if phase.halt.startswith("level") else self._concerned:
            if phase.activity_to is not None and phase.seconds:
                stock.factors = _get_factors(phase, _find_activity(phase, into_s))
                if not stock.limit:
                    stock.refit(not is_regular)
            if stock.halt:
                if phase.seconds and is_regular:
                    self._auctions.tell_reopening(stock, now_ms + int((phase.seconds - into_s) * 1000), now_ms)
            elif phase.limit and stock.low_band:
                self._drive(stock, into_s, now_ms)
            elif phase.drift and phase.seconds:
                self._drift(stock, _find_step(phase, into_s), now_ms, is_regular)

    def _drift(self, stock: Stock, factor: float, now_ms: int, is_regular: bool) -> None:
        if not stock.low <= stock.fair * factor <= stock.high:
            self._jump(stock, factor, now_ms, is_regular)
        else:
            stock.fair *= factor

    def _drive(self, stock: Stock, into_s: float, now_ms: int) -> None:
        """Towards the band, and into the limit state."""
        left_s = min(_MOST_DRIVE_S, self.phase.seconds / 3 or _MOST_DRIVE_S) - into_s
        if stock.limit:
            return
        if left_s > 1:
            band = stock.high_band if self.phase.limit == "up" else stock.low_band
            stock.fair += (band - stock.fair) / left_s
            return
        stock.pin(self.phase.limit)
        self._wire.quote(stock, now_ms)
        self._limits.repeat(stock, now_ms)


def _get_factors(phase: Phase, activity: float) -> Factors:
    return Factors(phase.volatility, activity, phase.spread, phase.size)


def _find_activity(phase: Phase, into_s: float) -> float:
    """Geometric from `activity` to `activity_to`."""
    assert phase.activity_to is not None
    return float(phase.activity * (phase.activity_to / phase.activity) ** min(1.0, into_s / phase.seconds))


def _find_step(phase: Phase, into_s: float) -> float:
    """A drift's factor in one second: one for each whole second that the phase holds makes its percent."""
    # They come a second apart, the first of them within the phase's first second.
    steps = ceil(round(phase.seconds - into_s % 1, 6))
    return float((1 + phase.drift / 100) ** (1 / steps))
