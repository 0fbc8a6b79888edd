"""A redis-server of a test's own, and what the pipeline keeps in it, read as `redis-cli` shows it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from redis.asyncio import Redis

from tests.integration.conftest import RedisServer, find_redis_program


class RedisState(NamedTuple):
    """Where the server is, and a connection to look with."""

    url: str
    client: "Redis"
    server: RedisServer

    async def start_empty(self) -> None:
        """The server anew on the same port, after `server.kill()`."""
        assert not self._has_dump()
        await self._start()

    async def start_saved(self) -> None:
        """The same, with what it held at `client.save()`."""
        assert self._has_dump()
        await self._start()

    def _has_dump(self) -> bool:
        return self.server.path.with_name("dump.rdb").exists()

    async def _start(self) -> None:
        await asyncio.to_thread(self.server.start)
        await self.client.connection_pool.disconnect()  # those to the server before

    async def get_refcount(self) -> dict[str, int]:
        """THE refcount."""
        counts = await self.get_hash("polygon:{stocks}:refcount")
        return {channel: int(count) for channel, count in counts.items()}

    async def get_upstream(self) -> dict[str, str]:
        """What ingest says of upstream."""
        return await self.get_hash("polygon:{stocks}:upstream")

    async def get_gaps(self) -> list[dict[str, Any]]:
        """The gap records, oldest first."""
        entries: Any = await self.client.xrange("polygon:{stocks}:gaps")
        return [json.loads(fields[b"gap"]) for _, fields in entries]

    async def get_leases(self) -> list[dict[str, str]]:
        """The lease of each living gateway that has left statistics there."""
        pattern = "polygon:{stocks}:gateway:*"
        keys = [key.decode() async for key in self.client.scan_iter(pattern, _type="hash")]
        return [lease for key in sorted(keys) if "pid" in (lease := await self.get_hash(key))]

    async def get_hash(self, name: str) -> dict[str, str]:
        """A hash as texts."""
        fields: Any = await self.client.hgetall(name)
        return {field.decode(): value.decode() for field, value in fields.items()}

    async def read_all(self) -> str:
        """Every key with all that it holds, for who looks for what must not be there."""
        parts: list[Any] = []
        async for key in self.client.scan_iter("*", count=1000):
            kind: Any = await self.client.type(key)
            read: Any = {
                b"hash": self.client.hgetall,
                b"set": self.client.smembers,
                b"string": self.client.get,
                b"stream": self.client.xrange,
            }[kind]
            parts += [key, await read(key)]
        return repr(parts)


@asynccontextmanager
async def running_redis(*, password: str = "") -> AsyncIterator[RedisState]:
    """A server that answers, and is gone afterwards."""
    find_redis_program()
    with RedisServer(*(("--requirepass", password) if password else ())) as server:
        url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{server.port}/0"
        async with Redis.from_url(url, socket_timeout=5) as client:
            yield RedisState(url, client, server)
