"""What to ask of upstream: the difference between what is wanted and what is held.  Pure.

Theory.  `wanted` is what gateways want now; a channel that nobody wants any more is *kept* for LINGER_S in case it
comes back.  The *cover* of what is kept is the least set of channels that carries each event once (`T.*` covers
`T.AAPL`); what upstream refused is no part of it until REFUSED_S have passed.  A channel of the cover that is neither
held nor asked for is asked for.  A held channel outside the cover is dropped, but only once everything that replaces
it is held: upstream takes the new before it gives up the old.  And what is to be dropped is *cleared* first: the
shell asks Redis whether really nobody wants it (shared/lua/clear.lua), since a gateway may have acquired it just now.

    absent --subscribe--> asked --ack, or CONFIRM_S of silence--> held --plan--> clearing --dropped--> dropping
                          asked --refusal--> refused --REFUSED_S, or a reconnect--> absent    <--DROPPED_S--'
                                                        clearing --spared--> held

One subscribe is under way at a time, because a refusal names no channel (PROTOCOL d.6.7): when upstream has answered
as often as channels were asked for, what it did not ack is what it refused.  If silence makes that ambiguous, the
doubtful channels are asked for again one by one.  Silence alone counts as acceptance, since upstream answers nothing
to a repeat and nothing to a topic that it does not know (PROTOCOL c.1).
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from shared.channels import expand, find_cover, get_event_type, get_wildcard, is_covered, is_wildcard

LINGER_S: Final = 30.0
CONFIRM_S: Final = 2.0
REFUSED_S: Final = 300.0
DROPPED_S: Final = 2.0  # for so long after an unsubscribe events may still arrive (PROTOCOL c.1)
ACTION_CHANNELS: Final = 1000  # channels in one action: at most 65 KB, upstream takes 1 MB (PROTOCOL c.1)


class Plan(NamedTuple):
    """What to do now, in this order; each list has at most ACTION_CHANNELS."""

    subscribe: list[str]  # to be sent
    drop: list[str]  # to be cleared, and then either `dropped` and sent, or spared


class Reconcile:
    """Demand on one side, upstream's acks on the other; times are seconds of any monotonic clock."""

    def __init__(self, feed: str) -> None:
        self._feed = feed
        self._wanted: set[str] = set()
        self._unwanted_since: dict[str, float] = {}  # lingering; bounded by what was wanted in the last LINGER_S
        self._asked: dict[str, None] = {}  # the subscribe under way
        self._asked_at = 0.0
        self._refusals: list[str] = []  # that came for the subscribe under way, each for one channel
        self._whole_refusal = ""  # that came for it, or was a repeat of the one before
        self._repeats = False  # whether such repeats may still come
        self._doubtful: dict[str, None] = {}  # to be asked for one by one
        self._is_doubts_turn = True  # so that new demand does not wait for all doubt to end
        self._clearing: set[str] = set()  # held, and perhaps about to be dropped
        self._dropping: dict[str, float] = {}
        self._retry_at: dict[str, float] = {}  # refused channels
        self._cover: frozenset[str] | None = None  # None: to be computed anew
        self._wild: set[str] = set()  # the wildcards among what was wanted or asked for; bounded by the event types
        self.held: set[str] = set()
        self.refused: dict[str, str] = {}  # channel -> upstream's text
        self.is_live = False

    @property
    def wanted_types(self) -> frozenset[str]:
        """The event types that somebody wants whole, or did within the linger, or that upstream holds whole.

        With the linger, so that a Redis that lost all counts for a moment does not cut wildcard holders off; and until
        a wildcard is given up, since whoever comes back to it just then is acked as long as it is held.
        """
        kept = {c for c in self._wild if c in self._wanted or c in self._unwanted_since or c in self.held}
        return frozenset(get_event_type(channel) for channel in expand(self._feed, kept))

    @property
    def is_waiting(self) -> bool:
        """Whether time alone can change the plan."""
        return bool(self._unwanted_since or self._asked or self._doubtful or self._dropping or self._retry_at)

    @property
    def doubled(self) -> frozenset[str]:
        """Exact channels whose events may come twice now, because their wildcard is subscribed beside them."""
        places = (self.held, self._asked, self._doubtful, self._dropping)
        wild = {channel for channel in self._wild if any(channel in place for place in places)}
        if not wild:
            return frozenset()
        live = set().union(*places)
        return frozenset(c for c in live if not is_wildcard(c) and get_wildcard(c) in wild)

    @property
    def wanted(self) -> frozenset[str]:
        """What gateways want now."""
        return frozenset(self._wanted)

    @property
    def kept(self) -> frozenset[str]:
        """What gateways want now, or did within the linger: a Redis that lost all counts says that nobody does."""
        return frozenset(self._wanted | self._unwanted_since.keys())

    def find_missing(self, channels: Iterable[str]) -> list[str]:
        """Those of these that upstream neither holds nor refuses, without what is kept no more."""
        still = expand(self._feed, self.kept.intersection(channels))
        return [c for c in still if not is_covered(c, self.held) and c not in self.refused]

    @property
    def has_asked_all(self) -> bool:
        """Whether upstream was asked for all that is kept, whatever it has answered so far."""
        return self.is_live and not self._get_cover() - self.held - self._asked.keys() - self._doubtful.keys()

    @property
    def is_asking(self) -> bool:
        """Whether a subscribe is under way."""
        return bool(self._asked)

    def set_wanted(self, wanted: Iterable[str], now_s: float) -> None:
        """All of demand, as read from Redis."""
        new = set(wanted)
        self.update_wanted(new, self._wanted - new, now_s)

    def update_wanted(self, more: Iterable[str], less: Iterable[str], now_s: float) -> None:
        """Edges of demand."""
        self._cover = None
        for channel in more:
            self._wanted.add(channel)
            self._unwanted_since.pop(channel, None)
            if channel.endswith("*"):
                self._wild.update({channel, *expand(self._feed, [channel])})
        for channel in less:
            if channel in self._wanted:
                self._wanted.remove(channel)
                self._unwanted_since[channel] = now_s

    def connected(self) -> None:
        """Upstream is ready for subscriptions and holds none; what it refused before is tried again."""
        self.disconnected()
        self.is_live = True

    def disconnected(self) -> None:
        """Upstream is gone, and with it all that it held."""
        self.is_live = False
        self._repeats = False
        self._cover = None
        self._end_subscribe()
        for kept in (self.held, self.refused, self._retry_at, self._clearing, self._dropping, self._doubtful):
            kept.clear()

    def _end_subscribe(self) -> None:
        self._asked.clear()
        self._refusals.clear()
        self._whole_refusal = ""

    def confirmed(self, channel: str, now_s: float) -> None:
        """Upstream acked the channel."""
        if channel in self._asked:
            del self._asked[channel]
            self.held.add(channel)
            self._whole_refusal = ""
            self._repeats = False
            self._settle(now_s, silent=False)

        elif channel in self.refused or channel in self._doubtful:
            # It came late, and was taken for refused or for doubtful; but an ack is the truth.
            self._cover = None
            self.refused.pop(channel, None)
            self._retry_at.pop(channel, None)
            self._doubtful.pop(channel, None)
            self.held.add(channel)

    def rejected(self, message: str, names_one: bool, now_s: float) -> bool:
        """Upstream refused something of the subscribe under way; False if there is none, so it is nobody's.

        `names_one`: each refusal stands for one channel; otherwise the whole subscribe was refused, in any number of
        statuses (PROTOCOL c, 9), so that one which follows may be a repeat: then an ack or silence decides.
        """
        if not self._asked:
            return self._repeats and not names_one
        if names_one:
            self._refusals.append(message)
            self._settle(now_s, silent=False)
        elif self._repeats:
            self._whole_refusal = message
        else:
            self._repeats = True
            self._refuse(list(self._asked), message, now_s)
        return True

    def _settle(self, now_s: float, *, silent: bool) -> None:
        """End the subscribe under way if everything in it has been answered, or upstream stays silent."""
        if self._asked and len(self._refusals) >= len(self._asked):
            self._refuse(list(self._asked), self._refusals[0], now_s)
        elif silent and self._whole_refusal:
            self._repeats = False  # asked again, and then the first refusal is no repeat
            self._end_subscribe()
        elif silent and self._refusals:
            self._doubtful.update(self._asked)
            self._end_subscribe()
        elif silent or not self._asked:
            self.held.update(self._asked)
            self._end_subscribe()

    def _refuse(self, channels: list[str], message: str, now_s: float) -> None:
        self._cover = None
        for channel in channels:
            self.refused[channel] = message
            self._retry_at[channel] = now_s + REFUSED_S
        self._end_subscribe()

    def plan(self, now_s: float) -> Plan:
        """What to do now; what is to be subscribed counts as sent.  To be called again after each answer."""
        self._expire(now_s)
        if not self.is_live:
            return Plan([], [])
        cover = self._get_cover()
        subscribe: list[str] = []
        if not self._asked:
            subscribe = self._choose(cover)
            self._asked = dict.fromkeys(subscribe)
            self._asked_at = now_s
        idle = self.held - cover - self._clearing
        drop = sorted(channel for channel in idle if self._is_replaced(channel, cover))[:ACTION_CHANNELS]
        self._clearing.update(drop)
        return Plan(subscribe, drop)

    def spare(self, channels: Iterable[str]) -> None:
        """These were not cleared: somebody wants them, or Redis did not answer."""
        self._clearing.difference_update(channels)

    def dropped(self, channels: Iterable[str], now_s: float) -> list[str]:
        """These were cleared; returns those that are to be unsubscribed now, the others are wanted again."""
        cover = self._get_cover()
        going = sorted(
            c for c in self._clearing.intersection(channels) if c not in cover and self._is_replaced(c, cover)
        )
        self._clearing.difference_update(channels)
        self.held.difference_update(going)
        self._dropping.update(dict.fromkeys(going, now_s))
        return going

    def _get_cover(self) -> frozenset[str]:
        """Computed once for each change of what it depends on: 5 ms for 10,000 channels."""
        if self._cover is None:
            self._cover = find_cover(self._feed, expand(self._feed, self.kept) - self.refused.keys())
        return self._cover

    def _choose(self, cover: frozenset[str]) -> list[str]:
        """The next subscribe: one doubtful channel, or as many as fit of what is missing, in turns."""
        missing = sorted(cover - self.held - self._doubtful.keys())[:ACTION_CHANNELS]
        self._is_doubts_turn = not self._is_doubts_turn or not missing
        if not self._doubtful or not self._is_doubts_turn:
            return missing
        channel = next(iter(self._doubtful))
        del self._doubtful[channel]
        return [channel]  # even if nobody wants it now: what is not known cannot be dropped

    def _expire(self, now_s: float) -> None:
        for since, limit_s in ((self._unwanted_since, LINGER_S), (self._dropping, DROPPED_S)):
            for channel in [channel for channel, since_s in since.items() if now_s - since_s >= limit_s]:
                del since[channel]
                self._cover = None
        for channel in [channel for channel, retry_s in self._retry_at.items() if now_s >= retry_s]:
            del self._retry_at[channel]
            del self.refused[channel]
            self._cover = None
        if self._asked and now_s - self._asked_at >= CONFIRM_S:
            self._settle(now_s, silent=True)

    def _is_replaced(self, channel: str, cover: frozenset[str]) -> bool:
        """Whether each channel of the cover that shares events with this one is held."""
        if not is_wildcard(channel):
            return get_wildcard(channel) not in cover or get_wildcard(channel) in self.held
        event_type = get_event_type(channel)
        return all(c in self.held for c in cover if get_event_type(c) == event_type)
