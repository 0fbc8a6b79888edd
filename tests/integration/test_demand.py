"""Demand on a real redis-server: the scripts do what the design promises of the refcount (DESIGN 4)."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.demand import CHUNK, LEASE_S, LeaseLost, chunks
from tests.integration.demand_rig import NAMES, Rig


@pytest.fixture
async def rig(redis: "Redis") -> AsyncIterator[Rig]:
    async with redis.pubsub() as notices:
        await notices.subscribe(NAMES.demand)
        yield Rig(redis, notices)


async def test_a_joined_gateway_has_a_lease_that_runs_out(rig: Rig) -> None:
    await rig.demand.join("g1")
    assert await rig.get_members(NAMES.gateways) == {"g1"}
    left_ms = await rig.redis.pttl(NAMES.get_lease("g1"))
    assert LEASE_S * 1000 - 2000 < left_ms <= LEASE_S * 1000


async def test_acquire_counts_a_gateway_once_for_each_channel(rig: Rig) -> None:
    await rig.demand.join("g1")
    await rig.demand.acquire("g1", ["T.AAPL", "T.*", "*", "T.AAPL"])
    assert await rig.get_counts() == {"T.AAPL": 1, "T.*": 1, "*": 1}
    await rig.demand.acquire("g1", ["T.AAPL", "Q.AAPL"])
    assert await rig.get_counts() == {"T.AAPL": 1, "T.*": 1, "*": 1, "Q.AAPL": 1}
    assert await rig.get_members(NAMES.get_gateway_channels("g1")) == {"T.AAPL", "T.*", "*", "Q.AAPL"}


async def test_two_gateways_count_for_themselves_and_only_the_first_and_last_are_edges(rig: Rig) -> None:
    for gateway_id in ("g1", "g2"):
        await rig.demand.join(gateway_id)
    await rig.demand.acquire("g1", ["T.AAPL", "T.MSFT"])
    assert await rig.take_notices() == [["T.AAPL", "T.MSFT"]]
    await rig.demand.acquire("g2", ["T.AAPL", "Q.AAPL"])
    assert await rig.take_notices() == [["Q.AAPL"]]
    assert await rig.get_counts() == {"T.AAPL": 2, "T.MSFT": 1, "Q.AAPL": 1}
    await rig.demand.release("g1", ["T.AAPL", "T.MSFT"])
    assert await rig.take_notices() == [["T.MSFT"]]
    await rig.demand.release("g2", ["T.AAPL"])
    assert await rig.take_notices() == [["T.AAPL"]]
    assert await rig.get_counts() == {"Q.AAPL": 1}


async def test_repeats_after_a_lost_reply_change_and_announce_nothing(rig: Rig) -> None:
    await rig.demand.join("g1")
    await rig.demand.acquire("g1", ["T.AAPL", "T.MSFT"])
    await rig.demand.release("g1", ["T.MSFT"])
    await rig.take_notices()
    before = await rig.get_all()
    for _ in range(3):
        await rig.demand.join("g1")
        await rig.demand.acquire("g1", ["T.AAPL"])
        await rig.demand.release("g1", ["T.MSFT"])
    assert await rig.get_all() == before
    assert await rig.take_notices() == []


async def test_releasing_what_is_not_held_changes_nothing_and_no_count_is_ever_negative(rig: Rig) -> None:
    for gateway_id in ("g1", "g2"):
        await rig.demand.join(gateway_id)
    await rig.demand.acquire("g1", ["T.AAPL"])
    await rig.take_notices()
    before = await rig.get_all()
    await rig.demand.release("g2", ["T.AAPL", "T.TSLA"])
    await rig.demand.release("stranger", ["T.AAPL"])
    assert await rig.get_all() == before
    assert await rig.take_notices() == []


async def test_nothing_to_do_is_nothing_done(rig: Rig) -> None:
    await rig.demand.join("g1")
    before = await rig.get_all()
    await rig.demand.acquire("g1", [])
    await rig.demand.release("g1", [])
    assert await rig.get_all() == before
    assert await rig.demand.filter_wanted([]) == set()


async def test_renewing_prolongs_the_lease_and_leaves_statistics(rig: Rig) -> None:
    await rig.demand.join("g1")
    await rig.redis.pexpire(NAMES.get_lease("g1"), 3000)
    await rig.demand.renew("g1", {"clients": 3, "latency_us": '{"50": 1}'})
    assert await rig.redis.pttl(NAMES.get_lease("g1")) > 5000
    lease: Any = await rig.redis.hgetall(NAMES.get_lease("g1"))
    assert lease[b"clients"] == b"3"
    assert lease[b"latency_us"] == b'{"50": 1}'
    assert b"since" in lease


async def test_without_a_lease_neither_renew_nor_acquire_does_anything(rig: Rig) -> None:
    before = await rig.get_all()
    with pytest.raises(LeaseLost):
        await rig.demand.renew("g1", {"clients": 3})
    with pytest.raises(LeaseLost):
        await rig.demand.acquire("g1", ["T.AAPL"])
    assert await rig.get_all() == before
    assert await rig.take_notices() == []


async def test_a_sweep_takes_back_what_a_dead_gateway_counted_for_and_only_that(rig: Rig) -> None:
    for gateway_id in ("g1", "g2"):
        await rig.demand.join(gateway_id)
    await rig.demand.acquire("g1", ["T.AAPL", "T.MSFT"])
    await rig.demand.acquire("g2", ["T.AAPL"])
    assert await rig.demand.sweep() == 0
    await rig.take_notices()
    await rig.lose_lease("g1")
    assert await rig.demand.sweep() == 2
    assert await rig.get_counts() == {"T.AAPL": 1}
    assert await rig.get_members(NAMES.gateways) == {"g2"}
    assert await rig.take_notices() == [["T.MSFT"]]
    assert await rig.demand.sweep() == 0
    assert await rig.take_notices() == []


async def test_two_sweepers_at_once_take_each_count_back_once(rig: Rig) -> None:
    for gateway_id in ("g1", "g2"):
        await rig.demand.join(gateway_id)
        await rig.demand.acquire(gateway_id, [f"T.S{number}" for number in range(3 * CHUNK)])
    await rig.lose_lease("g1")
    swept = await asyncio.gather(*(rig.demand.sweep() for _ in range(4)))
    assert sum(swept) == 3 * CHUNK
    assert set((await rig.get_counts()).values()) == {1}


async def test_a_gateway_that_comes_back_before_the_sweep_keeps_its_counts(rig: Rig) -> None:
    await rig.demand.join("g1")
    await rig.demand.acquire("g1", ["T.AAPL", "T.MSFT"])
    await rig.lose_lease("g1")
    await rig.demand.join("g1")
    await rig.demand.acquire("g1", ["T.AAPL", "T.MSFT"])
    assert await rig.demand.sweep() == 0
    assert await rig.get_counts() == {"T.AAPL": 1, "T.MSFT": 1}


async def test_a_gateway_that_comes_back_after_the_sweep_is_counted_again(rig: Rig) -> None:
    await rig.demand.join("g1")
    await rig.demand.acquire("g1", ["T.AAPL"])
    await rig.lose_lease("g1")
    await rig.demand.sweep()
    with pytest.raises(LeaseLost):
        await rig.demand.renew("g1", {})
    await rig.demand.join("g1")
    await rig.demand.acquire("g1", ["T.AAPL"])
    assert await rig.get_counts() == {"T.AAPL": 1}
    assert await rig.get_members(NAMES.gateways) == {"g1"}


async def test_after_redis_lost_everything_a_gateway_asserts_all_again(rig: Rig) -> None:
    await rig.demand.join("g1")
    await rig.demand.acquire("g1", ["T.AAPL"])
    await rig.redis.flushall()
    await rig.redis.script_flush()
    with pytest.raises(LeaseLost):
        await rig.demand.renew("g1", {})
    await rig.demand.join("g1")
    await rig.demand.acquire("g1", ["T.AAPL"])
    assert await rig.get_counts() == {"T.AAPL": 1}


async def test_leaving_gives_everything_back_at_once(rig: Rig) -> None:
    for gateway_id in ("g1", "g2"):
        await rig.demand.join(gateway_id)
        await rig.demand.acquire(gateway_id, ["T.AAPL", f"T.{gateway_id}"])
    await rig.take_notices()
    await rig.demand.leave("g1")
    assert await rig.get_counts() == {"T.AAPL": 1, "T.g2": 1}
    assert await rig.take_notices() == [["T.g1"]]
    assert await rig.get_members(NAMES.gateways) == {"g2"}
    await rig.demand.leave("g2")
    assert await rig.redis.keys("*") == []


async def test_leaving_twice_or_without_having_joined_changes_nothing(rig: Rig) -> None:
    await rig.demand.leave("g1")
    assert await rig.redis.keys("*") == []
    assert await rig.take_notices() == []


async def test_large_demand_goes_in_bounded_chunks_so_that_redis_serves_others_meanwhile(rig: Rig) -> None:
    channels = [f"T.S{number}" for number in range(2 * CHUNK + 1)]
    await rig.demand.join("g1")
    await rig.demand.acquire("g1", channels)
    assert [len(notice) for notice in await rig.take_notices()] == [CHUNK, CHUNK, 1]
    assert await rig.demand.get_wanted() == set(channels)
    assert await rig.demand.filter_wanted([*channels, "T.NONE"]) == set(channels)
    await rig.lose_lease("g1")
    assert await rig.demand.sweep() == len(channels)
    notices = await rig.take_notices()
    assert [len(notice) for notice in notices] == [CHUNK, CHUNK, 1]
    assert {channel for notice in notices for channel in notice} == set(channels)
    assert await rig.redis.keys("*") == []


def test_chunks_hold_everything_in_order_and_are_never_empty() -> None:
    assert list(chunks("abcdefg", 3)) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert list(chunks("abc", 3)) == [["a", "b", "c"]]
    assert list(chunks("", 3)) == []


async def test_wanted_is_what_has_a_count(rig: Rig) -> None:
    await rig.demand.join("g1")
    await rig.demand.acquire("g1", ["T.AAPL", "T.BRK.A", "*"])
    assert await rig.demand.get_wanted() == {"T.AAPL", "T.BRK.A", "*"}
    assert await rig.demand.filter_wanted(["T.BRK.A", "T.TSLA", "*"]) == {"T.BRK.A", "*"}


@pytest.mark.parametrize("seed", range(5))
async def test_in_random_histories_counts_are_the_gateways_that_hold_a_channel_and_notices_are_the_edges(
    rig: Rig, seed: int
) -> None:
    draw = random.Random(seed)
    held: dict[str, set[str]] = {"g1": set(), "g2": set()}
    live: set[str] = set()
    for _ in range(150):
        before = set().union(*held.values())
        gateway_id = draw.choice(["g1", "g2"])
        channels = draw.choices(["T.A", "T.B", "T.*", "*", "Q.A"], k=draw.randint(1, 4))
        step = draw.choice(["join", "acquire", "acquire", "release", "renew", "die", "sweep", "leave"])
        if step == "join":
            await rig.demand.join(gateway_id)
            live.add(gateway_id)
        elif step in ("acquire", "renew"):
            try:
                if step == "renew":
                    await rig.demand.renew(gateway_id, {})
                else:
                    await rig.demand.acquire(gateway_id, channels)
                    held[gateway_id].update(channels)
                assert gateway_id in live
            except LeaseLost:
                assert gateway_id not in live
        elif step == "release":
            await rig.demand.release(gateway_id, channels)
            held[gateway_id].difference_update(channels)
        elif step == "die":
            await rig.lose_lease(gateway_id)
            live.discard(gateway_id)
        elif step == "sweep":
            await rig.demand.sweep()
            for dead in held.keys() - live:
                held[dead].clear()
        else:
            await rig.demand.leave(gateway_id)
            live.discard(gateway_id)
            held[gateway_id].clear()
        after = set().union(*held.values())
        assert await rig.get_counts() == {c: sum(c in channels for channels in held.values()) for c in after}
        notices = [channel for notice in await rig.take_notices() for channel in notice]
        assert sorted(notices) == sorted(before ^ after)
