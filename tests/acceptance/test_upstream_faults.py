"""Whatever happens upstream, clients stay connected, and their data flows again when upstream can send it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from tests.fakes.polygon import FakePolygon
from tests.processes import Process
from tests.proxy import KEY, Proxy, running_proxy
from tests.subscriber import Subscriber

BACK_WITHIN_S = 5.0  # DESIGN 6, after upstream accepts again
SOON = {"ingest.session.SLOW_RETRY_S": 2.0}  # 30 s in earnest: see the unit test of the session


def trade(number: int) -> bytes:
    return b'{"ev":"T","sym":"AAPL","q":%d}' % number


class Watch:
    """A client that has one event before the fault, and must see it through."""

    def __init__(self, proxy: Proxy, client: Subscriber) -> None:
        self.proxy = proxy
        self.client = client

    @classmethod
    async def begin(cls, proxy: Proxy) -> "Watch":
        client = await proxy.join("T.AAPL", "Q.*")
        await proxy.fake.wait_held(["T.AAPL", "Q.*"])
        await proxy.emit(trade(1), client)
        return cls(proxy, client)

    async def end(self, within_s: float = 10.0, connections: int = 1) -> None:
        """Subscribed anew, live in Redis, and the next event arrives on the same socket."""
        await self.proxy.fake.wait_held(["T.AAPL", "Q.*"], within_s)
        await self.proxy.until_state("live")
        await self.proxy.emit(trade(2), self.client)
        assert self.client.events == [trade(1), trade(2)]
        assert self.client.is_open
        assert self.proxy.fake.max_seen_connections == connections


async def drop_with_close_frame(fake: FakePolygon) -> None:
    await fake.drop(close_code=1001)


async def drop_without_close_frame(fake: FakePolygon) -> None:
    await fake.drop()


async def restart(fake: FakePolygon) -> None:
    await fake.stop()
    await fake.start()


@pytest.mark.parametrize("fault", [drop_with_close_frame, drop_without_close_frame, restart])
async def test_client_survives(fault: Callable[[FakePolygon], Awaitable[None]], tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        watch = await Watch.begin(proxy)
        subscribes = proxy.find_subscribes("T.AAPL")
        await fault(proxy.fake)
        await watch.end(within_s=5.0)
        assert proxy.find_subscribes("T.AAPL") == subscribes + 1
        assert int((await proxy.redis.get_upstream())["drops"]) >= 1


async def test_client_survives_an_upstream_that_stays_away_and_may_subscribe_meanwhile(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        watch = await Watch.begin(proxy)
        await proxy.fake.stop()
        await proxy.until_state("down: cannot connect")
        started = time.monotonic()
        late = await proxy.join("T.AAPL", "T.MSFT")  # acked all the same
        assert time.monotonic() - started < 5.0
        assert await proxy.redis.get_refcount() == {"T.AAPL": 1, "T.MSFT": 1, "Q.*": 1}
        await proxy.fake.start()
        await proxy.fake.wait_held(["T.MSFT"])
        await watch.end()
        await late.until_event(trade(2))


@pytest.mark.parametrize("constants", [SOON], ids=["retry-2s"])
async def test_key_that_is_refused_for_a_while_disconnects_no_client(
    constants: Mapping[str, float], tmp_path: Path
) -> None:
    async with running_proxy(tmp_path, constants=constants) as proxy:
        watch = await Watch.begin(proxy)
        proxy.fake.keys = frozenset(["another-key"])
        await proxy.fake.drop()
        await proxy.until_state("down: auth_failed")
        assert "authentication failed" in proxy.ingest.output
        refused_at = time.monotonic()
        proxy.fake.keys = frozenset([KEY])
        await watch.end()
        assert time.monotonic() - refused_at >= 0.8  # not at once: half of 2 s at least, by jitter


@pytest.mark.parametrize("wording", ["a", "b"])
async def test_eviction_by_another_program_with_the_key_disconnects_no_client(wording: str, tmp_path: Path) -> None:
    async with running_proxy(tmp_path, constants=SOON) as proxy:
        watch = await Watch.begin(proxy)
        proxy.fake.script.max_connections = "a" if wording == "a" else "b"
        rival = await Subscriber.join(proxy.fake.url, "T.MSFT", key=KEY)
        await proxy.until_state("down: max_connections")
        assert proxy.fake.max_seen_connections == 2  # the rival's doing
        proxy.fake.max_seen_connections = 0
        rival.abort()
        await proxy.fake.wait_for(lambda: proxy.fake.connections == 0 or proxy.fake.held() != {"T.MSFT"})
        await watch.end()


async def test_slow_retry_after_max_connections_is_slow(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        watch = await Watch.begin(proxy)
        auths = sum(action.action == "auth" for action in proxy.fake.actions)
        rival = await Subscriber.join(proxy.fake.url, "T.MSFT", key=KEY)
        await proxy.until_state("down: max_connections")
        with pytest.raises(TimeoutError):  # one by the rival
            await proxy.fake.wait_for(lambda: sum(a.action == "auth" for a in proxy.fake.actions) > auths + 1, 3.0)
        assert rival.is_open and watch.client.is_open
        rival.abort()


async def test_a_gap_is_told_before_the_first_event_after_it_though_some_channels_are_back_before_others(
    tmp_path: Path,
) -> None:
    async with running_proxy(tmp_path) as proxy:
        channels = [f"T.S{number:04}" for number in range(1500)]
        client = await proxy.join(*channels)
        await proxy.emit(b'{"ev":"T","sym":"S0000","q":1}', client)
        proxy.fake.script.silent = {"T.S1499"}  # so the gap ends 2 s later
        await proxy.fake.drop()
        await proxy.fake.wait_for(lambda: "T.S0000" in proxy.fake.held(), 5)
        await proxy.emit(b'{"ev":"T","sym":"S0000","q":3}', client)
        [(gap, place)] = [s for s in zip(client.statuses, client.status_places, strict=True) if s[0].startswith("gap")]
        assert place == 1, gap


async def test_half_open_upstream_is_noticed_by_its_missing_pong(tmp_path: Path) -> None:
    constants = {"ingest.polygon._PONG_WITHIN_S": 1.0}
    async with running_proxy(tmp_path, constants=constants, HEARTBEAT_INTERVAL_SEC="1") as proxy:
        watch = await Watch.begin(proxy)
        proxy.fake.stall()
        await proxy.fake.wait_for(lambda: proxy.find_subscribes("T.AAPL") == 2, 10.0)
        await watch.end(connections=2)  # the fake, not reading, cannot know that the first one was given up


@pytest.mark.parametrize("part", ["greeting", "auth_reply"])
async def test_upstream_that_hangs_has_us_back_in_time_once_it_serves_new_connections(
    part: str, tmp_path: Path
) -> None:
    """The connection that hangs goes on hanging."""
    async with running_proxy(tmp_path, RECONNECT_DELAY_MS="1000") as proxy:
        watch = await Watch.begin(proxy)
        setattr(proxy.fake.script, part, False)
        await proxy.fake.drop()
        await proxy.until_state("down: no answer")
        await proxy.until_state("authenticating")
        setattr(proxy.fake.script, part, True)
        await watch.end(within_s=BACK_WITHIN_S)


async def test_upstream_that_does_not_even_upgrade_has_us_back_in_time_once_it_serves_new_connections(
    tmp_path: Path,
) -> None:
    async with running_proxy(tmp_path, RECONNECT_DELAY_MS="1000") as proxy:
        watch = await Watch.begin(proxy)
        await proxy.fake.stop()
        came = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.set()
            await reader.read(-1)  # until it is given up
            writer.close()

        hanging = await asyncio.start_server(hang, proxy.fake.host, proxy.fake.port)
        async with asyncio.timeout(10.0):
            await came.wait()
        hanging.close()  # what it has accepted stays
        await proxy.fake.start()
        await watch.end(within_s=BACK_WITHIN_S)


async def test_upstream_that_acks_nothing_holds_up_acks_for_2_s_only(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        proxy.fake.script.silent = {"T.AAPL"}
        started = time.monotonic()
        client = await proxy.join("T.AAPL")
        assert 1.5 < time.monotonic() - started < 4.0
        await proxy.emit(trade(1), client)
        again = await proxy.join("T.AAPL")  # held by now
        await proxy.emit(trade(2), client, again)
        assert proxy.find_subscribes("T.AAPL") == 1


async def test_ack_waits_for_upstreams_ack(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        proxy.fake.script.ack_delay_s = 0.7
        client = await proxy.join()
        await client.say("subscribe", "T.AAPL")
        await proxy.fake.wait_for(lambda: proxy.find_subscribes("T.AAPL") == 1)
        assert client.statuses[2:] == []
        await client.until_status("success: subscribed to: T.AAPL")
        assert proxy.fake.held() == {"T.AAPL"}


async def test_status_of_an_unknown_kind_or_shape_disturbs_nothing(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        watch = await Watch.begin(proxy)
        for frame in (
            '[{"ev":"status","status":"news","message":"?"}]',
            '[{"ev":"status","status":7,"message":[]}]',
            '[{"ev":"status"}]',
            '[{"ev":"status","status":"error","message":"not authorized"}]',
        ):
            await proxy.fake.send_raw(frame)
        await watch.end()
        assert (await proxy.redis.get_upstream())["drops"] == "0"
        assert not any("not authorized" in status for status in watch.client.statuses)


async def test_ingest_that_is_killed_and_started_again_disconnects_no_client(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        watch = await Watch.begin(proxy)
        killed: Process = proxy.processes[0]
        killed.child.kill()
        await killed.child.wait()
        await proxy.start_ingest()
        proxy.processes[0] = proxy.processes.pop()
        await watch.end()
