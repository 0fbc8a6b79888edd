"""While upstream takes a wildcard over from exact channels, both are subscribed, and an event may come twice.  Pure.

Whether upstream really sends it twice is unknown (PROTOCOL c.1), so of two events with the same bytes only the first
passes, on these channels and for this while.  Outside of it doubles are upstream's own (PROTOCOL e) and pass.
"""

from collections import deque
from typing import Final

from shared.channels import make_channel
from shared.split import Head, Split

_REMEMBERED: Final = 100_000  # events; a double that comes later than that passes: 2 s at 50,000 events/s


class Overlap:
    """Remembers the events of the doubled channels for as long as they are doubled."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self.channels: frozenset[str] = frozenset()
        self._seen: set[bytes] = set()
        self._order: deque[bytes] = deque()
        self.removed = 0

    def set_channels(self, channels: frozenset[str]) -> None:
        """Say which exact channels are doubled now."""
        self.channels = channels
        if not channels:
            self._seen.clear()
            self._order.clear()

    def filter(self, split: Split) -> Split:
        """The split without what came a second time."""
        kept = [(h, b) for h, b in zip(split.heads, split.bodies, strict=True) if self._is_first(h, b)]
        return Split([head for head, _ in kept], [body for _, body in kept], split.malformed)

    def _is_first(self, head: Head, body: bytes) -> bool:
        if make_channel(self._feed, head.ev, head.symbol) not in self.channels:
            return True
        if body in self._seen:
            self.removed += 1
            return False
        self._seen.add(body)
        self._order.append(body)
        if len(self._order) > _REMEMBERED:
            self._seen.discard(self._order.popleft())
        return True
