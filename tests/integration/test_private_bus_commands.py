"""What ingest and gateways ask of a private bus, of either kind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import NoScriptError, ResponseError

from shared.demand import Demand, LeaseLost
from shared.names import Names
from tests.integration.bus_process import NO_SERVER, Bus, RawClient, get_path_with_server, starting


@pytest.fixture(params=["redis-server", "fakeredis"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    """A bus of each kind, since both must serve what ingest and gateways do."""
    path = get_path_with_server() if request.param == "redis-server" else NO_SERVER
    async with starting(tmp_path, path) as bus:
        await bus.until_up()
        yield bus


async def test_published_messages_reach_two_subscribers_in_order(bus: Bus) -> None:
    first, second, publisher = [await RawClient.open(bus.port) for _ in range(3)]
    for subscriber in (first, second):
        subscriber.send([b"SUBSCRIBE", b"T.A", b"T.B"])
        assert await subscriber.receive(2) == [[b"subscribe", b"T.A", 1], [b"subscribe", b"T.B", 2]]
    sent = [(b"T.B" if number % 3 else b"T.A", b'[{"n":%d,"s":"\r\n\xc3\xa9"}]' % number) for number in range(3000)]
    publisher.send(*[[b"PUBLISH", *pair] for pair in sent])  # many commands in one write
    assert await publisher.receive(3000) == [2] * 3000
    for subscriber in (first, second):
        assert await subscriber.receive(3000) == [[b"message", *pair] for pair in sent]
    first.send([b"SUBSCRIBE", b"T.C"], [b"UNSUBSCRIBE", b"T.A"], [b"PING"])
    assert await first.receive(3) == [[b"subscribe", b"T.C", 3], [b"unsubscribe", b"T.A", 2], [b"pong", b""]]
    second.writer.close()
    await second.writer.wait_closed()
    async with asyncio.timeout(5):
        while True:
            publisher.send([b"PUBLISH", b"T.B", b"x"])
            if await publisher.receive(1) == [1]:
                break


async def test_error_reply_leaves_the_connection_and_its_order_intact(bus: Bus) -> None:
    client = await RawClient.open(bus.port)
    entry = [b"XADD", b"log", b"MINID", b"~", b"1-0", b"5-1", b"batch", b"x\r\n"]
    client.send(entry, entry, [b"NOSUCH"], [b"EVALSHA", b"0" * 40, b"0"], [b"PING"])
    first, twice, unknown, script, pong = await client.receive(5)
    assert (first, pong) == (b"5-1", b"PONG")
    assert str(twice).startswith("ERR The ID specified in XADD is equal or smaller")
    assert str(unknown).startswith("ERR unknown command")
    assert str(script).startswith("NOSCRIPT ")


async def test_reply_and_messages_larger_than_any_socket_buffer_arrive_whole(bus: Bus) -> None:
    client, subscriber = [await RawClient.open(bus.port) for _ in range(2)]
    body = bytes(range(256)) * 60_000  # 15 MB
    client.send([b"SET", b"k", body], [b"GET", b"k"])
    assert await client.receive(2) == [b"OK", body]
    subscriber.send([b"SUBSCRIBE", b"c"])
    await subscriber.receive(1)
    part = body[:100_000]
    client.send(*[[b"PUBLISH", b"c", part]] * 200)  # while the subscriber does not read
    assert await client.receive(200) == [1] * 200
    assert await subscriber.receive(200) == [[b"message", b"c", part]] * 200


async def test_log_forgets_what_is_older_than_the_least_id_and_is_read_from_an_id(bus: Bus) -> None:
    async with bus.client() as redis:
        for number in range(1, 301):
            await redis.xadd("log", {"batch": b"b"}, id=f"7-{number}")
        await redis.xadd("log", {"batch": b"c"}, id="7-301", minid="7-300", approximate=False)
        entries: Any = await redis.xrange("log")
        assert [entry[0] for entry in entries] == [b"7-300", b"7-301"]
        assert await redis.xrange("log", min="(7-300") == [(b"7-301", {b"batch": b"c"})]
        assert await redis.xrevrange("log", count=1) == [(b"7-301", {b"batch": b"c"})]


async def test_command_that_waits_delays_nobody_else(bus: Bus) -> None:
    waiting = await RawClient.open(bus.port)
    waiting.send([b"XREAD", b"BLOCK", b"0", b"STREAMS", b"log", b"0"], [b"PING"])
    async with bus.client() as redis:
        for _ in range(20):
            assert await redis.ping()
        await redis.xadd("log", {"a": "b"}, id="1-1")
    assert await waiting.receive(2) == [[[b"log", [[b"1-1", [b"a", b"b"]]]]], b"PONG"]


async def test_keys_expire_and_hashes_and_sets_answer(bus: Bus) -> None:
    async with bus.client() as redis:
        assert await redis.set("lease", "v", px=150, nx=True)
        assert await redis.set("lease", "w", px=150, nx=True) is None
        async with asyncio.timeout(5):
            while await redis.exists("lease"):
                await asyncio.sleep(0.02)
        await redis.hset("h", mapping={"a": "1", "b": "2"})
        assert await redis.hincrby("h", "a", -1) == 0
        assert await redis.hdel("h", "a") == 1
        assert await redis.hmget("h", ["a", "b"]) == [None, b"2"]
        assert await redis.hgetall("h") == {b"b": b"2"}
        await redis.sadd("s", "x", "y", "z")
        popped: Any = await redis.spop("s", 2)
        assert len(popped) == 2
        assert await redis.scard("s") == 1
        assert await redis.smembers("nothing") == set()


async def test_pipelines_transactions_and_scripts_by_hash(bus: Bus) -> None:
    async with bus.client() as redis:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.set("k", 1)
            pipe.incr("k")
            pipe.get("k")
            assert await pipe.execute() == [True, 2, b"2"]
        async with redis.pipeline(transaction=False) as pipe:
            pipe.set("k", 1)
            pipe.hget("k", "f")
            pipe.get("k")
            replies = await pipe.execute(raise_on_error=False)
        assert replies[0] is True and isinstance(replies[1], ResponseError) and replies[2] == b"1"
        with pytest.raises(NoScriptError):
            await redis.evalsha("0" * 40, 0)
        digest = await redis.script_load("return {ARGV[1], redis.call('GET', KEYS[1]), false, 3.9}")
        assert await redis.evalsha(digest, 1, "k", b"\xff\n") == [b"\xff\n", b"1", None, 3]


async def test_the_scripts_of_demand_run(bus: Bus) -> None:
    names = Names("stocks")
    listener = await RawClient.open(bus.port)
    listener.send([b"SUBSCRIBE", names.demand.encode()])
    await listener.receive(1)
    async with bus.client() as redis:
        demand = Demand(redis, names)
        with pytest.raises(LeaseLost):
            await demand.acquire("g1", ["T.A"])
        await demand.join("g1")
        await demand.join("g2")
        await demand.acquire("g1", ["T.A", "T.*"])
        await demand.acquire("g2", ["T.A"])
        await demand.renew("g1", {"clients": 3})
        assert await redis.hgetall(names.refcount) == {b"T.A": b"2", b"T.*": b"1"}
        await demand.release("g2", ["T.A", "T.never"])
        await redis.delete(names.get_lease("g1"))  # as if it had run out
        assert await demand.sweep() == 2
        assert await demand.get_wanted() == set()
        await demand.leave("g2")
        assert await redis.smembers(names.gateways) == set()
    notices = [notice[2] for notice in await listener.receive(2)]
    assert notices[0] == b'["T.A","T.*"]'
    assert notices[1] in (b'["T.A","T.*"]', b'["T.*","T.A"]')
