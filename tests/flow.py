"""Numbered events at a steady rate, and the judgement of what each client got of them when gaps may have been told.

A gap is no licence: what is missing must have been sent within the span of a gap that the client was told, and that
names the channel (or tells that it names not all).  Nothing may come twice, out of order, or unasked for.
"""

import asyncio
import re
import time
from collections.abc import Iterable
from typing import NamedTuple, Self

import msgspec

from tests.checker import Checker
from tests.fakes.polygon import FakePolygon
from tests.subscriber import Subscriber

_TICK_S = 0.01
_SLACK_MS = 300  # between the sending of an event and its receipt, which is the clock of gaps
_GAP = re.compile(r"gap: events from (\d+) to (\d+) may be missing: (.+); channels: (.*)")


class ToldGap(NamedTuple):
    """A gap as a client was told it."""

    from_ms: int
    to_ms: int
    cause: str
    channels: str
    place: int  # how many events came before it

    def explains(self, channel: str, sent_ms: int, place: int) -> bool:
        """Whether it says that this event may be missing, and said so before the event of that place came."""
        if self.place > place:
            return False
        names = self.channels.split(",")
        named = {channel, f"{channel.partition('.')[0]}.*", "*"}.intersection(names) or " more" in self.channels
        return bool(named) and self.from_ms - _SLACK_MS <= sent_ms <= self.to_ms + _SLACK_MS


def find_gaps(client: Subscriber) -> list[ToldGap]:
    """All gaps that the client was told; a status `gap` of another shape fails the test."""
    gaps = []
    for status, place in zip(client.statuses, client.status_places, strict=True):
        if status.startswith("gap: "):
            match = _GAP.fullmatch(status)
            assert match, status
            gaps.append(ToldGap(int(match[1]), int(match[2]), match[3], match[4], place))
    return gaps


class Flow:
    """Each channel in turn, numbered 1, 2, 3, ...; runs while the context is open.  A number unheard is used up."""

    def __init__(self, fake: FakePolygon, channels: Iterable[str], rate: float) -> None:
        self.channels = list(channels)
        self._fake = fake
        self._rate = rate
        self.sent_ms: dict[str, list[int]] = {channel: [] for channel in self.channels}  # by number - 1
        self.total = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="flow")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        began = time.monotonic()
        while True:
            due = int((time.monotonic() - began) * self._rate) - self.total
            if due > 0:
                self._send(due)
            await asyncio.sleep(_TICK_S)

    def _send(self, count: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        events = []
        for _ in range(count):
            channel = self.channels[self.total % len(self.channels)]
            self.total += 1
            self.sent_ms[channel].append(now_ms)
            kind, _, symbol = channel.partition(".")
            event = b'{"ev":"%b","sym":"%b","q":%d}' % (kind.encode(), symbol.encode(), len(self.sent_ms[channel]))
            events.append((channel, event))
        for connection in self._fake.live():
            due = [event for channel, event in events if connection.session.copies(channel)]
            if due:
                connection.write(b"[" + b",".join(due) + b"]")

    def get_last_numbers(self) -> dict[str, int]:
        """The last number sent, by channel."""
        return {channel: len(sent) for channel, sent in self.sent_ms.items() if sent}

    async def until_caught_up(self, *clients: Subscriber, within_s: float = 10.0) -> None:
        """Until each has an event that was sent after this call."""
        for client in clients:
            seen, now_ms = len(client.events), time.time_ns() // 1_000_000

            def is_new(client: Subscriber = client, seen: int = seen, now_ms: int = now_ms) -> bool:
                return any(self._get_sent_ms(event) >= now_ms for event in client.events[seen:][-50:])

            await client.until(is_new, "an event sent just now", within_s)

    def _get_sent_ms(self, event: bytes) -> int:
        channel, number = _read(event)
        return self.sent_ms[channel][number - 1]

    async def finish(self, *clients: Subscriber, within_s: float = 10.0) -> None:
        """Send no more, and wait until the last event has come to each who holds its channel."""
        self._task.cancel()
        await asyncio.wait([self._task])
        last = self.get_last_numbers()
        for client in clients:
            await client.until(lambda client=client: self._has_last(client, last), "the last events", within_s)  # type: ignore[misc]

    def _has_last(self, client: Subscriber, last: dict[str, int]) -> bool:
        due = {channel: number for channel, number in last.items() if holds(client.held, channel)}
        for event in reversed(client.events[-4 * len(last) - 400 :]):
            channel, number = _read(event)
            if due.get(channel) == number:
                del due[channel]
            if not due:
                return True
        return not due

    def judge_exactly_once(self, client: Subscriber) -> None:
        """Each event of its channels from its first one on, once and in order, and no gap was told."""
        assert find_gaps(client) == [], (find_gaps(client), client.statuses)
        checker = Checker(client.held)
        for frame in client.frames:
            checker.feed(frame.encode() if isinstance(frame, str) else frame)
        verdict = checker.finish(self.get_last_numbers())
        assert verdict.is_clean, verdict
        assert verdict.events > 0

    def judge_with_gaps(self, client: Subscriber) -> int:
        """Nothing twice, out of order or unasked for; what is missing lies in a gap told before what follows it.

        Returns how much is missing.
        """
        gaps = find_gaps(client)
        seen: dict[str, int] = {}
        missing = 0
        unexplained = []
        for place, (channel, number) in enumerate([*map(_read, client.events), *self._get_ends(client)]):
            assert holds(client.held, channel), f"{channel} is foreign"
            before = seen.get(channel, number - 1)
            assert number > before, f"{channel} {number} came after {before}: doubled or out of order"
            for lost in range(before + 1, number):
                missing += 1
                sent_ms = self.sent_ms[channel][lost - 1]
                if not any(gap.explains(channel, sent_ms, place) for gap in gaps):
                    unexplained.append((channel, lost, sent_ms))
            seen[channel] = number
        assert not unexplained, f"{len(unexplained)} of {missing}: {unexplained[0]} ... {unexplained[-1]}; told: {gaps}"
        return missing

    def _get_ends(self, client: Subscriber) -> list[tuple[str, int]]:
        """One number above the last, for each channel held: so that a missing tail is found."""
        last = self.get_last_numbers()
        return [(channel, number + 1) for channel, number in last.items() if holds(client.held, channel)]


_decode = msgspec.json.Decoder(dict[str, str | int]).decode


def _read(event: bytes) -> tuple[str, int]:
    fields = _decode(event)
    return f"{fields['ev']}.{fields['sym']}", int(fields["q"])


def holds(held: Iterable[str], channel: str) -> bool:
    """Whether who holds these gets events of the exact channel."""
    return not {channel, f"{channel.partition('.')[0]}.*", "*"}.isdisjoint(held)
