"""From ingest's publishing socket through a real Redis to a gateway's hub, with a connection that breaks in between."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from gateway.hub import Hub
from gateway.listener import Listener
from gateway.log import Log
from gateway.outbox import Outbox
from ingest.answered import KEPT_BYTES, LEAST_BYTES
from ingest.batch import Batch, Encoded
from ingest.publisher import Publisher
from ingest.tape import Tape
from shared.lifecycle import Tasks
from shared.names import Names
from shared.notice import make_gap
from shared.recording import Frame, iterate_records
from shared.split import split_frame
from tests.integration.conftest import RedisServer
from tests.sure_slot import make_sure_slot

NAMES: Final = Names("stocks")
WITHIN_S: Final = 10.0
POLL_S: Final = 0.01
SYMBOLS: Final = ("AAPL", "MSFT", "TSLA")


class Proxy:
    """Stands between ingest and Redis, and breaks their connection at a chosen byte."""

    def __init__(self, redis_port: int) -> None:
        self._redis_port = redis_port
        self._relays: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.cut_after: int | None = None  # so many more bytes pass towards Redis
        self.passes = asyncio.Event()  # without it nothing more is read of ingest
        self.passes.set()
        self.drops_replies = False

    async def open(self) -> int:
        """Accept connections; returns the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._relays.add(asyncio.create_task(self._relay(reader, writer)))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", self._redis_port)
        back = asyncio.create_task(self._answer(redis_reader, writer))
        try:
            await self._pass_on(reader, redis_writer)
        finally:
            redis_writer.close()
            writer.transport.abort()
            back.cancel()

    async def _pass_on(self, reader: asyncio.StreamReader, redis_writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.passes.wait()
            is_last = self.cut_after is not None and len(data) >= self.cut_after
            redis_writer.write(data[: self.cut_after])
            await redis_writer.drain()
            if is_last:
                self.cut_after = None
                return
            if self.cut_after is not None:
                self.cut_after -= len(data)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.drops_replies:
                writer.write(data)


class Member(Outbox):
    """A client that keeps what it is sent."""

    __slots__ = ("numbers", "told")

    def __init__(self) -> None:
        super().__init__(asyncio.Transport(), 1000)
        self.numbers: list[int] = []
        self.told: list[tuple[str, int]] = []  # each with how many events came before it

    def send(self, frame: bytes) -> None:
        for event in json.loads(frame[frame.index(b"[") :]):
            if event["ev"] == "status":
                self.told.append((event["message"], len(self.numbers)))
            else:
                self.numbers.append(event["n"])


class Rig:
    def __init__(self, server: RedisServer, proxy: Proxy, port: int) -> None:
        self.proxy = proxy
        self.redis = Redis.from_url(server.url)
        self.publisher = Publisher(f"redis://127.0.0.1:{port}", self.redis, NAMES, make_sure_slot())
        self.hub = Hub(NAMES)
        self.listener = Listener(server.url, NAMES, self.hub, Log(self.redis, NAMES), {})
        self.member = Member()
        self._tape = Tape(NAMES, 7)
        self._sequence = 0
        self._number = 0

    async def start(self) -> None:
        channels = [f"T.{symbol}" for symbol in SYMBOLS]
        self.hub.add(self.member, channels)
        await self.until(lambda: self.listener.reconnects == 0)
        await self.listener.listen(channels)
        self.hub.set_ready(channels)
        await self.until(lambda: self.publisher.reconnects == 0)

    def make_recorded_batch(self) -> Encoded:
        """One more, with what a recorder is to get."""
        batch = self.make_batch()
        self._tape.set_asked(True, 0.0)
        self._tape.take(b"frame %d" % self._sequence, self._sequence)
        return batch.with_frames(self._tape.encode(0.0, self._sequence))

    async def read_recorded(self) -> list[str]:
        """What a recorder finds in Redis."""
        entries: Any = await self.redis.xrange(NAMES.frames)
        records = [record for _, fields in entries for record in iterate_records(fields[b"records"])]
        return [record.data.decode() for record in records if isinstance(record, Frame)]

    def make_batch(self, padding: str = "") -> Encoded:
        """One trade of each symbol, numbered on."""
        events = []
        for symbol in SYMBOLS:
            self._number += 1
            events.append({"ev": "T", "sym": symbol, "n": self._number, "padding": padding})
        batch = Batch(NAMES)
        batch.add(split_frame(json.dumps(events).encode()))
        self._sequence += 1
        return batch.encode(7, self._sequence, 1_000_000 + self._sequence, "0-0")

    def make_notice(self) -> Encoded:
        """A gap of which trades of AAPL are told."""
        batch = Batch(NAMES)
        batch.add_notice(make_gap(1000, 4000 + self._sequence, "upstream was away", ["T.AAPL"]))
        self._sequence += 1
        return batch.encode(7, self._sequence, 1_000_000 + self._sequence, "0-0")

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not is_so():
                await asyncio.sleep(POLL_S)

    async def until_flushed(self) -> None:
        """Until the gateway saw the last batch's mark, and Redis answered everything."""
        last = (7, self._sequence)
        await self.until(lambda: self.hub.last_mark is not None and self.hub.last_mark[:2] == last)
        await self.until(lambda: not self.unanswered)

    @property
    def unanswered(self) -> Any:
        return self.publisher._unanswered

    def get_all(self) -> list[int]:
        return list(range(1, self._number + 1))


@pytest.fixture
async def rig(start_redis_server: Callable[..., RedisServer]) -> AsyncIterator[Rig]:
    server = start_redis_server()
    proxy = Proxy(server.port)
    rig = Rig(server, proxy, await proxy.open())
    try:
        async with Tasks() as tasks:  # which cancel until it works: redis-py may swallow one
            tasks.start("publisher", rig.publisher.run())
            tasks.start("listener", rig.listener.run())
            tasks.start("catch-up", rig.listener.catchup.run())
            await rig.start()
            yield rig
    finally:
        await rig.redis.aclose()
        await proxy.close()


async def test_batches_reach_whoever_holds_their_channels_once_and_in_order(rig: Rig) -> None:
    for _ in range(50):
        rig.publisher.publish(rig.make_batch())
    await rig.until_flushed()
    assert rig.member.numbers == rig.get_all()
    assert rig.hub.missed_batches == 0


async def test_batches_published_while_redis_is_away_follow_once_it_is_back(rig: Rig) -> None:
    rig.proxy.cut_after = 0
    for _ in range(3):
        rig.publisher.publish(rig.make_batch())
    await rig.until_flushed()
    assert rig.member.numbers == rig.get_all()
    assert rig.publisher.reconnects == 1


@pytest.mark.parametrize("publish_commands", [1, 2, 3])
async def test_a_batch_that_was_cut_in_the_middle_arrives_once(rig: Rig, publish_commands: int) -> None:
    """Redis published its first commands; the gateway's own connection stays, and ingest sends all of it again."""
    rig.publisher.publish(rig.make_batch())
    await rig.until_flushed()
    batch = rig.make_batch()
    heads = [at for at in range(len(batch.data)) if batch.data.startswith(b"*3\r\n$7\r\nPUBLISH", at)]
    heads = heads[len(SYMBOLS) :]  # those before lie in the log's entry
    rig.proxy.cut_after = heads[publish_commands]
    rig.publisher.publish(batch)
    await rig.until_flushed()
    assert rig.publisher.reconnects == 1
    assert rig.member.numbers == rig.get_all()


@pytest.mark.parametrize("batches", [1, 2, 5])
async def test_batches_whose_answers_were_lost_arrive_once(rig: Rig, batches: int) -> None:
    rig.proxy.drops_replies = True
    for _ in range(batches):
        rig.publisher.publish(rig.make_batch())
    await rig.until(lambda: rig.member.numbers == rig.get_all())
    assert len(rig.unanswered) == batches
    rig.proxy.drops_replies = False
    rig.proxy.cut_after = 0
    rig.publisher.publish(rig.make_batch())
    await rig.until_flushed()
    assert rig.publisher.reconnects == 1
    assert rig.member.numbers == rig.get_all()
    assert rig.publisher.refusals == 0


async def test_what_was_answered_is_known_though_more_is_under_way(rig: Rig) -> None:
    """On a busy feed, with a Redis that is far away, something always is."""
    rig.publisher.publish(rig.make_batch())
    await rig.until_flushed()
    rig.proxy.drops_replies = True
    rig.publisher.publish(rig.make_batch())
    assert rig.publisher.has_answered(1_000_001)
    assert not rig.publisher.has_answered(1_000_002)


@pytest.mark.parametrize("cuts", [0, 1])
async def test_what_redis_does_not_take_waits_once_and_not_in_the_socket_too(rig: Rig, cuts: int) -> None:
    """24 MB while Redis reads nothing; then it goes on, or the connection is cut and all is sent again."""
    rig.proxy.passes.clear()
    for _ in range(200):
        rig.publisher.publish(rig.make_batch("x" * 40_000))
    socket: Any = rig.publisher._socket
    assert len(rig.unanswered) == 200
    assert 0 < socket.transport.get_write_buffer_size() < 2_000_000
    rig.proxy.cut_after = 0 if cuts else None
    rig.proxy.passes.set()
    await rig.until_flushed()
    assert rig.publisher.reconnects == cuts
    assert rig.member.numbers == rig.get_all()
    assert (rig.publisher.refusals, rig.publisher.unanswered_bytes) == (0, 0)


async def test_what_waits_takes_the_place_of_what_redis_has_had(rig: Rig) -> None:
    """40 MB that were answered, then 36 MB that are not: an outage makes the process hardly larger."""
    for _ in range(30):
        for _ in range(10):
            rig.publisher.publish(rig.make_batch("x" * 40_000))
        await rig.until_flushed()
    answered: Any = rig.publisher._answered_batches
    assert KEPT_BYTES - 1_000_000 < answered.size <= KEPT_BYTES
    rig.proxy.passes.clear()
    for _ in range(300):
        rig.publisher.publish(rig.make_batch("x" * 40_000))
        kept_bytes = answered.size + rig.publisher.unanswered_bytes
        assert kept_bytes <= KEPT_BYTES or answered.size <= LEAST_BYTES
    assert answered.size > LEAST_BYTES - 1_000_000
    rig.proxy.passes.set()
    await rig.until_flushed()


async def test_what_overflows_leaves_room_for_the_next_connection(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch that is lost costs the connection, so after Redis is back none may be, until it had time to answer."""
    monkeypatch.setattr("ingest.publisher.BUFFER_BYTES", 4_000_000)
    rig.proxy.passes.clear()
    while not rig.publisher.lost.batches:
        rig.publisher.publish(rig.make_batch("x" * 4_000))
    lost = rig.publisher.lost.batches
    assert rig.publisher.unanswered_bytes < 3_600_000
    for _ in range(20):
        rig.publisher.publish(rig.make_batch("x" * 4_000))
    assert rig.publisher.lost.batches == lost
    rig.proxy.passes.set()
    await rig.until(lambda: not rig.unanswered)
    assert rig.publisher.lost.batches == lost


async def test_what_clients_are_to_be_told_outlasts_an_overflow(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its place, with the gap that gateways make of the hole before it and after it."""
    monkeypatch.setattr("ingest.publisher.BUFFER_BYTES", 4_000_000)
    rig.publisher.publish(rig.make_batch())
    await rig.until_flushed()
    rig.proxy.passes.clear()
    for _ in range(10):
        rig.publisher.publish(rig.make_batch("x" * 400_000))
        rig.publisher.publish(rig.make_notice())
    assert rig.publisher.lost.batches and not rig.publisher.has_answered(0)
    rig.proxy.passes.set()
    await rig.until_flushed()
    assert rig.publisher.has_answered(0)
    told = [(text, place) for text, place in rig.member.told if "upstream was away" in text]
    assert len(told) == 10
    for number, (text, place) in enumerate(told):
        assert text.startswith(f"events from 1000 to {4002 + 2 * number} may be missing")
        last_before = 6 + 3 * number
        assert all((n <= last_before) == (at < place) for at, n in enumerate(rig.member.numbers)), "it is in its place"
    assert rig.member.numbers == sorted(set(rig.member.numbers)) and rig.member.numbers[-1] == rig.get_all()[-1]


async def test_who_is_cut_off_again_and_again_tries_it_less_often(rig: Rig) -> None:
    until = asyncio.get_running_loop().time() + 2.0
    while asyncio.get_running_loop().time() < until:
        if (socket := rig.publisher._socket) is not None and socket.transport is not None:
            socket.transport.abort()
        await asyncio.sleep(POLL_S / 10)
    assert 2 <= rig.publisher.reconnects <= 20, "without a delay some hundreds a second"
    await rig.until(lambda: rig.publisher._socket is not None)


async def test_frames_for_recorders_that_are_sent_again_are_there_once(rig: Rig) -> None:
    """Redis took three whose answers were lost, and half of the next."""
    rig.publisher.publish(rig.make_recorded_batch())
    await rig.until_flushed()
    rig.proxy.drops_replies = True
    for _ in range(3):
        rig.publisher.publish(rig.make_recorded_batch())
    await rig.until(lambda: rig.member.numbers == rig.get_all())
    rig.proxy.drops_replies = False
    batch = rig.make_recorded_batch()
    rig.proxy.cut_after = len(batch.data) - len(batch.frames) // 2
    rig.publisher.publish(batch)
    await rig.until_flushed()
    rig.publisher.publish(rig.make_recorded_batch())
    await rig.until_flushed()
    assert rig.publisher.reconnects == 1
    assert rig.member.numbers == rig.get_all()
    assert await rig.read_recorded() == [f"frame {number}" for number in range(1, 7)]
    assert (rig.publisher.refusals, rig.publisher.unanswered_bytes) == (0, 0)


async def test_who_published_before_is_cut_off_before_the_next_one_publishes(
    start_redis_server: Callable[..., RedisServer],
) -> None:
    """An ingest that stands still may have written what Redis has not read yet: it must not come after ours."""
    server = start_redis_server()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"CLIENT SETNAME polygon-proxy-ingest-stocks\r\n")
    assert await reader.readline() == b"+OK\r\n"
    redis = Redis.from_url(server.url)
    publisher = Publisher(server.url, redis, NAMES, make_sure_slot())
    was_cut: list[bool] = []
    publisher.on_connected = lambda: was_cut.append(reader.at_eof())
    async with Tasks() as tasks:
        tasks.start("publisher", publisher.run())
        async with asyncio.timeout(WITHIN_S):
            assert await reader.read() == b""
            while not was_cut:
                await asyncio.sleep(POLL_S)
    writer.close()
    await redis.aclose()
