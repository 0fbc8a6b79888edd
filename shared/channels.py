"""Channels `EV.SYM`: parsing, wildcards, and the least set that covers a set of them.  Pure.

The event type is what stands before the first dot, so `T.BRK.A` is the trades of `BRK.A` (PROTOCOL c.1).
`EV.*` is every symbol of one event type, `*` every event type of the feed.
"""

import re
from collections.abc import Iterable
from typing import Final

ALL: Final = "*"
MAX_CHANNEL_LENGTH: Final = 64  # the longest real symbol, an option's, has 21 characters

# Event types by feed (PROTOCOL b.1); business and launchpad topics are part of the feed that carries them.
EVENT_TYPES: Final[dict[str, tuple[str, ...]]] = {
    "stocks": ("T", "Q", "A", "AM", "LULD", "NOI", "FMV", "LV"),
    "options": ("T", "Q", "A", "AM", "FMV", "LV"),
    "forex": ("C", "CA", "CAS", "FMV", "LV", "AM"),
    "crypto": ("XT", "XQ", "XA", "XAS", "XL2", "XS", "FMV", "LV", "AM"),
    "indices": ("V", "A", "AM"),
    "futures": ("T", "Q", "A", "AM"),
}

# Printable ASCII without white space, quotes, and what Redis or a shell would read as a glob.
_SYMBOL: Final = re.compile(r"[!#-&(-)+\-./0-9:;<=>@A-Z_a-z|~{}^]+")


class UnknownTopic(Exception):
    """The event type is not one of the feed's; upstream answers it with silence (PROTOCOL c.1)."""


class BadChannel(Exception):
    """The text is no channel; str() is a sentence for the client."""


def make_channel(feed: str, event_type: str, symbol: str) -> str:
    """The canonical name of a channel; forex pairs are `EUR/USD` inside, however written (PROTOCOL b.1)."""
    if feed == "forex" and event_type in ("C", "CA", "CAS"):
        symbol = symbol.removeprefix("C:").replace("-", "/")
    return f"{event_type}.{symbol}"


def parse_channel(feed: str, text: str) -> str:
    """The canonical channel that a client's text names.

    Raises BadChannel or UnknownTopic.  Letter case is kept: real symbols use it (`BACpL`), and whether
    upstream folds it is unknown (PROTOCOL g).
    """
    if text == ALL:
        return ALL
    if len(text) > MAX_CHANNEL_LENGTH:
        raise BadChannel(f"channel too long: {text[:MAX_CHANNEL_LENGTH]!r}...")
    event_type, dot, symbol = text.partition(".")
    if not dot or not event_type or not symbol:
        raise BadChannel(f"not a channel (expected EV.SYM): {text!r}")
    if symbol != ALL and not _SYMBOL.fullmatch(symbol):
        raise BadChannel(f"not a symbol (EV.* is the only wildcard): {text!r}")
    if event_type not in EVENT_TYPES[feed]:
        raise UnknownTopic(text)
    channel = make_channel(feed, event_type, symbol)
    if channel.endswith("."):
        raise BadChannel(f"not a channel (expected EV.SYM): {text!r}")
    return channel


def get_event_type(channel: str) -> str:
    """What stands before the first dot."""
    return channel.partition(".")[0]


def is_wildcard(channel: str) -> bool:
    """Whether the channel is `EV.*`."""
    return channel.endswith(".*")


def get_wildcard(channel: str) -> str:
    """The `EV.*` that has every event of the channel."""
    return f"{get_event_type(channel)}.*"


def expand(feed: str, channels: Iterable[str]) -> set[str]:
    """The channels with every `EV.*` of the feed in the place of `*`."""
    chosen = set(channels)
    if ALL in chosen:
        chosen.remove(ALL)
        chosen.update(f"{event_type}.*" for event_type in EVENT_TYPES[feed])
    return chosen


def find_cover(feed: str, channels: Iterable[str]) -> frozenset[str]:
    """The least set of channels that carries each event of `channels` once.

    `*` becomes every `EV.*` of the feed; an exact channel falls away beside its wildcard.
    """
    chosen = expand(feed, channels)
    wild = {get_event_type(channel) for channel in chosen if is_wildcard(channel)}
    if not wild:
        return frozenset(chosen)
    return frozenset(c for c in chosen if is_wildcard(c) or get_event_type(c) not in wild)


def is_covered(channel: str, held: Iterable[str] | set[str] | frozenset[str]) -> bool:
    """Whether every event of an exact channel or `EV.*` comes with what is held."""
    return channel in held or get_wildcard(channel) in held
