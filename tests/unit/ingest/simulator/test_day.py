"""A day in New York: hours, half days and holidays, auctions, and how busy it is when."""

from datetime import date, timedelta

import pytest

from ingest.simulator.clock import Clock
from ingest.simulator.hours import CLOSED, EXTENDED, REGULAR, Hours, write_hhmm
from tests.unit.ingest.simulator.played import SYMBOLS, Event, advance, at, make_market, pick, play

EXACT = Hours(always_open=False)


@pytest.mark.parametrize(
    ("time", "session"),
    [
        ("2026-11-20T03:59:59", CLOSED), ("2026-11-20T04:00:00", EXTENDED), ("2026-11-20T09:29:59", EXTENDED),
        ("2026-11-20T09:30:00", REGULAR), ("2026-11-20T15:59:59", REGULAR), ("2026-11-20T16:00:00", EXTENDED),
        ("2026-11-20T19:59:59", EXTENDED), ("2026-11-20T20:00:00", CLOSED),
        ("2026-11-27T12:59:59", REGULAR), ("2026-11-27T13:00:00", EXTENDED), ("2026-11-27T17:00:00", CLOSED),
        ("2026-12-24T13:00:00", EXTENDED), ("2026-11-26T12:00:00", CLOSED), ("2026-12-25T12:00:00", CLOSED),
        ("2026-07-03T12:00:00", CLOSED), ("2026-04-03T12:00:00", CLOSED), ("2026-11-21T12:00:00", CLOSED),
        ("2026-03-09T09:30:00", REGULAR), ("2026-03-06T09:30:00", REGULAR),
    ],
)  # fmt: skip
def test_sessions(time: str, session: int) -> None:
    assert EXACT.get_session(at(time)) == session
    assert (EXACT.get_shape(at(time)) > 0) == (session != CLOSED)
    assert Hours(always_open=True).get_session(at(time)) == REGULAR


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2026-11-20T20:00:00", "2026-11-23T04:00:00"), ("2026-11-25T20:00:00", "2026-11-27T04:00:00"),
        ("2026-11-27T17:00:00", "2026-11-30T04:00:00"), ("2026-11-20T01:00:00", "2026-11-20T04:00:00"),
        ("2026-12-31T21:00:00", "2027-01-04T04:00:00"),
    ],
)  # fmt: skip
def test_after_the_close_comes_the_next_trading_day(now: str, start: str) -> None:
    assert EXACT.find_start(at(now)) == at(start)


def test_shape_is_high_at_the_open_and_the_close_and_low_at_noon_and_outside() -> None:
    times = ("04:05", "09:20", "09:30", "09:45", "12:45", "15:30", "15:59", "16:01", "19:00")
    shape = {text: EXACT.get_shape(at(f"2026-11-20T{text}:00")) for text in times}
    assert shape["04:05"] < shape["09:20"] < shape["12:45"] < shape["09:45"] < shape["09:30"]
    assert shape["12:45"] < shape["15:30"] < shape["15:59"] > shape["16:01"] > shape["19:00"]
    assert shape["12:45"] == pytest.approx(1, abs=0.03)


def test_always_open_is_a_quiet_midday_outside_the_regular_hours() -> None:
    hours = Hours(always_open=True)
    assert hours.get_shape(at("2026-11-21T15:00:00")) == hours.get_shape(at("2026-11-20T03:00:00")) == 1
    assert hours.get_shape(at("2026-11-20T09:30:00")) > 3


def count_volume(start: str) -> int:
    return sum(t["s"] for t in pick(play(60, start, rate=300, held=frozenset({"T.*"})), "T") if not is_auction(t))


def is_auction(trade: Event) -> bool:
    return bool({8, 15, 16, 25, 28} & {*trade.get("c", [])})


def test_volume_has_the_day_s_shape() -> None:
    times = ("04:30", "09:25", "09:31", "12:30", "15:58", "16:05", "19:30")
    early, before, first, noon, last, after, late = (count_volume(f"2026-11-20T{text}:00") for text in times)
    assert early < before < noon < first
    assert noon < last > after > late
    assert first > 2 * noon and last > 1.8 * noon and noon > 8 * early


@pytest.fixture(scope="module")
def opening() -> list[Event]:
    return play(90, "2026-11-20T09:29:15", rate=300)


@pytest.fixture(scope="module")
def closing() -> list[Event]:
    return play(90, "2026-11-20T15:59:15", rate=300)


def test_open_is_the_opening_auction_s_price(opening: list[Event]) -> None:
    open_ms = at("2026-11-20T09:30:00")
    for symbol in SYMBOLS:
        trades = pick(opening, "T", symbol=symbol)
        [auction] = [t for t in trades if t.get("c") == [9, 25]]
        [official] = [t for t in trades if t.get("c") == [16]]
        assert auction["t"] == official["t"] == open_ms and auction["p"] == official["p"]
        for bar in pick(opening, "A", "AM", symbol=symbol):
            assert bar.get("op") == (None if bar["e"] <= open_ms else auction["p"])


def test_trades_outside_the_regular_hours_are_form_t(opening: list[Event], closing: list[Event]) -> None:
    open_ms, close_ms = at("2026-11-20T09:30:00"), at("2026-11-20T16:00:00")
    for trade in pick(opening + closing, "T"):
        if not is_auction(trade):
            assert (12 in trade.get("c", [])) == (not open_ms <= trade["t"] < close_ms)


def test_closing_auction_is_at_the_close_and_big(closing: list[Event]) -> None:
    for symbol in SYMBOLS:
        trades = pick(closing, "T", symbol=symbol)
        [auction] = [t for t in trades if t.get("c") == [8, 9]]
        [official] = [t for t in trades if t.get("c") == [15]]
        assert auction["t"] == at("2026-11-20T16:00:00") and official["p"] == auction["p"]
        sizes = sorted(t["s"] for t in trades if not is_auction(t))
        assert auction["s"] > 10 * sizes[len(sizes) // 2]


def test_half_day_closes_at_one(opening: list[Event]) -> None:
    trades = pick(play(2, "2026-11-27T12:59:59"), "T")
    assert {t["t"] for t in trades if t.get("c") == [8, 9]} == {at("2026-11-27T13:00:00")}


@pytest.mark.parametrize(("which", "kind", "hhmm"), [("opening", "M", 930), ("closing", "C", 1600)])
def test_imbalances_are_told_before_the_auctions(
    which: str, kind: str, hhmm: int, request: pytest.FixtureRequest
) -> None:
    events = request.getfixturevalue(which)
    told = pick(events, "NOI", symbol="AAPL")
    auction_ms = at("2026-11-20T09:30:00" if kind == "M" else "2026-11-20T16:00:00")
    assert {(n["a"], n["at"]) for n in told} == {(kind, hhmm)}
    times = [n["t"] // 1_000_000 for n in told]
    assert times == list(range(auction_ms - 45_000, auction_ms, 5000))
    assert told[-1]["p"] > told[0]["p"]
    assert [list(n) for n in told] == [["ev", "T", "t", "at", "a", "i", "x", "o", "p", "b"]] * len(told)


def test_no_imbalance_two_minutes_earlier() -> None:
    assert pick(play(60, "2026-11-20T09:27:00"), "NOI") == []
    assert pick(play(10, "2026-11-20T15:49:00"), "NOI") == []


def test_totals_start_again_each_day_and_prices_do_not() -> None:
    market = make_market("2026-11-20T19:59:00", rate=600)
    evening = advance(market, "2026-11-20T19:59:00", 65, step_ms=5000)
    morning = advance(market, "2026-11-23T04:00:00", 600, step_ms=5000)
    for symbol in ("AAPL", "SPY"):
        last, first = pick(evening, "A", symbol=symbol)[-1], pick(morning, "A", symbol=symbol)[0]
        traded = sum(t["s"] for t in pick(morning, "T", symbol=symbol) if t["t"] < first["e"])
        assert first["av"] == traded < last["av"] and "op" not in first
        assert first["o"] == pytest.approx(last["c"], rel=0.01)
        assert first["s"] >= at("2026-11-23T04:00:00")
        assert pick(morning, "Q", symbol=symbol)[0]["q"] < 100


def test_nothing_is_traded_while_closed() -> None:
    assert play(3600, "2026-11-20T20:00:00", step_ms=60_000) == []
    assert pick(play(3600, "2026-11-26T12:00:00", step_ms=600_000), "T", "Q") == []


def test_always_open_market_trades_on_a_sunday_with_bands_and_an_open() -> None:
    events = play(70, "2026-11-22T15:00:00", always_open=True)
    assert {e["ev"] for e in events} == {"T", "Q", "A", "AM", "LULD", "FMV"}
    assert all("op" in bar for bar in pick(events, "A"))
    assert not any(12 in t.get("c", []) for t in pick(events, "T"))


def test_fair_values_come_now_and_then_in_nanoseconds() -> None:
    values = pick(play(60), "FMV", symbol="AAPL")
    assert len(values) == 6
    assert all(list(v) == ["ev", "fmv", "sym", "t"] and len(str(v["t"])) == 19 for v in values)


def test_hhmm_is_new_york_s() -> None:
    assert [write_hhmm(at(f"2026-07-02T{time}:00")) for time in ("09:30", "16:00")] == [930, 1600]


def test_each_day_of_a_year_is_one_of_three_kinds() -> None:
    kinds = {"closed": 0, "half": 0, "whole": 0}
    for number in range(365):
        day = EXACT.get_day(at((date(2026, 1, 1) + timedelta(days=number)).isoformat() + "T12:00:00"))
        hours = (day.close_ms - day.open_ms) / 3_600_000
        kinds[{0: "closed", 3.5: "half", 6.5: "whole"}[hours]] += 1
    assert kinds == {"closed": 104 + 10, "half": 2, "whole": 249}


def test_clock_runs_at_its_speed() -> None:
    clock = Clock(at("2026-11-20T19:59:00"), 10, 100.0)
    assert clock.get_ms(103.0) == at("2026-11-20T19:59:30")
    clock.set_speed(1, 103.0)
    assert clock.get_ms(104.0) == at("2026-11-20T19:59:31")
