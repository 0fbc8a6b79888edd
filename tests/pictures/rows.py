"""What a simulated market sends, as rows of numbers, and few enough of them to draw."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import msgspec

from ingest.simulator.scenario import Scenario

STEP_MS = 1000


class Row(NamedTuple):
    """The state after an event; a quote's volume is 0.  Prices are None until there has been one."""

    time_s: float  # since the scenario began
    price: float | None
    bid: float | None
    ask: float | None
    volume: float  # shares


class Point(NamedTuple):
    """A stretch of time in which there were events."""

    time_s: float  # its middle
    price: float | None  # the last one; None if nothing was traded
    bid: float | None  # the last ones
    ask: float | None
    spread: float | None  # the mean, in the prices' unit
    volume: float  # shares per second


class Market(Protocol):
    def set_held(self, held: frozenset[str]) -> None: ...
    def set_scenario(self, scenario: Scenario, now_ms: int) -> None: ...
    def advance(self, to_ms: int) -> list[bytes]: ...


def collect(market: Market, symbol: str, scenario: Scenario, scenario_ms: int, ends_ms: tuple[int, int]) -> list[Row]:
    """The rows of one symbol, from where the market stands, `ends_ms[0]`; the scenario begins at a whole second of it.

    Times count from the beginning of the scenario.
    """
    start_ms, end_ms = ends_ms
    market.set_held(frozenset({f"T.{symbol}", f"Q.{symbol}"}))
    frames: list[bytes] = []
    for now_ms in range(start_ms, end_ms, STEP_MS):
        if now_ms == scenario_ms:
            market.set_scenario(scenario, now_ms)
        frames += market.advance(now_ms + STEP_MS)
    events = (event for frame in frames for event in msgspec.json.decode(frame))
    return list(_read(events, scenario_ms))


def _read(events: Iterable[dict[str, Any]], zero_ms: int) -> Iterator[Row]:
    price = bid = ask = None
    for event in events:
        time_s = (event["t"] - zero_ms) / 1000
        if event["ev"] == "T":
            price = event["p"]
            yield Row(time_s, price, bid, ask, event["s"])
        else:
            bid, ask = event["bp"], event["ap"]
            yield Row(time_s, price, bid, ask, 0)


def thin(rows: Iterable[Row], start_s: float, end_s: float, most: int = 360) -> list[Point]:
    """At most so many points, in stretches of equal length; one without events has none."""
    length_s = (end_s - start_s) / most
    within = (row for row in rows if start_s <= row.time_s < end_s)
    stretches = groupby(within, key=lambda row: int((row.time_s - start_s) / length_s))
    return [_summarize(list(group), start_s + (index + 0.5) * length_s, length_s) for index, group in stretches]


def _summarize(rows: list[Row], time_s: float, length_s: float) -> Point:
    *_, last = rows
    spreads = [row.ask - row.bid for row in rows if row.bid and row.ask]  # 0 is no price: nobody asks
    spread = sum(spreads) / len(spreads) if spreads else None
    volume = sum(row.volume for row in rows)
    return Point(time_s, last.price if volume else None, last.bid, last.ask, spread, volume / length_s)
