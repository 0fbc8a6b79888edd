"""Recordings of some frames, written and read as a whole."""

from pathlib import Path

from shared import recording
from shared.recording import (
    HEADER_BYTES,
    Frame,
    Record,
    Rotation,
)
from shared.recording_reader import Damage, RecordingReader
from shared.recording_writer import RecordingWriter

BEGIN_US = 1_795_368_000_000_000
FRAME = b'[{"ev":"T","sym":"AAPL","p":1.50,"q":%d}]'


def write(path: Path, records: list[Record], rotation: Rotation | None = None, *, per_chunk: int = 10) -> None:
    """Each `per_chunk` records are a chunk."""
    writer = RecordingWriter(path, 7, rotation)
    for number, record in enumerate(records, 1):
        writer.add(record, 0.0)
        if number % per_chunk == 0:
            writer.close_chunk()
    writer.close()


def make_frames(count: int, every_us: int = 1000) -> list[Record]:
    return [Frame(BEGIN_US + number * every_us, FRAME % number) for number in range(count)]


def read(path: Path, from_us: int = 0) -> tuple[list[Record], list[Damage]]:
    damages: list[Damage] = []
    reader = RecordingReader(path, damages.append)
    return [record for chunk in reader.chunks(from_us) for record in chunk.records], damages


def read_alone(part: Path) -> list[Record]:
    """Without the parts behind it."""
    alone = part.with_name("alone")
    alone.write_bytes(part.read_bytes())
    return read(alone)[0]


def find_offsets(path: Path) -> list[int]:
    """Where chunks begin, and where the last ends."""
    data = path.read_bytes()
    offsets = [HEADER_BYTES]
    while offsets[-1] < len(data):
        head = recording.find_head(data, offsets[-1])
        assert head is not None
        offsets.append(offsets[-1] + recording.HEAD_BYTES + head.body_bytes)
    return offsets
