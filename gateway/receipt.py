"""What one client has got: how far its stream of events has been received at the other end.  Pure.

Theory.  The stream is bytes, counted from its first.  Each time that everything up to a batch has been written, the
count and the batch's mark are noted.  Whoever knows how many bytes have arrived knows the mark up to which the client
has everything, its *position*.  A client that comes back gets some channels from the log first, and those have a
position of their own until they are live: a *lane*; lane 0 is the live one.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Set
from typing import Final

from shared.batch import Mark
from shared.channels import ALL, get_wildcard

LIVE: Final = 0


class Lane:
    """Some channels and how far the client has got them; `got`: what under its wildcards it has got further."""

    def __init__(self, position: Mark, channels: Iterable[str], got: "Iterable[Lane]" = ()) -> None:
        self.position = position
        self.channels = set(channels)
        self.got = list(got)

    def find_further(self) -> "Iterator[Lane]":
        """What of `got` is still further, with what the client holds under its wildcards."""
        for got in self.got:
            if got.position[:2] > self.position[:2]:
                below = {channel for channel in self.channels if get_wildcard(channel) in got.channels}
                yield Lane(got.position, got.channels | below)


class Receipt:
    """The lanes of one client.  Notes are bounded by what is written and not arrived, so by the outbox's bounds."""

    def __init__(self, position: Mark) -> None:
        self.lanes = {LIVE: Lane(position, ())}
        self._notes: deque[tuple[int, int, Mark, bool]] = deque()
        self._last_lane = LIVE

    def open_lane(self, position: Mark, channels: Iterable[str], got: Iterable[Lane] = ()) -> int:
        """These channels follow from this position on, with what the client holds of `got`; returns the lane."""
        self._last_lane += 1
        lane = self.lanes[self._last_lane] = Lane(position, channels, got)
        for further in lane.got:
            lane.channels |= self.lanes[LIVE].channels & further.channels
        self.lanes[LIVE].channels -= lane.channels
        return self._last_lane

    def extend_lane(self, number: int, channels: Set[str]) -> None:
        """These channels follow with the lane, of which nothing is written yet."""
        self.lanes[number].channels |= channels
        self.lanes[LIVE].channels -= channels

    def wrote(self, count: int, mark: Mark, lane: int = LIVE, *, joins: bool = False) -> None:
        """With `count` bytes in all, the lane is written up to the mark; `joins`: from there on it is live."""
        if self._notes and self._notes[-1][0] == count and self._notes[-1][1] == lane and not self._notes[-1][3]:
            self._notes.pop()
        self._notes.append((count, lane, mark, joins))

    def arrived(self, count: int) -> None:
        """The client has `count` bytes."""
        while self._notes and self._notes[0][0] <= count:
            _, lane, mark, joins = self._notes.popleft()
            self.lanes[lane].position = mark
            if joins:
                self.lanes[LIVE].channels |= self.lanes.pop(lane).channels

    def close_lane(self, number: int) -> None:
        """All of it was given up before it was live."""
        del self.lanes[number]
        self._notes = deque(note for note in self._notes if note[1] != number)

    def add(self, channels: Iterable[str]) -> None:
        """The client holds these: from where the nearest wildcard above them is, or live."""
        for channel in channels:
            names = (get_wildcard(channel), ALL)
            above = (lane for name in names for lane in self.lanes.values() if name in lane.channels)
            next(above, self.lanes[LIVE]).channels.add(channel)

    def find_lanes(self, channels: Set[str]) -> list[Lane]:
        """How far the client has got these."""
        found = (Lane(lane.position, lane.channels & channels) for lane in self.lanes.values())
        return [lane for lane in found if lane.channels]

    def remove(self, channels: Iterable[str], late: Set[str] = frozenset()) -> None:
        """The client holds these no more; what a wildcard had brought, and is held beside it, is live without it.

        `late` is what was missed itself: it stays where it is.
        """
        gone = set(channels)
        joining = {LIVE, *(lane for _, lane, _, joins in self._notes if joins)}
        left: set[str] = set()
        for number, lane in self.lanes.items():
            given_up = lane.channels & gone
            lane.channels -= gone
            if given_up and number not in joining:
                below = {c for c in lane.channels - late if not given_up.isdisjoint((get_wildcard(c), ALL))}
                lane.channels -= below
                left |= below
        self.add(left)
