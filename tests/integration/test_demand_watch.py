"""Ingest's ear for demand, on a real redis-server: what is announced while nobody hears it is not heard late."""

from typing import cast

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from ingest.demand_watch import DemandWatch
from ingest.upstream import Upstream
from shared.lifecycle import Tasks
from tests.integration.conftest import RedisServer
from tests.integration.demand_rig import NAMES
from tests.processes import until


class Wanted:
    """An upstream that only notes what is wanted of it."""

    def __init__(self) -> None:
        self.channels: set[str] = set()

    def set_wanted(self, wanted: set[str]) -> None:
        self.channels = set(wanted)

    def update_wanted(self, more: set[str], less: set[str]) -> None:
        self.channels = (self.channels | more) - less


@pytest.mark.parametrize("retries", [0, 1], ids=["with-sentinels", "without"])
async def test_what_was_announced_while_notices_were_cut_off_is_heard_as_soon_as_they_are_back(
    redis: "Redis", redis_server: RedisServer, retries: int
) -> None:
    """No reconcile runs here.  Without sentinels redis-py connects anew by itself (shared/redis_address.py)."""
    upstream = Wanted()
    retry = Retry(NoBackoff(), retries, (RedisConnectionError,))
    async with Redis.from_url(redis_server.url, retry=retry) as own, Tasks() as tasks:
        tasks.start("notices", DemandWatch(own, NAMES, cast(Upstream, upstream)).run_notices())

        async def is_listening() -> bool:
            return bool((await redis.pubsub_numsub(NAMES.demand))[0][1])

        await until(is_listening, "notices are subscribed")
        await redis.hset(NAMES.refcount, "T.AAPL", 1)
        await redis.publish(NAMES.demand, '["T.AAPL"]')
        await until(lambda: upstream.channels == {"T.AAPL"}, "a notice is heard")
        async with redis.pipeline(transaction=True) as pipe:  # the cut and the edge at once, or it might be heard
            pipe.client_kill_filter(_type="pubsub")
            pipe.hdel(NAMES.refcount, "T.AAPL")
            pipe.hset(NAMES.refcount, "Q.AAPL", 1)
            pipe.publish(NAMES.demand, '["T.AAPL","Q.AAPL"]')
            assert (await pipe.execute())[-1] == 0, "somebody heard it, so this test proves nothing"
        await until(lambda: upstream.channels == {"Q.AAPL"}, "what was announced meanwhile is heard", within_s=3.0)
