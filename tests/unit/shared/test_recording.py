"""Recordings: whatever a kill or a bad disk leaves, all whole chunks can be read, and nothing else is."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import recording
from shared.recording import (
    HEADER_BYTES,
    BadRecording,
    Frame,
    Header,
    Hole,
    Record,
    Rotation,
    encode_chunk,
    encode_header,
    encode_record,
    iterate_records,
)
from shared.recording_reader import Damage, RecordingReader, find_parts
from tests.unit.shared.recorded import BEGIN_US, find_offsets, make_frames, read, read_alone, write


def test_what_was_written_is_read(tmp_path: Path) -> None:
    records = [*make_frames(25), Hole(BEGIN_US + 25_000, BEGIN_US + 26_000, "Redis was away"), Frame(BEGIN_US, b"")]
    write(tmp_path / "day", records)
    assert read(tmp_path / "day") == (records, [])
    span = RecordingReader(tmp_path / "day").read_span()
    assert span[:4] == (BEGIN_US, BEGIN_US + 25_000, 3, 26)
    assert span.file_bytes == (tmp_path / "day").stat().st_size


def test_a_file_cut_at_any_byte_of_its_last_chunks_keeps_all_whole_ones(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    records = make_frames(60)
    write(whole, records)
    offsets, data = find_offsets(whole), whole.read_bytes()
    for size in range(offsets[-4], len(data)):
        cut.write_bytes(data[:size])
        chunks = sum(offset <= size for offset in offsets) - 1
        begin = offsets[chunks]
        torn = [] if begin == size else [Damage(cut, begin, size - begin, True)]
        assert read(cut) == (records[: chunks * 10], torn)


def test_a_recording_whose_next_part_has_no_whole_header_ends_before_it(tmp_path: Path) -> None:
    """Its recorder was killed, or the disk was full, just as that part was begun."""
    path, begun = tmp_path / "day", tmp_path / "day.2"
    records = make_frames(60, 100_000)
    write(path, records, Rotation(2, 0))
    kept = [record for part in (path, tmp_path / "day.1") for record in read_alone(part)]
    header = begun.read_bytes()[:HEADER_BYTES]
    for size in range(HEADER_BYTES):
        begun.write_bytes(header[:size])
        assert read(path) == (kept, [Damage(begun, 0, size, True)])
    for stranger in (b"a stranger's, and longer than a header is", encode_header(Header(8, 2)), b"\0" * HEADER_BYTES):
        begun.write_bytes(stranger)
        assert read(path) == (kept, [Damage(begun, 0, len(stranger), True)])


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_file_is_refused_at_once(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "odd")
    with pytest.raises(BadRecording, match="odd: is not a file"):
        RecordingReader(tmp_path / "odd")


def test_what_is_no_path_is_refused() -> None:
    with pytest.raises(BadRecording, match=r"'a\\x00b': is not a path"):
        RecordingReader(Path("a\0b"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_cut_anywhere_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.mktemp("cut")
    records: list[Record] = [
        Frame(BEGIN_US + place, body) for place, body in enumerate(data.draw(st.lists(st.binary(max_size=200))))
    ]
    write(directory / "whole", records, per_chunk=data.draw(st.integers(1, 5)))
    whole = (directory / "whole").read_bytes()
    size = data.draw(st.integers(0, len(whole)))
    (directory / "cut").write_bytes(whole[:size])
    if size < HEADER_BYTES:
        with pytest.raises(BadRecording, match="cut: not a recording"):
            RecordingReader(directory / "cut")
        return
    got, damages = read(directory / "cut")
    assert got == records[: len(got)]
    assert all(damage.is_tail and str(damage.offset) in str(damage) for damage in damages) and len(damages) <= 1


def test_a_flipped_byte_costs_its_chunk_and_is_named_by_offset(tmp_path: Path) -> None:
    path = tmp_path / "day"
    records = make_frames(30)
    write(path, records)
    offsets, data = find_offsets(path), path.read_bytes()
    for at in range(HEADER_BYTES, len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        hit = max(number for number, offset in enumerate(offsets) if offset <= at)
        got, [damage] = read(path)
        assert got == records[: hit * 10] + records[hit * 10 + 10 :]
        assert (damage.offset, damage.size) == (offsets[hit], offsets[hit + 1] - offsets[hit])


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "day"
    write(path, make_frames(3))
    data = path.read_bytes()
    for at in range(HEADER_BYTES):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        with pytest.raises(BadRecording, match=r"day: (not a recording|its header is damaged)"):
            RecordingReader(path)


def test_the_header_of_another_version_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "VERSION", 2)
    write(tmp_path / "day", make_frames(3))
    monkeypatch.undo()
    with pytest.raises(BadRecording, match="version 2, and this program reads version 1"):
        RecordingReader(tmp_path / "day")


def test_a_chunk_whose_records_make_no_sense_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "day"
    write(path, make_frames(10))
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(encode_chunk(b"\x09" * 40, 1, 2, 1))
    got, [damage] = read(path)
    assert (got, damage.offset, damage.is_tail) == (make_frames(10), size, False)


@given(st.binary(max_size=100))
def test_records_that_cannot_be_are_refused(raw: bytes) -> None:
    try:
        records = list(iterate_records(raw))
    except ValueError:
        return
    assert len(b"".join(map(encode_record, records))) >= len(records) * 13


@pytest.mark.parametrize("rotation", [Rotation(2, 0), Rotation(0, 400)])
def test_parts_are_read_as_one_and_alone(tmp_path: Path, rotation: Rotation) -> None:
    path = tmp_path / "day"
    records = make_frames(100, 100_000)
    write(path, records, rotation)
    parts = find_parts(path)
    assert len(parts) >= 4 and parts[1] == tmp_path / "day.1"
    assert all(part.stat().st_size <= 400 for part in parts) or rotation.seconds
    assert read(path) == (records, [])
    first = read(parts[1])[0]
    at = records.index(first[0])
    assert at > 0 and first == records[at : at + len(first)] and len(first) < 50
    write(tmp_path / "other", records)
    (tmp_path / "other").rename(parts[2])  # a stranger ends the sequence
    assert find_parts(path) == parts[:2]


def test_reading_begins_at_a_time_without_reading_what_is_before(tmp_path: Path) -> None:
    path = tmp_path / "day"
    records = make_frames(60)
    write(path, records)
    offsets = find_offsets(path)
    with path.open("r+b") as file:
        file.seek(offsets[1] - 1)
        file.write(b"\0\0")  # the end of the first body and the second head
    got, damages = read(path, BEGIN_US + 35_000)
    assert got == records[30:]
    assert [damage.offset for damage in damages] == [offsets[1]]  # a head is looked at, a body is not


def measure_reading(path: Path) -> int:
    """The most memory (bytes) that reading all of it takes."""
    tracemalloc.start()
    for chunk in RecordingReader(path).chunks():
        assert chunk.records
    RecordingReader(path).read_span()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_of_the_reader_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks: list[Any] = []
    for repeats in (5, 50):
        path = tmp_path / f"{repeats}"
        write(path, make_frames(800), per_chunk=800)
        data = path.read_bytes()
        with path.open("ab") as file:
            for _ in range(repeats - 1):
                file.write(data[HEADER_BYTES:])
        peaks.append(measure_reading(path))
    assert peaks[1] < peaks[0] * 1.1
