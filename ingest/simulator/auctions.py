"""Auctions: opening, closing, reopening, and the imbalances (NOI) that are told before them.  Pure.

Conditions are those of Polygon's glossary: 8 closing print, 9 cross, 25 opening print, 28 reopening print; 15 and 16
report the official close and open, which count for nothing.  Which of them the tapes combine differs by exchange.
"""

from typing import Final

from ingest.simulator.hours import Day, write_hhmm
from ingest.simulator.stock import Stock
from ingest.simulator.wire import Wire

_OPENING: Final = (9, 25)
_CLOSING: Final = (8, 9)
_REOPENING: Final = (28,)
_OFFICIAL_CLOSE: Final = (15,)
_OFFICIAL_OPEN: Final = (16,)
_STEP_MS: Final = 5000  # between imbalances
_BEFORE_OPEN_MS: Final = 120_000
_BEFORE_CLOSE_MS: Final = 600_000
_CORE_OPENING, _CLOSE, _REOPEN = "M", "C", "H"  # NOI's auction types; O would be Arca's early opening at 4:00


class Auctions:
    """Makes the auctions' trades."""

    def __init__(self, stocks: list[Stock], wire: Wire) -> None:
        self._stocks = stocks
        self._wire = wire

    def open(self, now_ms: int) -> None:
        """The opening auction of all that is not halted: it sets the official open."""
        for stock in self._stocks:
            if not stock.halt:
                self._cross(stock, _get_shares(stock, 4), _OPENING, now_ms)
                self._set_open(stock, now_ms)

    def close(self, now_ms: int) -> None:
        """The closing auction of all that is not halted."""
        for stock in self._stocks:
            if not stock.halt:
                shares = _get_shares(stock, 16)
                self._cross(stock, shares, _CLOSING, now_ms)
                self._wire.trade(stock, shares, stock.middle, _OFFICIAL_CLOSE, now_ms)

    def reopen(self, stock: Stock, now_ms: int) -> None:
        """The auction that ends a halt; it is the official open if there was none before."""
        self._cross(stock, _get_shares(stock, 2), _REOPENING, now_ms)
        if stock.totals.official_open is None:
            self._set_open(stock, now_ms)

    def _cross(self, stock: Stock, shares: int, codes: tuple[int, ...], now_ms: int) -> None:
        price = stock.middle
        self._wire.trade(stock, shares, price, codes, now_ms)
        stock.prices.append(price)
        stock.sizes.append(shares)
        stock.last_sales.append(price)

    def _set_open(self, stock: Stock, now_ms: int) -> None:
        stock.totals.official_open = stock.middle
        self._wire.trade(stock, _get_shares(stock, 4), stock.middle, _OFFICIAL_OPEN, now_ms)

    def tell_imbalances(self, day: Day, now_ms: int) -> None:
        """From 9:28 and from 15:50 on, every five seconds."""
        if now_ms % _STEP_MS:
            return
        if day.open_ms - _BEFORE_OPEN_MS <= now_ms < day.open_ms:
            self._tell(_CORE_OPENING, day.open_ms, _BEFORE_OPEN_MS, 4, now_ms)
        elif day.close_ms - _BEFORE_CLOSE_MS <= now_ms < day.close_ms:
            self._tell(_CLOSE, day.close_ms, _BEFORE_CLOSE_MS, 16, now_ms)

    def _tell(self, kind: str, at_ms: int, before_ms: int, part: int, now_ms: int) -> None:
        for stock in self._stocks:
            if not stock.halt:
                self._tell_one(stock, kind, at_ms, before_ms, part, now_ms)

    def tell_reopening(self, stock: Stock, at_ms: int, now_ms: int) -> None:
        """The imbalance of a halted symbol, every five seconds; at_ms: when it will reopen."""
        if now_ms % _STEP_MS == 0:
            self._tell_one(stock, _REOPEN, at_ms, max(1, at_ms - now_ms) + 60_000, 2, now_ms)

    def _tell_one(self, stock: Stock, kind: str, at_ms: int, before_ms: int, part: int, now_ms: int) -> None:
        """The pairs grow and the surplus shrinks towards the auction."""
        left = min(1.0, max(0.0, (at_ms - now_ms) / before_ms))
        shares = _get_shares(stock, part)
        surplus = int(shares * left * (1 + now_ms // _STEP_MS * 7 % 5) / 12)
        self._wire.imbalance(stock, kind, write_hhmm(at_ms), surplus, shares - int(shares * left * 0.7), now_ms)


def _get_shares(stock: Stock, part: int) -> int:
    """Of an auction: the busier the symbol, the more."""
    return (1 + stock.listing.weight // 100) * part * max(1, stock.lot // 4)
