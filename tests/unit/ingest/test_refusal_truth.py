"""Refusals in the cases that were once attributed wrongly."""

from typing import Any

import pytest
from fakeredis import FakeAsyncRedis

from ingest.reconcile import CONFIRM_S, LINGER_S, Plan
from tests.fakes.session import Script
from tests.unit.ingest.live import make_live
from tests.unit.ingest.test_state import Office
from tests.unit.ingest.test_upstream_refusals import Exchange, get_warnings

REFUSAL = "not authorized"


async def test_a_refusal_ahead_of_acks_is_logged_with_its_channel(caplog: pytest.LogCaptureFixture) -> None:
    """upstream._on_refusal logs only what rejected() attributes at once; in the normal order (PROTOCOL c 8: refusal,
    then acks) confirmed() attributes it, and no line ever names the channel."""
    stocks = Exchange("stocks", Script(refused={"NOI"}))
    stocks.want("T.AAPL", "NOI.*")
    stocks.answer()
    assert stocks.refused == {"NOI.*": REFUSAL}
    assert get_warnings(caplog) == ["upstream refuses 1 channels, such as NOI.*: not authorized"]


async def test_many_limit_statuses_for_one_message_refuse_only_that_message() -> None:
    """PROTOCOL c 9: 27 statuses for one frame. The first refuses the frame and sends the next subscribe; the second
    refuses that one too, and its acks are then ignored. (test_upstream.py has the same as a test.)"""
    options = Exchange("options", Script(limits={("options", "Q"): 1}, limit_statuses=27))
    options.want("Q.O:A", "Q.O:B")
    options.want("T.O:A")
    options.answer()
    assert options.refused.keys() == {"Q.O:A", "Q.O:B"}
    assert options.held == {"T.O:A"} == set(options.polygon.held)


def test_an_ack_takes_a_refusal_back() -> None:
    """A refusal later than CONFIRM_S hits the next subscribe; the ack of that one proves the blame wrong."""
    reconcile = make_live()
    reconcile.set_wanted(["NOI.*"], 0.0)
    reconcile.plan(0.0)
    reconcile.update_wanted(["T.AAPL"], [], 1.0)
    assert reconcile.plan(CONFIRM_S) == Plan(["T.AAPL"], [])
    reconcile.rejected(REFUSAL, True, 2.1)  # of NOI.*, late
    reconcile.confirmed("T.AAPL", 2.2)
    assert "T.AAPL" not in reconcile.refused
    assert "T.AAPL" in reconcile.held
    # Else upstream sends T.AAPL, and nobody ever unsubscribes it when its demand goes within REFUSED_S
    reconcile.update_wanted([], ["T.AAPL"], 3.0)
    assert reconcile.plan(3.0 + LINGER_S).drop == ["T.AAPL"]


def test_a_late_ack_ends_the_doubt_about_its_channel() -> None:
    """999 acks that come 0.1 s too late beside one refusal: each channel is asked for alone, upstream says nothing to a
    repeat, so each costs CONFIRM_S: new demand waits for ~2000 s."""
    reconcile = make_live()
    many = [f"T.S{number:03}" for number in range(999)]
    reconcile.set_wanted([*many, "NOI.*"], 0.0)
    reconcile.plan(0.0)
    reconcile.rejected(REFUSAL, True, 1.9)
    reconcile.plan(CONFIRM_S)
    for channel in many:
        reconcile.confirmed(channel, CONFIRM_S + 0.1)
    reconcile.update_wanted(["Q.NEW"], [], 2.2)
    now_s, asked = 2.2, set[str]()
    while "Q.NEW" not in asked and now_s < 3000:
        asked.update(reconcile.plan(now_s).subscribe)
        now_s += 0.25
    assert now_s < 60


class SlowPipe:
    """A pipeline during whose execution the publisher finds that Redis was restarted, and which redis-py retries."""

    def __init__(self, office: Office, pipe: Any) -> None:
        self._office, self._pipe = office, pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    async def __aenter__(self) -> "SlowPipe":
        await self._pipe.__aenter__()
        return self

    async def __aexit__(self, *args: Any) -> None:
        await self._pipe.__aexit__(*args)

    async def execute(self) -> Any:
        await self._office.redis.flushall()
        self._office.writer.forget()
        return await self._pipe.execute()


async def test_forget_during_a_writing_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """state.write sets _written after its await, over the None that forget() put there."""
    redis = FakeAsyncRedis()
    office = Office(redis)
    await office.listen()
    office.go_live()
    office.hold("T.AAPL")
    await office.write()
    office.hold("T.MSFT")
    with monkeypatch.context() as patch:
        original = redis.pipeline
        patch.setattr(redis, "pipeline", lambda **options: SlowPipe(office, original(**options)))
        await office.write()
    await office.write()
    assert await office.read() == ({"T.AAPL", "T.MSFT"}, {})
    await redis.aclose()


async def test_a_changeover_by_silence_is_told_at_once() -> None:
    """T.* in and T.AAPL out in one plan leaves the *number* of held channels as it was,
    so gateways hear of it up to 1 s late (StateWriter's own period)."""
    stocks = Exchange("stocks", Script(silent={"T.*"}))
    stocks.want("T.AAPL")
    stocks.answer()
    stocks.want("T.*")
    stocks.answer()
    stocks.upstream.changed.clear()
    stocks.forward(CONFIRM_S)
    assert stocks.held == {"T.*"}
    assert stocks.upstream.changed.is_set()
