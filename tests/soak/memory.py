"""Each process's resident memory over time."""

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

_EVERY_S: Final = 10.0
SETTLED_S: Final = 300.0  # by then each process has had each role, and the bounded buffers of that role were full once
_SPAN_S: Final = 300.0  # compared: long enough for some of each fault, since what each fills differs by tens of MB
MOST_GROWTH: Final = 0.05
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Growth(NamedTuple):
    """MB resident in a process's second minute, from its sixth to its tenth, and in its last five (medians)."""

    second: float
    settled: float
    last: float

    @property
    def share(self) -> float:
        """Growth since it settled; 0.05 is 5 %."""
        return self.last / self.settled - 1.0

    @property
    def is_flat(self) -> bool:
        """Whether that is little."""
        return self.share < MOST_GROWTH


class Memory:
    """Samples of all processes, by name; 6 a minute each."""

    def __init__(self, find_running: Callable[[], dict[str, int]]) -> None:
        self._find_running = find_running
        self.samples: dict[str, list[tuple[float, float]]] = {}  # name -> (s since it was first seen, MB)
        self._seen_at: dict[str, float] = {}

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            for name, pid in self._find_running().items():
                now = time.monotonic()
                began = self._seen_at.setdefault(name, now)
                try:
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it ends just now
                self.samples.setdefault(name, []).append((now - began, pages * _PAGE_BYTES / 1e6))
            await asyncio.sleep(_EVERY_S)

    def find_growth(self, name: str) -> Growth | None:
        """None for who did not live long enough for it."""
        rows = self.samples[name]
        end_s = rows[-1][0]
        spans = (60.0, 120.0), (SETTLED_S, SETTLED_S + _SPAN_S), (end_s - _SPAN_S, end_s)
        medians = [_find_median(rows, *span) for span in spans]
        return Growth(*medians) if end_s >= SETTLED_S + 2 * _SPAN_S else None


def _find_median(rows: Sequence[tuple[float, float]], begin_s: float, end_s: float) -> float:
    return statistics.median([mb for at, mb in rows if begin_s <= at <= end_s] or [0.0])
