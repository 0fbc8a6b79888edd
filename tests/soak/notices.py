"""What one client was told to be missing: gaps and what was left out.  Pure."""

import re
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final, NamedTuple

from gateway.conflate import STATES

SLACK_MS: Final = 1000  # a notice speaks of times of receipt at ingest, which is later than the emission by the delay
CONFLATED_SLACK_MS: Final = 15_000  # of receipt at the gateway, after Redis was away perhaps; the count bounds it too

_GAP: Final = re.compile(r"events from (\d+) to (\d+) may be missing: (.*); channels: (.*?)(?: and (\d+) more)?")
_CONFLATED: Final = re.compile(r"(\d+) events received from (\d+) to (\d+) \(Unix ms\) were left out: .*")


class Gap(NamedTuple):
    """A gap as one client was told it; Unix ms.  `more`: so many channels were not named."""

    from_ms: int
    to_ms: int
    cause: str
    channels: frozenset[str]
    more: int

    def covers(self, channel: str, at_ms: int) -> bool:
        """Whether an event of the channel, sent at that time, may be missing by it."""
        if not self.from_ms - SLACK_MS <= at_ms <= self.to_ms:
            return False
        return self.more > 0 or bool(self.channels & {channel, f"{channel.partition('.')[0]}.*", "*"})


class Conflated(NamedTuple):
    """So many events were left out; times of receipt at the gateway, Unix ms."""

    events: int
    from_ms: int
    to_ms: int

    def covers(self, channel: str, at_ms: int) -> bool:
        """Whether an event of the channel, sent at that time, may be among those left out."""
        is_state = channel.partition(".")[0] in STATES
        return is_state and self.from_ms - CONFLATED_SLACK_MS <= at_ms <= self.to_ms


class Told:
    """Notices, found by time: half an hour has hundreds of them and millions of events to ask for."""

    def __init__(self, notices: Iterable[Gap | Conflated]) -> None:
        self._notices = sorted(notices, key=lambda notice: notice.to_ms)
        self._ends = [notice.to_ms for notice in self._notices]
        # At each place: when the earliest of the notices from there on begins.
        begins = [notice.from_ms for notice in reversed(self._notices)]
        self._begins = list(accumulate(begins, min))[::-1]

    def find(self, channel: str, at_ms: int) -> list[Gap | Conflated]:
        """Those that cover the event."""
        found = []
        for place in range(bisect_left(self._ends, at_ms), len(self._ends)):
            if self._begins[place] - max(SLACK_MS, CONFLATED_SLACK_MS) > at_ms:
                break
            if self._notices[place].covers(channel, at_ms):
                found.append(self._notices[place])
        return found


def parse_notice(kind: str, message: str) -> Gap | Conflated | None:
    """The notice in a status; None if it is another status.  Raises ValueError if it cannot be read."""
    if kind == "gap":
        if found := _GAP.fullmatch(message):
            first, last, cause, names, more = found.groups()
            return Gap(int(first), int(last), cause, frozenset(names.split(",")), int(more or 0))
    elif kind == "conflated":
        if found := _CONFLATED.fullmatch(message):
            return Conflated(*map(int, found.groups()))
    else:
        return None
    raise ValueError(f"a notice that a client cannot read: {kind}: {message}")
