"""A span for which events may be missing, as ingest announces it to gateways and keeps it for operators.  Pure."""

import msgspec


class Gap(msgspec.Struct, frozen=True):
    """From and to in Unix milliseconds; `channels` are those that were wanted and not held for that span."""

    from_ms: int
    to_ms: int
    cause: str
    channels: list[str]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Gap)


def encode_gap(gap: Gap) -> bytes:
    """The gap as JSON."""
    return _encoder.encode(gap)


def decode_gap(text: bytes) -> Gap:
    """The gap in a JSON text; raises msgspec.DecodeError."""
    return _decoder.decode(text)
