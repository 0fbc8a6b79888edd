"""What a client missed comes to it from the log, once and in order, and then it goes on live."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest

from gateway.counted import CountedOutbox, CountedTransport
from gateway.hub import Hub
from gateway.log import Log
from gateway.receipt import Lane, Receipt
from gateway.replay import Replay
from shared.batch import Mark, encode_command, encode_mark
from shared.names import Names
from tests.unit.gateway.frames import read_events

NAMES = Names("stocks")
EPOCH = 7
Messages = dict[str, bytes]


def make_mark(sequence: int, *alls: str) -> Mark:
    return Mark(EPOCH, sequence, sequence * 1_000_000, 1, frozenset(alls))


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

    async def xrange(self, name: str, min: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        first = tuple(map(int, min.split("-")))
        return [(b"", fields) for mark, fields in self.entries if mark[:2] >= first][:count]


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
        self.next: deque[Callable[[], None]] = deque()  # what happens at each wait for a mark
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

    def later(self, sequence: int, messages: Messages, *alls: str) -> None:
        self.next.append(lambda: self.publish(sequence, messages, *alls))

    def make_replay(self, skipped: tuple[str, ...] = ()) -> Replay:
        self.hub.hold_off(self.outbox, self.channels)
        self.hub.add(self.outbox, self.channels)
        self.hub.set_ready(self.channels)
        lane = Lane(make_mark(1), self.channels)
        log = Log(cast(Any, self.stream), NAMES)
        return Replay(log, self.hub, NAMES, self.outbox, lane, self._until_mark, self.channels, skipped)

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
