"""Many who replay at once share the readings of the log, and each gets what it would have read alone."""

import asyncio
from typing import cast

import pytest
from redis.exceptions import ConnectionError as RedisAway

from gateway.log import Entry, Log, Reading
from gateway.reader import Reader
from shared.batch import Mark

COUNT = 3  # entries in one reading


def make_mark(sequence: int) -> Mark:
    return Mark(7, sequence, sequence * 1_000_000, 1, frozenset())


class SteppedLog:
    """Ends at `last`; answers only when it is let, with what it has then."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.readings: list[int] = []
        self.gate = asyncio.Event()
        self.is_away = False

    async def read(self, position: Mark) -> Reading:
        self.readings.append(position.sequence)
        last = self.last
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.is_away:
            self.is_away = False
            raise RedisAway("gone")
        found = [Entry(make_mark(n), [], 0, True) for n in range(position.sequence + 1, last + 1)]
        return Reading(found[:COUNT], True, len(found) < COUNT)


def get_numbers(reading: Reading) -> list[int]:
    return [entry.mark.sequence for entry in reading.entries]


async def read_all(reader: Reader, position: int) -> list[int]:
    """As a replay does, to the end of the log."""
    got: list[int] = []
    while True:
        reading = await reader.read(make_mark(got[-1] if got else position))
        got += get_numbers(reading)
        if reading.is_end:
            return got


async def test_who_is_on_the_way_of_a_reading_has_its_rest_and_they_go_on_together() -> None:
    log = SteppedLog(last=20)
    log.gate.set()
    reader = Reader(cast(Log, log))
    async with asyncio.timeout(5):
        got = await asyncio.gather(*(read_all(reader, position) for position in (2, 1, 3, 2, 3, 1)))
    assert got == [list(range(n + 1, 21)) for n in (2, 1, 3, 2, 3, 1)]
    assert len(log.readings) < 12, "six alone would need some 40"


async def test_who_is_nearly_there_gets_there_though_others_keep_coming_who_are_far_behind() -> None:
    log = SteppedLog(last=40)
    log.gate.set()
    reader = Reader(cast(Log, log))
    behind: list[asyncio.Task[list[int]]] = []

    async def keep_coming() -> None:
        while True:
            behind.append(asyncio.create_task(read_all(reader, 1)))
            await asyncio.sleep(0)

    coming = asyncio.create_task(keep_coming())
    while len(log.readings) < 3:
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await read_all(reader, 30) == list(range(31, 41))
    assert not any(task.done() for task in behind)
    for task in (coming, *behind):
        task.cancel()
    await asyncio.gather(coming, *behind, return_exceptions=True)


async def test_who_asks_while_a_reading_is_under_way_gets_a_later_one() -> None:
    log = SteppedLog(last=2)
    reader = Reader(cast(Log, log))
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        first = group.create_task(reader.read(make_mark(1)))
        await asyncio.sleep(0)
        log.last = 3
        second = group.create_task(reader.read(make_mark(1)))
        await asyncio.sleep(0)
        log.gate.set()
    assert (get_numbers(first.result()), get_numbers(second.result())) == ([2], [2, 3])


async def test_who_is_at_the_end_of_a_full_reading_is_not_told_that_there_is_no_more() -> None:
    log = SteppedLog(last=9)
    log.gate.set()
    reader = Reader(cast(Log, log))
    async with asyncio.timeout(5):
        one, other = await asyncio.gather(reader.read(make_mark(1)), reader.read(make_mark(1 + COUNT)))
    assert (get_numbers(one), get_numbers(other)) == ([2, 3, 4], [5, 6, 7])
    assert not one.is_end and not other.is_end


async def test_who_asked_for_a_reading_that_failed_hears_it_and_the_others_try_anew() -> None:
    log = SteppedLog(last=2)
    log.is_away = True
    reader = Reader(cast(Log, log))
    log.gate.set()
    async with asyncio.timeout(5):
        one, other = await asyncio.gather(*(reader.read(make_mark(1)) for _ in range(2)), return_exceptions=True)
    assert isinstance(one, RedisAway)
    assert isinstance(other, Reading) and get_numbers(other) == [2]


async def test_who_leaves_while_it_waits_holds_nobody_up() -> None:
    log = SteppedLog(last=2)
    reader = Reader(cast(Log, log))
    first = asyncio.create_task(reader.read(make_mark(1)))
    await asyncio.sleep(0)
    second = asyncio.create_task(reader.read(make_mark(1)))
    await asyncio.sleep(0)
    first.cancel()
    log.gate.set()
    async with asyncio.timeout(5):
        assert get_numbers(await second) == [2]
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not reader._questions
