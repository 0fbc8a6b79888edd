"""Upstream as transcripts: what comes in as statuses and demand, what goes out as actions."""

import json

import pytest

from ingest.upstream import Upstream
from shared.protocol import AUTH_SUCCESS, CONNECTED, Status, encode_statuses, error, make_status, subscribed


class Line:
    """An upstream, and what it sent since the last look."""

    def __init__(self) -> None:
        self.upstream = Upstream("stocks", "the-key")
        self.upstream.on_drop = self.upstream.drop
        self._sent: list[str] = []

    def take(self) -> list[tuple[str, str]]:
        sent = [json.loads(text) for text in self._sent]
        self._sent.clear()
        return [(action["action"], action["params"]) for action in sent]

    def open(self) -> None:
        self.upstream.opened(self._sent.append)

    def hear(self, *statuses: Status) -> None:
        for status in statuses:
            self.upstream.on_status(encode_statuses([status])[0][1:-1])

    def go_live(self) -> None:
        self.open()
        self.hear(CONNECTED, AUTH_SUCCESS)


@pytest.fixture
async def line() -> Line:
    return Line()


async def test_it_authenticates_after_the_greeting_and_subscribes_when_live(line: Line) -> None:
    line.upstream.set_wanted(["T.AAPL", "Q.AAPL"])
    line.open()
    assert line.take() == []
    line.hear(CONNECTED)
    assert line.take() == [("auth", "the-key")]
    line.hear(AUTH_SUCCESS)
    assert line.take() == [("subscribe", "Q.AAPL,T.AAPL")]
    assert line.upstream.state == "live"


async def test_an_edge_of_demand_goes_out_at_once(line: Line) -> None:
    line.go_live()
    line.take()
    line.upstream.update_wanted(["T.AAPL"], [])
    assert line.take() == [("subscribe", "T.AAPL")]
    line.upstream.update_wanted(["T.AAPL"], [])
    assert line.take() == []


async def test_an_ack_makes_a_channel_held_and_says_that_something_changed(line: Line) -> None:
    line.go_live()
    line.upstream.update_wanted(["T.AAPL"], [])
    line.upstream.changed.clear()
    line.hear(subscribed("T.AAPL"))
    assert line.upstream.reconcile.held == {"T.AAPL"}
    assert line.upstream.changed.is_set()


async def test_ten_thousand_channels_go_out_in_messages_that_upstream_takes(line: Line) -> None:
    wanted = {f"T.O:SPY241220P{number:08}" for number in range(10_000)}
    line.upstream.set_wanted(wanted)
    line.go_live()
    (_, *actions) = line.take()
    asked: list[str] = []
    while actions:
        ((action, params),) = actions
        assert action == "subscribe"
        assert len(params) < 100_000
        asked += params.split(",")
        line.hear(*map(subscribed, params.split(",")))
        actions = line.take()
    assert len(asked) == len(wanted)
    assert line.upstream.reconcile.held == set(asked) == wanted


LIMIT = error("Subscription limit reached for feed. Please remove some subscriptions and try again.")


async def test_one_message_refused_with_many_statuses_does_not_take_the_next_one_with_it(line: Line) -> None:
    """PROTOCOL c, 9: the whole frame is refused, with "27 status objects for a 200-contract frame"."""
    line.upstream = Upstream("options", "the-key")
    quotes = {f"Q.O:SPY241220P{number:08}" for number in range(1000)}
    line.upstream.set_wanted(quotes | {"T.O:SPY241220P00720000"})
    line.go_live()
    assert len(line.take()[1][1].split(",")) == 1000
    line.hear(*[LIMIT] * 27)
    assert line.take() == [("subscribe", "T.O:SPY241220P00720000")]
    assert line.upstream.reconcile.refused.keys() == quotes
    line.hear(subscribed("T.O:SPY241220P00720000"))
    assert line.upstream.reconcile.held == {"T.O:SPY241220P00720000"}


async def test_a_refusal_is_known_with_its_channel_once_the_message_is_answered(line: Line) -> None:
    line.upstream.set_wanted(["NOI.*", "T.AAPL"])
    line.go_live()
    line.upstream.changed.clear()
    line.hear(error("not authorized"), subscribed("T.AAPL"))
    assert line.upstream.reconcile.refused == {"NOI.*": "not authorized"}
    assert line.upstream.reconcile.held == {"T.AAPL"}
    assert line.upstream.changed.is_set()


async def test_what_may_come_twice_is_told_before_upstream_is_asked_and_until_it_is_over(line: Line) -> None:
    line.go_live()
    line.upstream.update_wanted(["T.AAPL"], [])
    line.hear(subscribed("T.AAPL"))
    line.take()
    heard: list[tuple[frozenset[str], list[tuple[str, str]]]] = []
    line.upstream.on_doubled = lambda channels: heard.append((channels, line.take()))
    line.upstream.update_wanted(["T.*"], [])
    assert heard == [(frozenset({"T.AAPL"}), [])]
    line.upstream.closed("lost")
    line.go_live()
    assert heard[-1][0] == frozenset()


async def test_a_drop_is_counted_and_all_demand_is_asked_for_again(line: Line) -> None:
    line.upstream.set_wanted(["T.AAPL"])
    line.go_live()
    line.hear(subscribed("T.AAPL"))
    line.take()
    line.upstream.closed("lost")
    assert line.upstream.drops == 1
    assert line.upstream.reconcile.held == set()
    line.upstream.update_wanted(["T.MSFT"], [])
    assert line.take() == []
    line.go_live()
    assert line.take() == [("auth", "the-key"), ("subscribe", "T.AAPL,T.MSFT")]


async def test_a_refusal_is_counted_and_the_connection_stays(line: Line) -> None:
    line.go_live()
    line.hear(error("not authorized"))
    assert line.upstream.refusals == 1
    assert not line.upstream.is_over


async def test_an_eviction_ends_the_connection_and_asks_for_a_slow_retry(line: Line) -> None:
    line.go_live()
    line.hear(make_status("max_connections", "Maximum number of websocket connections exceeded. "))
    assert line.upstream.is_over
    assert line.upstream.retry_floor_s == 30.0
    line.open()
    assert not line.upstream.is_over
    assert line.upstream.retry_floor_s == 0.0


async def test_wanted_types_are_told_before_upstream_is_asked_for_a_wildcard(line: Line) -> None:
    line.go_live()
    line.take()
    heard: list[tuple[frozenset[str], list[tuple[str, str]]]] = []
    line.upstream.on_wanted_types = lambda types: heard.append((types, line.take()))
    line.upstream.update_wanted(["T.*"], [])
    assert heard == [(frozenset({"T"}), [])]
    assert line.take() == [("subscribe", "T.*")]


@pytest.mark.parametrize("text", [b"{}", b"[]", b'{"ev":"status"}', b'{"ev":"status","status":1,"message":"x"}', b"x"])
async def test_a_status_of_an_unknown_shape_changes_nothing(line: Line, text: bytes) -> None:
    line.go_live()
    line.take()
    line.upstream.on_status(text)
    assert line.take() == []
    assert line.upstream.state == "live"


async def test_a_status_without_a_meaning_is_reported_for_the_operator(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """As ingest/session.py promises: it "changes nothing and is reported"."""
    caplog.set_level("DEBUG")
    line.go_live()
    line.hear(make_status("something_new", "text"))
    assert line.upstream.state == "live"
    assert "something_new" in caplog.text


async def test_singles_are_dropped_with_the_ack_of_their_wildcard_and_not_later(line: Line) -> None:
    """While both are held upstream may send each event twice (PROTOCOL c.1), so that time is to be short."""
    line.go_live()
    line.upstream.update_wanted(["T.AAPL"], [])
    line.hear(subscribed("T.AAPL"))
    line.upstream.update_wanted(["T.*"], [])
    line.take()
    line.hear(subscribed("T.*"))
    assert line.take() == [("unsubscribe", "T.AAPL")]
