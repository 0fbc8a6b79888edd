"""Logging of a process: one line a record, to stderr, without secrets."""

import json
import logging
import re
import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Final
from urllib.parse import quote

_FORMAT: Final = "%(asctime)s.%(msecs)03dZ %(levelname)-7s {process} %(name)s: %(message)s"
_DATE_FORMAT: Final = "%Y-%m-%dT%H:%M:%S"
_SHORTEST_SECRET: Final = 4  # a shorter one is no secret, and to mask "k" would leave nothing to read
# Line breaks and escapes in a message may be a client's: they must not look like a record or steer a terminal.
_CONTROLS: Final = {*range(0x20), *range(0x7F, 0xA0)} - {0x09, 0x0A}
_ESCAPED: Final = {code: f"\\x{code:02x}" for code in _CONTROLS}
# What these say at a lower level holds keys: websockets' debug prints auth messages and request paths.
_FLOORS: Final = {"websockets": logging.WARNING, "asyncio": logging.WARNING}


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with `***` for each secret of four characters or more, also as URLs, JSON and repr() spell it."""
    spellings: set[str] = set()
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            spellings |= {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    longest_first = sorted(spellings, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), "***", text) if spellings else text


class Formatter(logging.Formatter):
    """Time (UTC), level, process, logger, message; secrets are masked in tracebacks as well."""

    def __init__(self, process_name: str, secrets: Iterable[str]) -> None:
        super().__init__(_FORMAT.format(process=process_name), _DATE_FORMAT)
        self.converter = time.gmtime
        self._secrets = frozenset(secrets)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the base class's name
        return super().formatMessage(record).replace("\n", "\\n")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self._secrets).translate(_ESCAPED)


def configure(level: str, process_name: str, secrets: Iterable[str]) -> None:
    """Send all logging to stderr from `level` (debug, info, warning, error) on, uncaught exceptions too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(process_name, secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, floor in _FLOORS.items():
        logging.getLogger(name).setLevel(max(floor, root.level))
    sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    """Python's own report would print the exception past the formatter, that is with secrets."""
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("uncaught").critical("the process ends", exc_info=(kind, exc, trace))
