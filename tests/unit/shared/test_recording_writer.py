"""A recording being written: what is closed is whole, whatever the disk does, and nothing is written over."""

import errno
import os
from pathlib import Path

import pytest

from shared.recording import (
    CHUNK_BYTES,
    Frame,
    Hole,
    Rotation,
    parse_rotation,
)
from shared.recording_writer import RecordingWriter
from tests.unit.shared.recorded import BEGIN_US, read, read_alone, write


def test_nothing_is_written_over_or_behind_a_file_that_exists(tmp_path: Path) -> None:
    path = tmp_path / "day"
    path.write_bytes(b"PPREC torn")
    with pytest.raises(FileExistsError):
        RecordingWriter(path, 7)
    assert path.read_bytes() == b"PPREC torn"
    (tmp_path / "night.1").touch()
    with pytest.raises(FileExistsError):
        RecordingWriter(tmp_path / "night", 7)
    assert not (tmp_path / "night").exists()


def test_a_chunk_is_closed_after_a_second_or_256_kib(tmp_path: Path) -> None:
    path = tmp_path / "day"
    writer = RecordingWriter(path, 7)
    writer.add(Frame(BEGIN_US, b"[]"), 10.0)
    writer.tick(10.9)
    assert read(path)[0] == []
    writer.tick(11.0)
    assert len(read(path)[0]) == 1
    writer.add(Frame(BEGIN_US + 1, b"[]"), 12.0)
    writer.add(Frame(BEGIN_US + 1_000_001, b"[]"), 12.0)  # read late, received a second later
    assert len(read(path)[0]) == 2
    writer.add(Frame(BEGIN_US + 1_000_002, b"x" * CHUNK_BYTES), 12.0)
    assert len(read(path)[0]) == 4
    writer.close()


def test_a_frame_too_large_for_a_record_becomes_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.recording_writer.MAX_FRAME_BYTES", 10)
    write(tmp_path / "day", [Frame(BEGIN_US, b"x" * 11)])
    assert read(tmp_path / "day")[0] == [Hole(BEGIN_US, BEGIN_US, "a frame of 11 bytes")]


def test_a_full_disk_leaves_whole_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "day"
    writer = RecordingWriter(path, 7)
    writer.add(Frame(BEGIN_US, b"[1]"), 0.0)
    writer.close_chunk()
    size, real = path.stat().st_size, os.write

    def write_some(descriptor: int, data: bytes) -> int:
        if len(data) < 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:30])

    monkeypatch.setattr(os, "write", write_some)
    writer.add(Frame(BEGIN_US, b"[2]"), 0.0)
    with pytest.raises(OSError, match="No space"):
        writer.close()
    monkeypatch.undo()
    assert path.stat().st_size == size
    assert read(path) == ([Frame(BEGIN_US, b"[1]")], [])


def test_a_part_that_cannot_be_begun_leaves_the_one_before_whole(tmp_path: Path) -> None:
    path = tmp_path / "day"
    writer = RecordingWriter(path, 7, Rotation(2, 0))
    (tmp_path / "day.1").write_bytes(b"came meanwhile")
    writer.add(Frame(BEGIN_US, b"[1]"), 0.0)
    writer.close_chunk()
    writer.add(Frame(BEGIN_US + 3_000_000, b"[2]"), 3.0)
    for _ in range(2):
        with pytest.raises(FileExistsError) as caught:
            writer.close_chunk()
        assert caught.value.filename == str(tmp_path / "day.1") or caught.value.filename == tmp_path / "day.1"
    with pytest.raises(FileExistsError):
        writer.close()
    assert read_alone(path) == [Frame(BEGIN_US, b"[1]")]
    assert (tmp_path / "day.1").read_bytes() == b"came meanwhile"


def test_a_part_whose_header_finds_no_room_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "day"
    writer = RecordingWriter(path, 7, Rotation(2, 0))
    writer.add(Frame(BEGIN_US, b"[1]"), 0.0)
    writer.close_chunk()
    writer.add(Frame(BEGIN_US + 3_000_000, b"[2]"), 3.0)

    def write_nothing(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "write", write_nothing)
        with pytest.raises(OSError, match=r"No space left on device: .*day\.1"):
            writer.close_chunk()
    assert not (tmp_path / "day.1").exists()
    writer.close()  # there is room again
    assert read(path) == ([Frame(BEGIN_US, b"[1]"), Frame(BEGIN_US + 3_000_000, b"[2]")], [])


def test_a_sync_under_way_survives_the_end_of_its_part(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "day", 7)
    writer.add(Frame(BEGIN_US, b"[1]"), 0.0)
    sync = writer.begin_sync()
    writer.close()
    sync()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync()  # it keeps nothing open


@pytest.mark.parametrize(
    ("text", "rotation"),
    [
        ("1h", Rotation(3600, 0)),
        ("90s", Rotation(90, 0)),
        ("500MB", Rotation(0, 500_000_000)),
        ("", None),
        ("0h", None),
    ],
)
def test_rotation_is_a_time_or_a_size(text: str, rotation: Rotation | None) -> None:
    if rotation is not None:
        assert parse_rotation(text) == rotation
        return
    with pytest.raises(ValueError, match="such as 1h"):
        parse_rotation(text)
