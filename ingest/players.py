"""Makes the players that a configuration or an operator asks for; nowhere else are they built."""

from collections.abc import Callable
from datetime import time
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
    start: time | None = None  # of day, in New York; None: from its beginning
    loop: bool = False
    rewrite_times: bool = False


def is_recording(scenario: str) -> bool:
    """Whether TEST_SCENARIO names a recording, and not a scenario."""
    return scenario not in SCENARIOS and not scenario.endswith(".toml")


def find_scenario(name_or_path: str) -> Scenario:
    """A built-in scenario, or one that a user wrote; raises Unplayable, which names file, line and key."""
    try:
        return load_scenario(name_or_path)
    except BadScenario as exc:
        raise Unplayable(str(exc)) from None


class Players:
    """Makes players for one feed; `get_backlog` is how many bytes wait for Redis."""

    def __init__(self, config: Config, redis: "Redis | None", names: Names, get_backlog: Callable[[], int]) -> None:
        self._config = config
        self._redis = redis
        self._names = names
        self._get_backlog = get_backlog

    def make_simulation(self) -> Simulation:
        """The simulated market, as the configuration has it."""
        return Simulation(self._config, self._redis, self._names)

    def make_programme_replay(self, path: str, speed: float) -> Replay:
        """A recording in the place of a scenario, from TEST_START's time of day; raises Unplayable."""
        start = self._config.test_start
        return self.make_replay(Take(path, speed, None if start is None else start.time()))

    def make_replay(self, take: Take) -> Replay:
        """A player of a recording; raises Unplayable."""
        try:
            return Replay(
                Path(take.path),
                take.speed,
                take.start,
                loop=take.loop,
                rewrite_times=take.rewrite_times,
                feed=self._names.feed,
                get_backlog=self._get_backlog,
            )
        except BadRecording as exc:
            raise Unplayable(str(exc)) from None


def check(config: Config) -> None:
    """Whether TEST_SCENARIO can be played, if it is to be; raises Unplayable."""
    if not (config.is_simulated or config.is_mixed):
        return
    if is_recording(config.test_scenario):
        Players(config, None, Names(config.feed), lambda: 0).make_programme_replay(config.test_scenario, 1.0)
    else:
        find_scenario(config.test_scenario)
