"""A replay: byte for byte what was recorded and is held, each frame at its time, in bounded memory."""

import asyncio
import itertools
import json
import os
import time
from datetime import time as time_of_day
from pathlib import Path

import pytest

import ingest.replay
from ingest.replay import BACKLOG_BYTES, Replay
from shared.recording import BadRecording, Frame, Hole, Record
from tests.recordings import BEGIN_US, Played, make_trades, play, write_recording

IS_ALONE = bool(os.environ.get("POLYGON_PROXY_SOAK"))
LATE_S = 0.005 if IS_ALONE else 0.1  # p99; the machine is ours alone only there
FRAMES_BYTES = 256 * 1024


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.replay, "SETTLE_S", 0.01)


def read_numbers(played: list[Played]) -> list[int]:
    return [event["q"] for each in played for event in json.loads(each.frame)]


def find_lateness(played: list[Played], every_s: float) -> float:
    """The p99 (s) of how far frames are from where the first one puts them, if it was on time."""
    late = sorted(abs(each.at_s - played[0].at_s - number * every_s) for number, each in enumerate(played))
    return late[len(late) * 99 // 100]


@pytest.mark.parametrize(("speed", "every_us"), [(1.0, 5_000), (10.0, 50_000)])
async def test_each_frame_leaves_at_its_time(tmp_path: Path, speed: float, every_us: int) -> None:
    count = 2000 if IS_ALONE else 200
    path = write_recording(tmp_path / "day", make_trades(count, every_us), per_chunk=20)
    played = await play(Replay(path, speed), "T.*")
    assert read_numbers(played) == list(range(count))
    lateness = find_lateness(played, 0.005)
    print(f"speed {speed:g}: p99 {lateness * 1000:.2f} ms")
    assert lateness <= LATE_S


async def test_a_new_speed_is_heard_in_the_midst_of_a_silence(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "day", make_trades(2, 1_000_000_000))
    replay = Replay(path, 1.0)
    asyncio.get_running_loop().call_later(0.1, replay.set_speed, 1000.0)
    begin = time.monotonic()
    assert read_numbers(await play(replay, "T.*")) == [0, 1]
    assert time.monotonic() - begin < 5


async def test_at_full_speed_an_hour_takes_a_moment_and_the_event_loop_goes_on(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "day", make_trades(3600, 1_000_000))
    stalls: list[float] = []

    async def watch() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            stalls.append(time.monotonic() - before)

    watching = asyncio.create_task(watch())
    played = await play(Replay(path, None), "T.*")
    watching.cancel()
    assert read_numbers(played) == list(range(3600))
    assert len(stalls) > 3 and sorted(stalls)[len(stalls) // 2] < 0.1


async def test_frames_are_the_recorded_bytes_and_events_that_nobody_holds_stay_out(tmp_path: Path) -> None:
    frames = [
        b'[{"ev":"T","sym":"AAPL","p":1.50}, {"ev":"Q","sym":"AAPL","bp":4.522e-05}]',
        b'[{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}]',
        b'[{"ev":"T","sym":"AAPL","p":2},{"ev":"status","sym":"X"},{"ev":"T","sym":"MSFT"}]',
        b"no JSON",
    ]
    records: list[Record] = [Frame(BEGIN_US, frame) for frame in frames]
    path = write_recording(tmp_path / "day", [*records, Hole(BEGIN_US, BEGIN_US, "x")])
    trades = [b'[{"ev":"T","sym":"AAPL","p":1.50}]', b'[{"ev":"T","sym":"AAPL","p":2}]']
    assert [each.frame for each in await play(Replay(path, None), "T.AAPL")] == trades
    assert [each.frame for each in await play(Replay(path, None), "*")] == [
        frames[0],
        b'[{"ev":"T","sym":"AAPL","p":2},{"ev":"T","sym":"MSFT"}]',
    ]
    assert await play(Replay(path, None), "T.TSLA", "Q.MSFT") == []


async def test_a_large_frame_leaves_in_parts(tmp_path: Path) -> None:
    event = b'{"ev":"T","sym":"AAPL","pad":"%b"}' % (b"x" * 1000)
    path = write_recording(tmp_path / "day", [Frame(BEGIN_US, b"[%b]" % b",".join([event] * 1000))])
    played = [each.frame for each in await play(Replay(path, None), "*")]
    assert len(played) > 3 and max(map(len, played)) <= FRAMES_BYTES
    assert b",".join(frame[1:-1] for frame in played) == b",".join([event] * 1000)


async def test_nothing_leaves_while_too_much_waits_for_redis(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "day", make_trades(1000, 1000))
    backlog = 0
    asked = 0

    def get_backlog() -> int:
        nonlocal backlog, asked
        asked += 1
        if asked % 5 == 0:
            backlog = 0  # Redis answered
        return backlog

    emitted = most = 0

    def emit(_frame: bytes) -> None:
        nonlocal backlog, emitted, most
        emitted += 1
        backlog += BACKLOG_BYTES // 3
        most = max(most, backlog)

    replay = Replay(path, None, get_backlog=get_backlog)
    replay.set_held(frozenset(["*"]))
    await replay.run(emit)
    assert emitted == 1000 and asked > 1000
    assert most <= BACKLOG_BYTES * 4 // 3


async def test_it_begins_at_a_time_of_day_in_new_york(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "day", make_trades(100, 100_000), per_chunk=7)  # 9:30:00 to 9:30:09.9
    assert read_numbers(await play(Replay(path, None, time_of_day(9, 30, 5)), "*")) == list(range(50, 100))
    replay = Replay(path, None, time_of_day(9, 30, 5))
    await play(replay, "*")
    assert replay.get_status() == {
        "position_s": 4.9,
        "total_s": 4.9,
        "recorded_at": "2026-11-23T09:30:09.900-05:00",
        "frames": 50,
        "passes": 1,
    }
    for wrong in (time_of_day(9, 29), time_of_day(9, 30, 11)):
        with pytest.raises(BadRecording, match="day: reaches from 09:30:00 to 09:30:09 New York, without 09:"):
            Replay(path, None, wrong)


async def test_a_time_after_midnight_is_found(tmp_path: Path) -> None:
    evening_us = BEGIN_US + 14 * 3_600_000_000  # 23:30
    records: list[Record] = [
        Frame(evening_us + n * 60_000_000, b'[{"ev":"T","sym":"A","q":%d}]' % n) for n in range(60)
    ]
    path = write_recording(tmp_path / "night", records)
    assert read_numbers(await play(Replay(path, None, time_of_day(0, 10)), "*")) == list(range(40, 60))


async def test_it_loops_from_its_start_until_it_is_cancelled(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "day", make_trades(10, 1000))
    replay = Replay(path, None, loop=True)
    replay.set_held(frozenset(["*"]))
    numbers: list[int] = []
    enough = asyncio.Event()

    def emit(frame: bytes) -> None:
        numbers.extend(event["q"] for event in json.loads(frame))
        if len(numbers) >= 35:
            enough.set()

    playing = asyncio.create_task(replay.run(emit))
    async with asyncio.timeout(10):
        await enough.wait()
    playing.cancel()
    assert numbers[:35] == list(itertools.islice(itertools.cycle(range(10)), 35))
    assert replay.get_status()["passes"] == 3


@pytest.mark.parametrize("every_us", [5_000, 0, -1000], ids=["in a silence", "equal times", "a clock set back"])
async def test_what_was_stopped_goes_on_with_the_next_frame(tmp_path: Path, every_us: int) -> None:
    records = make_trades(5, 1000) + make_trades(30, every_us)[5:]
    replay = Replay(write_recording(tmp_path / "day", records, per_chunk=7), 1.0)
    replay.set_held(frozenset(["*"]))
    numbers: list[int] = []
    runs = 0

    def emit(frame: bytes) -> None:
        numbers.extend(event["q"] for event in json.loads(frame))
        if len(numbers) % 4 == 0:
            playing.cancel()

    while not replay.get_status()["passes"] and runs < 20:
        playing = asyncio.create_task(replay.run(emit))
        await asyncio.wait([playing])
        runs += 1
    assert numbers == list(range(30)) and 2 < runs < 20


async def test_a_recording_without_duration_loops_once_a_second_and_one_without_frames_is_over(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "day", make_trades(1, 1))
    played: list[bytes] = []
    replay = Replay(path, 1.0, loop=True)
    replay.set_held(frozenset({"*"}))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(replay.run(played.append), 1.5)
    assert len(played) == 2
    silent = write_recording(tmp_path / "hole", [*make_trades(1, 1), Hole(BEGIN_US + 10_000_000, BEGIN_US, "x")])
    replay = Replay(silent, None, time_of_day(9, 30, 5), loop=True)
    assert await asyncio.wait_for(play(replay, "*"), 5) == []


async def test_a_replay_from_a_time_of_day_goes_on_and_loops_from_there(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "day", make_trades(12, 200_000), per_chunk=2)
    replay = Replay(path, None, time_of_day(9, 30, 1), loop=True)
    replay.set_held(frozenset(["*"]))
    numbers: list[int] = []

    def emit(frame: bytes) -> None:
        numbers.extend(event["q"] for event in json.loads(frame))
        playing.cancel()

    while len(numbers) < 14:
        playing = asyncio.create_task(replay.run(emit))
        await asyncio.wait([playing])
    assert numbers[:14] == [*range(5, 12), *range(5, 12)]


async def test_it_begins_once_something_is_held_and_follows_what_is(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "day", make_trades(40, 10_000))
    replay = Replay(path, 1.0)
    frames: list[bytes] = []

    def emit(frame: bytes) -> None:
        frames.append(frame)
        if len(frames) == 5:
            replay.set_held(frozenset(["T.MSFT"]))

    playing = asyncio.create_task(replay.run(emit))
    await asyncio.sleep(0.1)  # a tenth of the recording's time, and nobody was there
    assert frames == []
    replay.set_held(frozenset(["T.AAPL"]))
    async with asyncio.timeout(10):
        await playing
    numbers = [json.loads(frame)[0]["q"] for frame in frames]
    assert numbers == [0, 2, 4, 6, 8, *range(9, 40, 2)]


async def test_rewritten_times_are_now_and_all_else_is_as_recorded(tmp_path: Path) -> None:
    records = make_trades(20, 10_000)
    path = write_recording(tmp_path / "day", records)
    now_ms = time.time_ns() // 1_000_000
    played = await play(Replay(path, 1.0, rewrite_times=True), "*")
    before = [json.loads(record.data)[0] for record in records if isinstance(record, Frame)]
    after = [json.loads(each.frame)[0] for each in played]
    [shift_ms] = {new.pop("t") - old.pop("t") for new, old in zip(after, before, strict=True)}
    assert after == before  # `s`, a trade's size, as well
    assert shift_ms % 1000 == 0 and -1000 <= BEGIN_US // 1000 + shift_ms - now_ms <= 5000


async def test_what_comes_too_late_slips_instead_of_piling_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.replay, "SLIP_S", 0.05)
    path = write_recording(tmp_path / "day", make_trades(20, 10_000))
    times: list[float] = []

    def emit(_frame: bytes) -> None:
        times.append(time.monotonic())
        if len(times) == 5:
            time.sleep(0.2)  # the machine stood still

    replay = Replay(path, 1.0)
    replay.set_held(frozenset(["*"]))
    await replay.run(emit)
    assert times[-1] - times[5] >= 0.1


def test_an_empty_recording_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match="empty: holds no frame"):
        Replay(write_recording(tmp_path / "empty", []))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BadRecording, match="text: not a recording"):
        Replay(tmp_path / "text")
    with pytest.raises(BadRecording, match=r"nowhere: cannot be read \(No such file or directory\)"):
        Replay(tmp_path / "nowhere")
