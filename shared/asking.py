"""What the commands that ask ingest share: a connection to the Redis of the configuration, and their exit codes."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, NoReturn

import click

from shared.config import Config, load_or_exit
from shared.control import Asker, NotDone
from shared.names import Names
from shared.redis_address import make_redis

INTERRUPTED: Final = 130


def say(text: str) -> None:
    """To the person, not into a pipe."""
    click.echo(text, err=True)


def fail(line: str) -> NoReturn:
    """Refused or failed."""
    say(line)
    sys.exit(1)


@asynccontextmanager
async def asking(settings: Config) -> AsyncIterator[Asker]:
    """Who asks the ingest that the configuration names."""
    redis = make_redis(settings.redis_url)
    try:
        yield Asker(redis, Names(settings.feed), settings.redis_url)
    finally:
        await redis.aclose()


def run(work: Callable[[Asker], Awaitable[int]]) -> None:
    """End the process with what `work` returns; 1 and one line if it was not done, 130 after Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also for a shell's background job, where it is ignored

    async def ask() -> int:
        async with asking(load_or_exit()) as asker:
            return await work(asker)

    try:
        sys.exit(asyncio.run(ask()))
    except NotDone as exc:
        fail(str(exc))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
