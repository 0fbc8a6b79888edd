"""How far back the log in Redis reaches: so many seconds and so many bytes, whichever is less.  Pure.

What earlier epochs logged goes by its age alone (ingest/old_log.py): for LOG_S after a takeover there may be LOG_BYTES
of theirs beside ours.
"""

from collections import deque
from typing import Final

LOG_S: Final = 30.0
LOG_BYTES: Final = 128 * 1024 * 1024  # ~20 s at 50,000 events/s; beyond it the log reaches back less far


class Logbook:
    """Remembers when which batch of this epoch was logged, and so what the log may forget."""

    def __init__(self, epoch: int, keep_s: float | None = None, keep_bytes: int | None = None) -> None:
        self._epoch = epoch
        self._keep_s = LOG_S if keep_s is None else keep_s
        self._keep_bytes = LOG_BYTES if keep_bytes is None else keep_bytes
        self._entries: deque[tuple[float, int, int]] = deque()
        self._bytes = 0
        self._oldest = "0-0"  # earlier epochs' entries are kept until ours are `keep_s` old, or `keep_from` says else

    def keep_from(self, ident: str) -> None:
        """Of what earlier epochs logged nothing before this id is kept."""
        if _parse(ident) > _parse(self._oldest):
            self._oldest = ident

    def add(self, now_s: float, sequence: int, size: int) -> None:
        """A batch of `size` bytes was logged."""
        self._entries.append((now_s, sequence, size))
        self._bytes += size

    def get_oldest(self, now_s: float) -> str:
        """The id of the oldest entry that is to be kept; never one before an id that was given out."""
        while self._entries and (self._entries[0][0] < now_s - self._keep_s or self._bytes > self._keep_bytes):
            _, sequence, size = self._entries.popleft()
            self._bytes -= size
            self._oldest = f"{self._epoch}-{sequence + 1}"
        return self._oldest


def _parse(ident: str) -> tuple[int, ...]:
    return tuple(int(part) for part in ident.split("-"))
