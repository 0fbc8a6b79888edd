"""Configuration: what the environment variables (shared/variables.py) say, checked.

`load` is pure; `load_or_exit` is for the processes' mains and reads the environment and `.env`.
"""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NoReturn

from dotenv import dotenv_values

from shared.logs import redact
from shared.redis_address import find_passwords
from shared.variables import FEED, VARIABLES, Variable

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
    test_scenario: str  # a name of variables.SCENARIOS, or the path of a TOML file or of a recording
    test_symbols: tuple[str, ...]  # empty: the simulator's own list
    test_rate: int  # simulated events a second, of all symbols and types together
    test_speed: float  # simulated seconds per second
    test_seed: int | None
    test_start: datetime | None  # New York's time, without a zone; None: now
    test_marker: bool
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
        return FEED

    @property
    def is_simulated(self) -> bool:
        """Whether events are invented here instead of coming from Polygon."""
        return self.enable_test_mode or self.polygon_api_key is None

    @property
    def is_mixed(self) -> bool:
        """Whether some symbols are simulated beside live data."""
        return self.mix_test_data and not self.is_simulated

    @property
    def client_keys(self) -> frozenset[str]:
        """The keys that clients may show; empty: any non-empty one will do."""
        own = () if self.polygon_api_key is None else (self.polygon_api_key,)
        return frozenset((*own, *self.proxy_api_keys))

    @property
    def secrets(self) -> frozenset[str]:
        """What no log may show: keys and the password in REDIS_URL, there also as it is written in the URL."""
        return self.client_keys | find_passwords(self.redis_url)


def load(environ: Mapping[str, str]) -> Config:
    """The configuration in a set of variables; raises ConfigError at the first bad one.

    White space around a value does not count.  Variables of other names are left alone.
    """
    values = {variable.attribute: _load_variable(variable, environ) for variable in VARIABLES}
    if values["mix_test_data"] and not values["test_symbols"]:
        line = "MIX_TEST_DATA='true': expected TEST_SYMBOLS to name the symbols that are simulated"
        raise ConfigError(line) from None
    return Config(**values, has_own_bus=not environ.get("REDIS_URL", "").strip())


def check(name: str, text: str) -> Any:
    """What one variable would be if it held this text; raises ConfigError."""
    return _load_variable(next(variable for variable in VARIABLES if variable.name == name), {name: text})


def _load_variable(variable: Variable, environ: Mapping[str, str]) -> Any:
    text = environ.get(variable.name, variable.default or "").strip()
    if variable.default is None and not text:
        return variable.unset
    try:
        return variable.parse(text)
    except ValueError:
        # "from None": the cause would print the value.
        raise ConfigError(_describe(variable, text, environ)) from None


def _describe(variable: Variable, text: str, environ: Mapping[str, str]) -> str:
    if variable.is_secret:
        return f"{variable.name}: expected {variable.expected} (its value is not shown)"
    # A key may have got into a variable that is none: as itself, or in the query or user part of a URL.
    keys = (key.strip() for v in VARIABLES if v.is_secret for key in environ.get(v.name, "").split(","))
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
        exit_with(str(exc))


def exit_with(line: str) -> NoReturn:
    """End the process as a bad configuration does."""
    print(f"configuration: {line}", file=sys.stderr)
    sys.exit(2)
