"""Ports for the servers of tests."""

import secrets
import socket
from collections import deque
from typing import Final

# Below those that Linux gives to outgoing connections: such a one could take the port before its server does.
_FIRST: Final = 20_000
_COUNT: Final = 12_000
_TRIES: Final = 100
# A port is given out before its server listens there, and other test processes look for one, too.  So it is kept from
# them by a UDP socket of the same number, for much longer than a server takes to start.
_RESERVED: Final[deque[socket.socket]] = deque()
_MOST_RESERVED: Final = 100


def find_free_port() -> int:
    """A port of this machine that nobody uses just now, nor was given any of the tests that run beside this one."""
    for _ in range(_TRIES):
        port = _FIRST + secrets.randbelow(_COUNT)
        reserved = socket.socket(type=socket.SOCK_DGRAM)
        with socket.socket() as probe:
            try:
                reserved.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                reserved.close()
                continue
        _RESERVED.append(reserved)
        if len(_RESERVED) > _MOST_RESERVED:
            _RESERVED.popleft().close()
        return port
    raise RuntimeError(f"no free port among {_TRIES}")
