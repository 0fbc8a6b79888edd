"""Test data from the outside: the installed commands, real processes, and the official clients beside them."""

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Process, until
from tests.proxy import CLIENT_KEY, Proxy, running_proxy
from tests.subscriber import Subscriber

TRADE = '{"ev":"T","sym":"AAPL","i":"mine","x":4,"p":1.50,"s":100,"t":1700000000000,"q":1,"z":3}'
LIVE = b'{"ev":"T","sym":"%b","i":"live-%d","x":10,"p":161.87,"s":300,"t":1651684192462,"q":1,"z":3}'
SIMULATED = "test_data: this is test data: mode simulated, scenario normal"


async def command(proxy: Proxy, *words: str, feed: str = "") -> tuple[int, str]:
    """What `polygon-proxy WORDS` ends with and says; it reads the same environment as the processes."""
    script = f"import sys; sys.stdin = open({feed!r}); " if feed else ""
    code = f"{script}from shared.cli import main; main()"
    process = await Process.start([sys.executable, "-c", code, *words], proxy.directory, proxy.environ, name="command")
    try:
        return await process.wait(20), process.output
    finally:
        await process.end()


@asynccontextmanager
async def simulated(directory: Path, **environ: str) -> AsyncIterator[Proxy]:
    async with running_proxy(directory, ENABLE_TEST_MODE="true", **environ) as proxy:
        yield proxy


@asynccontextmanager
async def mixed(directory: Path, symbols: str = "AAPL,TSLA") -> AsyncIterator[Proxy]:
    async with running_proxy(directory, MIX_TEST_DATA="true", TEST_SYMBOLS=symbols) as proxy:
        yield proxy


def find_foreign(events: list[bytes], symbol: str, *, is_live: bool) -> list[bytes]:
    """The symbol's events that did not come from where they should."""
    mine = [event for event in events if json.loads(event)["sym"] == symbol]
    return [event for event in mine if (b'"live-' in event) != is_live]


async def test_greeting_auth_reply_and_acks_say_first_what_polygon_says_and_then_that_it_is_test_data(
    tmp_path: Path,
) -> None:
    async with simulated(tmp_path) as proxy:
        client = await proxy.join("T.AAPL", "Q.AAPL")
        frames = [json.loads(frame) for frame in client.frames]
        said = [[f"{one['status']}: {one['message']}" for one in frame if one["ev"] == "status"] for frame in frames]
        assert said[0] == ["connected: Connected Successfully", SIMULATED]
        assert said[1] == ["auth_success: authenticated", SIMULATED]
        acks = [status for frame in said[2:] for status in frame]
        assert acks[:1] == ["success: subscribed to: T.AAPL"] and acks[-1] == SIMULATED
        await client.until_first_event()


async def test_switches_take_effect_within_a_second_and_break_no_client(tmp_path: Path) -> None:
    async with simulated(tmp_path, TEST_SYMBOLS="AAPL,MSFT") as proxy:
        client = await proxy.join("T.*")
        await client.until_first_event()
        assert await command(proxy, "test", "disable") == (
            0,
            "simulated, scenario normal, speed 1, 2 symbols: AAPL,MSFT, disabled\n",
        )
        count = len(client.events)
        later = await proxy.join("T.AAPL")
        assert later.statuses[-1].endswith("stopped")
        assert client.statuses[-1].endswith("stopped"), "who is connected hears it too"
        status, output = await command(proxy, "test", "symbols", "TSLA")
        assert (status, "1 symbols: TSLA" in output) == (0, True)
        assert len(client.events) == count
        assert (await command(proxy, "test", "enable"))[0] == 0
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


async def test_a_bad_scenario_is_told_with_its_place_and_the_old_one_goes_on(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("this is = = no TOML")
    async with simulated(tmp_path) as proxy:
        client = await proxy.join("T.*")
        status, output = await command(proxy, "test", "scenario", "bad.toml")
        assert status == 1 and output.count("\n") == 1 and f"{bad}" in output and "line 1" in output
        assert "scenario normal" in (await command(proxy, "test", "status"))[1]
        await client.until_events(len(client.events) + 1)
        assert not any("halt" in said for said in client.statuses)


@pytest.mark.parametrize("scenario", ["bad.toml", "absent.toml", "absent.rec"])
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


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["test", "speed", "fast"], 1),
        (["test", "symbols", "aapl"], 1),
        (["test", "scenario", "hault"], 1),
        (["test", "volume", "11"], 2),
        (["inject"], 2),
        (["replay", "x", "--speed", "quick"], 2),
        (["replay", "x", "--from", "9:30"], 2),
    ],
)
async def test_what_is_misspelt_is_refused_with_one_line(words: list[str], status: int, tmp_path: Path) -> None:
    pass


async def test_injected_bytes_arrive_as_they_are_and_the_clients_are_counted(tmp_path: Path) -> None:
    async with simulated(tmp_path, TEST_SYMBOLS="ZZZ") as proxy:
        await proxy.start_gateway()
        await proxy.until_listening(proxy.gateways[1])
        first, second = await proxy.join("T.AAPL"), await proxy.join("T.*", gateway=1)
        await proxy.join("Q.AAPL")
        odd = '{ "ev":"T", "sym":"AAPL", "p":1.50e0,"extra":{"a":[1]} }'
        status, output = await command(proxy, "inject", odd)
        assert (status, output) == (0, "1 events injected, 2 clients reached\n")
        for client in (first, second):
            await client.until_event(odd.encode())
        status, output = await command(proxy, "inject", '[{"ev":"T","sym":"AAPL"},{"ev":"T","sym":"AAPL","p":"1"}]')
        assert (status, output) == (1, "event 2, field p: expected a number\n")
        lines = [f'{{"ev":"T","sym":"AAPL","q":{number}}}' for number in range(1200)]
        (tmp_path / "events.jsonl").write_text("\n".join(["[" + ",".join(lines[:700]) + "]", *lines[700:], ""]))
        status, output = await command(proxy, "inject", "--file", "events.jsonl")
        assert (status, output) == (0, "1200 events injected, 2 clients reached\n")
        await first.until_event(lines[-1].encode())
        assert [event.decode() for event in first.events if b'"q":' in event] == lines


async def test_a_gateway_that_does_not_answer_is_told(tmp_path: Path) -> None:
    pass


async def test_a_live_feed_takes_no_injection_and_has_no_indicator(tmp_path: Path) -> None:
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join("T.AAPL")
        for words in (["inject", TRADE], ["test", "disable"], ["test", "scenario", "halt"]):
            status, output = await command(proxy, *words)
            assert status == 1 and output.startswith("this ingest plays no test data") and output.count("\n") == 1
        assert await command(proxy, "test", "status") == (0, "live: no test data\n")
        await proxy.emit(LIVE % (b"AAPL", 1), client)
        assert client.events == [LIVE % (b"AAPL", 1)]
        assert not any("test_data" in said for said in client.statuses)


async def test_nobody_there_is_one_clear_line(tmp_path: Path) -> None:
    async with simulated(tmp_path) as proxy:
        await proxy.ingest.stop()
        status, output = await command(proxy, "test", "status")
        assert (status, output) == (1, "no ingest is running (nobody has the upstream slot)\n")
        proxy.environ["REDIS_URL"] = "redis://127.0.0.1:1"
        status, output = await command(proxy, "inject", TRADE)
        assert status == 1 and output.startswith("Redis at 127.0.0.1:1 does not answer") and output.count("\n") == 1


async def test_a_mixed_symbol_is_one_or_the_other_also_while_polygon_is_down(tmp_path: Path) -> None:
    async with mixed(tmp_path) as proxy:
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
        told = [said for client in (simulated_one, late) for said in client.statuses if said.startswith("gap")]
        await live_one.until(lambda: any(said.startswith("gap") for said in live_one.statuses), "the gap")
        assert told == []
        assert live_one.statuses[-1].endswith("channels: T.MSFT")


async def test_a_symbol_moves_between_live_and_simulated(tmp_path: Path) -> None:
    async with mixed(tmp_path, "TSLA") as proxy:
        client = await proxy.join("T.AAPL", "T.TSLA")
        await proxy.fake.wait_held(["T.AAPL"])
        await proxy.emit(LIVE % (b"AAPL", 1), client)
        assert (await command(proxy, "test", "symbols", "AAPL"))[0] == 0
        before = len(client.events)
        await proxy.fake.wait_for(lambda: proxy.fake.held() == {"T.TSLA"})
        await proxy.fake.emit(LIVE % (b"AAPL", 2), LIVE % (b"TSLA", 2))
        await client.until_event(LIVE % (b"TSLA", 2))
        await client.until(lambda: any(b"AAPL" in event for event in client.events[before:]), "AAPL simulated")
        assert find_foreign(client.events[before:], "AAPL", is_live=False) == []
        assert (await command(proxy, "test", "symbols", "TSLA"))[0] == 0
        before = len(client.events)
        await proxy.fake.wait_for(lambda: proxy.fake.held() == {"T.AAPL"})
        await proxy.fake.emit(LIVE % (b"AAPL", 3))
        await client.until_event(LIVE % (b"AAPL", 3))
        await client.until(lambda: any(b"TSLA" in event for event in client.events[before:]), "TSLA simulated")
        assert find_foreign(client.events[before:], "AAPL", is_live=True) == []
        assert find_foreign(client.events[before:], "TSLA", is_live=False) == []
        assert client.events.count(LIVE % (b"AAPL", 3)) == 1
        assert client.is_open
