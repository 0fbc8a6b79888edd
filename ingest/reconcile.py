"""What to ask of upstream: the difference between what is wanted and what is held.  Pure.

Theory.  `wanted` is what gateways want now; a channel that nobody wants any more is *kept* for LINGER_S in case it
comes back.  The *cover* of what is kept is the least set of channels that carries each event once (`T.*` covers
`T.AAPL`).  A channel of the cover that is neither held nor asked for is asked for.  A held channel outside the cover
is dropped, but only once everything that replaces it is held: upstream takes the new before it gives up the old.

    absent --subscribe--> asked --ack, or CONFIRM_S of silence--> held --unsubscribe--> absent

Silence counts as acceptance because upstream answers nothing to a repeat (PROTOCOL c.1).
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from shared.channels import find_cover, get_event_type, is_covered, is_wildcard

LINGER_S: Final = 30.0
CONFIRM_S: Final = 2.0


class Plan(NamedTuple):
    """What to send upstream now, in this order."""

    subscribe: list[str]
    unsubscribe: list[str]


class Reconcile:
    """Demand on one side, upstream's acks on the other; times are seconds of any monotonic clock."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._wanted: set[str] = set()
        self._unwanted_since: dict[str, float] = {}  # lingering; bounded by what was wanted in the last LINGER_S
        self._asked: dict[str, float] = {}
        self.held: set[str] = set()
        self.is_live = False

    @property
    def wanted_types(self) -> frozenset[str]:
        """The event types that somebody wants whole, or did within the linger.

        With the linger, so that a Redis that lost all counts for a moment does not cut wildcard holders off.
        """
        cover = find_cover(self._feed, self._wanted | self._unwanted_since.keys())
        return frozenset(get_event_type(channel) for channel in cover if is_wildcard(channel))

    @property
    def is_waiting(self) -> bool:
        """Whether time alone can change the plan."""
        return bool(self._unwanted_since or self._asked)

    def set_wanted(self, wanted: Iterable[str], now_s: float) -> None:
        """All of demand, as read from Redis."""
        new = set(wanted)
        self.update_wanted(new, self._wanted - new, now_s)

    def update_wanted(self, more: Iterable[str], less: Iterable[str], now_s: float) -> None:
        """Edges of demand."""
        for channel in more:
            self._wanted.add(channel)
            self._unwanted_since.pop(channel, None)
        for channel in less:
            if channel in self._wanted:
                self._wanted.remove(channel)
                self._unwanted_since[channel] = now_s

    def connected(self) -> None:
        """Upstream is ready for subscriptions and holds none."""
        self._asked.clear()
        self.held.clear()
        self.is_live = True

    def disconnected(self) -> None:
        """Upstream is gone, and with it all that it held."""
        self.connected()
        self.is_live = False

    def confirmed(self, channel: str) -> None:
        """Upstream acked the channel."""
        if self._asked.pop(channel, None) is not None:
            self.held.add(channel)

    def plan(self, now_s: float) -> Plan:
        """What to send now; what is returned counts as sent."""
        if not self.is_live:
            return Plan([], [])
        self._expire(now_s)
        cover = find_cover(self._feed, self._wanted | self._unwanted_since.keys())
        subscribe = sorted(cover - self.held - self._asked.keys())
        for channel in subscribe:
            self._asked[channel] = now_s
        unsubscribe = sorted(c for c in self.held - cover if self._is_replaced(c, cover))
        self.held.difference_update(unsubscribe)
        return Plan(subscribe, unsubscribe)

    def _expire(self, now_s: float) -> None:
        for channel, since_s in list(self._unwanted_since.items()):
            if now_s - since_s >= LINGER_S:
                del self._unwanted_since[channel]
        for channel, asked_s in list(self._asked.items()):
            if now_s - asked_s >= CONFIRM_S:
                self.confirmed(channel)

    def _is_replaced(self, channel: str, cover: frozenset[str]) -> bool:
        """Whether each channel of the cover that shares events with this one is held."""
        if not is_wildcard(channel):
            wildcard = f"{get_event_type(channel)}.*"
            return wildcard not in cover or wildcard in self.held
        event_type = get_event_type(channel)
        return all(c in self.held for c in cover if get_event_type(c) == event_type)

    def is_held(self, channel: str) -> bool:
        """Whether upstream confirmed the channel or its wildcard."""
        return is_covered(channel, self.held)
