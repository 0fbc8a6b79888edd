"""The simulated market: simulated time in, frames out.  Pure.

Everything but quotes and trades (flow.py's) happens on whole seconds, in the order of `_begin_second`; only a scenario
begins when it is set.  The market is a function of its seed, start, rate, symbols and scenarios: neither what is held
nor the steps in which it is advanced change an event.
"""

from collections import deque
from random import Random
from typing import Final

import msgspec

from ingest.simulator.auctions import Auctions
from ingest.simulator.bands import Reference
from ingest.simulator.bars import Bar, Totals, close_minute, close_second, count_second
from ingest.simulator.director import Director
from ingest.simulator.draws import GAUSS
from ingest.simulator.flow import Flow
from ingest.simulator.hours import CLOSED, EXTENDED, REGULAR, Day, Hours
from ingest.simulator.limits import Limits
from ingest.simulator.listing import make_listings
from ingest.simulator.saved import Saved, SavedStock
from ingest.simulator.scenario import Scenario
from ingest.simulator.stock import Stock
from ingest.simulator.wire import MARKED, Wire

TYPES: Final = ("T", "Q", "A", "AM", "LULD", "NOI", "FMV")
_BAR_DELAY_MS: Final = 2000  # from a bar's end to when it is sent
_VALUE_EVERY_S: Final = 10
_QUOTES: Final = 0.8  # of all quotes and trades
# Added to `q` and to trade ids after an old state: what came after that state was saved used some that it does not know
# of.  More than one core makes in 20 s; a market is saved every second, unless Redis is away.
_JUMP: Final = 10_000_000
_MOST_ABSENT: Final = 1000  # those that left before them, if they return, begin anew: the same trade ids again


class Market:
    """rate: quotes and trades per second of all symbols together, when the day's shape is 1."""

    def __init__(
        self,
        symbols: tuple[str, ...],
        seed: int,
        rate: float,
        start_ms: int,
        marker: bool = False,
        state: bytes | None = None,
        always_open: bool = True,
        is_old: bool = False,
    ) -> None:
        """symbols: at least one.  state: of get_state(); raises msgspec.MsgspecError if it is none.

        is_old: events may have been made since the state was.
        """
        listings = make_listings(symbols)
        self._rate, self._total = rate, float(sum(listing.weight for listing in listings))
        ending = MARKED if marker else "}"
        self._wire = Wire(ending)
        quotes_s = rate * _QUOTES / self._total
        self._stocks = [Stock(listing, quotes_s * listing.weight, ending) for listing in listings]
        self._flow = Flow(self._stocks, Random(seed), self._wire)
        self._slow = Random(f"slow {seed}")
        self._hours = Hours(always_open)
        self._limits = Limits(self._stocks, self._wire)
        self._auctions = Auctions(self._stocks, self._wire)
        self._director = Director(self._stocks, self._wire, self._limits, self._auctions)
        self._bars: deque[tuple[int, list[tuple[Stock, Bar]]]] = deque()  # when to send; three seconds of them
        self._second_ms = start_ms - start_ms % 1000
        self._offset_ms = start_ms % 1000
        self._date = self._hours.get_day(start_ms).date
        self._session: int | None = None  # None: nothing happened yet
        self._has_begun = False  # this second
        self._references: dict[str, Reference] = {}  # of another run, until the first second begins
        self._absent: dict[str, SavedStock] = {}  # which other runs played on this day; who left last is the last
        if state is not None:
            self._load(state, _JUMP if is_old else 0)

    def set_held(self, held: frozenset[str]) -> None:
        """The channels whose events are emitted: EV.SYM, EV.* or *."""
        everywhere = frozenset(ev for ev in TYPES if "*" in held or f"{ev}.*" in held)
        for stock in self._stocks:
            stock.hold(everywhere | {ev for ev in TYPES if f"{ev}.{stock.symbol}" in held})

    def set_scenario(self, scenario: Scenario, now_ms: int) -> None:
        """From now on; `now_ms` is how far the market was advanced."""
        now_ms = max(now_ms, self._second_ms)
        self._director.set_scenario(scenario, now_ms)
        if self._has_begun:
            self._director.change_phase(now_ms, self._session == REGULAR)
            self._set_rate(now_ms - self._second_ms)

    @property
    def now_ms(self) -> int:
        """When the second under way began, or the next one will: after the day's last bars the next day's start."""
        return self._second_ms

    def advance(self, to_ms: int) -> list[bytes]:
        """What happens before `to_ms` and was not told yet.  Costs time by the event: take small steps."""
        while self._second_ms < to_ms:
            if not self._has_begun:
                self._begin_second()
            left_ms = to_ms - self._second_ms
            self._flow.run(self._second_ms // 1000, min(1000, left_ms))
            if left_ms < 1000:
                break
            self._end_second()
        return self._wire.take()

    def skip_to(self, to_ms: int) -> None:
        """Nothing happens until the second of `to_ms`: the world went on while nobody played this market.

        The scenario goes on with it.  Bars end where the market stood still, and are sent.
        """
        second_ms = to_ms - to_ms % 1000
        if second_ms <= self._second_ms:
            return
        if self._has_begun or any(stock.totals.second.trades for stock in self._stocks):  # of another run, perhaps
            self._end_second()
            self._flow.start(0)
        close_ms = self._hours.get_day(self._second_ms).close_ms
        if self._second_ms <= close_ms < second_ms:
            self._director.on_close(close_ms)  # which no second will begin at
        if second_ms // 60_000 > self._second_ms // 60_000:
            self._queue_bars(self._close_minutes(self._second_ms - self._second_ms % 60_000))
        self._second_ms = max(second_ms, self._second_ms)

    def _close_minutes(self, start_ms: int) -> list[tuple[Stock, Bar]]:
        minutes = ((stock, close_minute(stock.totals, start_ms)) for stock in self._stocks)
        return [(stock, bar) for stock, bar in minutes if bar is not None]

    def _queue_bars(self, bars: list[tuple[Stock, Bar]]) -> None:
        if bars:
            self._bars.append((self._second_ms + _BAR_DELAY_MS, bars))

    def _end_second(self) -> None:
        now_ms, bars, self._has_begun = self._second_ms, [], False
        for stock in self._stocks:
            if stock.sizes or stock.totals.second.trades:
                bar = close_second(stock.totals, now_ms, stock.prices, stock.sizes, stock.last_sales)
                bars += [] if bar is None else [(stock, bar)]
                self._limits.add(stock)
                stock.prices.clear()
                stock.sizes.clear()
                stock.last_sales.clear()
        self._second_ms += 1000
        self._flow.next_second()
        if self._second_ms % 60_000 == 0:
            bars += self._close_minutes(self._second_ms - 60_000)
        self._queue_bars(bars)
        if not self._bars and self._hours.is_over(self._second_ms):
            self._second_ms = self._hours.find_start(self._second_ms)

    def _begin_second(self) -> None:
        now_ms, is_first, self._has_begun = self._second_ms, self._session is None, True
        while self._bars and self._bars[0][0] <= now_ms:
            for stock, bar in self._bars.popleft()[1]:
                self._wire.bar(stock, bar)
        day = self._hours.get_day(now_ms)
        is_new = day.date != self._date
        if is_new:
            self._begin_day(day)
        self._set_session(day, is_new)
        self._director.on_second(now_ms, self._session == REGULAR)
        self._limits.on_second(day, now_ms)
        self._auctions.tell_imbalances(day, now_ms)
        if self._session != CLOSED:
            for stock in self._stocks[now_ms // 1000 % _VALUE_EVERY_S :: _VALUE_EVERY_S]:
                self._wire.value(stock, now_ms)
        self._change_regimes()
        self._set_rate(0)
        if is_first:
            self._flow.start(self._offset_ms)

    def _begin_day(self, day: Day) -> None:
        self._date = day.date
        self._absent.clear()
        self._wire.sequence = 0
        self._director.on_day(self._second_ms)
        for stock in self._stocks:
            stock.totals = Totals()
            stock.trades = 0

    def _set_session(self, day: Day, is_new_day: bool) -> None:
        now_ms = self._second_ms
        session = self._hours.get_session(now_ms)
        opens, closes = (
            (now_ms == day.open_ms, now_ms == day.close_ms) if day.open_ms < day.close_ms else (False, False)
        )
        if not (opens or closes or is_new_day or session != self._session):
            return
        self._session = session
        if closes:
            self._director.on_close(now_ms)
        if session != REGULAR:
            self._limits.end()
        for stock in self._stocks:
            stock.limit = ""  # whose phase goes on is pinned again, at a band of now
            stock.refit(session == EXTENDED)
        if opens:
            self._auctions.open(now_ms)
        if closes:
            self._auctions.close(now_ms)
        references, self._references = {} if opens else self._references, {}
        if session == REGULAR and not closes:
            self._begin_session(day, now_ms, references)

    def _begin_session(self, day: Day, now_ms: int, references: dict[str, Reference]) -> None:
        for stock in self._stocks:
            if stock.totals.official_open is None and not stock.halt:
                stock.totals.official_open = stock.middle  # nobody saw the auction: we started in the middle of the day
        self._limits.begin(day, now_ms, references)

    def _change_regimes(self) -> None:
        """Each symbol's once a minute, not all at once."""
        for stock in self._stocks[self._second_ms // 1000 % 60 :: 60]:
            moved = stock.regime * (1 + 0.05 * GAUSS[self._slow.getrandbits(10)])
            stock.regime = min(2.0, max(0.5, moved + 0.05 * (1 - moved)))
            if not stock.limit:
                stock.refit(self._session == EXTENDED)

    def _set_rate(self, offset_ms: int) -> None:
        weights = [stock.activity for stock in self._stocks]
        total = sum(weights)
        if total > 0:
            self._flow.set_weights(weights)
        self._flow.set_rate(self._rate * self._hours.get_shape(self._second_ms) * total / self._total, offset_ms)

    def get_state(self) -> bytes:
        """For another run: prices go on where they were, and on the same day the day's totals and the bands."""
        stocks = self._absent | {stock.symbol: self._save(stock) for stock in self._stocks}
        bars = [(at_ms, [(stock.symbol, bar) for stock, bar in some]) for at_ms, some in self._bars]
        wire = self._wire
        return msgspec.json.encode(Saved(self._date, self._second_ms, wire.sequence, wire.imbalances, stocks, bars))

    def _save(self, stock: Stock) -> SavedStock:
        totals = count_second(stock.totals, stock.prices, stock.sizes, stock.last_sales)
        return SavedStock(stock.fair, stock.regime, stock.trades, totals, self._limits.find_reference(stock))

    def _load(self, state: bytes, jump: int) -> None:
        saved = msgspec.json.decode(state, type=Saved)
        stocks = {stock.symbol: stock for stock in self._stocks if stock.symbol in saved.stocks}
        for symbol, stock in stocks.items():
            stock.fair, stock.regime = saved.stocks[symbol].fair, saved.stocks[symbol].regime
            stock.refit(is_extended=False)
            stock.requote()
            if saved.day >= self._date:  # after a fast run even tomorrow's: then today's ids were used, too
                stock.trades = saved.stocks[symbol].trades + jump
        if saved.day < self._date:
            return
        self._wire.sequence, self._wire.imbalances = saved.sequence + jump, saved.imbalances + jump
        absent = [(symbol, stock) for symbol, stock in saved.stocks.items() if symbol not in stocks]
        self._absent = {symbol: stock.leave(saved.second_ms, jump) for symbol, stock in absent[-_MOST_ABSENT:]}
        if saved.second_ms > self._second_ms:  # this run begins earlier: what they are totals of has not happened yet
            for left in self._absent.values():
                left.totals = Totals()
            return
        for symbol, stock in stocks.items():
            self._load_totals(stock, saved.stocks[symbol], saved.second_ms)
        if not jump:  # else some may have been sent
            self._bars.extend(
                (at_ms, [(stocks[s], bar) for s, bar in some if s in stocks]) for at_ms, some in saved.bars
            )

    def _load_totals(self, stock: Stock, saved: SavedStock, second_ms: int) -> None:
        stock.totals = saved.totals
        if second_ms != self._second_ms:
            close_second(stock.totals, second_ms, [], [], [])  # its bar would come without what followed
        if second_ms // 60_000 != self._second_ms // 60_000:
            close_minute(stock.totals, second_ms)
        if saved.reference is not None:
            self._references[stock.symbol] = saved.reference
