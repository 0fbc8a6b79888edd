"""Pictures of scenarios: from events to rows, from rows to points, from points to SVG."""

import re
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.simulator.scenario import NORMAL, Scenario
from tests.pictures.chart import HEIGHT, SHADES, WIDTH, Span, draw, find_powers, find_ticks
from tests.pictures.rows import Point, Row, collect, thin

SVG = "{http://www.w3.org/2000/svg}"
START_MS = 1_795_000_000_000


class TwoEventsASecond:
    """A market that quotes and trades once in each second, and notes what it is told."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.told: list[object] = []

    def set_held(self, held: frozenset[str]) -> None:
        self.told.append(held)

    def set_scenario(self, scenario: Scenario, now_ms: int) -> None:
        self.told += [scenario.name, now_ms]

    def advance(self, to_ms: int) -> list[bytes]:
        events: list[dict[str, object]] = []
        for second_ms in range(self.now_ms, to_ms, 1000):
            events.append({"ev": "Q", "sym": "A", "bp": 9.9, "ap": 10.1, "t": second_ms})
            events.append({"ev": "T", "sym": "A", "p": 10.0, "s": 7, "t": second_ms + 500})
        self.now_ms = to_ms
        return [msgspec.json.encode(events)]


def test_rows_are_a_markets_trades_and_quotes_in_seconds_since_the_scenario_began() -> None:
    market = TwoEventsASecond()
    rows = collect(market, "A", NORMAL, START_MS + 2000, (START_MS, START_MS + 4000))
    assert market.told == [frozenset({"T.A", "Q.A"}), "normal", START_MS + 2000]
    assert [row.time_s for row in rows] == [-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5]
    assert rows[0] == Row(-2, None, 9.9, 10.1, 0)
    assert rows[-1] == Row(1.5, 10.0, 9.9, 10.1, 7)


ROWS = st.lists(
    st.builds(Row, st.floats(0, 99.9), st.just(5.0), st.just(4.0), st.just(6.0), st.integers(0, 1000)), max_size=50
).map(lambda rows: sorted(rows))


@given(ROWS, st.integers(1, 20))
def test_thinning_keeps_all_shares_and_no_more_points_than_wanted(rows: list[Row], most: int) -> None:
    points = thin(rows, 0.0, 100.0, most)
    assert len(points) <= most
    assert sum(point.volume for point in points) * 100 / most == pytest.approx(sum(row.volume for row in rows))
    assert [point.time_s for point in points] == sorted({point.time_s for point in points})
    assert {point.spread for point in points} <= {2.0}


def test_a_point_has_the_last_price_the_last_quote_and_the_mean_spread() -> None:
    rows = [Row(0, 5.0, 4.0, 6.0, 10), Row(1, 7.0, 6.0, 7.0, 20), Row(2, 7.0, 6.5, 7.5, 0), Row(4, 7.0, 6.5, 7.5, 0)]
    first, last = thin(rows, 0, 6, 2)
    assert first == Point(1.5, 7.0, 6.5, 7.5, (2.0 + 1.0 + 1.0) / 3, 10.0)
    assert last == Point(4.5, None, 6.5, 7.5, 1.0, 0.0)  # nothing was traded


@given(st.floats(-1e4, 1e4), st.floats(0.01, 1e4), st.sampled_from([5, 8, 14]))
def test_ticks_are_few_even_and_inside(low: float, length: float, most: int) -> None:
    ticks = find_ticks(low, low + length, most)
    assert 1 <= len(ticks) <= most
    assert low - length * 1e-6 <= ticks[0] and ticks[-1] <= low + length * (1 + 1e-6)


def test_powers_of_ten_are_the_ticks_of_a_logarithmic_scale() -> None:
    assert find_powers(0.8, 1500) == [1, 10, 100, 1000]


def make_points(count: int = 360) -> list[Point]:
    """A price that rises by the second, with a halt from 100 to 200: wide quotes and no trades."""
    return [
        Point(t, None, 80.0, 120.0, 40.0, 0.0) if 100 <= t < 200 else Point(t, 100 + t / 100, 99.0, 101.0, 0.02, 123.0)
        for t in range(count)
    ]


SPANS = [Span(0, 90, "rise", ""), Span(90, 100, "up", "limit"), Span(100, 200, "halted & waiting", "halt")]


def draw_example() -> str:
    return draw("test <1>", make_points(), SPANS, (-10.0, 360.0), "since it began")


def test_a_picture_is_well_formed_small_and_within_its_frame() -> None:
    picture = draw_example()
    assert len(picture) < 60 * 1024
    root = ElementTree.fromstring(picture)  # noqa: S314  our own
    for path in root.iter(f"{SVG}path"):
        for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path.get("d", "")):
            assert 0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT
    assert "nan" not in picture and "None" not in picture


def find_texts(picture: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(picture).iter(f"{SVG}text")]  # noqa: S314


def test_a_picture_brings_its_background_and_says_what_is_on_its_axes() -> None:
    first = next(iter(ElementTree.fromstring(draw_example()).iter(f"{SVG}rect")))  # noqa: S314
    assert (first.get("width"), first.get("height")) == (str(WIDTH), str(HEIGHT))
    axes = {"price (USD)", "spread (cents)", "shares per s", "simulated minutes since it began"}
    assert axes <= set(find_texts(draw_example()))


def test_halts_are_shaded_and_named_and_the_price_line_is_broken_there() -> None:
    picture = draw_example()
    assert {"test <1>", "rise", "up", "halted & waiting"} <= set(find_texts(picture))
    assert SHADES["halt"][0] in picture and SHADES["limit"][0] in picture
    [line] = re.findall(r'd="([^"]*)" fill="none" stroke="#0550ae"', picture)
    assert line.count("M") == 2


def test_the_spreads_scale_is_logarithmic_where_a_halts_quotes_would_dwarf_the_others() -> None:
    assert {"10", "100", "1,000"} <= set(find_texts(draw_example()))
    ordinary = draw("test", make_points(90), (), (0.0, 90.0), "since")
    assert {"0", "1", "2"} <= set(find_texts(ordinary))


def test_nothing_at_all_is_an_empty_picture() -> None:
    assert find_texts(draw("nothing", [], (), (0.0, 10.0), "since"))
