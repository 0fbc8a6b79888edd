"""The door between sessions and upstream: who is told what of the channels asked for, and when."""

import asyncio

import pytest

import gateway.server
from gateway.server import ACK_WITHIN_S
from shared.channels import EVENT_TYPES
from tests.unit.gateway.house import House

REFUSAL = "not authorized"
WILDCARDS = [f"{event_type}.*" for event_type in EVENT_TYPES["stocks"]]


@pytest.fixture
async def house() -> House:
    return House()


# Acks.


async def test_an_ack_comes_at_once_for_what_upstream_holds_and_this_gateway_gets(house: House) -> None:
    house.get_ready("T.AAPL")
    house.hear("T.AAPL")
    visitor = await house.visit()
    assert await visitor.subscribe("T.AAPL") == ["success: subscribed to: T.AAPL"]
    assert house.clock.timers == []


async def test_an_ack_waits_for_upstream_and_for_the_bus_whichever_comes_last(house: House) -> None:
    visitor = await house.visit("T.AAPL,T.MSFT")
    house.hear("T.AAPL")
    house.get_ready("T.MSFT")
    assert visitor.take() == []
    house.get_ready("T.AAPL")
    assert visitor.take() == ["success: subscribed to: T.AAPL"]
    house.hear("T.MSFT")
    assert visitor.take() == ["success: subscribed to: T.MSFT"]
    house.get_ready("T.AAPL", "T.MSFT")
    house.hear("T.AAPL", "T.MSFT")
    assert visitor.take() == []


async def test_acks_that_come_due_together_keep_the_order_of_the_asking_in_one_frame(house: House) -> None:
    visitor = await house.visit("T.MSFT,Q.AAPL,T.AAPL")
    house.get_ready("T.AAPL", "T.MSFT", "Q.AAPL")
    house.hear("T.AAPL", "Q.AAPL", "T.MSFT")
    assert len(visitor.line.frames) == 1
    assert visitor.take() == [f"success: subscribed to: {channel}" for channel in ("T.MSFT", "Q.AAPL", "T.AAPL")]


async def test_a_wildcard_is_acked_when_ingest_publishes_it_and_upstream_holds_it(house: House) -> None:
    visitor = await house.visit("T.*")
    house.get_ready("T.*")
    house.hear("T.*")
    assert visitor.take() == []
    house.mark("T")
    assert visitor.take() == ["success: subscribed to: T.*"]


async def test_only_who_asked_is_acked(house: House) -> None:
    asker, bystander = await house.visit("T.AAPL"), await house.visit("Q.AAPL")
    house.get_ready("T.AAPL", "Q.AAPL")
    house.hear("T.AAPL")
    assert asker.take() == ["success: subscribed to: T.AAPL"]
    assert bystander.take() == []


# Refusals.


async def test_a_refusal_reaches_exactly_those_that_hold_the_channel(house: House) -> None:
    first, second = await house.visit("NOI.*,T.AAPL"), await house.visit("NOI.*")
    wildcard, single, changed = await house.visit("T.*"), await house.visit("NOI.AAPL"), await house.visit("NOI.*")
    await changed.unsubscribe("NOI.*")
    gone = await house.visit("NOI.*")
    house.leave(gone)
    house.hear(refused={"NOI.*": REFUSAL})
    assert first.take() == second.take() == ["error: not authorized: NOI.*"]
    assert [visitor.take() for visitor in (wildcard, single, changed, gone)] == [[], [], [], []]


async def test_a_refusal_names_the_channel_as_each_client_wrote_it() -> None:
    house = House("forex")
    spellings = ["C.EUR-USD", "C.EUR/USD", "C.C:EUR-USD"]
    visitors = [await house.visit(spelling) for spelling in spellings]
    house.hear(refused={"C.EUR/USD": REFUSAL})
    assert [visitor.take() for visitor in visitors] == [
        [f"error: not authorized: {spelling}"] for spelling in spellings
    ]


async def test_a_refusal_carries_upstreams_own_words(house: House) -> None:
    limit = "Subscription limit reached for feed. Please remove some subscriptions and try again."
    visitor = await house.visit("T.AAPL,T.MSFT")
    house.hear(refused={"T.AAPL": limit, "T.MSFT": REFUSAL})
    assert sorted(visitor.take()) == [f"error: {limit}: T.AAPL", "error: not authorized: T.MSFT"]


async def test_a_refusal_is_told_once_however_many_notices_follow(house: House) -> None:
    visitor = await house.visit("NOI.*,T.AAPL")
    house.get_ready("NOI.*", "T.AAPL")
    house.hear(refused={"NOI.*": REFUSAL})
    assert visitor.take() == ["error: not authorized: NOI.*"]
    house.hear("T.AAPL", refused={"NOI.*": REFUSAL})
    house.hear("T.MSFT", refused={"NOI.*": REFUSAL, "LULD.*": REFUSAL})
    house.let_time_pass()
    assert visitor.take() == ["success: subscribed to: T.AAPL"]


async def test_what_is_known_to_be_refused_is_refused_at_once_and_never_acked_late(house: House) -> None:
    house.hear(refused={"NOI.*": REFUSAL})
    visitor = await house.visit()
    assert await visitor.subscribe("NOI.*") == ["error: not authorized: NOI.*"]
    assert house.clock.timers == []


async def test_who_asks_again_is_told_again_and_nobody_else(house: House) -> None:
    asker, patient = await house.visit("NOI.*"), await house.visit("NOI.*")
    house.hear(refused={"NOI.*": REFUSAL})
    assert asker.take() == patient.take() == ["error: not authorized: NOI.*"]
    for _ in range(3):
        assert await asker.subscribe("NOI.*") == ["error: not authorized: NOI.*"]
    assert patient.take() == []
    assert house.edges.wanted == ["NOI.*"]


async def test_a_channel_that_upstream_takes_after_all_is_acked_to_all_that_hold_it(house: House) -> None:
    first, second = await house.visit("NOI.AAPL"), await house.visit("NOI.AAPL")
    house.get_ready("NOI.AAPL")
    house.hear(refused={"NOI.AAPL": REFUSAL})
    assert first.take() == second.take() == ["error: not authorized: NOI.AAPL"]
    house.hear()
    assert first.take() == second.take() == [], "asked for again, but not answered"
    house.hear("NOI.AAPL")
    assert first.take() == second.take() == ["success: subscribed to: NOI.AAPL"]
    house.hear(removed=["NOI.AAPL"], refused={"NOI.AAPL": REFUSAL})
    assert first.take() == second.take() == ["error: not authorized: NOI.AAPL"]


async def test_a_refused_channel_is_given_up_in_silence_and_so_is_the_interest_in_it(house: House) -> None:
    visitor = await house.visit("NOI.*")
    house.hear(refused={"NOI.*": REFUSAL})
    visitor.take()
    assert await visitor.unsubscribe("NOI.*") == []
    assert house.edges.unwanted == ["NOI.*"]
    house.hear("NOI.*")
    house.hear(refused={"NOI.*": REFUSAL})
    assert visitor.take() == []


async def test_of_a_star_the_refused_parts_are_named_behind_its_ack(house: House) -> None:
    star, part, bystander = await house.visit("*"), await house.visit("NOI.*"), await house.visit("T.AAPL")
    house.get_ready("*", "NOI.*")
    house.mark(*EVENT_TYPES["stocks"])
    house.hear(*WILDCARDS[:3], refused={"NOI.*": REFUSAL})
    assert star.take() == []
    assert part.take() == ["error: not authorized: NOI.*"]
    house.hear(*(wildcard for wildcard in WILDCARDS if wildcard != "NOI.*"), refused={"NOI.*": REFUSAL})
    assert star.take() == ["success: subscribed to: *", "error: not authorized: NOI.*"]
    house.hear("T.AAPL", refused={"NOI.*": REFUSAL})
    assert star.take() == part.take() == bystander.take() == []


# Silence.


async def test_an_ack_comes_after_ack_within_s_when_upstream_is_silent(house: House) -> None:
    visitor = await house.visit("T.AAPL,C.AAPL, Q.AAPL")
    assert visitor.take() == []
    assert [timer.delay_s for timer in house.clock.timers] == [ACK_WITHIN_S]
    house.let_time_pass()
    assert visitor.take() == ["success: subscribed to: T.AAPL", "success: subscribed to: Q.AAPL"]
    house.get_ready("T.AAPL", "Q.AAPL")
    house.hear("T.AAPL", "Q.AAPL")
    assert visitor.take() == []


async def test_a_late_ack_is_only_for_what_is_still_owed(house: House) -> None:
    visitor = await house.visit("T.AAPL,NOI.*,T.MSFT,T.TSLA")
    house.get_ready("T.AAPL")
    house.hear("T.AAPL", refused={"NOI.*": REFUSAL})
    assert visitor.take() == ["success: subscribed to: T.AAPL", "error: not authorized: NOI.*"]
    assert await visitor.unsubscribe("T.MSFT") == [
        "success: subscribed to: T.MSFT",
        "success: unsubscribed to: T.MSFT",
    ]
    house.let_time_pass()
    assert visitor.take() == ["success: subscribed to: T.TSLA"]


async def test_each_asking_has_a_time_of_its_own(house: House) -> None:
    visitor = await house.visit("T.AAPL")
    await visitor.subscribe("T.MSFT")
    first, second = house.clock.timers
    first.call()
    assert visitor.take() == ["success: subscribed to: T.AAPL"]
    second.call()
    assert visitor.take() == ["success: subscribed to: T.MSFT"]


async def test_a_refusal_after_a_late_ack_is_told(house: House) -> None:
    visitor = await house.visit("NOI.*")
    house.let_time_pass()
    assert visitor.take() == ["success: subscribed to: NOI.*"]
    house.hear(refused={"NOI.*": REFUSAL})
    assert visitor.take() == ["error: not authorized: NOI.*"]


async def test_a_client_that_left_before_its_ack_is_sent_nothing(house: House) -> None:
    visitor = await house.visit("T.AAPL")
    house.leave(visitor)
    house.get_ready("T.AAPL")
    house.hear("T.AAPL")
    house.let_time_pass()
    assert visitor.take() == []
    assert house.edges.unwanted == ["T.AAPL"]


async def test_the_loops_own_clock_brings_the_late_ack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.server, "ACK_WITHIN_S", 0.05)
    house = House()
    house.door._loop = asyncio.get_running_loop()
    visitor = await house.visit("T.AAPL")
    async with asyncio.timeout(5):
        while not (statuses := visitor.take()):
            await asyncio.sleep(0.005)
    assert statuses == ["success: subscribed to: T.AAPL"]


# What leaves the gateway, and what is counted.


async def test_only_the_first_and_the_last_client_of_a_channel_are_edges(house: House) -> None:
    first, second = await house.visit("T.AAPL,NOI.*"), await house.visit("NOI.*,T.AAPL")
    house.hear(refused={"NOI.*": REFUSAL})
    assert house.edges.wanted == ["T.AAPL", "NOI.*"]
    await first.unsubscribe("T.AAPL,NOI.*")
    assert house.edges.unwanted == []
    await second.unsubscribe("T.AAPL,NOI.*")
    assert house.edges.unwanted == ["T.AAPL", "NOI.*"]


async def test_unknown_topics_are_silent_and_counted_and_bad_messages_are_told_and_counted(house: House) -> None:
    visitor = await house.visit()
    assert await visitor.subscribe("ZZ.AAPL,YY.*") == []
    assert (house.door.unknown_topics, house.door.bad_messages) == (2, 0)
    assert house.clock.timers == []
    (status,) = await visitor.subscribe("T.A*")
    assert status.startswith("error: not a symbol")
    assert (house.door.unknown_topics, house.door.bad_messages) == (2, 1)
    assert house.edges.wanted == []
