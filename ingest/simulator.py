"""A market that needs no key: a plain random walk, spoken as Polygon would (PROTOCOL b.2), on the way of live data.

It answers actions as upstream does and sends only what is subscribed.  Second bars (A) and minute bars (AM) are the
aggregates of its own trades.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ingest.replay import Replay
from ingest.upstream import Upstream
from shared.channels import is_covered
from shared.protocol import AUTH_SUCCESS, CONNECTED, encode_statuses, parse_action, subscribed, unsubscribed

TICK_S: Final = 0.05
# fmt: off
SYMBOLS: Final = (
    "AAPL", "MSFT", "NVDA", "AMZN", "GOOGL", "GOOG", "META", "TSLA", "BRK.A", "BRK.B", "JPM", "V", "UNH", "XOM",
    "LLY", "JNJ", "WMT", "MA", "PG", "AVGO", "HD", "CVX", "MRK", "COST", "ABBV", "PEP", "KO", "ADBE", "CRM", "BAC",
    "ACN", "MCD", "NFLX", "AMD", "LIN", "CSCO", "TMO", "INTC", "ABT", "DIS", "ORCL", "QCOM", "IBM", "GE", "F",
    "PLTR", "SPY", "QQQ", "IWM", "DIA",
)
# fmt: on

_encode = msgspec.json.Encoder().encode


class _Bar:
    """The trades of one symbol in one second or minute."""

    def __init__(self, start_ms: int) -> None:
        self.start_ms = start_ms
        self.prices: list[float] = []
        self.volume = 0
        self.turnover = 0.0

    def add(self, price: float, size: int) -> None:
        self.prices.append(price)
        self.volume += size
        self.turnover += price * size


class _Stock:
    """One symbol's random walk."""

    def __init__(self, symbol: str, draw: random.Random) -> None:
        self.symbol = symbol
        self._draw = draw
        self._price = round(draw.uniform(20.0, 500.0), 2)
        self._open = self._price
        self._sequence = 0
        self._day = _Bar(0)
        self._bars: dict[str, _Bar] = {}

    def _step(self) -> int:
        self._price = round(max(1.0, self._price * (1.0 + self._draw.gauss(0.0, 0.0001))), 2)
        self._sequence += 1
        return self._sequence

    def quote(self, now_ms: int) -> dict[str, Any]:
        q = self._step()
        bid, ask = round(self._price - 0.01, 2), round(self._price + 0.01, 2)
        sizes = self._draw.randint(1, 20), self._draw.randint(1, 20)
        return {"ev": "Q", "sym": self.symbol, "bx": 11, "bp": bid, "bs": sizes[0], "ax": 12, "ap": ask,
                "as": sizes[1], "c": 0, "t": now_ms, "q": q, "z": 3}  # fmt: skip

    def trade(self, now_ms: int) -> dict[str, Any]:
        q = self._step()
        size = self._draw.choice((1, 10, 50, 100, 100, 200, 300))
        self._day.turnover += self._price * size
        self._day.volume += size
        for kind, length_ms in (("A", 1000), ("AM", 60_000)):
            start_ms = now_ms - now_ms % length_ms
            self._bars.setdefault(kind, _Bar(start_ms)).add(self._price, size)
        return {"ev": "T", "sym": self.symbol, "i": str(q), "x": 4, "p": self._price, "s": size,
                "t": now_ms, "q": q, "z": 3}  # fmt: skip

    def close_bar(self, kind: str, length_ms: int, now_ms: int) -> dict[str, Any] | None:
        """The bar of this kind if it has ended and held a trade."""
        bar = self._bars.get(kind)
        if bar is None or now_ms < bar.start_ms + length_ms:
            return None
        del self._bars[kind]
        return {"ev": kind, "sym": self.symbol, "v": bar.volume, "av": self._day.volume, "op": self._open,
                "vw": round(bar.turnover / bar.volume, 4), "o": bar.prices[0], "c": bar.prices[-1],
                "h": max(bar.prices), "l": min(bar.prices), "a": round(self._day.turnover / self._day.volume, 4),
                "z": bar.volume // len(bar.prices), "s": bar.start_ms, "e": bar.start_ms + length_ms}  # fmt: skip


class Simulator:
    """Feeds the intake with about 300 events a second, were all subscribed."""

    def __init__(
        self, upstream: Upstream, take: Callable[[bytes], None], seed: int | None = None, player: Replay | None = None
    ) -> None:
        """With a player it is that which trades."""
        self._player = player
        self._upstream = upstream
        self._take = take
        self._draw = random.Random(seed)
        self._stocks = [_Stock(symbol, self._draw) for symbol in SYMBOLS]
        self._held: set[str] = set()

    async def run(self) -> None:
        """Greet, then trade for as long as the process runs."""
        self._upstream.opened(self._receive)
        self._reply(encode_statuses([CONNECTED]))
        if self._player is not None:
            await self._player.run(self._take)
        while True:
            await asyncio.sleep(TICK_S)
            if self._player is not None:
                continue  # it is over
            events = [event for event in self._tick(time.time_ns() // 1_000_000) if self._is_held(event)]
            if events:
                self._take(_encode(events))

    def _is_held(self, event: dict[str, Any]) -> bool:
        return is_covered(f"{event['ev']}.{event['sym']}", self._held)

    def _tick(self, now_ms: int) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        for stock in self._stocks:
            for kind, length_ms in (("A", 1000), ("AM", 60_000)):
                if bar := stock.close_bar(kind, length_ms, now_ms):
                    events.append(bar)
        for stock in self._draw.sample(self._stocks, 10):
            events.append(stock.quote(now_ms))
        for stock in self._draw.sample(self._stocks, 5):
            events.append(stock.trade(now_ms))
        return events

    def _reply(self, frames: list[bytes]) -> None:
        # Not from within the call that sent the action: upstream answers later, too.
        loop = asyncio.get_running_loop()
        for frame in frames:
            loop.call_soon(self._take, frame)

    def _receive(self, text: str) -> None:
        action = parse_action(text)
        if action.action == "auth":
            self._reply(encode_statuses([AUTH_SUCCESS]))
            return
        channels = action.params.split(",")
        if action.action == "subscribe":
            self._held.update(channels)
            self._reply(encode_statuses(subscribed(channel) for channel in channels))
        else:
            self._held.difference_update(channels)
            self._reply(encode_statuses(unsubscribed(channel) for channel in channels))
        if self._player is not None:
            self._player.set_held(frozenset(self._held))
