"""What happens to the market and when: phases of a scenario.  Pure.  (A stand-in: worker scen's file replaces it.)"""

from itertools import count

import msgspec


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    seconds: float  # simulated; 0: until the close
    volatility: float = 1
    activity: float = 1  # factor on the number of events
    activity_to: float | None = None  # where the factor has got to at the phase's end, geometric
    spread: float = 1
    size: float = 1
    jump: float = 0  # percent, at its first moment
    drift: float = 0  # percent over the phase
    limit: str = ""  # "up" or "down": the price is driven to the band and pinned there
    halt: str = ""  # luld, news, level1, level2 or level3


_CALM = Phase(name="calm", seconds=0)


class Scenario(msgspec.Struct, frozen=True):
    name: str
    symbols: frozenset[str] | None
    phases: tuple[Phase, ...]
    repeat: bool

    def find(self, elapsed_s: float) -> tuple[int, Phase, float]:
        """Index (it counts on through repeats), phase and seconds into it; behind the last one a calm phase."""
        for index in count():
            if index >= len(self.phases) and not (self.repeat and self.phases):
                return index, _CALM, elapsed_s
            phase = self.phases[index % len(self.phases)]
            if not phase.seconds or elapsed_s < phase.seconds:
                return index, phase, elapsed_s
            elapsed_s -= phase.seconds
        raise AssertionError


NORMAL = Scenario("normal", None, (), False)
