"""What a client that resumes has got while it was conflated: wherever it is cut, nothing is doubled, nothing untold."""

import asyncio
import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.counted import CountedOutbox, CountedTransport
from gateway.groups import encode_frame
from gateway.receipt import LIVE, Receipt
from shared.batch import NOTHING, Mark
from tests.property.examples import FACTOR
from tests.unit.gateway.frames import read_events

LIMIT_EVENTS = 80  # a quarter of it is the soft bound
PAD = "x" * 30_000  # so that a frame of conflated events is soon full


class Narrow(asyncio.Transport):
    """Takes a number of frames, then says that it is full, from within the write."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 0
        self.frames: list[bytes] = []
        self.outbox: CountedOutbox | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.frames.append(bytes(data))
        self.room -= 1
        if self.room <= 0 and self.outbox is not None:
            self.outbox.pause()


def make_mark(sequence: int) -> Mark:
    return Mark(7, sequence, 1_000_000, 1, frozenset())


class World:
    def __init__(self) -> None:
        self.sequence = 0
        self.sent: dict[int, int] = {}  # number of an event -> its batch
        self.transport = Narrow()
        counted = CountedTransport(self.transport)
        self.outbox = CountedOutbox(counted, LIMIT_EVENTS, Receipt(NOTHING), lambda: make_mark(self.sequence))
        self.transport.outbox = self.outbox

    def batch(self, events: list[tuple[str, int]]) -> None:
        self.sequence += 1
        bodies = []
        for ev, symbol in events:
            number = len(self.sent) + 1
            self.sent[number] = self.sequence
            bodies.append({"ev": ev, "sym": f"S{symbol}", "n": number, "pad": PAD})
        self.outbox.send(encode_frame([json.dumps(bodies, separators=(",", ":")).encode()[1:-1]]))

    def make_room(self, frames: int) -> None:
        self.transport.room = frames
        self.outbox.resume()

    def check(self) -> None:
        """Cut it behind each of its frames in turn."""
        got: set[int] = set()
        told = written = 0
        for frame in self.transport.frames:
            written += len(frame)
            for event in read_events(frame):
                if event["ev"] == "status":
                    told += int(re.match(r"(\d+) events", event["message"])[1])  # type: ignore[index]
                else:
                    assert event["n"] not in got
                    got.add(event["n"])
            self.outbox.receipt.arrived(written)
            _, upto, *_ = self.outbox.receipt.lanes[LIVE].position
            assert all(self.sent[number] <= upto for number in got), "it would get them again"
            missing = [number for number, batch in self.sent.items() if batch <= upto and number not in got]
            assert len(missing) <= told, "it would never get them, and was not told"


EVENTS = st.lists(st.tuples(st.sampled_from(["Q", "T"]), st.integers(0, 8)), min_size=3, max_size=8)
STEPS = st.one_of(EVENTS, EVENTS, EVENTS, st.integers(1, 2))


@given(st.lists(STEPS, min_size=10, max_size=30))
@settings(max_examples=100 * FACTOR, deadline=None)
def test_wherever_a_slow_client_is_cut_it_resumes_behind_what_it_got(steps: list[list[tuple[str, int]] | int]) -> None:
    world = World()
    world.make_room(1)
    for step in steps:
        if isinstance(step, int):
            world.make_room(step)
        elif not world.outbox.is_closed:
            world.batch(step)
    world.make_room(2)
    world.check()


def test_a_client_that_reads_a_conflated_queue_to_its_half_resumes_from_there() -> None:
    world = World()
    world.outbox.pause()
    for _ in range(15):
        world.batch([("T", 0), ("Q", 1), ("Q", 2), ("T", 3), ("T", 4)])
    world.make_room(1)
    world.check()
    _, upto, *_ = world.outbox.receipt.lanes[LIVE].position
    assert 0 < upto < 15
