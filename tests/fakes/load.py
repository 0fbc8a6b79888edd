"""Trades and quotes of N symbols at a steady rate, numbered per channel, at a fraction of a microsecond an event.

What an event costs is what decides here, since the benchmark runs the whole product beside us on two cores. So nothing
is drawn or formatted that need not be: which channels come in which order is a seeded cycle drawn once, all of an event
but its time and number is rendered beforehand, and a tick's events share one time and one frame.

`q` counts a channel's events that were really sent, 1, 2, 3, ..., over reconnects too: a checker that sees each number
once has seen everything once. An event that nobody holds takes no number. (`Script.wildcard_twice` has no effect here.)
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from tests.fakes.connection import Connection

# Behind by more than this, the rest is skipped and counted as late.
CATCH_UP_S = 0.25
# A client that has left this much unread gets nothing more until it reads (whence lateness, not loss).
_UNREAD_BYTES = 8 * 2**20
# The seeded cycle is at least so many events long.
_CYCLE_EVENTS = 20_000


class Load:
    """Sends events to the live connections that `live` returns, in frames of at most `frame_events`."""

    def __init__(
        self,
        live: Callable[[], Sequence[Connection]],
        *,
        rate: float,
        symbols: int,
        frame_events: int = 100,
        seed: int = 1,
        tick_s: float = 0.002,
    ) -> None:
        """`rate` is in events/s over all channels, T and Q of each symbol, also those that nobody holds."""
        self.sent = 0  # events sent, each once however many clients got it
        self.late = 0  # events skipped because we, or a client, were too far behind
        self.channels = [f"{topic}.S{number:04}" for number in range(symbols) for topic in ("T", "Q")]
        self.last = [0] * len(self.channels)  # the last number sent, by position in `channels`
        self._live = live
        self._rate = rate
        self._frame_events = frame_events
        chance = random.Random(seed)
        self._cycle = _draw_cycle(symbols, chance)
        # In the order of use: a frame's heads then lie side by side in memory, which a core just woken up feels.
        self._heads = [_render_head(self.channels[pick], chance) for pick in self._cycle]
        self._position = 0
        self._tick_s = tick_s
        self._flags: dict[int, tuple[int, list[int]]] = {}  # connection -> version of its session, copies by channel
        self._scheduled = 0
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._began = time.perf_counter()
        self._scheduled = 0
        self._tick()

    def stop(self) -> None:
        """Harmless if not started."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def last_numbers(self) -> dict[str, int]:
        """The last number sent on each channel that had any."""
        return {channel: last for channel, last in zip(self.channels, self.last, strict=True) if last}

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)
        live = self._live()
        if any(connection.unread_bytes > _UNREAD_BYTES for connection in live):
            return
        for size in self._take_due():
            picks, heads = self._take_slice(size)
            if len(live) == 1:
                self._send_to_one(live[0], picks, heads)
            else:
                self._send_to_many(live, picks, heads)

    def _take_due(self) -> list[int]:
        """The sizes of the frames that are due by the clock, so that no tick's lateness adds up.

        What does not fill another frame waits for the next tick: a second small frame would cost as much as the first.
        """
        due = int((time.perf_counter() - self._began) * self._rate) - self._scheduled
        kept = min(due, max(1, int(self._rate * CATCH_UP_S)))
        self.late += due - kept
        sizes = [self._frame_events] * (kept // self._frame_events) or [kept] * (kept > 0)
        self._scheduled += due - kept + sum(sizes)
        return sizes

    def _take_slice(self, size: int) -> tuple[list[int], list[str]]:
        start, end = self._position, self._position + size
        self._position = end % len(self._cycle)
        if end <= len(self._cycle):
            return self._cycle[start:end], self._heads[start:end]
        places = [place % len(self._cycle) for place in range(start, end)]
        return [self._cycle[place] for place in places], [self._heads[place] for place in places]

    def _send_to_one(self, connection: Connection, picks: list[int], heads: list[str]) -> None:
        events = self._render(picks, heads, self._flags_of(connection))
        if events:
            connection.write(f"[{','.join(events)}]".encode())

    def _send_to_many(self, live: Sequence[Connection], picks: list[int], heads: list[str]) -> None:
        """The same numbered event to each client that holds its channel."""
        flags = [self._flags_of(connection) for connection in live]
        held = [max(copies) for copies in zip(*flags, strict=True)] or [0] * len(self.channels)
        events = self._render(picks, heads, held)
        picks = [pick for pick in picks if held[pick]]
        for connection, of_one in zip(live, flags, strict=True):
            due = [event for pick, event in zip(picks, events, strict=True) if of_one[pick]]
            if due:
                connection.write(f"[{','.join(due)}]".encode())

    def _render(self, picks: list[int], heads: list[str], held: list[int]) -> list[str]:
        """Number and render what is held; the hot loop: all else here runs once a frame."""
        middle = f'{int(time.time() * 1000)},"q":'
        last = self.last
        events = []
        for pick, head in zip(picks, heads, strict=True):
            if held[pick]:
                last[pick] = number = last[pick] + 1
                events.append(f'{head}{middle}{number},"z":3}}')
        self.sent += len(events)
        return events

    def _flags_of(self, connection: Connection) -> list[int]:
        """Which channels the client holds, by position; worked out anew only when its session has changed."""
        session = connection.session
        version, flags = self._flags.get(connection.number, (-1, []))
        if version != session.version:
            flags = [session.copies(channel) for channel in self.channels]
            if connection.number not in self._flags:
                numbers = {other.number for other in self._live()}
                self._flags = {number: known for number, known in self._flags.items() if number in numbers}
            self._flags[connection.number] = (session.version, flags)
        return flags


def _draw_cycle(symbols: int, chance: random.Random) -> list[int]:
    """Positions in `channels`: all symbols again and again, each time in another order, T and Q of each in turn."""
    phases = [chance.randrange(2) for _ in range(symbols)]
    cycle: list[int] = []
    for turn in range(2 * (_CYCLE_EVENTS // (2 * symbols) + 1)):
        order = chance.sample(range(symbols), symbols)
        cycle += [2 * number + (turn + phases[number]) % 2 for number in order]
    return cycle


def _render_head(channel: str, chance: random.Random) -> str:
    """An event up to its time, with the keys in the order of live ones [b.3]."""
    topic, _, symbol = channel.partition(".")
    cents, size = chance.randrange(1000, 50000), chance.randrange(1, 20) * 100
    if topic == "T":
        trade = f'"i":"{chance.randrange(10_000, 10**6)}","x":{chance.randrange(1, 20)},"p":{(cents + 0.5) / 100}'
        return f'{{"ev":"T","sym":"{symbol}",{trade},"s":{size},"c":[14,41],"t":'
    bid = f'"bx":{chance.randrange(1, 20)},"bp":{cents / 100},"bs":{size // 100}'
    ask = f'"ax":{chance.randrange(1, 20)},"ap":{(cents + 2) / 100},"as":{chance.randrange(1, 20)}'
    return f'{{"ev":"Q","sym":"{symbol}",{bid},{ask},"t":'
