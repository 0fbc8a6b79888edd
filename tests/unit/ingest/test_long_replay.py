"""A long recording is replayed in constant memory.

`make soak-recording` (POLYGON_PROXY_SOAK=1) has the 100 M events of a day; without it they are half a million.
"""

import asyncio
import os
import time
from pathlib import Path

import pytest

import ingest.replay
from ingest.replay import Replay
from shared.recording import HEADER_BYTES, Frame, Record
from tests.recordings import BEGIN_US, write_recording

EVENTS = 100_000_000 if os.environ.get("POLYGON_PROXY_SOAK") else 500_000
FRAME_EVENTS = 100
MOST_GROWTH_MB = 16.0


def read_rss_mb() -> float:
    """Resident memory of this process in 10^6 bytes; proc(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def make_frame(number: int) -> Record:
    events = [
        b'{"ev":"T","sym":"S%03d","i":"%d","x":4,"p":%d.25,"s":100,"c":[14,41],"t":%d,"q":%d,"z":3}'
        % (place, number * place, place + 20, BEGIN_US // 1000, number)
        for place in range(FRAME_EVENTS)
    ]
    return Frame(BEGIN_US + number, b"[%b]" % b",".join(events))


def write_long(path: Path) -> None:
    """The same thousand frames again and again; their chunks are copied, so it takes seconds."""
    write_recording(path, [make_frame(number) for number in range(1000)])
    chunks = path.read_bytes()[HEADER_BYTES:]
    with path.open("ab") as file:
        for _ in range(EVENTS // FRAME_EVENTS // 1000 - 1):
            file.write(chunks)


@pytest.mark.timeout(1800)
async def test_memory_does_not_grow_while_a_long_recording_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.replay, "SETTLE_S", 0.01)
    await asyncio.to_thread(write_long, tmp_path / "day")
    begin = time.monotonic()
    replay = Replay(tmp_path / "day", None)
    found_s = time.monotonic() - begin
    replay.set_held(frozenset(["T.*"]))
    frames = 0
    early_mb = most_mb = 0.0

    def emit(_frame: bytes) -> None:
        nonlocal frames, early_mb, most_mb
        frames += 1
        if frames % 1000 == 0:
            rss_mb = read_rss_mb()
            early_mb = early_mb or rss_mb
            most_mb = max(most_mb, rss_mb)

    await replay.run(emit)
    taken_s = time.monotonic() - begin
    size_mb = (tmp_path / "day").stat().st_size / 1e6
    (tmp_path / "day").unlink()  # pytest would keep it for its next three runs
    print(
        f"{frames * FRAME_EVENTS:,} events, {size_mb:,.0f} MB: heads read in {found_s:.2f} s,"
        f" replayed in {taken_s:.0f} s, memory {early_mb:.0f} MB after 0.1 M events, {most_mb:.0f} MB at most"
    )
    assert frames * FRAME_EVENTS == EVENTS
    assert most_mb - early_mb <= MOST_GROWTH_MB
