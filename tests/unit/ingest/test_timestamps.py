"""Timestamps move by the same time in every unit, and nothing else in an event changes."""

import json
from pathlib import Path
from typing import Any

import pytest

from ingest.timestamps import Shift
from shared.split import split_frame

RECORDED = [json.loads(line) for line in Path("tests/data/frames.jsonl").read_text().splitlines()]
FRAMES: list[str] = [row["frame"] for row in RECORDED if row["kind"] == "data"]
SHIFT_MS = 86_400_123
# PROTOCOL b.2, typed again: which keys are times, by event type.
TIMES: dict[str, set[str]] = {
    "T": {"t", "pt", "trft"}, "Q": {"t"}, "A": {"s", "e"}, "AM": {"s", "e"}, "LULD": {"t"}, "NOI": {"t"}, "FMV": {"t"},
    "LV": {"t"}, "C": {"t"}, "CA": {"s", "e"}, "CAS": {"s", "e"}, "XT": {"t", "r"}, "XQ": {"t", "r"},
    "XA": {"s", "e"}, "XAS": {"s", "e"}, "XL2": {"t", "r"}, "XS": {"t"}, "V": {"t"},
}  # fmt: skip
PER_MS = {13: 1, 16: 1_000, 19: 1_000_000}


def parse(text: bytes | str) -> Any:
    return json.loads(text, parse_float=str)  # so that a changed digit shows


@pytest.mark.parametrize("frame", FRAMES)
def test_only_times_of_real_frames_change_and_all_of_them_by_the_same(frame: str) -> None:
    split = split_frame(frame.encode())
    for head, body in zip(split.heads, split.bodies, strict=True):
        before, after = parse(b"{%b}" % body), parse(b"{%b}" % Shift(SHIFT_MS).apply(head.ev, body))
        for key in before:
            if key in TIMES[head.ev] and len(str(before[key])) in PER_MS:
                assert after.pop(key) == before[key] + SHIFT_MS * PER_MS[len(str(before[key]))]
            else:
                assert after.pop(key) == before[key]
        assert after == {}


@pytest.mark.parametrize("frame", FRAMES)
def test_what_was_moved_there_and_back_is_the_same_byte_for_byte(frame: str) -> None:
    split = split_frame(frame.encode())
    for head, body in zip(split.heads, split.bodies, strict=True):
        moved = Shift(SHIFT_MS).apply(head.ev, body)
        assert len(moved) == len(body)
        assert Shift(-SHIFT_MS).apply(head.ev, moved) == body


def test_the_frames_have_every_unit_and_every_type_that_the_table_names() -> None:
    types = {head.ev for frame in FRAMES for head in split_frame(frame.encode()).heads}
    assert types >= {"T", "Q", "A", "AM", "LULD", "NOI", "FMV"}
    assert any('"t":1601318039223013600' in frame for frame in FRAMES)


@pytest.mark.parametrize(
    "body",
    [
        rb'"ev":"T","sym":"A","c":"\"t\":1795444200000","s":1795444200000',  # in a string; a size
        b'"ev":"T","sym":"A","x":{"t":1795444200000}',
        b'"ev":"T","sym":"A","t":17954442000001',
        b'"ev":"T","sym":"A","t":1795444200000.5',
        b'"ev":"T","sym":"A","t":"1795444200000"',
        b'"ev":"T","sym":"A","at":1795444200000',
    ],
)
def test_what_is_no_timestamp_of_the_event_stays(body: bytes) -> None:
    assert Shift(5000).apply("T", body) == body


def test_spaces_stay_where_they_are() -> None:
    assert Shift(1).apply("A", b'"s": 1795444200000 , "e":1795444201000') == b'"s": 1795444200001 , "e":1795444201001'
