"""A recording: the frames that ingest received, each with its time, in compressed chunks.  The format; pure.

    file   = header chunk*
    header = "PPREC" 0 0 0 | u32 version | u64 recording | u32 part | u32 CRC-32 of what stands before
    chunk  = head body
    head   = "CHNK" | u32 bytes of the body | u32 bytes of the records | u64 first time | u64 last time
           | u32 frames | u32 CRC-32 of the body | u32 CRC-32 of the head up to here
    body   = one zstandard frame that holds record*, at least one
    record = u8 kind | u64 time | u32 bytes | data       kind 0: a frame, data as received; 1: a hole, data is JSON

Numbers are little-endian, times Unix microseconds.  The stream polygon:{F}:frames holds the same records.

Theory.  A chunk is written with one call and depends on no other, so whatever stops the writer, at any byte, only the
last chunk can be incomplete: the *torn tail*.  A chunk whose body was damaged later is left out, and reading goes on
behind it; if its head was, at the next head whose checksum is right.  A damaged header of the file is refused.
Nothing is ever appended to a file that exists.  A *part* is one file of a recording that was rotated: FILE, FILE.1,
FILE.2 and so on in this order; `recording` is the same number in all of them, so that no stranger is read along.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import zstandard

VERSION: Final = 1
CHUNK_BYTES: Final = 256 * 1024  # of records; a chunk that has as many is closed
CHUNK_S: Final = 1.0  # and one that is as old, or spans as much
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024  # what ingest reads at most; a longer record is damage
MAX_RAW_BYTES: Final = CHUNK_BYTES + MAX_FRAME_BYTES + 64
MAX_BODY_BYTES: Final = MAX_RAW_BYTES + MAX_RAW_BYTES // 128  # zstandard adds less to what it cannot compress
_LEVEL: Final = 3  # 0.2 of the bytes at ~200 MB/s; higher levels save little on such short chunks
_MAGIC: Final = b"PPREC\0\0\0"
MARK: Final = b"CHNK"
_HEADER: Final = struct.Struct("<8sIQII")
_HEAD: Final = struct.Struct("<4sIIQQIII")
_RECORD: Final = struct.Struct("<BQI")
HEADER_BYTES: Final = _HEADER.size
HEAD_BYTES: Final = _HEAD.size
_FRAME: Final = 0
_HOLE: Final = 1


class BadRecording(Exception):
    """The file is no recording, or not one that this version can read; str() is one line that names it."""


class Frame(NamedTuple):
    """A frame as it was received."""

    time_us: int
    data: bytes


class Hole(NamedTuple):
    """Frames of this span may be missing."""

    time_us: int
    until_us: int
    cause: str


Record = Frame | Hole


class Header(NamedTuple):
    """Which recording a file belongs to; `part` counts from 0."""

    recording: int
    part: int


class Head(NamedTuple):
    """What is known of a chunk without reading it."""

    body_bytes: int
    raw_bytes: int
    first_us: int
    last_us: int
    frames: int
    body_crc: int


class _HoleData(msgspec.Struct, array_like=True):
    until_us: int
    cause: str


_encode_hole = msgspec.json.Encoder().encode
_decode_hole = msgspec.json.Decoder(_HoleData).decode


def encode_header(header: Header) -> bytes:
    """The first bytes of a file."""
    data = _HEADER.pack(_MAGIC, VERSION, *header, 0)[:-4]
    return data + zlib.crc32(data).to_bytes(4, "little")


def decode_header(data: bytes, path: str) -> Header:
    """The header of the file at `path`; raises BadRecording."""
    if len(data) < HEADER_BYTES or not data.startswith(_MAGIC):
        raise BadRecording(f"{path}: not a recording")
    _, version, recording, part, crc = _HEADER.unpack_from(data)
    if crc != zlib.crc32(data[: HEADER_BYTES - 4]):
        raise BadRecording(f"{path}: its header is damaged (offset 0)")
    if version != VERSION:
        raise BadRecording(f"{path}: a recording of version {version}, and this program reads version {VERSION}")
    return Header(recording, part)


def encode_record(record: Record) -> bytes:
    """One record."""
    if isinstance(record, Frame):
        return _RECORD.pack(_FRAME, record.time_us, len(record.data)) + record.data
    data = _encode_hole(_HoleData(record.until_us, record.cause))
    return _RECORD.pack(_HOLE, record.time_us, len(data)) + data


def encode_frame_head(time_us: int, data: bytes) -> bytes:
    """What stands before a frame's bytes in its record; for who joins many of them."""
    return _RECORD.pack(_FRAME, time_us, len(data))


def iterate_records(raw: bytes) -> Iterator[Record]:
    """The records of a chunk or of a stream's entry; raises ValueError at one that cannot be."""
    at = 0
    while at < len(raw):
        if len(raw) - at < _RECORD.size:
            raise ValueError("an incomplete record")
        kind, time_us, size = _RECORD.unpack_from(raw, at)
        at += _RECORD.size
        data = raw[at : at + size]
        if len(data) != size or size > MAX_FRAME_BYTES:
            raise ValueError("a record of an impossible size")
        at += size
        if kind == _FRAME:
            yield Frame(time_us, data)
        elif kind == _HOLE:
            yield _make_hole(time_us, data)
        else:
            raise ValueError(f"a record of the unknown kind {kind}")


def _make_hole(time_us: int, data: bytes) -> Hole:
    try:
        hole = _decode_hole(data)
    except msgspec.MsgspecError as exc:
        raise ValueError(f"a hole that says nothing: {exc}") from None
    return Hole(time_us, hole.until_us, hole.cause)


def encode_chunk(raw: bytes, first_us: int, last_us: int, frames: int) -> bytes:
    """A chunk, from its records."""
    body = zstandard.ZstdCompressor(level=_LEVEL).compress(raw)
    data = _HEAD.pack(MARK, len(body), len(raw), first_us, last_us, frames, zlib.crc32(body), 0)[:-4]
    return data + zlib.crc32(data).to_bytes(4, "little") + body


def find_head(data: bytes, at: int = 0) -> Head | None:
    """The head that stands there; None if none does, or a damaged one."""
    if len(data) - at < HEAD_BYTES or not data.startswith(MARK, at):
        return None
    *fields, crc = _HEAD.unpack_from(data, at)
    if crc != zlib.crc32(data[at : at + HEAD_BYTES - 4]):
        return None
    head = Head(*fields[1:])
    return head if 0 < head.body_bytes <= MAX_BODY_BYTES and 0 < head.raw_bytes <= MAX_RAW_BYTES else None


def decode_body(head: Head, body: bytes) -> bytes | None:
    """The records of a chunk; None if the body is damaged."""
    if len(body) != head.body_bytes or zlib.crc32(body) != head.body_crc:
        return None
    try:
        if zstandard.get_frame_parameters(body).content_size != head.raw_bytes:  # else it would be believed
            return None
        return zstandard.ZstdDecompressor().decompress(body)
    except zstandard.ZstdError:
        return None


class Rotation(NamedTuple):
    """When a new part is begun: after so many seconds of recorded time or before so many bytes; 0: not for that."""

    seconds: int
    size: int


_UNITS: Final = {"s": (1, 0), "m": (60, 0), "h": (3600, 0), "MB": (0, 10**6), "GB": (0, 10**9)}


def parse_rotation(text: str) -> Rotation:
    """Such as `1h`, `30m`, `90s`, `500MB` or `2GB`; raises ValueError."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})(s|m|h|MB|GB)", text)
    if match is None:
        raise ValueError(f"expected a time or a size, such as 1h, 30m, 90s, 500MB or 2GB, not {text!r}")
    return Rotation(*(int(match[1]) * factor for factor in _UNITS[match[2]]))
