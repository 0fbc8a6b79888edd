"""`make soak`: minutes of a random fault every few seconds, under load.

Exit status 0: nothing was lost without a word, doubled or late; 1: something was.
"""

import sys
import tempfile
import time
from pathlib import Path

import click
import uvloop

from tests.soak.faults import FAULTS
from tests.soak.run import soak
from tests.soak.stage import Plan

_PAUSE_S = (0.5, 3.0)


@click.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--rate", default=20_000.0, show_default=True, help="Events/s upstream.")
@click.option("--gateways", default=4, show_default=True, type=click.IntRange(2))
@click.option("--clients", default=200, show_default=True, type=click.IntRange(8))
@click.option("--symbols", default=250, show_default=True, help="T and Q of each.")
@click.option("--per-client", default=8, show_default=True, help="Channels that most clients hold.")
@click.option("--busy", default=2, show_default=True, help="Clients that hold many quotes over a narrow line.")
@click.option("--seed", type=int, help="Default: by the clock; it is printed.")
@click.option("--only", help="Only faults whose name has this in it.")
@click.option("--kill-nothing", is_flag=True, help="Only faults after which every process still runs, for its memory.")
def main(
    *,
    minutes: float,
    rate: float,
    gateways: int,
    clients: int,
    symbols: int,
    per_client: int,
    busy: int,
    seed: int | None,
    only: str | None,
    kill_nothing: bool,
) -> None:
    """A soak; the processes' logs are kept if it fails."""
    seed = int(time.time()) if seed is None else seed
    plan = Plan(rate, gateways, clients, symbols, per_client, busy, seed)
    faults = [f for f in FAULTS if (only or "") in f.name and not (kill_nothing and f.kills)]
    click.echo(f"{plan}, {minutes:g} minutes, {len(faults)} kinds of fault")
    directory = Path(tempfile.mkdtemp(prefix="polygon-proxy-soak-"))
    run = uvloop.run(soak(plan, directory, faults, minutes * 60.0, _PAUSE_S, _say, must_be_flat=kill_nothing))
    click.echo(f"\n{run.render()}\n\nlogs: {directory}\n{'passed' if run.is_passed else 'FAILED'} (seed {seed})")
    sys.exit(not run.is_passed)


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}")


if __name__ == "__main__":
    main()
