"""What a client missed while it was away, of which each channel is taken once.  Pure.

Theory.  A record's lanes say, newest first, which channels have been got up to where.  A channel that the client asks
for gets what it missed from there; from then on it comes live, and whatever it lacks later the client did not want.  So
what was asked for once has *begun*, and with a wildcard all that it covers.
"""

from collections.abc import Iterable, Set
from typing import Final, NamedTuple

from gateway.receipt import Lane
from shared.channels import ALL, expand, get_wildcard, is_covered, is_wildcard

MOST_CHANNELS: Final = 50_000  # as of one client; whoever has begun with more is not given what it has not asked for


_LIVE: Final = -1  # the index of what is in no lane


class Taken(NamedTuple):
    """Channels with the position from which the client lacks events, and what under them got further than that."""

    lane: Lane
    got: list[Lane]


class Missed:
    """The lanes of one client that came back, newest first."""

    def __init__(self, lanes: list[Lane]) -> None:
        self.lanes = lanes
        self.begun: set[str] = set()  # for as long as there are lanes; exact channels and `EV.*`

    def take(self, feed: str, channels: Iterable[str]) -> tuple[list[Taken], list[Lane]]:
        """Those of the channels that the client missed, and what under the others is lost.

        Exact channels are apart from wildcards.  A wildcard begins where it was.  What is under it and not asked for
        beside it may have got further, which its replay leaves out; of what had not got so far, the rest does not come:
        the second list.  A wildcard that the client did not hold begins live.
        """
        parts = {channel: expand(feed, [channel]) for channel in channels}
        waiting = {channel for channel in parts if not _covers(self.begun, parts[channel])}
        found: dict[tuple[int, bool], set[str]] = {}
        for channel in waiting:
            found.setdefault((self._find_lane(channel), _is_whole(channel)), set()).add(channel)
        taken: list[Taken] = []
        lost: list[Lane] = []
        for (index, _), some in sorted(found.items()):
            wildcards = {part for part in expand(feed, some) - (waiting - some) if is_wildcard(part)}
            got, behind = self._compare(index, wildcards, waiting)
            lost += behind
            if index != _LIVE:
                taken.append(Taken(Lane(self.lanes[index].position, some), got))
        self._begin(feed, waiting)
        return taken, lost

    def _find_lane(self, channel: str) -> int:
        """The newest that names the channel itself, or else what is above it."""
        for name in (channel, get_wildcard(channel), ALL):
            for index, lane in enumerate(self.lanes):
                if name in lane.channels:
                    return index
        return _LIVE

    def _compare(self, index: int, wildcards: Set[str], waiting: Set[str]) -> tuple[list[Lane], list[Lane]]:
        """What is under the wildcards, which begin with a lane: what got further, and what less far."""
        starts = {wildcard: self._find_start(wildcard, index) for wildcard in wildcards}
        got: list[Lane] = []
        behind: list[Lane] = []
        for number, lane in enumerate(self.lanes if starts else ()):
            under = {c: starts[get_wildcard(c)] for c in lane.channels - waiting if get_wildcard(c) in starts}
            behind.append(Lane(lane.position, [c for c, start in under.items() if number > start]))
            got.append(Lane(lane.position, [c for c, start in under.items() if number <= start and number < index]))
        return [lane for lane in got if lane.channels], [lane for lane in behind if lane.channels]

    def _find_start(self, wildcard: str, index: int) -> int:
        """The lane with which the event type begins, whole: it may have got further than all of `*`."""
        newer = (number for number, lane in enumerate(self.lanes[: max(index, 0)]) if wildcard in lane.channels)
        return next(newer, index)

    def find_begun_below(self) -> set[str]:
        """What has begun under a wildcard that has not: it must not begin again with that."""
        waiting = {channel for lane in self.lanes for channel in lane.channels if _is_whole(channel)}
        return {c for c in self.begun if get_wildcard(c) in waiting or ALL in waiting} if waiting else set()

    def _begin(self, feed: str, channels: Set[str]) -> None:
        begun = expand(feed, channels)
        self.begun |= begun
        if len(self.begun) > MOST_CHANNELS:
            self.lanes = []
        if any(is_wildcard(channel) for channel in begun):
            channels = {c for lane in self.lanes for c in lane.channels if _covers(self.begun, expand(feed, [c]))}
        for lane in self.lanes:
            lane.channels -= channels  # one by one, 10,000 of them must not cost 10,000 looks at each
        self.lanes = [lane for lane in self.lanes if lane.channels]
        if not self.lanes:
            self.begun.clear()


def _is_whole(channel: str) -> bool:
    return channel == ALL or is_wildcard(channel)


def _covers(had: Set[str], parts: Iterable[str]) -> bool:
    return ALL in had or all(is_covered(part, had) for part in parts)
