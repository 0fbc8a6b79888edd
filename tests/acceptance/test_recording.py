"""What Polygon sent is recorded by the real programs, and comes again from the file byte for byte.

Fake Polygon -> ingest -> redis-server -> `polygon-proxy record`; then ingest replays the file to a client.
"""

import json
import signal
from pathlib import Path

from shared.recording import Frame, Hole, Record
from tests.fakes.polygon import FakePolygon
from tests.processes import Process, python, until
from tests.proxy import Proxy, running_proxy
from tests.recordings import read_recording
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
        events = await send(proxy.fake, range(400))
        await client.until_events(len(events))
        await until_recorded(file, events)
        assert await recorder.stop(signal.SIGINT) == 0
        assert f"{file.name}: " in recorder.output and "0 holes" in recorder.output
        await client.close()
        await replay(proxy, file, events)
        again = await Process.start(python("shared.cli", "record", str(file)), tmp_path, proxy.environ, name="again")
        assert await again.wait() == 1
        assert "exists, and is not written over" in again.output
        seen = await Process.start(python("shared.cli", "inspect", str(file)), tmp_path, proxy.environ, name="inspect")
        assert await seen.wait() == 0
        assert f" events {len(events):,} " in " ".join(seen.output.split())


async def test_a_killed_recorder_leaves_what_it_had_and_rotation_its_parts(tmp_path: Path) -> None:
    file = tmp_path / "day.pprec"
    async with running_proxy(tmp_path) as proxy:
        await proxy.join(*CHANNELS)
        recorder = await start_recorder(proxy, file, "--rotate", "1s")
        events = await send(proxy.fake, range(50))
        await until_recorded(file, events)
        # Frames more than a second after the first are the next part's.
        number = 50

        async def is_rotated() -> bool:
            nonlocal number, events
            events += await send(proxy.fake, range(number, number + 1))
            number += 1
            return (tmp_path / "day.pprec.1").exists()

        await until(is_rotated, "a second part", (recorder,))
        await recorder.end()  # kill -9
        events_read = get_events(get_frames(read_recording(file)))
        assert len(events_read) >= 200 and events_read == events[: len(events_read)]


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


async def test_a_redis_that_comes_back_empty_doubles_and_loses_no_frame(tmp_path: Path) -> None:
    file = tmp_path / "day.pprec"
    async with running_proxy(tmp_path) as proxy:
        client = await proxy.join(*CHANNELS)
        recorder = await start_recorder(proxy, file)
        before = await send(proxy.fake, range(10))
        await until_recorded(file, before)
        proxy.redis.server.kill()
        meanwhile = await send(proxy.fake, range(10, 20))
        await proxy.redis.start_empty()
        await client.until_events(len(before) + len(meanwhile))
        after = await send(proxy.fake, range(20, 30))
        events = before + meanwhile + after
        await until_recorded(file, events)
        assert await recorder.stop() == 0
        assert [record for record in read_recording(file) if isinstance(record, Hole)] == []


async def test_without_an_ingest_the_recorder_says_who_can_act_and_ends_cleanly(tmp_path: Path) -> None:
    file = tmp_path / "day.pprec"
    async with running_proxy(tmp_path, gateways=0) as proxy:
        await proxy.ingest.stop()
        command = python("shared.cli", "record", str(file))
        recorder = await Process.start(command, tmp_path, proxy.environ, name="record")

        async def is_asking() -> bool:
            return bool(await proxy.redis.client.exists("polygon:{stocks}:recording"))

        await until(is_asking, "it asks", (recorder,))
        assert await recorder.stop() == 0
        assert "no ingest is running: start one" in recorder.output
        assert read_recording(file) == []
        assert not await is_asking()
