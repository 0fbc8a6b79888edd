"""Bars are exactly the aggregates of the trades that went over the wire."""

from collections import defaultdict
from functools import cache

import pytest

from ingest.simulator.prices import PriceTexts, divide, write_price
from ingest.simulator.scenario import Phase
from tests.unit.ingest.simulator.played import (
    SYMBOLS,
    Event,
    advance,
    at,
    make_market,
    make_scenario,
    pick,
    play,
    read,
    units,
)

REPORTS = {15, 16}  # official close and open: no trades
KEYS = ["ev", "sym", "v", "av", "op", "vw", "o", "c", "h", "l", "a", "z", "s", "e", "dv", "dav"]
HALT = make_scenario(
    Phase(name="limit", seconds=20, limit="down"), Phase(name="halt", seconds=30, halt="luld"), symbols=frozenset({"F"})
)
STRETCHES = {
    "open": ("2026-11-20T09:28:30", 150),
    "close": ("2026-11-20T15:59:00", 150),
    "half day's close": ("2026-11-27T12:59:30", 120),
    "noon": ("2026-11-20T12:00:00", 150),
    "pre-market": ("2026-11-20T04:00:00", 400),
    "after hours": ("2026-11-20T16:30:00", 200),
    "end": ("2026-11-20T19:55:00", 303),
}


@cache
def get_stretch(name: str) -> list[Event]:
    start, seconds = STRETCHES[name]
    return play(seconds, start, rate=150, scenario=HALT)


def add(trades: list[Event]) -> tuple[int, int]:
    """Volume and turnover."""
    return sum(t["s"] for t in trades), sum(units(t["p"]) * t["s"] for t in trades)


def aggregate(
    trades: list[Event], day: tuple[int, int], length_ms: int, start_ms: int, official: float | None
) -> Event:
    """What a bar of these trades must say; `day`: volume and turnover up to the bar's end."""
    sales = [t["p"] for t in trades if 37 not in t.get("c", [])]
    volume, turnover = add(trades)
    bar = {
        "ev": "A" if length_ms == 1000 else "AM", "sym": trades[0]["sym"], "v": volume, "av": day[0], "op": official,
        "vw": divide(turnover, volume) / 10_000, "o": sales[0], "c": sales[-1], "h": max(sales), "l": min(sales),
        "a": divide(day[1], day[0]) / 10_000, "z": volume // len(trades), "s": start_ms, "e": start_ms + length_ms,
        "dv": f"{volume}.0", "dav": f"{day[0]}.0",
    }  # fmt: skip
    if official is None:
        del bar["op"]
    return bar


def find_open(trades: list[Event], before_ms: int, first: float | None) -> float | None:
    """The official open as it was known at a time: `first` where the market began in the middle of the day."""
    found = [t["p"] for t in trades if t.get("c") == [16] and t["t"] < before_ms]
    return found[-1] if found else first


def expect_bars(trades: list[Event], length_ms: int, first: float | None) -> list[Event]:
    counted = [t for t in trades if not REPORTS & {*t.get("c", [])}]
    groups = defaultdict(list)
    for trade in counted:
        groups[trade["t"] // length_ms * length_ms].append(trade)
    bars, day = [], (0, 0)
    for start, group in groups.items():
        volume, turnover = add(group)
        day = day[0] + volume, day[1] + turnover
        if any(37 not in t.get("c", []) for t in group):
            bars.append(aggregate(group, day, length_ms, start, find_open(trades, start + length_ms, first)))
    return bars


@pytest.mark.parametrize("kind", ["A", "AM"])
@pytest.mark.parametrize("stretch", STRETCHES)
def test_bars_are_the_aggregates_of_the_trades(stretch: str, kind: str) -> None:
    events, length_ms = get_stretch(stretch), 1000 if kind == "A" else 60_000
    start, seconds = STRETCHES[stretch]
    last_ms = at(start) + seconds * 1000 - 2000  # bars that end later were not sent yet
    for symbol in SYMBOLS:
        bars = pick(events, kind, symbol=symbol)
        trades = pick(events, "T", symbol=symbol)
        first = bars[0].get("op") if bars else None
        if bars and any(t.get("c") == [16] for t in trades):
            first = None  # the auction was in this stretch
        expected = [bar for bar in expect_bars(trades, length_ms, first) if bar["e"] < last_ms]
        assert bars == expected
        assert all(list(bar) == [key for key in KEYS if key in bar] for bar in bars)
    assert pick(events, kind)


@pytest.mark.parametrize("stretch", ["open", "noon"])
def test_bars_are_sent_two_seconds_after_their_end_the_minute_s_in_a_burst(stretch: str) -> None:
    newest, positions = 0, []
    for position, event in enumerate(get_stretch(stretch)):
        if event["ev"] in ("T", "Q"):
            newest = event["t"]
        elif event["ev"] in ("A", "AM"):
            assert 900 < event["e"] + 2000 - newest + 1000 < 2000  # told between events around its end + 2 s
        if event["ev"] == "AM":
            positions.append((event["s"], position))
    for start in {start for start, _ in positions}:
        burst = [position for begin, position in positions if begin == start]
        assert burst == list(range(burst[0], burst[0] + len(burst)))


def test_odd_lots_count_for_volume_but_set_no_price() -> None:
    events = get_stretch("noon")
    all_trades, odd_only = pick(events, "T", symbol="AAPL"), 0
    for bar in pick(events, "A", symbol="AAPL")[:60]:
        trades = [t for t in all_trades if bar["s"] <= t["t"] < bar["e"]]
        odd = [t for t in trades if 37 in t.get("c", [])]
        odd_only += any(not bar["l"] <= t["p"] <= bar["h"] for t in odd)
        assert bar["v"] == sum(t["s"] for t in trades)
    assert odd_only  # so the rule is seen to matter


@pytest.mark.parametrize(
    ("price", "text"),
    [(2_715_000, "271.5"), (1_000_000, "100"), (781_250, "78.125"), (4372, "0.4372"), (7_520_000_000, "752000")],
)
def test_prices_are_written_as_upstream_does(price: int, text: str) -> None:
    assert write_price(price) == PriceTexts()[price] == text


def test_prices_are_rounded_half_up() -> None:
    assert [divide(5, 2), divide(4, 3), divide(5, 3), divide(7, 7)] == [3, 1, 2, 1]


def test_texts_of_prices_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.simulator.prices._MOST_TEXTS", 10)
    texts = PriceTexts()
    assert [texts[price] for price in range(25)] == [write_price(price) for price in range(25)]
    assert len(texts) <= 10


@pytest.mark.parametrize("pause_s", [5, 55, 600, 86_400])
def test_bars_of_a_market_that_stood_still_are_those_of_its_trades(pause_s: int) -> None:
    start, rate = "2026-11-20T12:00:10", 300
    market = make_market(start, rate, always_open=True)
    events = advance(market, start, 33.3, step_ms=100)
    goes_on_ms = at(start) + 33_300 + pause_s * 1000
    market.skip_to(goes_on_ms)
    for now_ms in range(goes_on_ms, goes_on_ms + 100_000, 500):
        events += read(market.advance(now_ms))
    for symbol in SYMBOLS:
        trades = [t for t in pick(events, "T", symbol=symbol) if not REPORTS & set(t.get("c", []))]
        for kind in ("A", "AM"):
            bars = pick(events, kind, symbol=symbol)
            assert [bar["s"] for bar in bars] == sorted({bar["s"] for bar in bars})
            for bar in bars:
                volume, _ = add([t for t in trades if bar["s"] <= t["t"] < bar["e"]])
                assert bar["v"] == volume
            last_ms = goes_on_ms + 60_000 if kind == "AM" else goes_on_ms + 95_000
            covered = sum(bar["v"] for bar in bars if bar["e"] <= last_ms)
            seconds = {t["t"] // 1000 for t in trades if 37 not in t.get("c", [])}
            if kind == "A":
                due = [t for t in trades if t["t"] // 1000 in seconds and t["t"] // 1000 * 1000 + 1000 <= last_ms]
                assert covered == add(due)[0]
