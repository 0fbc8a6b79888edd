"""`polygon-proxy replay`: plays a recording for a while, and then what was played before."""

import asyncio
import contextlib
import re
import secrets
from pathlib import Path
from typing import Any

import click

from shared.asking import INTERRUPTED, run, say
from shared.cli_test import describe
from shared.control import Asker, NotDone

_LOOK_EVERY_S = 0.5
_TELL_EVERY_S = 5.0


class _Speed(click.ParamType):
    """A factor, or `max`."""

    name = "factor|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value).lower()
        if text == "max" or (re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) and 0 < float(text) <= 1000):
            return text
        self.fail("expected a factor up to 1000, such as 1 or 10, or max", param, ctx)


class _Time(click.ParamType):
    """A time of day."""

    name = "HH:MM:SS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?", str(value)):
            return str(value)
        self.fail("expected a time of day in New York, such as 09:29:55", param, ctx)


async def play(asker: Asker, ident: str, args: dict[str, Any]) -> None:
    """Play until it is over; whatever ends this ends the replay too."""
    status = await asker.ask("replay", id=ident, **args)
    say(describe(status))
    looks = 0
    try:
        while status.get("replay") == ident:
            await asyncio.sleep(_LOOK_EVERY_S)
            status = await asker.ask("status")
            looks += 1
            if looks % round(_TELL_EVERY_S / _LOOK_EVERY_S) == 0:
                say(f"{status.get('frames', 0)} frames played since ingest started")
    except BaseException:
        with contextlib.suppress(NotDone):  # whoever asked hears of the first failure
            await asker.ask("stop", id=ident)
        raise
    click.echo(f"over; now {describe(status)}")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--speed", type=_Speed(), default="1", show_default=True, help="max: as fast as it is taken.")
@click.option("--from", "start", type=_Time(), help="Begin at this time of day in New York.")
@click.option("--loop", is_flag=True, help="Begin again at the end, until Ctrl-C.")
@click.option("--rewrite-times", is_flag=True, help="Let each event's times be now's.")
def replay(file: Path, speed: str, start: str | None, *, loop: bool, rewrite_times: bool) -> None:
    """Play the recording FILE, which ingest must be able to read; Ctrl-C goes back to what was played before."""
    args = {
        "path": str(file.expanduser().resolve()),
        "speed": None if speed == "max" else float(speed),
        "start": start,
        "loop": loop,
        "rewrite_times": rewrite_times,
    }

    async def work(asker: Asker) -> int:
        try:
            await play(asker, secrets.token_hex(8), args)
        except asyncio.CancelledError:
            say("stopped")
            return INTERRUPTED
        return 0

    run(work)
