"""The built-in scenarios, played by the market: what docs/scenarios.md promises of each."""

import json
from itertools import pairwise

import pytest

from ingest.simulator.listing import SYMBOLS
from ingest.simulator.market import Market
from ingest.simulator.scenario_file import load_scenario
from tests.pictures.rows import Row, collect

ELEVEN_MS = 1_795_190_400_000  # in New York, on Friday 2026-11-20
BEFORE_S = 60
RATE = 10  # events a second
TEN = ("SPY", *SYMBOLS[:9])


def play(name: str, seconds: float) -> list[Row]:
    """A minute of normal trading, then so many seconds of the scenario."""
    start_ms = ELEVEN_MS - BEFORE_S * 1000
    market = Market(("AAPL",), 5, RATE, start_ms, always_open=False)
    return collect(market, "AAPL", load_scenario(name), ELEVEN_MS, (start_ms, ELEVEN_MS + round(seconds * 1000)))


def read_last_sales(market: Market, to_ms: int) -> dict[str, float]:
    """The price of each symbol's last trade up to a time."""
    trades = (event for frame in market.advance(to_ms) for event in json.loads(frame))
    return {trade["sym"]: trade["p"] for trade in trades}


def get_prices(rows: list[Row], start_s: float, end_s: float) -> list[float]:
    """Of the trades between two times."""
    return [row.price for row in rows if row.price and row.volume and start_s <= row.time_s < end_s]


@pytest.mark.parametrize(
    ("name", "percent"), [("gap_up", 4), ("gap_down", -4), ("halt", -7), ("news", 3), ("opening_bell", 0)]
)
def test_prices_end_where_the_page_says(name: str, percent: float) -> None:
    end_s = sum(phase.seconds for phase in load_scenario(name).phases)
    rows = play(name, end_s + 30)
    before, after = get_prices(rows, -BEFORE_S, 0)[-1], get_prices(rows, end_s, end_s + 30)[-1]
    assert (after / before - 1) * 100 == pytest.approx(percent, abs=1.5)


@pytest.mark.parametrize("name", ["gap_up", "gap_down", "news"])
def test_a_jump_lies_between_one_trade_and_the_next(name: str) -> None:
    prices = get_prices(play(name, 30), -BEFORE_S, 30)
    steps = sorted(abs(after / before - 1) for before, after in pairwise(prices))
    assert steps[-1] > 0.025 and steps[-2] < 0.005


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_market_wide_halts_begin_when_their_levels_are_reached_and_are_without_trades(seed: int) -> None:
    """By the last sales of all symbols against those before the scenario, of which SPY stands for the S&P 500."""
    market = Market(TEN, seed, RATE, ELEVEN_MS - BEFORE_S * 1000, always_open=False)
    market.set_held(frozenset({"T.*"}))
    before = read_last_sales(market, ELEVEN_MS)
    market.set_scenario(load_scenario("market_wide_halt"), ELEVEN_MS)
    for halt_s, end_s, percent in ((600, 1500, -7), (2100, 3000, -13), (3600, 3900, -20)):
        sales = before | read_last_sales(market, ELEVEN_MS + halt_s * 1000)
        changes = {symbol: (sale / before[symbol] - 1) * 100 for symbol, sale in sales.items()}
        assert percent - 0.9 < changes["SPY"] <= percent
        assert percent - 0.9 < sum(changes.values()) / len(changes) <= percent
        assert read_last_sales(market, ELEVEN_MS + end_s * 1000) == {}


def test_a_halt_reopens_where_it_began() -> None:
    rows = play("halt", 406)
    [last, *_] = get_prices(rows, 80, 81)[-1:]
    assert get_prices(rows, 82, 381) == []
    assert get_prices(rows, 381, 406)[0] == pytest.approx(last, rel=0.01)


def test_the_opening_bell_is_twenty_times_the_usual_number_of_events() -> None:
    rows = play("opening_bell", 10)
    usual = sum(row.time_s < 0 for row in rows) / BEFORE_S
    assert 15 < sum(row.time_s >= 0 for row in rows) / 10 / usual < 25
