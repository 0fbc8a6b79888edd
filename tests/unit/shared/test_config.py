"""The configuration: defaults, what each variable accepts and refuses, and that no secret shows."""

from datetime import datetime
from pathlib import Path

import pytest

from shared.config import Config, ConfigError, load, load_or_exit
from shared.variables import PRIVATE_BUS_URL

KEY = "sekret-polygon-key"
PASSWORD = "hunter2-of-redis"
SECRETS = {
    "POLYGON_API_KEY": KEY,
    "PROXY_API_KEYS": "sekret-one, sekret-two",
    "REDIS_URL": f"redis://:{PASSWORD}@db.example:6379/0",
}
VARIABLES = {
    "POLYGON_API_KEY",
    "POLYGON_WS_URL",
    "PROXY_STOCKS_PORT",
    "PROXY_HOST",
    "PROXY_API_KEYS",
    "REDIS_URL",
    "MAX_CLIENTS",
    "RECONNECT_DELAY_MS",
    "HEARTBEAT_INTERVAL_SEC",
    "MESSAGE_BUFFER_SIZE",
    "ENABLE_TEST_MODE",
    "TEST_SCENARIO",
    "TEST_SYMBOLS",
    "TEST_RATE",
    "TEST_SPEED",
    "TEST_SEED",
    "TEST_START",
    "TEST_MARKER",
    "MIX_TEST_DATA",
    "LOG_LEVEL",
    "ENABLE_METRICS",
    "METRICS_PORT",
    "BACKFILL",
    "POLYGON_REST_URL",
}


def get_line(environ: dict[str, str]) -> str:
    """The one line of the error that these variables cause."""
    with pytest.raises(ConfigError) as caught:
        load(environ)
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.__suppress_context__, "a cause would be printed beside it, with the value"
    return line


def test_defaults() -> None:
    assert load({}) == Config(
        polygon_api_key=None,
        polygon_ws_url="wss://socket.polygon.io/stocks",
        proxy_stocks_port=8765,
        proxy_host="127.0.0.1",
        proxy_api_keys=(),
        redis_url=PRIVATE_BUS_URL,
        max_clients=1000,
        reconnect_delay_ms=1000,
        heartbeat_interval_s=30,
        message_buffer_events=10000,
        enable_test_mode=False,
        test_scenario="normal",
        test_symbols=(),
        test_rate=300,
        test_speed=1.0,
        test_seed=None,
        test_start=None,
        test_marker=False,
        mix_test_data=False,
        log_level="info",
        enable_metrics=True,
        metrics_port=9090,
        backfill=False,
        polygon_rest_url="https://api.polygon.io",
        has_own_bus=True,
    )


def test_example_file_names_each_variable_with_its_default() -> None:
    lines = (Path(__file__).parents[3] / ".env.example").read_text().splitlines()
    commented = {line[1:] for line in lines if line.startswith("#") and not line.startswith("# ")}
    example = dict(line.split("=", 1) for line in commented)
    assert set(example) == VARIABLES
    assert load(example) == load({})


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("POLYGON_API_KEY", " k ", "polygon_api_key", "k"),
        ("POLYGON_API_KEY", "", "polygon_api_key", None),
        ("POLYGON_WS_URL", "ws://127.0.0.1:9/stocks", "polygon_ws_url", "ws://127.0.0.1:9/stocks"),
        ("POLYGON_WS_URL", "wss://[::1]/stocks", "polygon_ws_url", "wss://[::1]/stocks"),
        ("PROXY_STOCKS_PORT", "1", "proxy_stocks_port", 1),
        ("PROXY_STOCKS_PORT", "65535", "proxy_stocks_port", 65535),
        ("PROXY_HOST", "::", "proxy_host", "::"),
        ("PROXY_HOST", "proxy.example", "proxy_host", "proxy.example"),
        ("PROXY_API_KEYS", "a, b,c", "proxy_api_keys", ("a", "b", "c")),
        ("PROXY_API_KEYS", " ", "proxy_api_keys", ()),
        ("REDIS_URL", "", "redis_url", PRIVATE_BUS_URL),
        ("REDIS_URL", "unix:///run/redis.sock", "redis_url", "unix:///run/redis.sock"),
        ("REDIS_URL", "rediss://h", "redis_url", "rediss://h"),
        ("REDIS_URL", "redis+sentinel://h,i:1/bus/0", "redis_url", "redis+sentinel://h,i:1/bus/0"),
        ("MAX_CLIENTS", "1", "max_clients", 1),
        ("RECONNECT_DELAY_MS", "600000", "reconnect_delay_ms", 600_000),
        ("HEARTBEAT_INTERVAL_SEC", "3600", "heartbeat_interval_s", 3600),
        ("MESSAGE_BUFFER_SIZE", "100", "message_buffer_events", 100),
        ("ENABLE_TEST_MODE", "YES", "enable_test_mode", True),
        ("ENABLE_TEST_MODE", "Off", "enable_test_mode", False),
        ("TEST_SCENARIO", "Normal", "test_scenario", "normal"),
        ("TEST_SCENARIO", "Mine.toml", "test_scenario", "Mine.toml"),
        ("TEST_SCENARIO", "./monday", "test_scenario", "./monday"),
        ("TEST_SYMBOLS", "AAPL, BRK.A,AAPL", "test_symbols", ("AAPL", "BRK.A")),
        ("TEST_RATE", "200000", "test_rate", 200_000),
        ("TEST_SPEED", "0.01", "test_speed", 0.01),
        ("TEST_SPEED", "1000", "test_speed", 1000.0),
        ("TEST_SEED", "0", "test_seed", 0),
        ("TEST_SEED", "", "test_seed", None),
        ("TEST_START", "2026-11-20T09:29:55", "test_start", datetime(2026, 11, 20, 9, 29, 55)),  # noqa: DTZ001
        ("TEST_MARKER", "true", "test_marker", True),
        ("MIX_TEST_DATA", "0", "mix_test_data", False),
        ("LOG_LEVEL", "DEBUG", "log_level", "debug"),
        ("ENABLE_METRICS", "no", "enable_metrics", False),
        ("METRICS_PORT", "\t9091\n", "metrics_port", 9091),
        ("BACKFILL", "true", "backfill", True),
        ("POLYGON_REST_URL", "http://127.0.0.1:9", "polygon_rest_url", "http://127.0.0.1:9"),
        ("POLYGON_REST_URL", "https://api.massive.com", "polygon_rest_url", "https://api.massive.com"),
    ],
)
def test_accepted(name: str, text: str, attribute: str, value: object) -> None:
    assert getattr(load({name: text}), attribute) == value


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("POLYGON_WS_URL", "", "ws://"),
        ("POLYGON_WS_URL", "https://socket.polygon.io/stocks", "ws://"),
        ("POLYGON_WS_URL", "wss:///stocks", "ws://"),
        ("POLYGON_WS_URL", "wss://h:99999/stocks", "ws://"),
        ("POLYGON_WS_URL", "wss://h:0/stocks", "ws://"),
        ("POLYGON_WS_URL", "wss://h:x/stocks", "ws://"),
        ("POLYGON_WS_URL", "wss://[::1/stocks", "ws://"),
        ("POLYGON_WS_URL", "wss://a b/stocks", "ws://"),
        ("POLYGON_WS_URL", "wss://h/options", "stocks is the only feed yet"),
        ("POLYGON_WS_URL", "wss://h/stocks/", "stocks is the only feed yet"),
        ("POLYGON_WS_URL", "wss://h/stocks#x", "without query"),
        ("PROXY_STOCKS_PORT", "0", "from 1 to 65535"),
        ("PROXY_STOCKS_PORT", "65536", "from 1 to 65535"),
        ("PROXY_STOCKS_PORT", "8_765", "from 1 to 65535"),
        ("PROXY_STOCKS_PORT", "8765.0", "from 1 to 65535"),
        ("PROXY_STOCKS_PORT", "", "from 1 to 65535"),
        ("PROXY_STOCKS_PORT", "\N{ARABIC-INDIC DIGIT ONE}", "from 1 to 65535"),
        ("PROXY_HOST", "", "a host name or an IP address"),
        ("PROXY_HOST", "ws://h", "a host name or an IP address"),
        ("PROXY_HOST", "a b", "a host name or an IP address"),
        ("MAX_CLIENTS", "0", "a number from 1"),
        ("MAX_CLIENTS", "-1", "a number from 1"),
        ("MAX_CLIENTS", "9" * 5000, "a number from 1"),
        ("RECONNECT_DELAY_MS", "0", "milliseconds from 1 to 600000"),
        ("RECONNECT_DELAY_MS", "600001", "milliseconds from 1 to 600000"),
        ("HEARTBEAT_INTERVAL_SEC", "0", "seconds from 1 to 3600"),
        ("HEARTBEAT_INTERVAL_SEC", "3601", "seconds from 1 to 3600"),
        ("HEARTBEAT_INTERVAL_SEC", "1.5", "seconds from 1 to 3600"),
        ("MESSAGE_BUFFER_SIZE", "99", "a number of events from 100"),
        ("ENABLE_TEST_MODE", "maybe", "true, false"),
        ("ENABLE_TEST_MODE", "", "true, false"),
        ("TEST_SCENARIO", "crash", "normal, high_volatility"),
        ("TEST_SCENARIO", "", "path of a .toml file"),
        ("TEST_SYMBOLS", "AAPL,,MSFT", "separated by commas"),
        ("TEST_SYMBOLS", "T.*", "separated by commas"),
        ("TEST_RATE", "0", "from 1 to 200000"),
        ("TEST_RATE", "200001", "from 1 to 200000"),
        ("TEST_SPEED", "0.001", "from 0.01 to 1000"),
        ("TEST_SPEED", "max", "from 0.01 to 1000"),
        ("TEST_SEED", "-1", "from 0 to 999999999"),
        ("TEST_START", "09:30", "a time in New York"),
        ("TEST_START", "2026-11-20T09:30:00Z", "a time in New York"),
        ("TEST_MARKER", "2", "true, false"),
        ("MIX_TEST_DATA", "true", "expected TEST_SYMBOLS"),
        ("MIX_TEST_DATA", "2", "true, false"),
        ("LOG_LEVEL", "trace", "debug, info, warning or error"),
        ("ENABLE_METRICS", "2", "true, false"),
        ("METRICS_PORT", "http", "from 1 to 65535"),
        ("BACKFILL", "always", "true, false"),
        ("POLYGON_REST_URL", "", "http://HOST"),
        ("POLYGON_REST_URL", "api.polygon.io", "http://HOST"),
        ("POLYGON_REST_URL", "wss://api.polygon.io", "http://HOST"),
        ("POLYGON_REST_URL", "https://api.polygon.io/", "without path"),
        ("POLYGON_REST_URL", "https://api.polygon.io/v3", "without path"),
        ("POLYGON_REST_URL", "https://api.polygon.io#x", "without path"),
    ],
)
def test_refusal_names_variable_value_and_expectation(name: str, text: str, expected: str) -> None:
    line = get_line({name: text} | SECRETS)
    assert line.startswith(f"{name}={text[:60]!a}"[:60])
    assert expected in line
    assert len(line) < 300


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("POLYGON_API_KEY", "sekret key"),
        ("POLYGON_API_KEY", "sekret,key"),
        ("POLYGON_API_KEY", "sekret\x00key"),
        ("POLYGON_API_KEY", "sekret-\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("PROXY_API_KEYS", "sekret-a,,sekret-b"),
        ("PROXY_API_KEYS", "sekret-a,"),
        ("PROXY_API_KEYS", "sekret a"),
        ("REDIS_URL", "http://:sekret@h"),
        ("REDIS_URL", "redis://:sekret@h:port"),
        ("REDIS_URL", "redis://:sekret@h/0?socket_timeout=soon"),
        ("REDIS_URL", "unix://?password=sekret"),
        ("REDIS_URL", "redis://:sekret@h/1"),
        ("REDIS_URL", "redis+sentinel://:sekret@h/bus/1"),
        ("REDIS_URL", "unix://:sekret@/run/redis.sock?db=1"),
        ("REDIS_URL", "redis+sentinel://:sekret@h"),
        ("REDIS_URL", "redis+sentinel://:sekret@h,i:x/bus"),
    ],
)
def test_refused_secret_is_not_shown(name: str, text: str) -> None:
    line = get_line({name: text})
    assert line.startswith(f"{name}: expected ")
    assert "sekret" not in line


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PROXY_HOST", f" {KEY}!"),
        ("METRICS_PORT", f"x sekret-two {KEY}"),
        ("POLYGON_WS_URL", "wss://h/stocks?apiKey=sekret-unknown"),
        ("POLYGON_WS_URL", "wss://h/stocks?a\napiKey=sekret-unknown"),
        ("POLYGON_WS_URL", "wss://sekret-unknown@h/stocks"),
        ("POLYGON_WS_URL", "wss://user:sekret-unknown@h/stocks"),
        ("POLYGON_REST_URL", "https://h?apiKey=sekret-unknown"),
        ("POLYGON_REST_URL", "https://user:sekret-unknown@h"),
    ],
)
def test_secret_in_another_variable_is_not_shown(name: str, text: str) -> None:
    line = get_line(SECRETS | {name: text})
    assert line.startswith(f"{name}=")
    assert "sekret" not in line
    assert "***" in line


def test_value_with_line_breaks_stays_on_one_line() -> None:
    assert r"'de\nbug\x1b[1m'" in get_line({"LOG_LEVEL": "de\nbug\x1b[1m"})


def test_similar_and_unknown_names_are_left_alone() -> None:
    assert load({"METRIC_PORT": "x", "polygon_api_key": "k", "PORT": "5000"}) == load({})


def test_feed_is_simulated_without_a_key_or_in_test_mode() -> None:
    assert load({}).is_simulated
    assert not load({"POLYGON_API_KEY": KEY}).is_simulated
    assert load({"POLYGON_API_KEY": KEY, "ENABLE_TEST_MODE": "1"}).is_simulated
    assert load({}).feed == "stocks"


def test_clients_may_use_the_polygon_key_and_the_proxys_own() -> None:
    assert load({}).client_keys == frozenset()
    assert load({"POLYGON_API_KEY": "p"}).client_keys == {"p"}
    assert load({"PROXY_API_KEYS": "a,b"}).client_keys == {"a", "b"}
    assert load({"POLYGON_API_KEY": "p", "PROXY_API_KEYS": "a,p"}).client_keys == {"a", "p"}


def test_own_bus_unless_redis_url_is_set() -> None:
    assert load({"REDIS_URL": " "}).has_own_bus
    settings = load({"REDIS_URL": PRIVATE_BUS_URL})
    assert not settings.has_own_bus
    assert settings.redis_url == PRIVATE_BUS_URL


def test_repr_shows_no_secret() -> None:
    shown = repr(load(SECRETS))
    assert "proxy_stocks_port=8765" in shown
    for secret in (KEY, PASSWORD, "sekret"):
        assert secret not in shown


def test_secrets_are_the_keys_and_the_password_in_both_spellings() -> None:
    assert load(SECRETS).secrets == {KEY, "sekret-one", "sekret-two", PASSWORD}
    assert load({"REDIS_URL": "redis://u:p%2fw@h"}).secrets == {"p/w", "p%2fw"}
    assert load({"REDIS_URL": "redis://h?password=pw"}).secrets == {"pw"}
    assert load({"REDIS_URL": "redis+sentinel://u:p%2fw@h,[::1]:1/bus"}).secrets == {"p/w", "p%2fw"}
    assert load({}).secrets == frozenset()


def clear_environment(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(directory)


def test_environment_wins_over_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear_environment(monkeypatch, tmp_path)
    (tmp_path / ".env").write_text("POLYGON_API_KEY='a$b'\nLOG_LEVEL=error # quiet\nMAX_CLIENTS=5\nMETRICS_PORT\n")
    monkeypatch.setenv("MAX_CLIENTS", "7")
    settings = load_or_exit()
    assert (settings.polygon_api_key, settings.log_level, settings.max_clients) == ("a$b", "error", 7)
    monkeypatch.setenv("POLYGON_API_KEY", "")
    assert load_or_exit().polygon_api_key is None


def test_bad_value_exits_2_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clear_environment(monkeypatch, tmp_path)
    (tmp_path / ".env").write_text("LOG_LEVEL=loud\n")
    with pytest.raises(SystemExit) as caught:
        load_or_exit()
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "configuration: LOG_LEVEL='loud': expected debug, info, warning or error\n"


def test_unreadable_env_file_exits_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clear_environment(monkeypatch, tmp_path)
    (tmp_path / ".env").write_bytes(b"POLYGON_API_KEY=\xff\n")
    with pytest.raises(SystemExit) as caught:
        load_or_exit()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
