"""A fake of Polygon's WebSocket server: `FakePolygon` for tests, and the program `python -m tests.fakes.polygon`."""

import asyncio
import json
import signal
import time
from pathlib import Path

import click
import uvloop

from tests.fakes.connection import Action
from tests.fakes.load import Load
from tests.fakes.server import FakePolygon
from tests.fakes.session import Script

__all__ = ["Action", "FakePolygon", "Load", "Script"]


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, show_default=True, help="0: a free one, told in the first line.")
@click.option("--rate", default=1000.0, show_default=True, help="Events/s over all channels; 0: none.")
@click.option("--symbols", default=50, show_default=True, type=click.IntRange(1), help="S0000, ...: T and Q of each.")
@click.option("--frame-events", default=100, show_default=True, type=click.IntRange(1), help="At most so many a frame.")
@click.option("--tick-ms", default=2.0, show_default=True, help="How often what is due is sent.")
@click.option("--key", "keys", multiple=True, help="A good key; may be repeated. Default: any.")
@click.option("--duration", "duration_s", type=float, help="End so many seconds after the first subscription.")
@click.option("--linger", "linger_s", default=0.0, help="After that keep connections so many seconds, without events.")
@click.option("--report", type=click.Path(path_type=Path), help="Where the last number of each channel is written.")
def main(
    *,
    host: str,
    port: int,
    rate: float,
    symbols: int,
    frame_events: int,
    tick_ms: float,
    keys: tuple[str, ...],
    duration_s: float | None,
    linger_s: float,
    report: Path | None,
) -> None:
    """A fake Polygon that sends trades and quotes from the first subscription on, and a line of counts each second."""
    fake = FakePolygon(host=host, port=port, keys=frozenset(keys) or None)
    load = Load(fake.live, rate=rate, symbols=symbols, frame_events=frame_events, tick_s=tick_ms / 1000)
    uvloop.run(_run(fake, load, duration_s=duration_s, linger_s=linger_s, report=report))


async def _run(
    fake: FakePolygon, load: Load, *, duration_s: float | None, linger_s: float, report: Path | None
) -> None:
    stop = asyncio.Event()

    def end() -> None:
        stop.set()
        fake.note()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    async with fake:
        click.echo(json.dumps({"url": fake.url}))
        await fake.wait_for(lambda: stop.is_set() or bool(fake.held()), None)
        load.start()
        await _tell_counts(fake, load, stop, duration_s)
        load.stop()
        if report is not None:
            _write_report(report, load)
        await _is_set(stop, linger_s)
        await fake.wait_unread()


async def _tell_counts(fake: FakePolygon, load: Load, stop: asyncio.Event, duration_s: float | None) -> None:
    """A line each second until stopped or over, and one at the end; `rate` is that since the line before."""
    end = time.monotonic() + (float("inf") if duration_s is None else duration_s)
    at, sent, over = time.monotonic(), 0, False
    while not over:
        over = await _is_set(stop, min(1.0, end - at)) or time.monotonic() >= end
        now = time.monotonic()
        counts = {"sent": load.sent, "rate": round((load.sent - sent) / (now - at)), "late": load.late}
        click.echo(json.dumps(counts | {"connections": fake.connections, "cpu_s": round(time.process_time(), 3)}))
        at, sent = now, load.sent


def _write_report(path: Path, load: Load) -> None:
    path.write_text(json.dumps({"channels": load.last_numbers(), "sent": load.sent, "late": load.late}))


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


if __name__ == "__main__":
    main()
