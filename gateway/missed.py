"""What a client missed while it was away, of which each channel is taken once.  Pure.

Theory.  A record's lanes say, newest first, which channels have been got up to where.  A channel that the client asks
for gets what it missed from there; from then on it comes live, and whatever it lacks later the client did not want.  So
what was asked for once has *begun*, and with a wildcard all that it covers.
"""

from collections.abc import Iterable, Set
from typing import Final

from gateway.receipt import Lane
from shared.channels import ALL, expand, get_event_type, is_covered, is_wildcard

MOST_CHANNELS: Final = 50_000  # as of one client; whoever has begun with more is not given what it has not asked for


class Missed:
    """The lanes of one client that came back, newest first."""

    def __init__(self, lanes: list[Lane]) -> None:
        self.lanes = lanes
        self._begun: set[str] = set()  # for as long as there are lanes

    def take(self, feed: str, channels: Iterable[str]) -> tuple[list[Lane], list[Lane]]:
        """Those of the channels that the client missed, each with the position from which it lacks events.

        A wildcard begins with the oldest of what it covers, except for what is asked for beside it.  One that the
        client did not hold before begins live; what it lacks of single channels under it is lost: the second list.
        """
        parts = {channel: expand(feed, [channel]) for channel in channels}
        waiting = {channel for channel in parts if not _covers(self._begun, parts[channel])}
        found: dict[int, set[str]] = {}
        for channel in waiting:
            index = self._find_lane(channel, parts[channel], waiting)
            if index is not None:
                found.setdefault(index, set()).add(channel)
        taken = [Lane(self.lanes[index].position, found[index]) for index in sorted(found)]
        begun = {part for c in waiting.difference(*found.values()) for part in parts[c] if is_wildcard(part)}
        passed = [Lane(lane.position, _find_covered(lane.channels - waiting, begun)) for lane in self.lanes if begun]
        self._begin(feed, waiting)
        return taken, [lane for lane in passed if lane.channels]

    def _find_lane(self, channel: str, parts: Set[str], waiting: Set[str]) -> int | None:
        """The newest that names the channel, or else covers it."""
        naming = (index for index, lane in enumerate(self.lanes) if channel in lane.channels)
        covering = (index for index, lane in enumerate(self.lanes) if _covers(lane.channels, parts))
        index = next(naming, next(covering, None))
        whole = {get_event_type(part) for part in parts if is_wildcard(part)}
        if index is None or not whole:
            return index
        older = (
            index
            for index, lane in enumerate(self.lanes)
            if any(get_event_type(c) in whole and not is_wildcard(c) for c in lane.channels - waiting)
        )
        return max([index, *older])

    def _begin(self, feed: str, channels: Set[str]) -> None:
        begun = expand(feed, channels)
        self._begun |= begun
        if len(self._begun) > MOST_CHANNELS:
            self.lanes = []
        if any(is_wildcard(channel) for channel in begun):
            channels = {c for lane in self.lanes for c in lane.channels if _covers(self._begun, expand(feed, [c]))}
        for lane in self.lanes:
            lane.channels -= channels  # one by one, 10,000 of them must not cost 10,000 looks at each
        self.lanes = [lane for lane in self.lanes if lane.channels]
        if not self.lanes:
            self._begun.clear()


def _find_covered(channels: Set[str], wildcards: Set[str]) -> set[str]:
    return {channel for channel in channels if is_covered(channel, wildcards)}


def _covers(had: Set[str], parts: Iterable[str]) -> bool:
    return ALL in had or all(is_covered(part, had) for part in parts)
