"""A redis-server of a test's own, on a free port, that keeps nothing on disk."""

import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from redis.asyncio import Redis

from tests.processes import Process, until

_PROGRAMS = ("redis-server", "valkey-server")


class RedisServer(NamedTuple):
    """Where it is, its process, and a connection to look with."""

    url: str
    port: int
    process: Process
    client: "Redis"

    async def get_refcount(self) -> dict[str, int]:
        """THE refcount, as `redis-cli HGETALL` shows it."""
        counts = await self.get_hash("polygon:{stocks}:refcount")
        return {channel: int(count) for channel, count in counts.items()}

    async def get_upstream(self) -> dict[str, str]:
        """What ingest says of upstream."""
        return await self.get_hash("polygon:{stocks}:upstream")

    async def get_leases(self) -> list[dict[str, str]]:
        """The lease hash of each living gateway, those first renewed ones only."""
        keys = [key async for key in self.client.scan_iter("polygon:{stocks}:gateway:*", _type="hash")]
        return [lease for key in sorted(keys) if "pid" in (lease := await self.get_hash(key.decode()))]

    async def get_hash(self, name: str) -> dict[str, str]:
        """A hash as texts."""
        return {field.decode(): value.decode() for field, value in (await self.client.hgetall(name)).items()}


def find_program() -> str:
    """The server's path; without one the test is skipped, or fails where CI says that there must be one."""
    for program in _PROGRAMS:
        if (path := shutil.which(program)) is not None:
            return path
    if os.environ.get("POLYGON_PROXY_REQUIRE_REDIS"):
        pytest.fail("redis-server is missing, and POLYGON_PROXY_REQUIRE_REDIS is set")
    pytest.skip("redis-server is not installed: all that needs a real Redis remains untested")


def find_free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running_redis(directory: Path, *, password: str = "") -> AsyncIterator[RedisServer]:
    """A server that answers, and is gone afterwards."""
    program = find_program()
    port = find_free_port()
    options = {"port": port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": directory}
    options |= {"requirepass": password} if password else {}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    process = await Process.start([program, *words], directory, name="redis")
    client = Redis(port=port, password=password or None, socket_timeout=5)
    try:
        await until(lambda: "Ready to accept connections" in process.output, "redis-server is ready", (process,))
        yield RedisServer(f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}/0", port, process, client)
    finally:
        await client.aclose()
        await process.end()
