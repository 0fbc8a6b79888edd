"""Two ingests, one upstream slot: whatever becomes of its holder, the other one takes over, and clients are told."""

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.batch import Mark, encode_command, encode_mark
from shared.demand import ASKED_S
from shared.names import Names
from tests.flow import Flow, find_gaps
from tests.ports import find_free_port
from tests.processes import Process, frozen, until
from tests.proxy import Proxy, running_proxy
from tests.redis_state import running_redis
from tests.subscriber import Subscriber

NAMES = Names("stocks")
CHANNELS = ("T.AAPL", "T.MSFT", "Q.AAPL", "Q.MSFT", "A.AAPL")
HELD = (("T.AAPL", "Q.AAPL"), ("T.*", "A.AAPL"), ("Q.MSFT",))
RATE = 500.0
TAKEOVER_S = 5.0  # DESIGN 6
PAUSE_S = 6.0


async def join_all(proxy: Proxy) -> list[Subscriber]:
    """One client for each of HELD, on all gateways in turn."""
    return [await proxy.join(*held, gateway=i % len(proxy.gateways)) for i, held in enumerate(HELD)]


def count_auths(proxy: Proxy) -> int:
    """How many connections upstream has seen so far."""
    return sum(action.action == "auth" for action in proxy.fake.actions)


async def until_taken_over(proxy: Proxy, auths: int, within_s: float) -> None:
    """Until a connection later than the first `auths` is live and holds all that clients do."""
    wanted = {"T.*", "Q.AAPL", "Q.MSFT", "A.AAPL"}

    def is_taken_over() -> bool:
        newest = [c for c in proxy.fake.live() if c.number > auths]
        return any(wanted <= set(c.session.held.values()) for c in newest)

    await proxy.fake.wait_for(is_taken_over, within_s)


async def get_epoch(proxy: Proxy) -> int:
    return int((await proxy.redis.get_upstream())["epoch"])


async def until_told(clients: list[Subscriber], gaps: int = 1) -> None:
    for client in clients:
        await client.until(lambda client=client: len(find_gaps(client)) >= gaps, "a gap status")  # type: ignore[misc]


async def until_recorded(proxy: Proxy, count: int = 1) -> list[dict[str, Any]]:
    """The gap records once there are as many."""
    await until(lambda: has_gaps(proxy, count), f"{count} gap records")
    return await proxy.redis.get_gaps()


async def has_gaps(proxy: Proxy, count: int) -> bool:
    return len(await proxy.redis.get_gaps()) >= count


async def get_health(port: int) -> tuple[int, dict[str, Any]]:
    url = f"http://127.0.0.1:{port}/health"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, json.loads(await response.text())


async def finish(flow: Flow, clients: list[Subscriber]) -> None:
    """Everybody is connected, has all that was sent at the end, and knows of whatever is missing before."""
    await flow.until_caught_up(*clients)
    await flow.finish(*clients)
    for client in clients:
        flow.judge_with_gaps(client)
        assert client.is_open


@pytest.mark.parametrize("gateways", [2])
async def test_standby_takes_over_from_a_killed_ingest(gateways: int, tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=gateways) as proxy:
        await proxy.start_standby()
        clients = await join_all(proxy)
        epoch = await get_epoch(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            killed_ms, killed_at = time.time() * 1000, time.monotonic()
            proxy.ingest.child.kill()
            await until_taken_over(proxy, 1, TAKEOVER_S)
            took_s = time.monotonic() - killed_at
            await until_told(clients)
            told_ms = time.time() * 1000
            (record,) = await until_recorded(proxy)
            recorded_ms = time.time() * 1000
            await finish(flow, clients)
        assert took_s <= TAKEOVER_S
        assert proxy.fake.max_seen_connections == 1
        assert await get_epoch(proxy) > epoch
        for client, held in zip(clients, HELD, strict=True):
            (gap,) = find_gaps(client)
            assert killed_ms - 300 <= gap.from_ms <= killed_ms + 100
            assert gap.from_ms < gap.to_ms <= told_ms + ASKED_S * 1000
            assert gap.cause == "another ingest took over"
            assert set(gap.channels.split(",")) == set(held)
            assert (record["from_ms"], record["cause"]) == (gap.from_ms, gap.cause)
            assert gap.from_ms < record["to_ms"] <= min(recorded_ms, gap.to_ms), "they were told in advance"
        assert set(record["channels"]) == {channel for held in HELD for channel in held}


async def test_clients_that_come_back_to_a_killed_ingests_gateways_while_nobody_has_the_slot_are_served(
    tmp_path: Path,
) -> None:
    async with running_proxy(tmp_path) as proxy:
        await proxy.start_standby()
        first = await proxy.join("T.*", "A.AAPL")
        proxy.ingest.child.kill()
        await proxy.ingest.child.wait()
        late = await proxy.join("Q.AAPL", "Q.MSFT")  # acked all the same
        await until_taken_over(proxy, 1, TAKEOVER_S)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await finish(flow, [first, late])
        assert first.is_open and late.is_open


async def test_what_earlier_epochs_logged_is_forgotten_when_it_is_as_old_as_the_log_may_be(tmp_path: Path) -> None:
    published = encode_command(b"PUBLISH", b"T.NOBODY", b"x" * 5000)  # so large that Redis can forget one alone
    async with running_redis() as redis:
        for sequence, age_s in enumerate((300, 60, 2), 1):
            mark = encode_mark(Mark(1, sequence, time.time_ns() // 1000 - age_s * 1_000_000, 1, frozenset()))
            await redis.client.xadd(NAMES.log, {"mark": mark, "batch": published}, id=f"1-{sequence}")
        async with running_proxy(tmp_path, redis=redis) as proxy:
            client = await proxy.join("T.AAPL")

            async def has_forgotten() -> bool:
                await proxy.fake.emit(b'{"ev":"T","sym":"AAPL"}')  # a batch that says what may go
                entries: Any = await redis.client.xrange(NAMES.log)
                return [ident for ident, _ in entries if ident.startswith(b"1-")] == [b"1-3"]

            await until(has_forgotten, "the log forgets what is 60 s old, and not what is 2 s old")
            assert client.is_open


async def test_what_a_takeover_lost_before_anything_was_ever_logged_is_told_too(tmp_path: Path) -> None:
    """A silent market: the log is empty, and upstream's first event falls into the takeover."""
    async with running_proxy(tmp_path) as proxy:
        await proxy.start_standby()
        client = await proxy.join("T.AAPL")
        await proxy.fake.wait_held(["T.AAPL"])
        await until(lambda: has_seen_a_mark(proxy), "the gateway follows the first ingest's heartbeats")
        proxy.ingest.child.kill()
        await proxy.ingest.child.wait()
        await proxy.fake.wait_for(lambda: proxy.fake.connections == 0)
        assert await proxy.fake.emit(b'{"ev":"T","sym":"AAPL","q":1}') == 0  # lost
        await proxy.fake.wait_for(lambda: proxy.fake.held() == {"T.AAPL"}, TAKEOVER_S)
        epoch = await get_epoch(proxy)
        await until(lambda: has_seen_a_mark(proxy, epoch), "the gateway follows the second ingest's heartbeats")
        await proxy.emit(b'{"ev":"T","sym":"AAPL","q":2}', client)
        assert len(find_gaps(client)) == 1
        await until_recorded(proxy)


async def test_what_a_takeover_in_a_silent_market_may_have_lost_does_not_begin_with_the_last_event_of_long_ago(
    tmp_path: Path,
) -> None:
    """But as far back as a dead connection may have gone unnoticed: 3 s here, 95 s in earnest."""
    constants = {"ingest.polygon._PONG_WITHIN_S": 1.0, "ingest.polygon._NOTICED_LATE_S": 1.0}
    async with running_proxy(tmp_path, constants=constants, HEARTBEAT_INTERVAL_SEC="1") as proxy:
        await proxy.start_standby()
        client = await proxy.join("T.AAPL")
        await proxy.emit(b'{"ev":"T","sym":"AAPL","q":1}', client)
        silent_from_s = time.time()

        async def is_whole() -> bool:
            return float((await proxy.redis.get_upstream()).get("whole_until", "0")) > silent_from_s + 1

        await until(is_whole, "ingest says that nothing is missing")
        killed_ms = time.time() * 1000
        proxy.ingest.child.kill()
        await until_told([client])
        (gap,) = find_gaps(client)
        assert (silent_from_s + 1) * 1000 < gap.from_ms < killed_ms - 2000


async def test_gap_that_was_open_as_its_ingest_was_killed_is_told_by_the_next_one_from_its_beginning(
    tmp_path: Path,
) -> None:
    """Nothing was ever logged here; with test data or a notice in the log it would say that all was well until then."""
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join("T.AAPL")
        await proxy.fake.wait_held(["T.AAPL"])
        await proxy.until_state("live")
        lost_ms = time.time() * 1000
        await proxy.fake.stop()
        await proxy.until_state("down: cannot connect")
        proxy.ingest.child.kill()
        await proxy.ingest.child.wait()
        await proxy.start_ingest()
        await proxy.fake.start()
        (record,) = await until_recorded(proxy)
        assert record["from_ms"] <= lost_ms
        assert record["cause"] == "another ingest took over"
        await until_told([client])


async def test_an_odd_entry_at_the_logs_end_does_not_keep_a_standby_from_taking_over(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join("T.AAPL")
        await proxy.emit(b'{"ev":"T","sym":"AAPL","q":1}', client)
        logged_ms = time.time() * 1000
        proxy.ingest.child.kill()
        await proxy.ingest.child.wait()
        odd: list[Any] = [{"mark": "odd", "batch": "odd"}, {"odd": "1"}]
        for sequence, fields in enumerate(odd, 10**9):
            await proxy.redis.client.xadd(NAMES.log, fields, id=f"{await get_epoch(proxy)}-{sequence}")
        await proxy.start_standby()
        await proxy.fake.wait_for(lambda: proxy.fake.held() == {"T.AAPL"}, 3 * TAKEOVER_S)
        await proxy.emit(b'{"ev":"T","sym":"AAPL","q":2}', client)
        (record,) = await until_recorded(proxy)
        assert record["cause"] == "another ingest took over"
        assert record["from_ms"] <= logged_ms + 1, "from the last entry that tells its time"
        assert "log: 2 entries of an unknown shape at its end" in proxy.output


async def has_seen_a_mark(proxy: Proxy, epoch: int = 0) -> bool:
    """Whether each gateway has seen a mark since the slot was taken under this epoch; epochs are Unix ms."""
    leases = await proxy.redis.get_leases()
    return bool(leases) and all(float(lease["last_mark"]) * 1000 > max(epoch, 1) + 1500 for lease in leases)


async def test_stopped_ingest_hands_over_at_once(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        await proxy.start_standby()
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            stopped_at = time.monotonic()
            proxy.ingest.child.send_signal(signal.SIGTERM)
            await until_taken_over(proxy, 1, TAKEOVER_S)
            took_s = time.monotonic() - stopped_at
            assert await proxy.ingest.wait() == 0
            await until_told(clients)
            await finish(flow, clients)
        assert took_s < 2.0
        assert proxy.fake.max_seen_connections == 1
        assert [len(find_gaps(client)) for client in clients] == [1] * len(clients)


async def test_paused_holder_wakes_up_as_a_standby_and_takes_over_again_in_its_turn(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        paused = proxy.ingest
        second = await proxy.start_standby()
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            with frozen(paused.child):
                paused_at = time.monotonic()
                await until_taken_over(proxy, 1, TAKEOVER_S)
                assert count_auths(proxy) == 2
                await until_told(clients)
                await asyncio.sleep(PAUSE_S - (time.monotonic() - paused_at))  # the length of the fault, not a wait
                published = await count_own_marks(proxy, await get_epoch(proxy))
            await until(lambda: "went to another ingest" in paused.output, "it knows", (paused, second))
            await proxy.fake.wait_for(lambda: proxy.fake.connections == 1, 2.0)
            assert [c.number for c in proxy.fake.live()] == [2]
            await flow.until_caught_up(*clients)
            assert await count_own_marks(proxy, await get_epoch(proxy)) == published == 0
            assert count_auths(proxy) == 2  # it did not come back
            second.child.kill()
            await until_taken_over(proxy, 2, TAKEOVER_S)
            await until_told(clients, 2)
            await until_recorded(proxy, 2)
            await finish(flow, clients)


async def count_own_marks(proxy: Proxy, epoch: int) -> int:
    """Entries of an older epoch in the log after the first of this one."""
    entries: Any = await proxy.redis.client.xrange("polygon:{stocks}:log")
    epochs = [int(ident.split(b"-")[0]) for ident, _ in entries]
    return sum(each < epoch for each in epochs[epochs.index(epoch) :])


async def test_holder_that_was_paused_for_less_than_its_lease_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        await proxy.start_standby()
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            with frozen(proxy.ingest.child):
                await asyncio.sleep(1.5)  # the length of the fault
            await flow.until_caught_up(*clients)
            await flow.finish(*clients)
        for client in clients:
            flow.judge_exactly_once(client)
        assert count_auths(proxy) == 1


async def test_holder_that_was_paused_longer_than_its_lease_without_a_standby_loses_nothing(tmp_path: Path) -> None:
    """What came meanwhile lay in its socket: nobody else had the slot, so it is still good."""
    async with running_proxy(tmp_path) as proxy:
        clients = await join_all(proxy)
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(*clients)
            with frozen(proxy.ingest.child):
                await asyncio.sleep(4.0)  # the length of the fault: LEASE_S and more
            await flow.until_caught_up(*clients)
            await flow.finish(*clients)
        for client in clients:
            flow.judge_exactly_once(client)
        assert count_auths(proxy) == 1


async def test_standbys_health_tells_of_the_holder_and_says_so_when_there_is_none(tmp_path: Path) -> None:
    port = find_free_port()
    async with running_proxy(tmp_path) as proxy:
        standby = await proxy.start_standby(ENABLE_METRICS="true", METRICS_PORT=str(port))
        await until(lambda: "health and metrics" in standby.output, "the standby serves /health", (standby,))
        await proxy.join("T.AAPL")
        await until(lambda: is_healthy(port), "the standby says that all is well", (standby,))
        _, body = await get_health(port)
        assert "held by" in body["upstream"]["state"]
        proxy.fake.script.greeting = False  # nobody gets live from here on
        proxy.ingest.child.kill()

        async def says_so() -> bool:
            status, body = await get_health(port)
            return status == 503 and any("upstream is not live" in problem for problem in body["problems"])

        await until(says_so, "the standby says that it is not", (standby,), 4.5)
        proxy.fake.script.greeting = True
        await proxy.fake.drop()
        await until(lambda: is_healthy(port), "it took over", (standby,))
        _, body = await get_health(port)
        assert body["upstream"]["state"] == "live"


async def is_healthy(port: int) -> bool:
    return (await get_health(port))[0] == 200


async def test_three_standbys_one_slot(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        standbys = [await proxy.start_standby() for _ in range(3)]
        client = await proxy.join("T.*", "Q.AAPL", "Q.MSFT", "A.AAPL")
        async with Flow(proxy.fake, CHANNELS, RATE) as flow:
            await flow.until_caught_up(client)
            proxy.ingest.child.kill()
            await until_taken_over(proxy, 1, TAKEOVER_S)
            await flow.until_caught_up(client)
            holder = next(s for s in standbys if "has the upstream slot (" in s.output)
            assert [find_holder(s) for s in standbys].count(True) == 1
            holder.child.kill()
            await until_taken_over(proxy, 2, TAKEOVER_S)
            await until_told([client], 2)
            await finish(flow, [client])
        assert proxy.fake.max_seen_connections == 1


def find_holder(process: Process) -> bool:
    return "this ingest has the upstream slot" in process.output
