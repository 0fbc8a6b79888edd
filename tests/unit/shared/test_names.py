"""Names in Redis, as operators see them (DESIGN 2)."""

import pytest

from shared.names import Names


@pytest.mark.parametrize(
    ("feed", "channel", "bus_channel"),
    [
        ("stocks", "T.AAPL", "T.AAPL"),
        ("stocks", "T.BRK.A", "T.BRK.A"),
        ("stocks", "T.*", "polygon:{stocks}:all:T"),
        ("options", "T.O:SPY241220P00720000", "options:T.O:SPY241220P00720000"),
        ("options", "T.*", "polygon:{options}:all:T"),
        ("forex", "C.EUR/USD", "forex:C.EUR/USD"),
    ],
)
def test_each_channel_has_its_place_on_the_bus(feed: str, channel: str, bus_channel: str) -> None:
    assert Names(feed).get_bus_channel(channel) == bus_channel


def test_the_keys_are_those_of_the_schema() -> None:
    names = Names("stocks")
    assert names.refcount == "polygon:{stocks}:refcount"
    assert names.mark == "polygon:{stocks}:mark"
    assert names.log == "polygon:{stocks}:log"
    assert names.upstream == "polygon:{stocks}:upstream"
    assert names.get_lease("g1") == "polygon:{stocks}:gateway:g1"
    assert names.get_gateway_channels("g1") == "polygon:{stocks}:gateway:g1:channels"


def test_all_keys_of_one_script_lie_in_one_cluster_slot() -> None:
    names = Names("crypto")
    keys = [names.refcount, names.gateways, names.get_lease("x"), names.get_gateway_channels("x")]
    assert {key[key.index("{") : key.index("}") + 1] for key in keys} == {"{crypto}"}
