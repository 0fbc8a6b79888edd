"""What a market takes into another run: bands, bars and numbers go on as if there had been one run only."""

import json
import time
from itertools import pairwise

import pytest

from ingest.simulator.listing import SYMBOLS as MANY
from ingest.simulator.market import Market
from ingest.simulator.scenario import Phase
from tests.unit.ingest.simulator.played import NOON, SYMBOLS, Event, at, make_market, make_scenario, pick, read, units
from tests.unit.ingest.simulator.test_bars import expect_bars

RISE = make_scenario(Phase(name="rise", seconds=600, drift=12))


def restart(before: Market, now_ms: int, is_old: bool = False, rate: float = 150) -> Market:
    """Another run, from that time on."""
    after = Market(SYMBOLS, 99, rate, now_ms, state=before.get_state(), always_open=False, is_old=is_old)
    after.set_held(frozenset({"*"}))
    return after


def make_restarted(cut_ms: int, pause_ms: int = 0, length_ms: int = 190_000, is_old: bool = False) -> list[Event]:
    """A stretch from noon on that is cut after `cut_ms` and goes on after a pause."""
    market, cut = make_market(rate=150), at(NOON) + cut_ms
    events = list(read(market.advance(cut)))
    return events + list(read(restart(market, cut + pause_ms, is_old).advance(at(NOON) + length_ms)))


@pytest.mark.parametrize("symbol", ["AAPL", "F", "SPY"])
def test_prices_and_bands_stay_where_the_day_has_led_them(symbol: str) -> None:
    before, end_ms = make_market(rate=150), at(NOON) + 610_400
    before.set_scenario(RISE, at(NOON))
    first = list(read(before.advance(end_ms)))
    second = list(read(restart(before, end_ms + 3000).advance(end_ms + 5000)))
    last, bands = pick(first, "LULD", symbol=symbol)[-1], pick(second, "LULD", symbol=symbol)[0]
    assert units(last["l"]) > 1.03 * units(pick(first, "LULD", symbol=symbol)[0]["l"])
    assert (bands["l"], bands["h"]) == (last["l"], last["h"])
    bids = [pick(part, "Q", symbol=symbol)[at_]["bp"] for part, at_ in ((first, -1), (second, 0))]
    assert bids[1] == pytest.approx(bids[0], rel=0.003)


def test_the_five_minutes_of_the_reference_go_on() -> None:
    market, cut = make_market(rate=150), at(NOON) + 100_500
    market.set_scenario(RISE, at(NOON))
    market.advance(cut)
    saved, again = (json.loads(m.get_state())["stocks"] for m in (market, restart(market, cut)))
    assert all(stock["reference"]["looks"] for stock in saved.values())
    after = restart(market, cut)
    after.advance(cut + 100)
    references = {s: stock["reference"] for s, stock in json.loads(after.get_state())["stocks"].items()}
    assert {s: reference["looks"] for s, reference in references.items()} == {
        s: stock["reference"]["looks"] for s, stock in saved.items()
    }
    assert set(again) == set(saved)


def find_center(events: list[Event], symbol: str) -> float:
    """Of the first bands."""
    bands = pick(events, "LULD", symbol=symbol)[0]
    return float(bands["l"] + bands["h"]) / 2


def test_after_a_halt_the_reference_begins_anew() -> None:
    market = make_market(rate=150)
    market.set_scenario(make_scenario(Phase(name="halt", seconds=600, halt="level1", jump=-30)), at(NOON))
    market.advance(at(NOON) + 10_000)
    events = list(read(restart(market, at(NOON) + 12_000).advance(at(NOON) + 13_000)))
    for symbol in SYMBOLS:
        assert find_center(events, symbol) == pytest.approx(pick(events, "Q", symbol=symbol)[0]["bp"], rel=0.02)


@pytest.mark.parametrize("end", ["2026-11-20T09:30:00", "2026-11-23T12:00:00"])
def test_on_another_day_and_at_the_open_the_reference_begins_anew(end: str) -> None:
    start = "2026-11-20T09:29:30"
    market = make_market(start, rate=150, always_open=True)
    market.set_scenario(make_scenario(Phase(name="rise", seconds=26, drift=4)), at(start))
    market.advance(at(start) + 26_000)
    events = list(read(restart(market, at(end)).advance(at(end) + 1000)))
    for symbol in SYMBOLS:
        assert find_center(events, symbol) == pytest.approx(pick(events, "Q", symbol=symbol)[0]["bp"], rel=0.01)


@pytest.mark.parametrize("cut_ms", [60_700, 61_000, 95_400, 119_900, 120_000])
@pytest.mark.parametrize(("kind", "length_ms"), [("A", 1000), ("AM", 60_000)])
def test_bars_are_the_aggregates_of_the_trades_of_both_runs(kind: str, length_ms: int, cut_ms: int) -> None:
    events = make_restarted(cut_ms)
    for symbol in SYMBOLS:
        bars, trades = pick(events, kind, symbol=symbol), pick(events, "T", symbol=symbol)
        expected = expect_bars(trades, length_ms, bars[0]["op"])
        assert bars == [bar for bar in expected if bar["e"] < at(NOON) + 188_000]


def test_after_a_pause_within_the_minute_its_bar_is_whole_and_after_a_longer_one_it_is_that_of_its_own_minute() -> None:
    for pause_ms in (7_300, 61_000):
        events = make_restarted(95_400, pause_ms)
        for symbol in ("AAPL", "SPY"):
            bars, trades = pick(events, "AM", symbol=symbol), pick(events, "T", symbol=symbol)
            expected = {bar["s"]: bar for bar in expect_bars(trades, 60_000, bars[0]["op"])}
            assert len(bars) == (3 if pause_ms < 60_000 else 2)
            assert all(bar == expected[bar["s"]] for bar in bars)


def test_numbers_of_an_old_state_are_never_used_again() -> None:
    market, cut = make_market(rate=150), at(NOON) + 5000
    market.advance(cut)
    after = restart(market, cut + 1000, is_old=True)
    used = list(read(market.advance(cut + 1000)))  # made after the state was
    second = list(read(after.advance(cut + 3000)))
    for symbol in SYMBOLS:
        numbers = [[e["q"] for e in pick(part, "T", "Q", "LULD", symbol=symbol)] for part in (used, second)]
        assert max(numbers[0]) < min(numbers[1]) and all(a < b for a, b in pairwise(numbers[1]))
        ids = [{t["i"] for t in pick(part, "T", symbol=symbol)} for part in (used, second)]
        assert ids[1] and not ids[0] & ids[1]


def test_a_run_that_begins_before_the_state_was_saved_takes_prices_and_numbers_but_no_totals() -> None:
    market = make_market(rate=150)
    market.set_scenario(make_scenario(Phase(name="jump", seconds=0, jump=30)), at(NOON))
    before = list(read(market.advance(at(NOON) + 185_400)))
    after = list(read(restart(market, at(NOON), is_old=True).advance(at(NOON) + 70_000)))
    for symbol in SYMBOLS:
        quotes = [pick(part, "Q", symbol=symbol)[at_] for part, at_ in ((before, -1), (after, 0))]
        assert quotes[1]["bp"] == pytest.approx(quotes[0]["bp"], rel=0.01) and quotes[1]["q"] > quotes[0]["q"]
        trades, bars = pick(after, "T", symbol=symbol), pick(after, "A", symbol=symbol)
        assert bars and bars == expect_bars(trades, 1000, bars[0]["op"])[: len(bars)]
        assert not {t["i"] for t in trades} & {t["i"] for t in pick(before, "T", symbol=symbol)}
        assert find_center(after, symbol) == pytest.approx(quotes[1]["bp"], rel=0.02)


def test_numbers_of_today_are_not_used_again_after_a_fast_market_that_ended_on_a_later_day() -> None:
    market, start = make_market("2026-11-20T19:59:50", rate=150), at("2026-11-20T19:59:52")
    before = list(read(market.advance(at("2026-11-23T04:00:20"))))
    after = list(read(restart(market, start, is_old=True, rate=5000).advance(start + 5000)))
    assert pick(after, "T")
    for symbol in SYMBOLS:
        ids = [{t["i"] for t in pick(part, "T", symbol=symbol)} for part in (before, after)]
        assert not ids[0] & ids[1]


def play_with(symbols: tuple[str, ...], state: bytes, start_ms: int, end_ms: int) -> tuple[list[Event], bytes]:
    """Another run, with these symbols; its events, and its state at the end."""
    market = Market(symbols, 5, 150, start_ms, state=state, always_open=False)
    market.set_held(frozenset({"*"}))
    return list(read(market.advance(end_ms))), market.get_state()


@pytest.mark.parametrize("away_ms", [700, 59_700])
def test_symbol_that_leaves_and_returns_on_the_same_day_goes_on_where_it_was(away_ms: int) -> None:
    market, leaves_ms = make_market(rate=150), at(NOON) + 61_300
    events = list(read(market.advance(leaves_ms)))
    away, state = play_with(("SPY",), market.get_state(), leaves_ms, leaves_ms + away_ms)
    again_ms = leaves_ms + away_ms
    again, _ = play_with(SYMBOLS, state, again_ms, again_ms + 70_000)
    assert {e["sym"] for e in pick(away, "T", "Q")} == {"SPY"}
    for symbol in SYMBOLS:
        sold, later = pick(events + away, "T", symbol=symbol), pick(again, "T", symbol=symbol)
        assert not {t["i"] for t in sold} & {t["i"] for t in later}
        bar = next(bar for bar in pick(again, "A", symbol=symbol) if bar["s"] > again_ms)
        assert bar["av"] == sum(t["s"] for t in sold + later if t["t"] < bar["e"])
        assert bar["op"] == pick(events, "A", symbol=symbol)[0]["op"]
        bids = [pick(part, "Q", symbol=symbol)[at_]["bp"] for part, at_ in ((events, -1), (again, 0))]
        assert bids[1] == pytest.approx(bids[0], rel=0.01)


def test_bars_of_a_run_that_goes_on_later_have_no_trades_of_the_second_in_which_the_one_before_ended() -> None:
    market, ends_ms, goes_on_ms = make_market(rate=150), at(NOON) + 10_900, at(NOON) + 3_600_000
    events = list(read(market.advance(ends_ms)))
    market = Market(SYMBOLS, 5, 150, ends_ms, state=market.get_state(), always_open=False)
    market.set_held(frozenset({"*"}))
    market.skip_to(goes_on_ms)
    events += read(market.advance(goes_on_ms + 70_000))
    for kind, symbol in (("A", "AAPL"), ("A", "SPY"), ("AM", "AAPL")):
        trades = pick(events, "T", symbol=symbol)
        for bar in pick(events, kind, symbol=symbol):
            assert bar["v"] == sum(t["s"] for t in trades if bar["s"] <= t["t"] < bar["e"]), bar


def test_symbol_that_returns_in_a_run_that_begins_before_it_left_has_no_totals_of_later() -> None:
    market = make_market(rate=150)
    market.advance(at(NOON) + 60_000)
    _, state = play_with(("SPY",), market.get_state(), at(NOON) + 60_000, at(NOON) + 61_000)
    _, state = play_with(("SPY",), state, at(NOON), at(NOON) + 1000)
    again, _ = play_with(SYMBOLS, state, at(NOON) + 1000, at(NOON) + 20_000)
    bar = pick(again, "A", symbol="AAPL")[0]
    assert bar["av"] == sum(t["s"] for t in pick(again, "T", symbol="AAPL") if t["t"] < bar["e"])


def test_of_absent_symbols_those_that_left_last_are_kept_and_none_overnight() -> None:
    state = make_market().get_state()
    for number in range(12):
        names = tuple(f"Z{chr(65 + number)}{chr(65 + i)}{j}" for i in range(26) for j in range(4))
        _, state = play_with(names, state, at(NOON) + 1000 * number + 1000, at(NOON) + 1000 * number + 2000)
    kept = list(json.loads(state)["stocks"])
    assert len(kept) == 1000 + 104 and kept[-104:] == list(names) and "ZKA0" in kept and "ZAA0" not in kept
    _, state = play_with(names, state, at("2026-11-20T19:59:58"), at("2026-11-23T04:00:02"))
    assert list(json.loads(state)["stocks"]) == list(names)


def test_state_of_30_symbols_is_made_in_a_millisecond() -> None:
    market = Market(MANY[:30], 1, 3000, at(NOON), always_open=False)
    market.advance(at(NOON) + 310_500)
    took = []
    for _ in range(20):
        begin = time.process_time()
        market.get_state()
        took.append(time.process_time() - begin)
    assert min(took) < 0.001
    print(f"{min(took) * 1e6:.0f} us, {len(market.get_state())} bytes")
