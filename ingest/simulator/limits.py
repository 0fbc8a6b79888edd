"""The bands of all symbols in the course of a day: when they begin, move, double and end.  Pure."""

from collections.abc import Mapping

from ingest.simulator.bands import DOUBLED_MS, LOOK_MS, REOPENING, REPEAT, UPDATE, Reference, make_bands
from ingest.simulator.hours import Day
from ingest.simulator.stock import Stock
from ingest.simulator.wire import Wire


class Limits:
    """Sets the bands of the stocks, and says so in LULD events."""

    def __init__(self, stocks: list[Stock], wire: Wire) -> None:
        self._stocks = stocks
        self._wire = wire
        self._references: dict[str, Reference] = {}  # empty while there are no bands
        self._is_doubled = False

    def begin(self, day: Day, now_ms: int, references: Mapping[str, Reference]) -> None:
        """The regular session: first bands of all symbols, around the price of now, which is the official open.

        references: those of another run that go on, by symbol.
        """
        self._is_doubled = _is_doubled(day, now_ms)
        for stock in self._stocks:
            price = stock.middle
            self._references[stock.symbol] = references.get(stock.symbol) or Reference(price, price)
            if not stock.halt:
                self._publish(stock, UPDATE, now_ms)

    def find_reference(self, stock: Stock) -> Reference | None:
        """What another run goes on with; None where that begins anew: without bands, and after a halt."""
        return None if stock.halt else self._references.get(stock.symbol)

    def end(self) -> None:
        """After the close there are none."""
        self._references.clear()
        for stock in self._stocks:
            stock.limit = ""
            stock.low_band = stock.high_band = 0

    def add(self, stock: Stock) -> None:
        """Its trades of a second."""
        reference = self._references.get(stock.symbol)
        if reference is not None:
            reference.add(stock.last_sales)

    def on_second(self, day: Day, now_ms: int) -> None:
        """Move what must be moved."""
        if not self._references:
            return
        if _is_doubled(day, now_ms) != self._is_doubled:
            self._is_doubled = not self._is_doubled
            for stock in self._stocks:
                self._move(stock, now_ms)
        if now_ms % LOOK_MS == 0:
            for stock in self._stocks:
                # In a limit state or a halt the reference stays what it is.
                if self._references[stock.symbol].look(is_fixed=bool(stock.limit or stock.halt)):
                    self._publish(stock, UPDATE, now_ms)

    def _move(self, stock: Stock, now_ms: int) -> None:
        if not (stock.limit or stock.halt):
            before = stock.low_band, stock.high_band
            self._set(stock)
            if before != (stock.low_band, stock.high_band):
                self._publish(stock, UPDATE, now_ms)

    def restart(self, stock: Stock, now_ms: int, is_reopening: bool) -> None:
        """Bands around the price of now, after a reopening or where a scenario's jump left the old ones."""
        reference = self._references.get(stock.symbol)
        if reference is not None:
            reference.restart(stock.middle)
            self._publish(stock, REOPENING if is_reopening else UPDATE, now_ms)

    def repeat(self, stock: Stock, now_ms: int) -> None:
        """A limit state begins or ends."""
        self._wire.luld(stock, REPEAT, now_ms)

    def _publish(self, stock: Stock, kind: int, now_ms: int) -> None:
        self._set(stock)
        self._wire.luld(stock, kind, now_ms)
        stock.refit(is_extended=False)

    def _set(self, stock: Stock) -> None:
        reference = self._references[stock.symbol]
        stock.low_band, stock.high_band = make_bands(
            reference.price, stock.listing.tier, reference.base, self._is_doubled
        )


def _is_doubled(day: Day, now_ms: int) -> bool:
    return day.close_ms - DOUBLED_MS <= now_ms < day.close_ms
