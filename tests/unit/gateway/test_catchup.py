"""Going on live after a reading of the log: where the two streams meet."""

import asyncio
import json
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.hub import Hub
from gateway.listener import Listener
from gateway.log import Entry, Log, Reading
from gateway.outbox import Outbox
from shared.batch import Mark, encode_mark
from shared.demand import ASKED_S
from shared.names import Names

NAMES = Names("stocks")
WITHIN_S = 5.0


def make_mark(sequence: int) -> Mark:
    return Mark(7, sequence, 1_000_000, 1, frozenset())


def make_payload(number: int) -> bytes:
    return json.dumps([{"ev": "T", "n": number}]).encode()


class Member(Outbox):
    """Keeps the numbers of its events, and what it is told."""

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        super().__init__(asyncio.Transport(), 1000)
        self.numbers: list[Any] = []

    def send(self, frame: bytes) -> None:
        events = json.loads(frame[frame.index(b"[") :])
        self.numbers += [event["n"] if event["ev"] == "T" else event["message"] for event in events]


class SlowLog(Log):
    """Answers when it is told to."""

    def __init__(self, *sequences: int) -> None:
        super().__init__(Redis(), NAMES)
        self.answers = asyncio.Event()
        self._entries = [Entry(make_mark(s), [(b"T.A", make_payload(s))], 100, is_next=True) for s in sequences]

    async def read(self, position: Mark) -> Reading:
        await self.answers.wait()
        return Reading([entry for entry in self._entries if entry.mark[:2] > position[:2]], is_logged=True, is_end=True)


@pytest.mark.parametrize("comes_after", [0, 1, 3])
async def test_what_came_live_after_the_last_mark_that_was_read_begins_the_next_batch(comes_after: int) -> None:
    """A batch may come in parts, and the log may answer between them."""
    hub, log, member = Hub(NAMES), SlowLog(1, 2), Member()
    listener = Listener("redis://nowhere", NAMES, hub, log, {})
    hub.begin(make_mark(0))
    hub.add(member, ["T.A"])
    hub.set_ready(["T.A"])
    listener.catchup.start()
    reading = asyncio.create_task(listener.catchup.run())
    on_mark = listener.special[NAMES.mark.encode()]
    listener.collect(b"T.A", make_payload(2))
    on_mark(encode_mark(make_mark(2)))
    for number in range(comes_after):
        listener.collect(b"T.A", make_payload(3 + number))
    assert listener.catchup.is_behind and member.numbers == []
    log.answers.set()
    async with asyncio.timeout(WITHIN_S):
        while listener.catchup.is_behind:
            await asyncio.sleep(0)
    assert member.numbers == [1, 2]
    listener.collect(b"T.A", make_payload(9))
    on_mark(encode_mark(make_mark(3)))
    listener.flush()
    assert member.numbers == [1, 2, *range(3, 3 + comes_after), 9]
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


class Behind:
    """A gateway that has everything up to mark 5 of epoch 7, and a Redis whose log goes on with these entries."""

    def __init__(self, *entries: Entry) -> None:
        self._entries = entries
        self.hub, self.member = Hub(NAMES), Member()
        log = SlowLog()
        log.read = self._read  # type: ignore[method-assign]
        self.hub.begin(make_mark(5))
        self.hub.add(self.member, ["T.A"])
        self.hub.set_ready(["T.A"])
        self.listener = Listener("redis://nowhere", NAMES, self.hub, log, {})

    async def _read(self, position: Mark) -> Reading:
        entries = [entry for entry in self._entries if entry.mark[:2] > position[:2]]
        return Reading(entries, is_logged=bool(self._entries), is_end=True)

    async def get_mark(self, mark: Mark) -> None:
        """The mark comes, and the log is read until there is nothing more to do."""
        self.listener.special[NAMES.mark.encode()](encode_mark(mark))
        reading = asyncio.create_task(self.listener.catchup.run())
        for _ in range(10):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_the_gap_before_an_ingest_that_knows_nothing_of_the_last_ends_when_upstream_surely_sends_again() -> None:
    """Redis lost the log together with the state: the new ingest asks upstream for what gateways count for anew."""
    behind = Behind()
    await behind.get_mark(Mark(8, 0, 4_000_000, 0, frozenset()))
    assert not behind.listener.catchup.is_behind
    [told] = behind.member.numbers
    assert told.startswith(f"events from 1000 to {4000 + int(ASKED_S * 1000)} may be missing")


@pytest.mark.parametrize("sequence", [0, 1])
async def test_a_new_epoch_is_not_gone_on_to_before_the_interest_lets_us(sequence: int) -> None:
    """Its ingest may know nothing of what we hold, and our members must hear of that first."""
    newer = Mark(8, sequence, 4_000_000, sequence, frozenset())
    entries = [Entry(make_mark(6), [(b"T.A", make_payload(6))], 100, is_next=True)]
    if sequence:
        entries.append(Entry(newer, [(b"T.A", make_payload(7))], 100, is_next=True))
    behind = Behind(*entries)
    behind.listener.catchup.may_go_on_to = lambda mark: mark.epoch == 7
    for _ in range(2):
        await behind.get_mark(newer)
        assert behind.hub.last_mark == make_mark(6) and behind.listener.catchup.is_behind
        assert behind.member.numbers == [6]
    behind.listener.catchup.may_go_on_to = lambda _mark: True
    await behind.get_mark(newer)
    assert behind.hub.last_mark[:2] == newer[:2] and not behind.listener.catchup.is_behind
    assert behind.member.numbers == [6, 7][: 1 + sequence]


async def test_who_misses_nothing_is_not_live_either_before_the_interest_lets_it() -> None:
    behind = Behind()
    behind.listener.catchup.start()
    behind.listener.catchup.may_go_on_to = lambda _mark: False
    await behind.get_mark(make_mark(5))
    assert behind.listener.catchup.is_behind
    behind.listener.catchup.may_go_on_to = lambda _mark: True
    await behind.get_mark(make_mark(5))
    assert not behind.listener.catchup.is_behind and behind.member.numbers == []


async def test_a_lower_epoch_that_goes_on_is_a_new_beginning_and_one_that_ends_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Redis lost the epoch too, and the clock that made the next one is behind."""
    lower = Mark(6, 1, 4_000_000, 1, frozenset())
    behind = Behind()
    await behind.get_mark(lower)
    await behind.get_mark(make_mark(5)._replace(events=0))
    monkeypatch.setattr("gateway.catchup.LOST_PLACE_S", 0.0)
    await behind.get_mark(lower)
    assert behind.hub.last_mark.epoch == 7 and behind.member.numbers == []
    await behind.get_mark(lower)
    assert behind.hub.last_mark == lower and not behind.listener.catchup.is_behind
    [told] = behind.member.numbers
    assert told.startswith(f"events from 1000 to {4000 + int(ASKED_S * 1000)} may be missing")
    behind.listener.collect(b"T.A", make_payload(2))
    await behind.get_mark(lower._replace(sequence=2))
    behind.listener.flush()
    assert behind.member.numbers == [told, 2]
