"""The log in Redis, read on from a position: the last batch that somebody has got."""

import logging
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import hiredis
from redis.asyncio import Redis

from shared.batch import NOTHING, Mark, parse_mark
from shared.names import Names

_log = logging.getLogger(__name__)
READ_ENTRIES: Final = 50  # ~0.6 MB at 50,000 events/s


def parse_newest(reply: list[Any]) -> Mark:
    """The mark of the log's last entry, in Redis' reply to `Log.newest`; NOTHING if it is empty."""
    if not reply:
        return NOTHING
    _, fields = reply[0]
    return _find_mark(dict(zip(fields[::2], fields[1::2], strict=True))) or NOTHING


class Entry(NamedTuple):
    """One batch; `is_next` says that none is missing between it and what was read, or got, before it."""

    mark: Mark
    batch: bytes
    is_next: bool

    def read_messages(self) -> Iterator[tuple[bytes, bytes]]:
        """Bus channel and payload of each message, as they were published."""
        reader = hiredis.Reader()
        reader.feed(self.batch)
        while (command := reader.gets()) is not False:
            _, channel, payload = command
            yield channel, payload


class Reading(NamedTuple):
    """What the log holds after a position; `is_logged` says that the log still reaches back to the position itself."""

    entries: list[Entry]
    is_logged: bool


class Log:
    """The log of one feed."""

    def __init__(self, redis: "Redis", names: Names) -> None:
        self._redis = redis
        self._name = names.log
        self.newest = (b"XREVRANGE", names.log.encode(), b"+", b"-", b"COUNT", b"1")  # asks for the last entry

    async def read(self, position: Mark) -> Reading:
        """The next entries after the position, at most READ_ENTRIES; fewer: that was all.

        Raises redis.RedisError.  An epoch may end at any sequence and begins with 1: whether the end of the one before
        was missed can only be told if the position itself is still in the log.
        """
        start = f"{position.epoch}-{position.sequence}"
        found: Any = await self._redis.xrange(self._name, min=start, count=READ_ENTRIES + 1)
        entries: list[Entry] = []
        is_logged = position.sequence == 0  # nothing of that epoch came before it
        before, is_known = position, is_logged
        for _, fields in found:
            mark = _find_mark(fields)
            if mark is None:
                continue
            if mark[:2] == position[:2]:
                is_logged = True
            else:
                entries.append(Entry(mark, fields[b"batch"], _follows(before, mark, is_known)))
            before, is_known = mark, True
        return Reading(entries[:READ_ENTRIES], is_logged)


def _find_mark(fields: dict[bytes, bytes]) -> Mark | None:
    """The mark of an entry; None if it is not of ingest's making."""
    try:
        return parse_mark(fields[b"mark"]) if b"batch" in fields else None
    except (KeyError, ValueError):
        _log.error("log: an entry of an unknown shape")
        return None


def _follows(before: Mark, mark: Mark, is_logged: bool) -> bool:
    if mark.epoch == before.epoch:
        return mark.sequence == before.sequence + 1
    return is_logged and mark.sequence == 1
