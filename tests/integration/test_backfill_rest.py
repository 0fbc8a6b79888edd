"""A gap filled by a REST side that pages, refuses, errs or says nothing."""

import logging
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from ingest import backfill, rest
from ingest.backfill import Backfill, Filled
from tests.fakes.rest import FakeRest
from tests.integration.backfill_rig import FROM_MS, KEY, NAMES, Rig, get_ids, ns


@pytest.fixture
async def rig(redis: "Redis", monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(rest, "_RETRY_S", 0.001)
    async with FakeRest(keys=frozenset([KEY])) as fake:
        yield Rig(redis, fake)


async def test_pages_are_followed_to_the_last(rig: Rig) -> None:
    await rig.deliver_around()
    rig.fake.page_size = 3
    for number in range(10):
        rig.fake.add_trade("AAPL", ns(number), id=str(number))
        rig.fake.add_bar("second", "AAPL", FROM_MS - 3000 + number * 1000)
    filled = await rig.fill("T.AAPL", "A.AAPL")
    assert (filled.note, len(filled.events)) == ("", 20)
    assert sorted(rig.ask_counts().values()) == [4, 4]


async def test_next_page_on_another_host_is_refused(rig: Rig) -> None:
    rig.fake.page_size = 1
    async with FakeRest() as elsewhere:
        rig.fake.next_host = elsewhere.url
        for number in range(2):
            rig.fake.add_trade("AAPL", ns(1000 + number), id=str(number))
        filled = await rig.fill("T.AAPL")
        assert elsewhere.requests == []
    assert get_ids(filled) == ["0"]
    assert filled.note == "not or not wholly filled: T.AAPL (next_url leads to another host)"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_answers_that_may_be_better_next_time_are_asked_for_again(rig: Rig, status: int) -> None:
    await rig.deliver_around()
    rig.fake.add_trade("AAPL", ns(1000), id="1")
    rig.fake.failures.extend([status] * 3)
    filled = await rig.fill("T.AAPL")
    assert (get_ids(filled), filled.note) == (["1"], "")


async def test_server_that_asks_for_patience_gets_it(rig: Rig) -> None:
    rig.fake.failures.append(429)
    rig.fake.retry_after = "1"
    began = time.monotonic()
    assert (await rig.fill()).note == ""
    assert time.monotonic() - began >= 0.5, "half of it, since the wait is jittered"


@pytest.mark.parametrize("status", [429, 500])
async def test_server_that_never_recovers_is_given_up(rig: Rig, status: int) -> None:
    rig.fake.failures.extend([status] * 1000)
    filled = await rig.fill()
    assert filled == Filled([], f"not or not wholly filled: T.MSFT (HTTP {status})", ["T.MSFT"])
    assert len(rig.fake.requests) == rest._TRIES


async def test_status_that_asking_again_does_not_mend_is_asked_for_once(rig: Rig) -> None:
    rig.fake.failures.append(404)
    assert (await rig.fill()).note == "not or not wholly filled: T.MSFT (HTTP 404)"
    assert len(rig.fake.requests) == 1


async def test_plan_without_quotes_still_fills_trades_and_is_not_asked_for_each_symbol(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_AT_ONCE", 1)
    await rig.deliver_around()
    rig.fake.not_entitled = frozenset(["quotes"])
    rig.fake.add_trade("AAPL", ns(1000), id="1")
    filled = await rig.fill("Q.AAPL", "Q.TSLA", "T.AAPL")
    assert get_ids(filled) == ["1"]
    why = "the key or its plan does not include it, HTTP 403"
    assert filled.note == f"not or not wholly filled: Q.AAPL, Q.TSLA ({why})"
    assert rig.ask_counts() == {"/v3/quotes/AAPL": 1, "/v3/trades/AAPL": 1}


async def test_wrong_key_is_said_in_the_note(rig: Rig) -> None:
    rig.fake.keys = frozenset(["another"])
    assert "HTTP 401" in (await rig.fill()).note


async def test_nobody_at_the_url_is_said_in_the_note(rig: Rig) -> None:
    filled = await rig.fill(url="http://127.0.0.1:1")
    assert filled == Filled([], "not or not wholly filled: T.MSFT (no connection (ClientConnectorError))", ["T.MSFT"])


async def test_requests_beyond_the_bound_are_not_made(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MOST_REQUESTS", 5)
    filled = await rig.fill(*(f"T.A{number}" for number in range(9)))
    assert len(rig.fake.requests) == 5
    assert "T.A4, T.A5, T.A6, T.A7, T.A8 (more than 5 requests would be needed)" in filled.note


async def test_no_more_requests_at_once_than_the_bound(rig: Rig) -> None:
    rig.fake.delay_s = 0.02
    await rig.fill(*(f"T.A{number}" for number in range(20)))
    assert rig.fake.most_at_once == backfill._AT_ONCE
    assert len(rig.fake.requests) == 21


async def test_silent_server_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "_ANSWER_WITHIN_S", 0.05)
    rig.fake.delay_s = 30.0
    assert (await rig.fill()).note == "not or not wholly filled: T.MSFT (no answer within 0.05 s)"
    assert len(rig.fake.requests) == rest._TRIES


async def test_answer_that_is_too_large_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "_MOST_ANSWER_BYTES", 1000)
    rig.fake.padding = b" " * 1000
    assert (await rig.fill()).note == "not or not wholly filled: T.MSFT (an answer above 1000 bytes)"


@pytest.mark.parametrize("padding", [b"x", b"\xff", b"[" * 100_000])
async def test_answer_that_is_no_json_is_given_up(rig: Rig, padding: bytes) -> None:
    rig.fake.padding = padding
    assert (await rig.fill()).note == "not or not wholly filled: T.MSFT (an answer that is not understood)"


async def test_result_that_is_not_understood_is_left_out_and_said(rig: Rig) -> None:
    await rig.deliver_around()
    rig.fake.add("trades", "AAPL", ns(1000), b'{"sip_timestamp":null}')
    rig.fake.add_trade("AAPL", ns(1001), id="1")
    filled = await rig.fill("T.AAPL")
    assert get_ids(filled) == ["1"]
    assert filled.note == "not or not wholly filled: T.AAPL (an answer that is not understood)"


async def test_key_is_in_the_header_and_nowhere_else(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    rig.fake.page_size = 1
    rig.fake.failures.extend([500, 429])
    for number in range(3):
        rig.fake.add_trade("AAPL", ns(1000 + number), id=str(number))
    notes = (await rig.fill("T.AAPL", "Q.AAPL")).note
    rig.fake.keys = frozenset(["another"])
    notes += (await rig.fill("T.AAPL")).note + (await rig.fill(url="http://127.0.0.1:1")).note
    assert {asked.authorization for asked in rig.fake.requests} == {f"Bearer {KEY}"}
    said = notes + caplog.text + "".join(f"{asked.path}{asked.query}" for asked in rig.fake.requests)
    assert "backfill: " in said and KEY not in said
    assert KEY not in repr(vars(Backfill(rig.redis, NAMES, rig.fake.url, "k")))
