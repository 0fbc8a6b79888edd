"""Spellings (PROTOCOL b.1, c.1): one canonical channel inside, the client's own spelling in its acks."""

from typing import NamedTuple

import pytest

from gateway.session import Session, Step
from shared.protocol import error, subscribed, unsubscribed
from tests.unit.gateway.talk import make_session, say


class Row(NamedTuple):
    """What a client writes, and what it is inside: channel -> the spelling in acks; `unknown` topics are silent."""

    feed: str
    params: str
    channels: dict[str, str]
    unknown: int = 0


def same(*channels: str) -> dict[str, str]:
    return {channel: channel for channel in channels}


ROWS = [
    # The topic ends at the first dot.
    Row("stocks", "T.BRK.A", same("T.BRK.A")),
    Row("stocks", "AM.BRK.A,AM.BRK.B", same("AM.BRK.A", "AM.BRK.B")),
    Row("stocks", "LULD.BF.B,NOI.*", same("LULD.BF.B", "NOI.*")),
    # Real symbols use lower case; whether upstream folds it is unknown (PROTOCOL g), so these are two channels.
    Row("stocks", "T.BACpL,T.BACPL", same("T.BACpL", "T.BACPL")),
    Row("stocks", "T.aapl", same("T.aapl")),
    Row("stocks", "t.AAPL", {}, unknown=1),
    Row("stocks", "am.AAPL,Am.AAPL,AM.AAPL", same("AM.AAPL"), unknown=2),
    # Spaces after commas, repeats, empty items.
    Row("stocks", "T.AAPL, Q.MSFT, AM.F, A.SPY", same("T.AAPL", "Q.MSFT", "AM.F", "A.SPY")),
    Row("stocks", "\t T.AAPL \r\n,\nT.BRK.A", same("T.AAPL", "T.BRK.A")),
    Row("stocks", "T.AAPL,T.AAPL, T.AAPL", same("T.AAPL")),
    Row("stocks", ",T.AAPL,,Q.AAPL, ,", same("T.AAPL", "Q.AAPL")),
    Row("stocks", "", {}),
    Row("stocks", " ,, ", {}),
    # Wildcards, beside what they cover and beside each other.
    Row("stocks", "T.*, *,T.AAPL", same("T.*", "*", "T.AAPL")),
    # Topics of another feed, or of none.
    Row("stocks", "C.EUR/USD,XT.BTC-USD,V.I:SPX,ZZ.AAPL", {}, unknown=4),
    Row("options", "T.O:SPY241220P00720000", same("T.O:SPY241220P00720000")),
    Row("options", "Q.O:SPY241220P00720000, Q.O:SPY241220P00720000", same("Q.O:SPY241220P00720000")),
    Row("options", "FMV.O:A230616C00070000,AM.*", same("FMV.O:A230616C00070000", "AM.*")),
    Row("options", "LULD.O:SPY241220P00720000", {}, unknown=1),
    # Forex: `-` and `/` are one pair, and so is the prefix of older docs; events say `EUR/USD`.
    Row("forex", "C.EUR/USD", same("C.EUR/USD")),
    Row("forex", "C.EUR-USD", {"C.EUR/USD": "C.EUR-USD"}),
    Row("forex", "C.C:EUR-USD", {"C.EUR/USD": "C.C:EUR-USD"}),
    Row("forex", "C.C:EUR/USD, CA.EUR-USD", {"C.EUR/USD": "C.C:EUR/USD", "CA.EUR/USD": "CA.EUR-USD"}),
    Row("forex", "C.EUR-USD,C.EUR/USD,C.C:EUR-USD", {"C.EUR/USD": "C.EUR-USD"}),
    Row("forex", "CAS.USD-CNH,C.*", {"CAS.USD/CNH": "CAS.USD-CNH", "C.*": "C.*"}),
    # The topics that write their pairs otherwise keep them: the dash and the prefix are part of their symbols.
    Row("forex", "AM.C:USD-EUR,LV.C:EURUSD,FMV.C:EURUSD", same("AM.C:USD-EUR", "LV.C:EURUSD", "FMV.C:EURUSD")),
    Row("crypto", "XT.BTC-USD,XQ.BTC-USD", same("XT.BTC-USD", "XQ.BTC-USD")),
    Row("crypto", "AM.X:BTC-USD, LV.X:BTC-USD", same("AM.X:BTC-USD", "LV.X:BTC-USD")),
    Row("crypto", "XA.BTC-USD,XAS.BTC-USD,XT.*", same("XA.BTC-USD", "XAS.BTC-USD", "XT.*")),
    Row("crypto", "T.BTC-USD", {}, unknown=1),
    Row("indices", "V.I:SPX,A.I:SPX, AM.I:NDX", same("V.I:SPX", "A.I:SPX", "AM.I:NDX")),
    Row("indices", "V.*,v.I:SPX", same("V.*"), unknown=1),
]


def get_channels(session: Session) -> tuple[dict[str, str], list[str], set[str]]:
    """All that the session knows of the client's channels."""
    return dict(session.spellings), list(session.owed), set(session.refused)


def name(row: Row) -> str:
    return f"{row.feed}-{row.params!r}"


def subscribe(row: Row) -> tuple[Session, Step]:
    session = make_session(feed=row.feed)
    return session, say(session, "subscribe", row.params)


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_each_channel_has_one_name_inside(row: Row) -> None:
    session, step = subscribe(row)
    assert step == Step(add=tuple(row.channels), unknown_topics=row.unknown)
    assert get_channels(session) == (row.channels, list(row.channels), set())
    assert session.bad_messages == 0


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_acks_come_once_each_in_the_clients_spelling_and_order(row: Row) -> None:
    session, step = subscribe(row)
    assert session.acknowledge(step.add) == [subscribed(text) for text in row.channels.values()]
    assert session.acknowledge(step.add) == []


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_a_refusal_names_the_channel_in_the_clients_spelling(row: Row) -> None:
    session, _ = subscribe(row)
    for channel, text in row.channels.items():
        assert session.refuse(channel, "not authorized") == error(f"not authorized: {text}")


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_a_repeat_in_whatever_spelling_is_silent_and_the_first_spelling_stays(row: Row) -> None:
    session, step = subscribe(row)
    session.acknowledge(step.add)
    for params in (row.params, ",".join(row.channels)):
        assert say(session, "subscribe", params)._replace(unknown_topics=0) == Step()
    assert get_channels(session) == (row.channels, [], set())


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_an_unsubscribe_in_the_same_words_ends_it_all_and_acks_each_once(row: Row) -> None:
    session, step = subscribe(row)
    session.acknowledge(step.add)
    gone = say(session, "unsubscribe", row.params)
    assert gone.statuses == tuple(unsubscribed(text) for text in row.channels.values())
    assert gone.remove == tuple(row.channels)
    assert gone.unknown_topics == row.unknown
    assert get_channels(session) == ({}, [], set())


def test_a_pair_subscribed_in_one_spelling_is_unsubscribed_in_another_and_acked_in_that() -> None:
    session = make_session(feed="forex")
    say(session, "subscribe", "C.EUR-USD")
    session.acknowledge(["C.EUR/USD"])
    assert say(session, "unsubscribe", "C.C:EUR/USD") == Step((unsubscribed("C.C:EUR/USD"),), remove=("C.EUR/USD",))


@pytest.mark.parametrize("item", ["AAPL", "T.", ".AAPL", "T", "T. AAPL", "T.AA PL", "T.A*", "T.'AAPL'"])
def test_what_names_no_channel_is_told_and_the_others_are_taken(item: str) -> None:
    session = make_session()
    step = say(session, "subscribe", f"T.BRK.A, {item},Q.AAPL")
    assert step.add == ("T.BRK.A", "Q.AAPL")
    (status,) = step.statuses
    assert status.status == "error"
    assert repr(item) in status.message


@pytest.mark.parametrize(("feed", "item"), [("forex", "C.C:"), ("forex", "CAS.C:")])
def test_a_prefix_without_a_pair_is_no_channel(feed: str, item: str) -> None:
    session = make_session(feed=feed)
    assert say(session, "subscribe", item).add == ()
    assert get_channels(session) == ({}, [], set())
