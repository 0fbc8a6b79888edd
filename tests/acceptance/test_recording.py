"""What Polygon sent is recorded by the real programs, and comes again from the file byte for byte.

Fake Polygon -> ingest -> redis-server -> `polygon-proxy record`; then ingest replays the file to a client.
"""

import json
import signal
from pathlib import Path

from shared.recording import Frame, Hole, Record
from tests.fakes.polygon import FakePolygon
from tests.ports import find_free_port
from tests.processes import Process, python, until
from tests.proxy import Proxy, running_proxy
from tests.recordings import read_recording
from tests.redis_state import running_redis
from tests.subscriber import Subscriber

CHANNELS = ("T.AAPL", "Q.AAPL", "T.MSFT", "LULD.MSFT")
QUICK = {"ingest.slot.LEASE_S": 1.5, "ingest.slot.RENEW_S": 0.25}


def make_event(channel: str, number: int) -> bytes:
    ev, symbol = channel.split(".")
    key = b"T" if ev == "LULD" else b"sym"
    return b'{"ev":"%b","%b":"%b","p":%d.50,"x":4.522e-05,"q":%d}' % (ev.encode(), key, symbol.encode(), number, number)


async def send(fake: FakePolygon, numbers: range) -> list[bytes]:
    """Frames with an event of each channel."""
    sent: list[bytes] = []
    for number in numbers:
        events = [make_event(channel, number) for channel in CHANNELS]
        assert await fake.emit(*events) == 1
        sent += events
    return sent


async def start_recorder(proxy: Proxy, file: Path, *options: str) -> Process:
    """`polygon-proxy record`, once ingest gives it frames."""
    command = python("shared.cli", "record", str(file), *options)
    recorder = await Process.start(command, proxy.directory, proxy.environ, name="record")
    proxy.processes.append(recorder)

    async def is_recording() -> bool:
        return (await proxy.redis.get_upstream()).get("recording") == "1"

    await until(is_recording, "ingest records", (recorder, proxy.ingest))
    return recorder


async def start_small(proxy: Proxy) -> Process:
    """A recorder that may write 2 KiB to a file; to it that is a full disk."""
    command = ["bash", "-c", 'ulimit -f 2; exec "$@"', "-", *python("shared.cli", "record", "small.pprec")]
    small = await Process.start(command, proxy.directory, proxy.environ, name="small")
    proxy.processes.append(small)
    await until(lambda: "small.pprec: " in small.output, "it records", (small,))
    return small


def get_frames(records: list[Record]) -> list[bytes]:
    return [record.data for record in records if isinstance(record, Frame)]


def get_events(frames: list[bytes]) -> list[bytes]:
    return [b"{%b}" % body for frame in frames for body in frame[2:-2].split(b"},{") if b'"ev":"status"' not in body]


def by_channel(events: list[bytes]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {channel: [] for channel in CHANNELS}
    for event in events:
        fields = json.loads(event)
        found[f"{fields['ev']}.{fields.get('sym') or fields['T']}"].append(event)
    return found


async def until_recorded(file: Path, events: list[bytes]) -> None:
    """Until the file holds exactly these, in this order."""
    await until(lambda: len(get_events(get_frames(read_recording(file)))) >= len(events), "all is in the file")
    assert get_events(get_frames(read_recording(file))) == events


async def replay(proxy: Proxy, file: Path, events: list[bytes]) -> Subscriber:
    """Another ingest takes over and replays the file at full speed to a client that holds all of it."""
    client = await proxy.join(*CHANNELS)
    before = len(client.events)
    await proxy.ingest.stop()
    await proxy.start_ingest(ENABLE_TEST_MODE="true", TEST_SCENARIO=str(file), TEST_SPEED="1000")
    await client.until_events(before + len(events))
    assert by_channel(client.events[before:]) == by_channel(events)
    return client


async def test_a_recorded_run_replayed_at_full_speed_arrives_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "day.pprec"
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join(*CHANNELS)
        recorder = await start_recorder(proxy, file)
        small = await start_small(proxy)
        events: list[bytes] = []

        async def is_full() -> bool:
            number = len(events) // len(CHANNELS)
            events.extend(await send(proxy.fake, range(number, number + 1)))
            return small.child.returncode is not None

        await until(is_full, "the small disk is full", (), 20)
        await client.until_events(len(events))
        await until_recorded(file, events)
        assert await small.wait() == 1
        assert "small.pprec: File too large; " in small.output and "Make room" in small.output
        kept = get_events(get_frames(read_recording(tmp_path / "small.pprec")))
        first = events.index(kept[0])
        assert len(kept) < len(events) and kept == events[first : first + len(kept)]
        assert await recorder.stop(signal.SIGINT) == 0
        assert f"{file.name}: " in recorder.output and "0 holes" in recorder.output
        await client.close()
        await replay(proxy, file, events)


async def test_a_recording_of_a_mixture_has_what_clients_got(tmp_path: Path) -> None:
    file = tmp_path / "mixed.pprec"
    live = {symbol: make_event(f"T.{symbol}", 7) for symbol in ("AAPL", "MSFT")}
    async with running_proxy(tmp_path, MIX_TEST_DATA="true", TEST_SYMBOLS="AAPL") as proxy:
        client = await proxy.join("T.*")
        recorder = await start_recorder(proxy, file)
        await proxy.fake.wait_held(["T.*"])
        await proxy.fake.emit(*live.values())
        await client.until_event(live["MSFT"])
        await client.until_events(len(client.events) + 3)
        assert await recorder.stop() == 0
        recorded = get_events(get_frames(read_recording(file)))
        await client.until_event(recorded[-1])
        for symbol in live:
            played = [event for event in recorded if json.loads(event)["sym"] == symbol]
            heard = [event for event in client.events if json.loads(event)["sym"] == symbol]
            first = heard.index(played[0])
            assert played == heard[first : first + len(played)]
        assert live["MSFT"] in recorded and live["AAPL"] not in recorded


async def test_recording_goes_on_over_an_ingest_that_is_replaced_and_shows_the_hole(tmp_path: Path) -> None:
    file = tmp_path / "day.pprec"
    async with running_proxy(tmp_path, constants=QUICK) as proxy:
        client = await proxy.join(*CHANNELS)
        recorder = await start_recorder(proxy, file)
        before = await send(proxy.fake, range(10))
        await until_recorded(file, before)
        standby = await proxy.start_standby()
        await proxy.ingest.stop()
        await proxy.fake.wait_held(CHANNELS, 20)

        async def is_recording() -> bool:
            state = await proxy.redis.get_upstream()
            return (
                state.get("recording") == "1" and state.get("state") == "live" and str(standby.pid) in state["holder"]
            )

        await until(is_recording, "the standby records", (recorder, standby), 20)
        after = await send(proxy.fake, range(10, 20))
        await client.until_events(len(before) + len(after))
        await until_recorded(file, before + after)
        assert await recorder.stop() == 0
        [hole] = [record for record in read_recording(file) if isinstance(record, Hole)]
        assert "another ingest took over" in hole.cause and hole.until_us > hole.time_us
        assert "1 holes" in recorder.output


async def send_until_rotated(proxy: Proxy, file: Path, number: int) -> list[bytes]:
    """Frames more than a second after the first are the next part's."""
    sent: list[bytes] = []

    async def is_rotated() -> bool:
        nonlocal sent
        sent += await send(proxy.fake, range(number + len(sent), number + len(sent) + 1))
        return file.with_name(f"{file.name}.1").exists()

    await until(is_rotated, "a second part")
    return sent


async def test_an_emptied_redis_doubles_and_loses_no_frame_and_a_killed_recorder_leaves_whole_parts(
    tmp_path: Path,
) -> None:
    file, killed_file = tmp_path / "day.pprec", tmp_path / "killed.pprec"
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join(*CHANNELS)
        recorder = await start_recorder(proxy, file)
        killed = await start_recorder(proxy, killed_file, "--rotate", "1s")
        await until(lambda: "killed.pprec: " in killed.output, "it records", (killed,))
        events = await send(proxy.fake, range(10))
        await until_recorded(file, events)
        proxy.redis.server.kill()
        events += await send(proxy.fake, range(10, 20))
        await proxy.redis.start_empty()
        await client.until_events(len(events))
        events += await send_until_rotated(proxy, killed_file, 20)
        await killed.end()  # kill -9
        await until_recorded(file, events)
        assert await recorder.stop() == 0
        assert [record for record in read_recording(file) if isinstance(record, Hole)] == []
        kept = get_events(get_frames(read_recording(killed_file)))
        at = events.index(kept[0])
        assert len(kept) > 8 and kept == events[at : at + len(kept)]


async def test_without_an_ingest_the_recorder_says_who_can_act_and_ends_cleanly(tmp_path: Path) -> None:
    file = tmp_path / "day.pprec"
    async with running_redis() as redis:
        command = python("shared.cli", "record", str(file))
        recorder = await Process.start(command, tmp_path, {"REDIS_URL": redis.url}, name="record")

        async def is_asking() -> bool:
            return bool(await redis.client.exists("polygon:{stocks}:recording"))

        try:
            await until(lambda: "no ingest is running: start one" in recorder.output, "it says so", (recorder,))
            assert await is_asking()
            assert await recorder.stop() == 0
        finally:
            await recorder.end()
        assert read_recording(file) == []
        assert not await is_asking()


async def test_without_a_redis_the_recorder_says_who_can_act_and_ends_cleanly(tmp_path: Path) -> None:
    environ = {"REDIS_URL": f"redis://127.0.0.1:{find_free_port()}"}
    recorder = await Process.start(python("shared.cli", "record", "day.pprec"), tmp_path, environ, name="record")
    try:
        await until(lambda: "Redis does not answer: start it" in recorder.output, "it says so", (recorder,))
        assert await recorder.stop(signal.SIGINT) == 0
    finally:
        await recorder.end()
    assert read_recording(tmp_path / "day.pprec") == []


async def test_a_recording_that_cannot_be_played_ends_ingest_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "day.pprec").write_text("hello")
    async with running_redis() as redis:
        environ = {"REDIS_URL": redis.url, "TEST_SCENARIO": "./day.pprec", "ENABLE_METRICS": "false"}
        ingest = await Process.start(python("ingest"), tmp_path, environ, name="ingest")
        try:
            assert await ingest.wait(20) == 2
        finally:
            await ingest.end()
        assert "TEST_SCENARIO: day.pprec: not a recording" in ingest.output
        assert "Traceback" not in ingest.output
