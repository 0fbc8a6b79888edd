"""Makes the players that a configuration or an operator asks for; nowhere else are they built."""

from collections.abc import Callable
from datetime import datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import NamedTuple

from redis.asyncio import Redis

from ingest.replay import Replay
from ingest.simulator.feed import Simulation
from ingest.simulator.scenario import BadScenario, Scenario
from ingest.simulator.scenario_file import load_scenario
from shared.config import Config
from shared.names import Names
from shared.recording import BadRecording
from shared.variables import SCENARIOS


class Unplayable(Exception):
    """What was asked for cannot be played; str() is one line that says what to mend."""


class Take(NamedTuple):
    """How a recording is to be played."""

    path: str
    speed: float | None = 1.0  # None: as fast as it is taken
    start: str | None = None  # time of day in New York; None: from its beginning
    loop: bool = False
    rewrite_times: bool = False


def make_take(scenario: str, speed: float, start: datetime | None) -> Take:
    """How TEST_SCENARIO's recording is played; of `start` the time of day counts."""
    return Take(scenario, speed, None if start is None else start.time().isoformat())


def is_recording(scenario: str) -> bool:
    """Whether TEST_SCENARIO names a recording, and not a scenario."""
    return scenario not in SCENARIOS and not scenario.endswith(".toml")


def find_scenario(name_or_path: str) -> Scenario:
    """A built-in scenario, or one that a user wrote; raises Unplayable, which names file, line and key."""
    try:
        return load_scenario(name_or_path)
    except BadScenario as exc:
        raise Unplayable(str(exc)) from None


def make_simulation(config: Config, redis: "Redis", names: Names) -> Simulation:
    """The simulated market, as the configuration has it."""
    return Simulation(config, redis, names)


def make_replay(take: Take, get_backlog: Callable[[], int] = lambda: 0) -> Replay:
    """A player of a recording; `get_backlog`: bytes that wait for Redis.  Raises Unplayable."""
    start = None if take.start is None else time_of_day.fromisoformat(take.start)
    try:
        return Replay(
            Path(take.path), take.speed, start,
            loop=take.loop, rewrite_times=take.rewrite_times, get_backlog=get_backlog,
        )  # fmt: skip
    except BadRecording as exc:
        raise Unplayable(str(exc)) from None


def check(config: Config) -> None:
    """Whether TEST_SCENARIO can be played, if it is to be; raises Unplayable."""
    if not (config.is_simulated or config.is_mixed):
        return
    if is_recording(config.test_scenario):
        make_replay(make_take(config.test_scenario, config.test_speed, config.test_start))
    else:
        find_scenario(config.test_scenario)
