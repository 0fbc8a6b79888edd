"""What a replay tells of what it cannot give: the log has forgotten it, or upstream may never have sent it."""

from functools import partial
from typing import Any, cast

import pytest

from gateway.log import REACH_S, Log
from ingest.reconcile import CONFIRM_S, LINGER_S
from shared.batch import HEARTBEAT_S, NOTHING, Mark, encode_mark
from shared.demand import ASKED_S, HELD_S
from tests.unit.gateway.away import EPOCH, NAMES, Stream, World, make_mark, trades


async def test_a_batch_that_the_log_has_forgotten_is_told_as_a_gap_before_what_follows() -> None:
    world = World("T.AAPL")
    world.come(2, {})
    world.publish(3, {"T.AAPL": trades(3)})
    world.later(4, {})
    world.later(5, {})
    await world.run()
    [gap, event] = world.read()
    assert gap.startswith("events from 100 to 300 may be missing: this client was away")
    assert gap.endswith("channels: T.AAPL") and event == 3


async def test_a_live_mark_that_the_log_will_never_have_is_a_gap_too() -> None:
    world = World("T.AAPL")
    world.come(2, {})
    world.later(3, {"T.AAPL": trades(3)})
    world.later(4, {"T.AAPL": trades(4)})
    await world.run()
    [gap, *events] = world.read()
    assert gap.startswith("events from 100 to 200 may be missing") and events == [3, 4]


async def test_an_epoch_that_was_left_at_its_beginning_and_is_forgotten_since_is_a_gap() -> None:
    """It may have logged much before the next one came, and then the log begins with that one's first batch."""
    stream = Stream()
    at_us = 1_000_000_000
    mark = make_mark(1)._replace(received_us=at_us)
    stream.entries.append((mark, {b"mark": encode_mark(mark), b"batch": b""}))
    log = Log(cast(Any, stream), NAMES)
    left_us = int(at_us - REACH_S * 1e6)
    old, young = (Mark(EPOCH - 1, 0, us, 0, frozenset()) for us in (left_us - 1, left_us))
    for position, is_next in ((NOTHING, True), (make_mark(0), True), (young, True), (old, False)):
        [entry] = (await log.read(position)).entries
        assert entry.is_next == is_next, position


UNHELD = "upstream may not have sent it while this client was away; channels: T.AAPL"


def make_late(epoch: int, sequence: int, at_s: float) -> Mark:
    return Mark(epoch, sequence, int(at_s * 1e6), 1, frozenset())


@pytest.mark.parametrize("reaches_back", [True, False])
async def test_another_ingest_that_took_over_is_a_gap_since_it_may_not_have_known_of_this_client(
    reaches_back: bool,
) -> None:
    """That began as soon as the old one had gone, which may be the position; what the new one logs later is no news."""
    world = World("T.AAPL")
    if not reaches_back:
        world.stream.entries.clear()
    world.hub.seal(make_late(EPOCH + 1, 0, 9)._replace(events=0))
    replay = world.make_replay()
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 1, 10), {"T.AAPL": trades(1)}))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 2, 10.1), {"T.AAPL": trades(2)}))
    await world.follow(replay)
    assert world.read() == [f"events from 100 to 12000 may be missing: {UNHELD}", 1, 2]


async def test_the_gap_of_a_takeover_comes_after_what_was_logged_before_and_not_before_the_channels_count() -> None:
    world = World("T.AAPL")
    world.publish(2, {"T.AAPL": trades(2)})
    world.publish_mark(make_late(EPOCH + 1, 1, 5), {"T.AAPL": trades(3)})
    replay = world.make_replay()
    seen = world.become_ready_later(lambda: world.publish_mark(make_late(EPOCH + 1, 2, 7), {"T.AAPL": trades(4)}))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 3, 7.1), {"T.AAPL": trades(5)}))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 4, 7.2), {}))
    await world.follow(replay)
    assert seen == [2]
    assert world.read() == [2, f"events from 200 to 10000 may be missing: {UNHELD}", 3, 4, 5]


async def test_each_takeover_while_it_is_caught_up_is_told_but_one_that_a_gap_covers() -> None:
    world = World("T.AAPL")
    world.publish_mark(make_late(EPOCH + 1, 1, 5), {})
    world.publish_mark(make_late(EPOCH + 2, 1, 6), {})
    replay = world.make_replay()
    world.hub.set_unready(["T.AAPL"])
    world.next.append(lambda: world.hub.set_ready(["T.AAPL"]))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 3, 1, 16), {}))
    world.next.append(world.outbox.close)
    await world.follow(replay)
    spans = [" ".join(told.split()[1:5]) for told in world.read()]
    assert spans == ["from 100 to 9000", "from 6000 to 19000"]


async def test_a_channel_given_up_before_it_was_ready_holds_nobody_up_not_even_for_a_gap() -> None:
    world = World("T.AAPL", "T.MSFT")
    replay = world.make_replay()
    world.hub.set_unready(["T.MSFT"])
    world.hub.remove(world.outbox, ["T.MSFT"])
    world.publish_mark(make_late(EPOCH + 1, 1, 5), {"T.AAPL": trades(2)})
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 2, 5.1), {"T.AAPL": trades(3)}))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH + 1, 3, 5.2), {"T.AAPL": trades(4)}))
    await world.follow(replay)
    assert world.read() == [f"events from 100 to 8000 may be missing: {UNHELD}", 2, 3, 4]


async def test_who_was_away_for_longer_than_the_linger_is_told_so_first_once_its_channels_count() -> None:
    world = World("T.AAPL")
    world.log(2, {"T.AAPL": trades(2)})
    world.publish_mark(make_late(EPOCH, 3, HELD_S + 0.2), {"T.AAPL": trades(3)})
    replay = world.make_replay()
    heartbeat = make_late(EPOCH, 3, 40)._replace(events=0)  # its time counts
    seen = world.become_ready_later(lambda: world.hub.seal(heartbeat))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH, 4, 40.1), {"T.AAPL": trades(4)}))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH, 5, 40.2), {}))
    await world.follow(replay)
    assert seen == []
    assert world.read() == [f"events from 100 to 43000 may be missing: {UNHELD}", 2, 3, 4]


async def test_whoever_left_in_an_epoch_that_was_lost_with_redis_is_told_and_goes_on_from_now() -> None:
    world = World("T.AAPL")
    replay = world.make_replay()
    world.stream.entries.clear()
    world.hub.begin_anew(make_late(EPOCH - 1, 4, 5))
    world.next.append(lambda: world.publish_mark(make_late(EPOCH - 1, 5, 5.1), {"T.AAPL": trades(5)}))
    await world.follow(replay)
    assert world.read() == [f"events from 100 to 8000 may be missing: {UNHELD}", 5]


async def test_an_epoch_that_was_lost_before_this_gateway_began_is_known_by_a_lower_one_that_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.replay.LOST_PLACE_S", 0.0)
    world = World("T.AAPL")
    world.hub.begin(make_late(EPOCH - 1, 4, 5))
    world.hub.live_epoch = EPOCH - 1
    replay = world.make_replay()
    world.stream.entries.clear()
    for sequence, at_s in ((5, 5.1), (6, 5.2), (7, 5.3)):
        world.next.append(
            partial(world.publish_mark, make_late(EPOCH - 1, sequence, at_s), {"T.AAPL": trades(sequence)})
        )
    await world.follow(replay)
    [gap, *events] = world.read()
    assert gap.startswith("events from 100 to 8") and gap.endswith(UNHELD) and events in ([6, 7], [7])


async def test_a_gateway_that_is_behind_in_an_older_epoch_has_not_lost_the_one_that_its_client_was_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own marks go by at the pace of the log."""
    monkeypatch.setattr("gateway.replay.LOST_PLACE_S", 0.0)
    world = World("T.AAPL")
    world.hub.begin(make_late(EPOCH - 1, 4, 5))
    world.hub.live_epoch = EPOCH
    replay = world.make_replay()
    for sequence, at_s in ((5, 15.0), (6, 25.0)):
        world.next.append(partial(world._come, make_late(EPOCH - 1, sequence, at_s), {"T.AAPL": trades(90 + sequence)}))
    world.next.append(partial(world._come, make_mark(1), {"T.AAPL": trades(1)}))
    world.later(2, {"T.AAPL": trades(2)})
    world.later(3, {"T.AAPL": trades(3)})
    await world.follow(replay)
    assert world.read() == [2, 3]


async def test_what_was_asked_for_in_time_is_told_no_gap_though_its_replay_must_wait_for_others() -> None:
    world = World("T.AAPL", "T.MSFT")
    world.publish_mark(make_late(EPOCH, 2, HELD_S - 5), {"T.AAPL": trades(2)})
    replay = world.make_replay()
    replay.note_ready()
    world.publish_mark(make_late(EPOCH, 3, HELD_S + 5), {"T.AAPL": trades(3)})
    assert not replay.extend({"T.TSLA"}), "this one comes back too late"
    world.next.append(lambda: world.publish_mark(make_late(EPOCH, 4, HELD_S + 6), {"T.MSFT": trades(4)}))
    await world.follow(replay)
    assert world.read() == [2, 3, 4]


async def test_what_comes_to_a_replay_while_it_waits_is_told_the_gap_like_the_rest() -> None:
    world = World("T.AAPL", "T.MSFT")
    world.publish_mark(make_late(EPOCH, 2, HELD_S + 5), {"T.AAPL": trades(2)})
    replay = world.make_replay()
    world.hub.hold_off(world.outbox, ["T.TSLA"])
    assert replay.extend({"T.TSLA"})
    world.hub.add(world.outbox, ["T.TSLA"])
    world.hub.set_ready(["T.TSLA"])
    world.next.append(lambda: world.publish_mark(make_late(EPOCH, 3, HELD_S + 6), {"T.TSLA": trades(3)}))
    await world.follow(replay)
    [gap, *events] = world.read()
    assert gap.endswith("channels: T.AAPL,T.MSFT,T.TSLA") and events == [2, 3]


async def test_who_was_back_in_time_is_told_nothing_however_long_it_takes_to_give_it_what_it_missed() -> None:
    world = World("T.AAPL")
    world.publish_mark(make_late(EPOCH, 2, HELD_S), {"T.AAPL": trades(2)})
    replay = world.make_replay()
    world.next.append(lambda: world.publish_mark(make_late(EPOCH, 3, HELD_S + 9), {"T.AAPL": trades(3)}))
    await world.follow(replay)
    assert world.read() == [2, 3]


def test_a_client_is_told_before_ingest_may_have_given_its_channels_up() -> None:
    """A position is at most a heartbeat and a ping old, and so is the mark against which it is held."""
    assert HELD_S + 2 * HEARTBEAT_S <= LINGER_S
    assert ASKED_S >= CONFIRM_S + HEARTBEAT_S
