"""A client's conversation as transcripts (PROTOCOL c, d.6): who it is, and what is no message at all."""

import json

import pytest

from gateway.session import MAX_BAD_MESSAGES, Session, State, Step
from shared import protocol
from tests.unit.gateway.talk import KEY, get_all, get_only, hold, make_session, say

# Auth.


def test_the_right_key_authenticates() -> None:
    session = make_session(authenticated=False)
    assert get_all(session) == (State.GREETED, {}, [])
    assert say(session, "auth", KEY) == Step((protocol.AUTH_SUCCESS,))
    assert get_all(session) == (State.AUTHENTICATED, {}, [])
    assert session.bad_messages == 0


@pytest.mark.parametrize("key", ["guess", "", " ", f" {KEY}", KEY.upper(), KEY[:-1], "ключ", "\x00", "x" * 100_000])
def test_a_wrong_or_empty_key_is_told_so_and_closed(key: str) -> None:
    session = make_session(authenticated=False)
    step = say(session, "auth", key)
    assert (step.statuses, step.close, step.add) == ((protocol.AUTH_FAILED,), True, ())
    assert session.state is State.CLOSED
    assert KEY not in step.complaint
    assert not key.strip() or key not in step.complaint


def test_an_empty_key_is_wrong_even_where_every_key_is_right() -> None:
    session = Session("stocks", lambda key: True)
    assert say(session, "auth", "").statuses == (protocol.AUTH_FAILED,)
    assert say(Session("stocks", lambda key: True), "auth", "anything").statuses == (protocol.AUTH_SUCCESS,)


def test_a_closed_session_answers_nothing_any_more() -> None:
    session = make_session(authenticated=False)
    say(session, "auth", "wrong")
    for action, params in (("auth", KEY), ("subscribe", "T.AAPL"), ("nonsense", "")):
        assert say(session, action, params) == Step()
    assert session.receive("garbage") == Step()
    assert session.state is State.CLOSED


def test_a_second_auth_with_the_right_key_succeeds_again_and_keeps_what_is_held() -> None:
    session = make_session()
    hold(session, "T.AAPL")
    before = get_all(session)
    assert say(session, "auth", KEY) == Step((protocol.AUTH_SUCCESS,))
    assert get_all(session) == before


def test_a_key_in_the_url_authenticates_and_the_message_may_follow() -> None:
    session = make_session(authenticated=False)
    assert session.authenticate_by_url(KEY) == Step((protocol.AUTH_SUCCESS,))
    assert say(session, "auth", KEY) == Step((protocol.AUTH_SUCCESS,))
    assert say(session, "subscribe", "T.AAPL").add == ("T.AAPL",)


@pytest.mark.parametrize("key", ["", "wrong"])
def test_a_wrong_key_in_the_url_is_ignored_and_the_message_counts(key: str) -> None:
    session = make_session(authenticated=False)
    assert session.authenticate_by_url(key) == Step()
    assert session.state is State.GREETED
    assert say(session, "auth", KEY) == Step((protocol.AUTH_SUCCESS,))


def test_a_client_without_a_key_is_given_up() -> None:
    session = make_session(authenticated=False)
    step = session.give_up()
    assert (step.statuses, step.close) == ((protocol.AUTH_TIMEOUT,), True)
    assert session.state is State.CLOSED
    assert session.give_up() == Step()


def test_a_client_with_a_key_is_not_given_up() -> None:
    session = make_session()
    assert session.give_up() == Step()
    assert session.state is State.AUTHENTICATED


@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
def test_nothing_is_subscribed_before_auth(action: str) -> None:
    session = make_session(authenticated=False)
    step = say(session, action, "T.AAPL")
    assert (step.statuses, step.add, step.remove, step.close) == ((protocol.AUTH_REQUIRED,), (), (), False)
    assert get_all(session) == (State.GREETED, {}, [])
    assert say(session, "auth", KEY) == Step((protocol.AUTH_SUCCESS,))
    assert session.spellings == {}


def test_a_client_that_only_ever_subscribes_before_auth_is_closed() -> None:
    session = make_session(authenticated=False)
    steps = [say(session, "subscribe", "T.AAPL") for _ in range(MAX_BAD_MESSAGES)]
    assert [step.close for step in steps] == [False] * (MAX_BAD_MESSAGES - 1) + [True]
    assert session.state is State.CLOSED


# Bad messages.

BAD_MESSAGES: list[str | bytes] = [
    "",
    "garbage",
    '{"action":"subscribe","params":"T.AAPL"',
    '{"action":"subscribe"}',
    '{"action":"subscribe","params":["T.AAPL"]}',
    '{"action":"subscribe","params":{"T":"AAPL"}}',
    '{"action":"subscribe","params":5}',
    '{"action":"subscribe","params":null}',
    '{"action":["subscribe"],"params":"T.AAPL"}',
    '[{"action":"subscribe","params":"T.AAPL"}]',
    '{"action":"","params":"T.AAPL"}',
    '{"action":"SUBSCRIBE","params":"T.AAPL"}',
    '{"action":"dance","params":"T.AAPL"}',
    json.dumps({"action": "x" * 100_000, "params": ""}),
    json.dumps({"action": "\x00\n\r\u2028", "params": ""}),
    b'{"action":"subscribe","params":"T.AAPL"}',
    b"\xff\xfe",
    b"",
    "[" * 100_000,
    '{"a":' * 100_000,
]


@pytest.mark.parametrize("message", BAD_MESSAGES, ids=lambda message: repr(message[:48]))
@pytest.mark.parametrize("authenticated", [True, False])
def test_a_bad_message_gets_an_error_and_changes_nothing(message: str | bytes, authenticated: bool) -> None:
    session = make_session(authenticated)
    if authenticated:
        hold(session, "T.AAPL")
        say(session, "subscribe", "T.MSFT")
    before = get_all(session)
    step = session.receive(message)
    status = get_only(step.statuses)
    assert (status.status, step.close, step.add, step.remove) == ("error", False, (), ())
    assert len(status.message) < 200
    assert status.message.isprintable()
    assert step.complaint == status.message
    assert get_all(session) == before
    assert session.bad_messages == 1


@pytest.mark.parametrize("authenticated", [True, False])
def test_a_hundred_bad_messages_close_the_session(authenticated: bool) -> None:
    session = make_session(authenticated)
    for number in range(1, MAX_BAD_MESSAGES):
        assert not session.receive("garbage").close
        assert session.bad_messages == number
    step = session.receive("garbage")
    assert step.close
    assert get_only(step.statuses).status == "error"
    assert session.state is State.CLOSED
    assert session.receive("garbage") == Step()


def test_good_messages_between_bad_ones_are_served() -> None:
    session = make_session()
    for number in range(MAX_BAD_MESSAGES - 1):
        session.receive("garbage")
        assert say(session, "subscribe", f"T.S{number}").add == (f"T.S{number}",)
    assert session.state is State.AUTHENTICATED
