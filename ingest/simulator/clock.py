"""From wall time to simulated time.  Pure."""


class Clock:
    """Runs at `speed` times wall time."""

    def __init__(self, start_ms: int, speed: float, wall_s: float) -> None:
        """wall_s: any clock's time of now."""
        self._from_ms, self._from_s = float(start_ms), wall_s
        self._speed = speed

    @property
    def speed(self) -> float:
        """Simulated seconds per second."""
        return self._speed

    def get_ms(self, wall_s: float) -> int:
        """The simulated time."""
        return int(self._from_ms + (wall_s - self._from_s) * 1000 * self._speed)

    def set_ms(self, now_ms: float, wall_s: float) -> None:
        """It is that time now."""
        self._from_ms, self._from_s = float(now_ms), wall_s

    def set_speed(self, speed: float, wall_s: float) -> None:
        """From now on."""
        self.set_ms(self.get_ms(wall_s), wall_s)
        self._speed = speed
