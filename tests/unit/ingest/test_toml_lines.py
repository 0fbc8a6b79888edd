"""Which line a key is said to be on, in texts made of pieces whose lines are known."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.simulator.toml_lines import KeyPath, map_lines

# Values that look like something else to whoever reads line by line.
VALUES = (
    "1",
    '"# no comment"',
    '"[[phase]]"',
    "'''\n[[phase]]\nseconds = 1\n'''",
    '"""one \\\n  [[phase]]\n"""',
    "[\n  1,  # ]\n\n  2,\n]",
    "[\"]\", '''\n]\n''']",
    "{ inner = 1, 'x.y' = \"}\" }",
)
NAMES = ("seconds", '"quoted # key"', "dotted.key", "'[x]'", "jump")
PATHS = ("seconds", "quoted # key", "dotted", "[x]", "jump")
NOISE = st.sampled_from(["", "  ", "# [[phase]]", "\t# seconds = 1", '# """'])
KEY = st.tuples(st.integers(0, len(NAMES) - 1), st.sampled_from(VALUES), NOISE, st.sampled_from(["", " # '''"]))
TABLE = st.lists(KEY, max_size=5, unique_by=lambda key: key[0])
HEADERS = st.sampled_from(["[[phase]]", "  [[ phase ]]  # one", '[["phase"]]'])


@settings(max_examples=60)
@given(TABLE, st.lists(st.tuples(HEADERS, TABLE), max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_each_key_is_found_on_the_line_where_it_was_put(
    top: list[tuple[int, str, str, str]], phases: list[tuple[str, list[tuple[int, str, str, str]]]], newline: str
) -> None:
    pieces: list[str] = []
    expected: dict[KeyPath, int] = {}

    def put(prefix: KeyPath, table: list[tuple[int, str, str, str]]) -> None:
        for index, value, noise, tail in table:
            pieces.append(noise)
            expected[(*prefix, PATHS[index])] = count_lines(pieces)
            pieces.append(f"{NAMES[index]} = {value}{tail}")

    put((), top)
    for number, (header, table) in enumerate(phases):
        expected[("phase", number)] = count_lines(pieces)
        pieces.append(header)
        put(("phase", number), table)
    text = "\n".join(pieces).replace("\n", newline)
    tomllib.loads(text)
    assert map_lines(text, "phase") == expected


def count_lines(pieces: list[str]) -> int:
    """The number of the line that comes after these."""
    return sum(piece.count("\n") + 1 for piece in pieces) + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "\nphase = [\n{a = 1},\n{b = 2}]",
            {("phase",): 2, ("phase", 0): 2, ("phase", 0, "a"): 2, ("phase", 1): 2, ("phase", 1, "b"): 2},
        ),
        (
            "[[phase]]\na.b = 1\na.c = 2\n[phase.d]\ne = 1\n[[phase]]",
            {("phase", 0): 1, ("phase", 0, "a"): 2, ("phase", 0, "d"): 4, ("phase", 0, "d", "e"): 5, ("phase", 1): 6},
        ),
        ("[phase]\na = 1", {("phase",): 1, ("phase", "a"): 2}),
        ("[[phase]]\n[[phase.x]]\n[[phase.x]]", {("phase", 0): 1, ("phase", 0, "x"): 2}),
        ("[other]\na = 1\n[[phase]]", {("other",): 1, ("other", "a"): 2, ("phase", 0): 3}),
        ("phase.x = 1", {("phase",): 1}),
        ("", {}),
    ],
)
def test_other_ways_to_write_tables_are_found_too(text: str, expected: dict[KeyPath, int]) -> None:
    tomllib.loads(text)
    assert map_lines(text, "phase") == expected
