"""Each process's resident memory over time."""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_EVERY_S: Final = 10.0
_WARM_S: Final = 60.0  # of a process's life that do not count: caches fill, and Redis' log reaches its bound
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


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

    def find_growth(self, name: str) -> tuple[float, float] | None:
        """MB in the first full minute after the warm-up, and in the last; None for who lived less than both."""
        rows = self.samples[name]
        first = [mb for at, mb in rows if _WARM_S <= at < 2 * _WARM_S]
        last = [mb for at, mb in rows if at > rows[-1][0] - _WARM_S]
        if not first or rows[-1][0] < 3 * _WARM_S:
            return None
        return statistics.median(first), statistics.median(last)
