"""Who is behind: what operators are told about slow clients."""

import json

from gateway.groups import encode_frame
from gateway.server import SLOWEST
from tests.unit.gateway.house import House, Visitor


def stall(visitor: Visitor, quotes: int) -> None:
    """The client reads nothing while so many quotes of one channel come; house.py gives it a limit of 1000 events."""
    visitor.client.outbox.pause()
    for number in range(quotes):
        visitor.client.outbox.send(encode_frame([json.dumps({"ev": "Q", "sym": "A", "q": number}).encode()]))


async def test_clients_that_never_were_behind_are_not_listed() -> None:
    house = House()
    await house.visit()
    behind = await house.visit()
    stall(behind, 3)
    [slow] = house.door.find_slowest()
    assert slow.queued == 3 and slow.conflated == 0
    assert (house.door.conflating_clients, house.door.conflated_events) == (0, 0)


async def test_the_worst_come_first_and_no_more_than_ten() -> None:
    house = House()
    for number in range(SLOWEST + 5):
        visitor = await house.visit()
        stall(visitor, number + 1)
        visitor.client.outbox._clock = lambda: 10e9  # all wait for the same time, or a little less
    slowest = house.door.find_slowest()
    assert len(slowest) == SLOWEST
    assert slowest == sorted(slowest, key=lambda slow: slow[1:], reverse=True)


async def test_what_a_client_did_not_get_stays_counted_once_it_has_caught_up() -> None:
    house = House()
    visitor = await house.visit()
    stall(visitor, 400)
    assert house.door.conflating_clients == 1
    visitor.client.outbox.resume()
    left_out = house.door.conflated_events
    assert house.door.conflating_clients == 0 and left_out > 300
    [slow] = house.door.find_slowest()
    assert (slow.lag_ms, slow.queued, slow.conflated) == (0, 0, left_out)
