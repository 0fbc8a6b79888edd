"""Test data from the outside: the installed commands, real processes, and the official clients beside them."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.control import Asker, NotDone
from shared.names import Names
from tests.ports import find_free_port
from tests.processes import Process, python, until
from tests.proxy import CLIENT_KEY, Proxy, running_proxy

NAMES = Names("stocks")
TRADE = '{"ev":"T","sym":"AAPL","i":"mine","x":4,"p":1.50,"s":100,"t":1700000000000,"q":1,"z":3}'
LIVE = b'{"ev":"T","sym":"%b","i":"live-%d","x":10,"p":161.87,"s":300,"t":1651684192462,"q":1,"z":3}'
SIMULATED = "test_data: this is test data: mode simulated, scenario normal"


async def command(proxy: Proxy, *words: str) -> tuple[int, str]:
    """What `polygon-proxy WORDS` ends with and says; it reads the same environment as the processes."""
    process = await Process.start(python("shared.cli", *words), proxy.directory, proxy.environ, name="command")
    try:
        return await process.wait(20), process.output
    finally:
        await process.end()


async def ask(proxy: Proxy, command: str, value: str | None = None) -> dict[str, Any]:
    """As the command would, without a process."""
    asker = Asker(proxy.redis.client, NAMES, proxy.redis.url)
    return await asker.ask(command, {} if value is None else {"value": value})


def simulated(directory: Path, symbols: str = "") -> AbstractAsyncContextManager[Proxy]:
    return running_proxy(directory, ENABLE_TEST_MODE="true", TEST_SYMBOLS=symbols)


def mixed(directory: Path, symbols: str = "AAPL,TSLA", port: int = 0) -> AbstractAsyncContextManager[Proxy]:
    metrics = {"ENABLE_METRICS": "true", "METRICS_PORT": str(port)} if port else {}
    environ = {"MIX_TEST_DATA": "true", "TEST_SYMBOLS": symbols, **metrics}
    return running_proxy(directory, **environ)  # type: ignore[arg-type]  # these are all variables


def find_foreign(events: list[bytes], symbol: str, *, is_live: bool) -> list[bytes]:
    """The symbol's events that did not come from where they should."""
    mine = [event for event in events if json.loads(event)["sym"] == symbol]
    return [event for event in mine if (b'"live-' in event) != is_live]


def read_statuses(frame: str | bytes) -> list[str]:
    return [f"{one['status']}: {one['message']}" for one in json.loads(frame) if one["ev"] == "status"]


async def test_clients_hear_that_it_is_test_data_and_switches_break_none(tmp_path: Path) -> None:
    async with simulated(tmp_path, symbols="AAPL,MSFT") as proxy:
        client = await proxy.join("T.*")
        assert read_statuses(client.frames[0]) == ["connected: Connected Successfully", SIMULATED]
        assert read_statuses(client.frames[1]) == ["auth_success: authenticated", SIMULATED]
        ack = next(frame for frame in client.frames[2:] if read_statuses(frame))  # events may come before it
        assert read_statuses(ack) == ["success: subscribed to: T.*", SIMULATED]
        await client.until_first_event()
        bad = tmp_path / "bad.toml"
        bad.write_text("this is = = no TOML")
        status, output = await command(proxy, "test", "scenario", "bad.toml")
        assert status == 1 and output.count("\n") == 1
        assert re.search(rf"^{re.escape(str(bad))}:(1:|.* line 1)", output), "file and line"
        assert (await ask(proxy, "status"))["scenario"] == "normal"
        await client.until_events(len(client.events) + 1)
        assert await command(proxy, "test", "disable") == (
            0,
            "simulated, scenario normal, speed 1, 2 symbols: AAPL,MSFT, disabled\n",
        )
        count = len(client.events)
        later = await proxy.join("T.AAPL")
        assert later.statuses[-1].endswith("stopped")
        assert client.statuses[-1].endswith("stopped"), "who is connected hears it too"
        assert (await ask(proxy, "symbols", "TSLA"))["symbols"] == ["TSLA"]
        assert len(client.events) == count
        await ask(proxy, "enable")
        await client.until_events(count + 3)
        assert {json.loads(event)["sym"] for event in client.events[count:]} == {"TSLA"}
        status, output = await command(proxy, "test", "scenario", "HALT")
        assert (status, output.split(",")[1]) == (0, " scenario halt")
        began = time.monotonic()
        await client.until(lambda: client.statuses[-1].endswith("scenario halt"), "word of the scenario")
        await client.until_events(len(client.events) + 1)
        assert time.monotonic() - began < 1.0
        assert client.is_open and later.is_open
        assert await proxy.redis.get_refcount() == {"T.*": 1, "T.AAPL": 1}
        proxy.redis.server.kill()
        await proxy.redis.start_empty()
        during = await proxy.join()
        assert during.statuses[1].endswith("scenario halt"), "an empty Redis makes nobody forget it"
        await client.until_events(len(client.events) + 1)

        async def is_written() -> bool:
            return '"scenario":"halt"' in (await proxy.redis.get_upstream()).get("test_data", "")

        await until(is_written, "the field in the hash")
        assert (await proxy.join()).statuses[1].endswith("scenario halt")
        assert client.statuses[-1].endswith("scenario halt"), "and it was told no other thing meanwhile"


async def test_what_was_switched_outlasts_the_ingest_that_was_told(tmp_path: Path) -> None:
    """A symbol that is live again must not be simulated because a process died."""
    async with mixed(tmp_path, symbols="AAPL,TSLA") as proxy:
        standby = await proxy.start_standby()
        client = await proxy.join("T.AAPL")
        await ask(proxy, "symbols", "TSLA")
        await ask(proxy, "speed", "2")
        await ask(proxy, "scenario", "news")
        switched = await ask(proxy, "disable")

        async def is_written() -> bool:
            return '"speed":2.0' in (await proxy.redis.get_upstream())["switches"]

        await until(is_written, "the switches in the hash")
        proxy.ingest.child.kill()
        await proxy.fake.wait_for(lambda: any("T.AAPL" in c.session.held.values() for c in proxy.fake.live()), 10)

        async def is_same() -> bool:
            try:
                now = await ask(proxy, "status")
            except NotDone:
                return False  # nobody has the slot yet
            return {**now, "frames": 0} == {**switched, "speed": 2.0, "frames": 0}

        await until(is_same, "all is switched as before")
        assert "invented prices for TSLA\n" in standby.output
        await proxy.emit(LIVE % (b"AAPL", 1), client)
        assert not find_foreign(client.events[-1:], "AAPL", is_live=True)


@pytest.mark.parametrize("scenario", ["bad.toml", "absent.rec"])
async def test_an_ingest_whose_scenario_cannot_be_played_ends_with_one_line_and_2(
    scenario: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text("this is = = no TOML")
    environ = {"TEST_SCENARIO": scenario, "ENABLE_TEST_MODE": "true"}
    process = await Process.start([sys.executable, "-m", "ingest"], tmp_path, environ, name="ingest")
    try:
        assert await process.wait(10) == 2
    finally:
        await process.end()
    assert process.output.startswith("configuration: TEST_SCENARIO: ") and process.output.count("\n") == 1
    assert scenario in process.output


async def test_injected_bytes_arrive_as_they_are_and_the_clients_are_counted(tmp_path: Path) -> None:
    async with simulated(tmp_path, symbols="ZZZ") as proxy:
        await proxy.start_gateway()
        await proxy.until_listening(proxy.gateways[1])
        first, second = await proxy.join("T.AAPL"), await proxy.join("T.*", gateway=1)
        await proxy.join("Q.AAPL")
        odd = '{ "ev":"T", "sym":"AAPL", "p":1.50e0,"extra":{"a":[1]} }'
        status, output = await command(proxy, "inject", odd)
        assert (status, output) == (0, "1 events injected, 2 clients reached\n")
        for client in (first, second):
            await client.until_event(odd.encode())
        assert await command(proxy, "inject", "[]") == (1, "there was no event to inject\n")
        status, output = await command(proxy, "inject", '[{"ev":"T","sym":"AAPL"},{"ev":"T","sym":"AAPL","p":"1"}]')
        assert (status, output) == (1, "event 2, field p: expected a number\n")
        lines = [f'{{"ev":"T","sym":"AAPL","q":{number}}}' for number in range(1200)]
        (tmp_path / "events.jsonl").write_text("\n".join(["[" + ",".join(lines[:700]) + "]", *lines[700:], ""]))
        status, output = await command(proxy, "inject", "--file", "events.jsonl")
        assert (status, output) == (0, "1200 events injected, 2 clients reached\n")
        await first.until_event(lines[-1].encode())
        unheld = [line.replace("AAPL", "NOBODY") for line in lines]
        (tmp_path / "events.jsonl").write_text("\n".join([*unheld, "{}", ""]))
        status, output = await command(proxy, "inject", "--file", "events.jsonl")
        assert status == 1 and output.startswith("after 1000 events: event 1201, field ev: ")
        assert [event.decode() for event in first.events if b'"q":' in event] == lines
        proxy.gateways[1].process.child.send_signal(signal.SIGSTOP)
        answer = await Asker(proxy.redis.client, NAMES, proxy.redis.url).ask("inject", {"frame": TRADE})
        proxy.gateways[1].process.child.send_signal(signal.SIGCONT)
        assert answer == {"events": 1, "clients": 1, "silent_gateways": 1}


async def test_events_come_from_a_pipe_as_they_are_written_and_ctrl_c_ends_with_a_summary(tmp_path: Path) -> None:
    async with simulated(tmp_path, symbols="ZZZ") as proxy:
        client = await proxy.join("T.AAPL")
        (tmp_path / "events.jsonl").write_text("\n".join([TRADE] * 2000))
        words = python("shared.cli", "inject", "--file", "events.jsonl", "--rate", "100")
        process = await Process.start(words, tmp_path, proxy.environ, name="rate")
        await until(lambda: "events injected" in process.output, "a line of progress", (process,))
        assert await process.stop(signal.SIGINT) == 130
        *_, last = process.output.splitlines()
        assert re.fullmatch(r"stopped: [0-9]{2,3} events injected, 1 clients reached", last)
        count = len(client.events)
        assert 50 <= count <= 500
        os.mkfifo(tmp_path / "pipe")
        words = ["sh", "-c", 'exec "$@" <pipe', "sh", *python("shared.cli", "inject", "-")]
        process = await Process.start(words, tmp_path, proxy.environ, name="pipe")
        with await asyncio.to_thread((tmp_path / "pipe").open, "wb", 0) as pipe:
            pipe.write(TRADE.encode() + b"\n[" + TRADE.encode())
            await client.until_events(count + 1)
            pipe.write(b"]\n\n" + TRADE.encode())
        assert await process.wait() == 0
        assert process.output == "3 events injected, 1 clients reached\n"
        await client.until_events(count + 3)


async def test_a_live_feed_takes_no_injection_and_nobody_there_is_one_clear_line(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join("T.AAPL")
        status, output = await command(proxy, "inject", TRADE)
        assert status == 1 and output.startswith("this ingest plays no test data") and output.count("\n") == 1
        assert await ask(proxy, "status") == {"mode": "live"}
        await proxy.emit(LIVE % (b"AAPL", 1), client)
        assert client.events == [LIVE % (b"AAPL", 1)]
        assert not any("test_data" in said for said in client.statuses)
        await proxy.ingest.stop()
        status, output = await command(proxy, "test", "status")
        assert (status, output) == (1, "no ingest is running (nobody has the upstream slot)\n")
        proxy.environ["REDIS_URL"] = "redis://127.0.0.1:1"
        status, output = await command(proxy, "inject", TRADE)
        assert status == 1 and output.startswith("Redis at 127.0.0.1:1 does not answer") and output.count("\n") == 1


def hears_all(client: Process) -> bool:
    return all(f'["{model}"' in client.output for model in ("EquityTrade", "EquityQuote", "EquityAgg"))


async def test_official_clients_take_the_indicator_without_harm(tmp_path: Path) -> None:
    async with simulated(tmp_path) as proxy:
        where = f"127.0.0.1:{proxy.gateways[0].port}"
        clients = []
        for package in ("massive", "polygon"):
            words = python("tests.official_client", package, where, CLIENT_KEY, "T.AAPL", "Q.*", "A.*")
            clients.append(await Process.start(words, proxy.directory, name=package))
        try:
            for client in clients:
                await until(lambda heard=client: hears_all(heard), "all models", (client,), 20)  # type: ignore[misc]
            await ask(proxy, "scenario", "halt")
            before = [client.output.count('["Equity') for client in clients]
            for client, count in zip(clients, before, strict=True):
                await until(lambda c=client, n=count: c.output.count('["Equity') > n + 3, "more", (client,))  # type: ignore[misc]
                assert '["ended"' not in client.output and "Traceback" not in client.output
        finally:
            for client in clients:
                await client.end()


async def read_ops(port: int) -> tuple[dict[str, Any], str]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/health") as reply:
            health = await reply.json()
        async with session.get(f"http://127.0.0.1:{port}/metrics") as reply:
            return health, await reply.text()


async def test_a_mixed_symbol_is_one_or_the_other_also_while_polygon_is_down(tmp_path: Path) -> None:
    port = find_free_port()
    async with mixed(tmp_path, port=port) as proxy:
        wild = await proxy.join("T.*", "Q.*")
        simulated_one, live_one = await proxy.join("T.AAPL"), await proxy.join("T.MSFT")
        assert wild.statuses[0:2] == [
            "connected: Connected Successfully",
            "test_data: this is test data: mode mixed, scenario normal, simulated symbols: AAPL,TSLA",
        ]
        assert proxy.find_subscribes("T.AAPL") == 0 and proxy.find_subscribes("T.*") == 1
        await simulated_one.until_first_event()
        await proxy.fake.emit(LIVE % (b"AAPL", 1), LIVE % (b"MSFT", 1))
        await wild.until_event(LIVE % (b"MSFT", 1))
        await live_one.until_event(LIVE % (b"MSFT", 1))
        await wild.until_events(len(wild.events) + 5)
        assert find_foreign(wild.events + simulated_one.events, "AAPL", is_live=False) == []

        async def is_counted() -> bool:
            return (await proxy.redis.get_upstream())["live_dropped"] == "1"

        await until(is_counted, "the live event that was dropped")
        health, metrics = await read_ops(port)
        symbols = ["AAPL", "TSLA"]
        assert health["test_data"] == {"mode": "mixed", "scenario": "normal", "symbols": symbols, "enabled": True}
        assert 'polygon_proxy_ingest_test_data{mode="mixed",scenario="normal"} 1.0' in metrics
        status, output = await command(proxy, "inject", TRADE.replace("AAPL", "MSFT"))
        assert status == 1 and output.startswith("T.MSFT: its symbol is live") and output.count("\n") == 1
        assert await command(proxy, "inject", TRADE) == (0, "1 events injected, 2 clients reached\n")
        await proxy.fake.stop()
        await proxy.until_state("down")
        began = time.monotonic()
        late = await proxy.join("T.TSLA")
        assert time.monotonic() - began < 1.5, "an ack of its own, not that for want of an answer"
        await late.until_first_event()
        await proxy.fake.start()
        await proxy.fake.wait_held(["T.*"])
        await live_one.until(lambda: any(said.startswith("gap") for said in live_one.statuses), "the gap")
        for client in (simulated_one, late):  # what was told is in the stream before these
            await client.until_events(len(client.events) + 2)
        told = [said for client in (simulated_one, late) for said in client.statuses if said.startswith("gap")]
        assert told == []
        assert live_one.statuses[-1].endswith("channels: T.MSFT")


async def test_a_symbol_moves_between_live_and_simulated(tmp_path: Path) -> None:
    async with mixed(tmp_path, "TSLA") as proxy:
        client = await proxy.join("T.AAPL", "T.TSLA")
        await proxy.fake.wait_held(["T.AAPL"])
        await proxy.emit(LIVE % (b"AAPL", 1), client)
        await ask(proxy, "symbols", "AAPL")
        before = len(client.events)
        await proxy.fake.wait_for(lambda: proxy.fake.held() == {"T.TSLA"})
        await proxy.fake.emit(LIVE % (b"AAPL", 2), LIVE % (b"TSLA", 2))
        await client.until_event(LIVE % (b"TSLA", 2))
        await client.until(lambda: any(b"AAPL" in event for event in client.events[before:]), "AAPL simulated")
        assert find_foreign(client.events[before:], "AAPL", is_live=False) == []
        await ask(proxy, "symbols", "TSLA")
        before = len(client.events)
        await proxy.fake.wait_for(lambda: proxy.fake.held() == {"T.AAPL"})
        await proxy.fake.emit(LIVE % (b"AAPL", 3))
        await client.until_event(LIVE % (b"AAPL", 3))
        await client.until(lambda: any(b"TSLA" in event for event in client.events[before:]), "TSLA simulated")
        assert find_foreign(client.events[before:], "AAPL", is_live=True) == []
        assert find_foreign(client.events[before:], "TSLA", is_live=False) == []
        assert client.events.count(LIVE % (b"AAPL", 3)) == 1
        assert client.is_open
