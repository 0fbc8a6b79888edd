"""The outbox: frames in order, none waited for, and an end for whoever does not read."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from gateway.groups import encode_frame
from tests.unit.gateway.frames import parse_frame, read_events
from tests.unit.gateway.outboxes import make_frame, make_outbox, make_quotes, read_all


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
    outbox, wire = make_outbox(limit_events=100)
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
    outbox, wire = make_outbox(limit_events=100)
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
    assert outbox.why.startswith("more than 10 events were waiting, none of those received from 1000000 (Unix ms) on")
    outbox.resume()
    assert wire.written == []
    assert (outbox.queued_events, outbox.get_lag_ms(), outbox.is_conflating) == (0, 0, False)


async def test_what_was_sent_on_does_not_count_against_the_limit() -> None:
    outbox, wire = make_outbox(limit_events=10)
    for _ in range(5):
        outbox.pause()
        outbox.send(make_frame(1, events=10))
        outbox.resume()
    assert not outbox.full.is_set()
    assert len(wire.written) == 5


async def test_empty_frames_do_not_wait_for_ever() -> None:
    outbox, _ = make_outbox(limit_events=8)
    outbox.pause()
    for _ in range(100):
        outbox.send(encode_frame([]))
    assert outbox.queued_events <= 2
    assert not outbox.full.is_set()


async def test_what_waits_is_flushed_to_a_client_that_is_about_to_be_closed() -> None:
    outbox, wire = make_outbox(limit_events=8)
    outbox.pause()
    for number in range(5):
        outbox.send(make_quotes(number))
    outbox.flush()
    assert read_all(wire)[1:] == [4]


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
def test_in_any_history_of_trades_what_is_written_is_the_beginning_of_what_was_sent(history: list[str]) -> None:
    async def run() -> None:
        outbox, wire = make_outbox(limit_events=5)
        sent: list[int] = []
        paused = 0
        for number, step in enumerate(history):
            if step == "send":
                sent.append(number)
                outbox.send(make_frame(number))
            elif step == "pause":
                outbox.pause()
            else:
                wire.room = 2 if step == "choke" else None
                outbox.resume()
            assert read_all(wire) == sent[: len(read_all(wire))]
            paused = len(sent) - len(read_all(wire))
            if outbox.is_closed:
                assert outbox.full.is_set()
                assert paused > 5
                return
            assert paused <= 5

    asyncio.run(run())
