"""`polygon-proxy inject`: events of one's own among the test data."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import click
import msgspec

from shared.asking import INTERRUPTED, run, say
from shared.control import Asker, NotDone

_CHUNK_EVENTS: Final = 500  # in one request; ingest takes 1,000
_CHUNK_BYTES: Final = 128 * 1024  # ingest takes 256 KiB
_LINE_BYTES: Final = 1024 * 1024  # as long as a frame of Polygon's
_STEP_S: Final = 0.1  # with a rate, how often something goes out
_TELL_EVERY_S: Final = 1.0

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass
class Tally:
    """What went out so far."""

    events: int = 0
    clients: int = 0  # the most that one request reached
    silent: int = 0  # gateways that did not answer to the last request

    def describe(self) -> str:
        """In one line."""
        silent = f" ({self.silent} gateways did not say how many)" if self.silent else ""
        return f"{self.events} events injected, {self.clients} clients reached{silent}"


def read_events(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Each event of lines that hold an event or an array of them, byte for byte; raises NotDone, naming the line."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if not text.startswith(b"["):
            yield text  # ingest judges it
            continue
        try:
            yield from (bytes(raw) for raw in _split(text))
        except (msgspec.DecodeError, RecursionError) as exc:
            raise NotDone(f"line {number}: not a JSON object or an array of them: {exc}") from None


def make_chunks(events: Iterable[bytes], most: int) -> Iterator[list[bytes]]:
    """The events in lists of at most `most`, and as many bytes as one request takes."""
    chunk: list[bytes] = []
    size = 0
    for event in events:
        if chunk and (len(chunk) >= most or size + len(event) > _CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(event)
        size += len(event) + 1
    if chunk:
        yield chunk


async def _pace(chunks: Iterable[list[bytes]], rate: float | None) -> AsyncIterator[list[bytes]]:
    """Each chunk when it is due."""
    due = time.monotonic()
    for chunk in chunks:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield chunk
        if rate is not None:
            due += len(chunk) / rate


async def inject_events(asker: Asker, events: Iterable[bytes], rate: float | None, tally: Tally) -> None:
    """Hand all events to ingest; raises NotDone, and then `tally` has what went out before."""
    most = _CHUNK_EVENTS if rate is None else max(1, min(_CHUNK_EVENTS, round(rate * _STEP_S)))
    told_at = time.monotonic()
    async for chunk in _pace(make_chunks(events, most), rate):
        if time.monotonic() - told_at >= _TELL_EVERY_S:
            told_at = time.monotonic()
            say(tally.describe())
        frame = b"[%b]" % b",".join(chunk)
        try:
            data = await asker.ask("inject", {"frame": frame.decode()})
        except UnicodeDecodeError:
            raise NotDone(f"an event after the first {tally.events} is not UTF-8") from None
        except NotDone as exc:
            before = f"{tally.describe()}; then refused: " if tally.events else ""
            raise NotDone(f"{before}{exc}") from None
        tally.events += data["events"]
        tally.clients = max(tally.clients, data["clients"])
        tally.silent = data["silent_gateways"]


def _read_lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(_LINE_BYTES):
        yield line


@click.command()
@click.argument("event", required=False)
@click.option("--file", "file", type=click.File("rb"), help="A file with an event or a frame a line.  '-': stdin.")
@click.option("--rate", type=click.FloatRange(0.01, 200_000), help="Events a second.  [default: as fast as taken]")
def inject(event: str | None, file: BinaryIO | None, rate: float | None) -> None:
    """Send an EVENT of your own to clients: a JSON object or an array of them; '-' reads them line by line from stdin.

    Only while test data is played, and beside live data only for simulated symbols.
    """
    if (event is None) == (file is None):
        raise click.UsageError("give an event, '-', or --file FILE")
    if file is None and event == "-":
        file = sys.stdin.buffer
    lines = _read_lines(file) if file is not None else iter([(event or "").encode("utf-8", "surrogateescape")])

    async def work(asker: Asker) -> int:
        tally = Tally()
        try:
            await inject_events(asker, read_events(lines), rate, tally)
        except asyncio.CancelledError:
            say(f"stopped: {tally.describe()}")
            return INTERRUPTED
        click.echo(tally.describe())
        return 0

    run(work)
