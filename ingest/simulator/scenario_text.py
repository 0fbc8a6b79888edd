"""A scenario as a user writes it: TOML text in, Scenario or BadScenario out.  Pure.

Each mistake is found as a path to a key, and toml_lines.py says on which line that stands.
"""

import re
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from ingest.simulator.scenario import BadScenario, Phase, Scenario
from ingest.simulator.toml_lines import KeyPath, map_lines, split_statements

MOST_BYTES: Final = 16 * 1024  # a longer file is refused: looking for a mistake's line may read it once per line
MOST_LINES: Final = 400  # so is one of more lines
MOST_PHASES: Final = 100  # and one of more phases, those that `scenario` stands for counted: find() walks them all
LEAST_SECONDS: Final = 1  # a shorter phase is refused: phases change on whole seconds, so it might never be
_SHOWN_CHARACTERS: Final = 60  # of what the user wrote


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What stands at the top of a scenario's file; `title` as in Phase."""

    phase: Annotated[
        list[dict[str, Any]],
        Meta(min_length=1, title="at least one [[phase]]", description="the phases, in their order"),
    ]
    title: Annotated[
        str, Meta(max_length=100, title="at most 100 characters", description="what it is, for the reader")
    ] = ""
    description: Annotated[
        str, Meta(max_length=2000, title="at most 2000 characters", description="what happens, for the reader")
    ] = ""
    symbols: (
        Annotated[
            list[Annotated[str, Meta(pattern=r"^[A-Z][A-Za-z0-9.]{0,15}\Z")]],
            Meta(
                min_length=1,
                title='symbols such as ["AAPL", "BRK.A"]',
                description="only these symbols go through it; without this key: all do",
            ),
        ]
        | None
    ) = None
    repeat: Annotated[bool, Meta(title="true or false", description="begin again after the last phase")] = False


class _Mistake(Exception):
    """What is wrong with a key; where that stands is still to be found."""

    def __init__(self, path: KeyPath, what: str) -> None:
        super().__init__(what)
        self.path = path


def parse_scenario(content: bytes, name: str, others: Mapping[str, Scenario]) -> Scenario:
    """The scenario in a file's content.  `name` is its own, in errors too; `others` may stand in it by their names.

    What stands in it has been parsed before it, so no scenario can contain itself.  Raises BadScenario.
    """
    text = _decode(content, name)
    table = _parse_toml(text, name)
    try:
        return _build(table, name, others)
    except _Mistake as mistake:
        line = _find_line(mistake.path, map_lines(text, "phase"))
        raise BadScenario(f"{show_name(name)}:{line}: {_name_key(mistake.path)}: {mistake}") from None


def get_metas(kind: type[msgspec.Struct]) -> dict[str, Meta]:
    """What is said of each of a struct's keys."""
    hints = get_type_hints(kind, include_extras=True)
    annotated = {key: hint if hasattr(hint, "__metadata__") else get_args(hint)[0] for key, hint in hints.items()}
    return {key: hint.__metadata__[0] for key, hint in annotated.items()}


def describe(meta: Meta) -> str:
    """What a key may hold."""
    return meta.title or f"a number from {meta.ge:g} to {meta.le:g}"


def show_name(name: str) -> str:
    """A scenario's name, which may be any path, within one line."""
    return name if name.isprintable() else ascii(name)


def _decode(content: bytes, name: str) -> str:
    if len(content) > MOST_BYTES or content.count(b"\n") >= MOST_LINES:
        raise BadScenario(f"{show_name(name)}: longer than {MOST_BYTES} bytes or {MOST_LINES} lines")
    try:
        return content.decode("utf-8-sig")  # with or without the mark that Windows writes first
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise BadScenario(f"{show_name(name)}:{line}: is not UTF-8 text") from None


def _parse_toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        what, line = _find_syntax_error(exc, text)
    shown = _shorten(ascii(text.split("\n")[line - 1].strip()))
    raise BadScenario(f"{show_name(name)}:{line}: {what}: {shown}")


def _find_syntax_error(exc: Exception, text: str) -> tuple[str, int]:
    """What tomllib says and the line; the last statement's where it names none."""
    if isinstance(exc, RecursionError):
        what = "too many brackets in each other"
    elif isinstance(exc, tomllib.TOMLDecodeError):
        what = str(exc)
    else:
        what = "a number of too many digits"
    if match := re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", what):
        return _shorten(match[1]), int(match[2])
    *_, last = (line for line, chunk, table in split_statements(text) if table != {})
    return _shorten(what.removesuffix(" (at end of document)")), last


def _find_line(path: KeyPath, lines: dict[KeyPath, int]) -> int:
    """The line of a key, or else of the table where it is missing."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


_StructT = TypeVar("_StructT", bound=msgspec.Struct)


def _convert(table: dict[str, Any], kind: type[_StructT], path: KeyPath, *other_keys: str) -> _StructT:
    """The table as a struct; raises _Mistake at the first wrong key.  `other_keys` are only suggested."""
    metas, hints = get_metas(kind), get_type_hints(kind, include_extras=True)
    for key, value in table.items():
        if key not in metas:
            raise _Mistake((*path, key), f"unknown key; {_suggest(key, [*metas, *other_keys])}")
        try:
            msgspec.convert(value, hints[key])
        except msgspec.ValidationError:
            raise _Mistake((*path, key), f"{_show(value)}: expected {describe(metas[key])}") from None
        if isinstance(value, str) and key != "description" and not value.isprintable():
            raise _Mistake((*path, key), f"{_show(value)}: expected one line that prints")
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in table:
            raise _Mistake((*path, field.name), f"is missing: expected {describe(metas[field.name])}")
    return msgspec.convert(table, kind)


def _build(table: dict[str, Any], name: str, others: Mapping[str, Scenario]) -> Scenario:
    document = _convert(table, Document, ())
    phases: list[Phase] = []
    for index, entry in enumerate(document.phase):
        path = ("phase", index)
        if phases and not phases[-1].seconds:
            raise _Mistake(path, f"comes after phase {index}, which goes on until the close: its seconds are 0")
        phases += _build_phases(entry, path, others)
        if len(phases) > MOST_PHASES:
            raise _Mistake(path, f"more than {MOST_PHASES} phases")
    if document.repeat and not phases[-1].seconds:
        raise _Mistake(("repeat",), "true: the last phase goes on until the close")
    symbols = None if document.symbols is None else frozenset(document.symbols)
    return Scenario(name, symbols, tuple(phases), document.repeat)


def _build_phases(entry: dict[str, Any], path: KeyPath, others: Mapping[str, Scenario]) -> tuple[Phase, ...]:
    """The one phase of an entry, or those that its `scenario` stands for."""
    if "scenario" in entry:
        return _get_other(entry, path, others).phases
    phase = _convert(entry, Phase, path, "scenario")
    if 0 < phase.seconds < LEAST_SECONDS:
        raise _Mistake((*path, "seconds"), f"{phase.seconds}: expected 0 or at least {LEAST_SECONDS}")
    for key in ("drift", "activity_to"):
        if not phase.seconds and getattr(phase, key):
            raise _Mistake(
                (*path, key), "beside seconds of 0: it goes on until the end of the phase, and there is none"
            )
    if phase.limit and phase.halt:
        raise _Mistake((*path, "halt"), "beside limit: while a stock is halted there is no price at the band")
    return (phase,)


def _get_other(entry: dict[str, Any], path: KeyPath, others: Mapping[str, Scenario]) -> Scenario:
    for key in entry:
        if key != "scenario":
            raise _Mistake((*path, key), "beside scenario, which stands for phases with keys of their own")
    other = entry["scenario"]
    if not isinstance(other, str) or other not in others:
        suggestion = _suggest(str(other), others) if isinstance(other, str) else f"there are {', '.join(others)}"
        raise _Mistake((*path, "scenario"), f"{_show(other)}: no such scenario; {suggestion}")
    return others[other]


def _suggest(word: str, words: Collection[str]) -> str:
    if close := get_close_matches(word.lower(), words, n=1):
        return f"did you mean {close[0]}?"
    return f"there are {', '.join(words)}"


def _name_key(path: KeyPath) -> str:
    """As a user would say it, `phase` being counted from one: phase 2, seconds."""
    words: list[str] = []
    for part in path:
        if isinstance(part, int):
            words[-1] += f" {part + 1}"
        else:
            words.append(part if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", part) else _shorten(ascii(part)))
    return ", ".join(words)


def _show(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _shorten(ascii(value))
        case int() if abs(value) > 10**18:  # Python refuses to write very long ones
            return "a huge number"
        case int() | float():
            return str(value)
        case list() | dict():
            return "an array" if isinstance(value, list) else "a table"
    return "a date or time"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
