"""A real redis-server of our own, for as long as the tests of this tier run."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from tests.ports import find_free_port

START_WITHIN_S: Final = 10.0
POLL_S: Final = 0.02
_ONCE: Final = Retry(NoBackoff(), 0)  # by itself redis-py tries for seconds


class RedisServer:
    """A redis-server that stores nothing unasked, on a free port of localhost and a unix socket; killed at the end."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._directory = tempfile.TemporaryDirectory(prefix="polygon-proxy-")
        self.path = Path(self._directory.name, "redis.sock")
        self.port = find_free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens on TCP."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        """Where it listens on a unix socket."""
        return f"unix://{self.path}"

    def start(self) -> None:
        """Start it, again on the same port after a stop, and wait until it answers."""
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path)]
        words = ["redis-server", *where, "--save", "", "--dir", self._directory.name, *self._options]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, f"redis-server ended with {self._process.returncode}"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        try:
            with SyncRedis(unix_socket_path=str(self.path), socket_timeout=1.0, retry=_ONCE) as redis:
                return bool(redis.ping())
        except AuthenticationError:
            return True  # it asks for a password, so it is there
        except RedisError:
            return False

    def send_signal(self, number: int) -> None:
        """Such as SIGSTOP, which freezes it."""
        assert self._process is not None, "it is not running"
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, and with it all that it held and was not told to SAVE."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._directory.cleanup()


def find_redis_program() -> str:
    """The redis-server on PATH; without one a test fails where it must run, and is skipped loudly where it need not."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    if os.environ.get("POLYGON_PROXY_REQUIRE_REDIS") == "1":
        pytest.fail("redis-server is not on PATH, and POLYGON_PROXY_REQUIRE_REDIS=1 asks for it")
    pytest.skip("redis-server is not on PATH: NOTHING THAT NEEDS A REAL REDIS WAS TESTED (apt install redis-server)")


@pytest.fixture(scope="session")
def redis_program() -> str:
    """The same, for whoever starts a server of its own."""
    return find_redis_program()


@pytest.fixture(scope="session")
def redis_server(redis_program: str) -> Iterator[RedisServer]:
    """One server for all tests that leave it running."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def start_redis_server(redis_program: str) -> Iterator[Callable[..., RedisServer]]:
    """Starts a server of the test's own, with options of redis-server."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(RedisServer(*options))


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator["Redis"]:
    """A connection to the common server, emptied."""
    async with Redis.from_url(redis_server.url) as client:
        await client.flushall()
        yield client
