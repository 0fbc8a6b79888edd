"""What a user may write into a scenario's file, and the one line that each mistake gives."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.simulator.scenario import BadScenario, Phase, Scenario
from ingest.simulator.scenario_text import MOST_BYTES, MOST_LINES, MOST_PHASES, Document, get_metas, parse_scenario

HALT = Scenario("halt", None, (Phase(name="fall", seconds=60, drift=-4.5), Phase(name="halt", seconds=300)), False)
NORMAL = Scenario("normal", None, (Phase(name="normal", seconds=0),), False)
OTHERS = {"halt": HALT, "normal": NORMAL}
PHASE = '[[phase]]\nname = "a"\nseconds = 5\n'  # three lines


def parse(text: str, name: str = "my.toml") -> Scenario:
    return parse_scenario(text.encode(), name, OTHERS)


def fail(content: str | bytes, name: str = "my.toml") -> str:
    with pytest.raises(BadScenario) as caught:
        parse_scenario(content.encode() if isinstance(content, str) else content, name, OTHERS)
    return str(caught.value)


def test_each_key_arrives() -> None:
    text = """
title = "all keys"
description = \"\"\"over
two lines\"\"\"
symbols = ["AAPL", "BRK.A"]
repeat = true
[[phase]]
name = "first"
seconds = 1.5
volatility = 2
activity = 3
activity_to = 1.5
spread = 4
size = 5
jump = -6
drift = 7
limit = "up"
[[phase]]
name = "second"
seconds = 1
halt = "news"
"""
    numbers = {"volatility": 2, "activity": 3, "activity_to": 1.5, "spread": 4, "size": 5, "jump": -6, "drift": 7}
    first = Phase(name="first", seconds=1.5, limit="up", **numbers)  # type: ignore[arg-type]
    second = Phase(name="second", seconds=1, halt="news")
    assert parse(text) == Scenario("my.toml", frozenset({"AAPL", "BRK.A"}), (first, second), True)
    assert {key for key in get_metas(Phase) if key not in text} == set()


def test_without_symbols_and_repeat_it_is_for_all_and_once() -> None:
    assert parse(PHASE) == Scenario("my.toml", None, (Phase(name="a", seconds=5),), False)


def test_another_scenario_stands_for_its_phases() -> None:
    scenario = parse(PHASE + '[[phase]]\nscenario = "halt"\n' + PHASE)
    assert scenario.phases == (Phase(name="a", seconds=5), *HALT.phases, Phase(name="a", seconds=5))


def test_phases_may_be_written_as_an_inline_array_and_by_windows() -> None:
    assert parse('\ufeffphase = [\r\n  {name = "a", seconds = 5},\r\n]\r\n').phases == parse(PHASE).phases


MISTAKES = {
    # TOML itself
    "seconds = \n": "my.toml:1: Invalid value: 'seconds ='",
    PHASE + "volatility 5\n" + PHASE: "my.toml:4: Expected '=' after a key in a key/value pair: 'volatility 5'",
    PHASE + 'halt = "luld': "my.toml:4: Unterminated string: 'halt = \"luld'",
    PHASE + 'x = """\n\n\n': 'my.toml:4: Unterminated string: \'x = """\'',
    PHASE + "seconds = 6": "my.toml:4: Cannot overwrite a value: 'seconds = 6'",
    PHASE + "seconds = 6\nspread = 1": "my.toml:4: Cannot overwrite a value: 'seconds = 6'",
    PHASE + f"spread = {'[' * 9000}": f"my.toml:4: too many brackets in each other: 'spread = {'[' * 50}...",
    PHASE + f"spread = {'1' * 9000}": f"my.toml:4: a number of too many digits: 'spread = {'1' * 50}...",
    "\0": "my.toml:1: Invalid statement: '\\x00'",
    # keys
    "repaet = true\n" + PHASE: "my.toml:1: repaet: unknown key; did you mean repeat?",
    PHASE + "# a line\n volatilty = 5": "my.toml:5: phase 1, volatilty: unknown key; did you mean volatility?",
    PHASE + PHASE + "Seconds = 5": "my.toml:7: phase 2, Seconds: unknown key; did you mean seconds?",
    PHASE + 'senario = "halt"': "my.toml:4: phase 1, senario: unknown key; did you mean scenario?",
    PHASE + '"a\\nb" = 1': "my.toml:4: phase 1, 'a\\nb': unknown key; there are name, seconds, volatility, activity, "
    "activity_to, spread, size, jump, drift, limit, halt, scenario",
    PHASE + "[phase.jump.x]": "my.toml:4: phase 1, jump: a table: expected a number from -90 to 900",
    f"{'a.' * 5000}b = 1": "my.toml:1: a: unknown key; there are phase, title, description, symbols, repeat",
    "[[phase]]\nseconds = 1\n" + PHASE: "my.toml:1: phase 1, name: is missing: expected 1 to 60 characters",
    PHASE + "[[phase]]\nseconds = 1": "my.toml:4: phase 2, name: is missing: expected 1 to 60 characters",
    # types
    PHASE + "jump = '5'": "my.toml:4: phase 1, jump: '5': expected a number from -90 to 900",
    PHASE + "spread = true": "my.toml:4: phase 1, spread: true: expected a number from 0.1 to 100",
    PHASE + "size = 2026-11-20": "my.toml:4: phase 1, size: a date or time: expected a number from 0.01 to 100",
    PHASE + "limit = 1": 'my.toml:4: phase 1, limit: 1: expected "up" or "down"',
    "repeat = 1\n" + PHASE: "my.toml:1: repeat: 1: expected true or false",
    "symbols = 'AAPL'\n" + PHASE: """my.toml:1: symbols: 'AAPL': expected symbols such as ["AAPL", "BRK.A"]""",
    "symbols = []\n" + PHASE: """my.toml:1: symbols: an array: expected symbols such as ["AAPL", "BRK.A"]""",
    "symbols = ['AAPL\\n']\n" + PHASE: """my.toml:1: symbols: an array: expected symbols such as ["AAPL", "BRK.A"]""",
    '[phase]\nname = "a"': "my.toml:1: phase: a table: expected at least one [[phase]]",
    "phase = [1]": "my.toml:1: phase: an array: expected at least one [[phase]]",
    "\nphase = [\n{seconds = 1}]": "my.toml:2: phase 1, name: is missing: expected 1 to 60 characters",
    PHASE.replace('"a"', '"\\u001b"'): "my.toml:2: phase 1, name: '\\x1b': expected one line that prints",
    # ranges
    PHASE.replace("5", "-1"): "my.toml:3: phase 1, seconds: -1: expected a number from 0 to 86400",
    PHASE.replace("5", "0.999"): "my.toml:3: phase 1, seconds: 0.999: expected 0 or at least 1",
    PHASE + "volatility = nan": "my.toml:4: phase 1, volatility: nan: expected a number from 0 to 50",
    PHASE + "activity = inf": "my.toml:4: phase 1, activity: inf: expected a number from 0.01 to 100",
    PHASE + "activity_to = 101": "my.toml:4: phase 1, activity_to: 101: expected a number from 0.01 to 100",
    PHASE + f"drift = 0x{'f' * 9000}": "my.toml:4: phase 1, drift: a huge number: expected a number from -90 to 900",
    PHASE + "halt = 'level4'": 'my.toml:4: phase 1, halt: \'level4\': expected "luld", "news", "level1", "level2" or '
    '"level3"',
    PHASE.replace('"a"', '""'): "my.toml:2: phase 1, name: '': expected 1 to 60 characters",
    # what does not go together
    PHASE + 'limit = "up"\nhalt = "luld"': "my.toml:5: phase 1, halt: beside limit: while a stock is halted there is "
    "no price at the band",
    PHASE.replace("5", "0")
    + "drift = -3": "my.toml:4: phase 1, drift: beside seconds of 0: it goes on until the end of "
    "the phase, and there is none",
    '[[phase]]\nactivity_to = 2\nname = "a"': "my.toml:2: phase 1, activity_to: beside seconds of 0: it goes on "
    "until the end of the phase, and there is none",
    PHASE.replace("5", "0") + PHASE: "my.toml:4: phase 2: comes after phase 1, which goes on until the close: "
    "its seconds are 0",
    '[[phase]]\nscenario = "normal"\n'
    + PHASE: "my.toml:3: phase 2: comes after phase 1, which goes on until the close: its seconds are 0",
    "repeat = true\n" + PHASE.replace("5", "0"): "my.toml:1: repeat: true: the last phase goes on until the close",
    # other scenarios
    '[[phase]]\nscenario = "hlat"': "my.toml:2: phase 1, scenario: 'hlat': no such scenario; did you mean halt?",
    '[[phase]]\nscenario = "a.b"': "my.toml:2: phase 1, scenario: 'a.b': no such scenario; there are halt, normal",
    "[[phase]]\nscenario = 3": "my.toml:2: phase 1, scenario: 3: no such scenario; there are halt, normal",
    '[[phase]]\nscenario = "halt"\nspread = 3': "my.toml:3: phase 1, spread: beside scenario, which stands for phases "
    "with keys of their own",
    # the whole file
    "": "my.toml:1: phase: is missing: expected at least one [[phase]]",
    "# nothing\n\n": "my.toml:1: phase: is missing: expected at least one [[phase]]",
    "#" * (MOST_BYTES + 1): "my.toml: longer than 16384 bytes or 400 lines",
    "\n" * MOST_LINES: "my.toml: longer than 16384 bytes or 400 lines",
    "[[phase]]\nscenario = 'halt'\n" * 51: "my.toml:101: phase 51: more than 100 phases",
}


@pytest.mark.parametrize(("text", "line"), MISTAKES.items(), ids=MISTAKES.values())
def test_a_mistake_names_file_line_and_key_in_one_line(text: str, line: str) -> None:
    assert fail(text) == line


def test_a_binary_file_says_so_on_the_line_where_it_begins() -> None:
    assert fail(b"title = 'a'\n\x7fELF\xff") == "my.toml:2: is not UTF-8 text"


def test_a_name_that_does_not_print_is_escaped() -> None:
    assert fail("", "a\nb.toml").startswith("'a\\nb.toml':1: ")


def test_what_just_fits_is_taken() -> None:
    assert len(parse(PHASE * MOST_PHASES).phases) == MOST_PHASES
    assert len(parse(PHASE + "\n" * (MOST_LINES - 4)).phases) == 1
    assert len(parse(PHASE + "#" * (MOST_BYTES - len(PHASE))).phases) == 1


def test_the_line_of_a_mistake_in_the_worst_file_is_found_in_seconds() -> None:
    row = f"  {'1, ' * 12}\n"
    text = f"{PHASE}x = [\n{row * (MOST_LINES - 10)}]\n"
    start = time.process_time()
    assert fail(text).startswith("my.toml:4: phase 1, x: unknown key")
    assert time.process_time() - start < 5.0  # 2 s on the machine where this was written


KEYS = st.sampled_from([*get_metas(Phase), *get_metas(Document), "scenario", "x", '"y\\n"', "a.b"])
VALUES = st.one_of(
    st.integers(-5, 100).map(str),
    st.floats().map(str),
    st.sampled_from(
        ['"up"', '"luld"', '"halt"', '"normal"', "true", "[]", "{}", "[{}]", '["A"]', "1979-05-27", "'''\n'''"]
    ),
)
LINES = st.one_of(
    st.tuples(KEYS, VALUES).map(" = ".join),
    st.sampled_from(["[[phase]]", "[phase]", "[phase.x]", "[[phase]]\nname = 'a'\nseconds = 5", "# c", "", "]"]),
    st.text(max_size=8),
)
TEXTS = st.one_of(st.text(), st.lists(LINES, max_size=8).map("\n".join))


@settings(max_examples=100)
@given(TEXTS.map(lambda text: text.encode(errors="surrogatepass")) | st.binary())
@example(b"\xef\xbb\xbf")
@example(b"a = [\r\n]\r")
def test_any_file_gives_a_scenario_or_a_mistake_of_one_line(content: bytes) -> None:
    try:
        scenario = parse_scenario(content, "my.toml", OTHERS)
    except BadScenario as mistake:
        line = str(mistake)
        assert line.startswith("my.toml:") and line.isprintable() and len(line) < 300
    else:
        assert scenario.phases and scenario.find(3.0)[0] >= 0


NUMBERS = {key: (meta.ge, meta.le) for key, meta in get_metas(Phase).items() if meta.le is not None}


@given(st.sampled_from(sorted(NUMBERS)), st.floats(allow_nan=False))
@example("seconds", 1.0)
@example("seconds", 0.99)
@example("jump", -90.0)
@example("drift", 900.0)
def test_a_number_is_taken_exactly_within_its_range(key: str, value: float) -> None:
    least, most = NUMBERS[key]
    assert least is not None and most is not None
    text = "[[phase]]\nname = 'a'\n" + ("" if key == "seconds" else "seconds = 5\n") + f"{key} = {value!r}\n"
    if least <= value <= most and not (key == "seconds" and 0 < value < 1):
        assert getattr(parse(text).phases[0], key) == value
    else:
        assert f"phase 1, {key}: " in fail(text)
