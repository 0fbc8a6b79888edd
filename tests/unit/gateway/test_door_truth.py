"""What clients are told of refusals and wildcards, in the cases that were once told wrongly."""

from shared.channels import EVENT_TYPES
from tests.unit.gateway.house import House

REFUSAL = "not authorized"
WILDCARDS = [f"{event_type}.*" for event_type in EVENT_TYPES["stocks"]]


async def test_a_refused_single_that_comes_with_its_wildcard_is_acked_and_that_is_that() -> None:
    """T.AAPL was refused (a limit, say), then T.* is taken: is_held() and find_refusals() are both true, so *every*
    on_change (each notice, each move, each on_ready) sends an ack and two errors for T.AAPL to each of its clients."""
    house = House()
    single, wild = await house.visit("T.AAPL"), await house.visit("T.*")
    house.get_ready("T.AAPL", "T.*")
    house.mark("T")
    house.hear(refused={"T.AAPL": REFUSAL})
    assert single.take() == ["error: not authorized: T.AAPL"]
    house.hear("T.*", refused={"T.AAPL": REFUSAL})
    assert wild.take() == ["success: subscribed to: T.*"]
    assert single.take() == ["success: subscribed to: T.AAPL"]
    house.hear("Q.AAPL", refused={"T.AAPL": REFUSAL})
    assert single.take() == []


async def test_a_star_acked_late_is_told_what_is_refused_of_it() -> None:
    """Ingest needs CONFIRM_S (2 s) + <= 0.25 s for a silent part and ACK_WITHIN_S is 2 s: as soon as one topic of the
    feed is silent, or doubt is cleared up one by one, `*` is acked late, and its refused parts are never named."""
    house = House()
    star = await house.visit("*")
    house.get_ready("*")
    house.mark(*EVENT_TYPES["stocks"])
    house.let_time_pass()
    assert star.take() == ["success: subscribed to: *"]
    house.hear(*(wildcard for wildcard in WILDCARDS if wildcard != "NOI.*"), refused={"NOI.*": REFUSAL})
    assert star.take() == ["error: not authorized: NOI.*"]


async def test_a_star_of_which_every_part_is_refused_is_not_acked() -> None:
    house = House()
    star = await house.visit("*")
    house.get_ready("*")
    house.mark(*EVENT_TYPES["stocks"])
    house.hear(refused=dict.fromkeys(WILDCARDS, REFUSAL))
    house.let_time_pass()
    statuses = star.take()
    assert any(status.startswith("error: not authorized") for status in statuses)
    assert "success: subscribed to: *" not in statuses


async def test_the_timer_of_an_asking_that_was_withdrawn_does_not_ack_the_next_one() -> None:
    """subscribe, unsubscribe, subscribe within 2 s: the first timer acks the second asking early (here at once)."""
    house = House()
    visitor = await house.visit("T.AAPL")
    await visitor.unsubscribe("T.AAPL")
    await visitor.subscribe("T.AAPL")
    first, _ = house.clock.timers
    first.call()
    assert visitor.take() == []


async def test_a_wildcard_that_waits_for_a_replay_is_acked_when_its_events_come_however_long_that_takes() -> None:
    house = House()
    visitor = await house.visit("T.AAPL")
    house.hold_off(visitor, "T.AAPL")
    house.get_ready("T.AAPL")
    house.hear("T.AAPL")
    assert visitor.take() == ["success: subscribed to: T.AAPL"]
    await visitor.subscribe("T.*")
    house.get_ready("T.*")
    house.mark("T")
    house.hear("T.*")
    for _ in range(3):
        house.let_time_pass()
    assert visitor.take() == []
    house.let_in(visitor, "T.AAPL")
    assert visitor.take() == ["success: subscribed to: T.*"], "at once: in a quiet market nothing else comes"
