"""How the processes start, refuse, stop, and keep secrets."""

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.ports import find_free_port
from tests.processes import Process, python, until
from tests.proxy import CLIENT_KEY, KEY, running_proxy
from tests.subscriber import Subscriber

OFTEN = {"gateway.interest.RENEW_S": 0.2}  # how soon a count shows in the lease
EVENT = b'{"ev":"T","sym":"AAPL","p":1}'
NOISE = b'{"ev":"T","sym":"NOISE","q":%d,"pad":"' + b"x" * 900 + b'"}'


async def test_third_client_of_two_is_refused_politely(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, constants=OFTEN, MAX_CLIENTS="2") as proxy:
        first, second = await proxy.join("T.AAPL"), await proxy.join("T.AAPL")
        third = await Subscriber.open(proxy.gateways[0].url)
        assert await third.until_closed() == 1008
        assert third.statuses == ["max_connections: Maximum number of websocket connections exceeded."]
        await proxy.emit(EVENT, first, second)

        async def is_counted() -> bool:
            return [lease["refused_clients"] for lease in await proxy.redis.get_leases()] == ["1"]

        await until(is_counted, "refused_clients is 1", within_s=5)
        await second.close()

        async def is_gone() -> bool:
            return [lease["clients"] for lease in await proxy.redis.get_leases()] == ["1"]

        await until(is_gone, "one client is left", within_s=5)
        await proxy.emit(EVENT, await proxy.join("T.AAPL"))  # there is room again


async def test_wrong_path_gets_404(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        for path in ("/options", "/stocks/", "/stocks/x", "/healthy", "/%73tocks"):
            with pytest.raises(InvalidStatus) as refusal:
                await connect(f"ws://127.0.0.1:{proxy.gateways[0].port}{path}")
            assert refusal.value.response.status_code == 404, path


async def test_key_in_the_url_is_accepted_or_ignored(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        base = f"ws://127.0.0.1:{proxy.gateways[0].port}"
        for url in (f"{base}/stocks?apiKey={CLIENT_KEY}", f"{base}/?apiKey={KEY}&x=1"):
            client = await Subscriber.open(url)
            await client.subscribe("T.AAPL")
            await proxy.emit(EVENT, client)
            assert client.statuses[:2] == ["connected: Connected Successfully", "auth_success: authenticated"]
            await client.close()
        # Some do both (PROTOCOL c.1): each auth is answered, nothing breaks.
        both = await Subscriber.join(f"{base}/stocks?apiKey={KEY}", "T.AAPL", key=KEY)
        await both.close()
        wrong = await Subscriber.join(f"{base}/stocks?apiKey=wrong-one", "T.AAPL", key=KEY)
        assert not any("auth_failed" in status for status in wrong.statuses)
        await wrong.close()


async def test_no_key_and_no_password_is_anywhere_to_be_seen(tmp_path: Path) -> None:
    password, refused_key = "dummy-redis-password", "dummy-refused-key"
    secrets = (KEY, CLIENT_KEY, password, refused_key)
    async with running_proxy(tmp_path, password=password, LOG_LEVEL="debug") as proxy:
        url = proxy.gateways[0].url
        for key in (KEY, CLIENT_KEY):
            client = await Subscriber.join(f"{url}?apiKey={key}", "T.AAPL", key=key)
            await client.say("subscribe", key)  # a client's first bad message is quoted in the log
            await client.until_status(f"error: not a channel (expected EV.SYM): {key!r}")
            await client.socket.send(key)
            await client.say("auth", [key])
            await client.say(key, "")
            await client.until_status(f"error: unknown action: {key!r}")
            await client.close()
        wrong = await Subscriber.open(f"{url}?apiKey={refused_key}")
        await wrong.say("auth", refused_key)
        assert await wrong.until_closed() == 1008
        for path in (f"/nowhere?apiKey={KEY}", f"/{KEY}"):
            with pytest.raises(InvalidStatus):
                await connect(f"ws://127.0.0.1:{proxy.gateways[0].port}{path}")
        proxy.fake.keys = frozenset(["another"])
        await proxy.fake.drop()
        await proxy.until_state("down: auth_failed")
        seen = [proxy.output, await proxy.redis.read_all()]
        seen += [Path(f"/proc/{process.pid}/cmdline").read_text() for process in proxy.processes]
    seen.append(proxy.output)
    for secret in secrets:
        assert not any(secret in text for text in seen), [
            line for text in seen for line in text.splitlines() if secret in line
        ][:5]
    assert "authentication failed" in proxy.output and "DEBUG" in proxy.output  # or there was nothing to find


async def test_client_that_does_not_read_is_closed_and_costs_nobody_anything(tmp_path: Path) -> None:
    async with running_proxy(tmp_path, constants=OFTEN, MESSAGE_BUFFER_SIZE="1000") as proxy:
        gateway = proxy.gateways[0]
        reader = await proxy.join("T.AAPL", "T.NOISE")
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", gateway.port))
        async with connect(gateway.url, sock=narrow, max_size=None, ping_interval=None) as lazy:
            await lazy.send(json.dumps({"action": "auth", "params": KEY}))
            await lazy.send('{"action":"subscribe","params":"T.NOISE"}')
            heard = ""
            async with asyncio.timeout(5):
                while "subscribed to" not in heard:
                    heard = str(await lazy.recv())
            lazy.transport.pause_reading()
            before_mb = gateway.process.rss_mb
            most_mb, sent = before_mb, 0

            async def has_given_up() -> bool:
                nonlocal most_mb, sent
                for _ in range(4):
                    events = [NOISE % (sent + one) for one in range(50)]
                    sent += len(events)
                    await proxy.fake.emit(*events)
                await reader.until_event(events[-1])  # so the one who reads is never behind, and loses nothing
                most_mb = max(most_mb, gateway.process.rss_mb)
                return "did not read fast enough" in gateway.process.output

            await until(has_given_up, "the lazy client is closed", (gateway.process,), 30)
            lazy.transport.abort()
        assert reader.events == [NOISE % number for number in range(sent)]
        await proxy.emit(EVENT, reader)
        assert most_mb - before_mb < 20
        assert sent * len(NOISE) > 1_000_000  # a short stall is no reason

        async def is_counted() -> bool:
            [lease] = await proxy.redis.get_leases()
            return (lease["slow_clients"], lease["clients"]) == ("1", "1")

        await until(is_counted, "one slow client is counted and gone", within_s=5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stopped_gateway_sends_clients_away_with_1012_and_exits_0(number: int, tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        gateway = proxy.gateways[0]
        clients = [await proxy.join("T.AAPL") for _ in range(3)]
        deaf = await proxy.join("T.AAPL")
        deaf.socket.transport.pause_reading()  # answers no close frame
        assert await gateway.process.stop(number, within_s=5) == 0
        assert [await client.until_closed() for client in clients] == [1012] * 3
        await proxy.until_refcount({}, within_s=1)  # given back, not left to the lease
        assert await proxy.redis.client.smembers("polygon:{stocks}:gateways") == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stopped_ingest_says_so_and_exits_0_and_clients_stay(number: int, tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join("T.AAPL")
        assert await proxy.ingest.stop(number, within_s=5) == 0
        assert (await proxy.redis.get_upstream())["state"] == "down: stopped"
        await proxy.fake.wait_for(lambda: proxy.fake.connections == 0)
        late = await proxy.join("T.MSFT")
        assert client.is_open and late.is_open


async def test_processes_stop_also_while_redis_and_upstream_are_away(tmp_path: Path) -> None:
    nowhere = str(find_free_port())
    environ = {
        "REDIS_URL": f"redis://127.0.0.1:{nowhere}",
        "POLYGON_API_KEY": KEY,
        "POLYGON_WS_URL": f"ws://127.0.0.1:{nowhere}/stocks",
        "PROXY_STOCKS_PORT": str(find_free_port()),
        "ENABLE_METRICS": "false",
    }
    for module in ("ingest", "gateway"):
        process = await Process.start(python(module), tmp_path, environ, name=module)
        try:
            tries = "Redis does not answer" if module == "ingest" else "cannot connect"
            await until(lambda p=process, t=tries: t in p.output, "it tries", (process,))  # type: ignore[misc]
            assert await process.stop(within_s=5) == 0
            assert "Traceback" not in process.output
        finally:
            await process.end()


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        ("ingest", "RECONNECT_DELAY_MS", "soon"),
        ("gateway", "PROXY_STOCKS_PORT", "http"),
        ("gateway", "REDIS_URL", "x"),
        ("shared.private_bus", "LOG_LEVEL", "loud"),
    ],
)
async def test_bad_value_ends_with_2_and_one_line(module: str, name: str, value: str, tmp_path: Path) -> None:
    process = await Process.start(python(module), tmp_path, {name: value}, name="bad")
    try:
        assert await process.wait(20) == 2
        [line] = process.output.splitlines()
        assert name in line and "expected" in line
        assert value in line or name == "REDIS_URL"
    finally:
        await process.end()


async def test_gateway_whose_port_is_taken_exits_1_with_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = await Process.start(python("gateway"), tmp_path, {"PROXY_STOCKS_PORT": port}, name="gateway")
        try:
            assert await process.wait(20) == 1
            assert "Traceback" not in process.output
            assert f"gateway: cannot listen on 127.0.0.1:{port}" in process.output
        finally:
            await process.end()
