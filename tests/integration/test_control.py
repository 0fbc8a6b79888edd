"""The control connections on a real Redis."""

import asyncio
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.redis_address import make_redis
from tests.integration.conftest import RedisServer


async def test_first_word_after_all_connections_were_cut_is_answered(redis_server: RedisServer) -> None:
    async with make_redis(f"{redis_server.url}/0") as control, Redis.from_url(redis_server.url) as killer:
        await asyncio.gather(*(control.ping() for _ in range(5)))  # as many connections lie in the pool
        assert await killer.client_kill_filter(_type="normal", skipme=True) >= 5
        for _ in range(10):
            assert await control.ping()


@pytest.mark.parametrize("break_it", ["a command", "a subscription"])
def test_a_socket_that_closes_while_it_is_written_to_is_a_connection_error_under_uvloop_too(
    break_it: str, redis_server: RedisServer
) -> None:
    """Uvloop raises RuntimeError there, which nobody expects of Redis: it once ended an ingest."""

    async def write() -> None:
        async with make_redis(redis_server.url) as redis:
            pool: Any = redis.connection_pool
            connection = await pool.get_connection()
            connection._writer.transport.abort()
            await asyncio.sleep(0.01)  # the loop closes it in its next round
            if break_it == "a command":
                await pool.release(connection)
                assert await redis.ping()  # said once more, on a new one
            else:
                with pytest.raises(RedisError):
                    await connection.send_packed_command([b"PING\r\n"], check_health=False)

    uvloop.run(write())
