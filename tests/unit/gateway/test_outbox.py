"""The outbox: frames in order, none waited for, and an end for whoever does not read."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from gateway.groups import encode_frame
from gateway.outbox import CONFLATED_MOST_S, Outbox
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


def make_quotes(*numbers: int, symbol: str = "A") -> bytes:
    return encode_frame([json.dumps({"ev": "Q", "sym": symbol, "n": number}).encode() for number in numbers])


class Clock:
    """Unix time that only tests move."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def make_outbox(limit_events: int = 10, clock: Clock | None = None) -> tuple[Outbox, Wire]:
    wire = Wire()
    wire.outbox = Outbox(wire, limit_events, clock or Clock())
    return wire.outbox, wire


def read_all(wire: Wire) -> list[Any]:
    """The numbers of the events written, and the messages of the statuses."""
    events = [event for frame in wire.written for event in read_events(frame)]
    return [event.get("n", event.get("message")) for event in events]


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


async def test_up_to_a_quarter_of_the_limit_every_frame_is_kept_as_it_is() -> None:
    outbox, wire = make_outbox(limit_events=40)
    frames = [make_quotes(number) for number in range(10)]
    outbox.pause()
    for frame in frames:
        outbox.send(frame)
    assert (outbox.queued_events, outbox.is_conflating) == (10, False)
    outbox.resume()
    assert wire.written == frames
    assert outbox.conflated_events == 0


async def test_above_it_the_client_gets_the_newest_quotes_all_trades_and_a_notice_ahead_of_them() -> None:
    clock = Clock()
    outbox, wire = make_outbox(limit_events=40, clock=clock)
    outbox.send(make_quotes(0))
    outbox.pause()
    for number in range(1, 101):
        clock.now_s += 0.25
        outbox.send(make_quotes(number))
        if number % 10 == 0:
            outbox.send(make_frame(-number))
    assert outbox.is_conflating
    assert outbox.queued_events == 11
    assert outbox.conflated_events == 99
    wire.written.clear()
    outbox.resume()
    notice, *numbers = read_all(wire)
    assert notice.startswith("99 events received from 1000250 to 1024750 (Unix ms) were left out: ")
    assert numbers == [*range(-10, -100, -10), 100, -100]
    assert not outbox.is_conflating


async def test_a_client_that_has_caught_up_is_conflated_no_more() -> None:
    outbox, wire = make_outbox(limit_events=40)
    outbox.pause()
    for number in range(20):
        outbox.send(make_quotes(number))
    wire.room = 1
    outbox.resume()
    assert not outbox.is_conflating, "all that waited went out in one frame"
    wire.written.clear()
    frames = [make_quotes(number) for number in (20, 21)]
    for frame in frames:
        outbox.send(frame)
    assert wire.written == [], "the transport was full again"
    wire.room = None
    outbox.resume()
    assert wire.written == frames


async def test_a_client_that_got_only_part_of_what_waited_stays_conflated() -> None:
    outbox, wire = make_outbox(limit_events=4000)
    outbox.pause()
    for number in range(2000):
        outbox.send(encode_frame([json.dumps({"ev": "T", "n": number, "text": "x" * 100}).encode()]))
    wire.room = 1
    outbox.resume()
    assert outbox.is_conflating
    for number in (2000, 2001):
        outbox.send(make_quotes(number))
    wire.room = None
    outbox.resume()
    assert [number for number in read_all(wire) if isinstance(number, int)] == [*range(2000), 2001]
    assert outbox.conflated_events == 1


async def test_a_backlog_is_taken_apart_a_few_frames_at_a_time() -> None:
    outbox, _ = make_outbox(limit_events=400)
    outbox.pause()
    for number in range(101):
        outbox.send(make_quotes(number))
    assert outbox.conflated_events == 3, "four frames, of which one is left"
    for number in range(101, 150):
        outbox.send(make_quotes(number))
    assert (outbox.queued_events, outbox.conflated_events) == (1, 149)


async def test_a_frame_that_alone_is_above_the_limit_is_conflated_before_anybody_is_given_up() -> None:
    outbox, wire = make_outbox(limit_events=40)
    outbox.pause()
    for number in range(10):
        outbox.send(make_frame(number))
    outbox.send(make_quotes(*range(1000)))
    assert not outbox.full.is_set()
    outbox.resume()
    assert read_all(wire)[1:] == [*range(10), 999]


async def test_what_was_taken_apart_goes_out_ahead_of_what_was_not() -> None:
    outbox, wire = make_outbox(limit_events=40)
    outbox.pause()
    for number in range(11):
        outbox.send(make_frame(number))
    assert outbox.is_conflating
    outbox.resume()
    assert read_all(wire) == [*range(11)]
    assert len(wire.written) == 8, "four in one frame, seven as they came"


async def test_whoever_does_not_catch_up_in_time_is_given_up() -> None:
    clock = Clock()
    outbox, _ = make_outbox(limit_events=8, clock=clock)
    outbox.pause()
    for number in range(3):
        outbox.send(make_quotes(number))
    clock.now_s += CONFLATED_MOST_S
    outbox.send(make_quotes(3))
    assert not outbox.full.is_set()
    clock.now_s += 0.001
    outbox.send(make_quotes(4))
    assert outbox.full.is_set() and outbox.is_closed
    assert outbox.why.startswith("it did not catch up within 60 s, none of those received from 1000000 (Unix ms) on")


async def test_the_lag_is_the_age_of_the_oldest_that_was_neither_sent_nor_told() -> None:
    clock = Clock()
    outbox, _ = make_outbox(limit_events=16, clock=clock)
    assert outbox.get_lag_ms() == 0
    outbox.pause()
    outbox.send(make_quotes(1))
    clock.now_s += 2
    assert outbox.get_lag_ms() == 2000
    for number in range(2, 20):
        outbox.send(make_quotes(number))
    assert outbox.get_lag_ms() == 2000, "the oldest was left out, which the client does not know yet"
    outbox.resume()
    assert outbox.get_lag_ms() == 0


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


@given(st.lists(st.sampled_from(["trade", "quote", "quote", "quotes", "pause", "resume", "choke"]), max_size=80))
def test_in_any_history_every_event_was_written_waits_or_is_counted_as_left_out(history: list[str]) -> None:
    async def run() -> None:
        outbox, wire = make_outbox(limit_events=40)
        trades: list[int] = []
        sent = 0
        for number, step in enumerate(history):
            if step == "trade":
                trades.append(number)
                outbox.send(make_frame(number))
                sent += 1
            elif step.startswith("quote"):
                quotes = [number] * (7 if step == "quotes" else 1)
                outbox.send(make_quotes(*quotes))
                sent += len(quotes)
            elif step == "pause":
                outbox.pause()
            else:
                wire.room = 2 if step == "choke" else None
                outbox.resume()
            if outbox.is_closed:
                assert outbox.full.is_set()
                return
            assert outbox.queued_events <= 40
            numbers = [number for number in read_all(wire) if isinstance(number, int)]
            assert len(numbers) + outbox.queued_events + outbox.conflated_events == sent
        wire.room = None
        outbox.resume()
        numbers = [number for number in read_all(wire) if isinstance(number, int)]
        assert numbers == sorted(numbers)
        assert [number for number in numbers if number in trades] == trades
        told = [int(text.split()[0]) for text in read_all(wire) if isinstance(text, str)]
        assert sum(told) == outbox.conflated_events == sent - len(numbers)

    asyncio.run(run())
