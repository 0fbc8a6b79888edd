"""`python -m tests.bench.recording`: what recording costs ingest at 50,000 events/s, measured off and on in turn.

Exit status 0: less than 10 % more CPU; 1: more; 2: there are no numbers, and why.
"""

import sys
import tempfile
from pathlib import Path

import click

from shared.names import Names
from tests.bench.pipeline import Pipeline, Settings
from tests.bench.process import BenchError, Process, python, wait_for

_MOST = 0.10


class _Recorded:
    """A pipeline with a recorder that comes and goes."""

    def __init__(self, pipeline: Pipeline, directory: Path) -> None:
        self._pipeline = pipeline
        self._directory = directory
        self._count = 0

    def measure(self, seconds: float) -> float:
        """CPU seconds of ingest per second."""
        begin = self._pipeline.mark()
        self._pipeline.run(seconds)
        end = self._pipeline.mark()
        return (end.cpu_s["ingest"] - begin.cpu_s["ingest"]) / (end.at - begin.at)

    def measure_recording(self, seconds: float) -> tuple[float, float, int]:
        """The same while it records; CPU seconds of the recorder per second, and the bytes of the file."""
        self._count += 1
        file = self._directory / f"{self._count}.pprec"
        command = python("shared.cli", "record", file)
        recorder = Process(f"record {self._count}", command, self._directory, self._pipeline.get_environment(1))
        try:
            self._wait_recording("1", recorder)
            before = recorder.read_cpu_s()
            cost = self.measure(seconds)
            own = (recorder.read_cpu_s() - before) / seconds
        finally:
            recorder.stop()
        self._wait_recording("0")
        return cost, own, file.stat().st_size

    def _wait_recording(self, wanted: str, *alive: Process) -> None:
        names = Names("stocks")
        redis = self._pipeline.redis
        wait_for(lambda: redis.hget(names.upstream, "recording") == wanted.encode(), 20, "recording", alive)


@click.command()
@click.option("--rate", default=50_000, show_default=True, help="Events/s.")
@click.option("--seconds", default=10.0, show_default=True, help="For each measurement.")
@click.option("--turns", default=3, show_default=True, help="Measurements of each kind.")
def main(rate: int, seconds: float, turns: int) -> None:
    """Measure on this machine, which should have nothing else to do."""
    settings = Settings(rate=rate, symbols=500, clients=2, per_client=50, gateways=1, groups=1, wildcards=True)
    off: list[float] = []
    on: list[float] = []
    try:
        with Pipeline(settings) as pipeline, tempfile.TemporaryDirectory() as directory:
            recorded = _Recorded(pipeline, Path(directory))
            for _ in range(turns):
                off.append(recorded.measure(seconds))
                cost, own, size = recorded.measure_recording(seconds)
                on.append(cost)
                click.echo(
                    f"ingest {off[-1]:.3f} s/s, recording {cost:.3f} s/s; recorder {own:.3f} s/s, {size:,} bytes"
                )
    except BenchError as error:
        click.echo(f"no numbers: {error}", err=True)
        sys.exit(2)
    more = sum(on) / sum(off) - 1
    click.echo(f"recording costs ingest {more:+.1%} CPU at {rate:,} events/s (target: < {_MOST:.0%})")
    sys.exit(more >= _MOST)


if __name__ == "__main__":
    main()
