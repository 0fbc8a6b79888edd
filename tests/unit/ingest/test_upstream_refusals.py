"""What upstream refuses, as transcripts with the fake Polygon's answers: attribution, log, what operators read."""

import json

import pytest

from ingest.reconcile import REFUSED_S
from ingest.upstream import Upstream
from shared.channels import EVENT_TYPES
from shared.protocol import AUTH_SUCCESS, CONNECTED, Status, encode_statuses, error, make_status, subscribed
from tests.fakes.session import Script, Session

REFUSAL = "not authorized"
LIMIT = "Subscription limit reached for feed. Please remove some subscriptions and try again."


class Exchange:
    """Our side of a connection and Polygon's, which answers only when it is told to."""

    def __init__(self, feed: str, script: Script) -> None:
        self.upstream = Upstream(feed, "the-key")
        self.upstream.on_drop = self.upstream.drop
        self.polygon = Session(feed, script)
        self.sent: list[tuple[str, str]] = []
        self._unanswered: list[tuple[str, str]] = []
        self.upstream.opened(self._receive)
        self.hear(CONNECTED, AUTH_SUCCESS)
        self.sent.clear()

    def _receive(self, text: str) -> None:
        action = json.loads(text)
        self.sent.append((action["action"], action["params"]))
        self._unanswered.append(self.sent[-1])

    def hear(self, *statuses: Status) -> None:
        for status in statuses:
            self.upstream.on_status(encode_statuses([status])[0][1:-1])

    def answer(self) -> None:
        """Polygon answers all there is, and what we ask for because of it."""
        while self._unanswered:
            action, params = self._unanswered.pop(0)
            statuses = {"subscribe": self.polygon.subscribe, "unsubscribe": self.polygon.unsubscribe}.get(action)
            for status in statuses(params) if statuses is not None else []:
                self.upstream.on_status(status)

    def want(self, *channels: str) -> None:
        self.upstream.update_wanted(channels, [])

    def forward(self, seconds: float) -> None:
        """Let what ends by time end now."""
        reconcile = self.upstream.reconcile
        reconcile._asked_at -= seconds
        for channel in reconcile._retry_at:
            reconcile._retry_at[channel] -= seconds
        self.upstream.plan()

    @property
    def refused(self) -> dict[str, str]:
        return self.upstream.reconcile.refused

    @property
    def held(self) -> set[str]:
        return self.upstream.reconcile.held


def get_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture
async def stocks() -> Exchange:
    return Exchange("stocks", Script(refused={"NOI", "LULD.MSFT"}, silent={"FMV"}))


async def test_a_refusal_ahead_of_acks_is_attributed_and_kept_for_operators(stocks: Exchange) -> None:
    stocks.want("T.AAPL", "NOI.*", "LULD.AAPL")
    stocks.answer()
    assert stocks.refused == {"NOI.*": REFUSAL}
    assert stocks.held == {"T.AAPL", "LULD.AAPL"} == set(stocks.polygon.held)
    assert (stocks.upstream.refusals, stocks.upstream.last_refusal) == (1, REFUSAL)
    assert stocks.upstream.changed.is_set()
    assert (stocks.upstream.state, stocks.upstream.is_over) == ("live", False)


async def test_several_refusals_of_one_subscribe_are_counted_each_and_logged_once(
    stocks: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    stocks.want("NOI.AAPL", "NOI.MSFT", "LULD.MSFT")
    stocks.answer()
    assert stocks.refused == dict.fromkeys(["LULD.MSFT", "NOI.AAPL", "NOI.MSFT"], REFUSAL)
    assert get_warnings(caplog) == ["upstream refuses 3 channels, such as LULD.MSFT: not authorized"]
    assert stocks.upstream.refusals == 3


async def test_refusals_one_after_another_are_logged_with_the_channel_each_is_about(
    stocks: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    for channel in ("NOI.AAPL", "NOI.MSFT"):
        stocks.want(channel)
        stocks.answer()
    assert get_warnings(caplog) == [
        "upstream refuses 1 channels, such as NOI.AAPL: not authorized",
        "upstream refuses 1 channels, such as NOI.MSFT: not authorized",
    ]


async def test_a_refusal_that_nothing_was_asked_for_is_logged_counted_and_blames_nobody(
    stocks: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    stocks.want("T.AAPL")
    stocks.answer()
    stocks.hear(error("something else"))
    assert get_warnings(caplog) == ["upstream refuses something that was not asked for: something else"]
    assert (stocks.refused, stocks.held) == ({}, {"T.AAPL"})
    assert (stocks.upstream.refusals, stocks.upstream.last_refusal) == (1, "something else")


async def test_the_next_subscribe_goes_out_with_the_refusal_of_the_one_before(stocks: Exchange) -> None:
    stocks.want("NOI.*")
    stocks.want("T.AAPL", "T.MSFT")
    assert stocks.sent == [("subscribe", "NOI.*")]
    stocks.answer()
    assert stocks.sent == [("subscribe", "NOI.*"), ("subscribe", "T.AAPL,T.MSFT")]
    assert stocks.held == {"T.AAPL", "T.MSFT"}


async def test_silence_beside_a_refusal_is_cleared_up_one_by_one(stocks: Exchange) -> None:
    """FMV.* is held without an ack here, so NOI.* and FMV.* look alike until each is asked for alone."""
    stocks.want("T.AAPL", "NOI.*", "FMV.*")
    stocks.answer()
    assert (stocks.held, stocks.refused) == ({"T.AAPL"}, {})
    for _ in range(3):
        stocks.forward(3.0)
        stocks.answer()
    assert (stocks.held, stocks.refused) == ({"T.AAPL", "FMV.*"}, {"NOI.*": REFUSAL})
    alone = stocks.sent[1:]
    assert sorted(alone) == [("subscribe", "FMV.*"), ("subscribe", "NOI.*")]


async def test_doubt_ends_with_the_connection(stocks: Exchange) -> None:
    stocks.want("T.AAPL", "NOI.*", "FMV.*")
    stocks.answer()
    stocks.forward(3.0)
    assert len(stocks.sent) == 2, "it is being cleared up"
    stocks.upstream.closed("lost")
    stocks.upstream.opened(stocks._receive)
    stocks.sent.clear()
    stocks.hear(CONNECTED, AUTH_SUCCESS)
    assert stocks.sent == [("auth", "the-key"), ("subscribe", "FMV.*,NOI.*,T.AAPL")]


async def test_of_a_star_all_that_is_allowed_is_held(stocks: Exchange) -> None:
    stocks.polygon.script.silent.clear()
    stocks.want("*")
    stocks.answer()
    assert stocks.held == {f"{event_type}.*" for event_type in EVENT_TYPES["stocks"]} - {"NOI.*"}
    assert stocks.refused == {"NOI.*": REFUSAL}


async def test_what_was_refused_is_not_asked_for_again_until_its_time_and_is_then_taken(stocks: Exchange) -> None:
    stocks.want("NOI.*")
    stocks.answer()
    stocks.sent.clear()
    stocks.want("NOI.*")
    stocks.upstream.set_wanted(["NOI.*"])
    stocks.forward(REFUSED_S / 2)
    assert stocks.sent == []
    stocks.polygon.script.refused.clear()
    stocks.upstream.changed.clear()
    stocks.forward(REFUSED_S / 2)
    assert stocks.sent == [("subscribe", "NOI.*")]
    assert stocks.refused == {}
    assert stocks.upstream.changed.is_set(), "gateways are to hear that it is open again"
    stocks.answer()
    assert stocks.held == {"NOI.*"}


async def test_a_reconnect_tries_what_was_refused_at_once(stocks: Exchange) -> None:
    stocks.want("NOI.*")
    stocks.answer()
    stocks.upstream.closed("lost")
    assert stocks.refused == {}
    stocks.upstream.opened(stocks._receive)
    stocks.sent.clear()
    stocks.hear(CONNECTED, AUTH_SUCCESS)
    assert stocks.sent == [("auth", "the-key"), ("subscribe", "NOI.*")]


async def test_the_subscription_limit_refuses_the_whole_message_and_nothing_held_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = Exchange("options", Script(limits={("options", "Q"): 2}))
    options.want("Q.O:A", "Q.O:B")
    options.answer()
    options.want("Q.O:C", "Q.O:D")
    options.answer()
    assert options.held == {"Q.O:A", "Q.O:B"} == set(options.polygon.held)
    assert options.refused == {"Q.O:C": LIMIT, "Q.O:D": LIMIT}
    assert get_warnings(caplog) == [f"upstream refuses 2 channels, such as Q.O:C: {LIMIT}"]
    assert (options.upstream.refusals, options.upstream.last_refusal) == (1, LIMIT)
    assert not options.upstream.is_over


async def test_a_refusal_by_the_limit_is_no_refusal_of_one_channel() -> None:
    """One status stands for the whole message, while one `not authorized` would stand for one channel of it."""
    options = Exchange("options", Script())
    options.want("Q.O:A", "Q.O:B", "Q.O:C")
    options.hear(error(LIMIT))
    assert set(options.refused) == {"Q.O:A", "Q.O:B", "Q.O:C"}
    other = Exchange("options", Script())
    other.want("Q.O:A", "Q.O:B", "Q.O:C")
    other.hear(error(REFUSAL))
    assert other.refused == {}
    assert other.upstream.reconcile.is_asking


@pytest.mark.parametrize(
    "message",
    [
        "Maximum number of websocket connections exceeded. ",
        "Maximum number of websocket connections exceeded. You may only use 1 connections at a time.",
    ],
)
async def test_an_eviction_reaches_the_log_and_the_operator_in_upstreams_words(
    stocks: Exchange, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    stocks.want("T.AAPL")
    stocks.answer()
    stocks.hear(make_status("max_connections", message))
    assert stocks.upstream.last_refusal == f"max_connections: {message}"
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [f"upstream: max_connections: {message}"]
    assert stocks.upstream.is_over
    assert (stocks.refused, stocks.upstream.refusals) == ({}, 0)


async def test_nothing_of_the_key_is_logged(stocks: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    stocks.want("NOI.*", "T.AAPL")
    stocks.answer()
    stocks.hear(make_status("auth_failed", "authentication failed"), subscribed("T.AAPL"))
    stocks.upstream.closed("refused by upstream")
    assert "the-key" not in caplog.text
