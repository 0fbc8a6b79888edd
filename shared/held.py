"""The notice by which ingest tells gateways what upstream confirmed, so that acks tell the truth.  Pure."""

import msgspec

from shared.indicator import Indicator


class HeldNotice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change of what upstream holds; `reset` means that nothing from before is held any more.

    `refused` is everything that upstream refuses now, channel -> its text; `test_data` says whether it is the market.
    """

    added: list[str] = []
    removed: list[str] = []
    reset: bool = False
    refused: dict[str, str] = {}
    test_data: Indicator | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(HeldNotice)


def encode_held(notice: HeldNotice) -> bytes:
    """The notice as JSON."""
    return _encoder.encode(notice)


def decode_held(text: bytes) -> HeldNotice:
    """The notice in a JSON text; raises msgspec.DecodeError."""
    return _decoder.decode(text)
