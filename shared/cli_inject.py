"""`polygon-proxy inject`: events of one's own among the test data."""

import asyncio
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
_READ_BYTES: Final = 64 * 1024
_LINE_BYTES: Final = 1024 * 1024  # as long as a frame of Polygon's; a longer line is refused
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


def read_events(lines: Iterable[bytes], first: int = 1) -> Iterator[bytes]:
    """Each event of lines that hold an event or an array of them, byte for byte; raises NotDone, naming the line."""
    for number, line in enumerate(lines, first):
        text = line.strip()
        if not text:
            continue
        try:
            yield from map(bytes, _split(text if text.startswith(b"[") else b"[%b]" % text))  # ingest judges them
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


async def read_bursts(stream: BinaryIO) -> AsyncIterator[list[bytes]]:
    """The lines that have arrived, as they arrive; waits so that Ctrl-C is heard meanwhile."""
    rest = b""
    while True:
        await _until_readable(stream.fileno())
        data = stream.read1(_READ_BYTES)  # type: ignore[attr-defined]  # a BufferedReader
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise NotDone(f"a line is longer than {_LINE_BYTES} bytes")
        if not data:
            yield [rest]
            return
        yield lines


async def _until_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:
        return  # a file on disk always is
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


class Injector:
    """Hands events to ingest at a rate (events a second; None: as fast as they are taken)."""

    def __init__(self, asker: Asker, rate: float | None) -> None:
        self._asker = asker
        self._rate = rate
        self._most = _CHUNK_EVENTS if rate is None else max(1, min(_CHUNK_EVENTS, round(rate * _STEP_S)))
        self._due = self._told_at = time.monotonic()
        self._lines = 0
        self.tally = Tally()

    async def inject(self, lines: list[bytes]) -> None:
        """All events of these lines; raises NotDone, and then `tally` has what went out before."""
        for chunk in make_chunks(read_events(lines, self._lines + 1), self._most):
            await self._pace()
            await self._send(chunk)
            if self._rate is not None:
                self._due = max(self._due, time.monotonic() - _TELL_EVERY_S) + len(chunk) / self._rate
        self._lines += len(lines)

    async def _pace(self) -> None:
        await asyncio.sleep(max(0.0, self._due - time.monotonic()))
        if time.monotonic() - self._told_at >= _TELL_EVERY_S:
            self._told_at = time.monotonic()
            say(self.tally.describe())

    async def _send(self, chunk: list[bytes]) -> None:
        tally = self.tally
        try:
            frame = (b"[%b]" % b",".join(chunk)).decode()
            data = await self._asker.ask("inject", {"frame": frame, "first": tally.events + 1})
        except UnicodeDecodeError:
            raise NotDone(f"after {tally.events} events: not UTF-8") from None
        except NotDone as exc:
            raise NotDone(f"after {tally.events} events: {exc}" if tally.events else str(exc)) from None
        tally.events += data["events"]
        tally.clients = max(tally.clients, data["clients"])
        tally.silent = data["silent_gateways"]


@click.command()
@click.argument("event", required=False)
@click.option("--file", "file", type=click.File("rb"), help="A file with an event or a frame a line; '-' is stdin.")
@click.option("--rate", type=click.FloatRange(0.01, 200_000), help="Events a second.  [default: as fast as taken]")
def inject(event: str | None, file: BinaryIO | None, rate: float | None) -> None:
    """Send an EVENT of your own to clients: a JSON object or an array of them; '-' reads them line by line from stdin.

    Only while test data is played, and beside live data only for simulated symbols.
    """
    if (event is None) == (file is None):
        raise click.UsageError("give an event, '-', or --file FILE")
    if event == "-":
        file = click.open_file("-", "rb")  # type: ignore[assignment]

    async def work(asker: Asker) -> int:
        injector = Injector(asker, rate)
        try:
            if file is None:
                await injector.inject([(event or "").encode("utf-8", "surrogateescape")])
            else:
                async for lines in read_bursts(file):
                    await injector.inject(lines)
        except asyncio.CancelledError:
            say(f"stopped: {injector.tally.describe()}")
            return INTERRUPTED
        if not injector.tally.events:
            raise NotDone("there was no event to inject")
        click.echo(injector.tally.describe())
        return 0

    run(work)
