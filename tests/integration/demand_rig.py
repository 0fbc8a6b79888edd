"""Demand in a real Redis, and what tests look at there."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio import Redis

from shared.demand import Demand
from shared.names import Names

NAMES: Final = Names("stocks")
WITHIN_S: Final = 10.0
POLL_S: Final = 0.01


class Rig:
    """Demand, and what Redis holds of it."""

    def __init__(self, redis: "Redis", notices: Any) -> None:
        self.redis = redis
        self.demand = Demand(redis, NAMES)
        self._notices = notices

    async def get_counts(self) -> dict[str, int]:
        counts: Any = await self.redis.hgetall(NAMES.refcount)
        return {channel.decode(): int(count) for channel, count in counts.items()}

    async def get_members(self, key: str) -> set[str]:
        members: Any = await self.redis.smembers(key)
        return {member.decode() for member in members}

    async def get_all(self) -> tuple[object, ...]:
        keys: Any = await self.redis.keys("*")
        gateways = {key: await self.get_members(NAMES.get_gateway_channels(key)) for key in ("g1", "g2")}
        return sorted(keys), await self.get_counts(), gateways

    async def take_notices(self) -> list[list[str]]:
        """The notices since the last look; a last one of our own says that there are no more."""
        await self.redis.publish(NAMES.demand, "end")
        found: list[list[str]] = []
        async with asyncio.timeout(WITHIN_S):
            while True:
                message = await self._notices.get_message(ignore_subscribe_messages=True, timeout=WITHIN_S)
                if message is None:
                    continue
                if message["data"] == b"end":
                    return found
                found.append(json.loads(message["data"]))

    async def lose_lease(self, gateway_id: str) -> None:
        """Let the lease run out, as that of a killed gateway does."""
        await self.redis.pexpire(NAMES.get_lease(gateway_id), 1)
        await wait_until(lambda: self._is_gone(NAMES.get_lease(gateway_id)))

    async def _is_gone(self, key: str) -> bool:
        return not await self.redis.exists(key)


async def wait_until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await is_so():
            await asyncio.sleep(POLL_S)
