"""What docs/scenarios.md says: each scenario with its picture, and keys, limits and examples that are true."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from ingest.simulator.scenario import BadScenario, Phase
from ingest.simulator.scenario_file import FOLDER, load_scenario
from ingest.simulator.scenario_text import (
    MOST_BYTES,
    MOST_LINES,
    MOST_PHASES,
    Document,
    describe,
    get_metas,
    parse_scenario,
)
from shared.variables import SCENARIOS
from tests.pictures.chart import HEIGHT, WIDTH

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "scenarios.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*)\n\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE))
MOST_PICTURE_BYTES = 60 * 1024


def find_block(language: str) -> str:
    [block] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(block)


def make_rows(kind: type[msgspec.Struct]) -> Iterator[str]:
    """The table of a struct's keys, as the page has it."""
    metas = get_metas(kind)
    for field in msgspec.structs.fields(kind):
        if field.required:
            default = "refused"
        elif field.default in (None, ""):
            default = "-"
        else:
            default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default).lower()
        key = "[[phase]]" if field.name == "phase" else field.name
        yield f"| `{key}` | {metas[field.name].description} | {describe(metas[field.name])} | {default} |"


def test_there_is_a_section_for_each_scenario_and_one_about_ones_own() -> None:
    assert list(SECTIONS) == [*SCENARIOS, "One of your own"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_section_says_what_the_scenarios_file_says(name: str) -> None:
    description = re.search(r'^description = "+([^"]*)"', (FOLDER / f"{name}.toml").read_text(), re.MULTILINE)
    assert description
    assert " ".join(description[1].split()) in " ".join(SECTIONS[name].split())


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_section_says_when_its_scenario_ends(name: str) -> None:
    """In minutes, of those that have an end of their own."""
    seconds = [phase.seconds for phase in load_scenario(name).phases]
    minutes, rest = divmod(sum(seconds), 60)
    end = f"after {minutes:g} minutes" + (f" and {rest:g} seconds" if rest else "")
    assert (f"It ends {end}" in SECTIONS[name]) == bool(seconds[-1])


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_section_shows_its_picture(name: str) -> None:
    assert re.findall(r"!\[[^]]+\]\(([^)]*)\)", SECTIONS[name]) == [f"pictures/{name}.svg"]
    picture = (DOCS / "pictures" / f"{name}.svg").read_bytes()
    assert len(picture) < MOST_PICTURE_BYTES
    root = ElementTree.fromstring(picture)  # noqa: S314  our own file
    assert root.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"


def test_the_tables_are_those_of_the_source() -> None:
    tables = re.findall(r"^\| key \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert tables == ["\n".join([*make_rows(kind), ""]) for kind in (Document, Phase)]


def test_the_limits_are_those_of_the_source() -> None:
    assert f"{MOST_BYTES} bytes, {MOST_LINES} lines and {MOST_PHASES} phases" in PAGE


def test_the_example_is_a_scenario() -> None:
    scenario = parse_scenario(find_block("toml").encode(), "bad-afternoon.toml", {"halt": load_scenario("halt")})
    assert scenario.symbols == frozenset({"AAPL", "TSLA"})
    assert scenario.phases[1:-1] == load_scenario("halt").phases


def test_the_example_of_a_mistake_is_what_a_misspelt_key_says() -> None:
    content = find_block("toml").replace("volatility", "volatilty").encode()
    with pytest.raises(BadScenario) as caught:
        parse_scenario(content, "bad-afternoon.toml", {"halt": load_scenario("halt")})
    assert find_block("text") == f"{caught.value}\n"
