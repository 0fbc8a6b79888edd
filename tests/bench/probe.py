"""One more client each second, timed from outside the load: `python -m tests.bench.probe`.

Each connects, authenticates, subscribes to a channel that others hold, then to one that nobody has held, and leaves.
All times are milliseconds and include this process's own delay, which is small: it does nothing else.
"""

import asyncio
import json
import math
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import uvloop

from tests.bench.client import Client


@dataclass(frozen=True, slots=True)
class Timing:
    """What one probe found, in ms."""

    auth: float  # from before the TCP connect to `auth_success`
    held: float  # from there on to the ack of a channel already held, `auth` included
    fresh: float  # the same for a channel that was not held by anybody


async def probe(url: str, key: str, *, held: str, fresh: str, within_s: float = 10.0) -> Timing:
    """One client's timing.  Raises TimeoutError, or ConnectionError if it was refused."""
    started = time.perf_counter()
    client = Client(url, key, [held], latency_ms=Counter())
    async with asyncio.timeout(within_s):
        await client.connect()
        try:
            await client.acked
            held_at = time.perf_counter()
            await client.subscribe([fresh])
            fresh_at = time.perf_counter()
        finally:
            client.close()
    auth_s = client.authenticated_at - started
    return Timing(auth_s * 1000, (held_at - started) * 1000, (auth_s + fresh_at - held_at) * 1000)


def summarise(values_ms: Sequence[float]) -> dict[str, float]:
    """p50, p99 and max by nearest rank; empty without values."""
    ordered = sorted(values_ms)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0} if ordered else {}
    return {name: round(ordered[math.ceil(share * len(ordered)) - 1], 2) for name, share in shares.items()}


async def _run(url: str, key: str, held: str, fresh: str) -> dict[str, object]:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    timings: list[Timing] = []
    failures: list[str] = []
    due = time.monotonic()
    while not stop.is_set():
        try:
            timings.append(await probe(url, key, held=held, fresh=f"{fresh}{len(timings) + len(failures)}"))
        except (OSError, TimeoutError) as error:
            failures.append(repr(error))
        click.echo(json.dumps(asdict(timings[-1]) if timings else failures[-1]))
        due = max(due + 1.0, time.monotonic())
        await _is_set(stop, due - time.monotonic())
    kinds = {kind: summarise([getattr(timing, kind) for timing in timings]) for kind in ("auth", "held", "fresh")}
    return {"count": len(timings), "failures": failures, **kinds}


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False


@click.command()
@click.option("--url", required=True)
@click.option("--key", default="load", show_default=True)
@click.option("--held", default="T.S0000", show_default=True, help="A channel that others hold.")
@click.option("--fresh", default="T.FRESH", show_default=True, help="Channels that nobody holds: this and a number.")
@click.option("--report", required=True, type=click.Path(path_type=Path), help="Written at SIGTERM.")
def main(url: str, key: str, held: str, fresh: str, report: Path) -> None:
    """A client each second until SIGTERM; a line of JSON for each."""
    report.write_text(json.dumps(uvloop.run(_run(url, key, held, fresh)), indent=1))


if __name__ == "__main__":
    main()
