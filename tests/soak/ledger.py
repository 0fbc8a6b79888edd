"""Who got what: proves "exactly once, or a notice that names it" for each client of a soak.  Pure.

Theory.  The fake upstream numbers the events of each channel 1, 2, 3, ... and goes on counting while nobody is
subscribed, as a market does.  `Emitted` knows when each number was sent.  A `Stream` is one client over all its
connections; each number that did not come is judged at the end:

    a `gap` notice to this client has its channel and its time of emission  lost, and told
    a `conflated` notice has its time, and its channel tells a state        left out, and told: at most as many as told
    neither                                                                 lost without a word: a fault

A gap that is told is still a fault where nothing upstream of the log was broken (`needless`): only a time at which
upstream or ingest was down (an `Outage`) may lose anything.  What came twice is a fault unless the connection before
had ended in a crash, and it first came at most REPEATED_MS before that end, not counting time in which nothing came (we
stopped the gateway or Redis, or the client did not read).  Within one connection no number may come after a higher one
of its channel.
"""

from array import array
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.checker import Anything, Checker, Event
from tests.soak.notices import Conflated, Gap, Told, parse_notice

REPEATED_MS: Final = 1000  # what came in the last moments before a crash may come again
NOTE_S: Final = 0.1  # how often it is noted what has come: so exactly is "when" known
EXAMPLES: Final = 2  # of each kind of fault and client


class Outage(NamedTuple):
    """From when to when (Unix ms) upstream or ingest may have lost what was sent."""

    from_ms: int
    to_ms: int


class Emitted:
    """When upstream sent each number of each channel.  Grows by 4 bytes an event; it is not part of the product."""

    def __init__(self, channels: Iterable[str], began_ms: int) -> None:
        self.began_ms = began_ms
        self.times = {channel: array("I") for channel in channels}  # ms since `began_ms`, by number - 1

    def get_last(self, channel: str) -> int:
        """The last number of the channel; 0 before the first."""
        return len(self.times[channel])

    def get_ms(self, channel: str, number: int) -> int:
        """When it was sent, Unix ms."""
        return self.began_ms + self.times[channel][number - 1]

    def find_covered(self, held: Iterable[str]) -> list[str]:
        """The exact channels that these bring."""
        names = set(held)
        return [c for c in self.times if not names.isdisjoint((c, f"{c.partition('.')[0]}.*", "*"))]


@dataclass(slots=True)
class Account:
    """What became of one client's events; `is_clean` if each came once, in order, or was told to be missing."""

    delivered: int = 0
    told: Counter[str] = field(default_factory=Counter)  # lost and told, by cause
    conflated: int = 0
    conflated_told: int = 0
    unexplained: int = 0
    needless: int = 0  # lost and told, though nothing was broken that may lose
    repeated: int = 0  # doubled, as a crash may do
    doubled: int = 0  # doubled otherwise
    disordered: int = 0
    foreign: int = 0
    malformed: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        faults = self.unexplained, self.needless, self.doubled, self.disordered, self.foreign, self.malformed
        return not any(faults) and self.conflated <= self.conflated_told

    def add(self, other: "Account") -> None:
        """Sum up."""
        self.told.update(other.told)
        self.examples += other.examples
        for name in ("delivered", "conflated", "conflated_told", "unexplained", "needless", "repeated", "doubled",
                     "disordered", "foreign", "malformed"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Stream(Checker):
    """All that one client got, over all its connections: `feed` it, and tell it where a connection begins."""

    most_holes = 2_000_000  # half an hour of a client that is conflated again and again has many

    def __init__(self, channels: Sequence[str], emitted: Emitted) -> None:
        super().__init__(channels, on_status=self._take_status)
        self.notices: list[Gap | Conflated] = []
        self.on_told: Callable[[str, str], None] = lambda _kind, _message: None
        self._emitted = emitted
        self._covered = emitted.find_covered(channels)
        self._floors: dict[str, int] = {}  # channel -> the number that was due when the ack came
        self._lost: list[tuple[str, range]] = []  # of connections that ended for good
        self._dues: dict[str, int] = {}  # what was due when this connection began
        self._again: dict[str, int] = {}  # the last number that came again on this connection
        self._notes: deque[tuple[int, dict[str, int]]] = deque()  # what was due when; ms in which something came
        self._noted_ms = 0  # Unix time of the last note
        self._still_ms = 0  # in which nothing came, of all time
        self._crashed_from: dict[str, int] | None = None  # since a crash after which nothing was acked yet
        self._repeats_from: dict[str, int] | None = None  # what may come again on this connection, if anything
        self._account = Account()

    # Connections.

    def begin(self, *, anew: bool) -> None:
        """A connection begins; `anew` if it need not go on from where the one before ended."""
        if anew:
            self._lost += self._find_missing({})
            self.forgive(list(self._first))
            self._first.clear()
            self._floors.clear()
        self._repeats_from = self._crashed_from
        self._dues = {channel: self.get_due(channel) for channel in self._first}
        self._again.clear()

    def acked(self) -> None:
        """All is acked: what is sent from now on is due."""
        self._crashed_from = None
        for channel in self._covered:
            if channel not in self._first:
                self._floors.setdefault(channel, self._emitted.get_last(channel) + 1)

    def crashed(self, now_ms: int) -> None:
        """The connection crashed at this Unix time; of several in turn without an ack between them the first counts."""
        if self._crashed_from is None:
            self._crashed_from = self._find_due(now_ms - self._still_ms - REPEATED_MS)

    def note(self, now_ms: int) -> None:
        """Note what has come by now; to be called every NOTE_S."""
        dues = {channel: self.get_due(channel) for channel in self._first}
        if self._notes and self._notes[-1][1] == dues:
            self._still_ms += now_ms - self._noted_ms
        else:
            self._notes.append((now_ms - self._still_ms, dues))
        self._noted_ms = now_ms
        while len(self._notes) > 1 and self._notes[1][0] < now_ms - self._still_ms - 2 * REPEATED_MS:
            self._notes.popleft()

    def _find_due(self, at_ms: int) -> dict[str, int]:
        """What was due then, or a little earlier."""
        return next((dues for noted_ms, dues in reversed(self._notes) if noted_ms <= at_ms), {})

    def get_due(self, channel: str) -> int:
        """The next number due; 0 before the first."""
        event_type, _, symbol = channel.partition(".")
        return self._next.get(event_type, {}).get(symbol, 0)

    # What came.

    def _take_status(self, kind: str, message: str) -> None:
        try:
            notice = parse_notice(kind, message)
        except ValueError as error:
            self._blame("malformed", 1, str(error))
            return
        if notice is not None:
            self.notices.append(notice)
        self.on_told(kind, message)

    def _begin(self, channel: str, event: Event | Anything) -> None:
        super()._begin(channel, event)
        floor = self._floors.get(channel, event.q)
        if event.q > floor:
            self._add_hole(channel, range(floor, event.q))

    def _add_hole(self, channel: str, missing: range) -> None:
        if self._hole_count >= self.most_holes:
            self._account.unexplained += len(missing)  # forgotten, so nothing can explain them
        super()._add_hole(channel, missing)

    def _judge_odd(self, event: Event | Anything) -> None:
        channel, number = f"{event.ev}.{event.sym}", event.q
        due = self.get_due(channel)
        if number > due:
            self._next[event.ev][event.sym] = number + 1
            self._add_hole(channel, range(due, number))
        elif due != self._dues.get(channel) or number <= self._again.get(channel, 0):
            self._count("disordered", f"{channel} {number}: due {due}, and a higher one came on this connection")
        else:
            self._again[channel] = number
            self._judge_repeat(channel, number)

    def _judge_repeat(self, channel: str, number: int) -> None:
        """It continues another connection, from before its end."""
        if self._fill_hole(channel, number):
            return
        if self._repeats_from is None:
            self._count("doubled", f"{channel} {number}: without a crash")
        elif number < self._repeats_from.get(channel, 0):
            from_ = self._repeats_from[channel]
            self._count("doubled", f"{channel} {number}: came long before the crash, which may repeat {from_} and on")
        else:
            self._account.repeated += 1

    def _count(self, kind: str, example: str) -> None:
        setattr(self._account, kind, getattr(self._account, kind) + 1)
        if getattr(self._account, kind) <= EXAMPLES:
            self._account.examples.append(f"{kind}: {example}")

    # The verdict.

    def count_tail(self) -> int:
        """Events that were sent last and have not come."""
        return sum(len(missing) for _, missing in self._find_tails_of(self._get_ends()))

    def judge(self, outages: Sequence[Outage]) -> Account:
        """The account; call it once, when nothing more comes.  Outages begin and end one after the other."""
        account, verdict = self._account, self.verdict
        account.delivered = verdict.events
        account.foreign, account.malformed = verdict.foreign + verdict.unnumbered, verdict.malformed
        account.examples += verdict.examples
        account.conflated_told = sum(n.events for n in self.notices if isinstance(n, Conflated))
        told = Told(self.notices)
        for channel, missing in self._lost + self._find_missing(self._get_ends()):
            for number in missing:
                self._judge_lost(channel, number, told, outages)
        return account

    def _get_ends(self) -> dict[str, int]:
        return {channel: self._emitted.get_last(channel) for channel in self._covered}

    def _find_missing(self, ends: dict[str, int]) -> list[tuple[str, range]]:
        holes = [(channel, hole) for channel, found in self._holes.items() for hole in found]
        return holes + self._find_tails_of(ends)

    def _find_tails_of(self, ends: dict[str, int]) -> list[tuple[str, range]]:
        tails = []
        for channel, last in ends.items():
            due = self.get_due(channel) or self._floors.get(channel, last + 1)
            tails.append((channel, range(due, last + 1)))
        return [(channel, tail) for channel, tail in tails if tail]

    def _judge_lost(self, channel: str, number: int, told: "Told", outages: Sequence[Outage]) -> None:
        at_ms = self._emitted.get_ms(channel, number)
        found = told.find(channel, at_ms)
        gap = next((notice for notice in found if isinstance(notice, Gap)), None)
        place = bisect_right(outages, at_ms, key=lambda outage: outage.from_ms)
        is_outage = place > 0 and at_ms <= outages[place - 1].to_ms
        # A gap is told up to 3 s ahead, and then its client may be conflated: that must be told too, and is counted.
        if gap is not None and (is_outage or not any(isinstance(notice, Conflated) for notice in found)):
            self._account.told[gap.cause.partition(";")[0]] += 1
            if not is_outage:
                self._count("needless", f"{channel} {number}, sent {at_ms}: {gap.cause}")
        elif found:
            self._account.conflated += 1
        else:
            self._count("unexplained", f"{channel} {number}, sent {at_ms}")
