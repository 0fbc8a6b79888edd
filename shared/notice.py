"""What ingest has to tell clients in the order of their events: a part of a batch, beside the events.  Pure.

A gateway makes it a status for each interest group that it concerns (`gap`, `backfill`; ours, unknown to upstream).
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from shared.channels import ALL, get_event_type, get_wildcard, is_wildcard
from shared.protocol import Status, make_status

_NAMED: Final = 20  # channels that a status names; of more it says only how many


class Notice(msgspec.Struct, frozen=True):
    """`status` is the kind, `text` a sentence; it concerns whoever gets events of one of `channels`.

    Not those of `spared` symbols, though they are under a wildcard of it.
    """

    status: str
    text: str
    channels: list[str]
    spared: list[str] = []


class Addressed:
    """A notice about to be told to interest groups; a cover is looked at channel by channel, so its cost is small."""

    def __init__(self, notice: Notice) -> None:
        self._notice = notice
        self._channels = frozenset(notice.channels)
        self._spared = frozenset(notice.spared)
        self._by_type: dict[str, list[str]] = {}
        for channel in notice.channels:
            self._by_type.setdefault(get_event_type(channel), []).append(channel)

    def find_status(self, cover: frozenset[str]) -> Status | None:
        """The status for whoever gets exactly the channels of `cover` (no `*` in it); None if it is not concerned."""
        concerned: list[str] = []
        for channel in sorted(cover):
            if channel.partition(".")[2] in self._spared:
                continue
            if not self._channels.isdisjoint((channel, get_wildcard(channel), ALL)):
                concerned.append(channel)
            elif is_wildcard(channel):
                concerned += self._by_type.get(get_event_type(channel), [])
        text = f"{self._notice.text}; channels: {_name(concerned)}"
        return make_status(self._notice.status, text) if concerned else None


def _name(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ",".join(names[:_NAMED]) + more


def make_gap(from_ms: int, to_ms: int, cause: str, channels: Iterable[str], spared: Iterable[str] = ()) -> Notice:
    """Events of a span (Unix ms) may be missing."""
    text = f"events from {from_ms} to {to_ms} may be missing: {cause}"
    return Notice("gap", text, list(channels), sorted(spared))


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Notice)


def encode_notice(notice: Notice) -> bytes:
    """The notice as JSON."""
    return _encoder.encode(notice)


def decode_notice(text: bytes) -> Notice:
    """The notice in a JSON text; raises msgspec.DecodeError."""
    return _decoder.decode(text)
