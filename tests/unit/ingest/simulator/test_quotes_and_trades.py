"""Prices, quotes and trades are such as a market could have had."""

from collections import Counter
from functools import cache
from itertools import pairwise
from math import sqrt
from statistics import mean, pstdev

import pytest

from ingest.simulator.listing import SYMBOLS as FIFTY
from ingest.simulator.listing import get_round_lot, make_listings
from ingest.simulator.scenario import Phase, Scenario
from tests.unit.ingest.simulator.played import (
    NOON,
    SYMBOLS,
    Event,
    advance,
    at,
    make_market,
    make_scenario,
    pick,
    play,
    units,
)

WILD = make_scenario(Phase(name="wild", seconds=3600, volatility=30))
STEP = 3.3 * 0.016 / sqrt(23_400)  # what a second's volatility can be at once, were a symbol quoted once a second
DAILY = 0.016


@cache
def get_minute(wild: bool = False) -> list[Event]:
    return play(60, scenario=WILD, rate=250) if wild else play(60, rate=250)


def find_middles(events: list[Event], symbol: str) -> list[float]:
    return [(q["bp"] + q["ap"]) / 2 for q in pick(events, "Q", symbol=symbol)]


def test_rate_and_mix_are_as_asked() -> None:
    events = pick(play(40, rate=1000, symbols=FIFTY), "T", "Q")
    counts = Counter(e["ev"] for e in events)
    assert len(events) / 40 == pytest.approx(1000 * 1.008, rel=0.03)
    assert counts["Q"] / counts["T"] == pytest.approx(3.92, rel=0.05)


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_price_has_no_jumps(symbol: str, wild: bool) -> None:
    middles = find_middles(get_minute(wild), symbol)
    widest = max(q["ap"] - q["bp"] for q in pick(get_minute(wild), "Q", symbol=symbol))
    most = 0.01 if wild else 3 * STEP  # 2 is the most a symbol's own regime makes of it
    assert len(middles) > 300
    for one, next_one in pairwise(middles):
        assert abs(next_one - one) <= one * most + widest / 2 + 0.01


@pytest.mark.parametrize("symbol", ["AAPL", "SPY", "ZZB"])
def test_price_moves_as_much_as_its_volatility_says(symbol: str) -> None:
    events = play(1200, rate=60, held=frozenset({f"Q.{symbol}"}))
    by_ten = {e["t"] // 10_000: (e["bp"] + e["ap"]) / 2 for e in events}
    moves = [b / a - 1 for a, b in pairwise(by_ten.values())]
    assert pstdev(moves) == pytest.approx(DAILY / sqrt(2340), rel=0.5)


def test_volatility_moves_prices_more_and_widens_quotes_and_thins_them() -> None:
    for symbol in ("AAPL", "SPY", "F"):
        calm, wild = (pick(get_minute(is_wild), "Q", symbol=symbol) for is_wild in (False, True))
        spreads = [mean(q["ap"] - q["bp"] for q in quotes) for quotes in (calm, wild)]
        depths = [mean(q["bs"] + q["as"] for q in quotes) for quotes in (calm, wild)]
        levels = [pstdev(find_middles(get_minute(is_wild), symbol)) for is_wild in (False, True)]
        assert levels[1] > 4 * levels[0]
        assert spreads[1] > 1.5 * spreads[0]
        assert depths[1] < 0.7 * depths[0]


@pytest.mark.parametrize(("field", "value"), [("spread", 5.0), ("size", 0.2)])
def test_factors_of_a_phase_change_spread_and_depth(field: str, value: float) -> None:
    phase = Phase(name="one", seconds=600, **{field: value})  # type: ignore[arg-type]
    other = play(20, rate=250, scenario=make_scenario(phase))
    for symbol in ("AAPL", "SPY"):
        quotes = [pick(events, "Q", symbol=symbol) for events in (get_minute(), other)]
        spreads = [mean(q["ap"] - q["bp"] for q in part) for part in quotes]
        depths = [mean(q["bs"] + q["as"] for q in part) for part in quotes]
        if field == "spread":
            assert spreads[1] > 2 * spreads[0]
        else:
            assert depths[1] < 0.7 * depths[0]
            sizes = [mean(t["s"] for t in pick(part, "T", symbol=symbol)) for part in (get_minute(), other)]
            assert sizes[1] < 0.7 * sizes[0]


@pytest.mark.parametrize("wild", [False, True])
def test_bid_is_below_ask_and_both_are_on_the_tick(wild: bool) -> None:
    for quote in pick(get_minute(wild), "Q"):
        assert 0 < quote["bp"] < quote["ap"]
        assert quote["bs"] >= 1 and quote["as"] >= 1
        for price in (quote["bp"], quote["ap"]):
            tick = 100 if price >= 1 else 1
            assert units(price) % tick == 0 and price == units(price) / 10_000


@pytest.mark.parametrize("wild", [False, True])
def test_trades_are_at_the_quotes_or_in_the_middle(wild: bool) -> None:
    standing: dict[str, Event] = {}
    places: Counter[str] = Counter()
    for event in pick(get_minute(wild), "T", "Q"):
        if event["ev"] == "Q":
            standing[event["sym"]] = event
        elif quote := standing.get(event["sym"]):
            assert quote["bp"] <= event["p"] <= quote["ap"]
            where = {quote["bp"]: "bid", quote["ap"]: "ask"}.get(event["p"], "middle")
            places[where] += 1
            assert where != "middle" or event["x"] == 4
    assert min(places.values()) > 100 and places["bid"] == pytest.approx(places["ask"], rel=0.2)


def test_sizes_are_odd_lots_round_lots_and_blocks() -> None:
    trades = pick(play(120, rate=200, symbols=("F",)), "T")
    sizes = [t["s"] for t in trades]
    odd = sum(size < 100 for size in sizes) / len(sizes)
    assert 0.5 < odd < 0.62
    assert 0.2 < sizes.count(100) / len(sizes) < 0.3
    assert max(sizes) >= 10_000 and min(sizes) == 1
    assert all((37 in t.get("c", [])) == (t["s"] < 100) for t in trades)


@pytest.mark.parametrize(("price", "lot"), [(250, 100), (250.01, 40), (1000, 40), (1000.01, 10), (752_000, 1)])
def test_round_lot_depends_on_the_price(price: float, lot: int) -> None:
    assert get_round_lot(units(price)) == lot


def test_conditions_are_absent_where_there_are_none_and_none_is_of_extended_hours() -> None:
    conditions = [t.get("c") for t in pick(get_minute(), "T")]
    assert None in conditions and [] not in conditions
    assert {code for codes in conditions for code in codes or ()} == {14, 37, 41}
    assert all(codes == sorted(codes) for codes in conditions if codes)


def test_tape_is_the_listing_s_and_exchanges_are_real() -> None:
    tapes = {listing.symbol: listing.tape for listing in make_listings(SYMBOLS)}
    assert set(tapes.values()) == {1, 2, 3}
    for event in pick(get_minute(), "T", "Q"):
        assert event["z"] == tapes[event["sym"]]
        assert {event.get("x", 10), event.get("bx", 10), event.get("ax", 10)} <= {*range(1, 22)}
        assert 4 not in (event.get("bx"), event.get("ax"))


def test_sequence_rises_per_symbol_and_trade_ids_are_texts_that_do_not_repeat() -> None:
    opening = play(10, "2026-11-20T09:29:55")
    for symbol in SYMBOLS:
        for events in (get_minute(), opening):
            numbers = [e["q"] for e in pick(events, "T", "Q", "LULD", symbol=symbol)]
            assert len(numbers) > 10 and all(a < b for a, b in pairwise(numbers))
        ids = [t["i"] for t in pick(get_minute(), "T", symbol=symbol)]
        assert len(set(ids)) == len(ids) and all(isinstance(i, str) for i in ids)


def test_times_rise() -> None:
    times = [e["t"] for e in pick(get_minute(), "T", "Q")]
    assert times == sorted(times) and times[0] >= at(NOON)


def test_penny_stock_crosses_a_dollar_on_the_right_ticks() -> None:
    rise = Scenario(
        "rise", None, (Phase(name="up", seconds=120, drift=180), Phase(name="down", seconds=120, drift=-70)), False
    )
    events = play(240, rate=50, symbols=("ZZC",), scenario=rise, start="2026-11-20T18:00:00")
    prices = [price for q in pick(events, "Q") for price in (q["bp"], q["ap"])]
    assert min(prices) < 0.9 and max(prices) > 1.1
    assert all(units(price) % 100 == 0 for price in prices if price >= 1)
    assert any(units(price) % 100 for price in prices if price < 1)


def test_prices_go_on_after_a_restart() -> None:
    before = make_market(rate=150)
    first = advance(before, NOON, 60)
    after = make_market("2026-11-20T12:01:00", rate=150, seed=99, state=before.get_state())
    second = advance(after, "2026-11-20T12:01:00", 60)
    for symbol in SYMBOLS:
        last, following = find_middles(first, symbol)[-1], find_middles(second, symbol)[0]
        assert following == pytest.approx(last, rel=0.01)
        bars = [pick(part, "A", symbol=symbol) for part in (first, second)]
        assert bars[1][0]["av"] > bars[0][-1]["av"] and bars[1][0]["op"] == bars[0][-1]["op"]
        joined = [e["q"] for e in pick(first + second, "T", "Q", symbol=symbol)]
        assert joined == sorted(set(joined))


def test_state_of_another_day_gives_prices_but_no_totals() -> None:
    before = make_market(rate=150)
    first = advance(before, NOON, 10)
    day = "2026-11-23T12:00:00"
    second = advance(make_market(day, rate=150, state=before.get_state()), day, 10)
    assert find_middles(second, "F")[0] == pytest.approx(find_middles(first, "F")[-1], rel=0.01)
    bar = pick(second, "A", symbol="F")[0]
    assert bar["av"] == bar["v"]
