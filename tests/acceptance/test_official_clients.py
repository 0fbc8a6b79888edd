"""The official Python clients against the pipeline, nothing altered but their URL."""

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Process, python, until
from tests.proxy import CLIENT_KEY, KEY, Proxy, running_proxy
from tests.subscriber import Subscriber

TRADE = b'{"ev":"T","sym":"AAPL","i":"5096","x":10,"p":161.87,"s":300,"c":[14,41],"t":1651684192462,"q":4009402,"z":3}'
LAST = b'{"ev":"T","sym":"AAPL","i":"last","x":10,"p":1,"s":1,"t":1651684192463,"q":4009403,"z":3}'
QUOTE = (
    b'{"ev":"Q","sym":"AAPL","bx":4,"bp":114.125,"bs":100,"ax":7,"ap":114.128,"as":160,"c":0,"t":1536036818784,"z":3}'
)
BAR = (
    b'{"ev":"AM","sym":"AAPL","v":4110,"av":9470157,"op":0.4372,"vw":0.4488,"o":0.4488,"c":0.4486,"h":0.4489,'
    b'"l":0.4486,"a":0.4352,"z":685,"s":1610144640000,"e":1610144700000}'
)
CHANNELS = ("T.AAPL", "Q.AAPL", "AM.AAPL")
packages = pytest.mark.parametrize("package", ["massive", "polygon"])


class Official:
    """The client's process, and what it was handed."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @property
    def heard(self) -> list[tuple[str, Any]]:
        lines = self.process.output.rpartition("\n")[0].splitlines()
        return [(name, fields) for line in lines if line.startswith("[") for name, fields in [json.loads(line)]]

    async def until_joined(self, proxy: Proxy) -> int:
        """Until trades arrive, for the client hides its acks; returns how many it heard until then."""

        async def hears() -> bool:
            await proxy.fake.emit(TRADE)
            return bool(self.heard)

        await until(hears, "a first trade", (self.process,), 20)
        await proxy.fake.emit(LAST)
        await until(lambda: self.heard[-1][1].get("id") == "last", "the last trade", (self.process,), 20)
        return len(self.heard)

    async def until_heard(self, count: int) -> list[tuple[str, Any]]:
        await until(lambda: len(self.heard) >= count, f"{count} messages", (self.process,), 20)
        return self.heard


@asynccontextmanager
async def running(
    package: str, proxy: Proxy, *channels: str, key: str = KEY, gateway: int = 0, query: str = ""
) -> AsyncIterator[Official]:
    where = f"127.0.0.1:{proxy.gateways[gateway].port}{query}"
    command = python("tests.official_client", package, where, key, *channels)
    process = await Process.start(command, proxy.directory, name=package)
    try:
        yield Official(process)
    finally:
        await process.end()


@packages
async def test_trades_quotes_and_bars_arrive_as_models(package: str, tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy, running(package, proxy, *CHANNELS, key=CLIENT_KEY) as client:
        before = await client.until_joined(proxy)
        await proxy.fake.emit(TRADE, QUOTE)
        await proxy.fake.emit(BAR)
        heard = (await client.until_heard(before + 3))[before:]
        assert len(heard) == 3
        messages = dict(heard)
        trade = messages["EquityTrade"]
        assert (trade["symbol"], trade["id"], trade["price"], trade["size"]) == ("AAPL", "5096", 161.87, 300)
        assert trade["conditions"] == [14, 41] and trade["timestamp"] == 1651684192462
        quote = messages["EquityQuote"]
        assert (quote["bid_price"], quote["ask_price"], quote["ask_size"]) == (114.125, 114.128, 160)
        bar = messages["EquityAgg"]
        assert (bar["open"], bar["close"], bar["high"], bar["low"]) == (0.4488, 0.4486, 0.4489, 0.4486)
        assert bar["start_timestamp"] == 1610144640000


@packages
async def test_wrong_key_ends_with_the_clients_own_error(package: str, tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy, running(package, proxy, "T.AAPL", key="wrong-key") as client:
        assert await client.process.wait(20) == 0
        assert client.heard == [("ended", "AuthError: authentication failed")]


@packages
async def test_upstream_that_drops_ten_times_is_not_noticed(package: str, tmp_path: Path) -> None:
    """More than the five reconnects after which these clients give up for good (PROTOCOL d.1.7)."""
    constants = {"ingest.polygon._RETRY_CAP_S": 0.1}
    async with (
        running_proxy(tmp_path, constants=constants, RECONNECT_DELAY_MS="50") as proxy,
        running(package, proxy, "T.AAPL") as client,
    ):
        before = await client.until_joined(proxy)
        upgrades = proxy.gateways[0].process.output.count("gone (")
        for number in range(1, 11):
            await proxy.fake.drop(close_code=1001 if number % 2 else None)
            await proxy.fake.wait_held(["T.AAPL"])
            await proxy.fake.emit(TRADE)
            await client.until_heard(before + number)
        assert len(client.heard) == before + 10
        assert proxy.gateways[0].process.output.count("gone (") == upgrades


@packages
async def test_client_comes_back_to_a_gateway_that_was_restarted(package: str, tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy, running(package, proxy, "T.AAPL") as client:
        before = await client.until_joined(proxy)
        old = proxy.gateways.pop()
        assert await old.process.stop(signal.SIGTERM) == 0
        await proxy.until_listening(await proxy.start_gateway(PROXY_STOCKS_PORT=str(old.port)))

        async def hears_again() -> bool:
            await proxy.fake.emit(TRADE)
            return [name for name, _ in client.heard[before : before + 1]] == ["EquityTrade"]

        await until(hears_again, "the client is back", (client.process,), 20)
        assert await proxy.redis.get_refcount() == {"T.AAPL": 1}


async def is_recorded(proxy: Proxy) -> bool:
    """Whether a pong has confirmed that the client has the newest batch of all."""
    record = json.loads(await proxy.redis.client.get("polygon:{stocks}:resume:bot-1") or b'{"parts":[]}')
    entries: Any = await proxy.redis.client.xrevrange("polygon:{stocks}:log", count=1)
    return [f"{part['epoch']}-{part['sequence']}" for part in record["parts"]] == [entries[0][0].decode()]


@packages
async def test_with_a_name_in_its_url_it_resumes_where_it_left_off(package: str, tmp_path: Path) -> None:
    """The client that comes back is a new process, at another gateway; in between upstream goes on."""
    name = "?resume=bot-1"
    async with running_proxy(tmp_path, gateways=2) as proxy:
        stays = await proxy.join("T.AAPL")
        async with running(package, proxy, "T.AAPL", key=CLIENT_KEY, query=name) as client:
            await client.until_joined(proxy)
            await until(lambda: is_recorded(proxy), "a record of all it has", (client.process,))  # then it is killed
        missed = [TRADE.replace(b"5096", b"missed-%d" % number) for number in range(3)]
        await proxy.emit(missed[0], stays)
        await proxy.emit(missed[1], stays)
        await proxy.emit(missed[2], stays)
        async with running(package, proxy, "T.AAPL", key=CLIENT_KEY, gateway=1, query=name) as again:
            heard = await again.until_heard(3)
            await proxy.emit(LAST, stays)
            heard = await again.until_heard(4)
        assert [fields["id"] for _, fields in heard] == ["missed-0", "missed-1", "missed-2", "last"]


@pytest.mark.parametrize("path", ["?resume=bot-1/stocks", "stocks?resume=bot-1"])
async def test_the_name_may_stand_before_or_behind_the_path_that_a_client_appends(path: str, tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        url = f"ws://127.0.0.1:{proxy.gateways[0].port}/{path}"
        for number in (1, 2):
            client = await Subscriber.join(url, "T.AAPL", key=CLIENT_KEY)
            await proxy.emit(TRADE.replace(b"5096", b"%d" % number), client)
            await client.close()
        assert client.events == [TRADE.replace(b"5096", b"2")]
