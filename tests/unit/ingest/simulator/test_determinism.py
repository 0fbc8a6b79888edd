"""The market is a function of its seed: neither steps nor subscriptions change an event."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from ingest.simulator.scenario import Phase
from tests.unit.ingest.simulator.played import NOON, SYMBOLS, advance, at, make_market, make_scenario, pick, play, read

STORM = make_scenario(
    Phase(name="storm", seconds=3, volatility=6, activity=3, activity_to=0.5, spread=4, jump=2),
    Phase(name="limit", seconds=6, limit="up"),
    Phase(name="halt", seconds=6, halt="luld"),
    symbols=frozenset({"AAPL", "ZZB"}),
)


def test_same_seed_gives_the_same_events() -> None:
    assert play(20, scenario=STORM) == play(20, scenario=STORM)


def test_another_seed_gives_other_events() -> None:
    assert play(2, seed=1) != play(2, seed=2)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 1700), min_size=1, max_size=40))
def test_steps_do_not_matter(steps: list[int]) -> None:
    market, now, events = make_market(), at(NOON), []
    market.set_scenario(STORM, now)
    for step in steps:
        now += step
        events += list(read(market.advance(now)))
    assert events == play((now - at(NOON)) / 1000, scenario=STORM, step_ms=1000)


@pytest.mark.parametrize("held", [{"T.AAPL", "AM.*"}, {"Q.*", "LULD.ZZB"}, set(), {"A.BRK.A", "NOI.F", "FMV.*"}])
def test_what_is_held_is_a_part_of_all(held: set[str]) -> None:
    everything = play(75, scenario=STORM)
    expected = [
        e for e in everything if {f"{e['ev']}.*", f"{e['ev']}.{e.get('sym', e.get('T'))}"} & held
    ]  # fmt: skip
    assert play(75, scenario=STORM, held=frozenset(held)) == expected
    assert bool(expected) == bool(held)


def test_holding_more_shows_at_once() -> None:
    market = make_market(held=frozenset())
    assert advance(market, NOON, 2) == []
    market.set_held(frozenset({"T.AAPL"}))
    events = list(read(market.advance(at(NOON) + 5000)))
    assert {(e["ev"], e["sym"]) for e in events} == {("T", "AAPL")}
    assert events == [e for e in pick(play(5), "T", symbol="AAPL") if e["t"] >= at(NOON) + 2000]


def test_time_goes_back_for_nobody() -> None:
    market = make_market()
    advance(market, NOON, 3)
    assert market.advance(at(NOON)) == []
    assert market.advance(at(NOON) + 3000) == []


def test_events_of_a_frame_are_marked_if_asked() -> None:
    for event in play(70, "2026-11-20T09:29:00", marker=True):
        assert list(event)[-1] == "test" and event["test"] is True
    assert not any("test" in event for event in play(3))
    assert {e.get("sym") or e["T"] for e in play(70)} == set(SYMBOLS)
