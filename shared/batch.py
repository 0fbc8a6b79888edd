"""What ingest and gateway agree on: a batch is some PUBLISH commands, closed by a mark.  Pure.

A mark is published on its own channel as text: `EPOCH-SEQUENCE RECEIVED_US EVENTS ALLS`, for example
`1795368000-42 1795368001123456 57 T,Q`.  RECEIVED_US is Unix time in microseconds at which ingest had the first
byte of the batch, EVENTS how many events it holds, ALLS the event types that it also carries as `all:EV` (`-` for
none).  A mark that repeats the sequence before it closes nothing: it is the heartbeat.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

HEARTBEAT_S: Final = 1.0


class Mark(NamedTuple):
    """One mark; `epoch` grows with each ingest that takes the upstream slot, `sequence` with each batch."""

    epoch: int
    sequence: int
    received_us: int
    events: int
    alls: frozenset[str]


NOTHING: Final = Mark(0, 0, 0, 0, frozenset())  # before the first batch


def encode_mark(mark: Mark) -> bytes:
    """The mark's text."""
    alls = ",".join(sorted(mark.alls)) or "-"
    return f"{mark.epoch}-{mark.sequence} {mark.received_us} {mark.events} {alls}".encode()


def parse_mark(text: bytes) -> Mark:
    """The mark in a text; raises ValueError."""
    ident, received_us, events, alls = text.decode().split(" ")
    epoch, sequence = ident.split("-")
    kinds = frozenset() if alls == "-" else frozenset(alls.split(","))
    return Mark(int(epoch), int(sequence), int(received_us), int(events), kinds)


def find_mark(fields: Mapping[bytes, bytes]) -> Mark | None:
    """The mark of one of the log's entries; None if the entry is not of ingest's making."""
    try:
        return parse_mark(fields[b"mark"])
    except (KeyError, ValueError):
        return None


def encode_command(*words: bytes) -> bytes:
    """One Redis command (RESP2)."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)
