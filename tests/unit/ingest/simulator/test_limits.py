"""Price bands are those of the LULD plan, recomputed here from the trades that went over the wire."""

from functools import cache

import pytest

from ingest.simulator.bands import make_bands
from ingest.simulator.listing import make_listings
from ingest.simulator.prices import divide
from ingest.simulator.scenario import Phase
from tests.unit.ingest.simulator.played import SYMBOLS, Event, at, make_scenario, pick, play, units

OPEN = "2026-11-20T09:29:58"
DRIFT = make_scenario(Phase(name="rise", seconds=600, drift=9), Phase(name="fall", seconds=300, drift=-6))
LISTINGS = {listing.symbol: listing for listing in make_listings(SYMBOLS)}


@pytest.mark.parametrize(
    ("reference", "tier", "base", "is_doubled", "low", "high"),
    [
        (299.71, 1, 290.0, False, 284.72, 314.7),  # IWM, live on 2026-08-28 at 9:38
        (469.515, 1, 460.0, False, 446.04, 492.99),  # MSFT, live on 2025-11-25
        (3.30, 2, 3.30, False, 2.97, 3.63),  # ATHR, live on 2026-09-08
        (100.0, 1, 100.0, True, 90.0, 110.0),
        (100.0, 2, 100.0, True, 90.0, 110.0),  # no doubling above $3 in tier 2
        (2.0, 1, 2.0, False, 1.6, 2.4),
        (2.0, 2, 3.0, True, 1.2, 2.8),
        (3.2, 2, 2.9, False, 2.56, 3.84),  # the day before decides
        (0.75, 2, 0.75, False, 0.6, 0.9),
        (0.5, 2, 0.5, False, 0.35, 0.65),
        (0.1, 2, 0.1, False, 0.03, 0.18),
        (0.1, 2, 0.1, True, 0.01, 0.25),
    ],
)
def test_bands_are_the_plan_s(
    reference: float, tier: int, base: float, is_doubled: bool, low: float, high: float
) -> None:
    assert make_bands(units(reference), tier, units(base), is_doubled) == (units(low), units(high))


@cache
def get_morning() -> list[Event]:
    return play(902, OPEN, rate=60, scenario=DRIFT, held=frozenset({"T.*", "LULD.*"}), step_ms=5000)


def follow(symbol: str, events: list[Event], end_ms: int) -> list[tuple[int, float, float]]:
    """When bands change and to what: the rule, applied to the trades from the opening auction on."""
    listing = LISTINGS[symbol]
    trades = [t for t in pick(events, "T", symbol=symbol) if not {16, 37} & {*t.get("c", [])}]
    [auction] = [t for t in trades if t.get("c") == [9, 25]]
    reference = base = units(auction["p"])
    found = [(auction["t"], *make_bands(reference, listing.tier, base, False))]
    for look in range(auction["t"] + 30_000, end_ms, 30_000):
        prices = [units(t["p"]) for t in trades if max(auction["t"], look - 300_000) <= t["t"] < look]
        if prices and abs((mean := divide(sum(prices), len(prices))) - reference) * 100 >= reference:
            reference = mean
            found.append((look, *make_bands(reference, listing.tier, base, False)))
    return [(time, low / 10_000, high / 10_000) for time, low, high in found]


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_bands_follow_the_mean_of_five_minutes_in_steps_of_one_percent(symbol: str) -> None:
    told = [(e["t"] // 1_000_000, e["l"], e["h"]) for e in pick(get_morning(), "LULD", symbol=symbol)]
    assert told == follow(symbol, get_morning(), at(OPEN) + 902_000)
    assert len(told) > 3  # so the reference has moved


def test_no_trade_is_outside_the_bands() -> None:
    bands: dict[str, Event] = {}
    for event in get_morning():
        if event["ev"] == "LULD":
            bands[event["T"]] = event
        elif event["sym"] in bands:
            assert bands[event["sym"]]["l"] <= event["p"] <= bands[event["sym"]]["h"]


def test_bands_are_told_as_live_ones_are() -> None:
    for event in pick(get_morning(), "LULD"):
        assert list(event) == ["ev", "h", "l", "i", "z", "T", "t", "q"]
        assert event["z"] == LISTINGS[event["T"]].tape and len(str(event["t"])) == 19
        assert event["i"] == ([15] if event["z"] == 3 else [21])


def test_bands_double_in_the_last_25_minutes_where_the_plan_says_so() -> None:
    events = play(130, "2026-11-20T15:34:00", rate=40, held=frozenset({"LULD.*"}))
    doubled = {e["T"]: e for e in events if e["t"] // 1_000_000 == at("2026-11-20T15:35:00")}
    assert set(doubled) == {
        symbol for symbol, listing in LISTINGS.items() if listing.tier == 1 or listing.price < 30_000
    }
    before = {e["T"]: e for e in reversed(events) if e["t"] // 1_000_000 < at("2026-11-20T15:35:00")}
    for symbol, event in doubled.items():
        old = before[symbol]
        assert event["h"] - event["l"] == pytest.approx(2 * (old["h"] - old["l"]), abs=0.05)


def test_there_are_no_bands_outside_the_regular_hours() -> None:
    assert pick(play(30, "2026-11-20T09:29:00"), "LULD") == []
    assert pick(play(70, "2026-11-20T16:00:00"), "LULD") == []


def test_a_wild_price_turns_at_the_band() -> None:
    wild = make_scenario(Phase(name="wild", seconds=60, volatility=50))
    events = play(55, rate=100, scenario=wild, held=frozenset({"Q.AAPL", "LULD.AAPL", "T.AAPL"}))
    bands: Event = {}
    for event in events:
        bands = event if event["ev"] == "LULD" else bands
        if event["ev"] == "Q":
            assert bands["l"] <= event["bp"] < event["ap"] <= bands["h"]
    first, *others = pick(events, "Q")
    assert max(abs(e["ap"] / first["ap"] - 1) for e in others) > 0.04


@pytest.mark.parametrize("symbol", ["AAPL", "F"])
def test_the_reference_stays_in_a_limit_state_and_takes_all_five_minutes_after_it(symbol: str) -> None:
    limit = make_scenario(Phase(name="limit", seconds=170, limit="up"), symbols=frozenset({symbol}))
    events = play(181, "2026-11-20T12:00:00", rate=200, scenario=limit, held=frozenset({"T.*", "LULD.*"}))
    first, *states, moved = pick(events, "LULD", symbol=symbol)
    assert {(e["l"], e["h"]) for e in states} == {(first["l"], first["h"])}
    end_ms = at("2026-11-20T12:03:00")
    prices = [units(t["p"]) for t in pick(events, "T", symbol=symbol) if 37 not in t.get("c", []) and t["t"] < end_ms]
    listing, mean = LISTINGS[symbol], divide(sum(prices), len(prices))
    bands = make_bands(mean, listing.tier, listing.price, False)
    assert (moved["t"] // 1_000_000, units(moved["l"]), units(moved["h"])) == (end_ms, *bands)
