"""Frames into events, byte for byte.  Pure, and the hottest code of ingest.

A *body* is an event's bytes without its outer braces: bodies of one channel are joined by `},{` and wrapped once.

Theory.  msgspec decodes only the keys that can hold the event type or the symbol (PROTOCOL b.1), for the whole
frame in one call, and with that proves the frame to be JSON.  The bytes come from one `split(b"},{")`.  That is
right exactly when the frame has as many `{` as events (so none is nested and none stands in a string) and the
split yields as many pieces (so no white space stands between events).  Any other frame takes the slow way:
msgspec.Raw gives each event's own bytes.  Measured on 100-event frames of T and Q: 0.3 us an event against 0.6.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

# The first of these keys that holds a text is the symbol; the order agrees with every row of PROTOCOL b.1:
# `p` is a pair in forex C and a price elsewhere, `T` a symbol in LULD, NOI and V.
_SYMBOL_KEYS: Final = ("sym", "pair", "T", "p")


class Head(msgspec.Struct, gc=False):
    """Where an event goes; empty texts where the event has no such key."""

    ev: str = ""
    sym: str = ""
    pair: str = ""
    T: str = ""
    p: str | float = ""

    @property
    def symbol(self) -> str:
        """The event's symbol, or an empty text."""
        found = self.sym or self.pair or self.T or self.p
        return found if isinstance(found, str) else ""


class Split(NamedTuple):
    """A frame taken apart: `heads` and `bodies` run side by side; `malformed` elements were left out."""

    heads: list[Head]
    bodies: list[bytes]
    malformed: int


class MalformedFrame(Exception):
    """The frame is no JSON array of events at all; nothing of it can be used."""


_decode_heads = msgspec.json.Decoder(list[Head]).decode
_decode_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_BAD: Final = (msgspec.DecodeError, RecursionError)  # the latter for what is nested ~1,000 deep


def split_frame(frame: bytes) -> Split:
    """The events of one frame; raises MalformedFrame.

    Bytes are checked to be UTF-8, since clients close on a text frame that is not.
    """
    if not frame.isascii():
        _check_utf8(frame)
    try:
        heads = _decode_heads(frame)
    except _BAD:
        return _split_slowly(frame)
    if frame.count(b"{") == len(heads) and frame.startswith(b"[{") and frame.endswith(b"}]"):
        bodies = frame[2:-2].split(b"},{")
        if len(bodies) == len(heads):
            return Split(heads, bodies, 0)
    return _split_slowly(frame)


def keep(split: Split, is_kept: Callable[[Head], bool]) -> Split:
    """The split without the events that are not to be kept; the same one if all are."""
    kept = [(head, body) for head, body in zip(split.heads, split.bodies, strict=True) if is_kept(head)]
    if len(kept) == len(split.heads):
        return split
    return Split([head for head, _ in kept], [body for _, body in kept], split.malformed)


def join(bodies: list[bytes]) -> bytes:
    """The frame of these bodies, at least one."""
    return b"[{%b}]" % b"},{".join(bodies)


def _check_utf8(frame: bytes) -> None:
    try:
        frame.decode()
    except UnicodeDecodeError as exc:
        raise MalformedFrame(f"not UTF-8: {exc.reason}") from None


def _split_slowly(frame: bytes) -> Split:
    try:
        raws = _decode_raws(frame)
    except _BAD as exc:
        if not frame.lstrip().startswith(b"{"):
            raise MalformedFrame(str(exc)) from None
        raws = [msgspec.Raw(frame)]  # a bare object, as the spec's examples show
    heads: list[Head] = []
    bodies: list[bytes] = []
    for raw in raws:
        event = bytes(raw).strip()
        head = _find_head(event)
        if head is not None:
            heads.append(head)
            bodies.append(event[1:-1])
    return Split(heads, bodies, len(raws) - len(heads))


def _find_head(event: bytes) -> Head | None:
    """The head of an event whose keys may hold anything at all; None if it is no object or has no event type."""
    try:
        fields = _decode_fields(event)
    except _BAD:
        return None
    event_type = _find_text(fields.get("ev"))
    if not event_type:
        return None
    for key in _SYMBOL_KEYS:
        symbol = _find_text(fields.get(key))
        if symbol:
            return Head(ev=event_type, sym=symbol)
    return Head(ev=event_type)


def _find_text(raw: msgspec.Raw | None) -> str | None:
    if raw is None:
        return None
    try:
        return _decode_text(raw)
    except _BAD:
        return None
