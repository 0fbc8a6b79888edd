"""The real programs as child processes: `python -m ingest` and the like, with an environment of their own.

Waits are for facts, with a deadline; a failure shows what the process has said.  Each process is ended by its id.
"""

import asyncio
import inspect
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

ROOT = Path(__file__).parents[1]
_POLL_S = 0.02
_NUMBERS = itertools.count(1)


class Process:
    """A running child; stdout and stderr go to one file."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.child = child
        self.log = log

    @classmethod
    async def start(
        cls, command: Sequence[str], directory: Path, environ: Mapping[str, str] | None = None, *, name: str
    ) -> Self:
        """The child works in `directory`, where no `.env` of the project is; nothing of our environment but PATH."""
        log = directory / f"{next(_NUMBERS)}-{name}.log"
        with log.open("wb") as output:
            child = await asyncio.create_subprocess_exec(
                *command,
                cwd=directory,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | dict(environ or {}),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(name, child, log)

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return self.log.read_text(errors="replace")

    @property
    def rss_mb(self) -> float:
        """Resident memory in 10^6 bytes; proc(5)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def describe(self) -> str:
        """For a failure: whether it runs, and its last lines."""
        status = "running" if self.child.returncode is None else f"exit status {self.child.returncode}"
        return "\n    ".join([f"{self.name}: {status}", *self.output.splitlines()[-15:]])

    async def stop(self, number: int = signal.SIGTERM, within_s: float = 5.0) -> int:
        """Send a signal; the exit status that follows, within the deadline."""
        self.child.send_signal(number)
        return await self.wait(within_s)

    async def wait(self, within_s: float = 10.0) -> int:
        """The exit status, within the deadline."""
        try:
            async with asyncio.timeout(within_s):
                return await self.child.wait()
        except TimeoutError:
            raise AssertionError(f"still running after {within_s:g} s\n{self.describe()}") from None

    async def end(self) -> None:
        """Whatever happened: it is gone."""
        if self.child.returncode is None:
            self.child.kill()
        await self.child.wait()


class Stoppable(Protocol):
    """A process of some kind."""

    def send_signal(self, number: int, /) -> None: ...


@contextmanager
def frozen(process: Stoppable) -> Iterator[None]:
    """It stands still meanwhile (SIGSTOP), as in a virtual machine that is moved; then it goes on."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


async def until(
    fact: Callable[[], object | Awaitable[object]], what: str, alive: Sequence[Process] = (), within_s: float = 10.0
) -> None:
    """Return once `fact` is true; AssertionError if it stays false too long or one of `alive` ends before."""
    deadline = time.monotonic() + within_s
    while True:
        value = fact()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return
        ended = [process.describe() for process in alive if process.child.returncode is not None]
        if ended or time.monotonic() > deadline:
            facts = "\n".join(ended or [process.describe() for process in alive])
            raise AssertionError(f"not within {within_s:g} s: {what} (last: {value!r})\n{facts}")
        await asyncio.sleep(_POLL_S)


def python(module: str, *arguments: str, constants: Mapping[str, float] | None = None) -> list[str]:
    """The command line of a module; `constants` (such as ingest.reconcile.LINGER_S) shorten waits of the real one."""
    if not constants:
        return [sys.executable, "-m", module, *arguments]
    lines = ["import importlib"]
    for name, value in constants.items():
        owner, _, constant = name.rpartition(".")
        lines.append(f"module = importlib.import_module({json.dumps(owner)})")
        lines.append(f"assert hasattr(module, {constant!r}); module.{constant} = {value!r}")
    lines.append(f"importlib.import_module({json.dumps(module + '.__main__')}).main()")
    return [sys.executable, "-c", "\n".join(lines), *arguments]
