"""Which connection has a name: the one of the latest claim, though Redis or a clock may be behind."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis

import gateway.resume
from gateway.receipt import Receipt
from gateway.resume import Resumer, Resumption
from shared.batch import NOTHING
from shared.names import Names

NAMES = Names("stocks")
KEY = NAMES.get_resume("bot-1")
OLD_SHAPE = b'{"owner":"b/1","is_open":%b,"parts":[{"epoch":7,"sequence":5,"received_us":%d,"channels":["T.A"]}]}'


@pytest.fixture
async def redis(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setattr(gateway.resume, "HAND_OVER_S", 0.05)
    async with aclosing(FakeAsyncRedis()) as client:
        yield client


def make_resumption(redis: Any, gateway_id: str) -> Resumption:
    return Resumption(redis, NAMES, gateway_id)


async def claim(resumption: Resumption) -> Resumer:
    mark = NOTHING._replace(epoch=7, sequence=9, received_us=int(time.time() * 1e6))
    resumer = await resumption.claim("bot-1", Receipt(mark), lambda: False)
    assert resumer is not None
    return resumer


async def write(resumption: Resumption, resumer: Resumer) -> None:
    """As it does every SAVE_S; the client has got something since."""
    resumer.receipt.add(["T.LATE"])
    resumer.confirm()
    await resumption._write({"bot-1": resumer}, is_open=True)


async def find_channels(redis: Any) -> list[str]:
    return [channel for part in json.loads(await redis.get(KEY))["parts"] for channel in part["channels"]]


@pytest.mark.parametrize("is_closed", [False, True], ids=["open", "closed"])
async def test_a_record_of_an_earlier_connection_throws_nobody_out_and_is_overwritten(
    is_closed: bool, redis: Any
) -> None:
    """So it is when Redis was killed and comes back from a dump that is older than the client's last connection."""
    before, now = make_resumption(redis, "a"), make_resumption(redis, "b")
    earlier = await claim(before)
    dumped = await redis.get(KEY)
    await before.end(earlier)
    if is_closed:
        dumped = await redis.get(KEY)
    live = await claim(now)
    await redis.set(KEY, dumped)
    await write(now, live)
    assert not live.taken_over.is_set()
    assert await find_channels(redis) == ["T.LATE"]
    await now.end(live)
    assert json.loads(await redis.get(KEY))["claim"] == live.claim, "its last word stands there, too"


async def test_a_record_of_a_later_connection_throws_out_and_stays_as_it_is(redis: Any) -> None:
    first, second = make_resumption(redis, "a"), make_resumption(redis, "b")
    old = await claim(first)
    new = await claim(second)
    record = await redis.get(KEY)
    await write(first, old)
    assert old.taken_over.is_set() and not new.taken_over.is_set()
    assert await redis.get(KEY) == record


async def test_the_last_word_of_a_connection_that_was_taken_over_is_refused(redis: Any) -> None:
    first, second = make_resumption(redis, "a"), make_resumption(redis, "b")
    old = await claim(first)
    new = await claim(second)
    await second.end(new)  # a later claim counts though it is over
    record = await redis.get(KEY)
    await first.end(old)
    assert await redis.get(KEY) == record


async def test_a_write_that_was_under_way_at_the_last_word_is_refused(redis: Any) -> None:
    resumption = make_resumption(redis, "a")
    resumer = await claim(resumption)
    await resumption.end(resumer)
    record = await redis.get(KEY)
    await write(resumption, resumer)
    assert await redis.get(KEY) == record


async def test_claims_of_gateways_whose_clocks_are_behind_are_later_all_the_same(
    redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumptions = [make_resumption(redis, gateway_id) for gateway_id in "abc"]
    resumers = [await claim(resumptions[0])]
    now = time.time()
    for resumption, behind_s in zip(resumptions[1:], (60, 3600), strict=True):
        monkeypatch.setattr(time, "time", lambda at=now - behind_s: at)
        resumers.append(await claim(resumption))
    assert [resumer.claim - resumers[0].claim for resumer in resumers] == [0, 1, 2]
    for resumption, resumer in zip(resumptions, resumers, strict=True):
        await write(resumption, resumer)
    assert [resumer.taken_over.is_set() for resumer in resumers] == [True, True, False]


async def test_a_claim_is_no_earlier_than_the_clock_and_exact(redis: Any) -> None:
    """So it is later than all before it, though Redis has lost or forgotten what they were."""
    from_ms = int(time.time() * 1000)
    resumer = await claim(make_resumption(redis, "a"))
    assert from_ms <= resumer.claim <= time.time() * 1000
    assert (await redis.get(KEY)).startswith(b'{"claim":%d,"is_open":true,' % resumer.claim)


@pytest.mark.parametrize("is_open", [b"true", b"false"])
async def test_a_record_without_a_claim_is_read_and_earlier_than_any(is_open: bytes, redis: Any) -> None:
    """A gateway wrote it before there were claims; an upgrade loses nobody's place."""
    await redis.set(KEY, OLD_SHAPE % (is_open, time.time() * 1e6))
    resumption = make_resumption(redis, "a")
    resumer = await claim(resumption)
    assert [(lane.position.sequence, lane.channels) for lane in resumer.missed.lanes] == [(5, {"T.A"})]
    await redis.set(KEY, OLD_SHAPE % (is_open, time.time() * 1e6))
    await write(resumption, resumer)
    assert not resumer.taken_over.is_set()
    assert await find_channels(redis) == ["T.LATE", "T.A"]
