"""Tasks that have a name, an owner and an end: they run until an event, such as TERM or INT, or until one fails."""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self

_log = logging.getLogger(__name__)
_CANCEL_TRIES: Final = 6
_CANCEL_EVERY_S: Final = 0.5


class TaskEnded(Exception):
    """A task that runs for ever came back; str() is its name."""


class Tasks:
    """Permanent tasks, as an async context; leaving it cancels them and waits for their end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` for as long as the context is open."""
        self._tasks.add(asyncio.create_task(work, name=name))

    async def until(self, event: asyncio.Event) -> None:
        """Return once the event is set; raise what a permanent task raised, or TaskEnded if it merely returned."""
        waiter = asyncio.create_task(event.wait(), name="until")
        try:
            done, _ = await asyncio.wait({waiter, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        for task in done - {waiter}:
            task.result()
            raise TaskEnded(task.get_name())

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = asyncio.create_task(self._end(), name="ending")
        cancelled = False
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                cancelled = True  # impatience of whoever cancelled us: nothing may be left running
        if cancelled and exc is None:
            raise asyncio.CancelledError

    async def _end(self) -> None:
        pending = self._tasks
        for _ in range(_CANCEL_TRIES):  # again: asyncio.wait_for may swallow one that comes as its work ends
            for task in pending:
                task.cancel()
            if pending:
                _, pending = await asyncio.wait(pending, timeout=_CANCEL_EVERY_S)
        for task in pending:
            _log.error("task %s does not end", task.get_name())


def watch_signals() -> asyncio.Event:
    """An event that TERM and INT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
