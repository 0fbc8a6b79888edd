"""What operators switched outlasts their ingest, but not a newer configuration."""

import pytest

from ingest.switches import Switches, decode_switches, encode_switches, find_configured
from shared import config

CONFIG = config.load({"ENABLE_TEST_MODE": "true", "TEST_SYMBOLS": "AAPL,TSLA"})
SWITCHED = Switches(False, "/data/halt.toml", 2.5, ("AAPL",))


def test_the_next_ingest_finds_what_was_switched() -> None:
    assert decode_switches(CONFIG, encode_switches(CONFIG, SWITCHED)) == SWITCHED


def test_nothing_switched_is_nothing_written() -> None:
    assert encode_switches(CONFIG, find_configured(CONFIG)) == b""


@pytest.mark.parametrize("variable", [("TEST_SYMBOLS", "MSFT"), ("TEST_SPEED", "3"), ("TEST_SCENARIO", "news")])
def test_a_newer_configuration_counts_for_more(variable: tuple[str, str]) -> None:
    newer = config.load({"ENABLE_TEST_MODE": "true", "TEST_SYMBOLS": "AAPL,TSLA"} | dict([variable]))
    assert decode_switches(newer, encode_switches(CONFIG, SWITCHED)) == find_configured(newer)


@pytest.mark.parametrize("text", [None, b"", b"{}", b"nonsense", b"\xff", b'{"configured":1}'])
def test_what_cannot_be_read_is_as_configured(text: bytes | None) -> None:
    assert decode_switches(CONFIG, text) == find_configured(CONFIG)
