"""How long to wait before the next try.  Pure."""

from collections.abc import Callable
from random import random


class Backoff:
    """Doubling delays in seconds up to a cap, each cut by up to a half at random so that peers spread."""

    def __init__(self, base_s: float, cap_s: float, draw: Callable[[], float] = random) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._draw = draw
        self._tries = 0

    def next_s(self, floor_s: float = 0.0) -> float:
        """The next delay; `floor_s` asks for at least that much (before jitter)."""
        delay_s = min(self._cap_s, self._base_s * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return max(delay_s, floor_s) * (1.0 - self._draw() / 2.0)

    def reset(self) -> None:
        """Start over after a success."""
        self._tries = 0
