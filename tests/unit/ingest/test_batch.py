"""A batch as Redis reads it: XADD, one PUBLISH per channel, one per wanted `all:EV`, the mark; in this order."""

import json
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import Batch, Encoded, encode_mark_command
from shared.batch import Mark, parse_mark
from shared.names import Names
from shared.split import split_frame

NAMES = Names("stocks")


def read_commands(data: bytes) -> list[list[bytes]]:
    reader = hiredis.Reader()
    reader.feed(data)
    commands: list[Any] = []
    while (command := reader.gets()) is not False:
        commands.append(command)
    return commands


def make_batch(*frames: str, alls: tuple[str, ...] = (), feed: str = "stocks") -> Batch:
    batch = Batch(Names(feed))
    batch.set_alls(frozenset(alls))
    for frame in frames:
        batch.add(split_frame(frame.encode()))
    return batch


def encode(batch: Batch, sequence: int = 1) -> Encoded:
    return batch.encode(7, sequence, 1_000_001, "5-0")


def get_published(encoded: Encoded) -> list[tuple[str, str]]:
    """Bus channel and payload of each PUBLISH but the mark's."""
    commands = read_commands(encoded.data)
    assert [command[0] for command in commands] == [b"XADD"] + [b"PUBLISH"] * (len(commands) - 1)
    return [(channel.decode(), payload.decode()) for _, channel, payload in commands[1:-1]]


T1 = '{"ev":"T","sym":"AAPL","p":1.50}'
T2 = '{"ev":"T","sym":"MSFT","p":4.522e-05}'
T3 = '{"ev":"T","sym":"AAPL","p":2}'
Q1 = '{"ev":"Q","sym":"AAPL","t":1764086430905642800}'


def test_events_are_grouped_by_channel_in_order_of_arrival() -> None:
    encoded = encode(make_batch(f"[{T1},{Q1}]", f"[{T2},{T3}]"))
    assert get_published(encoded) == [("T.AAPL", f"[{T1},{T3}]"), ("Q.AAPL", f"[{Q1}]"), ("T.MSFT", f"[{T2}]")]


def test_the_log_entry_holds_the_mark_and_the_very_publish_commands() -> None:
    encoded = encode(make_batch(f"[{T1},{Q1},{T2}]", alls=("T",)))
    xadd, *published, _ = read_commands(encoded.data)
    assert xadd[:6] == [b"XADD", b"polygon:{stocks}:log", b"MINID", b"~", b"5-0", b"7-1"]
    assert xadd[6] == b"mark"
    assert parse_mark(xadd[7]) == encoded.mark
    assert xadd[8] == b"batch"
    assert read_commands(xadd[9]) == published


def test_the_mark_comes_last_and_says_what_the_batch_held() -> None:
    encoded = encode(make_batch(f"[{T1},{Q1},{T2}]", alls=("T", "AM")), sequence=42)
    word, channel, text = read_commands(encoded.data)[-1]
    assert (word, channel) == (b"PUBLISH", b"polygon:{stocks}:mark")
    assert parse_mark(text) == encoded.mark == Mark(7, 42, 1_000_001, 3, frozenset({"T", "AM"}))


def test_there_are_as_many_replies_as_commands() -> None:
    for alls in ((), ("T",), ("T", "Q", "AM")):
        encoded = encode(make_batch(f"[{T1},{Q1},{T2}]", alls=alls))
        assert encoded.replies == len(read_commands(encoded.data))


def test_a_wanted_event_type_is_also_published_whole_in_order_of_arrival() -> None:
    encoded = encode(make_batch(f"[{T1},{Q1}]", f"[{T2},{T3}]", alls=("T",)))
    assert get_published(encoded)[-1] == ("polygon:{stocks}:all:T", f"[{T1},{T2},{T3}]")
    assert len(get_published(encoded)) == 4


def test_a_wanted_event_type_without_events_is_not_published() -> None:
    assert get_published(encode(make_batch(f"[{Q1}]", alls=("T",)))) == [("Q.AAPL", f"[{Q1}]")]


def test_the_second_batch_starts_clean() -> None:
    batch = make_batch(f"[{T1},{Q1}]", alls=("T",))
    encode(batch)
    assert batch.events == 0
    batch.add(split_frame(f"[{T3}]".encode()))
    assert batch.events == 1
    second = encode(batch, 2)
    assert get_published(second) == [("T.AAPL", f"[{T3}]"), ("polygon:{stocks}:all:T", f"[{T3}]")]
    assert second.mark.events == 1
    assert second.mark.alls == {"T"}


def test_an_empty_batch_is_only_a_log_entry_and_a_mark() -> None:
    encoded = encode(Batch(NAMES))
    assert get_published(encoded) == []
    assert (encoded.replies, encoded.mark.events) == (2, 0)


def test_wanted_event_types_change_between_batches_for_channels_already_seen() -> None:
    batch = make_batch(f"[{T1}]")
    encode(batch)
    batch.set_alls(frozenset({"T"}))
    batch.add(split_frame(f"[{T1}]".encode()))
    assert [channel for channel, _ in get_published(encode(batch))] == ["T.AAPL", "polygon:{stocks}:all:T"]
    batch.set_alls(frozenset())
    batch.add(split_frame(f"[{T1}]".encode()))
    assert [channel for channel, _ in get_published(encode(batch))] == ["T.AAPL"]


def test_wanted_event_types_never_change_within_a_batch() -> None:
    batch = make_batch(f"[{T1}]")
    with pytest.raises(AssertionError):
        batch.set_alls(frozenset({"T"}))
    assert batch.alls == frozenset()
    assert get_published(encode(batch)) == [("T.AAPL", f"[{T1}]")]


STATUS = '{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}'


def test_statuses_are_put_aside_once_and_whole() -> None:
    batch = make_batch(f"[{STATUS},{T1},{STATUS}]")
    assert batch.take_statuses() == [STATUS.encode()] * 2
    assert batch.take_statuses() == []
    assert batch.events == 1
    assert get_published(encode(batch)) == [("T.AAPL", f"[{T1}]")]


def test_a_status_with_a_symbol_is_still_a_status() -> None:
    status = '{"ev":"status","sym":"AAPL","status":"error","message":"x"}'
    batch = make_batch(f"[{status}]")
    assert batch.take_statuses() == [status.encode()]
    assert batch.events == 0


def test_events_without_symbol_or_type_are_put_aside_once_and_whole() -> None:
    nowhere = ['{"ev":"T"}', '{"sym":"AAPL"}', "{}", '{"ev":"T","p":1.5}']
    batch = make_batch(f"[{','.join([*nowhere, T1])}]")
    assert batch.take_unroutable() == [text.encode() for text in nowhere]
    assert batch.take_unroutable() == []
    assert batch.take_statuses() == []
    assert get_published(encode(batch)) == [("T.AAPL", f"[{T1}]")]


def test_what_was_put_aside_in_one_batch_is_put_aside_in_the_next_as_well() -> None:
    batch = make_batch(f'[{STATUS},{{"ev":"T"}}]')
    batch.take_statuses()
    batch.take_unroutable()
    encode(batch)
    batch.add(split_frame(f'[{STATUS},{{"ev":"T"}}]'.encode()))
    assert batch.take_statuses() == [STATUS.encode()]
    assert batch.take_unroutable() == [b'{"ev":"T"}']


def test_forex_pairs_meet_in_one_channel_and_keep_their_own_bytes() -> None:
    slash, dash = '{"ev":"C","p":"EUR/USD","b":1.1}', '{"ev":"C","p":"EUR-USD","b":1.2}'
    published = get_published(encode(make_batch(f"[{slash}]", f"[{dash}]", feed="forex")))
    # Each spelling may have its own message; both go to the one channel.
    assert {channel for channel, _ in published} == {"forex:C.EUR/USD"}
    assert "".join(payload[1:-1] for _, payload in published) == slash + dash


@pytest.mark.parametrize("symbol", ["*", "BRK.*"])
def test_an_event_whose_symbol_looks_like_a_wildcard_is_not_sent_to_those_who_hold_the_wildcard_twice(
    symbol: str,
) -> None:
    event = f'{{"ev":"T","sym":"{symbol}"}}'
    published = get_published(encode(make_batch(f"[{event}]", alls=("T",))))
    assert [channel for channel, _ in published].count("polygon:{stocks}:all:T") == 1
    assert get_published(encode(make_batch(f"[{event}]"))) == [(f"T.{symbol}", f"[{event}]")]


def test_a_heartbeat_repeats_the_mark() -> None:
    mark = Mark(7, 42, 1_000_001, 0, frozenset({"T"}))
    ((word, channel, text),) = read_commands(encode_mark_command(NAMES, mark))
    assert (word, channel, parse_mark(text)) == (b"PUBLISH", b"polygon:{stocks}:mark", mark)


EVENTS = st.builds(
    lambda ev, sym, n: {"ev": ev, "sym": sym, "é": n},
    st.sampled_from(["T", "Q", "AM", "new"]),
    st.sampled_from(["AAPL", "MSFT", "BRK.A", "ünï", "a\r\nb"]),
    st.integers(),
)


@settings(deadline=None)
@given(st.lists(st.lists(EVENTS, max_size=6), max_size=5), st.frozensets(st.sampled_from(["T", "Q", "A"])))
def test_every_event_is_published_once_on_its_channel_and_once_whole_if_wanted(
    frames: list[list[dict[str, Any]]], alls: frozenset[str]
) -> None:
    batch = make_batch(*[json.dumps(frame) for frame in frames], alls=tuple(alls))
    encoded = encode(batch)
    expected: dict[str, list[dict[str, Any]]] = {}
    for event in (event for frame in frames for event in frame):
        expected.setdefault(f"{event['ev']}.{event['sym']}", []).append(event)
        if event["ev"] in alls:
            expected.setdefault(NAMES.get_bus_channel(f"{event['ev']}.*"), []).append(event)
    published = get_published(encoded)
    assert len(dict(published)) == len(published)
    assert {channel: json.loads(payload) for channel, payload in published} == expected
    assert encoded.mark.events == sum(map(len, frames))
    assert encoded.replies == len(read_commands(encoded.data))
