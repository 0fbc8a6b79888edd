"""Stretches of the simulated market, as the events that its clients would get."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from ingest.simulator.hours import NEW_YORK, to_ms
from ingest.simulator.market import Market
from ingest.simulator.scenario import NORMAL, Phase, Scenario

Event = dict[str, Any]
SYMBOLS = ("AAPL", "F", "SPY", "BRK.A", "ZZB", "ZZC", "ZZG")  # of all tapes, tiers and kinds of price
NOON = "2026-11-20T12:00:00"
EVERYTHING = frozenset({"*"})


def at(text: str) -> int:
    """Unix ms of a time in New York."""
    return to_ms(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK))


def make_market(start: str = NOON, rate: float = 200, seed: int = 7, **more: Any) -> Market:
    held = more.pop("held", EVERYTHING)
    market = Market(more.pop("symbols", SYMBOLS), seed, rate, at(start), **{"always_open": False, **more})
    market.set_held(held)
    return market


def read(frames: Iterable[bytes]) -> Iterator[Event]:
    for frame in frames:
        assert len(frame) <= 256 * 1024
        yield from json.loads(frame)


def advance(market: Market, start: str, seconds: float, step_ms: int = 500) -> list[Event]:
    """The events of a stretch."""
    begin = at(start)
    events: list[Event] = []
    for now in range(begin, begin + round(seconds * 1000), step_ms):
        events += read(market.advance(min(now + step_ms, begin + round(seconds * 1000))))
    return events


def play(
    seconds: float, start: str = NOON, scenario: Scenario = NORMAL, step_ms: int = 500, **more: Any
) -> list[Event]:
    """A stretch from the market's beginning."""
    market = make_market(start, **more)
    market.set_scenario(scenario, at(start))
    return advance(market, start, seconds, step_ms)


def make_scenario(*phases: Phase, symbols: frozenset[str] | None = None) -> Scenario:
    return Scenario("test", symbols, phases, False)


def pick(events: Iterable[Event], *types: str, symbol: str | None = None) -> list[Event]:
    """The events of some types, and of one symbol."""
    return [e for e in events if e["ev"] in types and symbol in (None, e.get("sym", e.get("T")))]


def units(price: float) -> int:
    """In 1/10,000 dollar, as the simulator counts."""
    return round(price * 10_000)
