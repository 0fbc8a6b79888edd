"""Makes the players that a configuration or an operator asks for; nowhere else are they built."""

import importlib
from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from ingest.player import Replayer
from ingest.simulator import BadScenario, Scenario, Simulation, load_scenario
from shared.config import Config
from shared.names import Names
from shared.variables import SCENARIOS

_MOST_SPEED: Final = 1000.0  # TEST_SPEED's bound: of a recording it is as fast as it is taken


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

    def make_programme_replay(self, path: str) -> Replayer:
        """A recording in the place of a scenario, at TEST_SPEED from TEST_START; raises Unplayable."""
        config = self._config
        speed = None if config.test_speed >= _MOST_SPEED else config.test_speed
        start = config.test_start.time() if config.test_start is not None else None
        return self.make_replay(Take(path, speed, start))

    def make_replay(self, take: Take) -> Replayer:
        """A player of a recording; raises Unplayable."""
        try:
            module: Any = importlib.import_module("ingest.replay")
        except ImportError:
            raise Unplayable(f"{take.path}: this release plays no recordings") from None
        try:
            replay: Replayer = module.Replay(
                Path(take.path),
                take.speed,
                take.start,
                loop=take.loop,
                rewrite_times=take.rewrite_times,
                feed=self._names.feed,
                get_backlog=self._get_backlog,
            )
        except module.BadRecording as exc:
            raise Unplayable(str(exc)) from None
        return replay


def check(config: Config) -> None:
    """Whether TEST_SCENARIO can be played, if it is to be; raises Unplayable."""
    if not (config.is_simulated or config.is_mixed):
        return
    if is_recording(config.test_scenario):
        Players(config, None, Names(config.feed), lambda: 0).make_programme_replay(config.test_scenario)
    else:
        find_scenario(config.test_scenario)
