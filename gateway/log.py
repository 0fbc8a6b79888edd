"""The log in Redis, read on from a position: the last batch that somebody has got."""

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import hiredis
from redis.asyncio import Redis

from shared.batch import NOTHING, Mark, parse_mark
from shared.names import Names

_log = logging.getLogger(__name__)
READ_ENTRIES: Final = 20  # ~0.25 MB at 50,000 events/s, 5 MB at the very most; taken apart it is several times that
REACH_S: Final = 20.0  # the log keeps 30 s, but for more than its 128 MiB in that time


def parse_newest(reply: list[Any]) -> Mark:
    """The mark of the log's last entry, in Redis' reply to `Log.newest`; NOTHING if it is empty."""
    if not reply:
        return NOTHING
    _, fields = reply[0]
    try:
        return parse_mark(dict(zip(fields[::2], fields[1::2], strict=True))[b"mark"])
    except (KeyError, ValueError):
        _log.error("log: the last entry has an unknown shape")
        return NOTHING


@dataclass
class Entry:
    """One batch; `is_next` says that none is missing between it and what was read, or got, before it."""

    mark: Mark
    messages: list[tuple[bytes, bytes]]  # bus channel and payload of each, as they were published
    size: int  # bytes
    is_next: bool

    @cached_property
    def payloads(self) -> dict[bytes, list[bytes]]:
        """The same by bus channel, in order within each."""
        found: dict[bytes, list[bytes]] = {}
        for channel, payload in self.messages:
            found.setdefault(channel, []).append(payload)
        return found


class Reading(NamedTuple):
    """What the log holds after a position."""

    entries: list[Entry]
    is_logged: bool  # the log still reaches back to the position itself
    is_end: bool  # there was no more in the log

    def find_rest(self, position: Mark) -> "Reading | None":
        """What it holds after one of its entries; None if it cannot say, or if that is nothing though there is more."""
        for index, entry in enumerate(self.entries, 1):
            if entry.mark[:2] == position[:2]:
                rest = self.entries[index:]
                return Reading(rest, True, self.is_end) if rest or self.is_end else None
        return None


class Log:
    """The log of one feed."""

    def __init__(self, redis: "Redis", names: Names) -> None:
        self._redis = redis
        self._name = names.log
        self.newest = (b"XREVRANGE", names.log.encode(), b"+", b"-", b"COUNT", b"1")  # asks for the last entry

    async def read(self, position: Mark) -> Reading:
        """The next entries after the position, at most READ_ENTRIES.

        Raises redis.RedisError.  An epoch may end at any sequence and begins with 1: whether the end of the one before
        was missed can only be told if the position itself is still in the log.
        """
        start = f"{position.epoch}-{position.sequence}"
        found: Any = await self._redis.xrange(self._name, min=start, count=READ_ENTRIES + 1)
        entries: list[Entry] = []
        is_logged = position.sequence == 0  # nothing of that epoch came before it
        before, is_known = position, is_logged
        for ident, fields in found:
            entry = _parse_entry(fields) or _make_lost(ident, before)
            if entry.mark[:2] == position[:2]:
                is_logged = True
            else:
                entry.is_next &= _follows(before, entry.mark, is_known)
                entries.append(entry)
            before, is_known = entry.mark, True
        return Reading(entries[:READ_ENTRIES], is_logged, len(entries) < READ_ENTRIES)


def _parse_entry(fields: dict[bytes, bytes]) -> Entry | None:
    """The batch of an entry; None if it is not of ingest's making."""
    try:
        return Entry(parse_mark(fields[b"mark"]), _parse_batch(fields[b"batch"]), len(fields[b"batch"]), True)
    except (KeyError, ValueError, hiredis.ProtocolError):
        _log.error("log: an entry of an unknown shape")
        return None


def _parse_batch(batch: bytes) -> list[tuple[bytes, bytes]]:
    """Raises ValueError or hiredis.ProtocolError."""
    reader = hiredis.Reader()
    reader.feed(batch)
    messages: list[tuple[bytes, bytes]] = []
    gets = reader.gets
    while (command := gets()) is not False:  # no `match`: it takes 5 times as long as all of this (100 us an entry)
        if command.__class__ is not list:
            raise ValueError("not a command")
        name, channel, payload = command
        if name != b"PUBLISH" or channel.__class__ is not bytes or payload.__class__ is not bytes:
            raise ValueError("not a PUBLISH")
        messages.append((channel, payload))
    return messages


def _make_lost(ident: bytes, before: Mark) -> Entry:
    """In the place of what cannot be read: an empty batch that does not follow on what came before it."""
    epoch, sequence = ident.split(b"-")
    return Entry(Mark(int(epoch), int(sequence), before.received_us, 0, frozenset()), [], 0, False)


def _follows(before: Mark, mark: Mark, is_logged: bool) -> bool:
    if mark.epoch == before.epoch:
        return mark.sequence == before.sequence + 1
    # An epoch left at its beginning may have logged much after that, which is forgotten by now.
    is_old = before[:2] != NOTHING[:2] and mark.received_us - before.received_us > REACH_S * 1e6
    return is_logged and mark.sequence == 1 and not (before.sequence == 0 and is_old)
