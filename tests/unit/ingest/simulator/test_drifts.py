"""A drift makes exactly the percent that its scenario says, and takes the bands along where it must."""

import json

import pytest

from ingest.simulator.market import Market
from ingest.simulator.scenario import Phase
from tests.unit.ingest.simulator.played import NOON, SYMBOLS, at, make_market, make_scenario, pick, play

BEFORE_OPEN = "2026-11-20T08:00:00"  # without bands
STILL = Phase(name="still", seconds=3600, volatility=0)


def get_prices(market: Market) -> dict[str, float]:
    return {symbol: stock["fair"] for symbol, stock in json.loads(market.get_state())["stocks"].items()}


@pytest.mark.parametrize("start", [NOON, BEFORE_OPEN])
@pytest.mark.parametrize("begin_ms", [0, 400])  # of the drift, from a whole second
@pytest.mark.parametrize(("percent", "seconds"), [(-50, 60), (50, 60), (100, 7.5), (900, 60), (-4, 1)])
def test_the_percent_is_exact_without_volatility(start: str, begin_ms: int, percent: float, seconds: float) -> None:
    market, now_ms = make_market(start, held=frozenset(), symbols=("AAPL", "ZZC", "ZZG")), at(start) + 2000 + begin_ms
    market.set_scenario(make_scenario(STILL), at(start))
    market.advance(now_ms)
    before = get_prices(market)
    drift = Phase(name="drift", seconds=seconds, drift=percent, volatility=0)
    market.set_scenario(make_scenario(Phase(name="fraction", seconds=1.25, volatility=0), drift, STILL), now_ms)
    market.advance(now_ms + 70_000)
    after = get_prices(market)
    for symbol, price in after.items():
        assert price / before[symbol] == pytest.approx(1 + percent / 100, rel=1e-6), symbol


@pytest.mark.parametrize("percent", [-30.0, 30.0])
def test_the_bands_go_along_and_nothing_is_quoted_or_traded_beyond_them(percent: float) -> None:
    drift = make_scenario(Phase(name="drift", seconds=60, drift=percent))
    bands: dict[str, tuple[float, float]] = {}
    for event in play(61, rate=300, scenario=drift, held=frozenset({"T.*", "Q.*", "LULD.*"})):
        if event["ev"] == "LULD":
            bands[event["T"]] = event["l"], event["h"]
        else:
            low, high = bands[event["sym"]]
            prices = [event["p"]] if event["ev"] == "T" else [event["bp"], event["ap"]]
            # At the moment when they go along, the quote comes before its bands.
            assert event["t"] % 1000 == 0 or all(low <= price <= high for price in prices)


def test_a_drift_within_the_bands_leaves_them_alone() -> None:
    events = play(29, rate=300, scenario=make_scenario(Phase(name="drift", seconds=28, drift=3)))
    assert len(pick(events, "LULD")) == len(SYMBOLS), "the first ones"
