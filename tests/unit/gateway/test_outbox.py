"""The outbox: frames in order, none waited for, and an end for whoever does not read."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from gateway.groups import encode_frame
from gateway.outbox import Outbox
from tests.unit.gateway.frames import parse_frame, read_events


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and says stop after `room` frames."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.room: int | None = None
        self.outbox: Outbox | None = None

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        if self.room is not None:
            self.room -= 1
            if self.room <= 0 and self.outbox is not None:
                self.outbox.pause()


def make_frame(number: int, events: int = 1) -> bytes:
    return encode_frame([json.dumps({"ev": "T", "n": number}).encode()] * events)


def make_outbox(limit_events: int = 10) -> tuple[Outbox, Wire]:
    wire = Wire()
    wire.outbox = Outbox(wire, limit_events)
    return wire.outbox, wire


@pytest.mark.parametrize("size", [0, 1, 123, 124, 125, 126, 65532, 65533, 65534, 65535, 65536, 200_000, 512 * 1024])
def test_websockets_reads_a_frame_of_any_size_as_it_was_meant(size: int) -> None:
    """Two brackets make `size` the payload's: 125, 126, 65535 and 65536 are where the form of the length changes."""
    body = b"x" * size
    frame = parse_frame(encode_frame([body]))
    assert (frame.opcode, frame.fin, frame.rsv1) == (Opcode.TEXT, True, False)
    assert bytes(frame.data) == b"[" + body + b"]"


def test_parts_are_joined_to_one_array() -> None:
    parts = [b'{"ev":"T","n":1},{"ev":"T","n":2}', b'{"ev":"Q","n":3}']
    assert [event["n"] for event in read_events(encode_frame(parts))] == [1, 2, 3]


async def test_frames_go_straight_to_the_transport() -> None:
    outbox, wire = make_outbox()
    frames = [make_frame(number) for number in range(100)]
    for frame in frames:
        outbox.send(frame)
    assert wire.written == frames
    assert not outbox.full.is_set()


async def test_a_paused_outbox_queues_and_a_resumed_one_sends_in_order() -> None:
    outbox, wire = make_outbox()
    frames = [make_frame(number) for number in range(8)]
    outbox.send(frames[0])
    outbox.pause()
    for frame in frames[1:6]:
        outbox.send(frame)
    assert wire.written == frames[:1]
    outbox.resume()
    assert wire.written == frames[:6]
    for frame in frames[6:]:
        outbox.send(frame)
    assert wire.written == frames


async def test_a_transport_that_is_full_again_while_the_queue_empties_stops_it() -> None:
    outbox, wire = make_outbox()
    frames = [make_frame(number) for number in range(6)]
    outbox.pause()
    for frame in frames[:5]:
        outbox.send(frame)
    wire.room = 2
    outbox.resume()
    assert wire.written == frames[:2]
    outbox.send(frames[5])
    assert wire.written == frames[:2]
    wire.room = None
    outbox.resume()
    assert wire.written == frames


async def test_the_limit_counts_events_and_is_the_last_number_allowed() -> None:
    outbox, wire = make_outbox(limit_events=10)
    outbox.pause()
    outbox.send(make_frame(1, events=4))
    outbox.send(make_frame(2, events=6))
    assert not outbox.full.is_set()
    assert not outbox.is_closed
    outbox.send(make_frame(3))
    assert outbox.full.is_set()
    assert outbox.is_closed
    outbox.resume()
    assert wire.written == []


async def test_what_was_sent_on_does_not_count_against_the_limit() -> None:
    outbox, wire = make_outbox(limit_events=10)
    for _ in range(5):
        outbox.pause()
        outbox.send(make_frame(1, events=10))
        outbox.resume()
    assert not outbox.full.is_set()
    assert len(wire.written) == 5


async def test_an_empty_frame_counts_as_one_event() -> None:
    outbox, _ = make_outbox(limit_events=3)
    outbox.pause()
    for _ in range(4):
        assert not outbox.full.is_set()
        outbox.send(encode_frame([]))
    assert outbox.full.is_set()


async def test_a_closed_outbox_takes_and_sends_nothing() -> None:
    outbox, wire = make_outbox()
    outbox.pause()
    outbox.send(make_frame(1))
    outbox.close()
    outbox.close()
    outbox.send(make_frame(2))
    outbox.resume()
    outbox.send(make_frame(3))
    assert wire.written == []
    assert not outbox.full.is_set()


@given(st.lists(st.sampled_from(["send", "send", "pause", "resume", "choke"]), max_size=60))
def test_in_any_history_what_is_written_is_the_beginning_of_what_was_sent(history: list[str]) -> None:
    async def run() -> None:
        outbox, wire = make_outbox(limit_events=5)
        sent: list[bytes] = []
        paused = 0
        for number, step in enumerate(history):
            if step == "send":
                sent.append(make_frame(number))
                outbox.send(sent[-1])
            elif step == "pause":
                outbox.pause()
            else:
                wire.room = 2 if step == "choke" else None
                outbox.resume()
            assert wire.written == sent[: len(wire.written)]
            paused = len(sent) - len(wire.written)
            if outbox.is_closed:
                assert outbox.full.is_set()
                assert paused > 5
                return
            assert paused <= 5

    asyncio.run(run())
