"""The records of clients that can resume: what one says, who may write it, and what is taken from it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as RedisAway

import gateway.missed
import gateway.resume
from gateway.receipt import Lane, Receipt
from gateway.resume import Resumer, Resumption, find_name
from shared.batch import NOTHING, Mark
from shared.names import Names
from tests.processes import until

NAMES = Names("stocks")
KEY = NAMES.get_resume("bot-1")
NOW_US = int(time.time() * 1e6)
Part = tuple[int, list[str]]


def make_mark(sequence: int) -> Mark:
    return NOTHING._replace(epoch=7, sequence=sequence, received_us=NOW_US + sequence)


def make_resumer(*missed: Part) -> Resumer:
    lanes = [Lane(make_mark(sequence), channels) for sequence, channels in missed]
    return Resumer("bot-1", "a/1", lanes, Receipt(make_mark(9)))


def take(resumer: Resumer, *channels: str) -> list[Part]:
    all_taken, _lost = resumer.missed.take("stocks", channels)
    return [(taken.lane.position.sequence, sorted(taken.lane.channels)) for taken in all_taken]


@pytest.fixture
async def redis(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setattr(gateway.resume, "HAND_OVER_S", 0.1)
    async with aclosing(FakeAsyncRedis()) as client:
        yield client


def make_resumption(redis: Any, gateway_id: str = "a") -> Resumption:
    return Resumption(redis, NAMES, gateway_id)


async def claim(resumption: Resumption) -> Resumer:
    resumer = await resumption.claim("bot-1", Receipt(make_mark(9)), lambda: False)
    assert resumer is not None
    return resumer


async def read_record(redis: Any) -> Any:
    return json.loads(await redis.get(KEY))


async def write_record(redis: Any, *parts: tuple[Mark, list[str]], is_open: bool = False) -> None:
    rows = [
        {"epoch": mark.epoch, "sequence": mark.sequence, "received_us": mark.received_us, "channels": channels}
        for mark, channels in parts
    ]
    await redis.set(KEY, json.dumps({"claim": 1, "is_open": is_open, "parts": rows}, separators=(",", ":")))


# The name.


def test_without_a_query_a_client_has_no_name() -> None:
    assert find_name("", "stocks") is None


def test_a_path_that_a_client_appended_is_no_part_of_the_name() -> None:
    assert find_name("bot-1/stocks", "stocks") == find_name("bot-1", "stocks") == "bot-1"


@pytest.mark.parametrize("name", ["a b", "x" * 65, "é", "bot-1/forex", "bot-1\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        find_name(name, "stocks")


# What was missed.


def test_each_channel_is_taken_once_with_the_position_of_its_lane() -> None:
    resumer = make_resumer((5, ["T.A", "T.B"]), (3, ["T.C"]))
    assert take(resumer, "T.A", "T.C", "T.NEW") == [(5, ["T.A"]), (3, ["T.C"])]
    assert take(resumer, "T.A", "T.C") == []
    assert take(resumer, "T.B") == [(5, ["T.B"])]


def test_a_channel_in_two_lanes_is_taken_from_the_first() -> None:
    assert take(make_resumer((5, ["T.A"]), (3, ["T.A"])), "T.A") == [(5, ["T.A"])]


def test_who_held_a_wildcard_missed_each_channel_under_it_and_not_the_other_way_round() -> None:
    assert take(make_resumer((5, ["T.*"])), "T.A", "Q.A") == [(5, ["T.A"])]
    assert take(make_resumer((5, ["*"])), "T.*", "Q.A") == [(5, ["Q.A"]), (5, ["T.*"])]
    assert take(make_resumer((5, ["T.A", "T.B"])), "T.*", "*") == []


def test_a_channel_under_a_wildcard_is_missed_once_however_often_it_is_asked_for() -> None:
    resumer = make_resumer((5, ["T.*"]))
    assert take(resumer, "T.A") == [(5, ["T.A"])]
    assert take(resumer, "T.A") == []
    assert take(resumer, "T.B", "T.A") == [(5, ["T.B"])]
    assert take(resumer, "T.*") == [(5, ["T.*"])]
    assert take(resumer, "T.C") == []


def test_what_a_wildcard_brings_live_was_not_missed_and_is_recorded_so_no_more() -> None:
    resumer = make_resumer((5, ["Q.A"]), (3, ["T.A"]))
    assert take(resumer, "T.*") == []
    assert take(resumer, "T.A") == []
    assert [part.channels for part in resumer._get_parts()] == [["Q.A"]]


def test_what_was_caught_up_and_given_up_is_recorded_while_the_wildcard_that_it_was_missed_under_waits() -> None:
    resumer = make_resumer((5, ["T.*"]))
    assert take(resumer, "T.A") == [(5, ["T.A"])]
    assert [part.channels for part in resumer._get_parts()] == [["T.A"], ["T.*"]]


def test_a_channel_beside_its_wildcard_is_missed_from_where_it_was_left_itself() -> None:
    """So it is when a client was killed while it was caught up on the channel, and had the wildcard live by then."""
    left = [(9, ["T.*"]), (3, ["T.A"])]
    assert take(make_resumer(*left), "T.A", "T.*") == [(9, ["T.*"]), (3, ["T.A"])]
    assert take(make_resumer(*left), "T.A") == [(3, ["T.A"])]
    missed = make_resumer(*left).missed
    taken, lost = missed.take("stocks", ["T.*"])
    assert [(some.lane.position.sequence, some.lane.channels, some.got) for some in taken] == [(9, {"T.*"}, [])]
    assert [(lane.position.sequence, lane.channels) for lane in lost] == [(3, {"T.A"})], "and no more asked for"
    assert missed.take("stocks", ["T.A"]) == ([], [])


def test_what_got_further_than_the_wildcard_above_it_is_not_given_again() -> None:
    left = [(9, ["T.A", "Q.*"]), (5, ["T.B", "Q.B"]), (3, ["*"])]
    (taken,), lost = make_resumer(*left).missed.take("stocks", ["*"])
    assert (taken.lane.position.sequence, taken.lane.channels) == (3, {"*"})
    assert [(lane.position.sequence, lane.channels) for lane in taken.got] == [(9, {"T.A", "Q.*"}), (5, {"T.B"})]
    assert [(lane.position.sequence, lane.channels) for lane in lost] == [(5, {"Q.B"})], "all quotes had got further"


def test_who_has_asked_for_too_much_is_given_no_more_of_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.missed, "MOST_CHANNELS", 2)
    resumer = make_resumer((5, ["T.*"]))
    assert take(resumer, "T.A", "T.B") == [(5, ["T.A", "T.B"])]
    assert take(resumer, "T.C") == [(5, ["T.C"])]
    assert resumer.missed.lanes == [] and take(resumer, "T.D") == []


def test_a_record_says_what_was_confirmed_last_and_what_is_still_missed() -> None:
    resumer = make_resumer((3, ["T.C"]))
    resumer.receipt.add(["T.B", "T.A"])
    assert [part.channels for part in resumer.confirmed] == [["T.C"]]
    resumer.confirm()
    assert [(part.sequence, part.channels) for part in resumer.confirmed] == [(9, ["T.A", "T.B"]), (3, ["T.C"])]


# The records.


async def test_a_name_that_comes_for_the_first_time_has_missed_nothing(redis: Any) -> None:
    resumer = await claim(make_resumption(redis))
    assert resumer.missed.lanes == []
    assert await read_record(redis) == {"claim": resumer.claim, "is_open": True, "parts": []}


async def test_what_was_missed_comes_back_newest_first(redis: Any) -> None:
    await write_record(redis, (make_mark(2), ["T.A"]), (make_mark(4), ["T.B"]))
    resumer = await claim(make_resumption(redis))
    assert [(lane.position, lane.channels) for lane in resumer.missed.lanes] == [
        (make_mark(4), {"T.B"}),
        (make_mark(2), {"T.A"}),
    ]


async def test_what_is_a_day_old_is_forgotten_but_not_what_was_before_the_first_batch(redis: Any) -> None:
    old = make_mark(2)._replace(received_us=NOW_US - 86_500 * 1_000_000)
    await write_record(redis, (old, ["T.A"]), (NOTHING, ["T.B"]))
    resumer = await claim(make_resumption(redis))
    assert [lane.channels for lane in resumer.missed.lanes] == [{"T.B"}]


async def test_of_too_many_channels_those_held_longest_ago_are_forgotten(
    redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.resume, "MOST_CHANNELS", 3)
    await write_record(redis, (make_mark(1), ["T.X"]), (make_mark(2), ["T.A", "T.B"]), (make_mark(4), ["T.C", "T.D"]))
    resumer = await claim(make_resumption(redis))
    assert [lane.channels for lane in resumer.missed.lanes] == [{"T.C", "T.D"}, {"T.A"}]


async def test_a_record_of_an_unknown_shape_begins_anew(redis: Any) -> None:
    await redis.set(KEY, '{"claim":1}')
    assert (await claim(make_resumption(redis))).missed.lanes == []


async def test_a_name_in_use_is_asked_for_and_its_last_word_awaited(redis: Any) -> None:
    first, second = make_resumption(redis, "a"), make_resumption(redis, "b")
    old = await claim(first)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(NAMES.resume)
        await pubsub.get_message(timeout=1)
        claiming = asyncio.create_task(claim(second))
        message = None
        async with asyncio.timeout(5):
            while message is None:
                message = await pubsub.get_message(timeout=1)
        first.on_claim(message["data"])
        assert old.taken_over.is_set()
        old.receipt.add(["T.A"])
        old.confirm()
        await first.end(old)
        assert [lane.channels for lane in (await claiming).missed.lanes] == [{"T.A"}]


async def test_who_does_not_answer_in_time_is_overruled_and_can_write_no_more(redis: Any) -> None:
    first, second = make_resumption(redis, "a"), make_resumption(redis, "b")
    old = await claim(first)
    new = await claim(second)
    await first.end(old)
    assert old.taken_over.is_set()
    assert await read_record(redis) == {"claim": new.claim, "is_open": True, "parts": []}


async def test_a_claim_of_ones_own_or_of_another_name_or_of_no_shape_takes_nothing_over(redis: Any) -> None:
    resumption = make_resumption(redis)
    resumer = await claim(resumption)
    for text in (b'["bot-1","a/1"]', b'["bot-2","b/1"]', b"{}", b"\xff"):
        resumption.on_claim(text)
    assert not resumer.taken_over.is_set()


async def test_a_claim_whose_connection_is_over_leaves_the_name_alone(redis: Any) -> None:
    await write_record(redis, (make_mark(2), ["T.A"]))
    before = await redis.get(KEY)
    over = iter((False, True))
    assert await make_resumption(redis).claim("bot-1", Receipt(NOTHING), lambda: next(over)) is None
    assert await redis.get(KEY) == before


async def test_a_claim_waits_for_a_redis_that_does_not_answer(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await write_record(redis, (make_mark(2), ["T.A"]))
    get, failures = redis.get, [RedisAway(), OSError()]

    async def fail_first(key: str) -> Any:
        if failures:
            raise failures.pop()
        return await get(key)

    monkeypatch.setattr(redis, "get", fail_first)
    assert [lane.channels for lane in (await claim(make_resumption(redis))).missed.lanes] == [{"T.A"}]


async def test_a_change_is_recorded_and_after_a_loss_all_of_it_again_at_once(
    redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.resume, "SAVE_S", 60.0)
    resumption = make_resumption(redis)
    resumer = await claim(resumption)
    run = asyncio.create_task(resumption.run())

    async def is_recorded() -> bool:
        return bool(await redis.exists(KEY)) and (await read_record(redis))["parts"] != []

    try:
        resumer.receipt.add(["T.A"])
        resumer.confirm()
        resumption.save_soon()
        await until(is_recorded, "a record")
        await redis.flushall()
        resumption.forget()
        await until(is_recorded, "the record again")
    finally:
        run.cancel()


async def test_the_last_word_on_a_connection_closes_its_record(redis: Any) -> None:
    resumption = make_resumption(redis)
    resumer = await claim(resumption)
    await resumption.end(resumer)
    assert resumption.open == {} and not (await read_record(redis))["is_open"]


async def test_a_last_word_that_redis_does_not_take_is_given_up_in_time(
    redis: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gateway.resume, "_END_WITHIN_S", 0.1)
    resumption = make_resumption(redis)
    resumer = await claim(resumption)

    def fail(**_: Any) -> None:
        raise RedisAway("away")

    monkeypatch.setattr(redis, "pipeline", fail)
    async with asyncio.timeout(2):
        await resumption.end(resumer)
    assert "bot-1: not recorded (away)" in caplog.text
