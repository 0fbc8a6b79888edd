"""From wall time to simulated time.  Pure."""

from ingest.simulator.hours import Hours


class Clock:
    """Runs at `speed` times wall time; with exact hours it leaves out the nights and weekends."""

    def __init__(self, start_ms: int, speed: float, wall_s: float, hours: Hours | None) -> None:
        """wall_s: any clock's time of now; hours: None for a market that is always open."""
        self._from_ms, self._from_s = float(start_ms), wall_s
        self._speed = speed
        self._hours = hours

    @property
    def speed(self) -> float:
        """Simulated seconds per second."""
        return self._speed

    def get_ms(self, wall_s: float) -> int:
        """The simulated time."""
        now_ms = int(self._from_ms + (wall_s - self._from_s) * 1000 * self._speed)
        if self._hours is not None and self._hours.is_over(now_ms):
            now_ms = self._hours.find_start(now_ms)
            self.set_ms(now_ms, wall_s)
        return now_ms

    def set_ms(self, now_ms: float, wall_s: float) -> None:
        """It is that time now."""
        self._from_ms, self._from_s = float(now_ms), wall_s

    def set_speed(self, speed: float, wall_s: float) -> None:
        """From now on."""
        self.set_ms(self.get_ms(wall_s), wall_s)
        self._speed = speed
