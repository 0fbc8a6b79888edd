"""Our conversation with upstream, as transcripts: each status of PROTOCOL c, in each state it may come in."""

import pytest

from ingest.session import SLOW_RETRY_S, Session, State, Step
from shared.protocol import make_status


def say(session: Session, status: str, message: str = "") -> Step:
    return session.receive(make_status(status, message))


def make_session(state: State) -> Session:
    session = Session()
    if state is not State.GREETING:
        say(session, "connected", "Connected Successfully")
    if state is State.LIVE:
        say(session, "auth_success", "authenticated")
    if state is State.OVER:
        say(session, "auth_failed", "authentication failed")
    assert session.state is state
    return session


def test_the_normal_session() -> None:
    session = Session()
    states = [session.state]
    assert say(session, "connected", "Connected Successfully") == Step(authenticate=True)
    states.append(session.state)
    assert say(session, "auth_success", "authenticated") == Step(became_live=True)
    states.append(session.state)
    assert states == [State.GREETING, State.AUTHENTICATING, State.LIVE]
    assert say(session, "success", "subscribed to: T.AAPL") == Step(confirmed="T.AAPL")
    assert say(session, "success", "subscribed to: T.*") == Step(confirmed="T.*")
    assert say(session, "success", "unsubscribed to: T.AAPL") == Step()
    assert session.state is State.LIVE


def test_the_wording_of_2019_authenticates_too() -> None:
    session = make_session(State.AUTHENTICATING)
    assert say(session, "success", "authenticated") == Step(became_live=True)
    assert session.state is State.LIVE


def test_a_second_greeting_or_auth_success_changes_nothing() -> None:
    session = make_session(State.LIVE)
    assert say(session, "connected", "Connected Successfully") == Step()
    assert say(session, "auth_success", "authenticated") == Step()
    assert session.state is State.LIVE


def test_a_refused_channel_is_reported_and_the_session_lives_on() -> None:
    session = make_session(State.LIVE)
    assert say(session, "error", "not authorized") == Step(refused="not authorized")
    limit = "Subscription limit reached for feed. Please remove some subscriptions and try again."
    assert say(session, "error", limit) == Step(refused=limit)
    assert session.state is State.LIVE
    assert say(session, "success", "subscribed to: T.AAPL") == Step(confirmed="T.AAPL")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("auth_failed", "authentication failed"),
        ("auth_failed", "Your plan doesn't include websocket access. Visit https://massive.com/pricing to upgrade."),
        ("max_connections", "Maximum number of websocket connections exceeded. "),
        ("max_connections", "Maximum number of connections exceeded."),
    ],
)
@pytest.mark.parametrize("state", [State.GREETING, State.AUTHENTICATING, State.LIVE])
def test_being_locked_out_ends_the_session_and_asks_for_a_slow_retry(state: State, status: str, message: str) -> None:
    session = make_session(state)
    assert say(session, status, message) == Step(over=message, retry_floor_s=SLOW_RETRY_S)
    assert session.state is State.OVER


@pytest.mark.parametrize("status", ["auth_timeout", "slow_consumer", "force_disconnect"])
@pytest.mark.parametrize("state", [State.GREETING, State.AUTHENTICATING, State.LIVE])
def test_other_ends_ask_for_no_slow_retry(state: State, status: str) -> None:
    session = make_session(state)
    assert say(session, status, "why") == Step(over="why")
    assert session.state is State.OVER


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("status", ["", "auth_required", "AUTH_SUCCESS", "something new", "status"])
def test_a_status_without_a_meaning_changes_nothing(state: State, status: str) -> None:
    session = make_session(state)
    assert say(session, status, "authenticated") == Step()
    assert session.state is state


@pytest.mark.parametrize("status", ["auth_success", "success", "error"])
def test_nothing_counts_before_the_greeting(status: str) -> None:
    session = Session()
    assert say(session, status, "subscribed to: T.AAPL") == Step()
    assert session.state is State.GREETING


@pytest.mark.parametrize("status", ["connected", "auth_success", "success", "error"])
def test_nothing_revives_a_session_that_is_over(status: str) -> None:
    session = make_session(State.OVER)
    assert say(session, status, "subscribed to: T.AAPL") == Step()
    assert session.state is State.OVER
