"""What the fake sends, how it fails, and what its load generator promises to a checker."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.fakes.client import Client, join, nothing_before
from tests.fakes.polygon import FakePolygon, Load

ROOT = Path(__file__).parents[2]
TRADE = b'{"ev":"T","sym":"AAPL","p":4.522e-05,"q":1}'
QUOTE = b'{"ev":"Q","sym":"AAPL","bp":114.125,"q":1}'


@pytest.fixture(autouse=True)
async def hang_up() -> AsyncIterator[None]:
    yield
    await Client.close_all()


@pytest.fixture
async def fake() -> AsyncIterator[FakePolygon]:
    async with FakePolygon() as fake:
        yield fake


async def test_each_client_gets_only_the_events_that_it_holds_in_one_frame_byte_for_byte(fake: FakePolygon) -> None:
    both, one = await join(fake), await join(fake, key="other")
    await both.subscribe("T.*,Q.AAPL")
    await one.subscribe("Q.AAPL")
    assert await fake.emit(TRADE, QUOTE, b'{"ev":"Q","sym":"MSFT"}') == 2
    assert await both.hear() == f"[{TRADE.decode()},{QUOTE.decode()}]"
    assert await one.hear() == f"[{QUOTE.decode()}]"
    assert await fake.emit(b'{"ev":"A","sym":"AAPL"}') == 0


@pytest.mark.parametrize("twice", [False, True])
async def test_wildcard_and_single_together_deliver_once_or_twice_by_a_knob(fake: FakePolygon, twice: bool) -> None:
    fake.script.wildcard_twice = twice
    client = await join(fake)
    await client.subscribe("T.*,T.AAPL")
    await fake.emit(TRADE)
    assert len(json.loads(await client.hear())) == 1 + twice
    await client.say("unsubscribe", "T.AAPL")
    await client.hear()
    await fake.emit(TRADE)
    assert len(json.loads(await client.hear())) == 1


@pytest.mark.parametrize(
    ("cluster", "channel", "event"),
    [
        ("stocks", "LULD.ATHR", b'{"ev":"LULD","h":1,"l":0,"T":"ATHR"}'),
        ("stocks", "T.BRK.A", b'{"ev":"T","sym":"BRK.A"}'),
        ("forex", "C.EUR-USD", b'{"ev":"C","p":"EUR/USD"}'),
        ("forex", "CA.EUR/USD", b'{"ev":"CA","pair":"EUR/USD"}'),
        ("crypto", "XT.BTC-USD", b'{"ev":"XT","pair":"BTC-USD"}'),
        ("indices", "V.I:SPX", b'{"val":1,"ev":"V","T":"I:SPX"}'),
    ],
)
async def test_the_symbol_is_found_under_the_key_of_its_event_type(
    fake: FakePolygon, cluster: str, channel: str, event: bytes
) -> None:
    client = await join(fake, cluster=cluster)
    assert await client.subscribe(channel) == [f"success: subscribed to: {channel}"]
    assert await fake.emit(event) == 1


async def test_an_event_without_a_channel_is_the_tests_mistake(fake: FakePolygon) -> None:
    for event in (b"[]", b'{"ev":"T"}', b'{"sym":"AAPL"}'):
        with pytest.raises(ValueError, match="without ev or symbol"):
            await fake.emit(event)


async def test_raw_frames_go_verbatim_to_all_who_are_authenticated(fake: FakePolygon) -> None:
    client, stranger = await join(fake), await Client.open(fake.url)
    await stranger.hear()
    for frame in ("[{", "é" * 100, b"\x00\xff", "x" * 70_000, "x" * 2_000_000):
        await fake.send_raw(frame)
        assert await client.hear() == frame
    await stranger.say("auth", "other")
    assert await stranger.hear_statuses() == ["auth_success: authenticated"]


async def test_a_recording_is_replayed_byte_for_byte(fake: FakePolygon, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"cluster": "stocks", "kind": "data", "frame": '[{"ev": "T", "sym":"A", "p":1.50}]'},
        {"cluster": "stocks", "kind": "status", "frame": "no"},
        {"cluster": "crypto", "kind": "data", "frame": "no"},
        {"cluster": "stocks(business)", "kind": "data", "frame": '[{"ev":"FMV","fmv":1.0,"sym":"A"}]'},
    ]
    (tmp_path / "frames.jsonl").write_text("\n".join(map(json.dumps, rows)))
    client = await join(fake)
    for frame in await fake.replay(tmp_path / "frames.jsonl"):
        assert await client.hear() == frame
    await nothing_before(client, fake)


# -- faults


@pytest.mark.parametrize(("close_code", "heard"), [(None, 1006), (1011, 1011), (1000, 1000)])
async def test_a_drop_comes_after_what_was_sent_with_or_without_a_close_frame(
    fake: FakePolygon, close_code: int | None, heard: int
) -> None:
    client = await join(fake)
    await client.subscribe("T.AAPL")
    await fake.emit(TRADE)
    await fake.drop(close_code=close_code)
    assert await client.hear() == f"[{TRADE.decode()}]"
    assert await client.hear_end() == heard
    assert (fake.connections, fake.held()) == (0, set())


async def test_a_restart_drops_everybody_and_takes_the_same_port(fake: FakePolygon) -> None:
    client, url = await join(fake), fake.url
    await fake.stop()
    assert await client.hear_end() == 1006
    with pytest.raises(OSError, match=r"Connect call failed|Connection refused"):
        await Client.open(url)
    await fake.start()
    await join(fake)
    assert fake.url == url


async def test_a_stalled_server_answers_no_ping(fake: FakePolygon) -> None:
    client = await join(fake)
    await asyncio.wait_for(await client.socket.ping(), 5)
    fake.stall()
    pong = asyncio.ensure_future(await client.socket.ping())
    await nothing_before(client, fake)
    assert not pong.done()
    pong.cancel()


async def test_a_client_that_does_not_read_is_dropped_at_the_bound(fake: FakePolygon) -> None:
    fake.script.buffer_bytes = 100_000
    client = await join(fake)
    client.socket.transport.pause_reading()
    for _ in range(200):
        await fake.send_raw("x" * 100_000)
    assert fake.connections == 0


async def test_waiting_for_what_never_comes_says_what_came_instead(fake: FakePolygon) -> None:
    client = await join(fake)
    await client.subscribe("T.AAPL")
    with pytest.raises(TimeoutError, match=r"T\.AAPL"):
        await fake.wait_held({"T.AAPL", "T.MSFT"}, timeout_s=0.01)


# -- load


def numbers(frames: list[str | bytes]) -> dict[str, list[int]]:
    """Channel -> the sequence numbers in the order heard."""
    heard: dict[str, list[int]] = {}
    for event in (event for frame in frames for event in json.loads(frame)):
        heard.setdefault(f"{event['ev']}.{event['sym']}", []).append(event["q"])
    return heard


async def hear_load(client: Client, channel: str, count: int) -> dict[str, list[int]]:
    """Read until the channel has had so many events."""
    frames: list[str | bytes] = []
    while len(numbers(frames).get(channel, [])) < count:
        frames.append(await client.hear())
    return numbers(frames)


async def test_load_numbers_only_what_was_sent_and_goes_on_after_a_reconnect() -> None:
    fake = FakePolygon()
    load = Load(fake.live, rate=20_000, symbols=3, frame_events=7)
    async with fake:
        load.start()
        first = await join(fake)
        await first.subscribe("T.S0000,Q.*")
        before = await hear_load(first, "T.S0000", 20)
        await first.socket.close()
        seen = load.last_numbers()
        second = await join(fake)
        await second.subscribe("T.*,T.S0000")
        after = await hear_load(second, "T.S0000", 20)
        load.stop()
    assert set(before) == {"T.S0000", "Q.S0000", "Q.S0001", "Q.S0002"}
    assert all(had == list(range(1, len(had) + 1)) for had in before.values())
    assert after["T.S0000"] == list(range(seen["T.S0000"] + 1, seen["T.S0000"] + 1 + len(after["T.S0000"])))
    assert after["T.S0001"][0] == 1
    assert "T.S0001" not in seen


async def test_load_gives_two_clients_the_same_numbers() -> None:
    fake = FakePolygon()
    load = Load(fake.live, rate=20_000, symbols=2)
    async with fake:
        narrow, wide = await join(fake, key="narrow"), await join(fake, key="wide")
        await narrow.subscribe("T.S0000")
        await wide.subscribe("T.*")
        load.start()
        heard = [await hear_load(client, "T.S0000", 30) for client in (narrow, wide)]
        load.stop()
    assert heard[0]["T.S0000"][:30] == heard[1]["T.S0000"][:30] == list(range(1, 31))
    assert "T.S0001" not in heard[0]


async def test_load_frames_are_bounded_and_shaped_like_live_events() -> None:
    fake = FakePolygon()
    load = Load(fake.live, rate=100_000, symbols=50, frame_events=10)
    async with fake:
        client = await join(fake)
        await client.subscribe("T.*,Q.*")
        load.start()
        frames = [await client.hear() for _ in range(50)]
        load.stop()
    events = [event for frame in frames for event in json.loads(frame)]
    assert max(len(json.loads(frame)) for frame in frames) == 10
    assert {"".join(event) for event in events} == {"evsymixpsctqz", "evsymbxbpbsaxapastqz"}


async def test_the_program_reports_what_it_sent_and_ends_cleanly_on_term(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.fakes.polygon", "--rate", "5000", "--symbols", "3", "--report", str(report)]
    program = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    assert program.stdout is not None
    try:
        async with asyncio.timeout(20):
            url = json.loads(await program.stdout.readline())["url"]
            client = await Client.open(url)
            await client.say("auth", "k")
            await client.say("subscribe", "T.*,Q.*")
            for _ in range(3):
                await client.hear()
            program.send_signal(signal.SIGTERM)
            frames = [frame async for frame in until_end(client)]
            assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
    told = json.loads(report.read_text())
    assert {channel: had[-1] for channel, had in numbers(frames).items()} == told["channels"]
    assert told["sent"] == sum(told["channels"].values())
    assert json.loads((await program.stdout.read()).splitlines()[-1])["sent"] == told["sent"]


async def until_end(client: Client) -> AsyncIterator[str | bytes]:
    """Every frame up to the end of the connection, however it ends."""
    while True:
        try:
            yield await client.hear()
        except ConnectionClosed:
            return
