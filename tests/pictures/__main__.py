"""Draws each scenario: `python -m tests.pictures [NAME...]` writes docs/pictures/NAME.svg.

All of them are drawn with the same seed, so that a picture changes only when the simulator does.
"""

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from ingest.simulator.market import Market
from ingest.simulator.scenario import CALM, Scenario
from ingest.simulator.scenario_file import load_scenario
from shared.variables import SCENARIOS
from tests.pictures.chart import Span, draw
from tests.pictures.rows import collect, thin

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
SYMBOL: Final = "AAPL"
SEED: Final = 5
RATE: Final = 20  # events a second
DAY: Final = datetime(2026, 11, 20, tzinfo=ZoneInfo("America/New_York"))
DAY_S: Final = (4 * 3600.0, 20 * 3600.0)  # what `normal` shows, from midnight
BEGIN_S: Final = 11 * 3600.0  # when the others begin: the quiet midday
BEFORE_S: Final = 60.0  # of normal trading, seen first
ENDLESS_S: Final = 300.0  # seen of a phase that goes on until the close, and of the calm after the others


def find_spans(scenario: Scenario) -> Iterator[Span]:
    """Its phases, and the calm after them, as long as they are drawn."""
    end_s = 0.0
    after = (CALM,) if scenario.phases[-1].seconds else ()
    for phase in (*scenario.phases, *after):
        start_s, end_s = end_s, end_s + (phase.seconds or ENDLESS_S)
        yield Span(start_s, end_s, phase.name, "halt" if phase.halt else "limit" if phase.limit else "")


def make_picture(name: str) -> str:
    """The SVG of a built-in scenario."""
    scenario = load_scenario(name)
    spans = list(find_spans(scenario))
    begin_s, ends_s, zero = BEGIN_S, (-BEFORE_S, spans[-1].end_s), "since the scenario began"
    if name == "normal":
        begin_s, ends_s, zero, spans = 0.0, DAY_S, "of the day in New York", []
    zero_ms = round((DAY.timestamp() + begin_s) * 1000)
    ends_ms = (zero_ms + round(ends_s[0] * 1000), zero_ms + round(ends_s[1] * 1000))
    market = Market((SYMBOL,), SEED, RATE, ends_ms[0], always_open=False)
    rows = collect(market, SYMBOL, scenario, zero_ms, ends_ms)
    return draw(f"{name}: {SYMBOL}", thin(rows, *ends_s), spans, ends_s, zero)


def main(names: list[str]) -> None:
    """Draw these, or all."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or SCENARIOS:
        picture = make_picture(name)
        (FOLDER / f"{name}.svg").write_text(picture)
        print(f"docs/pictures/{name}.svg: {len(picture) / 1024:.1f} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
