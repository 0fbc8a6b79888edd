"""What may be injected: the field is named that may not, and what may is left as it is."""

import json

import pytest

from ingest.inject import MAX_EVENT_BYTES, MAX_EVENTS, MAX_FRAME_BYTES, BadEvent, parse_injection
from tests.integration.test_pipeline import read_recording

TRADE = b'{"ev":"T","sym":"BRK.A","i":"1","x":4,"p":1.50,"s":100,"c":[14,41],"t":1700000000000,"q":1,"z":3}'


def refuse(text: bytes) -> tuple[int, str]:
    with pytest.raises(BadEvent) as caught:
        parse_injection("stocks", text)
    assert "\n" not in str(caught.value)
    return caught.value.position, caught.value.field


@pytest.mark.parametrize(
    ("text", "frame", "channels"),
    [
        (TRADE, b"[%b]" % TRADE, {"T.BRK.A"}),
        (b'[ {"ev":"Q","sym":"AAPL"} ,\n{"ev":"LULD","T":"MSFT","h":1e2}]\n', None, {"Q.AAPL", "LULD.MSFT"}),
        (b'{"ev":"AM","sym":"AAPL","v":1,"z":0.65,"dv":"1.0","otc":true,"new":{"a":[null]}}', None, {"AM.AAPL"}),
        (b'{"ev":"NOI","T":"AAPL","a":"O","p":440,"b":25.03}', None, {"NOI.AAPL"}),
        (b'{"ev":"FMV","fmv":189.22,"sym":"AAPL","t":1678220098130000000}', None, {"FMV.AAPL"}),
    ],
)
def test_one_event_or_an_array_passes_byte_for_byte(text: bytes, frame: bytes | None, channels: set[str]) -> None:
    injection = parse_injection("stocks", text)
    assert injection.frame == (frame or (text.strip() if text.startswith(b"[") else b"[%b]" % text))
    assert injection.channels == channels


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (b'{"sym":"AAPL"}', "ev"),
        (b'{"ev":"X","sym":"AAPL"}', "ev"),
        (b'{"ev":["T"],"sym":"AAPL"}', "ev"),
        (b'{"ev":"status","status":"error","message":"m"}', "ev"),
        (b'{"ev":"XT","pair":"BTC-USD"}', "ev"),
        (b'{"ev":"T"}', "sym"),
        (b'{"ev":"T","sym":""}', "sym"),
        (b'{"ev":"T","sym":7}', "sym"),
        (b'{"ev":"T","sym":"*"}', "sym"),
        (b'{"ev":"T","sym":"A B"}', "sym"),
        (b'{"ev":"T","sym":"' + b"A" * 100 + b'"}', "sym"),
        (b'{"ev":"LULD","sym":"AAPL"}', "T"),
        (b'{"ev":"LULD","T":"AAPL","sym":"MSFT"}', "T"),
        (b'{"ev":"T","sym":"AAPL","p":"1.5"}', "p"),
        (b'{"ev":"T","sym":"AAPL","p":null}', "p"),
        (b'{"ev":"T","sym":"AAPL","p":true}', "p"),
        (b'{"ev":"T","sym":"AAPL","s":1.5}', "s"),
        (b'{"ev":"T","sym":"AAPL","i":7}', "i"),
        (b'{"ev":"T","sym":"AAPL","c":14}', "c"),
        (b'{"ev":"T","sym":"AAPL","c":["14"]}', "c"),
        (b'{"ev":"Q","sym":"AAPL","c":[1]}', "c"),
        (b'{"ev":"A","sym":"AAPL","dv":1}', "dv"),
        (b'{"ev":"A","sym":"AAPL","otc":1}', "otc"),
        (b'"T"', ""),
        (b"7", ""),
        (b'{"ev":"T","sym":"AAPL","i":"' + b"x" * MAX_EVENT_BYTES + b'"}', ""),
    ],
)
def test_an_error_names_the_position_and_the_field(event: bytes, field: str) -> None:
    assert refuse(b"[%b,%b]" % (TRADE, event)) == (2, field)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"x", b'{"ev":', b"[" * 5000, b"[" + b"{}," * MAX_EVENTS + b"{}]", b"[%b" % (b" " * MAX_FRAME_BYTES)],
)
def test_a_text_that_is_no_frame_or_too_much_is_refused_as_a_whole(text: bytes) -> None:
    assert refuse(text)[0] == 0


def test_every_recorded_event_of_the_feed_may_be_injected_but_for_old_trade_ids_and_futures() -> None:
    events = {raw for _, frame in read_recording() for _, raw in frame if is_of_stocks(raw)}
    assert len(events) > 20
    refused = set()
    for event in events:
        try:
            assert parse_injection("stocks", event).frame == b"[%b]" % event
        except BadEvent as exc:
            refused.add(str(exc))
    assert refused == {"event 1, field i: expected a text", "event 1, field dv: expected a text"}


def is_of_stocks(raw: bytes) -> bool:
    event = json.loads(raw)
    types = ("T", "Q", "A", "AM", "LULD", "NOI", "FMV", "LV")
    return event.get("ev") in types and not str(event.get("sym", "")).startswith(("O:", "C:", "X:", "I:"))
