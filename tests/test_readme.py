"""What the README and `.env.example` say exists."""

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from shared import cli, config, variables
from shared.names import Names
from tests.bench import __main__ as bench
from tests.fakes import polygon

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PACKAGES = ("shared", "ingest", "gateway")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def find_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def find_commands() -> list[str]:
    """The lines of sh blocks, and what stands in backticks and begins as a command does."""
    lines = [line.partition("  #")[0].strip() for block in find_blocks("sh") for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL))
    lines += [text for text in inline if text.startswith(("make ", ".venv/bin/", "redis-cli ", "python "))]
    return [line for line in lines if line]


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, is_assignment, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if is_assignment else rf"^{name}:", makefile, re.MULTILINE), word


def check_polygon_proxy(words: list[str]) -> None:
    assert SCRIPTS["polygon-proxy"] == "shared.cli:main"
    command = cli.main.commands[words[0]]
    command.make_context(words[0], words[1:])
    if isinstance(command, click.Group):
        command.commands[words[1]].make_context(words[1], words[2:])


def check_honcho(words: list[str]) -> None:
    assert words[:4] == ["start", "--env", "/dev/null", "-c"], "else honcho hides what is new in .env from SIGHUP"
    processes = re.findall(r"^(\w+):", (ROOT / "Procfile").read_text(), re.MULTILINE)
    assert {part.partition("=")[0] for part in words[4].split(",")} <= set(processes)


def check_python(words: list[str]) -> None:
    assert words[0] == "-m" and importlib.util.find_spec(words[1]) is not None
    module = words[1]
    if module == "tests.fakes.polygon":
        polygon.main.make_context(module, words[2:])
    else:
        assert len(words) == 2, "an option that nobody checks"


def check_redis_cli(words: list[str]) -> None:
    if words[:1] == ["-p"]:
        assert int(words[1]) == variables.PRIVATE_BUS_PORT
        words = words[2:]
    names = Names("stocks")
    known = {
        "SUBSCRIBE": {names.get_bus_channel("T.AAPL")},
        "HGETALL": {names.refcount, names.upstream},
        "XRANGE": {names.gaps},
    }
    assert words == [] or words[1] in known[words[0]]


def check_curl(words: list[str]) -> None:
    [url] = words
    assert url == f"http://127.0.0.1:{get_default('METRICS_PORT')}/health"


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "make": check_make,
    ".venv/bin/polygon-proxy": check_polygon_proxy,
    ".venv/bin/honcho": check_honcho,
    ".venv/bin/python": check_python,
    "python": check_python,
    "redis-cli": check_redis_cli,
    "curl": check_curl,
}


def test_there_are_commands_to_check() -> None:
    commands = find_commands()
    assert {"make run", "make test", "make bench"} <= set(commands)
    assert {command.split()[0] for command in commands} >= {".venv/bin/polygon-proxy", "redis-cli"}


@pytest.mark.parametrize("command", dict.fromkeys(find_commands()))
def test_command_of_the_readme_exists(command: str) -> None:
    program, *words = shlex.split(command)
    CHECKS[program](words)


def find_tables() -> list[str]:
    """The first cells of the tables whose header says "file"."""
    tables = re.findall(r"^\| file \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", README, re.MULTILINE)
    return [row for table in tables for row in table.splitlines()]


def test_both_journeys_are_told() -> None:
    assert len(re.findall(r"^\| file \|", README, re.MULTILINE)) == 2
    assert len(find_tables()) >= 12


def test_each_file_that_the_readme_names_exists() -> None:
    named = re.findall(r"`((?:\w[\w.-]*/)+[\w.-]+\.\w+|\.env\.example|Procfile|Makefile)`", README)
    assert len(set(named)) >= len(find_tables())
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_journeys_pass_through_the_packages_in_their_order() -> None:
    """An event goes from ingest to gateway, a subscription from gateway to ingest; between them is what both share."""
    packages = [re.findall(r"`(\w+)/", row)[0] for row in find_tables()]
    turn = next(number for number, row in enumerate(find_tables()) if "`gateway/server.py`" in row)
    down, up = packages[:turn], packages[turn:]
    assert (down[0], down[-1], up[0], up[-1]) == ("ingest", "gateway", "gateway", "ingest")
    assert set(down) | set(up) == set(PACKAGES)


def test_python_example_runs_as_far_as_a_client_without_a_proxy_can() -> None:
    [example] = find_blocks("python")
    compile(example, "README.md", "exec")
    head, run, _ = example.partition("client.run(")
    assert run
    scope: dict[str, object] = {}
    exec(head, scope)  # noqa: S102  that is the README's word
    client = scope["client"]
    assert getattr(client, "url") == f"ws://127.0.0.1:{get_default('PROXY_STOCKS_PORT')}/stocks"  # noqa: B009
    exec(head.replace("from massive", "from polygon"), scope)  # noqa: S102


def get_default(name: str) -> str | None:
    return {variable.name: variable.default for variable in variables.VARIABLES}[name]


def read_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(re.fullmatch(r"#([A-Z_]+)=(.*)", line).groups() for line in lines if re.match(r"#[A-Z]", line))  # type: ignore[union-attr,misc]


def test_env_example_has_each_variable_with_its_default_and_a_line_about_it() -> None:
    assert read_example() == {variable.name: variable.default or "" for variable in variables.VARIABLES}
    text = (ROOT / ".env.example").read_text()
    for name in read_example():
        assert re.search(rf"^# \S.*\n#{name}=", text, re.MULTILINE), f"{name} has no line that says what it is"


def test_env_example_is_a_configuration() -> None:
    assert config.load(read_example()) == config.load({})


def test_variables_that_the_readme_names_exist() -> None:
    known = {variable.name for variable in variables.VARIABLES} | {"GATEWAYS"}
    named = set(re.findall(r"`([A-Z][A-Z_]+[A-Z])`", README))
    assert named and named <= known


def test_port_and_url_that_the_readme_names_are_the_defaults() -> None:
    assert f"ws://{get_default('PROXY_HOST')}:{get_default('PROXY_STOCKS_PORT')}/stocks" in README
    assert f"port {variables.PRIVATE_BUS_PORT}" in README


@pytest.mark.parametrize("arguments", [["--help"], ["tail", "--help"], ["test", "symbols", "--help"]])
def test_command_line_says_what_it_does(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 0 and "Usage:" in result.output


def test_bench_that_make_starts_exists() -> None:
    assert callable(bench.main)


def test_promises_of_delivery_name_tests_that_exist() -> None:
    text = (ROOT / "docs" / "delivery.md").read_text()
    named = re.findall(r"`(tests/[^`]+)`", text)
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).is_file()] == []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert "`tests/" in section, section
