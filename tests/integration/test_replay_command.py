"""`polygon-proxy replay` on a real Redis: whatever ends it, ingest is asked to stop what it was asked to play."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.control import Reply, Request, answer, parse_request
from shared.lifecycle import Tasks
from shared.names import Names
from tests.integration.conftest import RedisServer
from tests.processes import Process, python, until

NAMES = Names("stocks")


class Ingest:
    """Answers requests, but a replay not while it is slow to read the recording."""

    def __init__(self, redis: "Redis", *, is_slow: bool) -> None:
        self._redis = redis
        self._is_slow = is_slow
        self.heard: list[Request] = []

    async def run(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(NAMES.control)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    await self._on_request(parse_request(message["data"]))

    async def _on_request(self, request: Request) -> None:
        self.heard.append(request)
        if request.command != "replay" or not self._is_slow:
            await answer(self._redis, NAMES, request, Reply(data=self._get_status()))

    def _get_status(self) -> dict[str, Any]:
        playing = self.heard[0].args["id"]
        return {"mode": "replay", "scenario": "day", "replay": playing, "symbols": [], "enabled": True, "over": False}


@asynccontextmanager
async def playing(redis: "Redis", url: str, directory: Path, *, is_slow: bool) -> AsyncIterator[tuple[Ingest, Process]]:
    """A replay without an end, that ingest has heard of; if it is not slow, the command has looked how far it is."""
    ingest = Ingest(redis, is_slow=is_slow)
    async with Tasks() as tasks:
        tasks.start("ingest", ingest.run())
        async with asyncio.timeout(5):
            while not (await redis.pubsub_numsub(NAMES.control))[0][1]:
                await asyncio.sleep(0.005)
        words = python("shared.cli", "replay", "day.pprec", "--loop")
        command = await Process.start(words, directory, {"REDIS_URL": url}, name="replay")
        try:
            await until(lambda: len(ingest.heard) >= (1 if is_slow else 2), "it asked", (command,))
            yield ingest, command
        finally:
            await command.end()


@pytest.mark.parametrize("is_slow", [False, True], ids=["while it plays", "before ingest has answered"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_the_replay_with_the_command(
    redis: "Redis", redis_server: RedisServer, tmp_path: Path, number: int, is_slow: bool
) -> None:
    async with playing(redis, redis_server.url, tmp_path, is_slow=is_slow) as (ingest, command):
        if number != signal.SIGINT:
            command.child.send_signal(number)  # as a closed terminal and some supervisors do, twice
        assert await command.stop(number) == 130, command.output
        assert command.output.endswith("stopped\n")
        first, last = ingest.heard[0], ingest.heard[-1]
        assert (first.command, last.command, last.args) == ("replay", "stop", {"id": first.args["id"]})
