"""One child process of the benchmark: its log, its CPU time, its memory, and its end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

_ROOT = Path(__file__).resolve().parents[2]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.05

Fact = TypeVar("Fact")


class BenchError(Exception):
    """The benchmark cannot give its numbers; the text says why."""


class Process:
    """A running child in a session of its own, its output in `log`."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=_ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_status(self) -> int | None:
        return self._popen.poll()

    def read_cpu_s(self) -> float:
        """User and system time so far (s); proc(5)."""
        fields = self._read_proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def read_rss_max_mb(self) -> float:
        """The most memory that was ever resident (10^6 bytes); proc(5), VmHWM."""
        lines = dict(line.split(":", 1) for line in self._read_proc("status").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6

    def read_lines(self) -> list[str]:
        """The whole lines that it printed so far."""
        return self.log.read_text(errors="replace").rpartition("\n")[0].splitlines()

    def send(self, number: signal.Signals) -> None:
        """Harmless if it is over."""
        if self.is_running:
            self._popen.send_signal(number)

    def stop(self, within_s: float = 10.0) -> bool:
        """SIGTERM, and SIGKILL if that was not enough; whether SIGTERM was."""
        self.send(signal.SIGTERM)
        try:
            self._popen.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """Harmless if it is over."""
        self._popen.kill()
        self._popen.wait()

    def describe_end(self) -> str:
        """For an error: how it ended and its last lines."""
        status = "still running" if self.is_running else f"exit status {self.exit_status}"
        return "\n    ".join([f"{self.name}: {status}", *self.read_lines()[-15:]])

    def _read_proc(self, name: str) -> str:
        try:
            return Path(f"/proc/{self._popen.pid}/{name}").read_text()
        except (FileNotFoundError, ProcessLookupError):
            raise BenchError(self.describe_end()) from None


def read_machine_cpu_s() -> float:
    """CPU time that anything on this machine, or its host in our place (steal), has used so far (s); proc(5)."""
    first = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_guests = map(int, first.split()[1:])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


def python(module: str, *arguments: object) -> list[str]:
    """The command line of a module under this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def wait_for(fact: Callable[[], Fact], within_s: float, what: str, alive: Sequence[Process] = ()) -> Fact:
    """The first true value of `fact`; BenchError if it stays false too long or one of `alive` ends before."""
    end = time.monotonic() + within_s
    while not (value := fact()):
        for process in alive:
            if not process.is_running:
                raise BenchError(f"waiting for {what}: {process.describe_end()}")
        if time.monotonic() > end:
            logs = "\n".join(process.describe_end() for process in alive)
            raise BenchError(f"no {what} within {within_s:g} s\n{logs}")
        time.sleep(_POLL_S)
    return value
