"""What a scenario says happens in the market: jumps, drifts, bursts, limit states and halts."""

from functools import cache
from typing import Any, Literal

import pytest

from ingest.simulator.scenario import NORMAL, Phase, Scenario
from ingest.simulator.scenario_file import load_scenario
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
    read,
)

QUIET = Phase(name="quiet", seconds=10)
LIMIT, PINNED_S, HALTED_S = 20, 35, 60  # drive and limit state, halt, calm
HALTED = frozenset({"AAPL", "F"})  # of tape 3 and of tape 1


def make_halt(direction: Literal["up", "down"], jump: float = 0) -> Scenario:
    return make_scenario(
        QUIET,
        Phase(name="limit", seconds=15, limit=direction),
        Phase(name="halt", seconds=35, halt="luld"),
        Phase(name="after", seconds=60, jump=jump),
        symbols=HALTED,
    )


@cache
def get_halt(direction: Literal["up", "down"]) -> list[Event]:
    return play(100, rate=300, scenario=make_halt(direction, jump=-8))


def since(event: Event, start: str = NOON) -> float:
    """Seconds after the start, of an event of any kind."""
    time = float(event.get("t", event.get("s")) or 0)
    return (time / (1_000_000 if time > 10**15 else 1) - at(start)) / 1000


def between(events: list[Event], first_s: float, last_s: float, *types: str, symbol: str | None = None) -> list[Event]:
    return [e for e in pick(events, *types, symbol=symbol) if first_s <= since(e) < last_s]


def middle(events: list[Event], first_s: float, last_s: float, symbol: str) -> float:
    quotes = between(events, first_s, last_s, "Q", symbol=symbol)
    return float(sum(q["bp"] + q["ap"] for q in quotes)) / len(quotes) / 2


@pytest.mark.parametrize("symbol", sorted(HALTED))
@pytest.mark.parametrize("direction", ["up", "down"])
def test_limit_state_pins_the_price_at_the_band(direction: str, symbol: str) -> None:
    events = get_halt(direction)
    [bands] = between(events, 0, 10, "LULD", symbol=symbol)
    band, quoted = (bands["h"], "bp") if direction == "up" else (bands["l"], "ap")
    quotes, trades = (between(events, 15, 25, ev, symbol=symbol) for ev in ("Q", "T"))
    assert len(quotes) > 50 and {q[quoted] for q in quotes} == {band}
    assert len(trades) > 10 and {t["p"] for t in trades} == {band}
    states = between(events, 10, 26, "LULD", symbol=symbol)
    repeat, halt = ([16], [17]) if symbol == "AAPL" else ([22], None)
    expected = [repeat, repeat] if halt is None else [repeat, repeat, halt]
    assert [e["i"] for e in states] == expected
    assert {(e["h"], e["l"]) for e in states} == {(bands["h"], bands["l"])}


@pytest.mark.parametrize("into_ms", [0, 300, 400, 600, 990])
def test_limit_state_of_the_halt_lasts_the_15_seconds_of_the_rule(into_ms: int) -> None:
    market, start_ms = make_market(rate=100, symbols=("AAPL", "MSFT")), at(NOON) + into_ms
    market.advance(start_ms)
    market.set_scenario(load_scenario("halt"), start_ms)
    events = list(read(market.advance(start_ms + 100_000)))
    for symbol in ("AAPL", "MSFT"):
        states = pick(events, "LULD", symbol=symbol)
        began_s = next(since(e) for e in states if e["i"] == [16])
        halted_s = next(since(e) for e in states if e["i"] == [17])
        assert halted_s - began_s == pytest.approx(15, abs=0.01)


@pytest.mark.parametrize("symbol", sorted(HALTED))
def test_halt_has_no_trades_and_wide_quotes_with_its_condition(symbol: str) -> None:
    events = get_halt("down")
    assert between(events, 25, 60, "T", symbol=symbol) == []
    quotes = between(events, 25, 60, "Q", symbol=symbol)
    assert {q["c"] for q in quotes} == {43}
    assert all(q["ap"] - q["bp"] > 0.04 * q["bp"] for q in quotes)
    assert between(events, 28, 60, "A", symbol=symbol) == []
    assert len(between(events, 25, 60, "T", symbol="SPY")) > 100


@pytest.mark.parametrize("symbol", sorted(HALTED))
def test_reopening_is_an_auction_with_its_condition_and_new_bands(symbol: str) -> None:
    events = get_halt("down")
    after = between(events, 60, 100, "T", "Q", "LULD", symbol=symbol)
    quote, auction, bands = after[:3]
    assert [e["ev"] for e in after[:3]] == ["Q", "T", "LULD"]
    assert auction["c"] == [28] and since(auction) == 60
    assert quote["bp"] <= auction["p"] <= quote["ap"] and quote["c"] == 1
    assert bands["i"] == ([18] if symbol == "AAPL" else [21])
    assert bands["l"] < auction["p"] < bands["h"]
    assert (bands["h"] + bands["l"]) / 2 == pytest.approx(auction["p"], abs=0.011)
    assert auction["p"] == pytest.approx(0.92 * middle(events, 15, 25, symbol), rel=0.02)
    assert [t for t in after[3:] if t["ev"] == "T" and 28 in t.get("c", [])] == []
    assert len(between(events, 60, 100, "T", symbol=symbol)) > 50


def test_imbalances_of_the_reopening_name_its_time() -> None:
    told = between(get_halt("down"), 0, 100, "NOI")
    assert {n["T"] for n in told} == HALTED
    assert all(25 <= since(n) < 60 and n["a"] == "H" and n["at"] == 1201 for n in told)
    assert len(told) == 2 * 7


def test_symbols_that_are_not_concerned_trade_on_as_if_nothing_were() -> None:
    calm, halted = play(30, rate=300), play(30, rate=300, scenario=make_halt("up"))
    assert between(halted, 0, 10, "T", "Q", "LULD") == between(calm, 0, 10, "T", "Q", "LULD")
    assert all(q["c"] == 1 for q in between(get_halt("up"), 0, 100, "Q", symbol="SPY"))


@pytest.mark.parametrize(("level", "code"), [("level1", 36), ("level2", 37), ("level3", 38)])
def test_market_wide_halt_stops_everything_whoever_is_named(
    level: Literal["level1", "level2", "level3"], code: int
) -> None:
    scenario = make_scenario(QUIET, Phase(name="halt", seconds=20, halt=level), QUIET, symbols=frozenset({"SPY"}))
    events = play(39, rate=300, scenario=scenario)
    assert between(events, 10, 30, "T") == []
    assert {q["c"] for q in between(events, 10, 30, "Q")} == {code}
    assert {t["sym"] for t in between(events, 30, 30.001, "T") if t.get("c") == [28]} == set(SYMBOLS)
    assert len(between(events, 30, 39, "T")) > 300


def test_halt_until_the_close_lasts_until_the_next_day() -> None:
    scenario = make_scenario(Phase(name="halt", seconds=0, halt="level3"))
    market = make_market("2026-11-20T15:59:30", rate=50, symbols=("AAPL",))
    market.set_scenario(scenario, at("2026-11-20T15:59:30"))
    assert pick(advance(market, "2026-11-20T15:59:30", 600, step_ms=5000), "T") == []
    later = advance(market, "2026-11-23T04:00:00", 300, step_ms=60_000)
    assert pick(later, "T")
    day = at("2026-11-23T00:00:00")
    assert {(q["c"], q["t"] < day) for q in pick(later, "Q")} == {(38, True), (1, False)}


def test_phase_until_the_close_ends_there() -> None:
    scenario = make_scenario(Phase(name="busy", seconds=0, activity=5, spread=20))
    events = play(60, "2026-11-20T15:59:30", rate=200, scenario=scenario, held=frozenset({"Q.SPY"}))
    close = at("2026-11-20T16:00:00")
    spreads = [[q["ap"] - q["bp"] for q in events if (q["t"] < close) == early] for early in (True, False)]
    assert min(spreads[0]) > 2 * max(spreads[1])


@pytest.mark.parametrize("stop_ms", [0, 400, 1000])
def test_phase_until_the_close_ends_there_though_the_market_stood_still_then(stop_ms: int) -> None:
    stop, go_on = at("2026-11-20T15:59:30") + stop_ms, at("2026-11-20T16:00:30")
    market = make_market("2026-11-20T15:59:00", rate=200, held=frozenset({"Q.SPY"}), always_open=True)
    market.set_scenario(make_scenario(Phase(name="busy", seconds=0, activity=5, spread=20)), at("2026-11-20T15:59:00"))
    before = list(read(market.advance(stop)))
    market.skip_to(go_on)
    after = list(read(market.advance(go_on + 30_000)))
    spreads = [[q["ap"] - q["bp"] for q in quotes] for quotes in (before, after)]
    assert min(spreads[0]) > 2 * max(spreads[1])


def test_phase_until_the_close_that_would_have_begun_and_ended_while_the_market_stood_still_does_not_begin() -> None:
    set_at = at("2026-11-20T15:59:00")
    market = make_market("2026-11-20T15:59:00", rate=200, held=frozenset({"Q.SPY"}), always_open=True)
    phases = Phase(name="slide", seconds=45), Phase(name="busy", seconds=0, activity=5, spread=20)
    market.set_scenario(make_scenario(*phases), set_at)
    before = list(read(market.advance(set_at + 30_000)))
    market.skip_to(set_at + 90_000)
    after = list(read(market.advance(set_at + 120_000)))
    assert max(q["ap"] - q["bp"] for q in after) < 5 * max(q["ap"] - q["bp"] for q in before)


def test_news_halt_has_its_condition_and_jumps() -> None:
    scenario = make_scenario(QUIET, Phase(name="news", seconds=10, halt="news"), Phase(name="up", seconds=10, jump=12))
    events = play(30, rate=300, scenario=scenario)
    assert {q["c"] for q in between(events, 10, 20, "Q")} == {27}
    for symbol in SYMBOLS:
        ratio = middle(events, 21, 30, symbol) / middle(events, 0, 10, symbol)
        assert ratio == pytest.approx(1.12, rel=0.02)


@pytest.mark.parametrize("percent", [2.0, -2.0, 15.0, -45.0])
def test_jump_comes_at_once_and_takes_the_bands_along_if_it_must(percent: float) -> None:
    events = play(20, rate=300, scenario=make_scenario(QUIET, Phase(name="jump", seconds=10, jump=percent)))
    for symbol in SYMBOLS:
        ratio = middle(events, 10, 10.5, symbol) / middle(events, 9, 10, symbol)
        assert ratio == pytest.approx(1 + percent / 100, rel=0.012)
        bands = pick(events, "LULD", symbol=symbol)
        trades = between(events, 10, 20, "T", symbol=symbol)
        assert all(bands[-1]["l"] <= t["p"] <= bands[-1]["h"] for t in trades)
    moved = {e["T"] for e in between(events, 10, 20, "LULD")}
    assert moved == (
        set() if abs(percent) < 5 else {*SYMBOLS} if abs(percent) > 20 else {"AAPL", "F", "SPY", "BRK.A", "ZZB"}
    )


@pytest.mark.parametrize("percent", [3.0, -3.0])
def test_drift_moves_the_price_over_the_phase(percent: float) -> None:
    events = play(70, rate=300, scenario=make_scenario(QUIET, Phase(name="drift", seconds=60, drift=percent)))
    ratios = [middle(events, 68, 70, symbol) / middle(events, 8, 10, symbol) for symbol in SYMBOLS]
    assert sum(ratios) / len(ratios) == pytest.approx(1 + percent / 100, abs=0.008)


@pytest.mark.parametrize(
    ("fields", "parts"), [({"activity": 20.0}, (20, 20)), ({"activity": 20.0, "activity_to": 1.0}, (17.4, 1.58))]
)
def test_activity_is_a_factor_that_can_fade(fields: dict[str, Any], parts: tuple[float, float]) -> None:
    scenario = make_scenario(QUIET, Phase(name="burst", seconds=10, **fields))
    events = play(20, rate=200, scenario=scenario, held=frozenset({"Q.*", "T.*"}))
    before = len(between(events, 0, 10, "Q", "T")) / 10
    early, late = (len(between(events, s, s + 2, "Q", "T")) / 2 for s in (10, 18))
    assert early / before == pytest.approx(parts[0], rel=0.15)
    assert late / before == pytest.approx(parts[1], rel=0.25)


def test_activity_of_some_symbols_leaves_the_others_alone() -> None:
    scenario = make_scenario(QUIET, Phase(name="burst", seconds=10, activity=10), symbols=frozenset({"ZZC"}))
    events = play(20, rate=1000, scenario=scenario, held=frozenset({"Q.*"}))
    for symbol, factor in (("ZZC", 10), ("AAPL", 1)):
        before, after = (len(between(events, s, s + 10, "Q", symbol=symbol)) for s in (0, 10))
        assert after / before == pytest.approx(factor, rel=0.15)


def test_scenario_can_be_switched_while_running_and_ends_what_was() -> None:
    market = make_market(rate=300)
    market.set_scenario(make_scenario(Phase(name="halt", seconds=600, halt="level1")), at(NOON))
    assert pick(advance(market, NOON, 5), "T") == []
    market.set_scenario(NORMAL, at(NOON) + 5000)
    events = advance(market, "2026-11-20T12:00:05", 5)
    assert {t["sym"] for t in pick(events, "T") if t.get("c") == [28]} == set(SYMBOLS)
    assert all(since(t) < 6 for t in pick(events, "T")[:30])


def test_scenario_begins_at_once_and_lasts_whole_seconds() -> None:
    market = make_market(rate=300)
    before = advance(market, NOON, 1.4, step_ms=200)
    assert 1.3 < max(since(t) for t in pick(before, "T")) < 1.4
    market.set_scenario(make_scenario(Phase(name="halt", seconds=10, halt="level1")), at(NOON) + 1400)
    events = advance(market, "2026-11-20T12:00:01.400", 12)
    assert {q["t"] for q in pick(events, "Q")[: len(SYMBOLS)]} == {at(NOON) + 1400}, "quotes go wide at once"
    assert min(since(t) for t in pick(events, "T")) == 12, "the reopening: a second begins, and ten have passed"


HALT_ALL = make_scenario(Phase(name="halt", seconds=600, halt="level1"))
BELL, THIN = (make_scenario(Phase(name="activity", seconds=0, activity=factor)) for factor in (20, 0.05))


@pytest.mark.parametrize("into_ms", [1, 400, 990])
@pytest.mark.parametrize(
    ("first", "second"),
    [(NORMAL, BELL), (BELL, NORMAL), (BELL, THIN), (THIN, BELL), (NORMAL, HALT_ALL), (HALT_ALL, NORMAL)],
)
def test_switch_within_a_second_neither_turns_time_back_nor_silences_it(
    first: Scenario, second: Scenario, into_ms: int
) -> None:
    market = make_market(rate=2000)
    market.set_scenario(first, at(NOON))
    switch_ms = at(NOON) + 2000 + into_ms
    events = list(read(market.advance(switch_ms)))
    market.set_scenario(second, switch_ms)
    events += read(market.advance(switch_ms + 1500))
    times = [e["t"] for e in pick(events, "T", "Q")]
    assert times == sorted(times)
    # Thin or halted, 40 come in a second or more.
    streamed = [t for t in times if t % 1000 and t != switch_ms]  # without what a switch or a second says at once
    after = [t for t in streamed if t > switch_ms]
    assert after[0] - max(t for t in streamed if t < switch_ms) < 400


def test_limit_state_outlasts_the_day_s_change_of_bands() -> None:
    scenario = make_scenario(Phase(name="limit", seconds=30, limit="up", activity=2, activity_to=1))
    start = "2026-11-20T09:29:45"
    events = play(30, start, rate=300, scenario=scenario, always_open=True)
    late = [e for e in pick(events, "Q", "LULD", symbol="AAPL") if since(e, start) >= 15]
    bands = [e for e in late if e["ev"] == "LULD"][-1]
    assert {q["bp"] for q in late if q["ev"] == "Q" and since(q, start) > 16} == {bands["h"]}
