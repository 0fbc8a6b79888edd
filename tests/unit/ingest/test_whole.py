"""Up to when nothing is missing, as the next ingest finds it in Redis."""

import pytest

from ingest.whole import FIELDS, encode_last_live, encode_whole, find_whole_ms

NOW_MS = 1_795_000_000_000


def find(logged_ms: int | None, whole_ms: int | None, missing_ms: int | None) -> int | None:
    """With each relative to NOW_MS, and the answer too."""
    whole, missing = (NOW_MS + ms if ms is not None else None for ms in (whole_ms, missing_ms))
    fields = encode_whole(whole, None, is_answered=True) | encode_whole(None, missing, is_answered=True)
    values = [fields[name].encode() if name in fields else None for name in FIELDS]
    found = find_whole_ms((NOW_MS + logged_ms) * 1000 if logged_ms is not None else None, values, NOW_MS)
    return found - NOW_MS if found is not None else None


@pytest.mark.parametrize(
    ("logged_ms", "whole_ms", "missing_ms", "expected"),
    [
        (None, None, None, None),
        (-500, None, None, -500),
        (None, -500, None, -500),
        (-90_000_000, -90_000, None, -90_000),  # a silent weekend
        (-500, -90_000, None, -500),
        (-500, 1, None, -500),  # a clock is wrong
        (None, 1, None, None),
        (6_500, None, None, -5_000),  # logged by a clock that is ahead of ours
        (-500, -90_000, -60_000, -60_000),  # logged although a gap is open: test data, a notice
        (-70_000, -90_000, -60_000, -70_000),  # what came last was not answered
        (None, None, -60_000, -60_000),
    ],
)
def test_gap_of_a_takeover_begins_where_the_ingest_before_surely_had_all(
    logged_ms: int | None, whole_ms: int | None, missing_ms: int | None, expected: int | None
) -> None:
    assert find(logged_ms, whole_ms, missing_ms) == expected


@pytest.mark.parametrize(("live_ms", "expected"), [(None, -500), (-300, -500), (-60_000, -60_000), (-99_000, -90_000)])
def test_test_data_in_the_log_does_not_say_that_live_data_came_until_then(live_ms: int | None, expected: int) -> None:
    """Polygon's connection may have been dead for a while, and nobody knew it yet."""
    fields = encode_whole(NOW_MS - 90_000, None, is_answered=True)
    fields |= encode_last_live((NOW_MS + live_ms) * 1000 if live_ms is not None else 0)
    found = find_whole_ms((NOW_MS - 500) * 1000, [fields[name].encode() for name in FIELDS], NOW_MS)
    assert found is not None and found - NOW_MS == expected


def test_whole_is_written_only_when_redis_has_answered_all() -> None:
    assert encode_whole(NOW_MS, None, is_answered=False) == {}
    assert encode_whole(NOW_MS, None, is_answered=True) == {"whole_until": "1795000000.000", "missing_since": ""}


def test_what_is_not_known_to_be_whole_leaves_what_was() -> None:
    assert encode_whole(None, None, is_answered=True) == {}


def test_an_open_gap_is_written_at_once_and_leaves_what_was_whole_before() -> None:
    assert encode_whole(None, NOW_MS, is_answered=False) == {"missing_since": "1795000000.000"}


def test_a_gap_that_was_closed_is_gone() -> None:
    values = [b"1795000000.000", b"", None]
    assert find_whole_ms(None, values, NOW_MS) == NOW_MS
