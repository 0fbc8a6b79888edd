"""Scenarios on disk: the built-in ones, scenarios/NAME.toml, and a user's own file."""

from pathlib import Path
from typing import Final

from ingest.simulator.scenario import BadScenario, Scenario
from ingest.simulator.scenario_text import MOST_BYTES, parse_scenario, show_name
from shared.variables import SCENARIOS

FOLDER: Final = Path(__file__).with_name("scenarios")


def load_scenario(name_or_path: str) -> Scenario:
    """A built-in scenario by its name, else the one in the file at that path.

    In a user's file `scenario = NAME` stands for a built-in one's phases; a built-in one stands by itself, so that
    nothing can contain itself.  Raises BadScenario.
    """
    if name_or_path in SCENARIOS:
        return parse_scenario(_read(FOLDER / f"{name_or_path}.toml", name_or_path), name_or_path, {})
    others = {name: load_scenario(name) for name in SCENARIOS}
    return parse_scenario(_read(Path(name_or_path), name_or_path), name_or_path, others)


def _read(path: Path, name: str) -> bytes:
    """The file's content.  Of a longer file one byte too many is read, enough to see that it is too long."""
    try:
        if path.exists() and not path.is_file():
            raise BadScenario(f"{show_name(name)}: is not a file")  # reading a pipe could last for ever
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise BadScenario(f"{show_name(name)}: cannot be read: {exc.strerror}") from None
    except ValueError:
        raise BadScenario(f"{show_name(name)}: is not a path") from None  # it has a NUL
