"""Frames into events: routed by PROTOCOL b.1, byte for byte, and nothing that upstream sends ends in another error."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.split import MalformedFrame, Split, split_frame

FRAMES = [json.loads(line) for line in Path(__file__).parents[2].joinpath("data/frames.jsonl").read_text().splitlines()]

# PROTOCOL b.1, written down again: which key of an event names its symbol.
SYMBOL_KEY = {
    ("stocks", "LULD"): "T",
    ("stocks", "NOI"): "T",
    ("indices", "V"): "T",
    ("forex", "C"): "p",
    ("forex", "CA"): "pair",
    ("forex", "CAS"): "pair",
    **{("crypto", event_type): "pair" for event_type in ("XT", "XQ", "XA", "XAS", "XL2", "XS")},
}


def find_events(frame: str) -> list[str]:
    """The text of each event, found by another JSON parser than ours."""
    decoder = json.JSONDecoder()
    events: list[str] = []
    at = frame.index("[") + 1
    while True:
        while frame[at] in " \t\r\n,":
            at += 1
        if frame[at] == "]":
            return events
        _, end = decoder.raw_decode(frame, at)
        events.append(frame[at:end])
        at = end


def get_symbol(cluster: str, event: dict[str, Any]) -> str:
    return str(event[SYMBOL_KEY.get((cluster.partition("(")[0], event["ev"]), "sym")])


def get_routes(split: Split) -> list[tuple[str, str, bytes]]:
    """What can be routed: event type, symbol, body."""
    pairs = zip(split.heads, split.bodies, strict=True)
    return [(head.ev, head.symbol, body) for head, body in pairs if head.ev and head.symbol]


def count_left_out(split: Split) -> int:
    return split.malformed + len(split.heads) - len(get_routes(split))


@pytest.mark.parametrize("sample", [f for f in FRAMES if f["kind"] == "data"], ids=lambda f: f["frame"][:40])
def test_each_known_frame_is_routed_by_its_symbol_key_with_its_bytes_kept(sample: dict[str, str]) -> None:
    split = split_frame(sample["frame"].encode())
    texts = find_events(sample["frame"])
    events = [json.loads(text) for text in texts]
    assert [(head.ev, head.symbol) for head in split.heads] == [
        (event["ev"], get_symbol(sample["cluster"], event)) for event in events
    ]
    assert [b"{%b}" % body for body in split.bodies] == [text.encode() for text in texts]
    assert split.malformed == 0


@pytest.mark.parametrize("sample", [f for f in FRAMES if f["kind"] == "status"], ids=lambda f: f["frame"][:60])
def test_each_known_status_frame_is_split_into_its_statuses(sample: dict[str, str]) -> None:
    split = split_frame(sample["frame"].encode())
    assert [head.ev for head in split.heads] == ["status"] * len(find_events(sample["frame"]))
    assert [b"{%b}" % body for body in split.bodies] == [text.encode() for text in find_events(sample["frame"])]


def test_all_known_data_frames_joined_to_one_frame_keep_their_events_in_order() -> None:
    texts = [text for f in FRAMES if f["kind"] == "data" for text in find_events(f["frame"])]
    split = split_frame(f"[{','.join(texts)}]".encode())
    assert [b"{%b}" % body for body in split.bodies] == [text.encode() for text in texts]


@pytest.mark.parametrize(
    ("event", "symbol"),
    [
        ('{"ev":"LULD","h":1,"l":1,"i":[15],"z":3,"T":"ATHR","t":1}', "ATHR"),
        ('{"sym":"AAPL","p":4.522e-05,"ev":"T"}', "AAPL"),
        ('{"ev":"T","sym":"A}{B","s":"},{\\"ev\\":\\"Q\\",\\"sym\\":\\"X\\""}', "A}{B"),
        ('{"ev":"NOI","x":10,"p":440,"o":480,"a":"M","T":"NTEST.Q","t":1601318039223013600}', "NTEST.Q"),
        ('{"ev":"C","x":"44","a":1,"b":1,"p":"EUR/USD"}', "EUR/USD"),
        ('{"ev":"T","sym":null,"pair":7,"T":["x"],"p":"EUR/USD"}', "EUR/USD"),
        ('{"\\u0065v":"\\u0054","sym":"\\u0041B"}', "AB"),
        ('{"ev":"ZZ","sym":"AAPL","deep":{"sym":"WRONG","ev":"WRONG"},"list":[{"sym":"WRONG"}]}', "AAPL"),
        ('{"ev":"T","p":123456789012345678901234567890,"sym":"AAPL"}', "AAPL"),
        ('{"ev":"T","sym":"\\ud83d\\ude00é"}', "😀é"),
    ],
)
def test_the_symbol_is_found_wherever_it_stands(event: str, symbol: str) -> None:
    quiet = '{"ev":"Q","sym":"MSFT"}'
    for frame in (f"[{event}]", f"[{quiet},{event},{quiet}]", f" [ {quiet} ,\t{event}\r\n, {quiet} ]\n"):
        split = split_frame(frame.encode())
        index = len(split.heads) // 2
        assert (split.heads[index].symbol, split.bodies[index]) == (symbol, event[1:-1].encode())
        assert count_left_out(split) == 0


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"   ",
        b"5",
        b'"text"',
        b"null",
        b"not json",
        b'[{"ev":"T","sym":"AAPL"}',
        b'[{"ev":"T","sym":"AAPL"',
        b'[{"ev":"T","sym":"AAPL"},]',
        b'[{"ev":"T","sym":"AAPL"}]]',
        b'[{"ev":"T","sym":"AAPL","s":01}]',
        b'[{"ev":"T","sym":"AAPL","s":NaN}]',
        b'[{"ev":"T","sym":"AAPL","s":"a\nb"}]',
        b'[{"ev":"T","sym":"AAPL","s":"\\q"}]',
        b"[{'ev':'T','sym':'AAPL'}]",
        b'[{"ev":"T","sym":"A\xff"}]',
        b'[{"ev":"T","sym":"AAPL","s":"\xed\xa0\x80"}]',
        b'\xef\xbb\xbf[{"ev":"T","sym":"AAPL"}]',
    ],
)
def test_a_frame_that_is_no_json_array_in_utf8_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedFrame):
        split_frame(frame)


@pytest.mark.parametrize("depth", [100, 5_000, 100_000])
@pytest.mark.parametrize("where", ["field", "frame", "object"])
def test_deep_nesting_is_an_event_or_a_malformed_frame_but_no_other_error(depth: int, where: str) -> None:
    nest = b"[" * depth + b"]" * depth
    frame = {
        "field": b'[{"ev":"T","sym":"AAPL","x":%b}]' % nest,
        "frame": nest,
        "object": b'[{"ev":"T","sym":"AAPL","x":%b1%b}]' % (b'{"a":' * depth, b"}" * depth),
    }[where]
    try:
        split = split_frame(frame)
    except MalformedFrame:
        return
    assert all(frame[2:-2] == body for _, _, body in get_routes(split))


@pytest.mark.parametrize(
    "element",
    ["5", "null", "true", '"text"', "[]", '[{"ev":"T","sym":"AAPL"}]', "{}", '{"sym":"AAPL"}', '{"ev":"","sym":"AAPL"}']
    + ['{"ev":5,"sym":"AAPL"}', '{"ev":null,"sym":"AAPL"}', '{"ev":["T"],"sym":"AAPL"}', '{"ev":{"ev":"T"},"sym":"A"}']
    + ['{"ev":"T"}', '{"ev":"T","sym":5}', '{"ev":"T","sym":""}', '{"ev":"T","sym":["AAPL"]}', '{"ev":"T","p":1.5}'],
)
def test_an_element_without_type_or_symbol_is_left_out_and_its_neighbours_stay(element: str) -> None:
    good = '"ev":"Q","sym":"MSFT"'
    for frame in (f"[{{{good}}},{element},{{{good}}}]", f"[{{{good}}} , {element} , {{{good}}}]"):
        split = split_frame(frame.encode())
        assert get_routes(split) == [("Q", "MSFT", good.encode())] * 2
        assert count_left_out(split) == 1


def test_an_empty_array_holds_nothing() -> None:
    for frame in (b"[]", b" [ ] "):
        assert split_frame(frame) == Split([], [], 0)


def test_a_bare_object_counts_as_one_event() -> None:
    assert get_routes(split_frame(b' {"ev":"T","sym":"AAPL"} ')) == [("T", "AAPL", b'"ev":"T","sym":"AAPL"')]


@pytest.mark.parametrize("frame", [b'{"ev":"T","sym":', b'{"ev":"T","sym":"AAPL"} x', b'{"ev":"T"}{"ev":"T"}'])
def test_a_broken_bare_object_gives_nothing(frame: bytes) -> None:
    split = split_frame(frame)
    assert (split.heads, split.bodies, split.malformed) == ([], [], 1)
