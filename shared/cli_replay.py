"""`polygon-proxy replay`: plays a recording for a while, and then what was played before."""

import asyncio
import contextlib
import re
import secrets
import signal
from pathlib import Path
from typing import Any, Final

import click

from shared.asking import INTERRUPTED, run, say
from shared.cli_test import describe
from shared.control import Asker, NotDone

_LOOK_EVERY_S: Final = 0.5
_TELL_EVERY_S: Final = 5.0


def _check_speed(_context: click.Context, _option: click.Parameter, text: str) -> float | None:
    if text == "max":
        return None
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) or not 0 < float(text) <= 1000:
        raise click.BadParameter("expected a factor up to 1000, such as 1 or 10, or max")
    return float(text)


def _check_start(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?", text):
        raise click.BadParameter("expected a time of day in New York, such as 09:29:55")
    return text


def _describe_progress(progress: dict[str, Any]) -> str:
    """How far a replay is, in one line."""
    position_s, total_s = progress.get("position_s", 0.0), progress.get("total_s", 0.0)
    passes = f", pass {progress['passes'] + 1}" if progress.get("passes") else ""
    return f"{position_s:.0f} of {total_s:.0f} s, {progress.get('frames', 0)} frames{passes}"


async def play(asker: Asker, ident: str, args: dict[str, Any]) -> None:
    """Play until it is over; whatever ends this ends the replay too.  Raises NotDone, also if it ended too early."""
    looks = 0
    try:
        status = await asker.ask("replay", {"id": ident, **args})
        say(describe(status))
        while status.get("replay") == ident:
            await asyncio.sleep(_LOOK_EVERY_S)
            status = await asker.ask("status")
            looks += 1
            if looks % round(_TELL_EVERY_S / _LOOK_EVERY_S) == 0:
                say(_describe_progress(status.get("progress", {})))
    except BaseException:
        # Also if there was no answer: ingest does one thing after the other, so it plays first, and stops then.
        if (task := asyncio.current_task()) is not None and task.cancelling():
            task.uncancel()
        with contextlib.suppress(NotDone):  # whoever asked hears of the first failure
            await asker.ask("stop", {"id": ident})
        raise
    if status.get("finished") != ident:
        raise NotDone(
            "ended before its end: another replay or scenario took its place, its file cannot be read on, or ingest "
            f"was started anew; now {describe(status)}"
        )
    click.echo(f"over; now {describe(status)}")


def _end_on_signals() -> None:
    """TERM and HUP do what Ctrl-C does, once: a closed terminal sends several, and ingest is yet to be asked."""
    task = asyncio.current_task()
    assert task is not None, "called in one"
    has_ended = False

    def end() -> None:
        nonlocal has_ended
        if not has_ended:
            has_ended = True
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            asyncio.get_running_loop().add_signal_handler(number, end)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--speed", callback=_check_speed, default="1", show_default=True, help="A factor, or max.")
@click.option(
    "--from", "start", callback=_check_start, metavar="HH:MM:SS", help="Begin at this time of day in New York."
)
@click.option("--loop", is_flag=True, help="Begin again at the end, until Ctrl-C.")
@click.option("--rewrite-times", is_flag=True, help="Let each event's times be now's.")
def replay(file: Path, speed: float | None, start: str | None, *, loop: bool, rewrite_times: bool) -> None:
    """Play the recording FILE, which ingest must be able to read; Ctrl-C goes back to what was played before."""
    args = {
        "path": str(file.expanduser().resolve()),
        "speed": speed,
        "start": start,
        "loop": loop,
        "rewrite_times": rewrite_times,
    }

    async def work(asker: Asker) -> int:
        _end_on_signals()
        try:
            await play(asker, secrets.token_hex(8), args)
        except asyncio.CancelledError:
            say("stopped")
            return INTERRUPTED
        return 0

    run(work)
