"""The control connections on a real Redis."""

import asyncio

from redis.asyncio import Redis

from shared.redis_address import make_redis
from tests.integration.conftest import RedisServer


async def test_first_word_after_all_connections_were_cut_is_answered(redis_server: RedisServer) -> None:
    async with make_redis(f"{redis_server.url}/0") as control, Redis.from_url(redis_server.url) as killer:
        await asyncio.gather(*(control.ping() for _ in range(5)))  # as many connections lie in the pool
        assert await killer.client_kill_filter(_type="normal", skipme=True) >= 5
        for _ in range(10):
            assert await control.ping()
