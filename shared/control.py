"""The connections to Redis for all that is not an event: leases, demand, states, the log."""

from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

_WITHIN_S: Final = 5.0


def open_control(url: str) -> "Redis":
    """A client with a pool; it raises redis.RedisError if Redis is away or does not answer within 5 s.

    After a restart of Redis each connection of the pool is dead, and the first word on it fails although Redis is there
    again: it is said once more, on a new connection.
    """
    once_more = Retry(NoBackoff(), 1, (RedisConnectionError,))
    return Redis.from_url(url, socket_timeout=_WITHIN_S, socket_connect_timeout=_WITHIN_S, retry=once_more)
