"""Demand as it must be: gateways, leases, the refcount, and what upstream may and must hold.  Pure.

A gateway *wants* what its clients hold.  It *counts* in the refcount, once for a channel, from its acquire to its
release, to its leave, or until its lease has run out and somebody swept it, whichever comes first; so a dead gateway
counts until it is swept.  The gateway itself serves edges later than its clients make them, and keeps an unwanted
channel for LINGER_S.  So the model knows for each gateway what it *must* count for and what it *may* count for, and
the two are the same once the gateway has come to rest and nothing lingers.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from shared.channels import EVENT_TYPES

ALL: Final = "*"
TYPES: Final = EVENT_TYPES["stocks"]
GATEWAY_LINGER_S: Final = 1.0
LEASE_S: Final = 8.0


def parts_of(channels: Iterable[str]) -> set[str]:
    """The channels with the wildcards that `*` stands for in its place."""
    parts = set(channels)
    return parts - {ALL} | {f"{event_type}.*" for event_type in TYPES} if ALL in parts else parts


def wildcard_of(channel: str) -> str:
    """`T.*` of `T.AAPL` and of itself."""
    return channel.split(".")[0] + ".*"


def cover_of(channels: Iterable[str]) -> set[str]:
    """The least set that carries every event of `channels` once."""
    parts = parts_of(channels)
    return {part for part in parts if part == wildcard_of(part) or wildcard_of(part) not in parts}


def is_carried(channel: str, held: Iterable[str]) -> bool:
    """Whether every event of the channel comes with what is held."""
    kept = set(held)
    return all(part in kept or wildcard_of(part) in kept for part in parts_of([channel]))


class State(Enum):
    """What a gateway's process does."""

    LIVE = "live"
    PAUSED = "paused"
    CRASHED = "crashed"


@dataclass
class Gateway:
    """One gateway; `clients` hold channels."""

    ident: str
    clients: dict[int, set[str]] = field(default_factory=dict)
    state: State = State.LIVE
    has_lease: bool = False
    renewed_s: float = 0.0
    joins: int = 0
    is_swept: bool = False  # since the lease was lost
    was_given_up: bool = False  # stood still without a lease, so what it held may be gone upstream
    must_count: set[str] = field(default_factory=set)
    may_count: set[str] = field(default_factory=set)
    unwanted_s: dict[str, float] = field(default_factory=dict)

    @property
    def wants(self) -> set[str]:
        """What some client of it holds."""
        return set().union(*self.clients.values())


class Model:
    """All gateways that anybody could still count."""

    def __init__(self) -> None:
        self.gateways: dict[str, Gateway] = {}

    def start(self, ident: str) -> None:
        """A gateway's process starts; it has not joined yet."""
        self.gateways[ident] = Gateway(ident)

    def subscribe(self, ident: str, client: int, channels: Iterable[str]) -> None:
        """A client holds these as well."""
        gateway = self.gateways[ident]
        gateway.clients.setdefault(client, set()).update(channels)
        gateway.may_count.update(channels)

    def unsubscribe(self, ident: str, client: int, channels: Iterable[str], now_s: float) -> None:
        """A client holds these no more."""
        gateway = self.gateways[ident]
        before = gateway.wants
        gateway.clients.setdefault(client, set()).difference_update(channels)
        gateway.unwanted_s.update(dict.fromkeys(before - gateway.wants, now_s))
        gateway.must_count &= gateway.wants

    def joined(self, ident: str, now_s: float) -> None:
        """The gateway took a lease."""
        gateway = self.gateways[ident]
        gateway.has_lease, gateway.is_swept, gateway.renewed_s = True, False, now_s
        gateway.joins += 1

    def rested(self, ident: str, now_s: float) -> None:
        """The gateway has served all edges, and heard of its lease if that was due."""
        gateway = self.gateways[ident]
        if not gateway.has_lease:
            return
        lingering = {c for c, since_s in gateway.unwanted_s.items() if now_s - since_s < GATEWAY_LINGER_S}
        gateway.must_count = gateway.wants
        gateway.may_count = gateway.wants | lingering
        gateway.was_given_up = False

    def lost_lease(self, ident: str) -> None:
        """The lease ran out."""
        gateway = self.gateways[ident]
        gateway.has_lease = False
        gateway.must_count = set()
        gateway.was_given_up |= gateway.state is State.PAUSED

    def paused(self, ident: str) -> None:
        """The process stands still."""
        gateway = self.gateways[ident]
        gateway.state = State.PAUSED
        gateway.was_given_up |= not gateway.has_lease

    def swept(self, joins: dict[str, int]) -> None:
        """A sweep ended; `joins` is who had no lease when it began, and how often each had joined by then."""
        for ident, count in joins.items():
            gateway = self.gateways.get(ident)
            if gateway is not None and gateway.joins == count:
                gateway.is_swept = True

    def get_lease_less(self) -> dict[str, int]:
        """Who has no lease now, and how often each has joined so far."""
        return {ident: gateway.joins for ident, gateway in self.gateways.items() if not gateway.has_lease}

    def restart_redis(self) -> None:
        """Redis forgets everything."""
        for ident, gateway in self.gateways.items():
            self.lost_lease(ident)
            gateway.is_swept = True

    def get_least_counts(self) -> Counter[str]:
        """The refcount must be at least this."""
        return Counter(channel for gateway in self.gateways.values() for channel in gateway.must_count)

    def get_most_counts(self) -> Counter[str]:
        """The refcount may be at most this."""
        counting = (gateway for gateway in self.gateways.values() if not gateway.is_swept)
        return Counter(channel for gateway in counting for channel in gateway.may_count)

    def get_exact_counts(self) -> Counter[str]:
        """The refcount once every gateway is at rest and every dead one swept."""
        counting = (gateway for gateway in self.gateways.values() if gateway.has_lease)
        return Counter(channel for gateway in counting for channel in gateway.wants)
