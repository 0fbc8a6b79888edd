"""Makes the players that a configuration or an operator asks for; nowhere else are they built."""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis

from ingest.player import Player
from ingest.simulator.feed import Simulation
from ingest.simulator.scenario import BadScenario, Scenario
from ingest.simulator.scenario_file import load_scenario
from shared.config import Config
from shared.names import Names
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


def make_replay(take: Take) -> Player:
    """A player of a recording; raises Unplayable."""
    try:
        with Path(take.path).open("rb"):
            replay: Any = importlib.import_module("ingest.replay")
        player: Player = replay.Replay(take.path, take.speed, take.start, take.loop, take.rewrite_times)
    except OSError as exc:
        raise Unplayable(f"{take.path}: ingest cannot read it ({exc.strerror})") from None
    except ImportError:
        raise Unplayable("this release plays no recordings") from None
    except ValueError as exc:
        raise Unplayable(f"{take.path}: {exc}") from None
    return player


def check(config: Config) -> None:
    """Whether TEST_SCENARIO can be played, if it is to be; raises Unplayable."""
    if not (config.is_simulated or config.is_mixed):
        return
    if is_recording(config.test_scenario):
        make_replay(Take(config.test_scenario))
    else:
        find_scenario(config.test_scenario)
