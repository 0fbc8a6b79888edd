"""How what a client missed is handed out: in frames of bounded size, each only when nothing waits before it."""

import asyncio
from typing import Any, cast

from gateway.counted import CountedOutbox, CountedTransport
from gateway.hub import Hub
from gateway.log import Entry, Log, Reading
from gateway.reader import Reader
from gateway.receipt import Lane, Receipt
from gateway.replay import _FRAME_BYTES, Replay
from shared.batch import Mark
from shared.names import Names
from tests.unit.gateway.frames import read_events

NAMES = Names("stocks")
CHANNEL = "T.AAPL"
BATCH_BYTES = 50_000
BATCHES = 20


def make_mark(sequence: int) -> Mark:
    return Mark(7, sequence, sequence * 1_000_000, 1, frozenset())


def make_entry(sequence: int) -> Entry:
    payload = b'[{"ev":"T","n":%d,"x":"%b"}]' % (sequence, b"x" * BATCH_BYTES)
    return Entry(make_mark(sequence), [(CHANNEL.encode(), payload)], len(payload), is_next=True)


class LongLog:
    """All that the client missed, in one reading."""

    async def read(self, position: Mark) -> Reading:
        return Reading([make_entry(n) for n in range(position.sequence + 1, BATCHES + 2)], is_logged=True, is_end=True)


class Narrow(asyncio.Transport):
    """Has enough after each write, until the loop has gone round."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[bytes] = []
        self.outbox: CountedOutbox | None = None

    def write(self, data: Any) -> None:
        assert self.outbox is not None and self.outbox._is_writable.is_set(), "it was not asked for more"
        self.frames.append(bytes(data))
        self.outbox.pause()
        asyncio.get_running_loop().call_soon(self.outbox.resume)


async def test_a_long_absence_is_handed_out_in_frames_that_wait_for_each_other() -> None:
    hub, wire, receipt = Hub(NAMES), Narrow(), Receipt(make_mark(1))
    wire.outbox = outbox = CountedOutbox(CountedTransport(wire), 1000, receipt, lambda: hub.last_mark)
    hub.begin(make_mark(BATCHES + 1))
    hub.hold_off(outbox, [CHANNEL])
    hub.add(outbox, [CHANNEL])
    hub.set_ready([CHANNEL])

    async def until_mark() -> None:
        hub.seal(make_mark(BATCHES + 1))
        assert list(hub.flush()) == []

    lane = Lane(make_mark(1), [CHANNEL])
    replay = Replay(Reader(cast(Log, LongLog())), hub, NAMES, outbox, lane, until_mark, frozenset(), ())
    async with asyncio.timeout(5):
        await replay.run()
    assert [event["n"] for frame in wire.frames for event in read_events(frame)] == list(range(2, BATCHES + 2))
    assert len(wire.frames) == 7  # three batches each: the first to reach the bound ends a frame
    assert max(map(len, wire.frames)) < _FRAME_BYTES + 2 * BATCH_BYTES
