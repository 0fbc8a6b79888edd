"""`make bench`: fake Polygon -> ingest -> redis-server -> gateways -> clients at full rate, and a table of numbers.

Exit status 0: every target was met; 1: one was missed; 2: there are no numbers, and why.
"""

import signal
import sys
from types import FrameType

import click

from tests.bench.pipeline import Pipeline, Settings
from tests.bench.process import BenchError
from tests.bench.table import Run, make_rows, render
from tests.load import choose_channels

_SEED = 1  # the load's default
_OVERHEAD_S = 150  # all that is not the measurement, at its very worst


@click.command()
@click.option("--rate", default=50_000, show_default=True, help="Events/s in, over all channels.")
@click.option("--seconds", default=30.0, show_default=True)
@click.option("--clients", default=100, show_default=True)
@click.option("--symbols", default=500, show_default=True)
@click.option("--per-client", default=50, show_default=True, help="Symbols that each client holds, T and Q.")
@click.option("--gateways", default=1, show_default=True)
@click.option("--groups", type=click.IntRange(1), help="Clients share so many sets.  Default: each has its own.")
@click.option("--all", "wildcards", is_flag=True, help="Each client holds T.* and Q.* instead.")
def main(
    rate: int,
    seconds: float,
    clients: int,
    symbols: int,
    per_client: int,
    gateways: int,
    groups: int | None,
    wildcards: bool,
) -> None:
    """Measure the main job on this machine."""
    settings = Settings(
        rate=rate, symbols=symbols, clients=clients, per_client=per_client, gateways=gateways,
        groups=groups or clients, wildcards=wildcards,
    )  # fmt: skip
    _limit_time(seconds + _OVERHEAD_S)
    try:
        rows = make_rows(_measure(settings, seconds))
    except BenchError as error:
        click.echo(f"no numbers: {error}", err=True)
        sys.exit(2)
    click.echo(render(rows))
    sys.exit(not all(row.is_met for row in rows))


def _measure(settings: Settings, seconds: float) -> Run:
    with Pipeline(settings) as pipeline:
        click.echo(f"{settings.clients} clients are connected; measuring for {seconds:g} s ...", err=True)
        begin = pipeline.mark()
        pipeline.run(seconds)
        end = pipeline.mark()
        rss_max_mb = {name: process.read_rss_max_mb() for name, process in pipeline.processes.items()}
        probe, load = pipeline.finish()
    return Run(_find_due_rate(settings), begin, end, load, probe, rss_max_mb)


def _find_due_rate(settings: Settings) -> float:
    """The fake sends only what somebody holds: its rate times the held share of all channels."""
    held = choose_channels(
        settings.clients, symbols=settings.symbols, per_client=settings.per_client, groups=settings.groups, seed=_SEED
    )
    share = 1.0 if settings.wildcards else len({channel for one in held for channel in one}) / (2 * settings.symbols)
    return settings.rate * share


def _limit_time(seconds: float) -> None:
    """An error, so that everything is ended, if it takes longer or we are told to stop."""

    def end(number: int, _: FrameType | None) -> None:
        for further in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
            signal.signal(further, signal.SIG_IGN)
        cause = "the hard time limit was reached" if number == signal.SIGALRM else "stopped"
        raise BenchError(cause)

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    main()
