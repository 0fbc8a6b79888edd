"""Asks all gateways how many of their clients get the events of some channels (shared/census.py)."""

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec
from redis.asyncio import Redis

from shared.census import MAX_CHANNELS, Question, encode_question, parse_answer
from shared.names import Names

WITHIN_S: Final = 1.0  # a gateway that is so far behind does not count


class Count(NamedTuple):
    """`clients` of those gateways that answered; `silent` gateways that live but did not."""

    clients: int
    silent: int


async def count_clients(redis: "Redis", names: Names, channels: Iterable[str]) -> Count:
    """How many clients hold at least one of these, now; raises redis.RedisError."""
    question = Question(secrets.token_hex(16), sorted(channels)[:MAX_CHANNELS])
    missing = await _get_living(redis, names)
    await redis.publish(names.census, encode_question(question))
    clients = 0
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WITHIN_S
    while missing and (left_s := deadline - loop.time()) > 0:
        found: Any = await redis.blpop([names.get_census_reply(question.id)], timeout=max(0.01, left_s))
        if found is None:
            break
        try:
            answer = parse_answer(found[1])
        except msgspec.DecodeError:
            continue
        if answer.gateway in missing:
            missing.discard(answer.gateway)
            clients += answer.clients
    return Count(clients, len(missing))


async def _get_living(redis: "Redis", names: Names) -> set[str]:
    """The gateways that have a lease."""
    members: Any = await redis.smembers(names.gateways)
    living: set[str] = set()
    for member in members:
        if await redis.exists(names.get_lease(member.decode())):
            living.add(member.decode())
    return living
