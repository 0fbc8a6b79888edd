"""What a client with a name gets when it subscribes: what it missed from the log, the rest live, and a receipt kept."""

import asyncio
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisAway
from websockets.exceptions import ConnectionClosedOK

import gateway.returning
from gateway.client import MOST_REPLAYS
from gateway.counted import CountedOutbox, CountedTransport
from gateway.outbox import Outbox
from gateway.receipt import LIVE
from gateway.replay import Replay
from tests.unit.gateway.rig import Rig, make_mark


@pytest.fixture
async def rig() -> Any:
    """Held T.A and T.B before, and has authenticated."""
    rig = Rig("T.A", "T.B")
    await rig.claim()
    yield rig
    rig.end_tasks()


def test_only_a_client_with_a_name_has_what_is_written_to_it_counted() -> None:
    assert type(Rig(name=None).outbox) is Outbox
    rig = Rig()
    assert isinstance(rig.outbox, CountedOutbox) and isinstance(rig.connection.transport, CountedTransport)
    assert rig.outbox.receipt.lanes[LIVE].position == make_mark(9)


async def test_a_client_without_a_name_is_left_alone() -> None:
    rig = Rig(name=None)
    await rig.claim()
    rig.add("T.A")
    rig.returning.remove(rig.client, ["T.A"])
    await rig.returning.end(rig.client)
    assert (rig.records.claims, rig.records.saves, rig.records.ended, rig.started, rig.late) == (0, 0, [], {}, set())


async def test_a_name_is_claimed_once_however_often_the_client_authenticates(rig: Rig) -> None:
    await rig.claim()
    assert rig.records.claims == 1 and rig.started.keys() == {"confirm", "taken over"}


async def test_a_claim_that_came_to_nothing_starts_nothing() -> None:
    rig = Rig()
    rig.records.resumer = None
    await rig.claim()
    assert rig.client.resumer is None and rig.started == {}


async def test_what_was_held_before_is_held_off_and_replayed_and_the_rest_is_live(rig: Rig) -> None:
    rig.add("T.A", "Q.A")
    assert rig.late == {"T.A"} and "replay" in rig.started
    assert rig.live == {"Q.A"}
    assert [part.channels for part in rig.resumer.confirmed] == [["Q.A"], ["T.A"], ["T.B"]]
    assert rig.records.saves == 1, "a kill must find what it holds now"


async def test_what_was_not_held_before_is_live_at_once(rig: Rig) -> None:
    rig.add("Q.A")
    assert (rig.late, rig.live) == (set(), {"Q.A"}) and "replay" not in rig.started


async def test_channels_that_are_given_up_are_recorded_no_more(rig: Rig) -> None:
    rig.add("Q.A", "Q.B")
    rig.give_up("Q.A")
    assert rig.live == {"Q.B"} and rig.resumer.confirmed[0].channels == ["Q.B"]


@pytest.mark.parametrize("error", [RedisAway("away"), OSError("away")])
async def test_a_log_that_cannot_be_read_is_tried_again_at_the_next_mark(
    rig: Rig, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[str] = []

    class Flaky:
        async def run(self) -> None:
            steps.append("run")
            if len(steps) == 1:
                raise error

    async def until_mark() -> None:
        steps.append("mark")

    rig.returning._until_mark = until_mark
    await rig.returning._replay(rig.client, cast(Replay, Flaky()))
    assert steps == ["run", "mark", "run"]
    assert "what it missed cannot be read yet (away)" in caplog.text


async def test_a_pong_confirms_what_was_written_before_its_ping_and_not_what_came_after(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.returning, "SAVE_S", 0.0)
    rig.add("Q.A")

    def get_position() -> int:
        return next(part.sequence for part in rig.resumer.confirmed if "Q.A" in part.channels)

    confirm = asyncio.create_task(rig.started.pop("confirm"))
    pings = rig.connection.pings
    async with asyncio.timeout(5):
        while not pings:
            await asyncio.sleep(0)
        rig.hub.seal(make_mark(10))
        rig.outbox.send(b"after the ping")
        asked = len(pings)
        while len(pings) == asked:  # the next one does not wait for the pong of a client that reads slowly
            await asyncio.sleep(0)
        assert get_position() == 9
        pings[0].set_result(0.0)
        await asyncio.sleep(0)
        assert get_position() == 9
        pings[asked].set_result(0.0)
        await asyncio.sleep(0)
        assert get_position() == 10
        rig.connection.is_over = True
        await confirm


async def test_pings_to_who_does_not_answer_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.returning, "SAVE_S", 0.0)
    monkeypatch.setattr(gateway.returning, "_MOST_ASKED", 3)
    confirm = asyncio.create_task(rig.started.pop("confirm"))
    pings = rig.connection.pings
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(pings) == 3
    pings[0].set_result(0.0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(pings) == 4
    for ping in pings[1:]:
        ping.set_exception(ConnectionClosedOK(None, None))
    confirm.cancel()


async def test_a_client_whose_name_was_taken_over_is_told_and_closed(rig: Rig) -> None:
    rig.resumer.taken_over.set()
    await rig.started.pop("taken over")
    assert b"another connection came with resume=bot-1" in rig.wire.written[-1]
    assert rig.connection.closed == [(1008, "resumed elsewhere")]


async def test_where_a_client_got_to_is_written_before_it_is_told_that_its_name_was_taken_over(rig: Rig) -> None:
    """Whoever came with the name waits for it, and the old connection may hang."""
    rig.add("Q.A")
    rig.hub.seal(make_mark(10))
    rig.outbox.send(b"arrives")
    rig.hub.seal(make_mark(11))
    rig.outbox.send(b"is under way")
    rig.wire.under_way = 1
    rig.connection.before_close = lambda: rig.records.ended.append(["closed"])
    rig.resumer.taken_over.set()
    await rig.started.pop("taken over")
    assert rig.records.ended == [["Q.A", "T.A", "T.B"], ["closed"]]
    assert rig.resumer.confirmed[0].sequence == 10
    rig.outbox.send(b"too late")
    assert b"too late" not in rig.wire.written


@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
async def test_the_last_word_is_what_arrived_if_that_is_known(rig: Rig, exc: Exception | None) -> None:
    rig.resumer.receipt.add(["Q.A"])  # not confirmed yet
    rig.outbox.end(exc, has_said_goodbye=True)
    await rig.returning.end(rig.client)
    assert rig.records.ended == [["T.A", "T.B"] if exc else ["Q.A", "T.A", "T.B"]]


async def test_who_subscribes_channel_by_channel_gets_what_it_asks_for_meanwhile_with_the_next_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each replay goes over all of the log, so that hundreds of them would never end."""
    channels = [f"T.S{number:03}" for number in range(100)]
    rig = Rig(*channels)
    await rig.claim()
    mark = asyncio.Event()

    async def until_mark() -> None:
        await mark.wait()

    rig.returning._until_mark = until_mark
    begun: list[Replay] = []
    ended = asyncio.Event()

    async def run(self: Replay) -> None:
        self._has_begun = True
        begun.append(self)
        await ended.wait()

    monkeypatch.setattr(Replay, "run", run)
    tasks: list[asyncio.Task[None]] = []
    monkeypatch.setattr(rig.client, "start", lambda _what, work: tasks.append(asyncio.create_task(work)))
    for channel in channels:
        rig.add(channel)
        await asyncio.sleep(0)
    assert (len(begun), len(tasks)) == (MOST_REPLAYS, MOST_REPLAYS + 1)
    ended.set()
    mark.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert [len(replay._channels) for replay in begun] == [1] * MOST_REPLAYS + [100 - MOST_REPLAYS]
    rig.end_tasks()
