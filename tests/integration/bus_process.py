"""`python -m shared.private_bus` as a process, and clients of it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hiredis
from redis.asyncio import Redis

from shared.batch import encode_command
from tests.integration.conftest import find_redis_program
from tests.ports import find_free_port

ROOT = Path(__file__).parents[2]
NO_SERVER = "/nonexistent"  # a PATH on which there is none


def get_path_with_server() -> str:
    """The PATH on which redis-server is."""
    find_redis_program()
    return os.environ["PATH"]


class Bus:
    """The process, and connections to it."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port

    async def until_up(self) -> None:
        async with asyncio.timeout(20):
            while True:
                assert self.process.returncode is None, await self.get_output()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    @asynccontextmanager
    async def client(self) -> AsyncIterator["Redis"]:
        redis = Redis(port=self.port, socket_timeout=5)
        try:
            yield redis
        finally:
            await redis.aclose()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(3):
            return await self.process.wait()

    async def get_output(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.read()).decode()


@asynccontextmanager
async def starting(directory: Path, path: str, **environ: str) -> AsyncIterator[Bus]:
    """The process, not necessarily up."""
    port = find_free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shared.private_bus", "--port", str(port)),
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": path} | environ,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Bus(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class RawClient:
    """A socket without a library between, as the hot ones of ingest and gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._parser = hiredis.Reader()
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> "RawClient":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, *commands: Sequence[bytes]) -> None:
        self.writer.write(b"".join(encode_command(*words) for words in commands))

    async def receive(self, count: int) -> list[Any]:
        replies: list[Any] = []
        async with asyncio.timeout(20):
            while len(replies) < count:
                if (reply := self._parser.gets()) is not False:
                    replies.append(reply)
                    continue
                data = await self._reader.read(65536)
                assert data, f"closed by the bus after {replies[-3:]}"
                self._parser.feed(data)
        return replies
