"""REST's results as the feed's events: every field, in the feed's order and spelling, and nothing made up."""

import importlib
import json
import logging
from typing import Any

import msgspec
import pytest

from ingest.history import BAR_DELAY_MS, Found, get_request, identify, map_results

TRADE = (
    b'{"conditions":[12, 41],"correction":0,"decimal_size":"100.0","exchange":11,"id":"52983527388738",'
    b'"participant_timestamp":1517562000015577000,"price":4.522e-05,"sequence_number":1063,'
    b'"sip_timestamp":1517562000016036699,"size":100,"tape":3,"trf_id":202,"trf_timestamp":1517562000016999999}'
)
QUOTE = (
    b'{"ask_exchange":7,"ask_price":114.1280,"ask_size":160,"bid_exchange":4,"bid_price":114.125,"bid_size":100,'
    b'"conditions":[1,80],"indicators":[604],"participant_timestamp":1517562000065321200,"sequence_number":50385480,'
    b'"sip_timestamp":1517562000065700400,"tape":3}'
)
BAR = b'{"v":4989.0,"vw":78.0894,"o":78.1,"c":78.08,"h":78.125,"l":78.07,"t":1788877043000,"n":31,"otc":true}'
MAPPED = {
    "T.AAPL": b'{"ev":"T","sym":"AAPL","i":"52983527388738","x":11,"p":4.522e-05,"s":100,"ds":"100.0","c":[12,41],'
    b'"t":1517562000016,"pt":1517562000015,"q":1063,"z":3,"trfi":202,"trft":1517562000016}',
    "Q.AAPL": b'{"ev":"Q","sym":"AAPL","bx":4,"bp":114.125,"bs":100,"ax":7,"ap":114.1280,"as":160,"c":1,"i":[604],'
    b'"t":1517562000065,"q":50385480,"z":3}',
    "A.AAPL": b'{"ev":"A","sym":"AAPL","v":4989,"vw":78.0894,"o":78.1,"c":78.08,"h":78.125,"l":78.07,'
    b'"s":1788877043000,"e":1788877044000,"otc":true}',
    "AM.AAPL": b'{"ev":"AM","sym":"AAPL","v":4989,"vw":78.0894,"o":78.1,"c":78.08,"h":78.125,"l":78.07,'
    b'"s":1788877043000,"e":1788877103000,"otc":true}',
}
RESULTS = {"T.AAPL": TRADE, "Q.AAPL": QUOTE, "A.AAPL": BAR, "AM.AAPL": BAR}


def map_one(channel: str, result: bytes) -> Found:
    [found], unknown = map_results(channel, b"[" + result + b"]")
    assert unknown == 0
    return found


def map_event(channel: str, **fields: Any) -> dict[str, Any]:
    return dict(json.loads(map_one(channel, json.dumps(fields).encode()).event))


@pytest.mark.parametrize("channel", MAPPED)
def test_each_field_has_the_feeds_key_place_and_spelling(channel: str) -> None:
    assert map_one(channel, RESULTS[channel]).event == MAPPED[channel]


@pytest.mark.parametrize(
    ("channel", "fields", "event"),
    [
        ("T.BRK.A", {"sip_timestamp": 1_999_999}, {"ev": "T", "sym": "BRK.A", "t": 1}),
        ("Q.A", {"sip_timestamp": 2_000_000}, {"ev": "Q", "sym": "A", "t": 2}),
        ("A.A", {"t": 5000}, {"ev": "A", "sym": "A", "s": 5000, "e": 6000}),
    ],
)
def test_what_rest_leaves_out_stays_out(channel: str, fields: dict[str, int], event: dict[str, Any]) -> None:
    assert map_event(channel, **fields) == event


@pytest.mark.parametrize("nothing", [[], None])
def test_trade_without_conditions_has_no_c(nothing: object) -> None:
    assert "c" not in map_event("T.A", sip_timestamp=1, conditions=nothing)


@pytest.mark.parametrize("nothing", [[], None])
def test_quote_without_conditions_and_indicators_has_no_c_and_no_i(nothing: object) -> None:
    event = map_event("Q.A", sip_timestamp=1, conditions=nothing, indicators=nothing)
    assert event.keys() == {"ev", "sym", "t"}


def test_bar_that_is_not_otc_does_not_say_so() -> None:
    assert "otc" not in map_event("A.A", t=1000, otc=False)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"100", b"100"),
        (b"100.0", b"100"),
        (b"1.31704427e+08", b"131704427"),
        (b"0.5", b"0.5"),
        (b"1e99999", b"1e99999"),
    ],
)
def test_whole_volume_is_spelled_as_an_integer_and_any_other_is_kept(written: bytes, expected: bytes) -> None:
    assert b'"v":' + expected + b"," in map_one("A.A", b'{"v":' + written + b',"t":1000}').event


@pytest.mark.parametrize("price", [b"0.10", b"4.522e-05", b"12345678901234567890.125", b"1E2"])
def test_price_is_never_read_as_a_number(price: bytes) -> None:
    assert b'"p":' + price + b"," in map_one("T.A", b'{"price":' + price + b',"sip_timestamp":1000000}').event


def test_nanoseconds_do_not_pass_through_a_float() -> None:
    """As a float this is the millisecond after."""
    found = map_one("T.A", b'{"sip_timestamp":1517562000016999999}')
    assert found.at_ns == 1517562000016999999 and json.loads(found.event)["t"] == 1517562000016


@pytest.mark.parametrize(
    "result",
    [b"{}", b'{"sip_timestamp":"soon"}', b'{"sip_timestamp":1.5}', b'{"sip_timestamp":1e30}', b'{"sip_timestamp":[]}']
    + [b'{"sip_timestamp":1,"id":[1]}', b'{"sip_timestamp":1,"exchange":"NYSE","id":"1"}'],
)
def test_result_of_an_unknown_shape_is_counted_and_left_out(result: bytes) -> None:
    found, unknown = map_results("T.A", b'[{"sip_timestamp":7},' + result + b"]")
    assert ([one.at_ns for one in found], unknown) == ([7], 1)


@pytest.mark.parametrize("results", [b"{}", b"[1]", b"[", b""])
def test_what_is_no_list_of_results_is_an_error(results: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        map_results("T.A", results)


@pytest.mark.parametrize("channel", MAPPED)
def test_event_that_was_delivered_as_it_is_mapped_is_recognised(channel: str) -> None:
    found = map_one(channel, RESULTS[channel])
    [sighting] = identify(channel, b"[" + found.event + b"]")
    assert sighting.identity in found.identities
    assert sighting.at_ms == found.at_ns // 1_000_000


@pytest.mark.parametrize(
    "live",
    [
        b'{"ev":"T","sym":"AAPL","i":"52983527388738","x":11,"t":1517562000016,"q":1063}',  # the feed names no TRF
        b'{"ev":"T","sym":"AAPL","i":52983527388738,"x":11}',  # an id that is a number, as in 2019
        b'{"ev":"T","sym":"AAPL","x":11,"q":1063}',  # without an id
    ],
)
def test_trade_is_recognised_in_the_feeds_other_spellings(live: bytes) -> None:
    [sighting] = identify("T.AAPL", b"[" + live + b"]")
    assert sighting.identity in map_one("T.AAPL", TRADE).identities


@pytest.mark.parametrize(
    "live",
    [
        b'{"i":"52983527388738","x":12,"trfi":202,"q":1063}',  # another exchange
        b'{"i":"52983527388738","x":11,"trfi":201,"q":1063}',  # another TRF
        b'{"i":"5","x":11,"trfi":202,"q":1063}',  # another id
        b'{"q":1064}',
    ],
)
def test_another_trade_is_not_taken_for_it(live: bytes) -> None:
    [sighting] = identify("T.AAPL", b"[" + live + b"]")
    assert sighting.identity not in map_one("T.AAPL", TRADE).identities


@pytest.mark.parametrize(("t_ms", "is_same"), [(65, True), (66, True), (64, False), (67, False)])
def test_quote_is_recognised_whether_the_feed_cuts_or_rounds_its_time(t_ms: int, is_same: bool) -> None:
    live = b'[{"q":50385480,"t":1517562000000}]'.replace(b"000}", b"%03d}" % t_ms)
    [sighting] = identify("Q.AAPL", live)
    assert (sighting.identity in map_one("Q.AAPL", QUOTE).identities) == is_same


def test_events_of_other_channels_are_never_the_same() -> None:
    identities = [set(map_one(channel, result).identities) for channel, result in RESULTS.items()]
    identities.append(set(map_one("T.MSFT", TRADE).identities))
    assert sum(map(len, identities)) == len(set.union(*identities))


def test_event_type_without_a_history_has_no_identity() -> None:
    assert identify("LULD.AAPL", b'[{"ev":"LULD","T":"AAPL"}]') == []


@pytest.mark.parametrize(
    ("channel", "request_"),
    [
        ("T.AAPL", "/v3/trades/AAPL?timestamp.gte=9000000000&timestamp.lt=10000000000&order=asc&sort=timestamp"),
        ("Q.BRK.A", "/v3/quotes/BRK.A?timestamp.gte=9000000000&timestamp.lt=10000000000&order=asc&sort=timestamp"),
        ("A.AAPL", "/v2/aggs/ticker/AAPL/range/1/second/6000/6999?adjusted=false&sort=asc"),
        ("AM.AAPL", "/v2/aggs/ticker/AAPL/range/1/minute/-53000/-52001?adjusted=false&sort=asc"),
        ("T.A/B?c#d", "/v3/trades/A%2FB%3Fc%23d?timestamp.gte=9000000000&timestamp.lt=10000000000&order=asc"),
    ],
)
def test_request_is_for_what_the_feed_sent_in_the_span(channel: str, request_: str) -> None:
    assert get_request(channel, 9000, 10000).startswith(request_)


def test_bar_is_at_when_the_feed_sends_it() -> None:
    assert map_one("A.AAPL", BAR).at_ns == (1788877044000 + BAR_DELAY_MS) * 1_000_000


# In the feed's docs, not yet in the clients' models; they pass over keys that they do not know.
UNREAD = {"massive": {"pt"}, "polygon": {"pt", "ds"}}


@pytest.mark.parametrize("package", UNREAD)
@pytest.mark.parametrize("channel", MAPPED)
def test_official_client_reads_every_field(channel: str, package: str) -> None:
    models = importlib.import_module(f"{package}.websocket.models")
    event = json.loads(map_one(channel, RESULTS[channel]).event)

    def parse(fields: dict[str, Any]) -> dict[str, Any]:
        [message] = models.parse([fields], logging.getLogger(__name__), models.Market.Stocks)
        return dict(vars(message))

    unread = {
        key for key in event.keys() - {"ev"} if parse({k: v for k, v in event.items() if k != key}) == parse(event)
    }
    assert unread == UNREAD[package] & event.keys()
