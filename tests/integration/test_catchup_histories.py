"""A gateway under random histories of its bus: a real log, a real catch-up, and a live stream that the history deals.

Ingest logs and publishes batches of one event each, sends some again, loses some, is replaced; Redis forgets what is
old, or everything; the connection is cut in the middle of a batch and comes back.  The member must get each batch once
and in order; where batches are missing for it, and nowhere else, it must have been told a gap.
"""

import asyncio
import json
from collections import deque

import hiredis
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

import gateway.log
from gateway.hub import Hub
from gateway.listener import Listener
from gateway.log import Log
from gateway.outbox import Outbox
from ingest.batch import Batch, Encoded, encode_mark_command
from shared.batch import Mark
from shared.names import Names
from shared.split import split_frame
from tests.integration.conftest import RedisServer
from tests.property.examples import FACTOR

NAMES = Names("stocks")
FIRST_EPOCH = 100
WITHIN_S = 3.0


class Member(Outbox):
    """Keeps the numbers of its events, and "gap" for each gap that it was told."""

    __slots__ = ("got",)

    def __init__(self) -> None:
        super().__init__(asyncio.Transport(), 1000)
        self.got: list[int | str] = []

    def send(self, frame: bytes) -> None:
        for event in json.loads(frame[frame.index(b"[") :]):
            self.got.append(event["status"] if event["ev"] == "status" else event["n"])


class World:
    def __init__(self, redis: "Redis") -> None:
        self.redis = redis
        self.hub = Hub(NAMES)
        self.listener = Listener("redis://nowhere", NAMES, self.hub, Log(redis, NAMES), {})
        self.member = Member()
        self.epoch = FIRST_EPOCH
        self.sequence = 0
        self.number = 0
        self.sent: list[Encoded] = []  # of this epoch, as ingest remembers them
        self.stream: deque[list[bytes]] = deque()  # published, and not yet read by the gateway
        self.is_connected = True
        self.logged: dict[tuple[int, int], int] = {}  # what Redis has, with the number of the event
        self.may_be_missing: set[int] = set()  # events that were not in the log all the time
        self.told_by_ingest: set[int] = set()  # the one that takes over sees where the log ends
        self.first_of_epoch: set[int] = set()
        self.hub.add(self.member, ["T.A", "Q.A"])
        self.hub.set_ready(["T.A", "Q.A"])
        self.listener.catchup.start()

    # What happens to ingest and to Redis.

    def _encode(self) -> Encoded:
        self.sequence += 1
        self.number += 1
        batch = Batch(NAMES)
        # Two channels, so that a batch can be cut between them; the second event repeats the number, negated.
        events = [{"ev": ev, "sym": "A", "n": n} for ev, n in (("T", self.number), ("Q", -self.number))]
        batch.add(split_frame(json.dumps(events).encode()))
        encoded = batch.encode(self.epoch, self.sequence, self.number * 1_000_000, "0-0")
        self.sent.append(encoded)
        if self.sequence == 1:
            self.first_of_epoch.add(self.number)
        return encoded

    async def _publish(self, encoded: Encoded) -> None:
        reader_commands = _parse(encoded.data)
        for command in reader_commands:
            if command[0] == b"XADD":
                key = encoded.mark[:2]
                if not self.logged or key > max(self.logged):
                    await self._execute(*command)
                    self.logged[key] = encoded.mark.received_us // 1_000_000
            elif self.is_connected:
                self.stream.append(command)

    async def _execute(self, *words: bytes) -> None:
        await self.redis.execute_command(*words)  # type: ignore[no-untyped-call]

    async def batch(self, count: int) -> None:
        """Batches as they should be."""
        for _ in range(count):
            await self._publish(self._encode())

    async def lose(self, count: int) -> None:
        """Batches that ingest could not keep while Redis was away."""
        for _ in range(count):
            self.may_be_missing.add(self._encode().mark.received_us // 1_000_000)
            self.sent.pop()

    async def log_only(self, _count: int) -> None:
        """Ingest, or its connection, died right after the XADD; it sends the batch again unless it is replaced."""
        encoded = self._encode()
        await self._execute(*_parse(encoded.data)[0])
        self.logged[encoded.mark[:2]] = self.number

    async def resend(self, count: int) -> None:
        """A reconnect of ingest: a heartbeat before the oldest one, and all again."""
        again = self.sent[-count:] if count else []
        if again:
            first = again[0].mark
            await self._beat(first.epoch, first.sequence - 1)
        for encoded in again:
            await self._publish(encoded)

    async def heartbeat(self, _count: int) -> None:
        await self._beat(self.epoch, self.sequence)

    async def _beat(self, epoch: int, sequence: int) -> None:
        if self.is_connected:
            mark = self.sent[-1].mark if self.sent else None
            received_us = mark.received_us if mark else 0
            text = encode_mark_command(NAMES, _mark(epoch, sequence, received_us))
            self.stream.append(_parse(text)[0])

    async def replace(self, _count: int) -> None:
        """Another ingest takes over; it tells what came after the last batch in the log, if that has any."""
        if self.logged:
            newest = self.logged[max(self.logged)]
            self.told_by_ingest.update(range(newest + 1, self.number + 1))
        self.epoch += 1
        self.sequence = 0
        self.sent.clear()

    async def trim(self, keep: int) -> None:
        """The log forgets all but its last entries."""
        await self.redis.xtrim(NAMES.log, maxlen=keep, approximate=False)
        for key in sorted(self.logged)[: max(0, len(self.logged) - keep)]:
            self.may_be_missing.add(self.logged.pop(key))

    async def empty(self, history: int) -> None:
        """Redis comes back empty: all connections are gone, and ingest sends its last answered batches again."""
        await self.cut(0)
        await self.redis.flushall()
        kept = {encoded.mark.received_us // 1_000_000 for encoded in self.sent[-history:]} if history else set()
        self.may_be_missing.update(number for number in self.logged.values() if number not in kept)
        self.logged.clear()
        await self.resend(history)

    # What happens to the gateway.

    async def cut(self, _count: int) -> None:
        """What was not read yet is gone; as the listener does it."""
        if self.is_connected:
            self.is_connected = False
            self.stream.clear()
            self.listener.catchup.start()

    async def connect(self, _count: int) -> None:
        if not self.is_connected:
            self.is_connected = True
            self.listener.catchup.start()

    async def deliver(self, count: int) -> None:
        """So many messages come in at once."""
        for _ in range(min(count, len(self.stream))):
            _, channel, payload = self.stream.popleft()
            handler = self.listener.special.get(channel)
            handler(payload) if handler else self.listener.collect(channel, payload)
        self.listener.flush()

    async def read(self, count: int) -> None:
        """Time for the catch-up, not always enough."""
        for _ in range(count):
            await asyncio.sleep(0)
        await self.redis.ping()

    async def settle(self) -> None:
        """All is well again: the next batch arrives, and the gateway is live with it."""
        await self.connect(0)
        await self.resend(len(self.sent) and 3)
        await self.batch(1)
        async with asyncio.timeout(WITHIN_S):
            while not self._is_live():
                if not self.stream:
                    await self.heartbeat(0)
                await self.deliver(len(self.stream))
                await self.read(1)

    def _is_live(self) -> bool:
        position = self.hub.last_mark[:2]
        return not self.listener.catchup.is_behind and not self.stream and position == (self.epoch, self.sequence)

    def check(self) -> None:
        """What the member got, against what there was to get."""
        got = [each for each in self.member.got if isinstance(each, str) or each > 0]
        twins = [-each for each in self.member.got if isinstance(each, int) and each < 0]
        numbers = [each for each in got if isinstance(each, int)]
        assert numbers == twins, "a batch came in part"
        assert numbers == sorted(set(numbers)), "doubled or out of order"
        before, told = 0, False
        for each in [*got, self.number + 1]:
            if each == "gap":
                told = True
                continue
            assert isinstance(each, int)
            missing = set(range(before + 1, each)) - self.told_by_ingest
            assert missing <= self.may_be_missing, f"{missing - self.may_be_missing} need not have been lost: {got}"
            # Before the first batch there is no position, and so nothing to tell.
            assert told or not missing or before == 0, f"no gap was told for {missing}: {got}"
            if told and not missing:
                crossed = self.first_of_epoch & set(range(before + 1, each + 1))
                assert crossed, f"a gap between {before} and {each}, where nothing is missing: {got}"
            before, told = each, False


def _parse(data: bytes) -> list[list[bytes]]:
    reader = hiredis.Reader()
    reader.feed(data)
    commands: list[list[bytes]] = []
    while (command := reader.gets()) is not False:
        commands.append(command)
    return commands


def _mark(epoch: int, sequence: int, received_us: int) -> Mark:
    return Mark(epoch, sequence, received_us, 0, frozenset())


def step(name: str, low: int, high: int) -> st.SearchStrategy[tuple[str, int]]:
    return st.tuples(st.just(name), st.integers(low, high))


ONE_FAULT = st.one_of(
    step("batch", 1, 4),
    step("batch", 1, 4),
    step("deliver", 1, 12),
    step("deliver", 1, 12),
    step("read", 1, 8),
    step("read", 1, 8),
    step("cut", 0, 0),
    step("connect", 0, 0),
    step("connect", 0, 0),
    step("resend", 1, 5),
    step("heartbeat", 0, 0),
    step("log_only", 0, 0),
)
EVERYTHING = st.one_of(ONE_FAULT, ONE_FAULT, step("lose", 1, 3), step("trim", 1, 4), step("empty", 0, 6))
REPLACED = st.one_of(EVERYTHING, EVERYTHING, step("replace", 0, 0))


def play(server: RedisServer, history: list[tuple[str, int]]) -> None:
    async def run() -> None:
        async with Redis.from_url(server.url) as redis:
            await redis.flushall()
            world = World(redis)
            reading = asyncio.create_task(world.listener.catchup.run())
            try:
                await world.batch(1)
                await world.settle()
                for name, count in history:
                    await getattr(world, name)(count)
                    assert not reading.done(), reading
                await world.settle()
            finally:
                reading.cancel()
                await asyncio.wait([reading])
            world.check()

    with asyncio.Runner() as runner:
        runner.run(run())


HISTORIES = settings(
    max_examples=150 * FACTOR,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def small_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one reading is seldom all."""
    monkeypatch.setattr(gateway.log, "READ_ENTRIES", 3)


@given(history=st.lists(ONE_FAULT, max_size=40))
@HISTORIES
def test_connections_that_are_cut_cost_nothing(redis_server: RedisServer, history: list[tuple[str, int]]) -> None:
    play(redis_server, history)


@given(history=st.lists(EVERYTHING, max_size=40))
@HISTORIES
def test_what_is_lost_is_told_exactly_where_it_is_missing(
    redis_server: RedisServer, history: list[tuple[str, int]]
) -> None:
    play(redis_server, history)


@example(
    history=[
        *[("cut", 0), ("batch", 2), ("empty", 0), ("replace", 0)],
        *[("connect", 0), ("heartbeat", 0), ("deliver", 9), ("read", 8), ("read", 8)],
    ]
)
@given(history=st.lists(REPLACED, max_size=40))
@HISTORIES
def test_what_is_lost_is_told_also_when_ingest_is_replaced(
    redis_server: RedisServer, history: list[tuple[str, int]]
) -> None:
    play(redis_server, history)
