"""The notice of what upstream confirmed."""

import msgspec
import pytest

from shared.held import HeldNotice, decode_held, encode_held


@pytest.mark.parametrize(
    "notice",
    [
        HeldNotice(),
        HeldNotice(reset=True),
        HeldNotice(["T.AAPL"], ["T.*"]),
        HeldNotice(["T.*"], refused={"NOI.*": "no"}),
    ],
)
def test_a_notice_comes_back_as_it_was_sent(notice: HeldNotice) -> None:
    assert decode_held(encode_held(notice)) == notice


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"x", b'{"added":"T.AAPL"}', b'{"reset":1}', b'{"refused":["T.*"]}', b"\xff"]
)
def test_what_is_no_notice_is_a_decode_error(text: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_held(text)
