"""A gateway that is told to leave, and one that is told to read its configuration anew."""

import asyncio
import http.client
import json
import signal
import socket
import time
from pathlib import Path

from gateway.client import CLOSE_WITHIN_S
from tests.processes import until
from tests.proxy import CLIENT_KEY, Gateway, Proxy, running_proxy
from tests.subscriber import Subscriber

CLIENTS = 150
SPREAD_S = 1.5  # which are sent away 100 a second
NOT_READY_S = 2.0  # after TERM, before the first is sent away: longer than it is, for a busy machine that looks
BUSY_S = 2.0  # how much later a busy machine may do all that
QUEUED = 1000  # events of 1 KB that wait at the gateway, beyond what its transport and the kernel have taken


def read_health(gateway: Gateway) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
    connection.request("GET", "/health")
    response = connection.getresponse()
    return response.status, response.read()


def get_health(gateway: Gateway) -> int:
    return read_health(gateway)[0]


def can_connect(gateway: Gateway) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", gateway.port)) == 0


async def see_end(client: Subscriber) -> float:
    """When the client was closed, by our monotonic clock."""
    await client.until_closed()
    return time.monotonic()


async def count_queued(proxy: Proxy) -> int:
    """Events that wait at the gateway for the slowest client, as its lease has it; 0 once nothing waits for anybody."""
    [lease] = await proxy.redis.get_leases()
    return max([slow["queued"] for slow in json.loads(lease["slowest"])], default=0)


async def test_a_leaving_gateway_is_not_ready_first_and_then_sends_its_clients_away_one_by_one(tmp_path: Path) -> None:
    constants = {"gateway.server._NOT_READY_S": NOT_READY_S}
    async with running_proxy(tmp_path, gateways=2, constants=constants, LOG_LEVEL="info") as proxy:
        leaving, staying = proxy.gateways
        clients = [await proxy.join("T.AAPL") for _ in range(CLIENTS)]
        await proxy.join("T.AAPL", gateway=1)
        assert await asyncio.to_thread(get_health, leaving) == 200
        ends = asyncio.gather(*(see_end(client) for client in clients))
        told_at = time.monotonic()
        leaving.process.child.send_signal(signal.SIGTERM)
        leaves = (503, b"this gateway leaves\n")
        await until(lambda: read_health(leaving) == leaves, "not ready", (leaving.process,))
        assert await asyncio.to_thread(get_health, staying) == 200
        ended_at = sorted(await ends)
        # Each draws its own moment: all 150 fall into a third of the span once in 10^69 times.
        assert ended_at[-1] - ended_at[0] > SPREAD_S / 3, "they are all sent away at once"
        assert ended_at[-1] - told_at < NOT_READY_S + SPREAD_S + CLOSE_WITHIN_S + BUSY_S
        assert {client.close_code for client in clients} == {1012}
        assert await leaving.process.wait(5) == 0
        await proxy.until_refcount({"T.AAPL": 1}, within_s=1.0)
        assert "150 clients are sent away within 1.5 s" in leaving.process.output
        assert proxy.find_subscribes("T.AAPL", "unsubscribe") == 0


async def test_a_gateway_that_has_no_bus_is_not_ready_until_it_has_one_again(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, constants={"gateway.listener.AWAY_S": 3.0}) as proxy:
        (gateway,) = proxy.gateways
        client = await proxy.join("T.AAPL")
        assert await asyncio.to_thread(read_health, gateway) == (200, b"OK\n")
        proxy.redis.server.kill()
        await until(lambda: get_health(gateway) == 503, "not ready", (gateway.process,))
        assert read_health(gateway)[1].startswith(b"no bus for ")
        assert client.is_open
        await proxy.redis.start_empty()
        await until(lambda: get_health(gateway) == 200, "ready again", (gateway.process,))


async def test_what_was_queued_is_sent_before_the_close(tmp_path: Path) -> None:
    # A busy machine may take its time to deliver some MB: this is about what comes, not how soon.
    patient = {"gateway.client.CLOSE_WITHIN_S": 8.0, "gateway.server.CLOSE_WITHIN_S": 8.0}
    async with running_proxy(tmp_path, constants=patient | {"gateway.interest.RENEW_S": 0.1}) as proxy:
        gateway = proxy.gateways[0].process
        fast, slow = await proxy.join("T.AAPL"), await proxy.join("T.AAPL")
        slow.socket.transport.pause_reading()
        events: list[bytes] = []

        async def is_enough_queued() -> bool:
            new = [b'{"ev":"T","sym":"AAPL","q":%d,"text":"%b"}' % (len(events) + n, b"x" * 1000) for n in range(100)]
            events.extend(new)
            await proxy.fake.emit(*new)
            await fast.until_events(len(events))  # so the gateway has passed on each of them, to whoever takes it
            return await count_queued(proxy) > QUEUED

        async def is_nothing_queued() -> bool:
            return await count_queued(proxy) == 0

        await until(is_enough_queued, "events are queued for the one that does not read", (gateway,), 20)
        gateway.child.send_signal(signal.SIGTERM)
        # Only the close empties the queue of a client that reads nothing; who read before it would get all anyway.
        await until(is_nothing_queued, "the close", (gateway,))
        slow.socket.transport.resume_reading()
        assert await slow.until_closed() == 1012
        assert slow.events == events and fast.events == events
        assert not any("conflated" in status for status in slow.statuses)
        assert await gateway.wait(5) == 0  # a second TERM, while it ends, would kill it


async def test_hangup_reloads_keys_and_log_level_and_disconnects_nobody(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, LOG_LEVEL="info") as proxy:
        # The environment of a process cannot change, but what .env adds to it can.
        environ = {name: text for name, text in proxy.environ.items() if name not in ("PROXY_API_KEYS", "LOG_LEVEL")}
        proxy.environ.clear()
        proxy.environ.update(environ)
        env_file = tmp_path / ".env"
        env_file.write_text("PROXY_API_KEYS=first-dummy\nLOG_LEVEL=error\n")
        gateway = await proxy.start_gateway()
        await until(lambda: can_connect(gateway), "gateway listens", (gateway.process,))
        before = await Subscriber.join(gateway.url, "T.AAPL", key="first-dummy")
        env_file.write_text("PROXY_API_KEYS=second-dummy\nLOG_LEVEL=info\n")
        gateway.process.child.send_signal(signal.SIGHUP)
        await until(lambda: "reloaded" in gateway.process.output, "reload", (gateway.process,))
        refused = await Subscriber.open(gateway.url)
        await refused.say("auth", "first-dummy")
        await refused.until_status("auth_failed: authentication failed")
        after = await Subscriber.join(gateway.url, "T.AAPL", key="second-dummy")
        assert before.is_open and after.is_open
        await before.close()
        await until(lambda: "gone" in gateway.process.output, "a line of level info", (gateway.process,))
        after.abort()


async def test_hangup_with_a_bad_configuration_changes_nothing(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        for process in (proxy.ingest, proxy.gateways[0].process):
            (tmp_path / ".env").write_text("MAX_CLIENTS=many\n")
            process.child.send_signal(signal.SIGHUP)
            await until(lambda p=process: "not reloaded: MAX_CLIENTS" in p.output, "the complaint", (process,))  # type: ignore[misc]
        client = await Subscriber.join(proxy.gateways[0].url, "T.AAPL", key=CLIENT_KEY)
        assert client.is_open
        client.abort()
