"""Marks and commands: what ingest writes is what a gateway reads."""

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import Mark, encode_command, encode_mark, find_mark, parse_mark

TYPES = st.frozensets(st.sampled_from(["T", "Q", "A", "AM", "LULD"]))


@given(st.builds(Mark, *[st.integers(0, 2**62)] * 4, TYPES))
def test_a_mark_comes_back_as_it_was_sent(mark: Mark) -> None:
    assert parse_mark(encode_mark(mark)) == mark


def test_a_mark_reads_as_its_documentation_says() -> None:
    mark = Mark(1795368000, 42, 1795368001123456, 57, frozenset({"T", "Q"}))
    assert encode_mark(mark) == b"1795368000-42 1795368001123456 57 Q,T"
    assert encode_mark(mark._replace(alls=frozenset())) == b"1795368000-42 1795368001123456 57 -"


@pytest.mark.parametrize("text", [b"", b"1-2", b"1-2 3 4", b"1-2 3 4 T 5", b"x-2 3 4 -", b"1 3 4 -", b"\xff-1 2 3 -"])
def test_what_is_no_mark_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (UnicodeDecodeError is one)
        parse_mark(text)
    assert find_mark({b"mark": text}) is None


def test_an_entry_of_the_log_has_its_mark_or_is_none_of_ours() -> None:
    assert find_mark({b"batch": b"", b"mark": b"1-2 3 4 T"}) == Mark(1, 2, 3, 4, frozenset("T"))
    assert find_mark({b"odd": b"1"}) is None


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=6))
def test_redis_reads_a_command_word_by_word(words: list[bytes]) -> None:
    reader = hiredis.Reader()
    reader.feed(encode_command(*words))
    assert reader.gets() == words
    assert reader.gets() is False
