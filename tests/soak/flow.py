"""The fake upstream's load for a soak: it numbers on while nobody listens, and notes when each number was sent.

So what upstream had while we were away is known to be missing.  It sends a frame or two every TICK_S, as a market does
in bursts: the product is then asked for ~100 batches/s, which two cores can carry beside 200 clients.
"""

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Final

from tests.fakes.connection import Connection
from tests.fakes.load import Load
from tests.soak.ledger import Emitted

TICK_S: Final = 0.01


class Flow(Load):
    """Trades and quotes of N symbols, or bars of 2 N instead; `rate` is in events/s over all channels."""

    def __init__(
        self, live: Callable[[], Sequence[Connection]], *, rate: float, symbols: int, bars: bool = False
    ) -> None:
        super().__init__(live, rate=rate, symbols=symbols, tick_s=TICK_S)
        if bars:
            self.channels = [f"A.B{number:04}" for number in range(2 * symbols)]
            self._heads = [f'{{"ev":"A","sym":"{self.channels[pick][2:]}","v":100,"e":' for pick in self._cycle]
        self.emitted = Emitted(self.channels, time.time_ns() // 1_000_000)
        self._times: list[array[int]] = list(self.emitted.times.values())

    def _tick(self) -> None:
        """A client that does not read is no reason to wait for it."""
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        live = self._live()
        for size in self._take_due():
            self._send_to_many(live, *self._take_slice(size))

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        super().start()

    def _render(self, picks: list[int], heads: list[str], held: list[int]) -> list[str]:
        """Number all, render what is held."""
        now_ms = time.time_ns() // 1_000_000
        at, middle = now_ms - self.emitted.began_ms, f'{now_ms},"q":'
        last, times = self.last, self._times
        events = []
        for pick, head in zip(picks, heads, strict=True):
            last[pick] = number = last[pick] + 1
            times[pick].append(at)
            if held[pick]:
                events.append(f'{head}{middle}{number},"z":3}}')
        self.sent += len(events)
        return events
