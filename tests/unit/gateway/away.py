"""A client that was away, with the log and the hub of its gateway: what a replay gives it."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

from gateway.counted import CountedOutbox, CountedTransport
from gateway.hub import Hub
from gateway.log import Log
from gateway.reader import Reader
from gateway.receipt import Lane, Receipt
from gateway.replay import Replay
from shared.batch import Mark, encode_command, encode_mark
from shared.names import Names
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
        self.channels = channels
        self.next: deque[Callable[[], object]] = deque()  # what happens at each wait for a mark
        self.hub.begin(make_mark(1))
        self.connect()
        self.log(1, {})

    def connect(self) -> None:
        """A new connection of the client's."""
        self.receipt = Receipt(self.hub.last_mark)
        transport = CountedTransport(self.wire)
        self.outbox = CountedOutbox(transport, 1000, self.receipt, lambda: self.hub.last_mark)

    def log(self, sequence: int, messages: Messages, *alls: str) -> None:
        """Only the log has this batch: the client was away."""
        self._log(make_mark(sequence, *alls), messages)

    def _log(self, mark: Mark, messages: Messages) -> None:
        batch = b"".join(encode_command(b"PUBLISH", name.encode(), payload) for name, payload in messages.items())
        self.stream.entries.append((mark, {b"mark": encode_mark(mark), b"batch": batch}))

    def come(self, sequence: int, messages: Messages, *alls: str) -> None:
        """The hub gets this batch."""
        self._come(make_mark(sequence, *alls), messages)

    def _come(self, mark: Mark, messages: Messages) -> None:
        for channel, payload in messages.items():
            self.hub.collect(channel.encode(), payload)
        self.hub.seal(mark)
        for frame, members in self.hub.flush():
            for member in members:
                assert member is self.outbox
                self.outbox.send(frame)

    def publish(self, sequence: int, messages: Messages, *alls: str) -> None:
        self.publish_mark(make_mark(sequence, *alls), messages)

    def publish_mark(self, mark: Mark, messages: Messages) -> None:
        """A batch of any ingest, at any time."""
        self._log(mark, messages)
        self._come(mark, messages)

    def later(self, sequence: int, messages: Messages, *alls: str) -> None:
        self.next.append(lambda: self.publish(sequence, messages, *alls))

    def become_ready_later(self, then: Callable[[], object]) -> list[Any]:
        """At the next wait its channels are ready, and this happens; what was read until then."""
        seen: list[Any] = []
        self.hub.set_unready(self.channels)

        def become_ready() -> None:
            seen.extend(self.read())
            self.hub.set_ready(self.channels)
            then()

        self.next.append(become_ready)
        return seen

    def make_replay(self, apart: Iterable[str] = (), got: Iterable[Lane] = ()) -> Replay:
        self.hub.hold_off(self.outbox, self.channels)
        self.hub.add(self.outbox, self.channels)
        self.hub.set_ready(self.channels)
        lane = Lane(make_mark(1), self.channels)
        reader = Reader(Log(cast(Any, self.stream), NAMES))
        apart = frozenset(apart)
        return Replay(reader, self.hub, NAMES, self.outbox, lane, self._until_mark, apart, got)

    async def _until_mark(self) -> None:
        assert self.next, "it waits for a mark that never comes"
        self.next.popleft()()

    async def run(self, apart: Iterable[str] = (), got: Iterable[Lane] = ()) -> None:
        await self.follow(self.make_replay(apart, got))

    async def follow(self, replay: Replay) -> None:
        """The replay to its end, and then what comes live."""
        async with asyncio.timeout(5):
            await replay.run()
        while self.next:
            self.next.popleft()()

    def read(self) -> list[Any]:
        """The numbers of the events, and the messages of the statuses."""
        events = [event for frame in self.wire.written for event in read_events(frame)]
        return [event.get("n", event.get("message")) for event in events]
