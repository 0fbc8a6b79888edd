"""Demand as real processes serve it: a gateway that stands still, and how soon subscriptions are answered."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from shared.demand import CHUNK, LEASE_S
from tests.flow import Flow, find_gaps
from tests.processes import frozen, until
from tests.proxy import running_proxy
from tests.subscriber import Subscriber

# `make soak-demand` runs alone and holds the promised numbers; beside other tests only their order of magnitude shows.
IS_ALONE = bool(os.environ.get("POLYGON_PROXY_SOAK"))
ACKED_WITHIN_S = 1.0 if IS_ALONE else 5.0
FIRST_EVENT_WITHIN_MS = 50.0 if IS_ALONE else 500.0
TRADE = b'{"ev":"T","sym":"%s","x":4,"p":114.125,"s":100,"t":1536036818784,"q":%d,"z":3}'


@pytest.mark.timeout(90)
async def test_a_gateway_that_stood_still_past_its_lease_asserts_again_and_goes_on(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy:
        still = await proxy.join("T.AAPL", "T.MSFT", gateway=0)
        other = await proxy.join("T.MSFT", gateway=1)
        await proxy.until_refcount({"T.AAPL": 1, "T.MSFT": 2})
        with frozen(proxy.gateways[0].process.child):
            await proxy.until_refcount({"T.MSFT": 1}, within_s=LEASE_S + 5.0)
            assert await proxy.fake.emit(TRADE % (b"MSFT", 1)) == 1
            await other.until_event(TRADE % (b"MSFT", 1))
        await proxy.until_refcount({"T.AAPL": 1, "T.MSFT": 2})
        await still.until_event(TRADE % (b"MSFT", 1))
        await proxy.emit(TRADE % (b"AAPL", 1), still)
        await proxy.emit(TRADE % (b"MSFT", 2), still, other)
        assert still.events == [TRADE % (b"MSFT", 1), TRADE % (b"AAPL", 1), TRADE % (b"MSFT", 2)]
        assert proxy.find_subscribes("T.AAPL") == 1, "the linger outlasts the pause, so upstream was never asked again"
        assert "lease lost" in proxy.gateways[0].process.output


@pytest.mark.timeout(90)
async def test_who_stood_still_past_its_lease_while_ingest_was_replaced_tells_the_gap_before_what_follows_it(
    tmp_path: Path,
) -> None:
    """The new ingest knows nothing of what only this gateway wanted, until another one asks for some of that."""
    shorter = {"shared.demand.LEASE_S": 3.0, "shared.demand.RENEW_S": 0.5}
    async with running_proxy(tmp_path, gateways=2, constants=shorter) as proxy:
        await proxy.start_standby()
        still = await proxy.join("T.AAPL", "Q.AAPL", gateway=0)
        other = await proxy.join("T.MSFT", gateway=1)
        async with Flow(proxy.fake, ("T.AAPL", "Q.AAPL", "T.MSFT"), 300.0) as flow:
            await flow.until_caught_up(still, other)
            with frozen(proxy.gateways[0].process.child):
                await proxy.until_refcount({"T.MSFT": 1})
                killed_ms = time.time() * 1000
                proxy.ingest.child.kill()
                await proxy.fake.wait_for(lambda: proxy.find_subscribes("T.MSFT") == 2)
                assert proxy.find_subscribes("T.AAPL") == 1
                late = await proxy.join("T.AAPL", gateway=1)
                await flow.until_caught_up(late, other)
            await flow.until_caught_up(still, other, late)
            await flow.finish(still, other, late)
        assert flow.judge_with_gaps(still) > 0
        for client in (other, late):
            flow.judge_with_gaps(client)
        gaps = find_gaps(still)  # more than one if it counts anew again, for its bus, before it has caught up
        assert {frozenset(gap.channels.split(",")) for gap in gaps} == {frozenset({"T.AAPL", "Q.AAPL"})}
        assert gaps[0].from_ms <= killed_ms
        assert find_gaps(late) == []


async def test_who_stood_still_for_so_long_that_upstream_was_asked_no_more_tells_the_gap_before_what_follows_it(
    tmp_path: Path,
) -> None:
    shorter = {"shared.demand.LEASE_S": 2.0, "shared.demand.RENEW_S": 0.5, "shared.demand.HELD_S": 3.0}
    async with running_proxy(tmp_path, gateways=2, constants=shorter | {"ingest.reconcile.LINGER_S": 4.0}) as proxy:
        still = await proxy.join("T.AAPL", gateway=0)
        async with Flow(proxy.fake, ("T.AAPL",), 100.0) as flow:
            await flow.until_caught_up(still)
            with frozen(proxy.gateways[0].process.child):
                await proxy.fake.wait_for(lambda: not proxy.fake.held(), 15.0)
                unheard = flow.total + 20
                await until(lambda: flow.total >= unheard, "trades that nobody hears")
                late = await proxy.join("T.AAPL", gateway=1)
                await flow.until_caught_up(late)
            await flow.until_caught_up(still)
            await flow.finish(still, late)
        assert flow.judge_with_gaps(still) > 0 and find_gaps(late) == []
        assert len(find_gaps(still)) == 1


async def test_ten_thousand_channels_are_acked_within_a_second_in_few_messages(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, LOG_LEVEL="info") as proxy:
        client = await proxy.join()
        channels = [f"T.S{number:05d}" for number in range(10_000)]
        started = time.monotonic()
        await client.say("subscribe", ",".join(channels))
        await client.until_status(f"success: subscribed to: {channels[-1]}", within_s=5.0)
        took_s = time.monotonic() - started
        acks = [status for status in client.statuses if status.startswith("success: subscribed to: ")]
        assert sorted(acks) == [f"success: subscribed to: {channel}" for channel in channels]
        print(f"10,000 channels acked in {took_s:.3f} s")
        assert took_s < ACKED_WITHIN_S
        messages = [action for action in proxy.fake.actions if action.action == "subscribe"]
        assert len(messages) <= len(channels) / CHUNK + 2
        assert max(len(message.params) for message in messages) < 1_000_000


async def test_a_channel_that_is_held_already_brings_its_first_event_within_50_ms(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2, LOG_LEVEL="info") as proxy:
        first = await proxy.join("T.AAPL", gateway=0)
        number = 0
        ended = asyncio.Event()

        async def trade_all_the_time() -> None:
            nonlocal number
            while not ended.is_set():
                number += 1
                await proxy.fake.emit(TRADE % (b"AAPL", number))
                await asyncio.sleep(0.001)  # the market's own pace

        market = asyncio.create_task(trade_all_the_time())
        took_ms = []
        for _ in range(20):
            client = await Subscriber.join(proxy.gateways[1].url)
            proxy.clients.append(client)
            started = time.perf_counter()
            await client.say("subscribe", "T.AAPL")
            await client.until_first_event()
            took_ms.append((time.perf_counter() - started) * 1000)
            client.abort()
        ended.set()
        await market
        print(f"subscribe to first event, ms: {sorted(took_ms)}")
        assert sorted(took_ms)[len(took_ms) // 2] < FIRST_EVENT_WITHIN_MS
        assert first.is_open
