"""What an outbox does for a client that is behind: it leaves out what is outdated, tells so, and gives up in time."""

import asyncio
import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.groups import encode_frame
from gateway.outbox import CONFLATED_MOST_S
from tests.unit.gateway.outboxes import Clock, make_frame, make_outbox, make_quotes, read_all


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
