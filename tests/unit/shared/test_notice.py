"""Who is concerned by a notice: whoever gets, by name or by wildcard, an event of a channel that it names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.channels import ALL, find_cover, get_event_type, is_wildcard
from shared.notice import Addressed, Notice, decode_notice, encode_notice, make_gap

EXACT = ("T.AAPL", "T.MSFT", "T.BRK.A", "Q.AAPL", "AM.AAPL", "A.AAPL")
CHANNELS = (*EXACT, "T.*", "Q.*", "A.*", "AM.*", ALL)
SOME = st.frozensets(st.sampled_from(CHANNELS), max_size=5)


def overlaps(one: str, other: str) -> bool:
    """Whether some event may be of both channels."""
    if ALL in (one, other) or one == other:
        return True
    same_type = get_event_type(one) == get_event_type(other)
    return same_type and (is_wildcard(one) or is_wildcard(other))


def find_told(held: frozenset[str], channels: frozenset[str]) -> str | None:
    notice = make_gap(1, 2, "a cause", sorted(channels))
    status = Addressed(notice).find_status(find_cover("stocks", held))
    return status.message if status is not None else None


@given(held=SOME, channels=SOME)
def test_whoever_gets_an_event_of_a_named_channel_is_told_and_nobody_else(
    held: frozenset[str], channels: frozenset[str]
) -> None:
    concerned = any(overlaps(one, other) for one in held for other in channels)
    assert (find_told(held, channels) is not None) == concerned


@given(held=SOME, channels=SOME)
def test_a_status_names_only_channels_that_both_sides_have_a_part_in(
    held: frozenset[str], channels: frozenset[str]
) -> None:
    message = find_told(held, channels)
    if message is None:
        return
    start, _, names = message.rpartition("; channels: ")
    assert start == "events from 1 to 2 may be missing: a cause"
    named = names.split(",")
    assert len(set(named)) == len(named)
    for name in named:
        assert any(overlaps(name, one) for one in held) and any(overlaps(name, other) for other in channels)


@given(held=SOME, channels=SOME)
def test_every_exact_channel_that_is_held_and_named_is_covered_by_the_names(
    held: frozenset[str], channels: frozenset[str]
) -> None:
    names = (find_told(held, channels) or "").rpartition("; channels: ")[2].split(",")
    for channel in EXACT:
        if any(overlaps(channel, one) for one in held) and any(overlaps(channel, one) for one in channels):
            assert any(overlaps(channel, name) for name in names), channel


def test_of_many_channels_a_status_names_a_few_and_counts_the_rest() -> None:
    channels = frozenset(f"T.S{number:04}" for number in range(1000))
    message = find_told(frozenset(["T.*"]), channels)
    assert message is not None and message.endswith("T.S0019 and 980 more") and len(message) < 400


@pytest.mark.parametrize("notice", [make_gap(1, 2, "é \"'\n", ["T.AAPL", "*"]), Notice("backfill", "", [])])
def test_notice_survives_the_bus(notice: Notice) -> None:
    assert decode_notice(encode_notice(notice)) == notice


def test_whoever_holds_only_spared_symbols_is_not_concerned_by_the_wildcard_above_them() -> None:
    """In a mix the simulated symbols miss nothing while Polygon is away."""
    notice = decode_notice(encode_notice(make_gap(1, 2, "a cause", ["T.*", "Q.MSFT"], ["AAPL", "BRK.A"])))
    addressed = Addressed(notice)
    assert addressed.find_status(frozenset(["T.AAPL", "T.BRK.A"])) is None
    for cover in (["T.AAPL", "T.MSFT"], ["T.*"]):
        status = addressed.find_status(frozenset(cover))
        assert status is not None and status.message.endswith(f"channels: {cover[-1]}")
