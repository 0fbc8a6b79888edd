"""Simulated events are what official clients know, and look like real ones key by key."""

import json
from functools import cache
from pathlib import Path

import pytest

from ingest.simulator.scenario import Phase
from shared.split import split_frame
from tests.unit.ingest.simulator.played import Event, at, make_market, make_scenario, pick, read

FRAMES = Path(__file__).parents[3] / "data" / "frames.jsonl"
START = "2026-11-20T09:29:00"
TYPES = ("T", "Q", "A", "AM", "LULD", "NOI", "FMV")
STORM = make_scenario(
    Phase(name="opening", seconds=80, volatility=3),
    Phase(name="limit", seconds=15, limit="up"),
    Phase(name="halt", seconds=20, halt="luld"),
    Phase(name="jump", seconds=10, jump=-4),
)


@cache
def get_frames() -> list[bytes]:
    market = make_market(START, rate=15)
    market.set_scenario(STORM, at(START))
    return [frame for second in range(130) for frame in market.advance(at(START) + 1000 * second)]


@cache
def get_events() -> list[Event]:
    return list(read(get_frames()))


def get_samples(*types: str, provenance: str = "") -> list[Event]:
    """Events of stocks in the frames that were collected from live feeds and documents."""
    rows = [json.loads(line) for line in FRAMES.read_text().splitlines()]
    chosen = [row for row in rows if row["cluster"].startswith("stocks") and row["kind"] == "data"]
    return pick((e for row in chosen if provenance in row["provenance"] for e in json.loads(row["frame"])), *types)


def test_every_type_is_there() -> None:
    assert {event["ev"] for event in get_events()} == set(TYPES)


@pytest.mark.parametrize("ev", TYPES)
def test_keys_are_those_of_real_events(ev: str) -> None:
    known = {key for sample in get_samples(ev) for key in sample} | ({"dv", "dav"} if ev == "AM" else set())
    for event in pick(get_events(), ev):
        assert set(event) <= known


@pytest.mark.parametrize(("ev", "added"), [("T", []), ("A", []), ("Q", ["q"]), ("NOI", []), ("FMV", [])])
def test_keys_have_the_order_of_the_newest_live_events(ev: str, added: list[str]) -> None:
    """Added: quotes of 2019, the newest live ones, had no `q`; nor had trades of then, and have it there now."""
    samples = get_samples(ev, provenance="live" if ev in ("T", "A", "Q") else "")
    newest = [s for s in samples if "n" not in s]
    orders = [[key for key in s if key not in added] for s in newest]
    for event in pick(get_events(), ev):
        own = [key for key in event if key not in added]
        assert any(own == [key for key in order if key in own] for order in orders), event


@pytest.mark.parametrize("ev", TYPES)
def test_values_have_the_types_of_real_events(ev: str) -> None:
    kinds: dict[str, set[str]] = {}
    for sample in get_samples(ev):
        for key, value in sample.items():
            kinds.setdefault(key, set()).add(type(value).__name__)
    kinds["i"] = {"str"} if ev == "T" else kinds.get("i", set())
    prices = {"p", "bp", "ap", "vw", "o", "c", "h", "l", "a", "op", "fmv", "b"} if ev != "NOI" else {"b"}
    for event in pick(get_events(), ev):
        for key, value in event.items():
            if isinstance(value, (int, float)) and key in prices:
                continue
            assert type(value).__name__ in kinds.get(key, {"str"}), (key, value)


@pytest.mark.parametrize(("ev", "low", "high"), [("T", 80, 135), ("Q", 95, 140), ("A", 150, 230), ("LULD", 85, 110)])
def test_events_are_as_long_as_real_ones(ev: str, low: int, high: int) -> None:
    lengths = [len(json.dumps(event, separators=(",", ":"))) for event in pick(get_events(), ev)]
    assert low <= min(lengths) and max(lengths) <= high


def test_frames_are_compact_and_can_be_split() -> None:
    for frame in get_frames():
        split = split_frame(frame)
        assert split.malformed == 0 and b" " not in frame and frame.isascii()
        assert [(head.ev, head.symbol) for head in split.heads] == [
            (event["ev"], event.get("sym", event.get("T"))) for event in read([frame])
        ]


def test_frames_are_small_enough_for_every_client() -> None:
    market = make_market(rate=200_000, marker=True, symbols=tuple(f"ZZ{i:014}" for i in range(2000)))
    frames = [frame for ms in range(0, 300, 10) for frame in market.advance(at("2026-11-20T12:00:00") + ms)]
    assert len(frames) > 60 and max(map(len, frames)) <= 256 * 1024
