"""Logs: one line a record, to stderr, and no secret whichever way it came in."""

import logging
import re
import sys
from collections.abc import Iterator

import pytest

from shared import logs

KEY = 'ab"c/d\\e'
SECRETS = [KEY, "sekret-two", "abc"]


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Logging is the process's own: put it back for the other tests."""
    loggers = [logging.getLogger(name) for name in (None, "websockets", "asyncio")]
    levels, handlers, hook = [logger.level for logger in loggers], logging.getLogger().handlers[:], sys.excepthook
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    logging.getLogger().handlers[:] = handlers
    sys.excepthook = hook


def get_logged(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_line_has_time_level_process_logger_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "gateway", [])
    logging.getLogger("gateway.server").warning("client %d gone", 7)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING gateway gateway\.server: client 7 gone\n", get_logged(capsys)
    )


def test_level_decides(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "p", [])
    logging.getLogger("x").info("quiet")
    assert get_logged(capsys) == ""


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "p", [])
    logs.configure("info", "p", [])
    logging.getLogger("x").info("once")
    assert get_logged(capsys).count("\n") == 1


def test_message_cannot_fake_a_record_or_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "p", [])
    logging.getLogger("x").info("client said %s", "a\nb\r\x1b[2Jc\x9b")
    assert get_logged(capsys).endswith("client said a\\nb\\x0d\\x1b[2Jc\\x9b\n")


@pytest.mark.parametrize(
    "text",
    [KEY, repr(KEY), "ab%22c%2Fd%5Ce", r"{\"params\":\"ab\"c/d\\e\"}", "x-sekret-two-x", '{"params":"ab\\"c/d\\\\e"}'],
)
def test_secret_in_a_message_is_masked(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "p", SECRETS)
    logging.getLogger("x").info("got %s", text)
    line = get_logged(capsys)
    assert "***" in line
    assert "c/d" not in line and "sekret" not in line and "c%2F" not in line


def test_secret_in_a_traceback_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "p", SECRETS)
    try:
        try:
            raise ValueError("cause sekret-two")
        except ValueError as exc:
            raise RuntimeError(f"key {KEY}") from exc
    except RuntimeError:
        logging.getLogger("x").exception("failed")
    text = get_logged(capsys)
    assert "Traceback" in text and "RuntimeError: key ***" in text and "ValueError: cause ***" in text


def test_uncaught_exception_is_logged_masked(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "p", SECRETS)
    exc = RuntimeError("key sekret-two")
    sys.excepthook(RuntimeError, exc, None)
    text = get_logged(capsys)
    assert "CRITICAL" in text and "RuntimeError: key ***" in text


def test_longer_secret_is_masked_whole_where_a_shorter_one_is_part_of_it() -> None:
    assert logs.redact("sekret-two", ["sekret", "sekret-two"]) == "***"


def test_too_short_a_secret_does_not_blacken_the_log() -> None:
    assert logs.redact("abc", ["a", "abc", ""]) == "abc"


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
@pytest.mark.parametrize("name", ["websockets", "websockets.client", "websockets.server", "asyncio"])
def test_libraries_that_show_keys_below_warning_are_never_heard_below_it(
    name: str, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(level, "p", [])
    logging.getLogger(name).debug('> TEXT {"action":"auth","params":"k"}')
    logging.getLogger(name).info("connection open")
    assert get_logged(capsys) == ""
    logging.getLogger(name).warning("handshake failed")
    assert get_logged(capsys).endswith(f" WARNING p {name}: handshake failed\n")


def test_our_own_debug_is_heard_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "p", [])
    logging.getLogger("x").debug("ours")
    assert get_logged(capsys).count("\n") == 1


def test_libraries_follow_a_higher_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("error", "p", [])
    logging.getLogger("websockets.server").warning("handshake failed")
    logging.getLogger("asyncio").warning("slow")
    assert get_logged(capsys) == ""
