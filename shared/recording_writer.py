"""Writes a recording (shared/recording.py), in parts if it is to be rotated.

What is in a closed chunk is in the file, whatever becomes of this process; what is in the file is on the disk, whatever
becomes of the machine, after a sync, after a rotation and after `close`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.recording import (
    CHUNK_BYTES,
    CHUNK_S,
    MAX_FRAME_BYTES,
    Frame,
    Header,
    Hole,
    Record,
    Rotation,
    encode_chunk,
    encode_header,
    encode_record,
)

_NEVER: Final = Rotation(0, 0)


def get_part_path(path: Path, part: int) -> Path:
    """FILE, FILE.1, FILE.2 and so on."""
    return path if part == 0 else path.with_name(f"{path.name}.{part}")


class RecordingWriter:
    """Owns the file that is being written.  Every call may raise OSError; all closed chunks are whole even then.

    Memory: one chunk, so at most MAX_RAW_BYTES.
    """

    def __init__(self, path: Path, recording: int, rotation: Rotation | None = None) -> None:
        """`recording` is any number that no other recording has, such as the time; FileExistsError for a file."""
        self._path = path
        self._rotation = rotation or _NEVER
        if get_part_path(path, 1).exists():
            raise FileExistsError(f"{get_part_path(path, 1)} exists, and would be read as a part of {path}")
        self._closed_bytes = 0  # of the parts before
        self._open(Header(recording, 0))
        self._start_chunk()

    @property
    def path(self) -> Path:
        """The part that is being written."""
        return get_part_path(self._path, self._header.part)

    @property
    def bytes_written(self) -> int:
        """In all parts."""
        return self._closed_bytes + self._part_bytes

    def _open(self, header: Header) -> None:
        """Go on with a new part, which has its header; if that cannot be, all stays as it was."""
        path, data = get_part_path(self._path, header.part), encode_header(header)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _write_all(descriptor, data)
        except OSError as exc:
            os.close(descriptor)
            path.unlink()
            raise OSError(exc.errno, exc.strerror, str(path)) from None
        self._descriptor, self._header = descriptor, header
        self._part_bytes = len(data)
        self._part_from_us: int | None = None

    def _start_chunk(self) -> None:
        self._records: list[bytes] = []
        self._raw_bytes = 0
        self._frames = 0
        self._first_us = self._last_us = 0
        self._opened_at_s = 0.0

    def add(self, record: Record, now_s: float) -> None:
        """Take a record in; `now_s` is any clock's that runs steadily.  A frame above 16 MiB becomes a hole."""
        if isinstance(record, Frame) and len(record.data) > MAX_FRAME_BYTES:
            record = Hole(record.time_us, record.time_us, f"a frame of {len(record.data)} bytes")
        if self._records and abs(record.time_us - self._first_us) >= CHUNK_S * 1e6:
            self.close_chunk()
        data = encode_record(record)
        if not self._records:
            self._first_us = self._last_us = record.time_us
            self._opened_at_s = now_s
        self._records.append(data)
        self._raw_bytes += len(data)
        self._frames += isinstance(record, Frame)
        self._first_us = min(self._first_us, record.time_us)
        self._last_us = max(self._last_us, record.time_us)
        if self._raw_bytes >= CHUNK_BYTES:
            self.close_chunk()

    def tick(self, now_s: float) -> None:
        """Close a chunk that is old enough; to be called several times a second."""
        if self._records and now_s - self._opened_at_s >= CHUNK_S:
            self.close_chunk()

    def close_chunk(self) -> None:
        """Bring what was taken in into the file."""
        if not self._records:
            return
        chunk = encode_chunk(b"".join(self._records), self._first_us, self._last_us, self._frames)
        if self._is_part_full(len(chunk)):
            self._rotate()
        if self._part_from_us is None:
            self._part_from_us = self._first_us
        self._start_chunk()
        self._write(chunk)

    def _is_part_full(self, more_bytes: int) -> bool:
        seconds, size = self._rotation
        if self._part_from_us is None:
            return False
        is_long = bool(seconds) and self._first_us - self._part_from_us >= seconds * 1_000_000
        return is_long or (bool(size) and self._part_bytes + more_bytes > size)

    def _rotate(self) -> None:
        self.begin_sync()()
        before, size = self._descriptor, self._part_bytes
        self._open(self._header._replace(part=self._header.part + 1))
        os.close(before)
        self._closed_bytes += size

    def _write(self, data: bytes) -> None:
        """All of it or nothing: after a full disk the file ends with a whole chunk."""
        try:
            _write_all(self._descriptor, data)
        except OSError:
            os.ftruncate(self._descriptor, self._part_bytes)
            raise
        self._part_bytes += len(data)

    def begin_sync(self) -> Callable[[], None]:
        """What returns once the disk has what is in the file now; may run in a thread, whatever happens here."""
        descriptor = os.dup(self._descriptor)  # this one may be closed by a rotation meanwhile

        def sync() -> None:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        return sync

    def close(self) -> None:
        """Write what is left, sync, and close; the descriptor is closed even if that fails."""
        try:
            self.close_chunk()
            self.begin_sync()()
        finally:
            os.close(self._descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:] if written else data)
