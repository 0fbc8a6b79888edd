"""The listener without a bus: what it does when Redis does not answer."""

import asyncio
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

import gateway.listener
from gateway.hub import Hub
from gateway.listener import BusAway, Listener
from gateway.log import Log
from shared.batch import Mark
from shared.demand import LEASE_S
from shared.names import Names

NAMES = Names("stocks")


@pytest.fixture
async def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    monkeypatch.setattr(gateway.listener, "_CONFIRM_WITHIN_S", 0.02)
    return Listener("redis://nowhere", NAMES, Hub(NAMES), Log(Redis(), NAMES), {})


async def test_without_a_bus_listening_fails_in_time(listener: Listener) -> None:
    with pytest.raises(BusAway):
        await listener.listen(["T.AAPL"])


async def test_a_second_try_fails_in_the_same_way_as_the_first(listener: Listener) -> None:
    """The interest tries again every half second: anything but BusAway would end the gateway."""
    for _ in range(3):
        with pytest.raises(BusAway):
            await listener.listen(["T.AAPL", "T.MSFT"])


async def test_a_confirmation_after_a_failed_try_serves_the_next_one(listener: Listener) -> None:
    with pytest.raises(BusAway):
        await listener.listen(["T.AAPL"])
    task = asyncio.create_task(listener.listen(["T.AAPL"]))
    await asyncio.sleep(0)
    listener.on_confirmed(b"subscribe", b"T.AAPL")
    await task


async def test_what_was_never_confirmed_is_forgotten_when_nobody_listens_to_it(listener: Listener) -> None:
    with pytest.raises(BusAway):
        await listener.listen(["T.AAPL", "T.MSFT"])
    listener.unlisten(["T.AAPL"])
    assert listener._waiting.keys() == {b"T.MSFT"}


async def test_all_channels_must_be_confirmed(listener: Listener) -> None:
    task = asyncio.create_task(listener.listen(["T.AAPL", "T.MSFT"]))
    await asyncio.sleep(0)
    listener.on_confirmed(b"subscribe", b"T.AAPL")
    listener.on_confirmed(b"unsubscribe", b"T.MSFT")
    with pytest.raises(BusAway):
        await task


async def test_a_confirmation_nobody_waits_for_does_no_harm(listener: Listener) -> None:
    listener.on_confirmed(b"subscribe", b"T.AAPL")
    listener.on_confirmed(b"unsubscribe", b"T.AAPL")
    listener.unlisten(["T.AAPL"])


async def test_a_bus_is_away_from_the_beginning_until_it_is_heard_and_again_when_it_is_silent(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listener.find_trouble() == "no bus yet"
    listener.on_odd([b"pong", b""])
    assert listener.find_trouble() == ""
    monkeypatch.setattr(gateway.listener, "AWAY_S", -1.0)
    assert listener.find_trouble() == "no bus for 0 s"


@pytest.mark.parametrize(("stood_s", "is_behind"), [(0.0, False), (LEASE_S - 1.0, False), (LEASE_S + 1.0, True)])
async def test_after_a_standstill_what_has_piled_up_is_not_given_out_before_the_interest_lets_it(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, stood_s: float, is_behind: bool
) -> None:
    on_mark = listener.special[NAMES.mark.encode()]
    listener.hub.begin(Mark(7, 1, 1, 1, frozenset()))
    listener.catchup.may_go_on_to = lambda _mark: False
    now_s = asyncio.get_running_loop().time()
    monkeypatch.setattr(listener, "_loop", SimpleNamespace(time=lambda: now_s))
    listener._on_heard()
    now_s += stood_s
    on_mark(b"7-1 2 0 -")
    assert listener.catchup.is_behind == is_behind
