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


class Totals(msgspec.Struct):
    """Of one day, and of the minute under way."""

    volume: int = 0
    turnover: int = 0
    official_open: int | None = None
    minute_volume: int = 0
    minute_turnover: int = 0
    minute_trades: int = 0
    last_sales: list[int] = msgspec.field(default_factory=list)  # of the minute: o, h, l, c of each second, so <= 240


def close_second(totals: Totals, start_ms: int, prices: list[int], sizes: list[int], last_sales: list[int]) -> Bar | None:
    """Count a second's trades; its bar if a price was set in it."""
    volume, trades = sum(sizes), len(sizes)
    turnover = sum(price * size for price, size in zip(prices, sizes, strict=True))
    totals.volume += volume
    totals.turnover += turnover
    totals.minute_volume += volume
    totals.minute_turnover += turnover
    totals.minute_trades += trades
    if not last_sales:
        return None
    four = (last_sales[0], max(last_sales), min(last_sales), last_sales[-1])
    totals.last_sales += four
    return Bar(start_ms, 1000, *four, volume, turnover, trades, totals.volume, totals.turnover, totals.official_open)


def close_minute(totals: Totals, start_ms: int) -> Bar | None:
    """The minute's bar if a price was set in it; starts the next minute."""
    last_sales, volume, turnover = totals.last_sales, totals.minute_volume, totals.minute_turnover
    trades = totals.minute_trades
    totals.last_sales, totals.minute_volume, totals.minute_turnover, totals.minute_trades = [], 0, 0, 0
    if not last_sales:
        return None
    four = (last_sales[0], max(last_sales), min(last_sales), last_sales[-1])
    return Bar(start_ms, 60_000, *four, volume, turnover, trades, totals.volume, totals.turnover, totals.official_open)


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
