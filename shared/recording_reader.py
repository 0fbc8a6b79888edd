"""Reads a recording (shared/recording.py) in constant memory: one chunk at a time, and by its heads alone to seek.

`path` is the first part of a recording, and the parts that follow it are read along; or any other part, which is then
read alone.  What cannot be read is left out and told as Damage.
"""

from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple

from shared.recording import (
    HEAD_BYTES,
    HEADER_BYTES,
    MARK,
    BadRecording,
    Head,
    Header,
    Record,
    decode_body,
    decode_header,
    find_head,
    iterate_records,
)
from shared.recording_writer import get_part_path

_WINDOW_BYTES: Final = 1024 * 1024  # read at once in search of the next head


class Damage(NamedTuple):
    """Bytes of a file that were left out; a torn tail has nothing behind it that could be read."""

    path: Path
    offset: int
    size: int
    is_tail: bool

    def __str__(self) -> str:
        what = "torn tail" if self.is_tail else "checksum error"
        return f"{self.path}: {what} at offset {self.offset}: {self.size} bytes left out"


class Chunk(NamedTuple):
    """One chunk that was read; `number` counts all heads of the recording before it, so it is the same each time."""

    head: Head
    records: list[Record]
    number: int


class Span(NamedTuple):
    """What the heads say of a whole recording; all 0 if it has no chunk."""

    first_us: int
    last_us: int
    chunks: int
    frames: int
    raw_bytes: int
    file_bytes: int  # of all parts


def find_parts(path: Path, on_damage: Callable[[Damage], None] = lambda _damage: None) -> list[Path]:
    """The files of a recording in their order; raises BadRecording or OSError for the first.

    A part that was begun as its recorder was killed has no whole header, and a stranger's has another one: it is told
    as damage, and the recording ends before it.
    """
    first = _read_header(path)
    parts = [path]
    while first.part == 0 and (following := get_part_path(path, len(parts))).exists():
        if not _has_header(following, Header(first.recording, len(parts))):
            on_damage(Damage(following, 0, following.stat().st_size, True))
            break
        parts.append(following)
    return parts


def _has_header(path: Path, header: Header) -> bool:
    try:
        return _read_header(path) == header
    except BadRecording:
        return False


def _read_header(path: Path) -> Header:
    if path.exists() and not path.is_file():
        raise BadRecording(f"{path}: is not a file")  # to open a pipe could take for ever
    try:
        with path.open("rb") as file:
            return decode_header(file.read(HEADER_BYTES), str(path))
    except ValueError:
        raise BadRecording(f"{str(path)!r}: is not a path") from None  # it has a NUL


class RecordingReader:
    """A recording on the disk; each iteration opens its files anew.  Raises BadRecording or OSError."""

    def __init__(self, path: Path, on_damage: Callable[[Damage], None] = lambda _damage: None) -> None:
        self.parts = find_parts(path, on_damage)
        self._on_damage = on_damage

    def read_span(self) -> Span:
        """From the heads alone: ~5 us a chunk, so 0.3 s for 100 M events."""
        heads = (head for part in self.parts for head, _ in self._walk(part, lambda _head: False))
        first_us = last_us = chunks = frames = raw_bytes = 0
        for head in heads:
            first_us = min(first_us, head.first_us) if chunks else head.first_us
            last_us = max(last_us, head.last_us)
            chunks += 1
            frames += head.frames
            raw_bytes += head.raw_bytes
        size = sum(part.stat().st_size for part in self.parts)  # also what is damaged
        return Span(first_us, last_us, chunks, frames, raw_bytes, size)

    def chunks(self, from_us: int = 0, from_number: int = 0) -> Iterator[Chunk]:
        """From the first chunk on that holds something of this time or later, and has this number or a later one.

        What is before it is not read.
        """
        is_there = False
        number = -1

        def wants(head: Head) -> bool:
            nonlocal is_there, number
            number += 1
            is_there = is_there or head.last_us >= from_us
            return is_there and number >= from_number

        for part in self.parts:
            for head, records in self._walk(part, wants):
                if records is not None:
                    yield Chunk(head, records, number)

    def _walk(self, path: Path, wants: Callable[[Head], bool]) -> Iterator[tuple[Head, list[Record] | None]]:
        """Each chunk of a part, with its records if they are wanted."""
        with path.open("rb", buffering=0) as file:
            size = path.stat().st_size  # what is appended meanwhile is not looked at
            offset = HEADER_BYTES
            while offset < size:
                head = _read_head(file, offset)
                end = offset + HEAD_BYTES + (head.body_bytes if head else 0)
                if head is None or end > size:
                    offset = self._skip(file, path, offset, size)
                    continue
                if not wants(head):
                    yield head, None
                elif (records := _read_records(head, file)) is not None:
                    yield head, records
                else:
                    self._on_damage(Damage(path, offset, end - offset, False))
                offset = end

    def _skip(self, file: FileIO, path: Path, offset: int, size: int) -> int:
        """Where the next good head behind a bad one is, or the end."""
        found = _find_next_head(file, offset + 1, size)
        end = size if found is None else found
        self._on_damage(Damage(path, offset, end - offset, found is None))
        return end


def _read_head(file: FileIO, offset: int) -> Head | None:
    file.seek(offset)
    return find_head(file.read(HEAD_BYTES))


def _read_records(head: Head, file: FileIO) -> list[Record] | None:
    raw = decode_body(head, file.read(head.body_bytes))
    try:
        return None if raw is None else list(iterate_records(raw))
    except ValueError:
        return None  # the checksums are right: written by a program that does not keep to the format


def _find_next_head(file: FileIO, offset: int, size: int) -> int | None:
    """The offset of the next head that is whole and whose chunk lies within the file."""
    while offset < size:
        file.seek(offset)
        window = file.read(_WINDOW_BYTES)
        at = window.find(MARK)
        while at >= 0:
            head = find_head(window, at) or _read_head(file, offset + at)  # which may reach beyond the window
            if head is not None and offset + at + HEAD_BYTES + head.body_bytes <= size:
                return offset + at
            at = window.find(MARK, at + 1)
        if len(window) < HEAD_BYTES:
            break
        offset += len(window) - len(MARK) + 1
    return None
