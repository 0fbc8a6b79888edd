"""`/slow`: the slowest clients of all gateways in one list."""

import json
from typing import Any, cast

from aiohttp import web
from redis.exceptions import ConnectionError as RedisConnectionError

from ingest.ops import Ops
from shared.names import Names

NAMES = Names("stocks")


class Leases:
    """Redis, as far as it holds leases."""

    def __init__(self, leases: dict[str, dict[bytes, bytes]]) -> None:
        self._leases = leases
        self.answers = True

    async def smembers(self, name: str) -> set[bytes]:
        if not self.answers:
            raise RedisConnectionError("gone")
        assert name == NAMES.gateways
        return {ident.encode() for ident in [*self._leases, "without-lease"]}

    async def hgetall(self, name: str) -> dict[bytes, bytes]:
        return {NAMES.get_lease(ident): fields for ident, fields in self._leases.items()}.get(name, {})


def make_slow(client: str, lag_ms: int) -> dict[str, Any]:
    return {"client": client, "lag_ms": lag_ms, "queued": 2, "conflated": 3}


def make_lease(*slowest: dict[str, Any]) -> dict[bytes, bytes]:
    return {b"clients": b"7", b"latency_us": b'{"50":1}', b"slowest": json.dumps(slowest).encode()}


def make_ops(leases: Leases) -> Ops:
    return Ops(cast(Any, leases), NAMES, dict)


async def ask(ops: Ops) -> tuple[int, Any]:
    response = await ops._on_slow(cast(web.Request, None))
    assert isinstance(response.text, str)
    return response.status, json.loads(response.text)


async def test_the_slowest_of_all_gateways_come_in_one_list_the_worst_first() -> None:
    a, b = make_lease(make_slow("a1", 500), make_slow("a2", 0)), make_lease(make_slow("b1", 60_000))
    status, slow = await ask(make_ops(Leases({"a": a, "b": b, "calm": make_lease(), "old": {b"clients": b"1"}})))
    assert status == 200
    assert slow == [
        {"gateway": "b", **make_slow("b1", 60_000)},
        {"gateway": "a", **make_slow("a1", 500)},
        {"gateway": "a", **make_slow("a2", 0)},
    ]


async def test_without_redis_the_answer_says_so() -> None:
    leases = Leases({})
    leases.answers = False
    assert await ask(make_ops(leases)) == (503, {"problem": "Redis does not answer (gone)"})


async def test_the_list_is_no_number_among_the_gateways_numbers() -> None:
    assert await make_ops(Leases({"a": make_lease(make_slow("a1", 1))}))._get_gateways() == {"a": {"clients": 7.0}}
