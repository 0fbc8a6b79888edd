"""`python -m shared.private_bus`: the Redis between ingest and gateways, for whoever has set up none.

In this order: REDIS_URL if it is set; a redis-server or valkey-server of our own if one is installed; else fakeredis.
Our own server replaces this process, so that whoever stops this process stops the server, even with kill -9.
"""

import contextlib
import errno
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from typing import Final

import click
import uvloop

from shared import config, logs
from shared.redis_address import describe
from shared.variables import PRIVATE_BUS_PORT

HOST: Final = "127.0.0.1"
_PROGRAMS: Final = ("redis-server", "valkey-server")
_OLDEST: Final = (6, 2)  # XADD MINID, with which the log is kept short
_log = logging.getLogger(__name__)


def read_version(text: str) -> tuple[int, int]:
    """Major and minor version in what `redis-server --version` prints; (0, 0) if there is none."""
    match = re.search(r"\bv=(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def find_server(programs: Iterable[str] = _PROGRAMS) -> str | None:
    """The path of an installed server that is new enough."""
    for program in programs:
        if (path := shutil.which(program)) is None:
            continue
        try:
            version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
        except (OSError, subprocess.SubprocessError) as exc:
            _log.warning("bus: %s does not run: %s", path, exc)
            continue
        if read_version(version) >= _OLDEST:
            return path
        _log.warning("bus: %s is older than %d.%d, so not used: %s", path, *_OLDEST, version.strip())
    return None


def get_command(path: str, port: int) -> list[str]:
    """The command line of a server that keeps nothing on disk and answers this machine only.

    Redis reads a dump it finds under its file name even where it is told to save none, hence a name that nobody has
    used.  A gateway that stands still may be 128 MB behind (seconds at full load), then it is cut off and starts anew.
    """
    options: dict[str, tuple[str, ...]] = {
        "port": (str(port),),
        "bind": (HOST,),
        "protected-mode": ("yes",),
        "daemonize": ("no",),
        "save": ("",),
        "appendonly": ("no",),
        "dir": (tempfile.gettempdir(),),
        "dbfilename": (f"polygon-proxy-{os.getpid()}.rdb",),
        "client-output-buffer-limit": ("pubsub", "128mb", "64mb", "30"),
        "tcp-backlog": ("128",),  # the default asks for more than many kernels give, and warns
        "loglevel": ("warning",),
        "logfile": ("",),
    }
    return [path, *(word for name, words in options.items() for word in (f"--{name}", *words))]


def _find_port_problem(port: int) -> str | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            return "taken; does another `make run` still run?" if exc.errno == errno.EADDRINUSE else str(exc)
    return None


def _idle(redis_url: str) -> None:
    """Stay until TERM or INT, because honcho and supervisor take the end of a process for a failure."""
    stopping = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)  # before the line that says we are there
    _log.info("bus: %s, as REDIS_URL says", describe(redis_url))
    signal.sigwait(stopping)


def _run_own(port: int) -> None:
    if problem := _find_port_problem(port):
        _log.error("bus: port %d is %s", port, problem)
        sys.exit(1)
    if path := find_server():
        _log.info("bus: a private %s at %s:%d, kept in memory only", path, HOST, port)
        os.execv(path, get_command(path, port))
    _log.warning("bus: fakeredis at %s:%d, because no redis-server or valkey-server was found on PATH", HOST, port)
    _log.warning(
        "bus: enough to try things out: some 30,000 publishes/s, this machine only, and no proof of how Redis itself "
        "behaves; `apt install redis-server` or REDIS_URL is the real thing"
    )
    # Imported late, because fakeredis takes longer to import than redis-server to start.
    from shared import fake_bus

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(fake_bus.serve(HOST, port))


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=PRIVATE_BUS_PORT, show_default=True)
def main(port: int) -> None:
    """Provide the bus that the configuration names; exit 1 if the port is taken, 2 on a bad configuration."""
    settings = config.load_or_exit()
    logs.configure(settings.log_level, "bus", settings.secrets)
    if settings.has_own_bus:
        _run_own(port)
    else:
        _idle(settings.redis_url)


if __name__ == "__main__":
    main()
