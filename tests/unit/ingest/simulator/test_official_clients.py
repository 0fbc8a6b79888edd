"""Both official Python clients parse each event of each built-in scenario: no unknown field, no unexpected type."""

import logging
import typing
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import pytest

from ingest.simulator.scenario_file import load_scenario
from shared.variables import SCENARIOS
from tests.unit.ingest.simulator.played import Event, at, make_market, read

SYMBOLS = ("AAPL", "F")  # of two tapes
DAY = "2026-11-20T"
BEGINS = {"market_wide_halt": "14:58:30", "normal": "09:29:00"}  # the others, at 15:50
END_S = 120  # of the calm after a scenario
# What polygon-api-client 1.16.3 does not know, though live bars have it (PROTOCOL b.2).
NEW_KEYS = {"massive": set(), "polygon": {"dv", "dav"}}


def play(name: str) -> Iterator[Event]:
    """From its begin to two minutes after its end or, of one without, after the close; of `normal`, around the open."""
    scenario, start = load_scenario(name), DAY + BEGINS.get(name, "15:50:00")
    is_endless = not scenario.phases[-1].seconds and name != "normal"
    end_ms = at(DAY + "16:00:00") if is_endless else at(start) + round(sum(p.seconds for p in scenario.phases) * 1000)
    market = make_market(start, rate=0.7, symbols=SYMBOLS)
    market.set_scenario(scenario, at(start))
    return read(market.advance(end_ms + END_S * 1000))


class Watched(dict[str, Any]):
    """An event that knows which of its keys were read."""

    def __init__(self, event: Event) -> None:
        super().__init__(event)
        self.seen: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.seen.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        return super().get(key, default)


@cache
def get_hints(model: Any) -> dict[str, Any]:
    return typing.get_type_hints(model)


def is_of(value: Any, hint: Any) -> bool:
    """Whether a model's type takes the value; a float's takes whole numbers."""
    if typing.get_origin(hint) is typing.Union:
        return any(is_of(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        return isinstance(value, list) and all(is_of(item, typing.get_args(hint)[0]) for item in value)
    return isinstance(value, (int, float) if hint is float else hint)


@pytest.mark.parametrize("name", SCENARIOS)
def test_official_clients_parse_each_event_with_all_its_keys(name: str, caplog: pytest.LogCaptureFixture) -> None:
    events = list(play(name))
    assert len(events) > 100
    for client, unknown in NEW_KEYS.items():
        models = import_module(f"{client}.websocket.models")
        watched = [Watched(event) for event in events]
        with caplog.at_level(logging.WARNING):
            parsed = models.parse(watched, logging.getLogger(client), models.Market.Stocks)
        assert len(parsed) == len(watched) and caplog.records == []
        for event, model in zip(watched, parsed, strict=True):
            assert set(event) - event.seen <= unknown
            hints = get_hints(model.__class__)
            for field, value in vars(model).items():
                assert value is None or is_of(value, hints[field]), (field, value)


def test_the_scenarios_together_have_every_type() -> None:
    types = {event["ev"] for name in ("normal", "halt") for event in play(name)}
    assert types == {"T", "Q", "A", "AM", "LULD", "NOI", "FMV"}
