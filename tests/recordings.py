"""Recordings for tests: written from a list of frames, and played into a list with the times of arrival."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ingest.replay import Replay
from shared.recording import Frame, Record
from shared.recording_reader import RecordingReader
from shared.recording_writer import RecordingWriter

BEGIN_US = 1_795_444_200_000_000  # 2026-11-23 09:30 in New York


def write_recording(path: Path, records: Iterable[Record], *, per_chunk: int = 100) -> Path:
    """Each `per_chunk` records are a chunk, if they do not span more than a second."""
    writer = RecordingWriter(path, 7)
    for number, record in enumerate(records, 1):
        writer.add(record, 0.0)
        if number % per_chunk == 0:
            writer.close_chunk()
    writer.close()
    return path


def read_recording(path: Path) -> list[Record]:
    """All of it; AssertionError if anything of it was left out."""
    damages: list[object] = []
    records = [record for chunk in RecordingReader(path, damages.append).chunks() for record in chunk.records]
    assert damages == []
    return records


def make_trades(count: int, every_us: int) -> list[Record]:
    """Frames of one trade each, numbered from 0, of AAPL and MSFT in turn."""
    return [
        Frame(
            BEGIN_US + number * every_us,
            b'[{"ev":"T","sym":"%b","p":1.50,"s":1795444200000,"t":%d,"q":%d}]'
            % (b"MSFT" if number % 2 else b"AAPL", BEGIN_US // 1000 + number * every_us // 1000, number),
        )
        for number in range(count)
    ]


class Played(NamedTuple):
    """A frame that a replay emitted, and when (loop time)."""

    at_s: float
    frame: bytes


async def play(replay: Replay, *held: str, within_s: float = 20.0) -> list[Played]:
    """All that it emits."""
    loop = asyncio.get_running_loop()
    played: list[Played] = []
    replay.set_held(frozenset(held))
    async with asyncio.timeout(within_s):
        await replay.run(lambda frame: played.append(Played(loop.time(), frame)))
    return played
