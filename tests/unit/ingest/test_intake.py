"""The intake: whatever a frame holds, it becomes batches or is counted, and never an error."""

import asyncio
import json
from typing import Any

import hiredis
import pytest
from redis.asyncio import Redis

from ingest.batch import Encoded
from ingest.intake import BATCH_BYTES, MAX_EVENT_BYTES, Intake
from ingest.publisher import Publisher
from shared.batch import Mark
from shared.names import Names
from tests.sure_slot import make_sure_slot

NAMES = Names("stocks")
POLL_S = 0.01


class Printer(Publisher):
    """A publisher without a Redis: keeps what it is given."""

    def __init__(self) -> None:
        super().__init__("redis://nowhere", Redis(), NAMES, make_sure_slot())
        self.batches: list[Encoded] = []
        self.heartbeats: list[Mark] = []

    def publish(self, batch: Encoded) -> None:
        self.batches.append(batch)

    def heartbeat(self, mark: Mark) -> None:
        self.heartbeats.append(mark)

    def get_events(self) -> list[dict[str, Any]]:
        """Every event published on an exact channel."""
        events: list[dict[str, Any]] = []
        for batch in self.batches:
            reader = hiredis.Reader()
            reader.feed(batch.data)
            while (command := reader.gets()) is not False:
                if command[0] == b"PUBLISH" and not command[1].startswith(b"polygon:"):
                    events += json.loads(command[2])
        return events


class Rig:
    def __init__(self) -> None:
        self.publisher = Printer()
        self.statuses: list[bytes] = []
        self.intake = Intake(NAMES, self.publisher, 7, self.statuses.append)

    def flushed(self) -> list[dict[str, Any]]:
        self.intake.flush()
        return self.publisher.get_events()


@pytest.fixture
async def rig() -> Rig:
    return Rig()


EVENT = {"ev": "T", "sym": "AAPL", "p": 1}
FRAME = json.dumps([EVENT]).encode()


async def test_a_frame_is_published_soon_without_being_flushed(rig: Rig) -> None:
    rig.intake.take(FRAME)
    async with asyncio.timeout(5):
        while not rig.publisher.batches:
            await asyncio.sleep(0)
    assert rig.publisher.get_events() == [EVENT]
    assert rig.publisher.batches[0].mark[:2] == (7, 1)


async def test_sequences_grow_by_one_and_empty_batches_take_none(rig: Rig) -> None:
    for _ in range(3):
        rig.intake.take(FRAME)
        rig.intake.flush()
        rig.intake.flush()
    assert [batch.mark.sequence for batch in rig.publisher.batches] == [1, 2, 3]


async def test_frames_that_arrive_together_are_one_batch(rig: Rig) -> None:
    for _ in range(5):
        rig.intake.take(FRAME)
    assert rig.flushed() == [EVENT] * 5
    assert len(rig.publisher.batches) == 1


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xff", b"x", b"5", b"[", b'[{"ev":"T"}]', b'[{"sym":"AAPL"}]', b"[1]", b"{}", b'{"ev":', b"\x00" * 1000]
    + [b"[" * 100_000 + b"]" * 100_000, b'[{"ev":"T","sym":"AAPL","x":%b%b}]' % (b"[" * 50_000, b"]" * 50_000)]
    + [b'[{"ev":"T","sym":"\\ud800x"}]'],
    ids=lambda frame: repr(frame[:20]),
)
async def test_a_frame_that_cannot_be_used_is_counted_and_the_next_one_is_published(rig: Rig, frame: bytes) -> None:
    rig.intake.take(frame)
    rig.intake.take(FRAME)
    assert rig.flushed() == [EVENT]
    assert rig.intake.malformed == 1
    assert rig.intake.events == 1


async def test_malformed_frames_are_logged_at_most_once_a_second(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1000):
        rig.intake.take(b"x")
    assert rig.intake.malformed == 1000
    assert len(caplog.records) <= 2


async def test_statuses_go_to_whoever_asked_and_are_not_published(rig: Rig) -> None:
    status = b'{"ev":"status","status":"connected","message":"Connected Successfully"}'
    rig.intake.take(b"[%b,%b]" % (status, json.dumps(EVENT).encode()))
    assert rig.statuses == [status]
    assert rig.flushed() == [EVENT]
    assert rig.intake.events == 1


async def test_a_frame_of_statuses_alone_publishes_nothing(rig: Rig) -> None:
    rig.intake.take(b'[{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}]')
    rig.intake.flush()
    assert rig.publisher.batches == []


async def test_no_batch_holds_more_than_its_bytes_whatever_the_frames_are(rig: Rig) -> None:
    events = [{"ev": "T", "sym": f"S{number % 50}", "i": number, "x": "y" * (number % 3000)} for number in range(2000)]
    for part in (events[:100], events[100:1900], events[1900:]):  # a frame far above the limit between smaller ones
        rig.intake.take(json.dumps(part, separators=(",", ":")).encode())
    assert sorted(event["i"] for event in rig.flushed()) == list(range(2000))
    for batch in rig.publisher.batches:
        assert len(batch.data) < 2 * (BATCH_BYTES + 50 * 200) + 1000


async def test_a_frame_with_an_event_too_large_for_any_client_loses_only_that_event(rig: Rig) -> None:
    large = {"ev": "T", "sym": "HUGE", "x": "y" * (MAX_EVENT_BYTES + 1)}
    rig.intake.take(json.dumps([EVENT, large, EVENT]).encode())
    assert rig.flushed() == [EVENT, EVENT]
    assert rig.intake.malformed == 1


async def test_wanted_types_start_with_the_next_batch_and_a_mark_says_so(rig: Rig) -> None:
    rig.intake.take(FRAME)
    rig.intake.set_alls(frozenset({"T"}))
    assert [batch.mark.alls for batch in rig.publisher.batches] == [frozenset()]
    assert [mark.alls for mark in rig.publisher.heartbeats] == [{"T"}]
    rig.intake.set_alls(frozenset({"T"}))
    assert len(rig.publisher.heartbeats) == 1
    rig.intake.take(FRAME)
    rig.intake.flush()
    assert rig.publisher.batches[-1].mark.alls == {"T"}


async def test_an_idle_intake_repeats_the_last_mark(rig: Rig) -> None:
    rig.intake.take(FRAME)
    rig.intake.flush()
    task = asyncio.create_task(rig.intake.run())
    try:
        async with asyncio.timeout(5):
            while not rig.publisher.heartbeats:
                await asyncio.sleep(POLL_S)
    finally:
        task.cancel()
    assert rig.publisher.heartbeats[0][:2] == (7, 1)
