"""A gap filled over REST: a real redis-server's log says what was delivered, a fake of Polygon's REST side the rest."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from ingest import backfill, delivered, rest
from ingest.backfill import Backfill, Filled
from shared.batch import Mark, encode_command, encode_mark
from shared.gap import Gap, decode_gap, encode_gap
from tests.fakes.rest import FakeRest
from tests.integration.backfill_rig import FROM_MS, KEY, LAG_MS, NAMES, TO_MS, Rig, get_ids, ns, trade

MARK = Mark(7, 999, TO_MS * 1000 + 20_000, 1, frozenset())


@pytest.fixture
async def rig(redis: "Redis", monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(rest, "_RETRY_S", 0.001)
    async with FakeRest(keys=frozenset([KEY])) as fake:
        yield Rig(redis, fake)


async def test_missed_trades_quotes_and_bars_come_in_the_order_of_their_time(rig: Rig) -> None:
    await rig.deliver_around()
    second = FROM_MS + 2000
    rig.fake.add_bar("second", "AAPL", second)
    rig.fake.add_bar("minute", "AAPL", FROM_MS - 60_000)
    rig.fake.add_quote("AAPL", ns(4000), sequence_number=9)
    rig.fake.add_trade("AAPL", ns(5500), id="late", sequence_number=2)
    rig.fake.add_trade("AAPL", ns(1000), id="early", sequence_number=1)
    filled = await rig.fill("T.AAPL", "Q.AAPL", "A.AAPL", "AM.AAPL")
    assert filled.note == ""
    events = [json.loads(event) for event in filled.events]
    assert [(e["ev"], e.get("i")) for e in events] == [
        ("T", "early"),
        ("AM", None),  # ended with the beginning of the gap, so it was due 2 s later
        ("Q", None),
        ("A", None),
        ("T", "late"),
    ]
    assert all(event.startswith(b'{"ev":"') and b" " not in event for event in filled.events)


async def test_events_of_the_same_time_keep_the_order_of_channels_and_of_sequences(rig: Rig) -> None:
    await rig.deliver_around()
    for symbol, sequence in (("AAPL", 3), ("AAPL", 1), ("TSLA", 2), ("AAPL", 2), ("TSLA", 1)):
        rig.fake.add_trade(symbol, ns(1000), id=f"{symbol}{sequence}", sequence_number=sequence)
    filled = await rig.fill("T.TSLA", "T.AAPL")
    assert get_ids(filled) == ["TSLA1", "TSLA2", "AAPL1", "AAPL2", "AAPL3"]


@pytest.mark.parametrize(
    "fields",
    [
        {"odd": "1"},
        {"mark": "odd", "batch": "odd"},
        {"mark": encode_mark(MARK), "batch": "?odd\r\n"},
        {"mark": encode_mark(MARK), "batch": encode_command(b"PUBLISH", b"T.AAPL")},
        {"mark": encode_mark(MARK), "batch": ":1\r\n"},
    ],
)
async def test_an_odd_entry_of_the_log_is_left_out_and_told(
    rig: Rig, fields: dict[str, str | bytes], caplog: pytest.LogCaptureFixture
) -> None:
    await rig.deliver_around()
    rig.fake.add_trade("AAPL", ns(-5), id="missed")
    rig.fake.add_trade("AAPL", ns(9_990), id="delivered")
    await rig.deliver(trade("delivered", 9_990), received_ms=TO_MS + 10)
    await rig.redis.xadd(NAMES.log, fields, id="7-999")  # type: ignore[arg-type]
    assert get_ids(await rig.fill("T.AAPL")) == ["missed"]
    assert "log: an entry of an unknown shape, what it delivered may come twice" in caplog.text


async def test_what_was_delivered_before_and_after_the_gap_is_not_delivered_again(rig: Rig) -> None:
    await rig.deliver_around()
    for ident, after_ms in (("before", -1000), ("missed", -5), ("missed-too", 9_990), ("after", 10_010)):
        rig.fake.add_trade("AAPL", ns(after_ms), id=ident)
    await rig.deliver(trade("before", -1000), received_ms=FROM_MS - 900, alls=["T"])
    await rig.deliver(trade("after", 10_010), received_ms=TO_MS + 10)
    assert get_ids(await rig.fill("T.AAPL")) == ["missed", "missed-too"]


async def test_what_was_delivered_under_another_symbol_or_type_does_not_count(rig: Rig) -> None:
    await rig.deliver_around()
    rig.fake.add_trade("AAPL", ns(5), id="1")
    other = trade("1", 5)
    for event in (other.replace(b"AAPL", b"AAP"), other.replace(b'"T"', b'"LULD"')):
        await rig.deliver(event, received_ms=FROM_MS)
    assert get_ids(await rig.fill("T.AAPL")) == ["1"]


async def test_delivered_quotes_and_bars_are_dropped_as_well(rig: Rig) -> None:
    await rig.deliver_around()
    rig.fake.add_quote("AAPL", ns(5), sequence_number=1)
    rig.fake.add_quote("AAPL", ns(6), sequence_number=2)
    rig.fake.add_bar("second", "AAPL", FROM_MS - 3000)
    rig.fake.add_bar("second", "AAPL", FROM_MS)
    await rig.deliver(b'{"ev":"Q","sym":"AAPL","t":%d,"q":1}' % (ns(5) // 10**6), received_ms=FROM_MS - 1)
    await rig.deliver(b'{"ev":"A","sym":"AAPL","s":%d,"e":%d}' % (FROM_MS - 3000, FROM_MS - 2000), received_ms=FROM_MS)
    events = [json.loads(event) for event in (await rig.fill("Q.AAPL", "A.AAPL")).events]
    assert [event.get("q") or event["s"] for event in events] == [2, FROM_MS]


async def test_where_the_log_has_forgotten_the_gaps_edge_decides(rig: Rig) -> None:
    """The log begins after the gap: what came before it cannot be told, so nothing of before is delivered."""
    await rig.deliver(b'{"ev":"T","sym":"MSFT","i":"1","x":1,"t":%d}' % (TO_MS - LAG_MS), received_ms=TO_MS)
    for ident, after_ms in (("before", -1), ("missed", 0)):
        rig.fake.add_trade("AAPL", ns(after_ms), id=ident)
    assert get_ids(await rig.fill("T.AAPL")) == ["missed"]


async def test_empty_log_leaves_the_gaps_own_edges(rig: Rig) -> None:
    for ident, after_ms in (("before", -1), ("missed", 0), ("missed-too", 9_999), ("after", 10_000)):
        rig.fake.add_trade("AAPL", ns(LAG_MS + after_ms), id=ident)
    assert get_ids(await rig.fill("T.AAPL")) == ["missed", "missed-too"]


async def test_delayed_feed_is_asked_for_its_own_times(rig: Rig) -> None:
    delay_ms = 900_000
    for at in (FROM_MS - 10_000, TO_MS + 10):
        event = b'{"ev":"T","sym":"MSFT","i":"%d","x":1,"t":%d}' % (at, at - delay_ms)
        await rig.deliver(event, received_ms=at)
    rig.fake.add_trade("AAPL", (FROM_MS - delay_ms + 10) * 10**6, id="missed")
    rig.fake.add_trade("AAPL", ns(1000), id="due in 15 minutes")
    assert get_ids(await rig.fill("T.AAPL")) == ["missed"]


async def test_an_earlier_fills_late_events_do_not_count_as_lag(rig: Rig) -> None:
    await rig.deliver_around()
    late = [b'{"ev":"T","sym":"MSFT","i":"%d","x":1,"t":%d}' % (n, FROM_MS - 60_000) for n in range(10)]
    await rig.deliver(*late, received_ms=TO_MS + 20)
    rig.fake.add_trade("AAPL", ns(1), id="missed")
    assert get_ids(await rig.fill("T.AAPL")) == ["missed"]


async def test_recorded_times_years_ago_are_no_lag(rig: Rig) -> None:
    await rig.deliver(b'{"ev":"T","sym":"MSFT","i":"1","x":1,"t":1651684192462}', received_ms=FROM_MS - 10_000)
    rig.fake.add_trade("AAPL", ns(1000), id="missed")
    assert get_ids(await rig.fill("T.AAPL")) == ["missed"]


async def test_wildcards_and_types_without_a_history_are_named_and_not_asked_for(rig: Rig) -> None:
    filled = await rig.fill("T.*", "LULD.AAPL", "NOI.AAPL", "FMV.A", "LV.A", "LULD.B", "LULD.C", "LULD.D")
    assert filled.note == (
        "not or not wholly filled: T.* (wildcards are not filled); "
        "LULD.AAPL, NOI.AAPL, FMV.A, LV.A, LULD.B and 2 more (REST has no history of it)"
    )
    assert rig.ask_counts() == {}


async def test_channel_named_twice_is_asked_for_once(rig: Rig) -> None:
    await rig.fill("T.AAPL", "T.AAPL")
    assert rig.ask_counts() == {"/v3/trades/AAPL": 1}


async def test_channels_beyond_the_bound_are_not_asked_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "MOST_CHANNELS", 3)
    filled = await rig.fill("T.A", "T.B", "T.C", "T.D")
    assert rig.ask_counts() == {"/v3/trades/A": 1, "/v3/trades/B": 1}
    assert filled.note == "not or not wholly filled: T.C, T.D (more than 3 channels)"


async def test_events_beyond_the_bound_are_not_asked_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "MOST_EVENTS", 4)
    await rig.deliver_around()
    rig.fake.page_size = 2
    for number in range(10):
        rig.fake.add_trade("AAPL", ns(1000 + number), id=str(number))
    filled = await rig.fill("T.AAPL")
    assert get_ids(filled) == ["0", "1", "2", "3"], "the earliest ones"
    assert filled.note == "not or not wholly filled: T.AAPL (more than 4 events)"


async def test_time_that_runs_out_ends_it_with_what_there_is(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "WITHIN_S", backfill._READ_LOG_WITHIN_S + 0.5)
    monkeypatch.setattr(backfill, "_AT_ONCE", 1)
    await rig.deliver_around()
    rig.fake.page_size = 1
    rig.fake.delay_s = 0.2
    for number in range(10):
        rig.fake.add_trade("AAPL", ns(1000 + number), id=str(number))
    filled = await rig.fill("T.AAPL", "Q.AAPL")
    assert filled.note == "not or not wholly filled: T.AAPL, Q.AAPL (time ran out)"
    assert get_ids(filled) == ["0"]


async def test_unreadable_log_means_that_nothing_is_delivered_rather_than_twice(rig: Rig) -> None:
    await rig.redis.set(NAMES.log, "no stream")
    rig.fake.add_trade("AAPL", ns(1000), id="1")
    filled = await rig.fill("T.AAPL")
    assert filled == Filled(
        [], "not or not wholly filled: T.MSFT, T.AAPL (what was delivered already is not known)", ["T.MSFT", "T.AAPL"]
    )


async def test_log_is_read_no_further_than_its_bound(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivered, "_LOG_BYTES", 1)
    monkeypatch.setattr(delivered, "_CHUNK_ENTRIES", 1)
    await rig.deliver_around()
    rig.fake.add_trade("AAPL", ns(-1), id="before")
    assert get_ids(await rig.fill("T.AAPL")) == [], "the log was not read to before the gap"


async def test_fill_waits_until_the_gap_has_settled(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "SETTLE_S", 0.3)
    now_ms = time.time_ns() // 10**6
    await Backfill(rig.redis, NAMES, rig.fake.url, KEY).fill(Gap(now_ms - 1000, now_ms, "", ["T.AAPL"]))
    assert time.time_ns() // 10**6 >= now_ms + 300


async def test_clock_that_was_set_back_makes_nobody_wait(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "SETTLE_S", 0.1)
    far_ms = time.time_ns() // 10**6 + 3_600_000
    async with asyncio.timeout(5):
        await Backfill(rig.redis, NAMES, rig.fake.url, KEY).fill(Gap(far_ms - 1000, far_ms, "", ["T.AAPL"]))


async def test_fill_that_is_cancelled_ends(rig: Rig) -> None:
    rig.fake.delay_s = 30.0
    task = asyncio.create_task(rig.fill("T.AAPL"))
    async with asyncio.timeout(5):
        while not rig.fake.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


def test_gap_survives_its_encoding() -> None:
    gap = Gap(1, 2, "upstream closed", ["T.AAPL"])
    assert decode_gap(encode_gap(gap)) == gap
    assert json.loads(encode_gap(gap)) == {"from_ms": 1, "to_ms": 2, "cause": gap.cause, "channels": ["T.AAPL"]}
