"""What ingest leaves in Redis of upstream: the `upstream` hash, `held` and `refused`, and the notices of their changes.

On fakeredis: this is about what is written, not about a Redis that fails (tests/integration).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis
from redis.exceptions import ConnectionError as RedisAway

import ingest.state
from ingest.reconcile import LINGER_S, REFUSED_S
from ingest.state import StateWriter
from ingest.upstream import Upstream
from shared.held import HeldNotice, decode_held
from shared.names import Names
from shared.protocol import AUTH_SUCCESS, CONNECTED, Status, encode_statuses, error, make_status, subscribed
from tests.sure_slot import make_sure_slot

NAMES = Names("stocks")
REFUSAL = "not authorized"
POLL_S = 0.005


class Office:
    """An upstream, who writes of it, and the Redis that it is written to."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.upstream = Upstream("stocks", "the-secret-key")
        self.upstream.on_drop = self.upstream.drop
        self.counters = {"events": 5}
        self.writer = StateWriter(redis, NAMES, self.upstream, make_sure_slot(), lambda: dict(self.counters))
        self._bus = redis.pubsub(ignore_subscribe_messages=True)

    async def listen(self) -> None:
        await self._bus.subscribe(NAMES.held)
        await self._bus.get_message(timeout=1)

    async def take(self) -> list[HeldNotice]:
        """The notices since the last look."""
        notices = []
        while (message := await self._bus.get_message(timeout=0)) is not None:
            notices.append(decode_held(message["data"]))
        return notices

    async def write(self) -> list[HeldNotice]:
        await self.writer.write()
        return await self.take()

    def hear(self, *statuses: Status) -> None:
        for status in statuses:
            self.upstream.on_status(encode_statuses([status])[0][1:-1])

    def go_live(self) -> None:
        self.upstream.opened(lambda _action: None)
        self.hear(CONNECTED, AUTH_SUCCESS)

    def hold(self, *channels: str) -> None:
        self.upstream.update_wanted(channels, [])
        self.hear(*map(subscribed, channels))

    def be_refused(self, channel: str, text: str = REFUSAL) -> None:
        self.upstream.update_wanted([channel], [])
        self.hear(error(text))

    def forward(self, seconds: float) -> None:
        """Let what ends by time end now."""
        reconcile = self.upstream.reconcile
        for since in (reconcile._unwanted_since, reconcile._retry_at):
            for channel in since:
                since[channel] -= seconds
        self.upstream.plan()

    async def read(self) -> tuple[set[str], dict[str, str]]:
        """What a gateway reads: held and refused."""
        held = await self.redis.smembers(NAMES.held)
        refused = await self.redis.hgetall(NAMES.refused)
        return {c.decode() for c in held}, {c.decode(): text.decode() for c, text in refused.items()}

    async def read_upstream(self) -> dict[str, str]:
        fields = await self.redis.hgetall(NAMES.upstream)
        return {field.decode(): value.decode() for field, value in fields.items()}


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with aclosing(FakeAsyncRedis()) as redis:
        office = Office(redis)
        await office.listen()
        yield office
        await office._bus.aclose()


# Held and refused.


async def test_the_first_writing_replaces_whatever_an_ingest_before_left(office: Office) -> None:
    await office.redis.sadd(NAMES.held, "T.OLD")
    await office.redis.hset(NAMES.refused, mapping={"NOI.OLD": REFUSAL})
    office.go_live()
    office.hold("T.AAPL")
    office.be_refused("NOI.*")
    assert await office.write() == [HeldNotice(["T.AAPL"], reset=True, refused={"NOI.*": REFUSAL})]
    assert await office.read() == ({"T.AAPL"}, {"NOI.*": REFUSAL})


async def test_the_first_writing_tells_even_that_nothing_is_held(office: Office) -> None:
    await office.redis.sadd(NAMES.held, "T.OLD")
    assert await office.write() == [HeldNotice(reset=True)]
    assert await office.read() == (set(), {})


async def test_later_writings_tell_only_what_changed_of_held_and_all_that_is_refused(office: Office) -> None:
    office.go_live()
    office.hold("T.AAPL")
    await office.write()
    office.hold("T.MSFT", "Q.AAPL")
    assert await office.write() == [HeldNotice(["Q.AAPL", "T.MSFT"])]
    office.be_refused("NOI.*")
    assert await office.write() == [HeldNotice(refused={"NOI.*": REFUSAL})]
    office.be_refused("LULD.*", "no")
    office.upstream.update_wanted([], ["T.AAPL"])
    office.forward(LINGER_S)
    assert await office.write() == [HeldNotice([], ["T.AAPL"], refused={"NOI.*": REFUSAL, "LULD.*": "no"})]
    assert await office.read() == ({"T.MSFT", "Q.AAPL"}, {"NOI.*": REFUSAL, "LULD.*": "no"})


async def test_what_is_no_longer_refused_is_taken_out_and_gateways_hear_of_it(office: Office) -> None:
    office.go_live()
    office.be_refused("NOI.*")
    await office.write()
    office.forward(REFUSED_S)
    assert await office.write() == [HeldNotice()]
    assert await office.read() == (set(), {})
    office.hear(subscribed("NOI.*"))
    assert await office.write() == [HeldNotice(["NOI.*"])]
    assert await office.read() == ({"NOI.*"}, {})


async def test_without_a_change_nothing_is_told(office: Office) -> None:
    office.go_live()
    office.hold("T.AAPL")
    office.be_refused("NOI.*")
    await office.write()
    for _ in range(3):
        assert await office.write() == []


async def test_a_channel_under_way_is_neither_held_nor_refused(office: Office) -> None:
    office.go_live()
    office.upstream.update_wanted(["NOI.*", "T.AAPL"], [])
    office.hear(error(REFUSAL))
    assert await office.write() == [HeldNotice(reset=True)]
    office.hear(subscribed("T.AAPL"))
    assert await office.write() == [HeldNotice(["T.AAPL"], refused={"NOI.*": REFUSAL})]


async def test_a_drop_of_upstream_empties_both(office: Office) -> None:
    office.go_live()
    office.hold("T.AAPL")
    office.be_refused("NOI.*")
    await office.write()
    office.upstream.closed("lost")
    assert await office.write() == [HeldNotice([], ["T.AAPL"])]
    assert await office.read() == (set(), {})
    assert (await office.read_upstream())["held"] == "0"


async def test_after_a_redis_that_lost_all_everything_is_written_whole_again(office: Office) -> None:
    office.go_live()
    office.hold("T.AAPL", "Q.*")
    office.be_refused("NOI.*")
    await office.write()
    await office.redis.flushall()
    assert await office.write() == [], "it does not know yet"
    office.upstream.changed.clear()
    office.writer.forget()
    assert office.upstream.changed.is_set(), "or it would wait for a second"
    assert await office.write() == [HeldNotice(["Q.*", "T.AAPL"], reset=True, refused={"NOI.*": REFUSAL})]
    assert await office.read() == ({"T.AAPL", "Q.*"}, {"NOI.*": REFUSAL})
    assert await office.write() == []


async def test_ten_thousand_channels_are_one_notice_and_all_in_the_set(office: Office) -> None:
    office.go_live()
    wanted = {f"T.O:SPY241220P{number:08}" for number in range(10_000)}
    office.upstream.set_wanted(wanted)
    while asked := list(office.upstream.reconcile._asked):
        office.hear(*map(subscribed, asked))
    (notice,) = await office.write()
    assert notice.added == sorted(wanted)
    assert await office.read() == (wanted, {})
    office.upstream.closed("lost")
    (notice,) = await office.write()
    assert notice.removed == sorted(wanted)
    assert await office.read() == (set(), {})


# A Redis that does not answer.


@pytest.mark.parametrize("failure", [RedisAway("gone"), OSError("gone"), TimeoutError("gone")])
async def test_what_could_not_be_written_is_written_whole_the_next_time_and_logged_once(
    office: Office, failure: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    office.go_live()
    office.hold("T.AAPL")
    await office.write()

    def fail(**_options: Any) -> Any:
        raise failure

    office.hold("T.MSFT")
    with monkeypatch.context() as patch:
        patch.setattr(office.redis, "pipeline", fail)
        for _ in range(3):
            assert await office.write() == []
    assert [record.levelname for record in caplog.records if record.name == "ingest.state"] == ["WARNING"]
    assert await office.write() == [HeldNotice(["T.AAPL", "T.MSFT"], reset=True)]
    assert await office.read() == ({"T.AAPL", "T.MSFT"}, {})


# The hash that operators read.


async def test_operators_read_the_state_and_what_is_refused(office: Office) -> None:
    await office.write()
    first = await office.read_upstream()
    expected = {"state": "connecting", "held": "0", "drops": "0", "refusals": "0", "last_refusal": ""}
    assert first.items() >= (expected | {"feed": "stocks", "events": "5"}).items()
    office.go_live()
    office.hold("T.AAPL", "T.MSFT")
    office.be_refused("NOI.*")
    office.counters["events"] = 6
    await office.write()
    fields = await office.read_upstream()
    expected = {"state": "live", "held": "2", "drops": "0", "refusals": "1", "last_refusal": REFUSAL, "events": "6"}
    assert fields.items() >= expected.items()
    assert float(fields["since"]) >= float(first["since"])


async def test_what_is_left_to_the_next_ingest_stays_while_nothing_newer_is_known(office: Office) -> None:
    office.writer.get_whole = lambda: {"whole_until": "7.000", "missing_since": ""}
    await office.write()
    office.writer.get_whole = dict
    await office.write()
    assert (await office.read_upstream()).items() >= {"whole_until": "7.000", "missing_since": ""}.items()


@pytest.mark.parametrize(
    "status",
    [
        error("Subscription limit reached for feed. Please remove some subscriptions and try again."),
        make_status("max_connections", "Maximum number of websocket connections exceeded. "),
        make_status("auth_failed", "Your plan doesn't include websocket access."),
    ],
    ids=lambda status: status.status,
)
async def test_a_limit_or_an_eviction_reaches_the_state_in_upstreams_words(office: Office, status: Status) -> None:
    office.go_live()
    office.upstream.update_wanted(["Q.AAPL"], [])
    office.hear(status)
    await office.write()
    assert status.message in (await office.read_upstream())["last_refusal"]


async def test_the_key_is_nowhere(office: Office) -> None:
    office.go_live()
    office.be_refused("NOI.*")
    await office.write()
    assert "the-secret-key" not in repr([await office.redis.hgetall(NAMES.upstream), await office.read()])


async def test_who_leaves_holds_nothing_any_more_and_says_so(office: Office) -> None:
    office.go_live()
    office.hold("T.AAPL")
    office.be_refused("NOI.*")
    await office.write()
    await office.writer.leave()
    assert await office.take() == [HeldNotice([], ["T.AAPL"])]
    assert await office.read() == (set(), {})
    assert (await office.read_upstream())["state"] == "down: stopped"


async def test_a_change_is_written_at_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.state, "_WRITE_EVERY_S", 3600.0)
    task = asyncio.create_task(office.writer.run())
    office.go_live()
    office.hold("T.AAPL")
    try:
        async with asyncio.timeout(5):
            while not (notices := await office.take()):
                await asyncio.sleep(POLL_S)
    finally:
        task.cancel()
    assert notices == [HeldNotice(["T.AAPL"], reset=True)]
