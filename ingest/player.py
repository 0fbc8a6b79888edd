"""Who can play test data in Polygon's place: ingest/rehearsal.py drives it, and knows no more of it than this."""

from collections.abc import Callable
from typing import Any, Protocol


class Player(Protocol):
    """Plays events of its own; the simulated market and the replay of a recording are players."""

    def set_held(self, held: frozenset[str]) -> None:
        """Channels that are subscribed now (`EV.SYM`, `EV.*`, `*`): only events of these are emitted from now on."""

    async def run(self, emit: Callable[[bytes], None]) -> None:
        """Emit frames (JSON arrays of events, at most 256 KiB each); return when it is over."""


class Replayer(Player, Protocol):
    """A player of a recording."""

    def set_speed(self, speed: float | None) -> None:
        """How fast its time runs from now on; None: as fast as it is taken."""

    def get_status(self) -> dict[str, Any]:
        """How far it is: `position_s` of `total_s`, in seconds of the recording, among others."""
