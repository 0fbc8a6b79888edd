"""Histories that once lost or doubled, kept: who gives up, asks again, or comes back while it is still caught up."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from tests.property.visit import EXACT, Lanes, Visit

Step = Callable[[Visit], Awaitable[None]]


def sub(*channels: str) -> Step:
    """The client subscribes."""
    return lambda visit: visit.say("subscribe", channels)


def unsub(*channels: str) -> Step:
    """The client unsubscribes."""
    return lambda visit: visit.say("unsubscribe", channels)


def back(away: int) -> Step:
    """The connection ends, and so many batches later the client is there again."""
    return lambda visit: visit.come_back(away)


def run(turns: int) -> Step:
    """What waits for nothing goes on."""
    return lambda visit: visit.let_run(turns)


async def log(visit: Visit) -> None:
    """Ingest logs a batch."""
    visit.log(EXACT)


async def take_in(visit: Visit) -> None:
    """The gateway gets it."""
    visit.take_in()


async def take_up(visit: Visit) -> None:
    """The interest goes a round."""
    visit.take_up()


async def go_on(visit: Visit) -> None:
    """A round of everything."""
    visit.take_up()
    visit.log(EXACT)
    visit.take_in()
    await visit.let_run(12)


HISTORIES: Final[dict[str, tuple[Lanes, int, list[Step]]]] = {
    "what came live goes on in the lane of its wildcard": (
        [(1, ("T.*",))],
        3,
        [sub("T.A"), *[go_on] * 3, unsub("T.A"), take_up, sub("T.A"), sub("T.*"), *[log, take_in] * 2, back(1)],
    ),
    "what is asked for under a wildcard that has got further": (
        [(1, ("*",))],
        3,
        [sub("Q.*", "T.A", "T.B"), run(8), unsub("Q.*"), sub("*", "Q.A"), back(0)],
    ),
    "what had got further once is no further now": (
        [(3, ("T.A",)), (1, ("T.*", "Q.*"))],
        4,
        [sub("T.*", "Q.*"), run(3), unsub("T.*"), back(0), sub("T.A")],
    ),
    "what was given up does not begin again with its wildcard": (
        [(1, ("T.*",))],
        5,
        [sub("T.A"), run(1), unsub("T.A"), back(2), sub("T.A")],
    ),
    "what its wildcard brought is live without it": (
        [(3, ("T.A",)), (1, ("T.*",))],
        6,
        [sub("T.*"), sub("T.A", "T.B"), log, unsub("T.A", "T.*"), take_up, take_in, back(3)],
    ),
    "what is given up before it has come is told": (
        [(1, ("T.A", "T.*"))],
        3,
        [sub("T.A"), unsub("T.A"), sub("T.*")],
    ),
    "what comes with a wildcard that is late has got no further than that": (
        [(1, ("*",))],
        3,
        [sub("T.B", "Q.A", "T.*"), sub("T.A"), sub("*"), back(0)],
    ),
}


@pytest.mark.parametrize(("lanes", "away", "steps"), HISTORIES.values(), ids=HISTORIES)
def test_each_event_once_or_told(runner: asyncio.Runner, lanes: Lanes, away: int, steps: list[Step]) -> None:
    async def live() -> None:
        visit = Visit(lanes, away)
        for step in steps:
            await step(visit)
        await visit.finish()
        visit.check()

    runner.run(live())
