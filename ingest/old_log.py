"""What earlier epochs logged, and how long it is kept: LOG_S, as what this epoch logs (ingest/logbook.py).

This epoch knows when it logged what, of earlier ones only the log itself does: its marks have their times.  So every
few seconds the oldest epoch's entries are halved until the first that must be kept is found well enough, and the next
batch's XADD forgets what is before it.  Without this a takeover would let the log grow to twice its length.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.logbook import LOG_S
from shared.batch import find_mark
from shared.names import Names

_log = logging.getLogger(__name__)
_EVERY_S: Final = 2.0
_LAST_ENTRIES: Final = 10  # looked at for one that can be read: 30 MB at the very most
_HALVINGS: Final = 6  # so a 64th of what the oldest epoch logged is kept too long, at most


class _Entry(NamedTuple):
    epoch: int
    sequence: int
    at_s: float  # Unix time; 0 if it is not of ingest's making


class OldLog:
    """Says what may be forgotten of the epochs before `epoch`."""

    def __init__(self, redis: "Redis", names: Names, epoch: int, forget: Callable[[str], None]) -> None:
        """`forget` gets the id of the first entry that is to be kept."""
        self._redis = redis
        self._log = names.log
        self._epoch = epoch
        self._forget = forget

    async def run(self) -> None:
        """For ever: a Redis that follows another may bring old entries back."""
        while True:
            try:
                if (oldest := await self.find_oldest(time.time() - LOG_S)) is not None:
                    self._forget(oldest)
            except (RedisError, OSError) as exc:
                _log.debug("log: what is old cannot be looked at (%s)", exc)
            await asyncio.sleep(_EVERY_S)

    async def find_last_us(self) -> int | None:
        """When the log's last batch came (Unix us); None without one among the last _LAST_ENTRIES.

        Raises redis.RedisError.
        """
        entries: Any = await self._redis.xrevrange(self._log, count=_LAST_ENTRIES)
        for odd, (_, fields) in enumerate(entries):
            if (mark := find_mark(fields)) is not None:
                if odd:
                    _log.error("log: %d entries of an unknown shape at its end", odd)
                return mark.received_us
        if entries:
            _log.error("log: nothing but entries of an unknown shape at its end")
        return None

    async def find_oldest(self, since_s: float) -> str | None:
        """The id up to which nothing needs to be kept; None if nothing of earlier epochs is older than that.

        Raises redis.RedisError.
        """
        first, oldest = await self._find_first("-"), None
        while first is not None and first.epoch < self._epoch and first.at_s < since_s:
            last = await self._find_last(first.epoch)
            if last is None or last.at_s >= since_s:
                return await self._halve(first, last or first, since_s)
            oldest = f"{first.epoch}-{last.sequence + 1}"
            first = await self._find_first(oldest)
        return oldest

    async def _halve(self, old: _Entry, young: _Entry, since_s: float) -> str:
        for _ in range(_HALVINGS):
            middle = (old.sequence + young.sequence) // 2
            found = await self._find_first(f"{old.epoch}-{middle}")
            if found is None or not old.sequence < found.sequence < young.sequence:
                break
            old, young = (found, young) if found.at_s < since_s else (old, found)
        return f"{old.epoch}-{old.sequence + 1}"

    async def _find_first(self, since: str) -> _Entry | None:
        return _parse(await self._redis.xrange(self._log, min=since, count=1))

    async def _find_last(self, epoch: int) -> _Entry | None:
        return _parse(await self._redis.xrevrange(self._log, max=str(epoch), min=f"{epoch}-0", count=1))


def _parse(reply: Any) -> _Entry | None:
    if not reply:
        return None
    ident, fields = reply[0]
    epoch, sequence = (int(part) for part in ident.split(b"-"))
    mark = find_mark(fields)
    return _Entry(epoch, sequence, mark.received_us / 1e6 if mark is not None else 0.0)
