"""`python -m shared.private_bus` as a process: a redis-server, fakeredis in its place, and REDIS_URL."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from shared import private_bus
from shared.batch import encode_command
from shared.demand import Demand, LeaseLost
from shared.names import Names
from tests.integration.conftest import find_redis_program
from tests.redis_state import find_free_port

ROOT = Path(__file__).parents[2]
NO_SERVER = "/nonexistent"  # a PATH on which there is none


def get_path_with_server() -> str:
    """The PATH on which redis-server is."""
    find_redis_program()
    return os.environ["PATH"]


class Bus:
    """The process, and connections to it."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port

    async def until_up(self) -> None:
        async with asyncio.timeout(20):
            while True:
                assert self.process.returncode is None, await self.get_output()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    @asynccontextmanager
    async def client(self) -> AsyncIterator["Redis"]:
        redis = Redis(port=self.port, socket_timeout=5)
        try:
            yield redis
        finally:
            await redis.aclose()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(3):
            return await self.process.wait()

    async def get_output(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.read()).decode()


@asynccontextmanager
async def starting(directory: Path, path: str, **environ: str) -> AsyncIterator[Bus]:
    """The process, not necessarily up."""
    port = find_free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shared.private_bus", "--port", str(port)),
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": path} | environ,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Bus(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture(params=["redis-server", "fakeredis"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    """A bus of each kind, since both must serve what ingest and gateways do."""
    path = get_path_with_server() if request.param == "redis-server" else NO_SERVER
    async with starting(tmp_path, path) as bus:
        await bus.until_up()
        yield bus


class RawClient:
    """A socket without a library between, as the hot ones of ingest and gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._parser = hiredis.Reader()
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> "RawClient":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, *commands: Sequence[bytes]) -> None:
        self.writer.write(b"".join(encode_command(*words) for words in commands))

    async def receive(self, count: int) -> list[Any]:
        replies: list[Any] = []
        async with asyncio.timeout(20):
            while len(replies) < count:
                if (reply := self._parser.gets()) is not False:
                    replies.append(reply)
                    continue
                data = await self._reader.read(65536)
                assert data, f"closed by the bus after {replies[-3:]}"
                self._parser.feed(data)
        return replies


async def test_says_which_bus_it_is_and_stops_cleanly(tmp_path: Path) -> None:
    async with starting(tmp_path, NO_SERVER) as bus:
        await bus.until_up()
        assert await bus.stop() == 0
        output = await bus.get_output()
    assert "fakeredis" in output and "publishes/s" in output and str(bus.port) in output
    assert "Traceback" not in output
    path = get_path_with_server()
    async with starting(tmp_path, path) as bus:
        await bus.until_up()
        assert await bus.stop() == 0
        output = await bus.get_output()
    assert f"-server at 127.0.0.1:{bus.port}" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stops_cleanly_with_clients_connected(bus: Bus, number: int) -> None:
    subscriber = await RawClient.open(bus.port)
    subscriber.send([b"SUBSCRIBE", b"c"])
    await subscriber.receive(1)
    assert await bus.stop(number) == 0


async def test_server_replaces_the_process_so_that_none_is_left(tmp_path: Path) -> None:
    path = get_path_with_server()
    async with starting(tmp_path, path) as bus:
        await bus.until_up()
        async with bus.client() as redis:
            info = await redis.info("server")
        assert info["process_id"] == bus.process.pid
        assert await bus.stop(signal.SIGKILL) == -signal.SIGKILL
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", bus.port)


async def test_keeps_nothing_on_disk(tmp_path: Path) -> None:
    path = get_path_with_server()
    async with starting(tmp_path, path, TMPDIR=str(tmp_path)) as bus:
        await bus.until_up()
        async with bus.client() as redis:
            await redis.set("k", "v")
            assert (await redis.config_get("save"))["save"] == ""
            assert (await redis.config_get("appendonly"))["appendonly"] == "no"
        assert await bus.stop() == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [NO_SERVER, None])
async def test_taken_port_exits_1_with_one_line(path: str | None, tmp_path: Path) -> None:
    path = path or get_path_with_server()
    async with starting(tmp_path, path) as first:
        await first.until_up()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shared.private_bus", "--port", str(first.port)),
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": path},
            stderr=PIPE,
        )
        _, said = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        assert said.count(b"\n") == 1 and f"port {first.port} is taken".encode() in said
        async with first.client() as redis:
            assert await redis.ping()


@pytest.mark.parametrize("url", ["redis://user:sekret@db.example:6380/1", "redis+sentinel://:sekret@db.example:6380/m"])
async def test_redis_url_is_named_without_its_password(tmp_path: Path, url: str) -> None:
    async with starting(tmp_path, NO_SERVER, REDIS_URL=url) as bus:
        assert bus.process.stdout is not None
        line = (await asyncio.wait_for(bus.process.stdout.readline(), 20)).decode()
        assert "db.example:6380" in line and "as REDIS_URL says" in line
        assert "sekret" not in line
        assert await bus.stop() == 0
        assert await bus.get_output() == ""


async def test_bad_configuration_exits_2(tmp_path: Path) -> None:
    async with starting(tmp_path, NO_SERVER, REDIS_URL="http://:sekret@h") as bus:
        assert await asyncio.wait_for(bus.process.wait(), 20) == 2
        output = await bus.get_output()
    assert output.startswith("configuration: REDIS_URL: expected redis://")
    assert "sekret" not in output


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=d81b8ff71cfb150e", (7, 0)),
        ("Server v=8.0.1 sha=00000000:0", (8, 0)),
        ("something else", (0, 0)),
    ],
)
def test_version_is_read(text: str, version: tuple[int, int]) -> None:
    assert private_bus.read_version(text) == version


@pytest.mark.parametrize("script", ["echo 'Redis server v=6.0.16 sha=0'", "exit 1"])
async def test_server_that_is_too_old_or_broken_is_passed_over(script: str, tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    async with starting(tmp_path, str(tmp_path)) as bus:
        await bus.until_up()
        assert await bus.stop() == 0
        output = await bus.get_output()
    assert f"bus: {program} " in output and "fakeredis at" in output


async def test_published_messages_reach_two_subscribers_in_order(bus: Bus) -> None:
    first, second, publisher = [await RawClient.open(bus.port) for _ in range(3)]
    for subscriber in (first, second):
        subscriber.send([b"SUBSCRIBE", b"T.A", b"T.B"])
        assert await subscriber.receive(2) == [[b"subscribe", b"T.A", 1], [b"subscribe", b"T.B", 2]]
    sent = [(b"T.B" if number % 3 else b"T.A", b'[{"n":%d,"s":"\r\n\xc3\xa9"}]' % number) for number in range(3000)]
    publisher.send(*[[b"PUBLISH", *pair] for pair in sent])  # many commands in one write
    assert await publisher.receive(3000) == [2] * 3000
    for subscriber in (first, second):
        assert await subscriber.receive(3000) == [[b"message", *pair] for pair in sent]
    first.send([b"SUBSCRIBE", b"T.C"], [b"UNSUBSCRIBE", b"T.A"], [b"PING"])
    assert await first.receive(3) == [[b"subscribe", b"T.C", 3], [b"unsubscribe", b"T.A", 2], [b"pong", b""]]
    second.writer.close()
    await second.writer.wait_closed()
    async with asyncio.timeout(5):
        while True:
            publisher.send([b"PUBLISH", b"T.B", b"x"])
            if await publisher.receive(1) == [1]:
                break


async def test_error_reply_leaves_the_connection_and_its_order_intact(bus: Bus) -> None:
    client = await RawClient.open(bus.port)
    entry = [b"XADD", b"log", b"MINID", b"~", b"1-0", b"5-1", b"batch", b"x\r\n"]
    client.send(entry, entry, [b"NOSUCH"], [b"EVALSHA", b"0" * 40, b"0"], [b"PING"])
    first, twice, unknown, script, pong = await client.receive(5)
    assert (first, pong) == (b"5-1", b"PONG")
    assert str(twice).startswith("ERR The ID specified in XADD is equal or smaller")
    assert str(unknown).startswith("ERR unknown command")
    assert str(script).startswith("NOSCRIPT ")


async def test_reply_and_messages_larger_than_any_socket_buffer_arrive_whole(bus: Bus) -> None:
    client, subscriber = [await RawClient.open(bus.port) for _ in range(2)]
    body = bytes(range(256)) * 60_000  # 15 MB
    client.send([b"SET", b"k", body], [b"GET", b"k"])
    assert await client.receive(2) == [b"OK", body]
    subscriber.send([b"SUBSCRIBE", b"c"])
    await subscriber.receive(1)
    part = body[:100_000]
    client.send(*[[b"PUBLISH", b"c", part]] * 200)  # while the subscriber does not read
    assert await client.receive(200) == [1] * 200
    assert await subscriber.receive(200) == [[b"message", b"c", part]] * 200


async def test_log_forgets_what_is_older_than_the_least_id_and_is_read_from_an_id(bus: Bus) -> None:
    async with bus.client() as redis:
        for number in range(1, 301):
            await redis.xadd("log", {"batch": b"b"}, id=f"7-{number}")
        await redis.xadd("log", {"batch": b"c"}, id="7-301", minid="7-300", approximate=False)
        entries: Any = await redis.xrange("log")
        assert [entry[0] for entry in entries] == [b"7-300", b"7-301"]
        assert await redis.xrange("log", min="(7-300") == [(b"7-301", {b"batch": b"c"})]
        assert await redis.xrevrange("log", count=1) == [(b"7-301", {b"batch": b"c"})]


async def test_command_that_waits_delays_nobody_else(bus: Bus) -> None:
    waiting = await RawClient.open(bus.port)
    waiting.send([b"XREAD", b"BLOCK", b"0", b"STREAMS", b"log", b"0"], [b"PING"])
    async with bus.client() as redis:
        for _ in range(20):
            assert await redis.ping()
        await redis.xadd("log", {"a": "b"}, id="1-1")
    assert await waiting.receive(2) == [[[b"log", [[b"1-1", [b"a", b"b"]]]]], b"PONG"]


async def test_keys_expire_and_hashes_and_sets_answer(bus: Bus) -> None:
    async with bus.client() as redis:
        assert await redis.set("lease", "v", px=150, nx=True)
        assert await redis.set("lease", "w", px=150, nx=True) is None
        async with asyncio.timeout(5):
            while await redis.exists("lease"):
                await asyncio.sleep(0.02)
        await redis.hset("h", mapping={"a": "1", "b": "2"})
        assert await redis.hincrby("h", "a", -1) == 0
        assert await redis.hdel("h", "a") == 1
        assert await redis.hmget("h", ["a", "b"]) == [None, b"2"]
        assert await redis.hgetall("h") == {b"b": b"2"}
        await redis.sadd("s", "x", "y", "z")
        popped: Any = await redis.spop("s", 2)
        assert len(popped) == 2
        assert await redis.scard("s") == 1
        assert await redis.smembers("nothing") == set()


async def test_pipelines_transactions_and_scripts_by_hash(bus: Bus) -> None:
    async with bus.client() as redis:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.set("k", 1)
            pipe.incr("k")
            pipe.get("k")
            assert await pipe.execute() == [True, 2, b"2"]
        async with redis.pipeline(transaction=False) as pipe:
            pipe.set("k", 1)
            pipe.hget("k", "f")
            pipe.get("k")
            replies = await pipe.execute(raise_on_error=False)
        assert replies[0] is True and isinstance(replies[1], ResponseError) and replies[2] == b"1"
        with pytest.raises(NoScriptError):
            await redis.evalsha("0" * 40, 0)
        digest = await redis.script_load("return {ARGV[1], redis.call('GET', KEYS[1]), false, 3.9}")
        assert await redis.evalsha(digest, 1, "k", b"\xff\n") == [b"\xff\n", b"1", None, 3]


async def test_the_scripts_of_demand_run(bus: Bus) -> None:
    names = Names("stocks")
    listener = await RawClient.open(bus.port)
    listener.send([b"SUBSCRIBE", names.demand.encode()])
    await listener.receive(1)
    async with bus.client() as redis:
        demand = Demand(redis, names)
        with pytest.raises(LeaseLost):
            await demand.acquire("g1", ["T.A"])
        await demand.join("g1")
        await demand.join("g2")
        await demand.acquire("g1", ["T.A", "T.*"])
        await demand.acquire("g2", ["T.A"])
        await demand.renew("g1", {"clients": 3})
        assert await redis.hgetall(names.refcount) == {b"T.A": b"2", b"T.*": b"1"}
        await demand.release("g2", ["T.A", "T.never"])
        await redis.delete(names.get_lease("g1"))  # as if it had run out
        assert await demand.sweep() == 2
        assert await demand.get_wanted() == set()
        await demand.leave("g2")
        assert await redis.smembers(names.gateways) == set()
    notices = [notice[2] for notice in await listener.receive(2)]
    assert notices[0] == b'["T.A","T.*"]'
    assert notices[1] in (b'["T.A","T.*"]', b'["T.*","T.A"]')


async def test_garbage_is_refused_and_disturbs_nobody(tmp_path: Path) -> None:
    async with starting(tmp_path, NO_SERVER) as bus:
        await bus.until_up()
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"*1\r\n:1\r\n", b"*0\r\n", b"+OK\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", bus.port)
            writer.write(garbage)
            async with asyncio.timeout(5):
                assert (await reader.read()).startswith(b"-ERR Protocol error")
            writer.close()
        half = await RawClient.open(bus.port)
        half.writer.write(b"*2\r\n$4\r\nEC")
        async with bus.client() as redis:
            assert await redis.ping()
        half.writer.write(b"HO\r\n$2\r\nhi\r\n")
        assert await half.receive(1) == [b"hi"]


async def test_subscriber_that_never_reads_is_cut_off(tmp_path: Path) -> None:
    async with starting(tmp_path, NO_SERVER) as bus:
        await bus.until_up()
        subscriber, publisher = [await RawClient.open(bus.port) for _ in range(2)]
        subscriber.send([b"SUBSCRIBE", b"c"])
        await subscriber.receive(1)
        body = bytes(4_000_000)
        async with asyncio.timeout(30):
            for _ in range(100):
                publisher.send([b"PUBLISH", b"c", body])
                await publisher.writer.drain()
                if await publisher.receive(1) == [0]:
                    break
            else:
                pytest.fail("400 MB are kept for one subscriber")
