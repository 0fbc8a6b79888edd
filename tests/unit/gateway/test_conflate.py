"""Conflation: facts all kept, states only the newest, nothing out of order, and every omission counted."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conflate import STATES, Conflation, count_events
from gateway.groups import encode_frame
from shared.channels import EVENT_TYPES
from shared.protocol import MAX_CLIENT_FRAME_BYTES
from tests.unit.gateway.frames import read_events

Event = dict[str, Any]
FACTS = ("T", "XT", "status", "NEWS")


def encode(*events: Event) -> bytes:
    return encode_frame([json.dumps(event, separators=(",", ":")).encode() for event in events])


def make(ev: str, sym: str, number: int) -> Event:
    return {"ev": ev, "sym": sym, "n": number}


def drain(conflation: Conflation) -> list[Event]:
    """Everything that waits, as the client gets it."""
    events = []
    while not conflation.is_empty:
        events += read_events(conflation.take_frame())
    return events


def parse_notice(status: Event) -> tuple[int, int, int]:
    """How many, from, to."""
    assert list(status) == ["ev", "status", "message"] and status["status"] == "conflated"
    found = re.match(r"(\d+) events received from (\d+) to (\d+) \(Unix ms\) were left out: ", status["message"])
    assert found is not None
    count, first_ms, last_ms = map(int, found.groups())
    return count, first_ms, last_ms


def test_of_a_state_the_newest_is_kept_in_its_own_place_and_of_a_fact_all() -> None:
    conflation = Conflation()
    conflation.add(encode(make("Q", "A", 1), make("T", "A", 2), make("Q", "B", 3)), 1000)
    conflation.add(encode(make("Q", "A", 4), make("T", "A", 5)), 1007)
    assert len(conflation) == 4
    notice, *events = drain(conflation)
    assert events == [make("T", "A", 2), make("Q", "B", 3), make("Q", "A", 4), make("T", "A", 5)]
    assert parse_notice(notice) == (1, 1000, 1000)


def test_events_keep_their_own_bytes() -> None:
    event = b'{"sym":"A","ev":"Q","bp":1.50,"x":"}{","nested":{"a":[{}]}, "late" : 1}'
    conflation = Conflation()
    conflation.add(encode_frame([event, b'{"ev":"T","sym":"A"}']), 1)
    assert event + b',{"ev":"T","sym":"A"}' in conflation.take_frame()


@pytest.mark.parametrize("key", ["sym", "pair", "T", "p"])
def test_a_state_is_known_by_whichever_key_holds_its_symbol(key: str) -> None:
    conflation = Conflation()
    conflation.add(encode(*({"ev": "V", key: symbol} for symbol in ("I:SPX", "I:DJI", "I:SPX"))), 1)
    assert [event[key] for event in drain(conflation)[1:]] == ["I:DJI", "I:SPX"]


def test_one_symbol_has_a_state_of_each_type() -> None:
    events = [make(ev, "A", 1) for ev in sorted(STATES)]
    conflation = Conflation()
    conflation.add(encode(*events), 1)
    assert drain(conflation) == events


@pytest.mark.parametrize("event", [{"ev": "Q"}, {"ev": "C", "p": 1.5}, *({"ev": ev, "sym": "A"} for ev in FACTS)])
def test_trades_statuses_unknown_types_and_what_has_no_symbol_are_facts(event: Event) -> None:
    conflation = Conflation()
    conflation.add(encode(event, event), 1)
    assert drain(conflation) == [event, event]


def test_each_event_type_of_each_feed_was_thought_of() -> None:
    known = {event_type for types in EVENT_TYPES.values() for event_type in types}
    assert known - STATES == {"T", "XT"}


def test_nothing_is_told_while_nothing_was_left_out() -> None:
    conflation = Conflation()
    conflation.add(encode(make("Q", "A", 1), make("Q", "B", 2)), 1)
    assert drain(conflation) == [make("Q", "A", 1), make("Q", "B", 2)]


def test_an_omission_is_told_once_and_the_next_one_has_its_own_span() -> None:
    conflation = Conflation()
    for number, at_ms in enumerate((100, 200, 300)):
        conflation.add(encode(make("Q", "A", number)), at_ms)
    assert parse_notice(drain(conflation)[0]) == (2, 100, 200)
    for number, at_ms in enumerate((400, 500)):
        conflation.add(encode(make("Q", "A", number)), at_ms)
    assert parse_notice(drain(conflation)[0]) == (1, 400, 400)
    assert conflation.omitted_events == 3


def test_the_span_begins_with_the_oldest_even_if_that_is_left_out_last() -> None:
    conflation = Conflation()
    conflation.add(encode(make("Q", "A", 1)), 100)
    conflation.add(encode(make("Q", "B", 2)), 200)
    for number, symbol in enumerate("BA"):
        conflation.add(encode(make("Q", symbol, number)), 300)
    assert conflation.find_oldest_ms() == 100
    assert parse_notice(drain(conflation)[0]) == (2, 100, 200)


def test_the_oldest_is_what_was_neither_sent_nor_told() -> None:
    conflation = Conflation()
    assert conflation.find_oldest_ms() is None
    conflation.add(encode(make("T", "A", 1)), 100)
    assert conflation.find_oldest_ms() == 100
    conflation.add(encode(make("Q", "A", 2)), 200)
    conflation.add(encode(make("Q", "A", 3)), 300)
    conflation.take_frame()
    assert conflation.find_oldest_ms() is None


def test_frames_are_small_enough_for_every_client_and_none_is_empty() -> None:
    conflation = Conflation()
    events = [make("T", "A" * 1000, number) for number in range(2000)]
    for event in events:
        conflation.add(encode(event), 1)
    got = []
    while not conflation.is_empty:
        frame = conflation.take_frame()
        assert len(frame) < MAX_CLIENT_FRAME_BYTES / 4
        events_of_frame = read_events(frame)
        assert events_of_frame
        got += events_of_frame
    assert got == events


@pytest.mark.parametrize("size", [1, 90, 91, 125, 126, 65_535, 65_536])
def test_frames_with_any_form_of_header_are_taken_apart(size: int) -> None:
    """A payload of 91 bytes has a "[" in its header."""
    event = {"ev": "T", "n": ""}
    event["n"] = "x" * max(0, size - len(encode(event)) + 2)
    conflation = Conflation()
    conflation.add(encode(event), 1)
    assert drain(conflation) == [event]


@pytest.mark.parametrize("payload", [b"hello", b'{"ev":"T"', b"1,{}", b"\xff"])
def test_what_is_no_event_is_left_out_and_counted(payload: bytes) -> None:
    conflation = Conflation()
    conflation.add(encode_frame([payload]), 5)
    assert len(conflation) == 0
    [notice] = drain(conflation)
    assert parse_notice(notice) == (conflation.omitted_events, 5, 5)
    assert conflation.omitted_events == (2 if payload.startswith(b"1,") else 1)


def test_events_are_counted_without_being_read() -> None:
    assert count_events(encode(*[make("T", "A", 1)] * 7)) == 7
    assert count_events(encode()) == 1


def test_what_was_forgotten_is_not_sent_but_still_counted() -> None:
    conflation = Conflation()
    conflation.add(encode(make("Q", "A", 1), make("Q", "A", 2), make("T", "A", 3)), 1)
    conflation.clear()
    assert conflation.is_empty and conflation.find_oldest_ms() is None
    assert conflation.omitted_events == 1


STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.sampled_from(["T", "Q", "AM", "LULD", "status"]), st.sampled_from("ABC")), max_size=8),
        st.just("take"),
    ),
    max_size=40,
)


def is_subsequence(part: list[Event], whole: list[Event]) -> bool:
    rest = iter(whole)
    return all(event in rest for event in part)


@given(STEPS)
def test_in_any_history_facts_are_all_kept_states_end_with_the_newest_and_omissions_add_up(
    steps: list[list[tuple[str, str]] | str],
) -> None:
    conflation = Conflation()
    sent: list[Event] = []
    got: list[Event] = []
    at_ms: list[int] = []  # of each event sent
    for now_ms, step in enumerate(steps):
        if isinstance(step, str):
            got += read_events(conflation.take_frame()) if not conflation.is_empty else []
        else:
            events = [make(ev, symbol, len(sent) + place) for place, (ev, symbol) in enumerate(step)]
            conflation.add(encode(*events), now_ms)
            sent += events
            at_ms += [now_ms] * len(events)
    got += drain(conflation)
    notices = [parse_notice(event) for event in got if "n" not in event]
    events = [event for event in got if "n" in event]
    assert is_subsequence(events, sent)
    assert [event for event in events if event["ev"] not in STATES] == [e for e in sent if e["ev"] not in STATES]
    for channel in {(event["ev"], event["sym"]) for event in sent}:
        newest = [[e for e in some if (e["ev"], e["sym"]) == channel][-1] for some in (sent, events)]
        assert newest[0] == newest[1]
    omitted_ms = [at for event, at in zip(sent, at_ms, strict=True) if event not in events]
    assert sum(count for count, _, _ in notices) == conflation.omitted_events == len(omitted_ms)
    if omitted_ms:
        assert min(first for _, first, _ in notices) == min(omitted_ms)
        assert max(last for _, _, last in notices) == max(omitted_ms)
