"""Random frames: what comes out of the split is exactly what went into the frame, whichever path it took."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.split import MalformedFrame, Split, split_frame
from tests.property.examples import FACTOR

SPACE = st.sampled_from(["", "", "", " ", "\n", "\t", " \r\n "])
TRAPS = st.sampled_from(
    ["},{", '},{"ev":"', '"},{"', "[{", "}]", "{", "}", '{"ev":"T","sym":"X"}', "\\", '"', "\u2028", "é", "😀", "\x00"]
)
TEXT = st.lists(TRAPS | st.text(max_size=4), max_size=4).map("".join)
NUMBER = st.one_of(
    st.integers().map(str),
    st.integers(10**18, 10**19).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["4.522e-05", "1E+2", "-0", "0.10", "1764086430905642800", "1e999", "1" * 40]),
)


@st.composite
def strings(draw: st.DrawFn, text: str | None = None) -> str:
    """The JSON text of a string: plain, or with each character beyond ASCII or each character escaped."""
    value = draw(TEXT) if text is None else text
    how = draw(st.sampled_from(["plain", "plain", "ascii", "escaped"]))
    if how == "escaped":
        units = value.encode("utf-16-be")
        return '"' + "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2)) + '"'
    return json.dumps(value, ensure_ascii=how == "ascii")


def make_array(items: list[str], space: str) -> str:
    return "[" + space + f"{space},".join(items) + space + "]"


def make_object(items: list[tuple[str, str]], space: str) -> str:
    return "{" + space + f",{space}".join(f"{key}{space}:{space}{value}" for key, value in items) + space + "}"


VALUE: st.SearchStrategy[str] = st.recursive(
    st.sampled_from(["null", "true", "false"]) | NUMBER | strings(),
    lambda inner: st.one_of(
        st.builds(make_array, st.lists(inner, max_size=3), SPACE),
        st.builds(make_object, st.lists(st.tuples(strings(), inner), max_size=3), SPACE),
    ),
    max_leaves=6,
)
OTHER_KEY = TEXT.filter(lambda text: text not in ("ev", "sym", "pair", "T", "p"))

Event = tuple[str, str, str]


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Event type, symbol and body, the keys in any order; the symbol's key and its companions as in PROTOCOL b.1."""
    event_type = draw(st.sampled_from(["T", "Q", "LULD", "C", "XT", "new"]) | TEXT.filter(bool))
    symbol = draw(st.sampled_from(["AAPL", "BRK.A", "O:SPY241220P00720000"]) | TEXT.filter(bool))
    key = draw(st.sampled_from(["sym", "pair", "T", "p"]))
    fields: list[tuple[str, str]] = [("ev", event_type), (key, symbol)]
    items = [(draw(strings(name)), draw(strings(text))) for name, text in fields]
    items += [(draw(strings(draw(OTHER_KEY))), draw(VALUE)) for _ in range(draw(st.integers(0, 4)))]
    if key != "p" and draw(st.booleans()):
        items.append(('"p"', draw(NUMBER)))
    body = make_object(draw(st.permutations(items)), draw(SPACE))[1:-1]
    return event_type, symbol, body


def get_routes(split: Split) -> list[tuple[str, str, bytes]]:
    return [(head.ev, head.symbol, body) for head, body in zip(split.heads, split.bodies, strict=True)]


def expect(source: list[Event]) -> list[tuple[str, str, bytes]]:
    return [(event_type, symbol, body.encode()) for event_type, symbol, body in source]


@settings(deadline=None, max_examples=80 * FACTOR)
@given(source=st.lists(events(), max_size=5), space=SPACE)
def test_bodies_are_exactly_the_bytes_of_the_events_and_heads_say_whose(source: list[Event], space: str) -> None:
    frame = make_array([f"{{{body}}}" for _, _, body in source], space)
    json.loads(frame)  # the generator makes JSON, or the test proves nothing
    split = split_frame(frame.encode())
    assert get_routes(split) == expect(source)
    assert split.malformed == 0


@settings(deadline=None, max_examples=80 * FACTOR)
@given(source=st.lists(events(), max_size=5))
def test_a_frame_gives_the_same_with_and_without_white_space_around_its_events(source: list[Event]) -> None:
    objects = [f"{{{body}}}" for _, _, body in source]
    close = split_frame(make_array(objects, "").encode())
    wide = split_frame(make_array(objects, " ").encode())
    assert get_routes(close) == get_routes(wide)
    assert close.malformed == wide.malformed == 0


@settings(deadline=None, max_examples=80 * FACTOR)
@given(
    source=st.lists(events().map(lambda e: (e, True)) | VALUE.map(lambda v: (("", "", v), False)), max_size=5),
    space=SPACE,
)
def test_elements_that_are_no_events_cost_only_themselves(source: list[tuple[Event, bool]], space: str) -> None:
    elements = [f"{{{event[2]}}}" if is_event else event[2] for event, is_event in source]
    split = split_frame(make_array(elements, space).encode())
    routed = [route for route in get_routes(split) if route[0]]
    expected = expect([event for event, is_event in source if is_event])
    # A random object may happen to be an event; whatever else came out must have been one.
    assert [route for route in routed if route in expected] == expected
    assert split.malformed + len(split.heads) == len(source)


@settings(deadline=None, max_examples=120 * FACTOR)
@given(st.binary(max_size=60) | st.text(alphabet='[]{},:"ev\\ sym1', max_size=60).map(str.encode))
def test_random_bytes_are_refused_or_split_but_never_anything_else(frame: bytes) -> None:
    try:
        split = split_frame(frame)
    except MalformedFrame:
        return
    if split.malformed == 0:
        value: Any = json.loads(frame)
        assert len(split.heads) == len(value if isinstance(value, list) else [value])
