"""The stream of quotes and trades: the hot loop.  Pure.

Events of all symbols are one Poisson process: the next one comes after an exponential gap, and whose it is is drawn by
weight.  So it costs the same at any rate, and where the process is cut (advance() in slices) does not matter.
"""

from collections.abc import Iterator
from random import Random
from typing import Final

from ingest.simulator.draws import (
    ASK,
    BID,
    FINRA,
    GAPS,
    GAUSS,
    MOST_TRADE,
    QUOTE_EXCHANGES,
    TRADE_EXCHANGES,
    Draw,
    make_draws,
)
from ingest.simulator.stock import Stock
from ingest.simulator.wire import Wire

_MILLIS: Final = tuple(f"{ms:03d}" for ms in range(1000))
_SMALL: Final = 256  # symbols, up to which a table of 4,096 places is fine enough
_IDLE_MS: Final = 1e15  # the mean gap when nothing is traded


class Flow:
    """Writes quotes and trades into `wire`, and what was traded into the stocks."""

    def __init__(self, stocks: list[Stock], random: Random, wire: Wire) -> None:
        self._stocks = stocks
        self._random = random
        self._wire = wire
        self._draws: Iterator[Draw] = iter(())
        self._shift = 4 if len(stocks) <= _SMALL else 0
        self._weights: list[float] = []
        self._pick: list[Stock] = []
        self._gap_ms = _IDLE_MS
        self._at_ms = _IDLE_MS  # the next event, counted from the start of this second

    def start(self, offset_ms: float) -> None:
        """Nothing comes before that offset into this second."""
        self._at_ms = offset_ms + GAPS[self._random.getrandbits(10)] * self._gap_ms

    def set_rate(self, rate: float, offset_ms: float) -> None:
        """Events per second from that offset into this second on, up to which run() has come.

        The rest of the gap under way is stretched, since it has no memory.
        """
        gap_ms = 1000 / rate if rate > 0 else _IDLE_MS
        self._at_ms = offset_ms + (self._at_ms - offset_ms) * (gap_ms / self._gap_ms)
        self._gap_ms = gap_ms

    def set_weights(self, weights: list[float]) -> None:
        """One for each stock; not all 0."""
        if weights == self._weights:
            return
        self._weights = weights
        places, total = 65_536 >> self._shift, sum(weights)
        self._pick, reached = [], 0.0
        for stock, weight in zip(self._stocks, weights, strict=True):
            reached += weight
            # A symbol with any weight has a place, a table may thereby grow a little; the surplus is never drawn.
            count = round(reached / total * places) - len(self._pick)
            self._pick += [stock] * (max(1, count) if weight else 0)
        self._pick += [self._stocks[0]] * (places - len(self._pick))

    def next_second(self) -> None:
        """A second has passed."""
        self._at_ms -= 1000

    def run(self, second: int, until_ms: float) -> None:
        """Everything up to an offset into a second (Unix time)."""
        if self._at_ms >= until_ms:
            return
        pick, shift, gap, wire = self._pick, self._shift, self._gap_ms, self._wire
        at, sequence, texts, append = self._at_ms, wire.sequence, wire.texts, wire.events.append
        while at < until_ms:
            for a, b, c, d in self._draws:
                stock = pick[a >> shift]
                kind = b & 63
                sequence += 1
                if kind >= MOST_TRADE:
                    fair = stock.fair + GAUSS[b >> 6] * stock.sigma
                    if not stock.low <= fair <= stock.high:
                        fair = stock.low if fair < stock.low else stock.high
                    stock.fair = fair
                    half, width = stock.widths[d >> 10]
                    stock.bid = bid = int(fair * stock.ticks - half) * stock.tick
                    stock.ask = ask = bid + width
                    if stock.has_quotes:
                        append(
                            f'{stock.quote_head}{QUOTE_EXCHANGES[c & 255]}"bp":{texts[bid]},"ap":{texts[ask]},'
                            f'{stock.depths[c >> 8]}"t":{second}{_MILLIS[int(at)]},"q":{sequence}{stock.tail}'
                        )
                elif not stock.halt:
                    size, sized, counts = stock.prints[c & 1023]
                    side, exchange = stock.sides[d >> 10], TRADE_EXCHANGES[c >> 10]
                    if side == BID:
                        price = stock.bid
                    elif side == ASK:
                        price = stock.ask
                    else:
                        price, exchange = (stock.bid + stock.ask) // 2, FINRA
                    stock.trades = number = stock.trades + 1
                    stock.prices.append(price)
                    stock.sizes.append(size)
                    if counts:
                        stock.last_sales.append(price)
                    if stock.has_trades:
                        append(
                            f'{stock.trade_head}{number}","x":{exchange},"p":{texts[price]},'
                            f'{sized}"t":{second}{_MILLIS[int(at)]},"q":{sequence}{stock.tail}'
                        )
                at += GAPS[d & 1023] * gap
                if at >= until_ms:
                    break
            else:
                self._draws = make_draws(self._random)
        self._at_ms, wire.sequence = at, sequence
