"""One symbol: its price, its quotes, and the conditions under which it trades at the moment.  Pure.

The fair price walks by itself and the quotes stand around it; trades are made at the quotes or in the middle.
`flow.py` moves the price, at every quote; all else here changes on whole seconds only.
"""

from functools import lru_cache
from math import inf, sqrt
from typing import Final, NamedTuple

from ingest.simulator.bars import Totals
from ingest.simulator.draws import ASK, BID, SIDES
from ingest.simulator.listing import DOLLAR, Listing, get_round_lot
from ingest.simulator.sizes import Print, make_depths, make_prints

QUIET_SIGMA: Final = 0.016 / sqrt(23_400)  # of the price in one second: 1.6 % in a regular day
_MOST_STEP: Final = 0.01  # of the price at one quote, however rarely it is quoted
_MOST_WIDTH: Final = 0.2  # of the price
_MOST_PRICE: Final = 5_000_000 * DOLLAR  # and least 0.01; the price turns there
_LEAST_PRICE: Final = DOLLAR // 100
_HALT_WIDTH: Final = 0.1  # of the price: quotes of a halted symbol
_HALT_ACTIVITY: Final = 0.02
_LIMIT_SIDES: Final = {"up": (BID,) * 64, "down": (ASK,) * 64}

# Quote conditions of Polygon's list.
OPEN_QUOTE: Final = 1
HALT_QUOTES: Final = {"luld": 43, "news": 27, "level1": 36, "level2": 37, "level3": 38}


@lru_cache(maxsize=4096)
def _make_widths(usual: float, most: int, tick: int) -> tuple[tuple[float, int], ...]:
    """64 spreads from 0.6 to 1.8 times the usual one: half of it in ticks, and all of it in 1/10,000 dollar."""
    widths = [max(1, round(usual * (0.6 + 1.2 * i / 63))) for i in range(64)]
    return tuple((min(width, most or width) / 2, min(width, most or width) * tick) for width in widths)


class Factors(NamedTuple):
    """What a scenario makes of a symbol; 1 is normal."""

    volatility: float = 1
    activity: float = 1
    spread: float = 1
    size: float = 1


class Stock:
    """Prices are in 1/10,000 dollar."""

    __slots__ = (
        "ask",
        "bid",
        "depths",
        "factors",
        "fair",
        "halt",
        "has_quotes",
        "has_trades",
        "held",
        "high",
        "high_band",
        "last_sales",
        "limit",
        "listing",
        "lot",
        "low",
        "low_band",
        "prices",
        "prints",
        "quote_head",
        "quotes_s",
        "regime",
        "sides",
        "sigma",
        "sizes",
        "symbol",
        "tail",
        "tick",
        "ticks",
        "totals",
        "trade_head",
        "trades",
        "widths",
    )  # fmt: skip

    def __init__(self, listing: Listing, quotes_s: float, ending: str) -> None:
        """quotes_s: quotes per second at shape 1; ending: what ends each event, "}" at least."""
        self.listing = listing
        self.symbol = listing.symbol
        self.quotes_s = quotes_s
        self.fair = float(listing.price)
        self.lot = get_round_lot(listing.price)
        self.tick = 100 if listing.price >= DOLLAR else 1
        self.ticks = 1 / self.tick
        self.factors = Factors()
        self.regime = 1.0  # of volatility; changes slowly by itself
        self.halt = ""  # a key of HALT_QUOTES
        self.limit = ""  # "up" or "down" while it is pinned at a band
        self.low_band, self.high_band = 0, 0  # 0: there are none now
        self.totals = Totals()
        self.trades = 0  # of this day; gives trade ids
        # The trades of this second: prices and sizes of all, and prices of those that set prices (a tape's last sales).
        self.prices: list[int] = []
        self.sizes: list[int] = []
        self.last_sales: list[int] = []
        self.held: frozenset[str] = frozenset()  # event types
        self.has_quotes = self.has_trades = False  # held
        self.trade_head = f'{{"ev":"T","sym":"{self.symbol}","i":"'
        self.tail = f',"z":{listing.tape}{ending}'
        self.refit(is_extended=False)
        self.requote()

    def hold(self, types: frozenset[str]) -> None:
        """Which types of its events are emitted."""
        self.held = types
        self.has_quotes, self.has_trades = "Q" in types, "T" in types

    @property
    def activity(self) -> float:
        """Its part of all events, times what the scenario makes of it."""
        return self.listing.weight * (_HALT_ACTIVITY if self.halt else self.factors.activity)

    def refit(self, is_extended: bool) -> None:
        """Take the present factors, regime, price, halt and bands into account."""
        factors, fair = self.factors, self.fair
        self._choose_tick()
        stress = factors.volatility * self.regime
        relative = QUIET_SIGMA * stress / sqrt(max(1e-9, self.quotes_s * factors.activity))
        self.sigma = 0.0 if self.halt or self.limit else min(_MOST_STEP, relative) * fair
        # Quiet, it is a tick or a little more; a busy symbol's is the tick.
        quiet = max(0.8 * self.tick, (0.00003 + 0.003 / self.listing.weight) * fair)
        usual = quiet * sqrt(stress) * factors.spread * (1 + 2 * is_extended)
        self._set_widths(_HALT_WIDTH * fair / 1.2 if self.halt else usual)
        shown = 4 * factors.size / sqrt(max(0.01, stress)) / (1 + is_extended)
        self.depths = make_depths(round(min(1000.0, max(0.1, shown)), 1))
        scale = 1.0 if self.lot == 1 else round(min(100.0, max(0.01, factors.size)), 2)
        self.prints: tuple[Print, ...] = make_prints(self.lot, is_extended, scale)
        self.sides = _LIMIT_SIDES.get(self.limit, SIDES)
        condition = HALT_QUOTES.get(self.halt, OPEN_QUOTE)
        self.quote_head = f'{{"ev":"Q","sym":"{self.symbol}","c":{condition},'
        self._set_bounds()

    def _choose_tick(self) -> None:
        # Between 0.95 and 0.99 it stays what it was; a price of a dollar or more never has the fine tick.
        if self.tick == 1 and self.fair > 0.99 * DOLLAR:
            self.tick = 100
        elif self.tick == 100 and self.fair < 0.95 * DOLLAR:
            self.tick = 1
        self.ticks = 1 / self.tick

    def _set_widths(self, usual: float) -> None:
        ticks = usual / self.tick
        most = max(1, int(_MOST_WIDTH * self.fair / self.tick))
        self.widths = _make_widths(
            round(ticks, 1) if ticks < 10 else round(ticks), most if ticks > most / 2 else 0, self.tick
        )

    def _set_bounds(self) -> None:
        """Where the fair price turns, so that no quote leaves the bands."""
        margin = self.widths[-1][1] / 2 + self.tick
        # In a halt nobody trades, so quotes may be anywhere.
        self.low = max(0 if self.halt else self.low_band, _LEAST_PRICE) + margin
        self.high = ((not self.halt and self.high_band) or _MOST_PRICE) - margin
        if self.tick == 1:
            self.high = min(self.high, DOLLAR - margin)
        if self.limit:
            self.low, self.high = -inf, inf
        elif self.low > self.high:  # bands narrower than the spread
            self.low = self.high = (self.low + self.high) / 2

    def requote(self) -> None:
        """Bid and ask around the fair price of now, at the usual width."""
        self.fair = min(self.high, max(self.low, self.fair))
        half, width = self.widths[24]
        self.bid = max(1, int(self.fair * self.ticks - half)) * self.tick
        self.ask = self.bid + width

    def pin(self, limit: str) -> None:
        """Put the quote at the band: limit up is a bid at the upper one, limit down an offer at the lower one."""
        half, width = self.widths[24]
        self.limit = limit
        self.widths = ((half, width),) * 64
        self.sides, self.sigma, self.low, self.high = _LIMIT_SIDES[limit], 0.0, -inf, inf
        bid = self.high_band if limit == "up" else self.low_band - width
        self.fair = bid + width / 2 + self.tick / 4  # so that rounding down in flow.py comes out at the band
        self.bid, self.ask = bid, bid + width

    @property
    def middle(self) -> int:
        """A price on the tick inside the quotes, where auctions are made."""
        return self.bid + (self.ask - self.bid) // self.tick // 2 * self.tick
