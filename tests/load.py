"""Many WebSocket clients in one process, each with a checker: `python -m tests.load --help`.

Prints a line `ready` once every client has all its acks.  SIGUSR1 adds a mark to the report: the counts so far, so that
whoever sent it can tell the rates in between.  It ends when `--until FILE` (the fake upstream's report of the last
number on each channel) is there and every client has got all of it, or when that has not happened `--deadline-s` later,
or at SIGTERM; then it writes `--report`.

Cost, CPU of one core of a 2-core EPYC that is busy with the sender, checker included: 100 clients that get 500,000
events/s in 24,000 frames/s 0.52 to 0.61 cores (1.05 to 1.2 us an event); 50,000 events/s in 26,500 frames/s 0.28 cores
(10.5 us a frame).  Of a frame of 2 events the checker takes 3.5 us, the framing 2, the kernel and the loop 4 to 5.
Reading each socket only every 10 ms was tried and saves nothing worth having.
"""

import asyncio
import gc
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import uvloop

from tests.bench.client import Client
from tests.checker import MAX_EXAMPLES, Verdict

__all__ = ["Client", "Load", "choose_channels", "find_percentile"]

_CONNECTING = 20  # clients on their way at a time
_POLL_S = 0.1


def choose_channels(
    clients: int, *, symbols: int, per_client: int, groups: int, seed: int, wildcards: bool = False
) -> list[list[str]]:
    """What each client holds: T and Q of `per_client` random symbols of S0000, ...; client i shares the set i % groups.

    With `wildcards` each holds `T.*` and `Q.*` instead.
    """
    if wildcards:
        return [["T.*", "Q.*"]] * clients
    chance = random.Random(seed)
    picks = [sorted(chance.sample(range(symbols), per_client)) for _ in range(groups)]
    sets = [[f"{event_type}.S{number:04}" for number in pick for event_type in ("T", "Q")] for pick in picks]
    return [sets[index % groups] for index in range(clients)]


def find_percentile(counts: Mapping[int, int], share: float) -> int | None:
    """The smallest value that at least `share` of all samples do not exceed; None without samples."""
    due = share * sum(counts.values())
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= due:
            return value
    return None


class Load:
    """The clients, and what they found.  `expect_from`: see Checker."""

    def __init__(self, url: str, key: str, channels: list[list[str]], *, expect_from: int | None = None) -> None:
        self.latency_ms: Counter[int] = Counter()  # bounded by the client's _MAX_LATENCY_MS
        self.marks: list[dict[str, Any]] = []
        self.clients = [
            Client(url, key, held, latency_ms=self.latency_ms, expect_from=expect_from) for held in channels
        ]

    async def connect(self, within_s: float) -> None:
        """Returns when each client has all its acks; raises ConnectionError or TimeoutError if one has not."""
        permits = asyncio.Semaphore(_CONNECTING)

        async def connect_one(client: Client) -> None:
            async with permits:
                await client.connect()
                await client.acked

        async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
            for client in self.clients:
                tasks.create_task(connect_one(client))

    def mark(self) -> None:
        """Notes time (Unix s), events, frames and CPU (s) up to now, and the latency since the mark before."""
        verdicts = [client.checker.verdict for client in self.clients]
        counts = {"events": sum(v.events for v in verdicts), "frames": sum(v.frames for v in verdicts)}
        latency = {"latency_ms_with_own_delay": _summarise(self.latency_ms)}
        self.marks.append({"at": time.time(), "cpu_s": time.process_time()} | counts | latency)
        self.latency_ms.clear()

    def count_behind(self, last_by_channel: Mapping[str, int]) -> int:
        """Events that have not come to those who hold their channel and are still connected."""
        live = [client for client in self.clients if not client.closed.done()]
        return sum(client.checker.count_behind(last_by_channel) for client in live)

    def finish(self, last_by_channel: Mapping[str, int]) -> dict[str, Any]:
        """The report; closes the clients."""
        self.mark()
        lost_connections = [client.closed.result() for client in self.clients if client.closed.done()]
        for client in self.clients:
            client.close()
        verdicts = [client.checker.finish(last_by_channel) for client in self.clients]
        return {
            "clients": len(self.clients),
            **_add_up(verdicts),
            "disconnects": len(lost_connections),
            "disconnect_causes": Counter(lost_connections),
            "marks": self.marks,
        }


def _add_up(verdicts: list[Verdict]) -> dict[str, Any]:
    """All counts of all verdicts summed, and the first few examples."""
    kinds = ("events", "frames", "lost", "doubled", "reordered", "foreign", "malformed", "unnumbered", "unseen")
    totals: dict[str, Any] = {kind: sum(getattr(verdict, kind) for verdict in verdicts) for kind in kinds}
    statuses: Counter[str] = Counter()
    for verdict in verdicts:
        statuses.update(verdict.statuses)
    examples = [f"client {index}: {text}" for index, verdict in enumerate(verdicts) for text in verdict.examples]
    return totals | {"statuses": statuses, "examples": examples[:MAX_EXAMPLES]}


def _summarise(latency_ms: Counter[int]) -> dict[str, int | None]:
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {"samples": latency_ms.total()} | {
        name: find_percentile(latency_ms, share) for name, share in shares.items()
    }


async def _wait_until_caught_up(
    load: Load, until: Path | None, stop: asyncio.Event, deadline_s: float
) -> dict[str, int]:
    """The last number by channel once `until` tells them and all came, or it is too late; empty if it told nothing."""
    last: dict[str, int] = {}
    end = float("inf")
    while not stop.is_set() and time.monotonic() < end:
        if until is not None and not last and (last := _read_last_numbers(until)):
            end = time.monotonic() + deadline_s
        if last and not load.count_behind(last):
            break
        await _is_set(stop, _POLL_S)
    return last


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False


def _read_last_numbers(path: Path) -> dict[str, int]:
    """Empty while the file is not there or not complete."""
    try:
        channels: dict[str, int] = json.loads(path.read_bytes())["channels"]
    except (FileNotFoundError, ValueError):
        return {}
    return channels


def _write_whole(path: Path, report: dict[str, Any]) -> None:
    """So that whoever waits for the file never reads half of it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(report, indent=1))
    part.replace(path)


async def _run(load_of: Callable[[], Load], until: Path | None, deadline_s: float, connect_s: float) -> dict[str, Any]:
    stop = asyncio.Event()
    load = load_of()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, load.mark)
    await load.connect(connect_s)
    gc.freeze()
    click.echo("ready")
    last = await _wait_until_caught_up(load, until, stop, deadline_s)
    return {"behind": load.count_behind(last), "knew_last_numbers": bool(last)} | load.finish(last)


@click.command()
@click.option("--url", required=True, help="ws://127.0.0.1:8765/stocks")
@click.option("--key", default="load", show_default=True)
@click.option("--clients", default=100, show_default=True, type=click.IntRange(1))
@click.option("--symbols", default=500, show_default=True, help="S0000, ...: T and Q of each.")
@click.option("--per-client", default=50, show_default=True, help="Symbols that each client holds.")
@click.option("--groups", type=click.IntRange(1), help="Clients share so many sets.  Default: each has its own.")
@click.option("--all", "wildcards", is_flag=True, help="Each client holds T.* and Q.* instead.")
@click.option("--seed", default=1, show_default=True)
@click.option("--until", type=click.Path(path_type=Path), help="The fake upstream's report, to be waited for.")
@click.option("--deadline-s", default=10.0, show_default=True, help="To get the rest once that file is there.")
@click.option("--connect-s", default=60.0, show_default=True, help="For all clients together to be acked.")
@click.option("--report", type=click.Path(path_type=Path), help="Default: standard output.")
def main(
    url: str,
    key: str,
    clients: int,
    symbols: int,
    per_client: int,
    groups: int | None,
    wildcards: bool,
    seed: int,
    until: Path | None,
    deadline_s: float,
    connect_s: float,
    report: Path | None,
) -> None:
    """Clients that check what they get; see the module's docstring."""
    channels = choose_channels(
        clients, symbols=symbols, per_client=per_client, groups=groups or clients, seed=seed, wildcards=wildcards
    )
    found = uvloop.run(_run(lambda: Load(url, key, channels), until, deadline_s, connect_s))
    if report is None:
        click.echo(json.dumps(found, indent=1))
    else:
        _write_whole(report, found)


if __name__ == "__main__":
    main()
