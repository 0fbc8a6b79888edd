"""Ports for the servers of tests."""

import secrets
import socket
from typing import Final

# Below those that Linux gives to outgoing connections: such a one could take the port before its server does.
_FIRST: Final = 20_000
_COUNT: Final = 12_000
_TRIES: Final = 100


def find_free_port() -> int:
    """A port of this machine that nobody uses just now."""
    for _ in range(_TRIES):
        port = _FIRST + secrets.randbelow(_COUNT)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port among {_TRIES}")
