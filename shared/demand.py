"""Demand in Redis: leases and the refcount, for gateways that want channels and the ingest that serves them.

A gateway counts once for each channel it wants, however many of its clients hold it.  Every change of count and
lease together is one Lua script (shared/lua), so that a crash between two commands cannot leave a count behind.
"""

import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from shared.names import Names

LEASE_S: Final = 7.0  # a killed gateway's counts are gone after LEASE_S + SWEEP_S at the latest, promised <= 10 s
RENEW_S: Final = 2.0
SWEEP_S: Final = 1.0
HELD_S: Final = 28.0  # what nobody counts for any more, ingest still asks upstream for: for 30 s (ingest/reconcile.py)
ASKED_S: Final = 3.0  # from a count until upstream surely sends it: it has 2 s to confirm
# Most seconds between two tries to connect, of a gateway to the bus and of ingest to the notices of demand.  They add
# nothing to each other, so what is asked for as Redis comes back reaches ingest before 2 s of silence are an ack
# (gateway/server.py).
RETRY_MOST_S: Final = 1.0
CHUNK: Final = 500  # channels in one script call: ~0.5 ms during which Redis serves nobody else

_LUA = Path(__file__).parent / "lua"
_SCRIPTS: Final = ("join", "renew", "acquire", "release", "sweep")


class LeaseLost(Exception):
    """The lease ran out, so what it counted for was or will be swept: join again and re-assert."""


def chunks(items: Iterable[str], size: int = CHUNK) -> Iterable[list[str]]:
    """The items in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def read_script(name: str) -> str:
    """The text of one of the Lua scripts beside this file."""
    return (_LUA / f"{name}.lua").read_text()


class Demand:
    """The scripts and reads of one feed; raises redis.RedisError when Redis does not answer."""

    def __init__(self, redis: "Redis", names: Names) -> None:
        self._redis = redis
        self._names = names
        self._scripts = {name: redis.register_script(read_script(name)) for name in _SCRIPTS}

    async def _call(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> int:
        return int(await self._scripts[script](keys=list(keys), args=list(args)))

    async def join(self, gateway_id: str) -> None:
        """Take a lease of LEASE_S seconds."""
        names = self._names
        await self._call(
            "join",
            [names.gateways, names.get_lease(gateway_id)],
            [gateway_id, int(LEASE_S * 1000), int(time.time())],
        )

    async def renew(self, gateway_id: str, statistics: dict[str, Any]) -> None:
        """Prolong the lease and leave statistics in it; raises LeaseLost."""
        args: list[Any] = [int(LEASE_S * 1000)]
        for field, value in statistics.items():
            args += [field, value]
        if not await self._call("renew", [self._names.get_lease(gateway_id)], args):
            raise LeaseLost(gateway_id)

    async def acquire(self, gateway_id: str, channels: Iterable[str]) -> None:
        """Count the gateway for each channel, once; raises LeaseLost."""
        names = self._names
        keys = [names.refcount, names.get_gateway_channels(gateway_id), names.get_lease(gateway_id)]
        for chunk in chunks(channels):
            if await self._call("acquire", keys, [names.demand, *chunk]) < 0:
                raise LeaseLost(gateway_id)

    async def release(self, gateway_id: str, channels: Iterable[str]) -> None:
        """Count the gateway no more for each channel."""
        names = self._names
        keys = [names.refcount, names.get_gateway_channels(gateway_id)]
        for chunk in chunks(channels):
            await self._call("release", keys, [names.demand, *chunk])

    async def leave(self, gateway_id: str) -> None:
        """Give back the lease and all counts at once."""
        await self._redis.delete(self._names.get_lease(gateway_id))
        await self._sweep_gateway(gateway_id)

    async def sweep(self) -> int:
        """Take back the counts of all gateways whose lease ran out; returns how many channels that were."""
        members: Any = await self._redis.smembers(self._names.gateways)
        swept = 0
        for member in members:
            swept += await self._sweep_gateway(member.decode())
        return swept

    async def _sweep_gateway(self, gateway_id: str) -> int:
        names = self._names
        keys = [
            names.refcount,
            names.get_gateway_channels(gateway_id),
            names.get_lease(gateway_id),
            names.gateways,
        ]
        swept = 0
        while (count := await self._call("sweep", keys, [names.demand, gateway_id, CHUNK])) > 0:
            swept += count
        return swept

    async def get_epoch(self) -> int:
        """The epoch of the last ingest that took the upstream slot, before it read demand; 0 if Redis knows of none."""
        epoch: Any = await self._redis.hget(self._names.upstream, "epoch")
        return int(epoch or 0)

    async def get_wanted(self) -> set[str]:
        """All channels that some gateway wants."""
        counts: Any = await self._redis.hkeys(self._names.refcount)
        return {channel.decode() for channel in counts}

    async def filter_wanted(self, channels: Sequence[str]) -> set[str]:
        """Those of `channels` that some gateway wants."""
        wanted: set[str] = set()
        for chunk in chunks(channels):
            counts: Any = await self._redis.hmget(self._names.refcount, chunk)
            wanted.update(channel for channel, count in zip(chunk, counts, strict=True) if count is not None)
        return wanted
