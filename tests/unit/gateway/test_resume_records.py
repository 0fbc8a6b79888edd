"""A name's record while its connection lives and when it ends: kept in Redis, and not for ever in the gateway."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as RedisAway

import gateway.resume
from gateway.receipt import Receipt
from gateway.resume import Resumer, Resumption
from shared.batch import NOTHING
from shared.lifecycle import Tasks
from shared.names import Names
from tests.processes import until

NAMES = Names("stocks")
KEY = NAMES.get_resume("bot-1")


@pytest.fixture
async def redis(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setattr(gateway.resume, "HAND_OVER_S", 0.1)
    monkeypatch.setattr(gateway.resume, "SAVE_S", 0.01)
    async with aclosing(FakeAsyncRedis()) as client:
        yield client


async def claim(resumption: Resumption, name: str = "bot-1") -> Resumer:
    mark = NOTHING._replace(epoch=7, sequence=9, received_us=int(time.time() * 1e6))
    resumer = await resumption.claim(name, Receipt(mark), lambda: False)
    assert resumer is not None
    return resumer


@asynccontextmanager
async def recording(resumption: Resumption) -> AsyncIterator[Resumer]:
    """A connection that holds something, while records are kept; nobody keeps them afterwards."""
    resumer = await claim(resumption)
    resumer.receipt.add(["T.A"])
    resumer.confirm()
    async with Tasks() as tasks:
        tasks.start("records", resumption.run())
        yield resumer


async def test_a_name_that_was_taken_over_at_the_same_gateway_stays_with_its_new_connection(redis: Any) -> None:
    resumption = Resumption(redis, NAMES, "a")
    old = await claim(resumption)
    new = await claim(resumption)
    await resumption.end(old)
    assert resumption.open == {"bot-1": new}
    assert old.taken_over.is_set() and not new.taken_over.is_set()


async def test_of_a_connection_that_ended_the_gateway_keeps_nothing(redis: Any) -> None:
    resumption = Resumption(redis, NAMES, "a")
    async with recording(resumption) as resumer:
        await until(lambda: "bot-1" in resumption._written, "it is recorded", within_s=2)
    await resumption.end(resumer)
    assert resumption.open == {} and resumption._written == {}  # else names would add up for as long as it runs


async def test_the_record_of_a_client_that_stays_is_written_anew_before_it_expires(
    redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.resume, "_REWRITE_S", 0.0)
    resumption = Resumption(redis, NAMES, "a")
    async with recording(resumption):
        await until(lambda: "bot-1" in resumption._written, "it is recorded", within_s=2)
        await redis.delete(KEY)  # as if it had expired; what the client holds has not changed since
        await until(lambda: redis.exists(KEY), "it is recorded again", within_s=2)


async def test_records_are_kept_again_once_redis_answers(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resumption = Resumption(redis, NAMES, "a")
    pipeline, failures = redis.pipeline, [RedisAway(), OSError()]

    def fail_first(**how: Any) -> Any:
        if resumption.open and failures:
            raise failures.pop()
        return pipeline(**how)

    monkeypatch.setattr(redis, "pipeline", fail_first)
    async with recording(resumption):
        await until(lambda: "bot-1" in resumption._written, "it is recorded", within_s=2)
    assert failures == []


async def test_a_claim_that_waits_for_redis_says_so_once(
    redis: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    get, failures = redis.get, [RedisAway(), RedisAway(), RedisAway()]

    async def fail_first(key: str) -> Any:
        if failures:
            raise failures.pop()
        return await get(key)

    monkeypatch.setattr(redis, "get", fail_first)
    await claim(Resumption(redis, NAMES, "a"))
    assert failures == [] and caplog.text.count("its record cannot be read") == 1


async def test_whoever_makes_up_a_name_for_each_connection_fills_nothing(
    redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names that came longest ago are forgotten; one that is connected goes on."""
    monkeypatch.setattr(gateway.resume, "MOST_NAMES", 3)
    resumption = Resumption(redis, NAMES, "a")
    async with recording(resumption) as resumer:
        for number in range(10):
            await resumption.end(await claim(resumption, f"uuid-{number}"))
        resumer.receipt.add(["T.B"])
        resumer.confirm()

        async def is_recorded() -> bool:
            return b"T.B" in (await redis.get(KEY) or b"")

        await until(is_recorded, "the record of who is connected is written again")
        await resumption.end(resumer)
    kept = {"uuid-8", "uuid-9", "bot-1"}
    assert {name.decode() for name in await redis.keys(NAMES.get_resume("*"))} == set(map(NAMES.get_resume, kept))
    assert {name.decode() for name in await redis.zrange(NAMES.resumed, 0, -1)} == kept


@pytest.mark.parametrize(("channels", "kept_s"), [(2, 86_400), (3, 600)])
async def test_a_large_record_is_soon_forgotten_once_its_client_has_left(
    redis: Any, channels: int, kept_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.resume, "LARGE", 2)
    resumption = Resumption(redis, NAMES, "a")
    resumer = await claim(resumption)
    resumer.receipt.add([f"T.S{number}" for number in range(channels)])
    resumer.confirm()
    await resumption._write({"bot-1": resumer}, is_open=True)
    assert await redis.ttl(KEY) == 86_400
    await resumption.end(resumer)
    assert await redis.ttl(KEY) == kept_s
