"""Delivers what a backfill found: after the gap's notice, between two statuses of its own, beside the live stream."""

import asyncio
import logging
from collections import deque
from typing import Final

from ingest.backfill import Backfill
from ingest.intake import Intake
from shared.gap import Gap
from shared.notice import Notice

_log = logging.getLogger(__name__)
_WAITING: Final = 10  # gaps; of more the oldest stay unfilled
_CHUNK_EVENTS: Final = 200
_PER_SECOND: Final = 5000  # events, so that the live ones are not held up and slow clients bear it


class Refill:
    """Fills the gaps of one feed, one after the other."""

    def __init__(self, backfill: Backfill, intake: Intake) -> None:
        self._backfill = backfill
        self._intake = intake
        self._gaps: deque[Gap] = deque(maxlen=_WAITING)
        self._wake = asyncio.Event()

    def add(self, gap: Gap) -> None:
        """A gap has just been told."""
        self._gaps.append(gap)
        self._wake.set()

    async def run(self) -> None:
        """Fill gaps as they come, for as long as the process runs."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._gaps:
                await self._fill(self._gaps.popleft())

    async def _fill(self, gap: Gap) -> None:
        filled = await self._backfill.fill(gap)
        span = f"from {gap.from_ms} to {gap.to_ms}"
        # With each chunk, so not to all whom the gap concerns: they may be tens of thousands.
        begin = Notice("backfill", f"events {span} follow, late", filled.channels)
        end = Notice("backfill", "end of late events", filled.channels)
        for start in range(0, len(filled.events), _CHUNK_EVENTS):
            self._intake.tell(begin, filled.events[start : start + _CHUNK_EVENTS], end)
            await asyncio.sleep(_CHUNK_EVENTS / _PER_SECOND)
        note = filled.note or "all that REST has was delivered"
        self._intake.tell(Notice("backfill", f"{len(filled.events)} events {span} were missing; {note}", gap.channels))
