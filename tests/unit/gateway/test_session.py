"""A client's conversation as transcripts (PROTOCOL c, d.6): its subscriptions and their acks."""

import pytest

import gateway.session
from gateway.session import MAX_BAD_MESSAGES, MAX_CHANNELS, State, Step
from shared.channels import parse_channel
from shared.protocol import error, subscribed, unsubscribed
from tests.unit.gateway.talk import get_all, get_only, hold, make_session, say

# Subscribe.


def test_new_channels_are_added_and_their_acks_owed() -> None:
    session = make_session()
    step = say(session, "subscribe", "T.MSFT,Q.AAPL,T.*,*")
    assert step == Step(add=("T.MSFT", "Q.AAPL", "T.*", "*"))
    assert list(session.owed) == ["T.MSFT", "Q.AAPL", "T.*", "*"]


def test_acks_come_in_the_order_asked_for_and_only_once() -> None:
    session = make_session()
    step = say(session, "subscribe", "T.MSFT,T.AAPL,Q.AAPL")
    assert session.acknowledge(["Q.AAPL"]) == [subscribed("Q.AAPL")]
    assert session.acknowledge(list(step.add)) == [subscribed("T.MSFT"), subscribed("T.AAPL")]
    assert session.acknowledge(list(step.add)) == []
    assert not session.owed


def test_acks_repeat_the_clients_own_spelling() -> None:
    session = make_session(feed="forex")
    step = say(session, "subscribe", "C.EUR-USD, C.USD/CNH,CA.C:EUR-USD")
    assert step.add == ("C.EUR/USD", "C.USD/CNH", "CA.EUR/USD")
    assert [ack.message for ack in session.acknowledge(list(step.add))] == [
        "subscribed to: C.EUR-USD",
        "subscribed to: C.USD/CNH",
        "subscribed to: CA.C:EUR-USD",
    ]
    assert say(session, "unsubscribe", "C.EUR/USD").statuses == (unsubscribed("C.EUR/USD"),)


def test_nothing_is_acked_that_was_not_asked_for() -> None:
    session = make_session()
    assert session.acknowledge(["T.AAPL", "T.*"]) == []


@pytest.mark.parametrize(
    "params", ["T.AAPL, Q.MSFT", " T.AAPL ,Q.MSFT ", "T.AAPL,,Q.MSFT,", ",T.AAPL,\tQ.MSFT", "T.AAPL,Q.MSFT,T.AAPL"]
)
def test_spaces_empty_items_and_repeats_do_no_harm(params: str) -> None:
    assert say(make_session(), "subscribe", params) == Step(add=("T.AAPL", "Q.MSFT"))


@pytest.mark.parametrize("params", ["", " ", ",", " , ,"])
def test_an_empty_subscribe_is_answered_by_nothing(params: str) -> None:
    session = make_session()
    assert say(session, "subscribe", params) == Step()
    assert say(session, "unsubscribe", params) == Step()
    assert session.bad_messages == 0


def test_what_is_held_already_is_answered_by_nothing_however_often_it_is_asked_for() -> None:
    session = make_session()
    hold(session, "T.AAPL")
    for _ in range(1000):
        assert say(session, "subscribe", "T.AAPL") == Step()
    assert session.bad_messages == 0
    assert say(session, "subscribe", "T.AAPL,T.MSFT").add == ("T.MSFT",)


def test_an_unknown_topic_is_silent_and_counted() -> None:
    session = make_session()
    assert say(session, "subscribe", "ZZ.AAPL,T.AAPL,XT.BTC-USD") == Step(add=("T.AAPL",), unknown_topics=2)
    assert session.spellings == {"T.AAPL": "T.AAPL"}
    assert say(session, "unsubscribe", "ZZ.AAPL") == Step(unknown_topics=1)
    assert session.bad_messages == 0


@pytest.mark.parametrize("bad", ["T.A*", "T.?", "T.[A]", "T.A\x00B", "T.A\nB", "T.", "AAPL", "T.é", "T." + "A" * 63])
def test_a_bad_channel_is_refused_and_the_good_ones_beside_it_are_taken(bad: str) -> None:
    session = make_session()
    step = say(session, "subscribe", f"T.AAPL,{bad},T.MSFT")
    assert step.add == ("T.AAPL", "T.MSFT")
    assert get_only(step.statuses).status == "error"
    assert step.complaint
    assert session.bad_messages == 1
    assert set(session.spellings) == {"T.AAPL", "T.MSFT"}


def test_a_bad_channel_alone_changes_nothing() -> None:
    session = make_session()
    hold(session, "T.AAPL")
    before = get_all(session)
    for action in ("subscribe", "unsubscribe"):
        step = say(session, action, "T.A*")
        assert (step.add, step.remove, step.close) == ((), (), False)
        assert get_all(session) == before


def test_many_bad_channels_get_few_statuses_that_say_how_many() -> None:
    step = say(make_session(), "subscribe", ",".join(f"T.?{number}" for number in range(1000)))
    assert len(step.statuses) == 10
    assert step.statuses[-1] == error("and 991 more bad channels")
    assert sum(len(status.message) for status in step.statuses) < 2000


def test_messages_with_bad_channels_count_as_bad_and_close_in_the_end() -> None:
    session = make_session()
    steps = [say(session, "subscribe", "T.?") for _ in range(MAX_BAD_MESSAGES)]
    assert not any(step.close for step in steps[:-1])
    assert steps[-1].close
    assert session.state is State.CLOSED


def test_a_hundred_thousand_channels_in_one_message_are_refused_whole() -> None:
    session = make_session()
    hold(session, "T.AAPL")
    before = get_all(session)
    step = say(session, "subscribe", ",".join(f"T.S{number:05}" for number in range(100_000)))
    assert get_only(step.statuses).status == "error"
    assert str(MAX_CHANNELS) in get_only(step.statuses).message
    assert (step.add, step.close) == ((), False)
    assert get_all(session) == before
    assert session.bad_messages == 1


def test_as_many_channels_as_allowed_are_taken_and_not_one_more() -> None:
    session = make_session()
    names = [f"T.S{number}" for number in range(MAX_CHANNELS)]
    assert len(say(session, "subscribe", ",".join(names[:-1])).add) == MAX_CHANNELS - 1
    assert say(session, "subscribe", names[-1]).add == (names[-1],)
    before = get_all(session)
    assert say(session, "subscribe", "Q.AAPL").add == ()
    assert get_all(session) == before
    assert say(session, "subscribe", names[0]) == Step()
    say(session, "unsubscribe", names[0])
    assert say(session, "subscribe", "Q.AAPL").add == ("Q.AAPL",)


@pytest.mark.parametrize("item", ["x", "T.?", "ZZ.A", "T.S"])
def test_a_megabyte_of_nonsense_costs_no_more_than_the_channels_that_a_client_may_hold(
    item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message is one step in which this gateway serves nobody else: its work needs a bound below the message's."""
    judged = 0

    def count(feed: str, text: str) -> str:
        nonlocal judged
        judged += 1
        return parse_channel(feed, text)

    session = make_session()
    monkeypatch.setattr(gateway.session, "parse_channel", count)
    say(session, "subscribe", ",".join(item for _ in range(1_000_000 // (len(item) + 1))))
    assert judged <= 2 * MAX_CHANNELS


# Unsubscribe.


def test_an_unsubscribe_is_acked_in_order_and_what_is_not_held_is_silent() -> None:
    session = make_session()
    hold(session, "T.AAPL,T.MSFT,Q.AAPL")
    step = say(session, "unsubscribe", "T.MSFT, T.TSLA,T.AAPL,T.MSFT")
    assert step == Step((unsubscribed("T.MSFT"), unsubscribed("T.AAPL")), remove=("T.MSFT", "T.AAPL"))
    assert set(session.spellings) == {"Q.AAPL"}
    assert say(session, "unsubscribe", "T.MSFT") == Step()


def test_a_single_and_its_wildcard_are_held_apart() -> None:
    session = make_session()
    hold(session, "T.*,T.AAPL")
    assert say(session, "unsubscribe", "T.AAPL").remove == ("T.AAPL",)
    assert set(session.spellings) == {"T.*"}
    assert say(session, "unsubscribe", "T.MSFT") == Step()
    assert say(session, "unsubscribe", "T.*").remove == ("T.*",)


def test_an_unsubscribe_while_the_ack_is_owed_gives_that_first() -> None:
    session = make_session()
    step = say(session, "subscribe", "T.AAPL,T.MSFT")
    gone = say(session, "unsubscribe", "T.AAPL")
    assert gone == Step((subscribed("T.AAPL"), unsubscribed("T.AAPL")), remove=("T.AAPL",))
    assert session.acknowledge(list(step.add)) == [subscribed("T.MSFT")]


def test_a_channel_that_comes_back_is_acked_again() -> None:
    session = make_session()
    hold(session, "T.AAPL")
    say(session, "unsubscribe", "T.AAPL")
    assert say(session, "subscribe", "T.AAPL") == Step(add=("T.AAPL",))
    assert session.acknowledge(["T.AAPL"]) == [subscribed("T.AAPL")]
