"""Second and minute bars, and the day's totals: exactly the aggregates of the trades.  Pure.

v, av, vw, a and z are made of all trades that count for the volume; o, h, l and c of those that set prices
(sizes.py), and without one of these there is no bar, though its volume counts for av.  Auctions count; the official
opening and closing prices (conditions 16 and 15) are reports, no trades, and count for nothing.
"""

from typing import NamedTuple

import msgspec

from ingest.simulator.prices import PriceTexts, divide


class Bar(NamedTuple):
    """Prices in 1/10,000 dollar, turnover in 1/10,000 dollar too."""

    start_ms: int
    length_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    turnover: int
    trades: int
    day_volume: int
    day_turnover: int
    official_open: int | None


class Sums(msgspec.Struct):
    """Of a second or a minute."""

    volume: int = 0
    turnover: int = 0
    trades: int = 0
    last_sales: list[int] = msgspec.field(default_factory=list)  # o, h, l, c; none if no price was set

    def add(self, later: "Sums") -> None:
        """What was traded after it; `last_sales` of that may be all there were."""
        self.volume += later.volume
        self.turnover += later.turnover
        self.trades += later.trades
        if later.last_sales:
            sales = self.last_sales + later.last_sales
            self.last_sales = [sales[0], max(sales), min(sales), sales[-1]]


class Totals(msgspec.Struct):
    """Of one day, and of the minute under way."""

    volume: int = 0
    turnover: int = 0
    official_open: int | None = None
    minute: Sums = msgspec.field(default_factory=Sums)
    second: Sums = msgspec.field(default_factory=Sums)  # what another run traded in the second under way


def count_second(totals: Totals, prices: list[int], sizes: list[int], last_sales: list[int]) -> Totals:
    """The same with the trades of the second under way, for another run."""
    second = Sums()
    second.add(totals.second)
    second.add(_add_up(prices, sizes, last_sales))
    return msgspec.structs.replace(totals, second=second)


def _add_up(prices: list[int], sizes: list[int], last_sales: list[int]) -> Sums:
    turnover = sum(price * size for price, size in zip(prices, sizes, strict=True))
    return Sums(sum(sizes), turnover, len(sizes), last_sales)


def close_second(
    totals: Totals, start_ms: int, prices: list[int], sizes: list[int], last_sales: list[int]
) -> Bar | None:
    """Count a second's trades; its bar if a price was set in it."""
    second = totals.second
    second.add(_add_up(prices, sizes, last_sales))
    totals.second = Sums()
    totals.volume += second.volume
    totals.turnover += second.turnover
    totals.minute.add(second)
    return _make_bar(totals, start_ms, 1000, second)


def close_minute(totals: Totals, start_ms: int) -> Bar | None:
    """The minute's bar if a price was set in it; starts the next minute."""
    minute, totals.minute = totals.minute, Sums()
    return _make_bar(totals, start_ms, 60_000, minute)


def _make_bar(totals: Totals, start_ms: int, length_ms: int, sums: Sums) -> Bar | None:
    if not sums.last_sales:
        return None
    first, high, low, last = sums.last_sales
    return Bar(
        start_ms, length_ms, first, high, low, last, sums.volume, sums.turnover, sums.trades,
        totals.volume, totals.turnover, totals.official_open,
    )  # fmt: skip


def write_bar(symbol: str, bar: Bar, texts: PriceTexts, ending: str) -> str:
    """An A or AM event as live ones were in 2026 (PROTOCOL b.2); ending: what ends the event."""
    official = "" if bar.official_open is None else f'"op":{texts[bar.official_open]},'
    return (
        f'{{"ev":"{"A" if bar.length_ms == 1000 else "AM"}","sym":"{symbol}","v":{bar.volume},"av":{bar.day_volume},'
        f'{official}"vw":{texts[divide(bar.turnover, bar.volume)]},"o":{texts[bar.open]},"c":{texts[bar.close]},'
        f'"h":{texts[bar.high]},"l":{texts[bar.low]},"a":{texts[divide(bar.day_turnover, bar.day_volume)]},'
        f'"z":{bar.volume // bar.trades},"s":{bar.start_ms},"e":{bar.start_ms + bar.length_ms},'
        f'"dv":"{bar.volume}.0","dav":"{bar.day_volume}.0"{ending}'
    )
