"""`polygon-proxy test`: what the test data is, and how to change it while it runs."""

import re
from pathlib import Path
from typing import Any

import click

from shared.asking import run
from shared.control import Asker
from shared.variables import SCENARIOS


def describe(status: dict[str, Any]) -> str:
    """What ingest says of its test data, in one line."""
    if status["mode"] == "live":
        return "live: no test data"
    own = "no symbols" if status["mode"] == "mixed" else "own symbols"
    symbols = f"{len(status['symbols'])} symbols: {','.join(status['symbols'])}" if status["symbols"] else own
    speed = "" if status["replay"] else f"speed {status['speed']:g}, "  # a replay that is asked for has its own
    off = "" if status["enabled"] else ", disabled"
    over = ", over" if status["over"] and not status["replay"] else ""
    return f"{status['mode']}, scenario {status['scenario']}, {speed}{symbols}{off}{over}"


def make_absolute(scenario: str) -> str:
    """A path as ingest finds it, wherever that works; a name as it is."""
    is_path = scenario.lower() not in SCENARIOS and re.search(r"[./]", scenario)
    return str(Path(scenario).expanduser().resolve()) if is_path else scenario


def _change(command: str, **args: str) -> None:
    async def work(asker: Asker) -> int:
        click.echo(describe(await asker.ask(command, dict(args))))
        return 0

    run(work)


@click.group()
def test() -> None:
    """Look at the test data, and change it while it runs."""


@test.command()
def status() -> None:
    """Say what is played."""
    _change("status")


@test.command()
def enable() -> None:
    """Let test data go on."""
    _change("enable")


@test.command()
def disable() -> None:
    """Stop test data; clients stay connected, and nothing comes in its place."""
    _change("disable")


@test.command()
@click.argument("scenario")
def scenario(scenario: str) -> None:
    """Play SCENARIO: a name, the path of a .toml file, or that of a recording."""
    _change("scenario", value=make_absolute(scenario))


@test.command()
@click.argument("factor")
def speed(factor: str) -> None:
    """Let simulated time run FACTOR times as fast."""
    _change("speed", value=factor)


@test.command()
@click.argument("symbols")
def symbols(symbols: str) -> None:
    """Simulate SYMBOLS, such as AAPL,BRK.A; '' is the simulator's own list, or none beside live data."""
    _change("symbols", value=symbols)
