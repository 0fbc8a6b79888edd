"""Brings demand from Redis to upstream: edges at once; the whole every RECONCILE_S, so that a lost notice heals.

The whole is read after each connection of the notices as well, since edges from before it were announced to nobody.
After a failover there often are some, and gateways ack after 2 s of silence (gateway/server.py): the reconcile alone
would be too late for that now and then.
"""

import asyncio
import logging
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.mix import Mix
from ingest.upstream import Upstream
from shared.backoff import Backoff
from shared.demand import RETRY_MOST_S, SWEEP_S, Demand
from shared.names import Names

_log = logging.getLogger(__name__)
RECONCILE_S: Final = 2.0

_decode_channels = msgspec.json.Decoder(list[str]).decode


class DemandWatch:
    """Reads demand and tells upstream."""

    def __init__(self, redis: "Redis", names: Names, upstream: Upstream | Mix) -> None:
        self._redis = redis
        self._names = names
        self._demand = Demand(redis, names)
        self._upstream = upstream
        self._reading = asyncio.Lock()  # so that an older reading never overwrites a newer one

    async def run_notices(self) -> None:
        """Act on edges as gateways announce them."""
        backoff = Backoff(0.1, RETRY_MOST_S)
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._names.demand)
                    async for message in pubsub.listen():
                        await self._on_notice(message)
                        backoff.reset()
            except (RedisError, OSError) as exc:
                delay_s = backoff.next_s()
                _log.warning("demand: notices are cut off (%s), next try in %.1f s", exc, delay_s)
                await asyncio.sleep(delay_s)

    async def _on_notice(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            await self.read_all()
        if message["type"] != "message":
            return
        try:
            channels = _decode_channels(message["data"])
        except msgspec.DecodeError:
            _log.warning("demand: a notice of an unknown shape")
            return
        async with self._reading:
            wanted = await self._demand.filter_wanted(channels)
            self._upstream.update_wanted(wanted, set(channels) - wanted)

    async def run_reconcile(self) -> None:
        """Sweep dead gateways' counts, and compare all of demand with what upstream was asked for."""
        rounds = 0
        failing = False
        while True:
            try:
                await self._demand.sweep()
                if rounds % round(RECONCILE_S / SWEEP_S) == 0:
                    await self.read_all()
                failing = False
            except (RedisError, OSError) as exc:
                if not failing:
                    _log.warning("demand: Redis does not answer (%s); what is subscribed upstream stays so", exc)
                failing = True
            rounds += 1
            await asyncio.sleep(SWEEP_S)

    async def read_all(self) -> None:
        """Compare all of demand with what upstream was asked for; raises redis.RedisError."""
        async with self._reading:
            self._upstream.set_wanted(await self._demand.get_wanted())
