"""What a client missed comes to it from the log, once and in order, and then it goes on live."""

import asyncio

import pytest

from gateway.log import READ_ENTRIES
from gateway.receipt import LIVE
from shared.batch import encode_command, encode_mark
from shared.notice import encode_notice, make_gap
from tests.unit.gateway.away import ALL_TRADES, NAMES, World, make_mark, trades


async def test_what_was_missed_comes_first_and_what_is_live_follows_each_once() -> None:
    world = World("T.AAPL")
    world.publish(2, {"T.AAPL": trades(2), "T.MSFT": trades(20)})
    world.publish(3, {"T.AAPL": trades(3)})
    world.later(4, {"T.AAPL": trades(4)})
    world.later(5, {"T.AAPL": trades(5)})
    await world.run()
    assert world.read() == [2, 3, 4, 5]


async def test_it_is_let_in_only_at_a_mark_after_its_channels_were_ready() -> None:
    """What is listened to only now may lack the beginning of the batch under way."""
    world = World("T.AAPL")
    world.publish(2, {"T.AAPL": trades(2)})
    replay = world.make_replay()
    late: list[frozenset[str]] = []
    world.next.append(lambda: late.append(frozenset(world.hub.find_late(world.outbox))))
    world.later(3, {"T.AAPL": trades(3)})
    world.later(4, {"T.AAPL": trades(4)})
    await world.follow(replay)
    assert late == [{"T.AAPL"}]
    assert world.read() == [2, 3, 4]


async def test_a_notice_of_an_unknown_shape_is_left_out_and_the_events_around_it_come(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World("T.AAPL")
    world.publish(2, {"T.AAPL": trades(2), NAMES.notices: b'{"odd":1}'})
    world.publish(3, {"T.AAPL": trades(3), NAMES.notices: b"\xff"})
    world.later(4, {"T.AAPL": trades(4)})
    world.later(5, {})
    await world.run()
    assert world.read() == [2, 3, 4]
    assert "log: a notice of an unknown shape" in caplog.text


@pytest.mark.parametrize(
    "fields",
    [
        {b"odd": b"1"},
        {b"mark": b"odd", b"batch": b""},
        {b"mark": encode_mark(make_mark(3)), b"batch": b"?odd\r\n"},
        {b"mark": encode_mark(make_mark(3)), b"batch": b"-odd\r\n"},
        {b"mark": encode_mark(make_mark(3)), b"batch": b"*1\r\n$4\r\nPING\r\n"},
        {b"mark": encode_mark(make_mark(3)), b"batch": b"*3\r\n$7\r\nPUBLISH\r\n$3\r\nodd\r\n:1\r\n"},
        {b"mark": encode_mark(make_mark(3)), b"batch": encode_command(b"PUBLISH", b"T.AAPL")},
        {b"mark": encode_mark(make_mark(3)), b"batch": encode_command(b"SET", b"T.AAPL", trades(3))},
        {b"mark": encode_mark(make_mark(3)), b"batch": b":1\r\n"},
    ],
)
async def test_an_entry_of_an_unknown_shape_is_a_gap_and_all_around_it_comes(
    fields: dict[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    world = World("T.AAPL")
    world.publish(2, {"T.AAPL": trades(2)})
    world.stream.entries.append((make_mark(3), fields))
    for sequence in range(4, 4 + READ_ENTRIES):
        world.publish(sequence, {"T.AAPL": trades(sequence)})
    last = 4 + READ_ENTRIES
    for sequence in (last, last + 1):
        world.later(sequence, {"T.AAPL": trades(sequence)})
    await world.run()
    first, told, *rest = world.read()
    assert first == 2 and "events from 200 to" in told and rest == list(range(4, last + 2))
    assert caplog.text.count("log: an entry of an unknown shape") == 1


async def test_a_notice_in_the_log_is_told_to_whom_it_concerns_only() -> None:
    for channel, told in (("T.AAPL", ["events from 1 to 2 may be missing: so; channels: T.AAPL"]), ("Q.AAPL", [])):
        world = World(channel)
        world.publish(2, {NAMES.notices: encode_notice(make_gap(1, 2, "so", ["T.AAPL", "T.MSFT"]))})
        world.later(3, {})
        world.later(4, {})
        await world.run()
        assert world.read() == told


async def test_what_the_log_has_before_the_gateway_does_is_not_given_before() -> None:
    """Else it would come twice to whoever gives the channel up and asks for it again meanwhile."""
    world = World("T.AAPL")
    world.log(2, {"T.AAPL": trades(2)})
    world.log(3, {"T.AAPL": trades(3)})
    seen: list[list[int]] = []

    def come(sequence: int) -> None:
        seen.append(world.read())
        world.come(sequence, {"T.AAPL": trades(sequence)})

    world.next += [lambda: come(2), lambda: come(3)]
    world.later(4, {"T.AAPL": trades(4)})
    await world.run()
    assert seen == [[], [2]] and world.read() == [2, 3, 4]


async def test_a_log_longer_than_one_reading_is_read_on_without_waiting_for_a_mark() -> None:
    world = World("T.AAPL")
    last = READ_ENTRIES * 2 + 5
    for number in range(2, last + 1):
        world.publish(number, {"T.AAPL": trades(number)})
    world.later(last + 1, {})
    world.later(last + 2, {})
    await world.run()
    assert world.read() == list(range(2, last + 1))


async def test_a_wildcard_takes_what_came_whole_once_and_what_nobody_held_whole_one_by_one() -> None:
    world = World("T.*")
    world.publish(2, {"T.A": trades(1), "T.B": trades(2), "Q.A": trades(3)})
    both = {"T.A": trades(4), "T.B": trades(5), ALL_TRADES: trades(5, 4)}  # as upstream sent them: B first
    world.publish(3, both, "T")
    world.later(4, {}, "T")
    world.later(5, {ALL_TRADES: trades(6)}, "T")
    await world.run()
    assert world.read() == [1, 2, 5, 4, 6]


async def test_channels_that_the_client_has_already_are_left_out_of_a_wildcard() -> None:
    world = World("T.*")
    world.publish(2, {"T.A": trades(1), "T.B": trades(2), ALL_TRADES: trades(1, 2)}, "T")
    world.later(3, {}, "T")
    world.later(4, {}, "T")
    await world.run(apart=("T.A",))
    assert world.read() == [2]


async def test_what_the_client_gives_up_meanwhile_is_not_sent_and_without_any_it_ends() -> None:
    world = World("T.AAPL", "T.MSFT")
    replay = world.make_replay()
    world.hub.remove(world.outbox, ["T.MSFT"])
    world.publish(2, {"T.AAPL": trades(1), "T.MSFT": trades(2)})
    world.next.append(lambda: world.hub.remove(world.outbox, ["T.AAPL"]))
    await world.follow(replay)
    assert world.read() == [1]


async def test_a_closed_outbox_ends_it() -> None:
    world = World("T.AAPL")
    world.publish(2, {"T.AAPL": trades(2)})
    replay = world.make_replay()
    world.outbox.close()
    await world.follow(replay)
    assert world.read() == []


async def test_it_waits_for_a_transport_that_has_enough_to_send() -> None:
    world = World("T.AAPL")
    world.publish(2, {"T.AAPL": trades(2)})
    world.later(3, {})
    world.later(4, {})
    world.outbox.pause()
    task = asyncio.create_task(world.run())
    for _ in range(10):
        await asyncio.sleep(0)
    assert world.read() == [] and not task.done()
    world.outbox.resume()
    await task
    assert world.read() == [2]


async def test_its_lane_follows_what_has_arrived_and_becomes_live_with_the_mark_that_lets_it_in() -> None:
    world = World("T.AAPL")
    world.publish(2, {"T.AAPL": trades(2)})
    world.later(3, {})
    world.later(4, {})
    await world.run()
    world.receipt.arrived(len(world.wire.written[0]) - 1)
    [_, lane] = world.receipt.lanes.values()
    assert lane.position == make_mark(1) and lane.channels == {"T.AAPL"}
    world.receipt.arrived(len(world.wire.written[0]))
    assert list(world.receipt.lanes) == [LIVE] and world.receipt.lanes[LIVE].channels == {"T.AAPL"}


async def test_a_part_of_what_was_missed_moves_its_lane_so_far_and_no_farther() -> None:
    world = World("T.AAPL")
    for number in range(2, READ_ENTRIES + 10):
        world.publish(number, {"T.AAPL": trades(number)})
    world.later(READ_ENTRIES + 10, {})
    world.later(READ_ENTRIES + 11, {})
    await world.run()
    world.receipt.arrived(len(world.wire.written[0]))
    [_, lane] = world.receipt.lanes.values()
    assert lane.position == make_mark(READ_ENTRIES + 1)


async def test_what_a_slow_client_gives_up_while_it_is_waited_for_does_not_come() -> None:
    world = World("T.A", "T.B")
    world.publish(2, {"T.A": trades(1), "T.B": trades(2)})
    replay = world.make_replay()
    world.outbox.pause()
    running = asyncio.create_task(world.follow(replay))
    for _ in range(10):
        await asyncio.sleep(0)  # it has read, and waits
    assert world.stream.reads == 1
    world.hub.remove(world.outbox, ["T.B"])
    world.later(3, {"T.A": trades(3)})
    world.outbox.resume()
    await running
    assert world.read() == [1, 3]
