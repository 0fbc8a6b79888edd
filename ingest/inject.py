"""Judges events that an operator wants to inject: what a client could not make sense of is refused.  Pure.

Strict where an event would go astray or break a typed client: the event type must be the feed's, the symbol a text
under the key that PROTOCOL b.1 names and the one that routing finds, and a known field must have the type of PROTOCOL
b.2.  Lenient in all else: fields may be missing, as upstream leaves them out too, and unknown ones pass.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from shared.channels import EVENT_TYPES, BadChannel, UnknownTopic, make_channel, parse_channel
from shared.split import MalformedFrame, split_frame

MAX_EVENT_BYTES: Final = 16 * 1024  # real ones have up to 200
MAX_FRAME_BYTES: Final = 256 * 1024
MAX_EVENTS: Final = 1000  # of one request

_INT: Final = "a whole number"
_NUMBER: Final = "a number"
_TEXT: Final = "a text"
_INTS: Final = "an array of whole numbers"
_BOOLEAN: Final = "true or false"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    _INT: _is_whole,
    _NUMBER: _is_number,
    _TEXT: lambda value: isinstance(value, str),
    _INTS: lambda value: isinstance(value, list) and all(map(_is_whole, value)),
    _BOOLEAN: lambda value: isinstance(value, bool),
}


def _table(**names: str) -> dict[str, str]:
    """Field -> kind, from kind -> the fields' names."""
    kinds = {"ints": _INTS, "whole": _INT, "numbers": _NUMBER, "texts": _TEXT, "booleans": _BOOLEAN}
    return {name: kinds[kind] for kind, listed in names.items() for name in listed.split()}


_BAR: Final = _table(
    whole="v av s e n", numbers="op vw o c h l a z", texts="sym dv dav", booleans="otc"
)  # z was seen with decimals (PROTOCOL b.2)
_FIELDS: Final[dict[str, dict[str, str]]] = {
    "T": _table(whole="x z s t pt q trfi trft", numbers="p", texts="sym i ds", ints="c"),
    "Q": _table(whole="bx bs ax as c t q z", numbers="bp ap", texts="sym", ints="i"),
    "A": _BAR,
    "AM": _BAR,
    "LULD": _table(whole="z t q", numbers="h l", texts="T", ints="i"),
    "NOI": _table(whole="t at i x o p", numbers="b", texts="T a"),
    "FMV": _table(whole="t", numbers="fmv", texts="sym"),
    "LV": _table(whole="t", numbers="val", texts="sym"),
}


class BadEvent(Exception):
    """One event that is refused; str() is one line with its position, the field and why."""

    def __init__(self, position: int, field: str, why: str) -> None:
        super().__init__(f"event {position}{f', field {field}' if field else ''}: {why}")
        self.position = position
        self.field = field
        self.why = why


class Injection(NamedTuple):
    """A frame that may be taken in as it is, and the channels of its events."""

    frame: bytes
    channels: frozenset[str]
    events: int


_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode
_BAD_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse_injection(feed: str, text: bytes, first: int = 1) -> Injection:
    """One event, or an array of events, whose positions count from `first`.

    Raises BadEvent, whose position is 0 if the text as a whole is bad.
    """
    frame = text.strip()
    if frame.startswith(b"{"):
        frame = b"[%b]" % frame
    if len(frame) > MAX_FRAME_BYTES:
        raise BadEvent(0, "", f"{len(frame)} bytes at once are more than {MAX_FRAME_BYTES}")
    try:
        raws = _decode_raws(frame)
    except _BAD_JSON as exc:
        raise BadEvent(0, "", f"not a JSON object or an array of them: {exc}") from None
    if not 1 <= len(raws) <= MAX_EVENTS:
        raise BadEvent(0, "", f"{len(raws)} events: expected 1 to {MAX_EVENTS}")
    channels = frozenset(_check(feed, bytes(raw), position) for position, raw in enumerate(raws, first))
    return Injection(frame, channels, len(raws))


def _check(feed: str, event: bytes, position: int) -> str:
    """The channel of one event."""
    if len(event) > MAX_EVENT_BYTES:
        raise BadEvent(position, "", f"{len(event)} bytes are more than {MAX_EVENT_BYTES}")
    try:
        fields = _decode_fields(event)
    except _BAD_JSON as exc:
        raise BadEvent(position, "", f"not a JSON object: {exc}") from None
    event_type = fields.get("ev")
    if not isinstance(event_type, str) or event_type not in EVENT_TYPES[feed] or event_type not in _FIELDS:
        raise BadEvent(position, "ev", f"unknown event type {event_type!r}, expected one of {', '.join(_FIELDS)}")
    for name, kind in _FIELDS[event_type].items():
        if name in fields and not _CHECKS[kind](fields[name]):
            raise BadEvent(position, name, f"expected {kind}")
    return _find_channel(feed, event, event_type, fields, position)


def _find_channel(feed: str, event: bytes, event_type: str, fields: dict[str, Any], position: int) -> str:
    key = "T" if event_type in ("LULD", "NOI") else "sym"
    symbol = fields.get(key, "")
    if not symbol:
        raise BadEvent(position, key, "the symbol is missing")
    try:
        channel = parse_channel(feed, f"{event_type}.{symbol}")
        routed = split_frame(b"[%b]" % event).heads[0].symbol
    except (BadChannel, UnknownTopic, MalformedFrame, IndexError) as exc:
        raise BadEvent(position, key, f"not a symbol: {exc}") from None
    if "*" in symbol or channel != make_channel(feed, event_type, symbol):
        raise BadEvent(position, key, "not a symbol")
    if routed != symbol:
        raise BadEvent(position, key, f"another field names the symbol {routed!r}")
    return channel
