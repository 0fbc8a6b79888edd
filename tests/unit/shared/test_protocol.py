"""The wire's words: statuses in the only form ever seen, and clients' messages taken apart or refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import protocol
from shared.protocol import Action, BadAction, Status, encode_action, encode_statuses, make_status, parse_action


def test_the_texts_are_verbatim() -> None:
    statuses = [protocol.CONNECTED, protocol.AUTH_SUCCESS, protocol.AUTH_FAILED, protocol.AUTH_TIMEOUT]
    statuses += [protocol.subscribed("T.MSFT"), protocol.unsubscribed("T.MSFT"), protocol.error("not authorized")]
    assert [encode_statuses([status])[0] for status in statuses] == [
        b'[{"ev":"status","status":"connected","message":"Connected Successfully"}]',
        b'[{"ev":"status","status":"auth_success","message":"authenticated"}]',
        b'[{"ev":"status","status":"auth_failed","message":"authentication failed"}]',
        b'[{"ev":"status","status":"auth_timeout","message":"No authentication request received."}]',
        b'[{"ev":"status","status":"success","message":"subscribed to: T.MSFT"}]',
        b'[{"ev":"status","status":"success","message":"unsubscribed to: T.MSFT"}]',
        b'[{"ev":"status","status":"error","message":"not authorized"}]',
    ]


def test_no_statuses_make_no_frame() -> None:
    assert encode_statuses([]) == []


@given(st.lists(st.text(max_size=30).map(protocol.error), max_size=12), st.integers(80, 400))
def test_statuses_keep_their_order_over_as_many_frames_as_the_limit_asks_for(
    statuses: list[Status], max_bytes: int
) -> None:
    frames = encode_statuses(statuses, max_bytes)
    decoded = [status for frame in frames for status in json.loads(frame)]
    assert [status["message"] for status in decoded] == [status.message for status in statuses]
    assert all(list(status) == ["ev", "status", "message"] for status in decoded)
    for frame in frames:
        assert len(frame) <= max_bytes or len(json.loads(frame)) == 1


def test_fifty_thousand_acks_fit_frames_that_every_client_takes() -> None:
    frames = encode_statuses(protocol.subscribed(f"T.O:SPY241220P{i:08}") for i in range(50_000))
    assert max(map(len, frames)) <= protocol.MAX_CLIENT_FRAME_BYTES
    assert sum(len(json.loads(frame)) for frame in frames) == 50_000


@pytest.mark.parametrize(
    "message",
    [
        '{"action":"subscribe","params":"T.AAPL"}',
        ' {"params" : "T.AAPL",\n"action":"subscribe"} ',
        '{"action":"subscribe","params":"T.AAPL","more":[1,{"action":"auth"}]}',
        '{"action":"subscribe","params":"T.\\u0041APL"}',
    ],
)
def test_an_action_is_read_in_any_form_of_json(message: str) -> None:
    assert parse_action(message) == Action("subscribe", "T.AAPL")


@pytest.mark.parametrize(
    "message",
    ["", " ", "x", "{", "}", "[]", "null", "5", '"auth"', "{}", '{"action":"auth"}', '{"params":"x"}', "{'params':'x'}"]
    + ['{"action":"auth","params":["secret"]}', '{"action":"auth","params":5}', '{"action":"auth","params":null}']
    + ['{"action":5,"params":"x"}', '{"action":null,"params":"x"}', '[{"action":"auth","params":"secret"}]']
    + ['{"action":"auth","params":"secret"', '{"action":"auth","params":"secret"}x', "\x00", "\ufeff{}"]
    + ['{"action":"auth","params":"\ud800"}', '{"action":"auth","params":"\\ud800"}', "[" * 1_000_000],
)
def test_what_is_no_action_is_refused_without_quoting_it(message: str) -> None:
    with pytest.raises(BadAction) as caught:
        parse_action(message)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("depth", [100, 5_000, 400_000])
def test_deep_nesting_is_refused_or_ignored_but_no_other_error(depth: int) -> None:
    nest = "[" * depth + "]" * depth
    for message in (f'{{"x":{nest},"action":"auth","params":"k"}}', f'{{"action":"auth","params":{nest}}}'):
        try:
            assert parse_action(message) == Action("auth", "k")
        except BadAction:
            continue


def test_a_binary_message_is_refused() -> None:
    with pytest.raises(BadAction, match="binary"):
        parse_action(b'{"action":"auth","params":"secret"}')


@given(st.text(), st.text())
def test_what_we_ask_for_reads_as_it_was_meant(action: str, params: str) -> None:
    assert parse_action(encode_action(action, params)) == Action(action, params)


def test_a_status_always_says_that_it_is_one() -> None:
    assert make_status("error", "x").ev == "status"
