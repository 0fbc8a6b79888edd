"""A clock that only tests move, in the place of the module `time`."""


class Clock:
    """Stands in for `time` in a module of ours."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now_s

    def time(self) -> float:
        """Seconds since 1970, as far as this clock is concerned."""
        return self.now_s

    def time_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self.now_s * 1e9)
