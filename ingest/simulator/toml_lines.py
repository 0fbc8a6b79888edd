"""On which line of a TOML text a key stands, which tomllib does not say.  Pure.

A statement is the fewest lines that tomllib takes by themselves: strings and arrays over several lines end where it
says they do, and comments, quoted and dotted keys and inline tables are read by it alone.  So nothing here knows more
of TOML's grammar than that a header begins with a bracket.
"""

import tomllib
from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str | int, ...]  # such as ("phase", 1, "seconds"): of the second [[phase]]


def split_statements(text: str) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    """The statements of a text: number of the first line, text, what it says by itself (None: it never ends).

    Each further line of a statement is one more reading of it, so the caller bounds the lines of the text.
    """
    first, chunk = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        chunk += line + "\n"
        try:
            table = tomllib.loads(chunk)
        except (ValueError, RecursionError):
            continue
        yield first, chunk, table
        first, chunk = number + 1, ""
    if chunk:
        yield first, chunk, None


def map_lines(text: str, array: str) -> dict[KeyPath, int]:
    """The first line of each key and of each table in the array of tables `array`, of a text that tomllib takes."""
    lines: dict[KeyPath, int] = {}
    prefix: KeyPath = ()
    tables = 0
    for line, chunk, table in split_statements(text):
        if not table:
            continue
        is_header = chunk.lstrip().startswith("[")
        if is_header:
            tables += table == {array: [{}]}
            prefix = _find_prefix(table, array, tables)
        for path in [prefix] if is_header else _find_paths(table, prefix):
            lines.setdefault(path, line)
    return lines


def _find_prefix(header: dict[str, Any], array: str, tables: int) -> KeyPath:
    """Where the keys below a header belong; `[array.key]` is a key of the array's last table."""
    [(top, inner)] = header.items()
    if top != array or not tables:
        return (top,)
    return (array, tables - 1, *inner) if isinstance(inner, dict) else (array, tables - 1)


def _find_paths(table: dict[str, Any], prefix: KeyPath) -> Iterator[KeyPath]:
    """A statement's keys, and those of the tables in an array of its value: `phase = [{...}, {...}]`."""
    for key, value in table.items():
        yield (*prefix, key)
        for index, inner in enumerate(value if isinstance(value, list) else []):
            if isinstance(inner, dict):
                yield (*prefix, key, index)
                yield from ((*prefix, key, index, name) for name in inner)
