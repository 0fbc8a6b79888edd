"""What Polygon says to one client, and the knobs that change it. Pure: no socket, no clock, no await.

Sections named in brackets are those of PROTOCOL.md. UNKNOWN marks what no public record answers: the default is then
only our choice, and nothing may depend on it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

_LAUNCHPAD = frozenset({"FMV", "LV", "AM"})
_BARS = frozenset({"T", "Q", "A", "AM"})

# Topics by cluster [b.1]; those of business and launchpad too, so that every recorded frame can be held.
TOPICS: dict[str, frozenset[str]] = {
    "stocks": _BARS | _LAUNCHPAD | {"LULD", "NOI"},
    "options": _BARS | _LAUNCHPAD,
    "forex": _LAUNCHPAD | {"C", "CA", "CAS"},
    "crypto": _LAUNCHPAD | {"XT", "XQ", "XA", "XAS", "XL2", "XS"},
    "indices": _LAUNCHPAD | {"V", "A"},
    "futures": _BARS,
}
FUTURES_VENUES = frozenset({"cme", "cbot", "nymex", "comex"})

# Which key of an event holds its symbol, where that is not `sym` [b.1].
_SYMBOL_KEYS = {"LULD": "T", "NOI": "T", "V": "T", "C": "p"} | dict.fromkeys(
    ("CA", "CAS", "XT", "XQ", "XA", "XAS", "XL2", "XS"), "pair"
)

# The wordings on record of "over the connection limit" [c 11]; the trailing space of `a` is really sent.
MAX_CONNECTIONS = {
    "a": "Maximum number of websocket connections exceeded. ",
    "b": "Maximum number of websocket connections exceeded. You have reached the connection limit for your account. "
    "Please contact support at https://polygon.io/contact to increase your limit.",
    "c": "Maximum number of websocket connections exceeded. You may only use 1 connections at a time.",
    "d": "Maximum number of connections exceeded.",
}
AUTH_FAILED = "authentication failed"
# A good key whose plan lacks this cluster or host [c 4]; since 2025-10-30, and before.
NO_PLAN = "Your plan doesn't include websocket access. Visit https://massive.com/pricing to upgrade."
NO_PLAN_2025 = "Your plan doesn't include websocket access. Visit https://polygon.io/pricing to upgrade."


@dataclass(slots=True, kw_only=True)
class Script:
    """The knobs. All may be turned while the server runs and act from the next message on."""

    # -- upgrade and greeting
    # Every upgrade is answered with this HTTP status, e.g. 503; None: only a wrong path is refused, with 404 [a].
    refuse_http: int | None = None
    greeting: bool = True
    greeting_delay_s: float = 0.0

    # -- auth
    auth_reply: bool = True  # False: auth is never answered
    auth_success: tuple[str, str] = ("auth_success", "authenticated")  # 2019: ("success", "authenticated") [c 2b]
    auth_failed_text: str = AUTH_FAILED
    no_plan_keys: set[str] = field(default_factory=set)  # good keys that get `no_plan_text` and are dropped [c 4]
    no_plan_text: str = NO_PLAN
    # `auth_timeout`, then a drop. The length, and how the real connection ends, are UNKNOWN [c 5]; None: never.
    auth_timeout_s: float | None = None
    auth_required_text: str = "authentication required"  # UNKNOWN text [c 10]
    # What bad JSON, non-string params or an unknown action get: UNKNOWN [c.1].
    garbage: Literal["silent", "error"] = "silent"

    # -- subscriptions; a member is a channel ("NOI.AAPL", "T.*") or a whole topic ("NOI")
    topics: dict[str, frozenset[str]] = field(default_factory=lambda: dict(TOPICS))
    refused: set[str] = field(default_factory=set)  # `not authorized`, ahead of the acks [c 8]
    silent: set[str] = field(default_factory=set)  # accepted and fed, but never acked
    acks: Literal["array", "frames"] = "array"  # one frame with all, or one each: both were seen [c.1]
    ack_delay_s: float = 0.0  # counted from the receipt of the action; channels are held from the ack on
    # (cluster, topic) -> channels that may be held; above it the whole message is refused [c 9].
    limits: dict[tuple[str, str], int] = field(default_factory=lambda: {("options", "Q"): 1000})
    limit_statuses: int = 1  # how many statuses then (27 were seen for 200 contracts; the rule is UNKNOWN)
    bare_star: bool = False  # whether "*" is a channel that means everything: UNKNOWN [c.1]
    # Whether T.* and T.AAPL held together deliver an AAPL trade twice: UNKNOWN [c.1, g].
    wildcard_twice: bool = False

    # -- connections per key and cluster [c.1]
    connection_limit: int = 1
    loser: Literal["older", "newcomer"] = "older"
    # When a newcomer starts to count against the limit. Whether one that never subscribes evicts anybody is UNKNOWN.
    evict_at: Literal["subscribe", "auth"] = "subscribe"
    max_connections: Literal["a", "b", "c", "d"] = "a"

    # -- a client that does not read: above this, `slow_consumer` and a drop [c.1]; size and text are UNKNOWN [g].
    buffer_bytes: int = 64 * 2**20
    slow_consumer_text: str = "slow consumer"

    @property
    def max_connections_text(self) -> str:
        return MAX_CONNECTIONS[self.max_connections]


def render_status(status: str, message: str) -> bytes:
    """One status object; always these three keys in this order [b.2]."""
    return json.dumps({"ev": "status", "status": status, "message": message}, separators=(",", ":")).encode()


def render_frame(objects: Iterable[bytes]) -> bytes:
    """The array that every server frame is [c]."""
    return b"[" + b",".join(objects) + b"]"


def find_channel(event: bytes) -> str | None:
    """The channel of one event, by the key table [b.1]; None if it is no object with an `ev` and a symbol."""
    fields = json.loads(event)
    if not isinstance(fields, dict):
        return None
    topic = fields.get("ev")
    symbol = fields.get(_SYMBOL_KEYS.get(topic, "sym")) if isinstance(topic, str) else None
    return f"{topic}.{symbol}" if isinstance(symbol, str) else None


class Session:
    """What one client holds, and the statuses that it gets. It never answers for what is already so [c.1]."""

    def __init__(self, cluster: str, script: Script) -> None:
        self.cluster = cluster
        self.script = script
        # The channel as matched -> as the client spelled it. Bounded by what the client asks for.
        self.held: dict[str, str] = {}
        # Grows with each change of `held`, so that others can cache what they derived from it.
        self.version = 0

    def subscribe(self, params: str) -> list[bytes]:
        """Hold each accepted param; returns the statuses due, refusals ahead of acks [c 6, 8, 9]."""
        wanted = [channel for channel in _split(params) if self._known(channel)]
        if self._over_limit(wanted):
            return [_LIMIT] * min(self.script.limit_statuses, len(wanted))
        refused = [_NOT_AUTHORIZED for channel in wanted if self._refused(channel)]
        accepted = [channel for channel in wanted if not self._refused(channel)]
        return refused + [_ack("subscribed", channel) for channel in accepted if self._add(channel)]

    def unsubscribe(self, params: str) -> list[bytes]:
        """Drop each param that is held; no status for one that is not [c.1]."""
        removed = [channel for channel in _split(params) if self.held.pop(self._key(channel), None) is not None]
        self.version += 1
        return [_ack("unsubscribed", channel) for channel in removed if not _among(channel, self.script.silent)]

    def copies(self, channel: str) -> int:
        """How often an event of this channel is due to this client: 0, 1, or 2 by the `wildcard_twice` knob."""
        topic = channel.partition(".")[0]
        count = sum(key in self.held for key in (self._key(channel), f"{topic}.*", "*"))
        return count if self.script.wildcard_twice else min(count, 1)

    def _add(self, channel: str) -> bool:
        """Whether the channel is new and to be acked."""
        if self._key(channel) in self.held:
            return False
        self.held[self._key(channel)] = channel
        self.version += 1
        return not _among(channel, self.script.silent)

    def _key(self, channel: str) -> str:
        # C.EUR-USD is accepted, and its events say EUR/USD [b.1]
        return channel.replace("-", "/") if self.cluster == "forex" else channel

    def _known(self, channel: str) -> bool:
        topic, _, symbol = channel.partition(".")  # a topic ends at the first dot [c.1]
        if channel == "*":
            return self.script.bare_star
        return bool(symbol) and topic in self.script.topics[self.cluster]

    def _refused(self, channel: str) -> bool:
        return _among(channel, self.script.refused) or (self.cluster, channel) == ("options", "Q.*")

    def _over_limit(self, wanted: list[str]) -> bool:
        keys = self.held.keys() | {self._key(channel) for channel in wanted}
        topics = [key.partition(".")[0] for key in keys - self.held.keys()]
        held = [key.partition(".")[0] for key in self.held]
        return any(
            topic in topics and topics.count(topic) + held.count(topic) > limit
            for (cluster, topic), limit in self.script.limits.items()
            if cluster == self.cluster
        )


def _split(params: str) -> list[str]:
    return [param for param in map(str.strip, params.split(",")) if param]  # the KB shows spaces after commas [c.1]


def _among(channel: str, names: set[str]) -> bool:
    return channel in names or channel.partition(".")[0] in names


def _ack(verb: str, channel: str) -> bytes:
    return render_status("success", f"{verb} to: {channel}")


_NOT_AUTHORIZED = render_status("error", "not authorized")
_LIMIT = render_status("error", "Subscription limit reached for feed. Please remove some subscriptions and try again.")
