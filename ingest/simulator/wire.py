"""Events as text: all but the quotes and trades of the hot loop (flow.py).  Pure.

Keys and their order are those of the newest live frames (shared/frames.jsonl); PROTOCOL b.2 has the units.
"""

from typing import Final

from ingest.simulator.bands import find_code
from ingest.simulator.bars import Bar, write_bar
from ingest.simulator.prices import PriceTexts
from ingest.simulator.sizes import write_conditions
from ingest.simulator.stock import Stock

_MOST_EVENTS: Final = 900  # in a frame; at 260 bytes the largest, it stays below 256 KiB
MARKED: Final = ',"test":true}'
_PRIMARY: Final = {1: 10, 2: 11, 3: 12}  # the exchange that holds the auctions of a tape's listings


class Wire:
    """What was said and not yet taken."""

    def __init__(self, ending: str) -> None:
        """ending: "}" or MARKED."""
        self.events: list[str] = []  # bound: advance() is called in steps, and takes all
        self.texts = PriceTexts()
        self.sequence = 0  # one for all symbols, as a tape's is: each symbol sees it rise, with gaps
        self.imbalances = 0
        self._ending = ending

    def take(self) -> list[bytes]:
        """The frames of all events since the last call."""
        events, self.events[:] = self.events[:], []
        parts = (events[i : i + _MOST_EVENTS] for i in range(0, len(events), _MOST_EVENTS))
        return [f"[{','.join(part)}]".encode("ascii") for part in parts]

    def _next(self) -> int:
        self.sequence += 1
        return self.sequence

    def quote(self, stock: Stock, now_ms: int) -> None:
        """The standing quote, after a change that the price's walk did not make."""
        number = self._next()
        if stock.has_quotes:
            exchange = _PRIMARY[stock.listing.tape]
            self.events.append(
                f'{stock.quote_head}"bx":{exchange},"ax":{exchange},"bp":{self.texts[stock.bid]},'
                f'"ap":{self.texts[stock.ask]},{stock.depths[85]}"t":{now_ms},"q":{number}{stock.tail}'
            )

    def trade(self, stock: Stock, size: int, price: int, codes: tuple[int, ...], now_ms: int) -> None:
        """A trade of the primary exchange's: of an auction, or a report of an official price."""
        number = self._next()
        stock.trades += 1
        if stock.has_trades:
            self.events.append(
                f'{stock.trade_head}{stock.trades}","x":{_PRIMARY[stock.listing.tape]},"p":{self.texts[price]},'
                f'"s":{size},{write_conditions(codes)}"t":{now_ms},"q":{number}{stock.tail}'
            )

    def bar(self, stock: Stock, bar: Bar) -> None:
        """A or AM."""
        if ("A" if bar.length_ms == 1000 else "AM") in stock.held:
            self.events.append(write_bar(stock.symbol, bar, self.texts, self._ending))

    def luld(self, stock: Stock, kind: int, now_ms: int) -> None:
        """The bands of now; kind: of bands.find_code."""
        code, number = find_code(kind, stock.listing.tape), self._next()
        if "LULD" in stock.held and code is not None:
            self.events.append(
                f'{{"ev":"LULD","h":{self.texts[stock.high_band]},"l":{self.texts[stock.low_band]},"i":[{code}],'
                f'"z":{stock.listing.tape},"T":"{stock.symbol}","t":{now_ms * 1_000_000},"q":{number}{self._ending}'
            )

    def imbalance(self, stock: Stock, kind: str, at: int, surplus: int, paired: int, now_ms: int) -> None:
        """NOI, in shares; kind: M core opening, C closing, H reopening; at: hhmm in New York."""
        self.imbalances += 1
        if "NOI" in stock.held:
            self.events.append(
                f'{{"ev":"NOI","T":"{stock.symbol}","t":{now_ms * 1_000_000},"at":{at},"a":"{kind}",'
                f'"i":{self.imbalances},"x":{_PRIMARY[stock.listing.tape]},"o":{surplus},"p":{paired},'
                f'"b":{self.texts[stock.middle]}{self._ending}'
            )

    def value(self, stock: Stock, now_ms: int) -> None:
        """FMV: the fair price, to a tenth of a cent."""
        if "FMV" in stock.held:
            fair = self.texts[int(stock.fair / 10 + 0.5) * 10]
            self.events.append(
                f'{{"ev":"FMV","fmv":{fair},"sym":"{stock.symbol}","t":{now_ms * 1_000_000}{self._ending}'
            )
