"""A client that has come back, with all of its gateway that serves it, moved step by step; and what it must get.

The model knows nothing of lanes, groups or replays.  Each event is *owed* by what the client holds above it at the time
when the hub gets it, if that was acked or could be; an event that was missed is owed by what first asks for its
channel, if the record has that.  What is given up owes nothing any more, but that a gap names what was missed.  What is
still owed in the end must have come, or a gap must name it; and nothing may have come twice.
"""

import asyncio
import itertools
import json
import re
from collections.abc import Coroutine, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from gateway.client import MOST_REPLAYS, Client
from gateway.interest import Interest
from gateway.keys import Keys
from gateway.log import Log
from gateway.receipt import LIVE, Lane
from gateway.resume import Resumer, Resumption
from gateway.returning import PASSED, Returning
from gateway.server import Door, Limits
from gateway.session import Session
from shared.batch import Mark
from shared.channels import ALL, expand, get_event_type, get_wildcard, is_covered
from tests.unit.gateway.away import NAMES, World, make_mark
from tests.unit.gateway.frames import read_events

EXACT = ("T.A", "T.B", "Q.A", "Q.B")
KEY = "a-key"
MOST_ROUNDS = 30  # until whoever came back is live, once all is ready
_GAP = re.compile(r"events from (\d+) to (\d+) may be missing: (.*); channels: (.*)")
_NO_HOLD = "told"  # what nobody asked for again, and must be told

Lanes = list[tuple[int, tuple[str, ...]]]


class Event(NamedTuple):
    """One event of a batch."""

    number: int
    channel: str
    mark: Mark


class Batch:
    """One batch, as ingest publishes it."""

    def __init__(self, mark: Mark, events: list[Event]) -> None:
        self.mark = mark
        self.events = events
        self.is_begun = False  # the hub has all but the mark

    def get_messages(self) -> dict[str, bytes]:
        """Each channel, then each event type that is wanted whole."""
        kinds = sorted(self.mark.alls)
        parts = {event.channel: [event] for event in self.events}
        parts |= {f"{kind}.*": [e for e in self.events if get_event_type(e.channel) == kind] for kind in kinds}
        return {NAMES.get_bus_channel(channel): _encode(events) for channel, events in parts.items() if events}


def _encode(events: list[Event]) -> bytes:
    return json.dumps([{"ev": event.channel[0], "n": event.number} for event in events]).encode()


class Edges:
    """The interest: what was taken up, what waits for that, and what nobody wants any more."""

    def __init__(self) -> None:
        self.todo: set[str] = set()
        self.taken: set[str] = set()
        self.idle: set[str] = set()

    def want(self, channels: Iterable[str]) -> None:
        self.idle.difference_update(channels)
        self.todo.update(set(channels) - self.taken)

    def unwant(self, channels: Iterable[str]) -> None:
        self.todo.difference_update(channels)
        self.idle.update(channels)


class Visit:
    """The client held the channels of each lane before, and has each up to the mark with the lane's number."""

    def __init__(self, lanes: Lanes, away: int, replays: int = MOST_REPLAYS) -> None:
        self._lanes = lanes
        self._replays = replays
        self._frames_before = 0  # this connection
        self._gaps: list[str] = []  # told, but not received
        self._given_up: set[str] = set()  # on this connection, exact channels
        self._may_repeat: set[int] = set()
        self._world = World()
        self._hub = self._world.hub
        self._edges = Edges()
        self._waiters: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = itertools.count(1)
        self._sequence = 1
        self._queue: list[Batch] = []  # logged, and the hub does not have the mark
        self._alls: frozenset[str] = frozenset()
        self._events: dict[int, Event] = {}
        self._missed: dict[str, set[int]] = {channel: set() for channel in EXACT}  # and not asked for yet
        self._owed: dict[int, set[str]] = {}  # event -> what owes it
        self._replayed: set[int] = set()  # events that were missed, and that something owed
        self._sure: set[str] | None = None  # what it held for sure as it went away
        self._make_door()
        self._connect([Lane(make_mark(position), channels) for position, channels in lanes])
        for _ in range(away):
            self.log(EXACT)
            self.take_in()

    def _make_door(self) -> None:
        log = Log(cast(Any, self._world.stream), NAMES)
        resumption = cast(Resumption, SimpleNamespace(save_soon=lambda: None))
        self._returning = Returning(resumption, log, self._hub, NAMES, self._until_mark)
        held: Any = SimpleNamespace(
            is_held=lambda _channel: True, find_refused_parts=lambda _channel: {}, refused={}, test_data=()
        )
        interest = cast(Interest, self._edges)
        self._door = Door("stocks", Keys([KEY]), self._hub, interest, held, self._returning, Limits(10, 1000))

    def _connect(self, missed: list[Lane]) -> None:
        connection: Any = SimpleNamespace(outbox=None, remote_address=None)
        self.session = Session("stocks", lambda key: key == KEY)
        self.client = Client(connection, self.session, self._world.outbox, "bot")
        self.client.replays = MOST_REPLAYS - self._replays  # as if the others were under way
        self.client.start = self._start  # type: ignore[method-assign, assignment]
        self.session.receive(json.dumps({"action": "auth", "params": KEY}))
        self.client.resumer = Resumer("bot", "a/1", missed, self._world.receipt)

    def _start(self, _what: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _until_mark(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    # What happens.

    async def say(self, action: str, channels: Iterable[str]) -> None:
        """A message of the client's."""
        before = set(self.session.spellings)
        message = json.dumps({"action": action, "params": ",".join(channels)})
        step = self.session.receive(message)
        for hold in before - self.session.spellings.keys():
            self._give_up(hold)
            self._given_up |= {channel for channel in EXACT if self._is_above(hold, channel)}
        for channel in EXACT:
            above = {hold for hold in self.session.spellings.keys() - before if self._is_above(hold, channel)}
            if above:
                for number in self._missed.pop(channel, ()):
                    self._replayed.add(number)
                    self._owed[number] = {hold for hold in above if self._is_recorded(hold)} or {_NO_HOLD}
        await self._door._act(self.client, step)

    async def come_back(self, away: int, under_way: int = 0) -> None:
        """Its connection ends, before the last so many frames came; so many batches later it asks for what it held."""
        outbox, holds = self._world.outbox, list(self.session.spellings.values())
        self._sure = self._find_sure()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        outbox.receipt.arrived(outbox.note() - self._cut_off(under_way))
        missed = self._find_missed()
        self._edges.unwant(self._hub.drop(outbox))
        outbox.close()
        for _ in range(away):
            self.log(EXACT)
            self.take_in()
        self._sure = None
        self._world.connect()
        self._connect(missed)
        if holds:
            await self.say("subscribe", holds)

    def _cut_off(self, frames: int) -> int:
        """So many frames that were written on this connection never came; returns their bytes."""
        written = self._world.wire.written
        first = max(self._frames_before, len(written) - frames)
        lost, written[first:] = written[first:], []
        self._frames_before = first
        if lost:  # what was given up, and perhaps asked for again, while something was under way
            self._may_repeat |= {n for n, _ in self._read() if n and self._events[n].channel in self._given_up}
        self._given_up.clear()
        numbers = {event["n"] for frame in lost for event in read_events(frame) if "n" in event}
        for number in numbers & self._owed.keys():
            self._owed[number] &= self.session.spellings.keys()  # given up after it was written
        # A notice that was under way is not told again.
        self._gaps += [event["message"] for frame in lost for event in read_events(frame) if "n" not in event]
        return sum(map(len, lost))

    def _find_missed(self) -> list[Lane]:
        assert self.client.resumer is not None
        self.client.resumer.confirm()
        parts = sorted(self.client.resumer.confirmed, key=lambda part: part.received_us, reverse=True)
        return [Lane(make_mark(part.sequence), part.channels) for part in parts]

    def _find_sure(self) -> set[str]:
        """What of its holds it gets every event of, now or from the log."""
        outbox = self._world.outbox
        late = self._hub.find_late(outbox)
        return {hold for hold in self.session.spellings if hold in late or self._hub.has_joined(outbox, hold)}

    def _is_above(self, hold: str, channel: str) -> bool:
        return is_covered(channel, expand("stocks", [hold]))

    def _is_recorded(self, hold: str) -> bool:
        """Whether it was held before, so that it brings what was missed under it."""
        return any(name in lane for _, lane in self._lanes for name in (hold, get_wildcard(hold), ALL))

    def _give_up(self, hold: str) -> None:
        come = {number for number, _ in self._read()}
        for number, holds in self._owed.items():
            if number not in come and hold in holds:
                holds.remove(hold)
                has_come_here = self._events[number].mark[:2] <= self._hub.last_mark[:2]
                if not holds and number in self._replayed and has_come_here:
                    holds.add(_NO_HOLD)

    def log(self, channels: Iterable[str]) -> None:
        """Ingest logs a batch; the hub gets it later."""
        self._sequence += 1
        mark = make_mark(self._sequence, *self._alls)
        events = [Event(next(self._numbers), channel, mark) for channel in channels]
        for event in events:
            self._events[event.number] = event
            if self._sequence > self._find_position(event.channel) and event.channel in self._missed:
                self._missed[event.channel].add(event.number)
        self._queue.append(Batch(mark, events))
        self._world._log(mark, self._queue[-1].get_messages())

    def _find_position(self, channel: str) -> float:
        for name in (channel, get_wildcard(channel), ALL):  # what is said of the channel itself is truer
            found = [at for at, lane in self._lanes if name in lane]
            if found:
                return max(found)
        return float("inf")

    def begin_batch(self) -> None:
        """The hub gets all of the next batch but its mark."""
        if not self._queue or self._queue[0].is_begun:
            return
        self._queue[0].is_begun = True
        sure = self._find_sure() if self._sure is None else self._sure
        for event in self._queue[0].events:
            self._owed.setdefault(event.number, set()).update(h for h in sure if self._is_above(h, event.channel))
        for channel, payload in self._queue[0].get_messages().items():
            self._hub.collect(channel.encode(), payload)

    def take_in(self) -> None:
        """The hub gets the next mark, and what is before it."""
        if not self._queue:
            return
        self.begin_batch()
        self._hub.seal(self._queue.pop(0).mark)
        for frame, _members in self._hub.flush():
            self._world.outbox.send(frame)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        self._door.on_change()

    def take_up(self) -> None:
        """The interest goes a round: what is wanted is listened to and counted, what is not wanted is let go."""
        edges = self._edges
        edges.taken |= edges.todo
        self._hub.set_ready(edges.todo)
        edges.todo.clear()
        for channel in sorted(edges.idle):
            if not any(self._hub.is_routed(NAMES.get_bus_channel(part)) for part in expand("stocks", [channel])):
                edges.idle.discard(channel)
                edges.taken.discard(channel)
                self._hub.set_unready([channel])
        self._door.on_change()

    def publish_wholes(self) -> None:
        """Ingest hears which event types are wanted whole; for how long they stay so a history is too short."""
        parts = expand("stocks", self._edges.taken)
        self._alls |= {get_event_type(part) for part in parts if part.endswith(".*")}

    async def let_run(self, turns: int) -> None:
        """What waits for nothing goes on."""
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in self._tasks:
            if task.done():
                task.result()

    # What came of it.

    def _read(self) -> list[tuple[int, str]]:
        """The number of each event that came, or 0 with the text of a gap, in order."""
        read = [event for frame in self._world.wire.written for event in read_events(frame)]
        return [(event.get("n", 0), event["message"] if event.get("status") == "gap" else "") for event in read]

    async def finish(self) -> None:
        """All goes well from now on, until the client is live; then two more batches."""
        for _ in range(MOST_ROUNDS):
            await self._go_on()
            if not self._hub.find_late(self._world.outbox):
                break
        else:
            raise AssertionError(f"it stands still: {sorted(self._hub.find_late(self._world.outbox))}")
        for _ in range(3):
            await self._go_on()
        for task in self._tasks:
            task.cancel()

    async def _go_on(self) -> None:
        self.take_up()
        self.publish_wholes()
        self.log(EXACT)
        while self._queue:
            self.take_in()
        await self.let_run(20)

    def check(self) -> None:
        """Raises AssertionError."""
        read = self._read()
        numbers = list(self._leave_out_repeats(number for number, _ in read if number))
        assert len(numbers) == len(set(numbers)), f"twice: {sorted({n for n in numbers if numbers.count(n) > 1})}"
        for channel in EXACT:
            of_channel = [number for number in numbers if self._events[number].channel == channel]
            assert of_channel == sorted(of_channel), f"{channel} is out of order"
        texts = [*self._gaps, *(text for _, text in read)]
        gaps = [found.groups() for text in texts if (found := _GAP.fullmatch(text))]
        lost = [n for n, holds in self._owed.items() if holds and n not in numbers and not self._is_told(n, gaps)]
        assert not lost, f"lost without a word: {[self._events[number] for number in lost]}"
        assert not self.client.given_up
        outbox = self._world.outbox
        outbox.receipt.arrived(outbox.note())
        lanes = {number: lane.channels for number, lane in outbox.receipt.lanes.items()}
        assert lanes == {LIVE: set(self.session.spellings)}, "the record is not that of a client that is live"
        parts = expand("stocks", self.session.spellings)
        tail = [self._events[number] for number in numbers if self._events[number].mark.sequence == self._sequence]
        assert {event.channel for event in tail} == {channel for channel in EXACT if is_covered(channel, parts)}

    def _leave_out_repeats(self, numbers: Iterable[int]) -> Iterator[int]:
        seen: set[int] = set()
        for number in numbers:
            if number not in seen or number not in self._may_repeat:
                yield number
            seen.add(number)

    def _is_told(self, number: int, gaps: list[tuple[str | Any, ...]]) -> bool:
        event = self._events[number]
        at_ms = event.mark.received_us // 1000
        return any(
            # How soon a wildcard is live is for the history to say.
            int(first) <= at_ms
            and (at_ms <= int(last) or cause == PASSED)
            and is_covered(event.channel, expand("stocks", names.split(",")))
            for first, last, cause, names in gaps
        )
