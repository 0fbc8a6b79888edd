"""What operators switched of the test data while it ran, as the next ingest finds it in Redis.

It outlasts a takeover and a restart: a symbol that was switched to live must not be simulated again because a process
died.  It does not outlast another configuration, which is newer than the switches.
"""

from typing import Final

import msgspec

from shared.config import Config


class Switches(msgspec.Struct, frozen=True):
    """How the test data is to be; each field as its variable in the configuration."""

    enabled: bool
    scenario: str
    speed: float
    symbols: tuple[str, ...]


class _Record(msgspec.Struct, frozen=True):
    configured: Switches
    switched: Switches


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Record).decode


def find_configured(config: Config) -> Switches:
    """How it is before anybody switches anything."""
    return Switches(True, config.test_scenario, config.test_speed, config.test_symbols)


def encode_switches(config: Config, switched: Switches) -> bytes:
    """The record for Redis; nothing at all if nothing was switched."""
    configured = find_configured(config)
    return b"" if switched == configured else _encode(_Record(configured, switched))


def decode_switches(config: Config, text: bytes | None) -> Switches:
    """How it is to be now; as configured too if the record cannot be read, such as a newer release's."""
    configured = find_configured(config)
    try:
        record = _decode(text) if text else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return configured
    return record.switched if record is not None and record.configured == configured else configured
