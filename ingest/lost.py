"""What went as ingest's buffer overflowed: counted for operators, and the notices among it, which are kept.  Pure."""

from collections import deque
from collections.abc import Callable
from typing import Final

from ingest.batch import Encoded

NOTICES_BYTES: Final = 1024 * 1024  # beyond it the oldest notices are lost, too


class Lost:
    """Batches that Redis never answered; `get_channels` says what is wanted now."""

    def __init__(self, get_channels: Callable[[], list[str]]) -> None:
        self._get_channels = get_channels
        self._notices: deque[Encoded] = deque()
        self._notices_bytes = 0
        self._span: tuple[int, int, list[str]] | None = None
        self.batches = 0
        self.events = 0

    def add(self, batch: Encoded) -> None:
        """The oldest batch has to go."""
        if batch.is_notice and batch.size <= NOTICES_BYTES:
            self._keep(batch)
            return
        self.batches += 1
        self.events += batch.mark.events
        received_us = batch.mark.received_us
        # A Redis that comes back empty does not know at first what is wanted.
        first_us, _, channels = self._span or (received_us, 0, self._get_channels())
        self._span = first_us, received_us, channels

    def _keep(self, notice: Encoded) -> None:
        self._notices.append(notice)
        self._notices_bytes += notice.size
        while self._notices_bytes > NOTICES_BYTES:
            self._notices_bytes -= self._notices.popleft().size

    @property
    def has_notices(self) -> bool:
        """Whether some are kept."""
        return bool(self._notices)

    def take_notices(self) -> list[Encoded]:
        """Those that were kept, in order."""
        notices = list(self._notices)
        self._notices.clear()
        self._notices_bytes = 0
        return notices

    def take_span(self) -> tuple[int, int, list[str]] | None:
        """From and to in Unix us, and the channels, of what went since the last call; None if nothing did."""
        span, self._span = self._span, None
        return span
