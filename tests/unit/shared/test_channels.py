"""Channels: which texts name one, under which name, and which of them cover which."""

import pytest

from shared.channels import (
    ALL,
    EVENT_TYPES,
    MAX_CHANNEL_LENGTH,
    BadChannel,
    UnknownTopic,
    find_cover,
    get_event_type,
    is_covered,
    is_wildcard,
    make_channel,
    parse_channel,
)


@pytest.mark.parametrize(
    ("feed", "text", "channel"),
    [
        ("stocks", "T.AAPL", "T.AAPL"),
        ("stocks", "T.BRK.A", "T.BRK.A"),
        ("stocks", "AM.BACpL", "AM.BACpL"),
        ("stocks", "T.aapl", "T.aapl"),
        ("stocks", "LULD.MSFT", "LULD.MSFT"),
        ("stocks", "T.*", "T.*"),
        ("stocks", "*", "*"),
        ("options", "Q.O:SPY241220P00720000", "Q.O:SPY241220P00720000"),
        ("indices", "V.I:SPX", "V.I:SPX"),
        ("futures", "T.ESZ4", "T.ESZ4"),
        ("crypto", "XT.BTC-USD", "XT.BTC-USD"),
        ("crypto", "AM.X:BTC-USD", "AM.X:BTC-USD"),
        ("forex", "C.EUR/USD", "C.EUR/USD"),
        ("forex", "C.EUR-USD", "C.EUR/USD"),
        ("forex", "C.C:EUR-USD", "C.EUR/USD"),
        ("forex", "CA.EUR-USD", "CA.EUR/USD"),
        ("forex", "CAS.EUR-USD", "CAS.EUR/USD"),
        ("forex", "C.*", "C.*"),
        ("forex", "FMV.C:EURUSD", "FMV.C:EURUSD"),
        ("forex", "AM.C:USD-EUR", "AM.C:USD-EUR"),
    ],
)
def test_a_text_names_its_canonical_channel(feed: str, text: str, channel: str) -> None:
    assert parse_channel(feed, text) == channel
    if channel != ALL:
        assert get_event_type(channel) == text.split(".")[0]


@pytest.mark.parametrize(
    "text",
    ["", "T", "TAAPL", ".AAPL", "T.", ".", "..", "T.AAPL*", "T.A*", "T.**", "T.?", "T.[AB]", "T.A\\B", "**", "*."]
    + ["T.A B", "T.A\tB", "T.A\nB", "T.A\rB", "T.A\x00", "T.\x7f", "T.A,B", 'T."A"', "T.'A'", "T.`A`", "T.é"]
    + ["T." + "A" * MAX_CHANNEL_LENGTH, "X" * 100_000, "T." + "A" * 1_000_000],
)
def test_what_is_no_channel_is_refused_with_a_short_printable_sentence(text: str) -> None:
    with pytest.raises(BadChannel) as caught:
        parse_channel("stocks", text)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["C.C:", "CA.C:"])
def test_a_forex_prefix_without_a_pair_is_no_channel(text: str) -> None:
    with pytest.raises(BadChannel):
        parse_channel("forex", text)


@pytest.mark.parametrize(
    ("feed", "text"),
    [("stocks", text) for text in ("ZZ.AAPL", "*.AAPL", "t.AAPL", "C.EUR/USD", "ZZ.*", "status.X")]
    + [("crypto", "T.X")],
)
def test_a_topic_of_no_or_another_feed_is_unknown(feed: str, text: str) -> None:
    with pytest.raises(UnknownTopic):
        parse_channel(feed, text)


def test_the_longest_channel_is_accepted() -> None:
    text = "T." + "A" * (MAX_CHANNEL_LENGTH - 2)
    assert parse_channel("stocks", text) == text


@pytest.mark.parametrize(
    ("event_type", "symbol", "channel"),
    [("C", "EUR/USD", "C.EUR/USD"), ("C", "EUR-USD", "C.EUR/USD"), ("CA", "USD/EUR", "CA.USD/EUR")]
    + [("LV", "C:EURUSD", "LV.C:EURUSD")],
)
def test_an_event_and_a_subscription_of_one_forex_pair_meet_in_one_channel(
    event_type: str, symbol: str, channel: str
) -> None:
    assert make_channel("forex", event_type, symbol) == channel == parse_channel("forex", channel)


@pytest.mark.parametrize(
    ("held", "cover"),
    [
        ([], []),
        (["T.AAPL"], ["T.AAPL"]),
        (["T.AAPL", "Q.AAPL"], ["T.AAPL", "Q.AAPL"]),
        (["T.AAPL", "T.*"], ["T.*"]),
        (["T.AAPL", "T.BRK.A", "T.*", "Q.AAPL"], ["T.*", "Q.AAPL"]),
        (["A.AAPL", "AM.*"], ["A.AAPL", "AM.*"]),
        (["*"], [f"{event_type}.*" for event_type in EVENT_TYPES["stocks"]]),
        (["*", "T.*", "Q.AAPL"], [f"{event_type}.*" for event_type in EVENT_TYPES["stocks"]]),
    ],
)
def test_the_cover_is_the_least_set_with_the_same_events(held: list[str], cover: list[str]) -> None:
    before = list(held)
    assert find_cover("stocks", held) == frozenset(cover)
    assert find_cover("stocks", find_cover("stocks", held)) == frozenset(cover)
    assert held == before


@pytest.mark.parametrize(
    ("channel", "held", "covered"),
    [
        ("T.AAPL", ["T.AAPL"], True),
        ("T.AAPL", ["T.*"], True),
        ("T.BRK.A", ["T.*"], True),
        ("T.*", ["T.*"], True),
        ("T.*", ["T.AAPL"], False),
        ("A.AAPL", ["AM.*"], False),
        ("AM.AAPL", ["A.*"], False),
        ("T.AAPL", ["Q.AAPL", "T.MSFT"], False),
        ("T.AAPL", [], False),
    ],
)
def test_a_channel_is_covered_by_itself_or_its_wildcard(channel: str, held: list[str], covered: bool) -> None:
    assert is_covered(channel, held) is covered
    assert is_covered(channel, set(held)) is covered


@pytest.mark.parametrize(("channel", "wild"), [("T.*", True), ("T.AAPL", False), ("*", False), ("T.BRK.A", False)])
def test_only_a_whole_event_type_is_a_wildcard(channel: str, wild: bool) -> None:
    assert is_wildcard(channel) is wild


@pytest.mark.parametrize("feed", sorted(EVENT_TYPES))
def test_every_event_type_of_a_feed_can_be_held_whole(feed: str) -> None:
    for event_type in EVENT_TYPES[feed]:
        assert parse_channel(feed, f"{event_type}.*") == f"{event_type}.*"
