"""`polygon-proxy record` and `polygon-proxy inspect`."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import click
from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.text import Text

from shared.config import Config, load_or_exit
from shared.inspection import Inspection, print_inspection
from shared.lifecycle import watch_signals
from shared.names import Names
from shared.recorder import Recorder
from shared.recording import BadRecording, Rotation, parse_rotation
from shared.recording_writer import RecordingWriter
from shared.redis_address import make_redis

_LIVE_EVERY_S: Final = 0.5
_LINE_EVERY_S: Final = 10.0
_PLAIN_COLUMNS: Final = 1000  # so that no line of a file or a pipe is folded
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


def _parse_rotate(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Rotation | None:
    try:
        return None if text is None else parse_rotation(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


@click.command()
@click.argument("file", type=_FILE)
@click.option("--rotate", callback=_parse_rotate, help="Go on in FILE.1, FILE.2, ... after 1h, 30m, 90s, 500MB or 2GB.")
def record(file: Path, rotate: Rotation | None) -> None:
    """Write the frames that ingest receives, with their times, into FILE, until Ctrl-C.

    It runs on any machine that reaches Redis (REDIS_URL).  FILE must not exist.  A kill costs the last second, a
    power cut the last five.
    """
    settings = load_or_exit()
    try:
        writer = RecordingWriter(file, time.time_ns() // 1000, rotate)
    except FileExistsError as exc:
        _fail(f"{exc.filename or exc}: exists, and is not written over; choose another name")
    except OSError as exc:
        _fail(f"{file}: cannot be written ({exc.strerror}); choose a place where you may write")
    try:
        asyncio.run(_record(settings, file, writer))
    except OSError as exc:
        where = exc.filename or writer.path
        _fail(f"{where}: {exc.strerror}; all but the last second is safe. Make room, record into another file")


def _fail(line: str) -> NoReturn:
    click.echo(line, err=True)
    sys.exit(1)


async def _record(settings: Config, file: Path, writer: RecordingWriter) -> None:
    stop = watch_signals()
    console = Console(stderr=True)
    redis = make_redis(settings.redis_url)
    recorder = Recorder(redis, Names(settings.feed), writer)
    display = asyncio.create_task(_show(file, recorder, console), name="progress")
    try:
        await recorder.run(stop)
    finally:
        display.cancel()
        await asyncio.wait([display])
        await redis.aclose()
        console.print(f"{file}: {recorder.frames:,} frames, {recorder.bytes_written:,} bytes, {recorder.holes} holes")
        if recorder.trouble:
            console.print(recorder.trouble)


async def _show(file: Path, recorder: Recorder, console: Console) -> None:
    line = _Line(file, recorder)
    if not console.is_terminal:
        await _print_lines(line, recorder, console)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(line.render(), refresh=True)
            await asyncio.sleep(_LIVE_EVERY_S)


async def _print_lines(line: "_Line", recorder: Recorder, console: Console) -> None:
    """One now and then, and one as soon as there is trouble or it is over."""
    said, due = "", 0.0
    while True:
        if recorder.trouble != said or time.monotonic() >= due:
            console.print(line.render(), soft_wrap=True)
            said, due = recorder.trouble, time.monotonic() + _LINE_EVERY_S
        await asyncio.sleep(_LIVE_EVERY_S)


class _Line:
    """How far a recording is, in a line; the rate is that since the line before."""

    def __init__(self, file: Path, recorder: Recorder) -> None:
        self._file = file
        self._recorder = recorder
        self._begin = self._at = time.monotonic()
        self._events = 0

    def render(self) -> Text:
        recorder, now = self._recorder, time.monotonic()
        rate = (recorder.events - self._events) / max(now - self._at, 1e-3)
        self._at, self._events = now, recorder.events
        facts = (
            f"{now - self._begin:,.0f} s", f"{recorder.frames:,} frames", f"{rate:,.0f} events/s",
            f"{recorder.bytes_written / 1e6:,.1f} MB", f"lag {recorder.lag_s * 1000:,.0f} ms",
            f"{recorder.holes} holes",
        )  # fmt: skip
        trouble = f" - {recorder.trouble}" if recorder.trouble else ""
        return Text(f"{self._file}: {', '.join(facts)}{trouble}")


@click.command()
@click.argument("file", type=_FILE)
def inspect(file: Path) -> None:
    """Print what is in the recording FILE, with its parts FILE.1, FILE.2, ... or in one of them alone."""
    try:
        inspection = Inspection(file)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            inspection.read(progress)
    except BadRecording as exc:
        _fail(str(exc))
    except OSError as exc:
        _fail(f"{file}: cannot be read ({exc.strerror})")
    is_terminal = sys.stdout.isatty()
    print_inspection(inspection, Console(width=None if is_terminal else _PLAIN_COLUMNS))
