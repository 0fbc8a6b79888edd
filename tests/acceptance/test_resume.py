"""`?resume=NAME`: a client that comes back, to any gateway, gets what it missed and nothing twice."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.flow import find_gaps
from tests.processes import until
from tests.proxy import CLIENT_KEY, Proxy, running_proxy
from tests.subscriber import Subscriber

PAUSE_S = 0.01


def trade(number: int, symbol: str = "AAPL") -> bytes:
    return b'{"ev":"T","sym":"%b","q":%d}' % (symbol.encode(), number)


class Flow:
    """Numbered trades at a steady rate, for as long as somebody holds the channel."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.sent = 0

    async def run(self) -> None:
        while True:
            await self.send()
            await asyncio.sleep(PAUSE_S)

    async def send(self) -> None:
        self.sent += 1
        assert await self._proxy.fake.emit(trade(self.sent), trade(self.sent, "MSFT")) == 1

    def get_events(self, first: int, last: int, symbol: str = "AAPL") -> list[bytes]:
        return [trade(number, symbol) for number in range(first, last + 1)]


@asynccontextmanager
async def flowing(proxy: Proxy) -> AsyncIterator[Flow]:
    """A client that stays, so that upstream sends; and the flow."""
    stays = await proxy.join("T.AAPL", "T.MSFT")
    flow = Flow(proxy)
    task = asyncio.create_task(flow.run())
    try:
        yield flow
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await stays.until_event(trade(flow.sent))
    for symbol in ("AAPL", "MSFT"):
        assert numbers(stays, symbol=symbol) == list(range(1, flow.sent + 1))


async def come(proxy: Proxy, *channels: str, gateway: int = 0, name: str = "bot-1") -> Subscriber:
    client = await Subscriber.join(f"{proxy.gateways[gateway].url}?resume={name}", *channels, key=CLIENT_KEY)
    proxy.clients.append(client)
    return client


async def until_beyond(client: Subscriber, number: int) -> None:
    await client.until_event(trade(number))


def numbers(*clients: Subscriber, symbol: str = "AAPL") -> list[int]:
    mine = b'"sym":"%b"' % symbol.encode()
    return [int(e.rpartition(b":")[2][:-1]) for client in clients for e in client.events if mine in e]


def check_little_doubled(first: Subscriber, second: Subscriber) -> None:
    """A client or its gateway ended without a last word between the two."""
    got, again = numbers(first), numbers(second)
    assert again == list(range(again[0], again[-1] + 1))
    assert got[0] < again[0] <= got[-1] + 1, "nothing is lost"
    assert got[-1] - again[0] <= 1.2 / PAUSE_S, "at most a second is doubled"


@pytest.mark.parametrize("gateway", [0, 1])
@pytest.mark.parametrize("how", ["close", "cut"])
async def test_whoever_comes_back_has_everything_once(how: str, gateway: int, tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL")
        await until_beyond(first, flow.sent + 50)
        if how == "close":
            await first.close()
        else:
            await first.cut()
        left_at = flow.sent
        await proxy.clients[0].until_event(trade(left_at + 100))
        second = await come(proxy, "T.AAPL", gateway=gateway)
        await until_beyond(second, flow.sent + 50)
        got = numbers(first, second)
        assert got == list(range(got[0], got[-1] + 1))
        assert got[-1] >= left_at + 150


async def test_rolling_restart_loses_nothing_for_who_resumes(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy, flowing(proxy) as flow:
        # The client that stays is on gateway 0, so gateway 1 is the one that restarts.
        first = await come(proxy, "T.AAPL", gateway=1)
        await until_beyond(first, flow.sent + 50)
        proxy.gateways[1].process.child.send_signal(signal.SIGTERM)
        await first.until_closed()
        assert first.close_code == 1012
        assert await proxy.gateways[1].process.wait(5) == 0
        second = await come(proxy, "T.AAPL", gateway=0)
        await until_beyond(second, flow.sent + 50)
        got = numbers(first, second)
        assert got == list(range(got[0], got[-1] + 1))
        assert proxy.find_subscribes("T.AAPL", "unsubscribe") == 0


async def test_after_a_kill_of_its_gateway_nothing_is_lost_and_little_doubled(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL", gateway=1)
        await until_beyond(first, flow.sent + 200)
        proxy.gateways[1].process.child.send_signal(signal.SIGKILL)
        await first.until_closed()
        second = await come(proxy, "T.AAPL", gateway=0)
        await until_beyond(second, flow.sent + 50)
        check_little_doubled(first, second)


async def test_after_a_crash_of_the_client_nothing_is_lost_and_little_doubled(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL")
        await until_beyond(first, flow.sent + 200)
        first.abort()
        await first.until_closed()
        second = await come(proxy, "T.AAPL")
        await until_beyond(second, flow.sent + 50)
        check_little_doubled(first, second)


async def test_who_says_goodbye_and_reads_no_more_loses_nothing_and_gets_little_twice(tmp_path: Path) -> None:
    """So does Polygon's official Go client: a close frame, and the socket is closed at once."""
    async with running_proxy(tmp_path) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL")
        await until_beyond(first, flow.sent + 200)
        first.socket.transport.pause_reading()
        await until(lambda: first.count_unread() > 500, "something that its machine has and it has not read")
        first.hang_up()
        await first.until_closed()
        second = await come(proxy, "T.AAPL")
        await until_beyond(second, flow.sent + 50)
        check_little_doubled(first, second)


async def test_only_channels_that_were_held_before_are_caught_up(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL")
        await until_beyond(first, flow.sent + 20)
        await first.close()
        await proxy.clients[0].until_event(trade(flow.sent + 50))
        second = await come(proxy, "T.MSFT")
        began_at = flow.sent
        await second.until_event(trade(flow.sent + 20, "MSFT"))
        assert numbers(second, symbol="MSFT")[0] >= began_at - 5
        await second.subscribe("T.AAPL")
        await until_beyond(second, flow.sent + 20)
        got = numbers(first, second)
        assert got == list(range(got[0], got[-1] + 1))


async def test_a_wildcard_is_caught_up_too(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.*")
        await until_beyond(first, flow.sent + 50)
        await first.close()
        await proxy.clients[0].until_event(trade(flow.sent + 100))
        second = await come(proxy, "T.*")
        await until_beyond(second, flow.sent + 50)
        for symbol in ("AAPL", "MSFT"):
            got = numbers(first, second, symbol=symbol)
            assert got == list(range(got[0], got[-1] + 1))


async def test_a_second_connection_with_the_name_takes_over(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL", gateway=0)
        await until_beyond(first, flow.sent + 50)
        second = await come(proxy, "T.AAPL", gateway=1)
        await first.until_closed()
        assert first.close_code == 1008
        await until_beyond(second, flow.sent + 50)
        got = numbers(first, second)
        assert got == list(range(got[0], got[-1] + 1))


async def test_a_connection_that_hangs_is_taken_over_from_where_its_machine_got_to(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL", gateway=0)
        await until_beyond(first, flow.sent + 50)
        first.socket.transport.pause_reading()
        await proxy.clients[0].until_event(trade(flow.sent + 100))
        second = await come(proxy, "T.AAPL", gateway=1)
        await until_beyond(second, flow.sent + 50)
        first.socket.transport.resume_reading()
        await first.until_closed()
        got = numbers(first, second)
        assert got == list(range(got[0], got[-1] + 1))


async def test_who_was_away_for_longer_than_the_log_reaches_is_told_the_gap(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, constants={"ingest.logbook.LOG_S": 2.0}) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL")
        await until_beyond(first, flow.sent + 20)
        await first.close()
        await proxy.clients[0].until_event(trade(flow.sent + 400))
        second = await come(proxy, "T.AAPL")
        await until_beyond(second, flow.sent + 20)
        [gap] = [status for status in second.statuses if status.startswith("gap: ")]
        assert "this client was away for longer" in gap and gap.endswith("channels: T.AAPL")
        again = numbers(second)
        assert again == list(range(again[0], again[-1] + 1))


async def leave_alone(proxy: Proxy) -> float:
    """Somebody alone held T.GOOG, beside who holds T.MSFT, and has gone at this time (Unix ms)."""
    await proxy.join("T.MSFT")
    first = await come(proxy, "T.GOOG")
    await proxy.emit(trade(1, "GOOG"), first)
    await first.close()
    left_ms = time.time() * 1000
    await proxy.until_refcount({"T.MSFT": 1})
    return left_ms


async def check_told(proxy: Proxy, left_ms: float) -> None:
    """On its return it is told that all may be missing since, and gets what upstream sends from then on."""
    returned_ms = time.time() * 1000
    second = await come(proxy, "T.GOOG")
    await second.until(lambda: bool(find_gaps(second)), "a gap")
    await proxy.emit(trade(2, "GOOG"), second)
    [gap] = find_gaps(second)
    assert gap.from_ms <= left_ms and gap.to_ms >= returned_ms and gap.channels == "T.GOOG"
    assert numbers(second, symbol="GOOG") == [2]


async def test_who_alone_held_a_channel_is_told_the_gap_if_another_ingest_took_over_meanwhile(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        left_ms = await leave_alone(proxy)
        proxy.ingest.child.send_signal(signal.SIGKILL)
        await proxy.ingest.wait(5)
        await proxy.start_ingest()
        await until(lambda: proxy.find_subscribes("T.MSFT") == 2, "a takeover")
        await check_told(proxy, left_ms)


async def test_who_alone_held_a_channel_is_told_the_gap_if_upstream_was_asked_for_it_no_more(tmp_path: Path) -> None:
    constants = {"ingest.reconcile.LINGER_S": 2.0, "gateway.replay.HELD_S": 1.0}
    async with running_proxy(tmp_path, constants=constants) as proxy:
        left_ms = await leave_alone(proxy)
        await until(lambda: proxy.find_subscribes("T.GOOG", "unsubscribe") == 1, "an unsubscribe")
        await check_told(proxy, left_ms)


@pytest.mark.parametrize("name", ["a%20b", "x" * 65, "é"])
async def test_a_bad_name_is_refused_at_the_door(name: str, tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        with pytest.raises(Exception, match="400"):
            await come(proxy, name=name)


async def test_exact_channels_that_come_back_under_a_wildcard_are_not_doubled(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL")
        await until_beyond(first, flow.sent + 20)
        await first.close()
        await proxy.clients[0].until_event(trade(flow.sent + 100))
        second = await come(proxy, "T.*", "T.AAPL")
        await until_beyond(second, flow.sent + 50)
        got = numbers(first, second)
        assert got == list(range(got[0], got[-1] + 1))
        others = numbers(second, symbol="MSFT")
        assert others == list(range(others[0], others[-1] + 1))


@pytest.mark.parametrize(
    ("held", "asked"), [("T.AAPL", ("T.AAPL", "T.*")), ("T.*", ("T.AAPL", "T.*")), ("T.*", ("T.*", "T.AAPL"))]
)
async def test_a_wildcard_and_a_channel_under_it_asked_for_while_the_other_is_caught_up_double_nothing(
    held: str, asked: tuple[str, str], tmp_path: Path
) -> None:
    async with running_proxy(tmp_path) as proxy, flowing(proxy) as flow:
        await proxy.join("T.*")  # so that no wildcard waits for upstream
        first = await come(proxy, held)
        await until_beyond(first, flow.sent + 20)
        await first.close()
        await proxy.clients[0].until_event(trade(flow.sent + 100))
        second = await come(proxy)
        for channel in asked:
            await second.say("subscribe", channel)
        await until_beyond(second, flow.sent + 50)
        got, others = numbers(first, second), numbers(second, symbol="MSFT")
        assert got == list(range(got[0], got[-1] + 1))
        assert others == list(range(others[0], others[-1] + 1))


async def test_a_wildcard_that_comes_back_after_a_channel_under_it_doubles_nothing(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.*")
        await until_beyond(first, flow.sent + 20)
        await first.close()
        await proxy.clients[0].until_event(trade(flow.sent + 50))
        second = await come(proxy, "T.AAPL")
        await until_beyond(second, flow.sent + 50)
        await second.subscribe("T.*")
        await until_beyond(second, flow.sent + 50)
        for symbol in ("AAPL", "MSFT"):
            got = numbers(first, second, symbol=symbol)
            assert got == list(range(got[0], got[-1] + 1)), symbol


async def test_a_channel_that_is_given_up_and_taken_again_while_it_is_caught_up_is_not_doubled(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL", "T.MSFT")
        await until_beyond(first, flow.sent + 20)
        await first.close()
        await proxy.clients[0].until_event(trade(flow.sent + 50))
        second = await come(proxy)
        for action in ("subscribe", "unsubscribe", "subscribe"):
            await second.say(action, "T.AAPL")
        await until_beyond(second, flow.sent + 50)
        again = numbers(second)
        assert again == sorted(set(again))


async def test_a_gateway_leaves_though_redis_is_away_and_a_named_client_waits_for_it(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy:
        proxy.redis.server.kill()
        waits = await Subscriber.open(f"{proxy.gateways[1].url}?resume=bot-1")
        proxy.clients.append(waits)
        await waits.say("auth", CLIENT_KEY)
        await waits.until_status("auth_success: authenticated")
        assert await proxy.gateways[1].process.stop(within_s=10) == 0
        assert await waits.until_closed() == 1012
        await proxy.redis.start_empty()


async def is_recorded_since(proxy: Proxy, at: float) -> bool:
    """Whether the client's record in Redis says that it has got something that was received after `at`."""
    record = json.loads(await proxy.redis.client.get("polygon:{stocks}:resume:bot-1") or b'{"parts":[]}')
    return any(part["received_us"] > at * 1e6 for part in record["parts"])


async def test_redis_that_comes_back_with_data_from_before_the_client_reconnected_leaves_it_connected(
    tmp_path: Path,
) -> None:
    """The record there is of the connection before: no take-over; and where the client got to is kept again."""
    async with running_proxy(tmp_path) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL")
        await until_beyond(first, flow.sent + 50)
        await until(lambda: proxy.redis.client.exists("polygon:{stocks}:resume:bot-1"), "a record")
        await proxy.redis.client.save()
        await first.close()
        second = await come(proxy, "T.AAPL")
        await until_beyond(second, flow.sent + 50)
        proxy.redis.server.kill()
        killed_at = time.time()
        await proxy.redis.start_saved()
        await until_beyond(second, flow.sent + 50)
        await until(lambda: is_recorded_since(proxy, killed_at), "its record is kept again")
        assert second.is_open
        await second.close()
        third = await come(proxy, "T.AAPL")
        await until_beyond(third, flow.sent + 50)
        got = numbers(first, second, third)
        assert got == list(range(got[0], got[-1] + 1))


async def test_a_channel_that_was_acked_just_before_a_kill_is_caught_up(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, gateways=2) as proxy, flowing(proxy) as flow:
        first = await come(proxy, "T.AAPL", gateway=1)

        async def is_recorded() -> bool:
            return b"T.AAPL" in (await proxy.redis.client.get("polygon:{stocks}:resume:bot-1") or b"")

        await until(is_recorded, "a record", within_s=1.0)
        proxy.gateways[1].process.child.send_signal(signal.SIGKILL)
        killed_at = flow.sent
        second = await come(proxy, "T.AAPL", gateway=0)
        await until_beyond(second, flow.sent + 50)
        got, again = numbers(first), numbers(second)
        assert again == list(range(again[0], again[-1] + 1))
        assert again[0] <= (got[-1] if got else killed_at) + 1, "nothing is lost"
