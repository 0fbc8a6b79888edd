"""Whatever becomes of Redis, of the connections to it, or of a gateway: each event once, or a gap that says so."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.flow import Flow, find_gaps
from tests.processes import frozen, until
from tests.proxy import Proxy, running_proxy
from tests.redis_state import running_redis
from tests.subscriber import Subscriber

SYMBOLS = [f"S{number:02}" for number in range(20)]
CHANNELS = [f"{kind}.{symbol}" for symbol in SYMBOLS for kind in ("T", "Q")]
RATE = 2000.0
RECOVERED_S = 5.0  # DESIGN 6: after Redis answers again
HELD = (("T.*", "Q.S00", "Q.S01"), ("*",), ("T.S00", "T.S01", "Q.S02"), ("Q.*", "T.S05"), ("T.S00", "T.S01", "Q.S02"))
INGEST = "polygon-proxy-ingest-stocks"


async def join_all(proxy: Proxy) -> list[Subscriber]:
    """Clients whose channels overlap, on all gateways in turn; upstream holds the wildcards only, in the end."""
    clients = [await proxy.join(*held, gateway=i % len(proxy.gateways)) for i, held in enumerate(HELD)]
    await proxy.fake.wait_for(lambda: {c.partition(".")[2] for c in proxy.fake.held()} == {"*"})
    proxy.fake.actions.clear()
    return clients


async def finish(flow: Flow, proxy: Proxy, clients: list[Subscriber]) -> None:
    """Everything went through exactly once, nobody was disconnected, and upstream noticed nothing."""
    await flow.until_caught_up(*clients)
    await flow.finish(*clients)
    for client in clients:
        flow.judge_exactly_once(client)
        assert client.is_open
    assert proxy.fake.actions == []
    assert await proxy.redis.get_gaps() == []


async def until_recovered(flow: Flow, clients: list[Subscriber], since: float) -> None:
    """Until each client has events sent just now: within the promised time after `since`, when Redis answered."""
    await flow.until_caught_up(*clients, within_s=RECOVERED_S + 5.0)
    took_s = time.monotonic() - since
    assert took_s <= RECOVERED_S, f"{took_s:.1f} s"


@pytest.mark.parametrize("away_s", [0.0, 4.0], ids=["at once", "after 4 s"])
async def test_redis_that_was_killed_and_restarted_empty_loses_and_doubles_nothing(
    away_s: float, tmp_path: Path
) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy:
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            proxy.redis.server.kill()
            await asyncio.sleep(away_s)  # the length of the fault
            await proxy.redis.start_empty()
            await until_recovered(flow, clients, time.monotonic())
            await finish(flow, proxy, clients)


async def test_redis_killed_twice_in_a_row_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The second time while gateways are still reading what was sent again."""
    async with running_proxy(tmp_path, gateways=2) as proxy:
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            for _ in range(2):
                proxy.redis.server.kill()
                await proxy.redis.start_empty()
                await until(lambda: has_log(proxy), "ingest has sent something again")
            await until_recovered(flow, clients, time.monotonic())
            await finish(flow, proxy, clients)


@asynccontextmanager
async def redis_away(proxy: Proxy, *, is_emptied: bool) -> AsyncIterator[None]:
    """Redis is killed, and comes back empty; or it stands still."""
    if is_emptied:
        proxy.redis.server.kill()
        yield
        await proxy.redis.start_empty()
    else:
        with frozen(proxy.redis.server):
            yield


async def has_log(proxy: Proxy) -> bool:
    return bool(await proxy.redis.client.exists("polygon:{stocks}:log"))


async def test_frozen_redis_is_noticed_in_time_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy:
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            with frozen(proxy.redis.server):
                frozen_at = time.monotonic()
                for process in proxy.processes:
                    await until(lambda p=process: has_noticed(p.output), f"{process.name} notices", (process,))  # type: ignore[misc]
                assert time.monotonic() - frozen_at <= 5.0
                await asyncio.sleep(7.0 - (time.monotonic() - frozen_at))  # the length of the fault
            await until_recovered(flow, clients, time.monotonic())
            await finish(flow, proxy, clients)


def has_noticed(output: str) -> bool:
    return "bus: silent for" in output or "bus: no answer for" in output or "bus: connection lost" in output


async def kill_clients(proxy: Proxy, *filters: str) -> int:
    """CLIENT KILL; how many there were."""
    killed: Any = await proxy.redis.client.execute_command("CLIENT", "KILL", *filters)  # type: ignore[no-untyped-call]
    return int(killed)


async def cut_gateways(proxy: Proxy) -> int:
    return await kill_clients(proxy, "TYPE", "pubsub")


async def cut_ingest(proxy: Proxy) -> int:
    clients: Any = await proxy.redis.client.client_list()
    ids = [client["id"] for client in clients if client["name"] == INGEST]
    return sum([await kill_clients(proxy, "ID", ident) for ident in ids])


async def cut_everybody(proxy: Proxy) -> int:
    return await kill_clients(proxy, "TYPE", "normal") + await cut_gateways(proxy)


async def cut_both(proxy: Proxy) -> int:
    return await cut_ingest(proxy) + await cut_gateways(proxy)


@pytest.mark.parametrize("cut", [cut_gateways, cut_ingest, cut_both, cut_everybody])
async def test_bus_connections_that_are_cut_again_and_again_lose_and_double_nothing(cut: Any, tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy:
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            for pause_s in (0.3, 0.05, 0.01, 0.4, 0.2, 0.0, 0.1, 0.6, 0.03, 0.25):
                await until(lambda: cut(proxy), "a connection was cut")
                await asyncio.sleep(pause_s)  # so that the cuts fall into every part of a recovery
            await finish(flow, proxy, clients)


async def test_gateway_that_stood_still_for_4_s_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy:
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            with frozen(proxy.gateways[0].process.child):
                await asyncio.sleep(4.0)  # the length of the fault
                await flow.until_caught_up(clients[1], clients[3])
            await finish(flow, proxy, clients)


async def test_gateway_that_stood_still_while_redis_was_restarted_empty_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    """Ingest sends again what Redis had answered already, since a gateway may not have read it."""
    async with running_proxy(tmp_path, gateways=2) as proxy:
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            with frozen(proxy.gateways[0].process.child):
                await flow.until_caught_up(clients[1], clients[3])
                proxy.redis.server.kill()
                await proxy.redis.start_empty()
                await flow.until_caught_up(clients[1], clients[3])
            await finish(flow, proxy, clients)


async def test_gateway_that_was_away_for_longer_than_the_log_reaches_tells_its_clients_the_gap(tmp_path: Path) -> None:
    constants = {"ingest.logbook.LOG_S": 1.0}
    async with running_proxy(tmp_path, gateways=2, constants=constants) as proxy:
        clients = await join_all(proxy)
        others = clients[1::2]
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            with frozen(proxy.gateways[0].process.child):
                frozen_ms = time.time() * 1000
                await cut_gateways(proxy)  # else what it has not read waits for it in its socket
                await asyncio.sleep(4.0)  # the length of the fault
            woken_ms = time.time() * 1000
            await flow.until_caught_up(*clients)
            await flow.finish(*clients)
        for client in others:
            flow.judge_exactly_once(client)
        for client in clients[0::2]:
            assert flow.judge_with_gaps(client) > 0
            (gap,) = find_gaps(client)
            assert frozen_ms - 500 <= gap.from_ms < gap.to_ms <= woken_ms
            assert gap.cause == "the bus was away for longer than its log reaches"


@pytest.mark.parametrize("is_emptied", [True, False], ids=["restarted empty", "frozen"])
async def test_outage_longer_than_ingests_buffer_is_a_gap_for_clients_and_operators(
    is_emptied: bool, tmp_path: Path
) -> None:
    constants = {
        "ingest.publisher.BUFFER_BYTES": 200_000,
        "ingest.answered.KEPT_BYTES": 100_000,
        "ingest.answered.LEAST_BYTES": 10_000,
    }
    async with running_proxy(tmp_path, gateways=2, constants=constants) as proxy:
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            async with redis_away(proxy, is_emptied=is_emptied):
                loses = "the oldest batches are being lost"
                await until(lambda: loses in proxy.ingest.output, "loss", (proxy.ingest,), 15)
                await asyncio.sleep(1.0)  # the length of the loss
            await until_recovered(flow, clients, time.monotonic())
            await flow.finish(*clients)
            await until(lambda: has_gaps(proxy), "a gap record")
            records = await proxy.redis.get_gaps()
        missing = [flow.judge_with_gaps(client) for client in clients]
        assert min(missing) > 0
        assert {gap.cause for gap in find_gaps(clients[1])} == {"the bus was away for longer than its log reaches"}
        for channel, number in find_missing(flow, clients[1]):
            sent_ms = flow.sent_ms[channel][number - 1]
            assert any(record["from_ms"] - 300 <= sent_ms <= record["to_ms"] + 300 for record in records), records
        assert {channel for record in records for channel in record["channels"]} == {c for held in HELD for c in held}
        assert all(client.is_open for client in clients)


async def has_gaps(proxy: Proxy) -> bool:
    return bool(await proxy.redis.get_gaps())


def find_missing(flow: Flow, client: Subscriber) -> list[tuple[str, int]]:
    """What a client of `*` should have got since its first event of the channel, and did not."""
    got: dict[str, set[int]] = {}
    for channel, number in client.read_numbers():
        got.setdefault(channel, set()).add(number)
    return [
        (channel, number)
        for channel, numbers in got.items()
        for number in range(min(numbers), len(flow.sent_ms[channel]) + 1)
        if number not in numbers
    ]


# Two faults at a time.  "Exactly once" is promised for one; for two, that nothing is lost without a word.


async def test_ingest_and_redis_killed_together_cost_a_gap_that_is_told(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy:
        await proxy.start_standby()
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            proxy.ingest.child.kill()
            proxy.redis.server.kill()
            await proxy.redis.start_empty()
            await flow.until_caught_up(*clients, within_s=20)
            await flow.finish(*clients)
        for client in clients:
            assert flow.judge_with_gaps(client) > 0
            assert client.is_open


async def test_ingest_and_redis_killed_together_in_a_silent_market_cost_a_gap_that_is_told(tmp_path: Path) -> None:
    """Silent after the fault: so the new ingest's heartbeat comes before its first batch."""
    async with running_proxy(tmp_path) as proxy:
        await proxy.start_standby()
        client = await proxy.join("T.S00")
        await proxy.fake.wait_held(["T.S00"])
        await proxy.emit(b'{"ev":"T","sym":"S00","q":1}', client)
        proxy.ingest.child.kill()
        await proxy.ingest.child.wait()
        proxy.redis.server.kill()
        await proxy.redis.start_empty()
        assert await proxy.fake.emit(b'{"ev":"T","sym":"S00","q":2}') == 0  # lost
        await proxy.fake.wait_for(lambda: proxy.fake.held() == {"T.S00"}, 15.0)
        now = time.time()
        await until(lambda: has_mark_since(proxy, now + 1.5), "the gateway follows the new ingest's heartbeats")
        await proxy.emit(b'{"ev":"T","sym":"S00","q":3}', client)
        assert len(find_gaps(client)) >= 1


async def test_epochs_that_begin_anew_behind_the_old_ones_are_followed_and_cost_a_gap_that_is_told(
    tmp_path: Path,
) -> None:
    """Redis and ingest are lost together, and the clock that made the last epoch was ten minutes ahead."""
    async with running_redis() as redis:
        ahead = int(time.time() * 1000) + 600_000
        await redis.client.hset("polygon:{stocks}:upstream", "epoch", str(ahead))
        async with running_proxy(tmp_path, redis=redis, constants={"gateway.catchup.LOST_PLACE_S": 3.0}) as proxy:
            client = await proxy.join("T.S00")
            await proxy.emit(b'{"ev":"T","sym":"S00","q":1}', client)
            proxy.ingest.child.kill()
            await proxy.ingest.child.wait()
            proxy.redis.server.kill()
            await proxy.redis.start_empty()
            await proxy.start_ingest()
            await client.until(lambda: bool(find_gaps(client)), "it is told", within_s=20)
            await proxy.emit(b'{"ev":"T","sym":"S00","q":3}', client)


async def test_ingest_replaced_and_redis_emptied_cost_a_gap_that_lasts_until_a_late_upstream_has_us(
    tmp_path: Path,
) -> None:
    """The new ingest knows of nothing before it, and gateways only of its first heartbeat, and 3 s more."""
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join("T.S00")
        await proxy.fake.wait_held(["T.S00"])
        await proxy.emit(b'{"ev":"T","sym":"S00","q":1}', client)
        await proxy.fake.stop()
        proxy.ingest.child.kill()
        await proxy.ingest.child.wait()
        await proxy.redis.client.flushall()
        ingest = await proxy.start_ingest()
        await until(lambda: "cannot connect" in ingest.output, "it tries", (ingest,), 20)
        started_ms = time.time() * 1000
        await asyncio.sleep(5.0)  # the length of the fault: ASKED_S and more
        back_ms = time.time() * 1000
        await proxy.fake.start()
        await proxy.fake.wait_held(["T.S00"])
        await proxy.emit(b'{"ev":"T","sym":"S00","q":2}', client)
        late = await proxy.join("T.S01")
        await proxy.emit(b'{"ev":"T","sym":"S01","q":1}', late)
        gap = find_gaps(client)[-1]
        assert gap.cause == "a new ingest had to wait for upstream"
        assert gap.from_ms <= started_ms + 3000
        assert gap.to_ms >= back_ms
        assert find_gaps(late) == []


async def has_mark_since(proxy: Proxy, at: float) -> bool:
    leases = await proxy.redis.get_leases()
    return bool(leases) and all(float(lease["last_mark"]) > at for lease in leases)


async def test_upstream_and_redis_lost_together_cost_a_gap_that_is_told(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy:
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            proxy.redis.server.kill()
            await proxy.fake.drop()
            await proxy.redis.start_empty()
            await flow.until_caught_up(*clients, within_s=20)
            await flow.finish(*clients)
        for client in clients:
            assert flow.judge_with_gaps(client) > 0
            assert client.is_open


@pytest.mark.parametrize("is_emptied", [True, False], ids=["restarted empty", "frozen"])
async def test_outage_of_redis_leaves_the_slot_with_its_holder(is_emptied: bool, tmp_path: Path) -> None:
    """It has what Redis must still be told; a standby that came first would lose it, and meet it upstream."""
    async with running_proxy(tmp_path, gateways=2) as proxy:
        await proxy.start_standby()
        await proxy.start_standby()
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            async with redis_away(proxy, is_emptied=is_emptied):
                await asyncio.sleep(8.0)  # the length of the fault
            await until_recovered(flow, clients, time.monotonic())
            await finish(flow, proxy, clients)
        assert proxy.fake.max_seen_connections == 1
