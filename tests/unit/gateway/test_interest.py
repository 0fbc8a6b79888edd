"""The interest beside a Redis that fails at chosen moments: what is counted there follows what is wanted here."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

import gateway.interest
from gateway.held import Held
from gateway.hub import Hub
from gateway.interest import Interest
from gateway.listener import Listener
from gateway.log import Log
from shared.batch import Mark
from shared.demand import Demand, LeaseLost
from shared.names import Names
from tests.unit.gateway.frames import close_batch, read_events

NAMES: Final = Names("stocks")
WITHIN_S: Final = 5.0
POLL_S: Final = 0.005
SAME_EPOCH: Final = Mark(7, 2, 1, 0, frozenset())
NEXT_EPOCH: Final = Mark(8, 0, 1, 0, frozenset())


class Ear(Listener):
    """A listener whose bus confirms at once."""

    def __init__(self, hub: Hub) -> None:
        super().__init__("redis://nowhere", NAMES, hub, Log(Redis(), NAMES), {})
        self.listened: set[str] = set()

    async def listen(self, channels: Iterable[str]) -> None:
        self.listened.update(channels)

    def unlisten(self, channels: Iterable[str]) -> None:
        self.listened.difference_update(channels)


class Counts(Demand):
    """A refcount of one gateway; `lost_replies` of the next calls are done but not answered."""

    def __init__(self) -> None:
        self.counted: set[str] = set()
        self.has_lease = False
        self.lost_replies = 0
        self.failed = 0
        self.joins = 0
        self.epoch = 0

    def _answer(self) -> None:
        if self.lost_replies:
            self.lost_replies -= 1
            self.failed += 1
            raise RedisConnectionError("connection lost")

    async def leave(self, gateway_id: str) -> None:
        self.lose()

    async def join(self, gateway_id: str) -> None:
        self.has_lease = True
        self.joins += 1

    async def renew(self, gateway_id: str, statistics: dict[str, Any]) -> None:
        if not self.has_lease:
            raise LeaseLost(gateway_id)

    async def acquire(self, gateway_id: str, channels: Iterable[str]) -> None:
        if not self.has_lease:
            raise LeaseLost(gateway_id)
        self.counted.update(channels)
        self._answer()

    async def get_epoch(self) -> int:
        return self.epoch

    async def release(self, gateway_id: str, channels: Iterable[str]) -> None:
        self.counted.difference_update(channels)
        self._answer()

    def lose(self) -> None:
        """The lease ran out, and the sweep took everything back."""
        self.has_lease = False
        self.counted.clear()


class Looked(Held):
    """What upstream holds is of no interest here."""

    def __init__(self) -> None:
        """Without a Redis to look at."""

    async def refresh(self, channels: Iterable[str]) -> None:
        pass


class Member(str):
    """A client's outbox, known by its name; keeps what it is told."""

    def __init__(self, _name: str) -> None:
        self.told: list[str] = []

    def send(self, frame: bytes) -> None:
        self.told += [event["message"] for event in read_events(frame)]


class Rig:
    """Clients that hold channels, through the hub as in the gateway."""

    def __init__(self) -> None:
        self.hub = Hub(NAMES)
        self.ear = Ear(self.hub)
        self.counts = Counts()
        self.interest = Interest("g1", NAMES, self.hub, self.ear, self.counts, Looked(), dict)

        self.members = {name: Member(name) for name in ("a", "b")}

    def hold(self, member: str, *channels: str) -> None:
        self.interest.want(self.hub.add(self.members[member], channels))

    def mark(self) -> None:
        """A heartbeat of an ingest that publishes trades whole as well."""
        assert list(close_batch(self.hub, Mark(7, 1, 1, 0, frozenset("T")))) == []

    def leave(self, member: str) -> None:
        self.interest.unwant(self.hub.drop(member))

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not is_so():
                await asyncio.sleep(POLL_S)


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    for name, value in (("LINGER_S", 0.03), ("RENEW_S", 0.02), ("_RETRY_S", 0.05)):
        monkeypatch.setattr(gateway.interest, name, value)
    rig = Rig()
    task = asyncio.create_task(rig.interest.run())
    yield rig
    assert not task.done(), "the interest ended"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_wanted_channel_is_listened_to_and_counted_before_it_is_ready(rig: Rig) -> None:
    rig.hold("a", "T.AAPL")
    await rig.until(lambda: rig.hub.has_joined("a", "T.AAPL"))
    assert rig.ear.listened == {"T.AAPL"}
    assert rig.counts.counted == {"T.AAPL"}


async def test_after_the_last_member_and_the_linger_all_is_given_back(rig: Rig) -> None:
    rig.hold("a", "T.AAPL", "*", "Q.*")
    await rig.until(lambda: rig.counts.counted == {"T.AAPL", "*", "Q.*"})
    rig.leave("a")
    await rig.until(lambda: not rig.counts.counted and not rig.ear.listened)


async def test_a_star_and_a_wildcard_share_their_bus_channel(rig: Rig) -> None:
    rig.hold("a", "*")
    rig.hold("b", "Q.*")
    await rig.until(lambda: rig.counts.counted == {"*", "Q.*"})
    rig.leave("a")
    await rig.until(lambda: rig.counts.counted == {"Q.*"})
    assert rig.ear.listened == {"polygon:{stocks}:all:Q"}


async def test_a_lost_lease_is_taken_again_with_all_that_is_held(rig: Rig) -> None:
    rig.hold("a", "T.AAPL")
    await rig.until(lambda: rig.hub.has_joined("a", "T.AAPL"))
    rig.counts.lose()
    await rig.until(lambda: rig.counts.counted == {"T.AAPL"})
    assert rig.counts.joins == 2
    assert rig.hub.has_joined("a", "T.AAPL")


@pytest.mark.parametrize(("failures", "tells"), [(0, False), (4, True)])
@pytest.mark.parametrize("is_late", [False, True])
async def test_whoever_was_not_counted_for_longer_than_upstream_is_asked_without_is_told_the_gap(
    rig: Rig, failures: int, tells: bool, is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is being caught up from the log, or gets other channels in the same round."""
    monkeypatch.setattr(gateway.interest, "HELD_S", 0.15)
    if is_late:
        rig.hub.hold_off(rig.members["a"], ["T.AAPL"])
    rig.hold("a", "T.AAPL")
    await rig.until(lambda: rig.hub.has_joined("a", "T.AAPL"))
    joins, lost_ms = rig.counts.joins, time.time() * 1000
    rig.counts.lost_replies = failures
    rig.counts.lose()
    rig.hold("a", "T.MSFT")
    await rig.until(lambda: rig.counts.joins == joins + failures + 1 and rig.hub.has_joined("a", "T.MSFT"))
    back_ms = time.time() * 1000
    assert list(close_batch(rig.hub, Mark(7, 1, 1, 0, frozenset("T")))) == []
    told = [message.split() for message in rig.members["a"].told]
    assert [words[-1] for words in told] == ["T.AAPL"] * tells
    for words in told:
        first_ms, last_ms = int(words[2]), int(words[4])
        assert first_ms - lost_ms == pytest.approx(150, abs=60) and last_ms - back_ms == pytest.approx(3000, abs=60)


@pytest.mark.parametrize(("epoch", "tells"), [(0, False), (7, False), (8, True)])
async def test_whoever_was_not_counted_while_another_ingest_took_over_is_told_the_gap(
    rig: Rig, epoch: int, tells: bool
) -> None:
    """Epoch 7 is what has come here so far; 0: Redis has lost all, and the ingest will bring its epoch back."""
    rig.mark()
    rig.hold("a", "T.AAPL")
    await rig.until(lambda: rig.hub.has_joined("a", "T.AAPL"))
    joins = rig.counts.joins
    rig.counts.epoch = epoch
    rig.counts.lose()
    await rig.until(lambda: rig.counts.joins == joins + 1)
    await rig.until(lambda: rig.interest.may_go_on_to(NEXT_EPOCH))
    back_ms = time.time() * 1000
    told = [message.split() for message in rig.members["a"].told]
    assert [words[-1] for words in told] == ["T.AAPL"] * tells
    for words in told:
        assert words[2] == "0", "from the last mark on"
        assert int(words[4]) - back_ms == pytest.approx(3000, abs=60)


async def test_who_has_seen_no_mark_yet_has_missed_nothing(rig: Rig) -> None:
    """Redis came later than this gateway and its clients, and then an ingest took the slot."""
    rig.hold("a", "T.AAPL")
    await rig.until(lambda: rig.hub.has_joined("a", "T.AAPL"))
    joins, rig.counts.epoch = rig.counts.joins, 7
    rig.interest.assert_again()
    await rig.until(lambda: rig.counts.joins == joins + 1)
    await rig.until(lambda: rig.interest.may_go_on_to(NEXT_EPOCH))
    assert rig.members["a"].told == []


async def test_a_new_epoch_is_not_gone_on_to_while_the_lease_may_have_run_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.mark()
    await rig.until(lambda: rig.interest.may_go_on_to(NEXT_EPOCH))
    rig.interest.assert_again()
    assert not rig.interest.may_go_on_to(NEXT_EPOCH) and rig.interest.may_go_on_to(SAME_EPOCH)
    await rig.until(lambda: rig.interest.may_go_on_to(NEXT_EPOCH))
    monkeypatch.setattr(gateway.interest, "LEASE_S", 0.0)
    assert not rig.interest.may_go_on_to(NEXT_EPOCH) and rig.interest.may_go_on_to(SAME_EPOCH)
    monkeypatch.setattr(gateway.interest, "HELD_S", 0.0)
    assert not rig.interest.may_go_on_to(SAME_EPOCH)


async def test_a_lost_reply_to_an_acquire_is_made_good(rig: Rig) -> None:
    rig.counts.lost_replies = 1
    rig.hold("a", "T.AAPL")
    await rig.until(lambda: rig.hub.has_joined("a", "T.AAPL"))
    assert rig.counts.counted == {"T.AAPL"}


async def test_a_lost_reply_to_a_release_is_made_good(rig: Rig) -> None:
    rig.hold("a", "T.AAPL")
    await rig.until(lambda: rig.hub.has_joined("a", "T.AAPL"))
    rig.counts.lost_replies = 1
    rig.leave("a")
    await rig.until(lambda: rig.counts.failed == 1)
    rig.hold("b", "T.MSFT")
    await rig.until(lambda: rig.counts.counted == {"T.MSFT"})
    assert rig.ear.listened == {"T.MSFT"}


async def test_who_comes_back_while_a_release_fails_is_counted(rig: Rig) -> None:
    rig.hold("a", "T.AAPL")
    await rig.until(lambda: rig.hub.has_joined("a", "T.AAPL"))
    rig.counts.lost_replies = 2
    rig.leave("a")
    await rig.until(lambda: rig.counts.failed >= 1)
    rig.hold("b", "T.AAPL")
    await rig.until(lambda: rig.hub.has_joined("b", "T.AAPL"))
    assert rig.counts.counted == {"T.AAPL"}
    assert rig.ear.listened == {"T.AAPL"}


async def test_a_client_that_leaves_while_the_reply_to_its_acquire_is_lost_leaves_no_count_behind(rig: Rig) -> None:
    """Else upstream stays subscribed, and the bus listened to, for as long as this gateway lives."""
    rig.counts.lost_replies = 1
    rig.hold("a", "T.AAPL")
    await rig.until(lambda: rig.counts.failed == 1)
    rig.leave("a")
    rig.hold("b", "T.MSFT")
    await rig.until(lambda: rig.hub.has_joined("b", "T.MSFT"))
    await rig.until(lambda: rig.counts.counted == {"T.MSFT"} == rig.ear.listened)


async def test_in_doubt_everything_is_counted_anew_and_nothing_else_stays_counted(rig: Rig) -> None:
    rig.hold("a", "T.AAPL")
    await rig.until(lambda: rig.counts.counted == {"T.AAPL"})
    rig.counts.counted = {"T.MSFT"}  # a new master that missed the last release and the last acquire
    rig.interest.assert_again()
    await rig.until(lambda: rig.counts.joins == 2)
    await rig.until(lambda: rig.counts.counted == {"T.AAPL"})


async def test_what_still_serves_a_member_until_the_next_mark_is_listened_to_until_then(rig: Rig) -> None:
    """A client goes from T.* to T.MSFT at a mark; ingest's heartbeat takes as long as the linger, or longer."""
    rig.mark()
    rig.hold("a", "T.*", "T.MSFT")
    rig.hold("b", "Q.AAPL")
    await rig.until(lambda: rig.counts.counted == {"T.*", "T.MSFT", "Q.AAPL"})
    rig.mark()
    assert rig.hub.has_joined("a", "T.MSFT")
    rig.interest.unwant(rig.hub.remove("a", ["T.*"]))
    rig.leave("b")
    await rig.until(lambda: "Q.AAPL" not in rig.ear.listened)
    assert rig.ear.listened == {"T.MSFT", "polygon:{stocks}:all:T"}
    rig.mark()
    await rig.until(lambda: rig.ear.listened == {"T.MSFT"})
    assert rig.hub.has_joined("a", "T.MSFT")
