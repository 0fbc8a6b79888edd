"""The environment variables: each one's default, its parser and what it expects.  Pure."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from shared.redis_address import parse_redis_url

PRIVATE_BUS_PORT: Final = 6390
PRIVATE_BUS_URL: Final = f"redis://127.0.0.1:{PRIVATE_BUS_PORT}/0"
FEED: Final = "stocks"
SCENARIOS: Final = (
    *("normal", "high_volatility", "low_liquidity", "gap_up", "gap_down"),
    *("halt", "market_wide_halt", "news", "opening_bell"),
)


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


def _parse_speed(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) or not 0.01 <= float(text) <= 1000.0:
        raise ValueError
    return float(text)


def _parse_scenario(text: str) -> str:
    """A name, in lower case, or a path, as it is: with a dot or a slash, so that a misspelt name is none."""
    if text.lower() in SCENARIOS:
        return text.lower()
    if not text.isprintable() or not re.search(r"[./]", text):
        raise ValueError
    return text


def _parse_symbols(text: str) -> tuple[str, ...]:
    symbols = tuple(dict.fromkeys(symbol.strip() for symbol in text.split(",")))
    if not all(re.fullmatch(r"[A-Z][A-Za-z0-9.]{0,15}", symbol) for symbol in symbols):
        raise ValueError
    return symbols


def _parse_start(text: str) -> datetime:
    start = datetime.fromisoformat(text)
    if start.tzinfo is not None or not 2000 <= start.year < 2100:
        raise ValueError
    return start


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
    if (text.startswith("unix:") and not options.get("path")) or options.get("db"):
        raise ValueError
    return text


class Variable(NamedTuple):
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

VARIABLES: Final = (
    Variable("POLYGON_API_KEY", "polygon_api_key", None, _parse_key, f"a key: {_KEY_EXPECTED}", is_secret=True),
    Variable(
        "POLYGON_WS_URL",
        "polygon_ws_url",
        "wss://socket.polygon.io/stocks",
        _make_url_parser("ws", f"/{FEED}"),
        "ws://HOST[:PORT]/stocks or wss://..., without query and user (stocks is the only feed yet)",
    ),
    Variable("PROXY_STOCKS_PORT", "proxy_stocks_port", "8765", _PORT, _PORT_EXPECTED),
    Variable("PROXY_HOST", "proxy_host", "127.0.0.1", _parse_host, "a host name or an IP address to listen at"),
    Variable(
        "PROXY_API_KEYS",
        "proxy_api_keys",
        None,
        _parse_keys,
        f"keys separated by commas, each {_KEY_EXPECTED}",
        unset=(),
        is_secret=True,
    ),
    Variable(
        "REDIS_URL",
        "redis_url",
        None,
        _parse_redis_url,
        "redis://[[USER]:PASSWORD@]HOST[:PORT], rediss://..., unix://PATH "
        "or redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/MASTER_NAME, each in database 0: "
        "pub/sub knows no databases, so a second installation needs a Redis of its own",
        unset=PRIVATE_BUS_URL,
        is_secret=True,
    ),
    Variable("MAX_CLIENTS", "max_clients", "1000", _make_number_parser(1, 10**9 - 1), "a number from 1"),
    Variable(
        "RECONNECT_DELAY_MS",
        "reconnect_delay_ms",
        "1000",
        _make_number_parser(1, 600_000),
        "milliseconds from 1 to 600000",
    ),
    Variable(
        "HEARTBEAT_INTERVAL_SEC", "heartbeat_interval_s", "30", _make_number_parser(1, 3600), "seconds from 1 to 3600"
    ),
    Variable(
        "MESSAGE_BUFFER_SIZE",
        "message_buffer_events",
        "10000",
        _make_number_parser(100, 10**9 - 1),
        "a number of events from 100",
    ),
    Variable("ENABLE_TEST_MODE", "enable_test_mode", "false", _parse_boolean, _BOOLEAN_EXPECTED),
    Variable(
        "TEST_SCENARIO",
        "test_scenario",
        "normal",
        _parse_scenario,
        f"{', '.join(SCENARIOS)}, or the path of a .toml file or of a recording",
    ),
    Variable(
        "TEST_SYMBOLS",
        "test_symbols",
        None,
        _parse_symbols,
        "symbols separated by commas, such as AAPL,BRK.A",
        unset=(),
    ),
    Variable(
        "TEST_RATE",
        "test_rate",
        "300",
        _make_number_parser(1, 200_000),
        "events a second from 1 to 200000",
    ),
    Variable("TEST_SPEED", "test_speed", "1", _parse_speed, "a factor from 0.01 to 1000"),
    Variable("TEST_SEED", "test_seed", None, _make_number_parser(0, 10**9 - 1), "a number from 0 to 999999999"),
    Variable(
        "TEST_START",
        "test_start",
        None,
        _parse_start,
        "a time in New York from 2000 to 2099, such as 2026-11-20T09:29:55",
    ),
    Variable("TEST_MARKER", "test_marker", "false", _parse_boolean, _BOOLEAN_EXPECTED),
    Variable("MIX_TEST_DATA", "mix_test_data", "false", _parse_boolean, _BOOLEAN_EXPECTED),
    Variable(
        "LOG_LEVEL",
        "log_level",
        "info",
        _make_choice_parser("debug", "info", "warning", "error"),
        "debug, info, warning or error",
    ),
    Variable("ENABLE_METRICS", "enable_metrics", "true", _parse_boolean, _BOOLEAN_EXPECTED),
    Variable("METRICS_PORT", "metrics_port", "9090", _PORT, _PORT_EXPECTED),
    Variable("BACKFILL", "backfill", "false", _parse_boolean, _BOOLEAN_EXPECTED),
    Variable(
        "POLYGON_REST_URL",
        "polygon_rest_url",
        "https://api.polygon.io",
        _make_url_parser("http", ""),
        "http://HOST[:PORT] or https://..., without path, query and user",
    ),
)
