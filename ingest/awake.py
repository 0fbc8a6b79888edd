"""When this process last stood still: what came meanwhile lay in buffers, so its time tells nothing.  Pure."""

from typing import Final

_STANDSTILL_MS: Final = 2000  # without a look at the clock: a pause of the process or its machine, not load


class Awake:
    """Notes that the process runs, many times a second; all times are Unix ms."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms  # of the last note
        self._stood_from_ms = self._stood_to_ms = 0

    def note(self, now_ms: int, since_ms: int) -> None:
        """The process runs; standstills that ended before `since_ms` count no more."""
        if now_ms - self.now_ms > _STANDSTILL_MS:
            if self._stood_to_ms <= since_ms:  # else the one before counts still
                self._stood_from_ms = self.now_ms
            self._stood_to_ms = now_ms
        self.now_ms = now_ms

    def find_standstill(self, since_ms: int) -> int | None:
        """Since when it stood still, if that ended later than `since_ms`."""
        return self._stood_from_ms if self._stood_to_ms > since_ms else None
