"""What clients and operators are told while test data is played, so that nobody takes it for the market.  Pure.

Ingest says it in Redis (the field `test_data` of `polygon:{F}:upstream`, and each notice of shared/held.py); gateways
add it as a status behind the greeting, the auth reply and acks.
"""

from typing import Final

import msgspec

from shared.protocol import Status, make_status

_NAMED: Final = 20  # symbols that a status names; of more it says only how many


class Indicator(msgspec.Struct, frozen=True):
    """`mode` is simulated, replay or mixed; `symbols` are the simulated ones of a mixed feed, none otherwise."""

    mode: str
    scenario: str  # the name of a scenario, or of a file
    symbols: tuple[str, ...] = ()
    enabled: bool = True  # False: test data was stopped, and nothing comes in its place


def make_indicator_status(indicator: Indicator) -> Status:
    """The status for clients.  Kind and text are ours: official clients skip a kind that they do not know."""
    text = f"this is test data: mode {indicator.mode}, scenario {indicator.scenario}"
    if indicator.mode == "mixed":
        more = f" and {len(indicator.symbols) - _NAMED} more" if len(indicator.symbols) > _NAMED else ""
        text += f", simulated symbols: {','.join(indicator.symbols[:_NAMED]) or 'none'}{more}"
    return make_status("test_data", text if indicator.enabled else f"{text}; stopped")


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Indicator)


def encode_indicator(indicator: Indicator | None) -> bytes:
    """As JSON; nothing at all for none."""
    return b"" if indicator is None else _encoder.encode(indicator)


def decode_indicator(text: bytes | None) -> Indicator | None:
    """What `encode_indicator` made; None too for what cannot be read, such as a newer release's."""
    try:
        return _decoder.decode(text) if text else None
    except msgspec.DecodeError:
        return None
