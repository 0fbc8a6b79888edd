"""The built-in scenarios, and files that cannot be read."""

import os
from pathlib import Path

import pytest

from ingest.simulator.scenario import NORMAL, BadScenario, Scenario
from ingest.simulator.scenario_file import FOLDER, load_scenario
from ingest.simulator.scenario_text import MOST_BYTES
from shared.variables import SCENARIOS


def fail(path: str) -> str:
    with pytest.raises(BadScenario) as caught:
        load_scenario(path)
    return str(caught.value)


def test_the_files_are_those_that_the_configuration_names() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SCENARIOS)
    assert {path.suffix for path in FOLDER.iterdir()} == {".toml"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_built_in_scenario_is_for_all_symbols_and_not_repeated(name: str) -> None:
    scenario = load_scenario(name)
    assert (scenario.name, scenario.symbols, scenario.repeat) == (name, None, False)


def test_what_a_market_does_by_itself_is_the_scenario_normal() -> None:
    assert load_scenario("normal") == NORMAL


def find_phases(name: str) -> list[tuple[str, float]]:
    """What interrupts trading in a scenario, and for how many seconds."""
    return [(phase.limit or phase.halt, phase.seconds) for phase in load_scenario(name).phases]


def test_halt_is_the_way_to_15_seconds_of_limit_state_then_a_halt_of_5_minutes_between_ordinary_trading() -> None:
    assert find_phases("halt") == [("", 60), ("down", 21), ("luld", 300), ("", 120)]


def test_market_wide_halts_come_at_7_13_and_20_percent_and_last_15_minutes_or_the_rest_of_the_day() -> None:
    phases = load_scenario("market_wide_halt").phases
    assert [(phase.halt, phase.seconds) for phase in phases[1::2]] == [("level1", 900), ("level2", 900), ("level3", 0)]
    level, falls = 1.0, []
    for phase in phases[::2]:
        level *= 1 + phase.drift / 100
        falls.append(round(100 - 100 * level, 1))
    assert [least <= fall < least + 0.5 for least, fall in zip((7, 13, 20), falls, strict=True)] == [True] * 3


def test_opening_bell_begins_twenty_fold_and_decays() -> None:
    assert [(phase.activity, phase.activity_to) for phase in load_scenario("opening_bell").phases] == [(20, 1)]


def test_a_users_file_may_use_a_built_in_scenario(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('[[phase]]\nscenario = "halt"\n[[phase]]\nscenario = "normal"\n')
    phases = (*load_scenario("halt").phases, *load_scenario("normal").phases)
    assert load_scenario(str(path)) == Scenario(str(path), None, phases, False)


def test_a_users_file_cannot_stand_for_itself_or_another_file(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(f'[[phase]]\nscenario = "{path}"\n')
    assert fail(str(path)).startswith(f"{path}:2: phase 1, scenario: ")
    assert "no such scenario" in fail(str(path))


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    missing, pipe, long = tmp_path / "missing.toml", tmp_path / "pipe.toml", tmp_path / "long.toml"
    os.mkfifo(pipe)
    long.write_bytes(b"# \xc3\xa4\n" * MOST_BYTES)
    assert fail(str(missing)) == f"{missing}: cannot be read: No such file or directory"
    assert fail(str(tmp_path)) == f"{tmp_path}: is not a file"
    assert fail(str(pipe)) == f"{pipe}: is not a file"
    assert fail(str(long)).startswith(f"{long}: longer than")
    assert fail("a\0b.toml") == "'a\\x00b.toml': is not a path"
    assert fail("x" * 5000) == f"{'x' * 5000}: cannot be read: File name too long"
