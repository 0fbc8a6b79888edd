"""Requests to ingest on a real Redis: who answers, what disturbs nobody, and what an answer may rely on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from gateway.census import Census
from gateway.hub import Hub
from ingest.census import count_clients
from ingest.control import Control, Parts
from ingest.slot import Slot
from shared.batch import Mark
from shared.census import Answer, answer
from shared.control import Asker, NotDone
from shared.demand import Demand
from shared.indicator import Indicator
from shared.lifecycle import Tasks
from shared.names import Names
from tests.integration.conftest import RedisServer
from tests.sure_slot import make_sure_slot

NAMES = Names("stocks")
ID = "a" * 32


class Rehearsal:
    """What control asks of one."""

    def __init__(self) -> None:
        self.symbols = ("AAPL",)
        self.speeds: list[float] = []

    def set_speed(self, speed: float) -> None:
        self.speeds.append(speed)

    def get_indicator(self) -> Any:
        return Indicator("simulated", "normal")

    def get_status(self) -> dict[str, Any]:
        return {"speed": self.speeds[-1] if self.speeds else 1.0}


@asynccontextmanager
async def listening(redis: "Redis", rehearsal: Rehearsal | None, slot: Slot | None = None) -> AsyncIterator[None]:
    parts = Parts(cast(Any, rehearsal), None, cast(Any, None), cast(Any, None), cast(Any, None))
    async with Tasks() as tasks:
        tasks.start("control", Control(redis, NAMES, slot or make_sure_slot(), parts).run())
        async with asyncio.timeout(5):
            while not (await redis.pubsub_numsub(NAMES.control))[0][1]:
                await asyncio.sleep(0.005)
        yield


@pytest.fixture
def asker(redis: "Redis", redis_server: RedisServer) -> Asker:
    return Asker(redis, NAMES, redis_server.url)


async def test_a_request_is_answered_and_may_be_said_twice(redis: "Redis", asker: Asker) -> None:
    rehearsal = Rehearsal()
    async with listening(redis, rehearsal):
        for _ in range(2):
            assert await asker.ask("speed", {"value": "2.5"}) == {"mode": "simulated", "speed": 2.5}
        keys: Any = await redis.keys(f"{NAMES.control}:*")
        assert keys == [], "an answer that was taken is gone"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nonsense",
        b"\xff",
        b'{"id":"../x","command":"status"}',
        b'{"id":"%b","command":"status","args":7}' % ID.encode(),
        b"[" * 10_000,
        b"x" * 2_000_000,
    ],
)
async def test_a_malformed_request_disturbs_nothing_and_is_logged(
    redis: "Redis", asker: Asker, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(redis, Rehearsal()):
        await redis.publish(NAMES.control, text)
        assert (await asker.ask("status"))["mode"] == "simulated"
    assert [r.levelname for r in caplog.records if "control: not a request" in r.getMessage()] == ["WARNING"]


@pytest.mark.parametrize(
    ("command", "args", "error"),
    [
        ("explode", {}, "unknown command 'explode'"),
        ("speed", {}, "speed: Object missing required field `value`"),
        ("speed", {"value": 7}, "speed: Expected `str`, got `int` - at `$.value`"),
        ("speed", {"value": "fast"}, "TEST_SPEED='fast': expected a factor from 0.01 to 1000"),
        ("speed", {"value": "2", "key": "secret"}, "speed: Object contains unknown field `key`"),
        ("symbols", {"value": "a b"}, "TEST_SYMBOLS='a b': expected symbols separated by commas, such as AAPL,BRK.A"),
        ("replay", {"id": "x", "path": "y"}, "replay: Expected `str` matching regex '^[0-9a-f]{1,32}$' - at `$.id`"),
        ("inject", {"frame": '{"ev":"T"}'}, "event 1, field sym: the symbol is missing"),
    ],
)
async def test_a_bad_command_is_refused_with_one_line_and_changes_nothing(
    redis: "Redis", asker: Asker, command: str, args: dict[str, Any], error: str
) -> None:
    rehearsal = Rehearsal()
    async with listening(redis, rehearsal):
        with pytest.raises(NotDone) as caught:
            await asker.ask(command, args)
    assert str(caught.value) == error
    assert rehearsal.speeds == []


async def test_a_live_feed_refuses_all_but_a_look(redis: "Redis", asker: Asker) -> None:
    async with listening(redis, None):
        assert await asker.ask("status") == {"mode": "live"}
        for command in ("enable", "disable", "scenario", "speed", "symbols", "replay", "stop", "inject"):
            with pytest.raises(NotDone, match="this ingest plays no test data"):
                await asker.ask(command, {"value": "1"})


async def test_an_ingest_that_may_have_lost_the_slot_does_not_answer(redis: "Redis", asker: Asker) -> None:
    rehearsal = Rehearsal()
    async with listening(redis, rehearsal, Slot(redis, NAMES)):
        with pytest.raises(NotDone, match="has not answered within"):
            await asker.ask("speed", {"value": "2"}, within_s=0.2)
    assert rehearsal.speeds == []


async def test_nobody_there_is_known_at_once(asker: Asker) -> None:
    with pytest.raises(NotDone, match="no ingest is running"):
        await asker.ask("status")


async def test_a_request_that_is_too_long_is_not_sent(redis: "Redis", asker: Asker) -> None:
    async with listening(redis, Rehearsal()):
        with pytest.raises(NotDone, match="more than 1048576"):
            await asker.ask("inject", {"frame": "x" * 1_100_000})


async def test_a_path_that_is_not_utf8_is_refused_before_it_is_sent(redis: "Redis", asker: Asker) -> None:
    async with listening(redis, Rehearsal()):
        with pytest.raises(NotDone, match="scenario: what was given is not UTF-8"):
            await asker.ask("scenario", {"value": "\udcff.toml"})


# The census.


async def test_clients_of_all_gateways_are_counted_each_once(redis: "Redis") -> None:
    demand = Demand(redis, NAMES)
    hubs = [Hub(NAMES), Hub(NAMES)]
    bus = redis.pubsub()
    await bus.subscribe(NAMES.census)
    censuses = []
    for number, hub in enumerate(hubs):
        await demand.join(f"g{number}")
        hub.set_ready(["T.AAPL", "T.MSFT", "Q.AAPL"])
        censuses.append(Census(redis, NAMES, hub, f"g{number}"))
    hubs[0].add("a", ["T.AAPL", "T.MSFT"])
    hubs[0].add("b", ["Q.AAPL"])
    hubs[1].add("c", ["T.MSFT"])
    hubs[1].add("d", ["T.TSLA"])

    async def carry() -> None:
        async for message in bus.listen():
            if message["type"] == "message":
                censuses[0].on_question(b"nonsense")
                for census in censuses:
                    census.on_question(message["data"])

    async with Tasks() as tasks:
        for census in censuses:
            tasks.start("census", census.run())
        tasks.start("carry", carry())
        assert await count_clients(redis, NAMES, ["T.AAPL", "T.MSFT"]) == (2, 0)
        assert await count_clients(redis, NAMES, ["T.TSLA"]) == (0, 0), "it is not ready, so nothing arrives"
        await demand.join("g2")
        assert await count_clients(redis, NAMES, ["Q.AAPL"]) == (1, 1)
    await bus.aclose()  # type: ignore[no-untyped-call]


async def test_an_answer_of_no_living_gateway_does_not_count(redis: "Redis") -> None:
    bus = redis.pubsub()
    await bus.subscribe(NAMES.census)
    await Demand(redis, NAMES).join("g0")

    async def forge() -> None:
        async for message in bus.listen():
            if message["type"] == "message":
                question = message["data"].split(b'"')[3].decode()
                await redis.rpush(NAMES.get_census_reply(question), "nonsense")
                for gateway, clients in (("stranger", 100), ("g0", 3), ("g0", 3)):
                    await answer(redis, NAMES, question, Answer(gateway, clients))

    async with Tasks() as tasks:
        tasks.start("forge", forge())
        assert await count_clients(redis, NAMES, ["T.AAPL"]) == (3, 0)
    await bus.aclose()  # type: ignore[no-untyped-call]


def test_a_census_counts_who_holds_the_wildcard_too() -> None:
    hub = Hub(NAMES)
    hub.seal(Mark(1, 0, 0, 0, frozenset(["T"])))
    hub.set_ready(["T.*", "T.AAPL", "Q.*"])
    hub.add("a", ["T.*", "T.AAPL"])
    hub.add("b", ["T.AAPL"])
    hub.add("c", ["Q.*"])
    assert hub.count_members(["T.AAPL", "T.MSFT"]) == 2
    assert hub.count_members(["T.MSFT"]) == 1
