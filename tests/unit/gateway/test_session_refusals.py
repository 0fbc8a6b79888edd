"""A channel that upstream refuses, as the client that asked for it sees it, from the refusal to its end."""

import pytest

from gateway.session import MAX_CHANNELS, Session, Step
from shared.protocol import error, subscribed, unsubscribed
from tests.unit.gateway.talk import hold, make_session, say

REFUSAL = "not authorized"


def get_channels(session: Session) -> tuple[dict[str, str], list[str], set[str]]:
    """All that the session knows of the client's channels."""
    return dict(session.spellings), list(session.owed), set(session.refused)


def test_a_refusal_changes_only_the_channel_it_is_about() -> None:
    session = make_session()
    say(session, "subscribe", "T.AAPL,NOI.*,T.MSFT")
    session.refuse("NOI.*", REFUSAL)
    assert list(session.owed) == ["T.AAPL", "T.MSFT"]
    assert session.refused == {"NOI.*"}
    assert set(session.spellings) == {"T.AAPL", "NOI.*", "T.MSFT"}
    assert session.acknowledge(["T.AAPL", "T.MSFT"]) == [subscribed("T.AAPL"), subscribed("T.MSFT")]
    assert session.refused == {"NOI.*"}


def test_a_refusal_is_no_bad_message_of_the_clients() -> None:
    session = make_session()
    for number in range(1000):
        say(session, "subscribe", f"NOI.S{number}")
        session.refuse(f"NOI.S{number}", REFUSAL)
    assert session.bad_messages == 0


@pytest.mark.parametrize("text", [REFUSAL, "Subscription limit reached for feed. Please remove some subscriptions."])
def test_upstreams_own_words_stand_before_the_channel(text: str) -> None:
    session = make_session()
    say(session, "subscribe", "NOI.AAPL")
    assert session.refuse("NOI.AAPL", text) == error(f"{text}: NOI.AAPL")


def test_an_unsubscribe_of_a_refused_channel_is_silent_and_frees_it() -> None:
    session = make_session()
    say(session, "subscribe", "NOI.*")
    session.refuse("NOI.*", REFUSAL)
    assert say(session, "unsubscribe", "NOI.*") == Step(remove=("NOI.*",))
    assert get_channels(session) == ({}, [], set())
    assert say(session, "unsubscribe", "NOI.*") == Step()


def test_an_unsubscribe_of_refused_owed_and_held_channels_answers_each_as_it_stands() -> None:
    session = make_session()
    hold(session, "T.AAPL")
    say(session, "subscribe", "NOI.*,T.MSFT")
    session.refuse("NOI.*", REFUSAL)
    step = say(session, "unsubscribe", "NOI.*,T.MSFT,T.AAPL")
    assert step.statuses == (subscribed("T.MSFT"), unsubscribed("T.MSFT"), unsubscribed("T.AAPL"))
    assert step.remove == ("NOI.*", "T.MSFT", "T.AAPL")
    assert get_channels(session) == ({}, [], set())


def test_a_refused_channel_that_was_given_up_and_comes_back_starts_anew() -> None:
    session = make_session()
    say(session, "subscribe", "NOI.*")
    session.refuse("NOI.*", REFUSAL)
    say(session, "unsubscribe", "NOI.*")
    assert say(session, "subscribe", "NOI.*") == Step(add=("NOI.*",))
    assert session.acknowledge(["NOI.*"]) == [subscribed("NOI.*")]
    assert say(session, "unsubscribe", "NOI.*").statuses == (unsubscribed("NOI.*"),)


def test_a_repeat_is_silent_for_what_is_held_and_an_answer_is_owed_for_what_was_refused() -> None:
    session = make_session()
    hold(session, "T.AAPL")
    say(session, "subscribe", "NOI.*,LULD.*")
    session.refuse("NOI.*", REFUSAL)
    session.acknowledge(["LULD.*"])
    for _ in range(3):
        assert say(session, "subscribe", "T.AAPL,NOI.*,LULD.*") == Step(add=("NOI.*",))
        assert list(session.owed) == ["NOI.*"]
        assert session.refuse("NOI.*", REFUSAL) == error("not authorized: NOI.*")
        assert not session.owed


def test_the_second_asking_of_a_refused_channel_brings_its_own_spelling() -> None:
    session = make_session(feed="forex")
    say(session, "subscribe", "C.EUR-USD")
    session.refuse("C.EUR/USD", REFUSAL)
    say(session, "subscribe", "C.EUR/USD")
    assert session.refuse("C.EUR/USD", REFUSAL) == error("not authorized: C.EUR/USD")
    say(session, "subscribe", "C.C:EUR-USD")
    assert session.acknowledge(["C.EUR/USD"]) == [subscribed("C.C:EUR-USD")]


def test_a_channel_refused_after_its_ack_and_taken_again_is_acked_a_second_time() -> None:
    session = make_session()
    hold(session, "NOI.*")
    session.refuse("NOI.*", REFUSAL)
    assert session.acknowledge(["NOI.*"]) == [subscribed("NOI.*")]
    assert get_channels(session) == ({"NOI.*": "NOI.*"}, [], set())


def test_refused_channels_count_against_the_limit_and_may_be_asked_for_again_at_it() -> None:
    session = make_session()
    names = [f"NOI.S{number}" for number in range(MAX_CHANNELS)]
    say(session, "subscribe", ",".join(names))
    session.refuse(names[0], REFUSAL)
    before = get_channels(session)
    assert say(session, "subscribe", "T.AAPL").add == ()
    assert get_channels(session) == before
    assert say(session, "subscribe", names[0]) == Step(add=(names[0],))
    say(session, "unsubscribe", names[1])
    assert say(session, "subscribe", "T.AAPL").add == ("T.AAPL",)


def test_a_bad_channel_beside_a_refused_one_leaves_it_refused() -> None:
    session = make_session()
    say(session, "subscribe", "NOI.*")
    session.refuse("NOI.*", REFUSAL)
    before = get_channels(session)
    assert say(session, "subscribe", "NOI.A*").add == ()
    assert say(session, "unsubscribe", "NOI.A*").remove == ()
    assert get_channels(session) == before
