"""`python -m tests.bench.market`: the simulated market through ingest, redis-server and gateway to clients.

Quotes and trades have one sequence, so each client that holds all of both knows of each whether it came, and once.
Exit status 0: at least 99 % of the rate arrived at each client, nothing lost, nothing doubled; 1: it did not.
"""

import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import msgspec
import uvloop
from websockets.asyncio.client import connect

from tests.bench.pipeline import is_open
from tests.ports import find_free_port
from tests.processes import Process, python, until
from tests.redis_state import running_redis

_KEY: Final = "bench"
_SHARE: Final = 0.99


class _Event(msgspec.Struct, gc=False):
    ev: str
    q: int = 0


_decode = msgspec.json.Decoder(list[_Event]).decode


class _Client:
    """Counts what comes, what is missing in the sequence, and what came before."""

    def __init__(self) -> None:
        self.events = self.lost = self.doubled = 0
        self._last = 0
        self.acked = asyncio.Event()

    async def run(self, url: str) -> None:
        async with connect(url, max_size=None, compression=None, ping_interval=None) as connection:
            await connection.send(msgspec.json.encode({"action": "auth", "params": _KEY}).decode())
            await connection.send(msgspec.json.encode({"action": "subscribe", "params": "T.*,Q.*"}).decode())
            async for frame in connection:
                self._take(_decode(frame))

    def _take(self, events: list[_Event]) -> None:
        # A frame holds whole batches, and of a batch first one type, then the other.
        for number in sorted(event.q for event in events if event.ev != "status"):
            self.acked.set()
            self.events += 1
            if self._last:
                self.lost += max(0, number - self._last - 1)
                self.doubled += number <= self._last
            self._last = max(self._last, number)


async def _measure(rate: int, seconds: float, count: int, directory: Path) -> bool:
    async with running_redis() as redis:
        environ = {
            "ENABLE_TEST_MODE": "true",
            "REDIS_URL": redis.url,
            "PROXY_STOCKS_PORT": str(find_free_port()),
            "METRICS_PORT": str(find_free_port()),
            "TEST_RATE": str(rate),
            "TEST_SEED": "1",
            "TEST_START": "2026-11-20T12:00:00",  # a quiet midday, whatever time it is here
        }
        programs = [await Process.start(python(name), directory, environ, name=name) for name in ("ingest", "gateway")]
        clients = [_Client() for _ in range(count)]
        tasks: list[asyncio.Task[None]] = []
        try:
            port = int(environ["PROXY_STOCKS_PORT"])
            await until(lambda: is_open(port), "an open port", programs, 20)
            url = f"ws://127.0.0.1:{port}/stocks"
            tasks = [asyncio.create_task(client.run(url)) for client in clients]
            await asyncio.wait_for(asyncio.gather(*(client.acked.wait() for client in clients)), 20)
            await asyncio.sleep(1.0)  # the market's first second is shorter than the others
            before, began = [client.events for client in clients], time.monotonic()
            await asyncio.sleep(seconds)
            took_s = time.monotonic() - began
            rates = [(client.events - first) / took_s for client, first in zip(clients, before, strict=True)]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for program in programs:
                await program.end()
    lost, doubled = (sum(getattr(client, name) for client in clients) for name in ("lost", "doubled"))
    slipped = "cannot keep up" in programs[0].output
    click.echo(f"{min(rates):,.0f} events/s at each of {count} clients of {rate:,}; lost {lost}, doubled {doubled}")
    if slipped:
        click.echo("the simulated market could not keep up")
    return min(rates) >= _SHARE * rate and not (lost or doubled or slipped)


@click.command()
@click.option("--rate", default=50_000, show_default=True, help="Quotes and trades a second.")
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--clients", default=2, show_default=True, help="Each holds T.* and Q.*.")
def main(rate: int, seconds: float, clients: int) -> None:
    """Measure on this machine, which should have nothing else to do."""
    with TemporaryDirectory() as directory:
        is_good = uvloop.run(_measure(rate, seconds, clients, Path(directory)))
    sys.exit(not is_good)


if __name__ == "__main__":
    main()
