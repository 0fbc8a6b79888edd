"""`python -m shared.private_bus` as a process: a redis-server, fakeredis in its place, and REDIS_URL."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared import private_bus
from tests.integration.bus_process import NO_SERVER, ROOT, Bus, RawClient, get_path_with_server, starting


@pytest.fixture(params=["redis-server", "fakeredis"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    """A bus of each kind, since both must serve what ingest and gateways do."""
    path = get_path_with_server() if request.param == "redis-server" else NO_SERVER
    async with starting(tmp_path, path) as bus:
        await bus.until_up()
        yield bus


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


@pytest.mark.parametrize("url", ["redis://user:sekret@db.example:6380/0", "redis+sentinel://:sekret@db.example:6380/m"])
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
