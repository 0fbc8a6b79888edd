"""What a simulated market goes through, and when.  Who makes it true of prices and events is the market.

A scenario is a list of phases, each with its length in simulated seconds.  The metadata of a phase's fields is the one
place for their ranges and meaning: scenario_text.py checks what a user wrote against it, docs/scenarios.md shows it.
"""

from bisect import bisect_right
from itertools import accumulate
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

_US: Final = 1_000_000  # times are compared in whole microseconds: sums of floats would miss the boundaries


class BadScenario(Exception):
    """A scenario that cannot be used; str() is one line that names the file and, where there is one, line and key."""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of a scenario; `title` says what a field holds where that is no range of numbers."""

    name: Annotated[
        str, Meta(min_length=1, max_length=60, title="1 to 60 characters", description="what pictures and logs call it")
    ]
    seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="how long, in simulated seconds: 1 or more; 0 (the last phase only): to the close",
        ),
    ] = 0.0
    volatility: Annotated[float, Meta(ge=0, le=50, description="factor on how far prices move")] = 1.0
    activity: Annotated[float, Meta(ge=0.01, le=100, description="factor on the number of events")] = 1.0
    activity_to: (
        Annotated[float, Meta(ge=0.01, le=100, description="what `activity` has become at the end, in equal ratios")]
        | None
    ) = None
    spread: Annotated[float, Meta(ge=0.1, le=100, description="factor on the distance between bid and ask")] = 1.0
    size: Annotated[float, Meta(ge=0.01, le=100, description="factor on the shares in trades and quotes")] = 1.0
    jump: Annotated[float, Meta(ge=-90, le=900, description="percent by which prices jump at its first moment")] = 0.0
    drift: Annotated[float, Meta(ge=-90, le=900, description="percent by which prices move from start to end")] = 0.0
    limit: Annotated[
        Literal["", "up", "down"],
        Meta(title='"up" or "down"', description="LULD limit state: prices are driven to that band and pinned there"),
    ] = ""
    halt: Annotated[
        Literal["", "luld", "news", "level1", "level2", "level3"],
        Meta(
            title='"luld", "news", "level1", "level2" or "level3"',
            description="no trades, and why; level1 to level3: the market-wide halts",
        ),
    ] = ""


CALM: Final = Phase(name="calm")


class Scenario(msgspec.Struct, frozen=True):
    """Phases one after another, for some symbols or (None) for all; again and again if `repeat` says so."""

    name: str  # of a built-in one, or the path as the user wrote it
    symbols: frozenset[str] | None
    phases: tuple[Phase, ...]  # at least one; only the last may have 0 seconds, and then `repeat` is False
    repeat: bool

    def find(self, elapsed_s: float) -> tuple[int, Phase, float]:
        """The phase at a moment: its index, which counts on through repeats, itself, and the seconds into it.

        A phase holds its first moment and not its last.  After the last one it is calm, with the index after it;
        before the first moment (elapsed_s < 0) it is the first one's.  Times count in whole microseconds.
        """
        elapsed = max(0, round(elapsed_s * _US))
        ends = list(accumulate(round(phase.seconds * _US) for phase in self.phases))
        rounds, elapsed = divmod(elapsed, ends[-1]) if self.repeat else (0, elapsed)
        index = bisect_right(ends, elapsed)
        if index == len(ends) and not self.phases[-1].seconds:
            index -= 1
        into = elapsed - (ends[index - 1] if index else 0)
        phase = self.phases[index] if index < len(ends) else CALM
        return rounds * len(ends) + index, phase, into / _US


NORMAL: Final = Scenario("normal", None, (CALM,), False)
