"""Configuration: a table of environment variables, each with its default, its parser and what it expects.

`load` is pure; `load_or_exit` is for the processes' mains and reads the environment and `.env`.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import urlsplit

from dotenv import dotenv_values

from shared.logs import redact
from shared.redis_address import find_passwords, parse_redis_url

PRIVATE_BUS_PORT: Final = 6390
PRIVATE_BUS_URL: Final = f"redis://127.0.0.1:{PRIVATE_BUS_PORT}/0"
_FEED: Final = "stocks"
_SHOWN_CHARACTERS: Final = 80  # of a bad value


class ConfigError(Exception):
    """A variable holds what it must not; str() is one line for the operator, without any secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the environment says, checked.  Secrets are not part of the repr."""

    polygon_api_key: str | None = field(repr=False)
    polygon_ws_url: str
    proxy_stocks_port: int
    proxy_host: str
    proxy_api_keys: tuple[str, ...] = field(repr=False)
    redis_url: str = field(repr=False)  # may hold a password
    max_clients: int
    reconnect_delay_ms: int
    heartbeat_interval_s: int
    message_buffer_events: int
    enable_test_mode: bool
    test_scenario: str
    mix_test_data: bool
    log_level: str
    enable_metrics: bool
    metrics_port: int
    backfill: bool
    polygon_rest_url: str
    has_own_bus: bool  # REDIS_URL is unset, so shared/private_bus.py provides the Redis at redis_url

    @property
    def feed(self) -> str:
        """The cluster path of POLYGON_WS_URL, which names this feed's channels and keys in Redis."""
        return _FEED

    @property
    def is_simulated(self) -> bool:
        """Whether events are invented here instead of coming from Polygon."""
        return self.enable_test_mode or self.polygon_api_key is None

    @property
    def client_keys(self) -> frozenset[str]:
        """The keys that clients may show; empty: any non-empty one will do."""
        own = () if self.polygon_api_key is None else (self.polygon_api_key,)
        return frozenset((*own, *self.proxy_api_keys))

    @property
    def secrets(self) -> frozenset[str]:
        """What no log may show: keys and the password in REDIS_URL, there also as it is written in the URL."""
        return self.client_keys | find_passwords(self.redis_url)


def _make_number_parser(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return parse


def _make_choice_parser(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return parse


_BOOLEANS: Final = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


def _parse_boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError
    return _BOOLEANS[text.lower()]


def _parse_false(text: str) -> bool:
    if _parse_boolean(text):
        raise ValueError
    return False


def _parse_key(text: str) -> str:
    if not re.fullmatch(r"[!-+\--~]+", text):  # printable ASCII without the comma
        raise ValueError
    return text


def _parse_keys(text: str) -> tuple[str, ...]:
    return tuple(_parse_key(key.strip()) for key in text.split(","))


def _parse_host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", text):
        raise ValueError
    return text


def _make_url_parser(scheme: str, path: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        parts = urlsplit(text)
        if text not in (f"{scheme}://{parts.netloc}{path}", f"{scheme}s://{parts.netloc}{path}"):
            raise ValueError
        if not parts.hostname or parts.port == 0 or not re.fullmatch(r"[!-?A-~]+", parts.netloc):  # "@" would be a user
            raise ValueError
        return text

    return parse


def _parse_redis_url(text: str) -> str:
    options = parse_redis_url(text)
    if text.startswith("unix:") and not options.get("path"):
        raise ValueError
    return text


class _Variable(NamedTuple):
    name: str
    attribute: str
    default: str | None  # as one would write it; None: unset, and then so is a variable that is set to nothing
    parse: Callable[[str], Any]  # raises ValueError
    expected: str
    unset: Any = None  # the attribute's value where default is None
    is_secret: bool = False


_PORT: Final = _make_number_parser(1, 65535)
_PORT_EXPECTED: Final = "a port from 1 to 65535"
_BOOLEAN_EXPECTED: Final = "true, false, 1, 0, yes, no, on or off"
_KEY_EXPECTED: Final = "printable ASCII without spaces and commas"

_VARIABLES: Final = (
    _Variable("POLYGON_API_KEY", "polygon_api_key", None, _parse_key, f"a key: {_KEY_EXPECTED}", is_secret=True),
    _Variable(
        "POLYGON_WS_URL",
        "polygon_ws_url",
        "wss://socket.polygon.io/stocks",
        _make_url_parser("ws", f"/{_FEED}"),
        "ws://HOST[:PORT]/stocks or wss://..., without query and user (stocks is the only feed yet)",
    ),
    _Variable("PROXY_STOCKS_PORT", "proxy_stocks_port", "8765", _PORT, _PORT_EXPECTED),
    _Variable("PROXY_HOST", "proxy_host", "127.0.0.1", _parse_host, "a host name or an IP address to listen at"),
    _Variable(
        "PROXY_API_KEYS",
        "proxy_api_keys",
        None,
        _parse_keys,
        f"keys separated by commas, each {_KEY_EXPECTED}",
        unset=(),
        is_secret=True,
    ),
    _Variable(
        "REDIS_URL",
        "redis_url",
        None,
        _parse_redis_url,
        "redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss://..., unix://PATH "
        "or redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/MASTER_NAME[/DB]",
        unset=PRIVATE_BUS_URL,
        is_secret=True,
    ),
    _Variable("MAX_CLIENTS", "max_clients", "1000", _make_number_parser(1, 10**9 - 1), "a number from 1"),
    _Variable(
        "RECONNECT_DELAY_MS",
        "reconnect_delay_ms",
        "1000",
        _make_number_parser(1, 600_000),
        "milliseconds from 1 to 600000",
    ),
    _Variable(
        "HEARTBEAT_INTERVAL_SEC", "heartbeat_interval_s", "30", _make_number_parser(1, 3600), "seconds from 1 to 3600"
    ),
    _Variable(
        "MESSAGE_BUFFER_SIZE",
        "message_buffer_events",
        "10000",
        _make_number_parser(100, 10**9 - 1),
        "a number of events from 100",
    ),
    _Variable("ENABLE_TEST_MODE", "enable_test_mode", "false", _parse_boolean, _BOOLEAN_EXPECTED),
    _Variable(
        "TEST_SCENARIO",
        "test_scenario",
        "normal",
        _make_choice_parser("normal"),
        "normal (the only scenario that exists yet)",
    ),
    _Variable(
        "MIX_TEST_DATA",
        "mix_test_data",
        "false",
        _parse_false,
        "false (mixing test data with the real feed is not built yet)",
    ),
    _Variable(
        "LOG_LEVEL",
        "log_level",
        "info",
        _make_choice_parser("debug", "info", "warning", "error"),
        "debug, info, warning or error",
    ),
    _Variable("ENABLE_METRICS", "enable_metrics", "true", _parse_boolean, _BOOLEAN_EXPECTED),
    _Variable("METRICS_PORT", "metrics_port", "9090", _PORT, _PORT_EXPECTED),
    _Variable("BACKFILL", "backfill", "false", _parse_boolean, _BOOLEAN_EXPECTED),
    _Variable(
        "POLYGON_REST_URL",
        "polygon_rest_url",
        "https://api.polygon.io",
        _make_url_parser("http", ""),
        "http://HOST[:PORT] or https://..., without path, query and user",
    ),
)


def load(environ: Mapping[str, str]) -> Config:
    """The configuration in a set of variables; raises ConfigError at the first bad one.

    White space around a value does not count.  Variables of other names are left alone.
    """
    values = {variable.attribute: _load_variable(variable, environ) for variable in _VARIABLES}
    return Config(**values, has_own_bus=not environ.get("REDIS_URL", "").strip())


def _load_variable(variable: _Variable, environ: Mapping[str, str]) -> Any:
    text = environ.get(variable.name, variable.default or "").strip()
    if variable.default is None and not text:
        return variable.unset
    try:
        return variable.parse(text)
    except ValueError:
        # "from None": the cause would print the value.
        raise ConfigError(_describe(variable, text, environ)) from None


def _describe(variable: _Variable, text: str, environ: Mapping[str, str]) -> str:
    if variable.is_secret:
        return f"{variable.name}: expected {variable.expected} (its value is not shown)"
    # A key may have got into a variable that is none: as itself, or in the query or user part of a URL.
    keys = (key.strip() for v in _VARIABLES if v.is_secret for key in environ.get(v.name, "").split(","))
    shown = re.sub(r"//[^/]*@", "//***@", re.sub(r"\?.+", "?***", redact(text, keys), flags=re.DOTALL))
    shown = shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "..."
    return f"{variable.name}={shown!a}: expected {variable.expected}"


def read() -> Config:
    """The configuration of this process: the environment, and beneath it `.env` in the working directory.

    Raises ConfigError.
    """
    try:
        # Without interpolation, because a key or a password may hold a dollar sign.
        beneath = dotenv_values(".env", interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f".env cannot be read: {exc}") from None
    return load({name: text for name, text in beneath.items() if text is not None} | dict(os.environ))


def load_or_exit() -> Config:
    """As `read`; a bad value ends the process with exit code 2 and one line on stderr."""
    try:
        return read()
    except ConfigError as exc:
        _exit(str(exc))


def _exit(line: str) -> NoReturn:
    print(f"configuration: {line}", file=sys.stderr)
    sys.exit(2)
