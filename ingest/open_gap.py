"""A gap while it lasts: upstream was lost, and does not hold yet all that was wanted of it.  Pure.

Theory.  Clients are to hear of a gap before the first event after it, and its end is known only when upstream holds
the last channel, while others flow already.  So they are told in advance, before upstream is asked again: up to when it
surely sends, ASKED_S later.  If that is not enough, they are told of the rest before that time has come.
"""

from collections.abc import Iterable
from typing import Final

from shared.demand import ASKED_S
from shared.gap import Gap

_BEFORE_MS: Final = 1000  # the end of what was told, the rest is told; Upstream looks four times a second


class OpenGap:
    """Since when (Unix ms) and why events may be missing; `channels` are those that it concerns, once that is known."""

    def __init__(self, from_ms: int, cause: str, asserted_within_s: float) -> None:
        self.from_ms = from_ms
        self.channels: frozenset[str] = frozenset()
        self.asserted_within_s = asserted_within_s  # of upstream's return, if nothing is wanted before that
        self._cause = cause
        self._told_until_ms = 0

    def go_on(self) -> None:
        """Upstream was lost again."""
        self.channels = frozenset()
        self._told_until_ms = 0

    def foretell(self, missing: Iterable[str], now_ms: int) -> Gap | None:
        """What clients must be told before upstream is asked for what is missing, or asked on; None if they know."""
        channels = sorted(missing)
        if not channels or now_ms < self._told_until_ms - _BEFORE_MS:
            return None
        self._told_until_ms = now_ms + int(ASKED_S * 1000)
        return Gap(self.from_ms, self._told_until_ms, self._cause, channels)

    def is_told(self, now_ms: int) -> bool:
        """Whether clients know of it if it ends now."""
        return now_ms <= self._told_until_ms

    def end(self, now_ms: int) -> Gap:
        """The gap as it was."""
        return Gap(self.from_ms, now_ms, self._cause, sorted(self.channels))
