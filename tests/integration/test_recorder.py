"""What a recorder says when nothing comes, on a real Redis; what it writes is proven in tests/acceptance."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from shared.names import Names
from shared.recorder import Recorder
from shared.recording import Frame, encode_record
from shared.recording_writer import RecordingWriter

NAMES = Names("stocks")
HINT = "ingest receives what clients hold"


@asynccontextmanager
async def recording(redis: "Redis", path: Path) -> AsyncIterator[Recorder]:
    """One that has an ingest; it is stopped, and has ended, behind the context."""
    await redis.set(NAMES.ingest, "1")
    recorder, stop = Recorder(redis, NAMES, RecordingWriter(path, 7)), asyncio.Event()
    task = asyncio.create_task(recorder.run(stop))
    try:
        await until(lambda: "not answered" not in recorder.trouble)
        yield recorder
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


async def until(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not fact():
            await asyncio.sleep(0.005)


async def test_a_recorder_to_whom_nothing_comes_says_why_after_a_while(
    redis: "Redis", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.recorder.ASK_EVERY_S", 0.01)
    monkeypatch.setattr("shared.recorder._FIRST_WITHIN_S", 0.2)
    async with recording(redis, tmp_path / "day") as recorder:
        assert recorder.trouble == "", "not at once"
        await until(lambda: HINT in recorder.trouble)
    assert HINT in recorder.trouble, "who stopped it, for nothing came, reads it last"


async def test_a_recorder_that_has_got_a_frame_no_longer_says_that_nothing_comes(
    redis: "Redis", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.recorder._FIRST_WITHIN_S", 0.0)
    monkeypatch.setattr("shared.recorder.ASK_EVERY_S", 60.0)  # stopped before it asks again
    async with recording(redis, tmp_path / "day") as recorder:
        assert HINT in recorder.trouble
        async with asyncio.timeout(5):
            while not recorder.frames:  # what is there before it first reads is not its
                await redis.xadd(NAMES.frames, {"after": b"", "records": encode_record(Frame(1, b"[]"))})
                await asyncio.sleep(0.01)
    assert recorder.trouble == ""
