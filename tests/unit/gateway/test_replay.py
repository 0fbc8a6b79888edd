"""What a client missed comes to it from the log, once and in order, and then it goes on live."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.counted import CountedOutbox, CountedTransport
from gateway.hub import Hub
from gateway.log import REACH_S, READ_ENTRIES, Log
from gateway.reader import Reader
from gateway.receipt import LIVE, Lane, Receipt
from gateway.replay import Replay
from ingest.reconcile import CONFIRM_S, LINGER_S
from shared.batch import HEARTBEAT_S, NOTHING, Mark, encode_command, encode_mark
from shared.demand import ASKED_S, HELD_S
from shared.names import Names
from shared.notice import encode_notice, make_gap
from tests.unit.gateway.frames import read_events

NAMES = Names("stocks")
ALL_TRADES = NAMES.get_bus_channel("T.*")
EPOCH = 7
Messages = dict[str, bytes]


def make_mark(sequence: int, *alls: str) -> Mark:
    return Mark(EPOCH, sequence, sequence * 100_000, 1, frozenset(alls))


def trades(*numbers: int) -> bytes:
    return b"[%b]" % b",".join(b'{"ev":"T","n":%d}' % number for number in numbers)


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))


class Stream:
    """Redis' stream as far as Log reads it."""

    def __init__(self) -> None:
        self.entries: list[tuple[Mark, dict[bytes, bytes]]] = []
        self.reads = 0
        self.meanwhile: dict[int, Callable[[], None]] = {}  # what happens while the n-th reading is under way

    async def xrange(self, name: str, count: int, **bounds: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        self.reads += 1
        self.meanwhile.get(self.reads, lambda: None)()
        first = tuple(map(int, bounds["min"].split("-")))
        found = [(mark, fields) for mark, fields in self.entries if mark[:2] >= first]
        return [(b"%d-%d" % mark[:2], fields) for mark, fields in found[:count]]


class World:
    """A log, a hub that has gone on to its end, and one client that had everything up to mark 1."""

    def __init__(self, *channels: str) -> None:
        self.stream = Stream()
        self.hub = Hub(NAMES)
        self.wire = Wire()
        self.receipt = Receipt(make_mark(1))
        transport = CountedTransport(self.wire)
        self.outbox = CountedOutbox(transport, 1000, self.receipt, lambda: self.hub.last_mark)
        self.channels = channels
        self.next: deque[Callable[[], object]] = deque()  # what happens at each wait for a mark
        self.hub.begin(make_mark(1))
        self.log(1, {})

    def log(self, sequence: int, messages: Messages, *alls: str) -> None:
        """Only the log has this batch: the client was away."""
        mark = make_mark(sequence, *alls)
        batch = b"".join(encode_command(b"PUBLISH", name.encode(), payload) for name, payload in messages.items())
        self.stream.entries.append((mark, {b"mark": encode_mark(mark), b"batch": batch}))

    def come(self, sequence: int, messages: Messages, *alls: str) -> None:
        """The hub gets this batch."""
        for channel, payload in messages.items():
            self.hub.collect(channel.encode(), payload)
        self.hub.seal(make_mark(sequence, *alls))
        for frame, members in self.hub.flush():
            for member in members:
                assert member is self.outbox
                self.outbox.send(frame)

    def publish(self, sequence: int, messages: Messages, *alls: str) -> None:
        self.log(sequence, messages, *alls)
        self.come(sequence, messages, *alls)

    def publish_mark(self, mark: Mark, messages: Messages) -> None:
        """A batch of any ingest, at any time."""
        batch = b"".join(encode_command(b"PUBLISH", name.encode(), payload) for name, payload in messages.items())
        self.stream.entries.append((mark, {b"mark": encode_mark(mark), b"batch": batch}))
        for channel, payload in messages.items():
            self.hub.collect(channel.encode(), payload)
        self.hub.seal(mark)
        for frame, _ in self.hub.flush():
            self.outbox.send(frame)

    def later(self, sequence: int, messages: Messages, *alls: str) -> None:
        self.next.append(lambda: self.publish(sequence, messages, *alls))

    def make_replay(self, skipped: tuple[str, ...] = ()) -> Replay:
        self.hub.hold_off(self.outbox, self.channels)
        self.hub.add(self.outbox, self.channels)
        self.hub.set_ready(self.channels)
        lane = Lane(make_mark(1), self.channels)
        reader = Reader(Log(cast(Any, self.stream), NAMES))
        return Replay(reader, self.hub, NAMES, self.outbox, lane, self._until_mark, self.channels, skipped)

    async def _until_mark(self) -> None:
        assert self.next, "it waits for a mark that never comes"
        self.next.popleft()()

    async def run(self, skipped: tuple[str, ...] = ()) -> None:
        async with asyncio.timeout(5):
            await self.make_replay(skipped).run()

    def read(self) -> list[Any]:
        """The numbers of the events, and the messages of the statuses."""
        events = [event for frame in self.wire.written for event in read_events(frame)]
        return [event.get("n", event.get("message")) for event in events]


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
    world.next.append(lambda: late.append(world.hub.find_late(world.outbox)))
    world.later(3, {"T.AAPL": trades(3)})
    world.later(4, {"T.AAPL": trades(4)})
    await replay.run()
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


async def test_a_batch_that_the_log_has_forgotten_is_told_as_a_gap_before_what_follows() -> None:
    world = World("T.AAPL")
    world.come(2, {})
    world.publish(3, {"T.AAPL": trades(3)})
    world.later(4, {})
    world.later(5, {})
    await world.run()
    [gap, event] = world.read()
    assert gap.startswith("events from 100 to 300 may be missing: this client was away")
    assert gap.endswith("channels: T.AAPL") and event == 3


async def test_a_live_mark_that_the_log_will_never_have_is_a_gap_too() -> None:
    world = World("T.AAPL")
    world.come(2, {})
    world.later(3, {"T.AAPL": trades(3)})
    world.later(4, {"T.AAPL": trades(4)})
    await world.run()
    [gap, *events] = world.read()
    assert gap.startswith("events from 100 to 200 may be missing") and events == [3, 4]


async def test_an_epoch_that_was_left_at_its_beginning_and_is_forgotten_since_is_a_gap() -> None:
    """It may have logged much before the next one came, and then the log begins with that one's first batch."""
    stream = Stream()
    at_us = 1_000_000_000
    mark = make_mark(1)._replace(received_us=at_us)
    stream.entries.append((mark, {b"mark": encode_mark(mark), b"batch": b""}))
    log = Log(cast(Any, stream), NAMES)
    left_us = int(at_us - REACH_S * 1e6)
    old, young = (Mark(EPOCH - 1, 0, us, 0, frozenset()) for us in (left_us - 1, left_us))
    for position, is_next in ((NOTHING, True), (make_mark(0), True), (young, True), (old, False)):
        [entry] = (await log.read(position)).entries
        assert entry.is_next == is_next, position


UNHELD = "upstream may not have sent it while this client was away; channels: T.AAPL"


def make_late(epoch: int, sequence: int, at_s: float) -> Mark:
    return Mark(epoch, sequence, int(at_s * 1e6), 1, frozenset())


@pytest.mark.parametrize("reaches_back", [True, False])
async def test_another_ingest_that_took_over_is_a_gap_since_it_may_not_have_known_of_this_client(
    reaches_back: bool,
) -> None:
    """That began as soon as the old one had gone, which may be the position; what the new one logs later is no news."""
    world = World("T.AAPL")
    if not reaches_back:
        world.stream.entries.clear()
    world.hub.seal(make_late(EPOCH + 1, 0, 9)._replace(events=0))
    replay = world.make_replay()
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 1, 10), {"T.AAPL": trades(1)}))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 2, 10.1), {"T.AAPL": trades(2)}))
    await replay.run()
    assert world.read() == [f"events from 100 to 12000 may be missing: {UNHELD}", 1, 2]


async def test_the_gap_of_a_takeover_comes_after_what_was_logged_before_and_not_before_the_channels_count() -> None:
    world = World("T.AAPL")
    world.publish(2, {"T.AAPL": trades(2)})
    world.publish_mark(make_late(EPOCH + 1, 1, 5), {"T.AAPL": trades(3)})
    replay = world.make_replay()
    world.hub.set_unready(["T.AAPL"])
    seen: list[Any] = []

    def become_ready() -> None:
        seen.extend(world.read())
        world.hub.set_ready(["T.AAPL"])
        world.publish_mark(make_late(EPOCH + 1, 2, 7), {"T.AAPL": trades(4)})

    world.next.append(become_ready)
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 3, 7.1), {"T.AAPL": trades(5)}))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 4, 7.2), {}))
    await replay.run()
    assert seen == [2]
    assert world.read() == [2, f"events from 200 to 10000 may be missing: {UNHELD}", 3, 4, 5]


async def test_each_takeover_while_it_is_caught_up_is_told_but_one_that_a_gap_covers() -> None:
    world = World("T.AAPL")
    world.publish_mark(make_late(EPOCH + 1, 1, 5), {})
    world.publish_mark(make_late(EPOCH + 2, 1, 6), {})
    replay = world.make_replay()
    world.hub.set_unready(["T.AAPL"])
    world.next.append(lambda: world.hub.set_ready(["T.AAPL"]))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 3, 1, 16), {}))
    world.next.append(world.outbox.close)
    await replay.run()
    spans = [" ".join(told.split()[1:5]) for told in world.read()]
    assert spans == ["from 100 to 9000", "from 6000 to 19000"]


async def test_what_comes_live_while_the_log_is_ahead_of_the_gateway_is_not_read_from_it_too() -> None:
    """The client has been given more than the gateway has: until it has caught up with that, nothing may be read."""
    world = World("T.AAPL")
    world.log(2, {"T.AAPL": trades(2)})
    world.log(3, {"T.AAPL": trades(3)})
    world.next += [
        lambda: world.come(2, {"T.AAPL": trades(2)}),
        lambda: world.hub.seal(make_mark(2)._replace(events=0)),
        lambda: world.come(3, {"T.AAPL": trades(3)}),
        lambda: world.publish(4, {"T.AAPL": trades(4)}),
    ]

    def come_on() -> None:
        for _ in range(2):
            world.next.popleft()()

    world.stream.meanwhile[3] = come_on
    await world.run()
    assert world.read() == [2, 3, 4]


async def test_a_channel_given_up_before_it_was_ready_holds_nobody_up_not_even_for_a_gap() -> None:
    world = World("T.AAPL", "T.MSFT")
    replay = world.make_replay()
    world.hub.set_unready(["T.MSFT"])
    world.hub.remove(world.outbox, ["T.MSFT"])
    world.publish_mark(make_late(EPOCH + 1, 1, 5), {"T.AAPL": trades(2)})
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 2, 5.1), {"T.AAPL": trades(3)}))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 3, 5.2), {"T.AAPL": trades(4)}))
    async with asyncio.timeout(5):
        await replay.run()
    assert world.read() == [f"events from 100 to 8000 may be missing: {UNHELD}", 2, 3, 4]


async def test_who_was_away_for_longer_than_the_linger_is_told_so_first_once_its_channels_count() -> None:
    world = World("T.AAPL")
    world.log(2, {"T.AAPL": trades(2)})
    world.publish_mark(make_late(EPOCH, 3, HELD_S + 0.2), {"T.AAPL": trades(3)})
    replay = world.make_replay()
    world.hub.set_unready(["T.AAPL"])
    seen: list[Any] = []

    def become_ready() -> None:
        seen.extend(world.read())
        world.hub.set_ready(["T.AAPL"])
        world.hub.seal(make_late(EPOCH, 3, 40)._replace(events=0))  # a heartbeat: its time counts

    world.next.append(become_ready)
    world.next.append(lambda: world.publish_mark(make_late(EPOCH, 4, 40.1), {"T.AAPL": trades(4)}))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH, 5, 40.2), {}))
    await replay.run()
    assert seen == []
    assert world.read() == [f"events from 100 to 43000 may be missing: {UNHELD}", 2, 3, 4]


def test_a_client_is_told_before_ingest_may_have_given_its_channels_up() -> None:
    """A position is at most a heartbeat and a ping old, and so is the mark against which it is held."""
    assert HELD_S + 2 * HEARTBEAT_S <= LINGER_S
    assert ASKED_S >= CONFIRM_S + HEARTBEAT_S


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
    await world.run(skipped=("T.A",))
    assert world.read() == [2]


async def test_what_the_client_gives_up_meanwhile_is_not_sent_and_without_any_it_ends() -> None:
    world = World("T.AAPL", "T.MSFT")
    replay = world.make_replay()
    world.hub.remove(world.outbox, ["T.MSFT"])
    world.publish(2, {"T.AAPL": trades(1), "T.MSFT": trades(2)})
    world.next.append(lambda: world.hub.remove(world.outbox, ["T.AAPL"]))
    await replay.run()
    assert world.read() == [1]


async def test_a_closed_outbox_ends_it() -> None:
    world = World("T.AAPL")
    world.publish(2, {"T.AAPL": trades(2)})
    replay = world.make_replay()
    world.outbox.close()
    await replay.run()
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
