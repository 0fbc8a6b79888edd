"""The whole pipeline as it runs: fake Polygon -> `python -m ingest` -> redis-server -> `python -m gateway`."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError

from tests.fakes.polygon import FakePolygon
from tests.ports import find_free_port
from tests.processes import Process, python, until
from tests.redis_state import RedisState, running_redis
from tests.subscriber import Subscriber

KEY = "dummy-polygon-key"
CLIENT_KEY = "dummy-client-key"
_GONE_S = 5.0  # how long a process may take to end


class Gateway(NamedTuple):
    """One gateway process and where it listens."""

    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/stocks"


@dataclass
class Proxy:
    """The parts, and what tests ask of them."""

    directory: Path
    fake: FakePolygon
    redis: RedisState
    environ: dict[str, str]
    constants: Mapping[str, float]
    processes: list[Process] = field(default_factory=list)  # all that were started, in order
    gateways: list[Gateway] = field(default_factory=list)
    clients: list[Subscriber] = field(default_factory=list)

    @property
    def ingest(self) -> Process:
        return self.processes[0]

    @property
    def output(self) -> str:
        """What all processes have printed so far."""
        return "".join(process.output for process in self.processes)

    async def start_ingest(self, **environ: str) -> Process:
        """One more; it stands by if another has the upstream slot."""
        command = python("ingest", constants=self._get_constants("ingest"))
        process = await Process.start(command, self.directory, self.environ | environ, name="ingest")
        self.processes.append(process)
        return process

    async def start_standby(self, **environ: str) -> Process:
        """A second ingest, which has seen that the slot is taken."""
        process = await self.start_ingest(**environ)
        await until(lambda: "standing by" in process.output, "an ingest stands by", (process,), 20)
        return process

    async def start_gateway(self, **environ: str) -> Gateway:
        """One more gateway, on a port of its own unless told another; it may not listen yet."""
        environ = self.environ | {"PROXY_STOCKS_PORT": str(find_free_port())} | environ
        port = int(environ["PROXY_STOCKS_PORT"])
        command = python("gateway", constants=self._get_constants("gateway"))
        process = await Process.start(command, self.directory, environ, name="gateway")
        self.processes.append(process)
        self.gateways.append(Gateway(process, port))
        return self.gateways[-1]

    def _get_constants(self, package: str) -> dict[str, float]:
        return {name: value for name, value in self.constants.items() if name.startswith((f"{package}.", "shared."))}

    async def until_listening(self, gateway: Gateway) -> None:
        await until(lambda: "clients connect to" in gateway.process.output, "gateway listens", (gateway.process,), 20)

    async def until_state(self, state: str, within_s: float = 10.0) -> None:
        """Until ingest says in Redis that upstream's state begins with these words."""

        async def has_state() -> bool:
            return (await self.redis.get_upstream()).get("state", "").startswith(state)

        await until(has_state, f"upstream {state!r}", (self.ingest,), within_s)

    async def until_refcount(self, counts: Mapping[str, int], within_s: float = 10.0) -> None:
        """Until the refcount holds exactly these."""
        last: dict[str, int] = {}

        async def is_it() -> bool:
            last.clear()
            try:
                last.update(await self.redis.get_refcount())
            except RedisConnectionError:
                return False  # the server that we looked at is being replaced
            return last == counts

        try:
            await until(is_it, "refcount", within_s=within_s)
        except AssertionError:
            raise AssertionError(f"refcount is {last}, not {dict(counts)} within {within_s:g} s") from None

    async def join(self, *channels: str, gateway: int = 0) -> Subscriber:
        """A client that holds these channels, each acked; it is closed with the pipeline."""
        client = await Subscriber.join(self.gateways[gateway].url, *channels)
        self.clients.append(client)
        return client

    async def emit(self, event: bytes, *to: Subscriber) -> None:
        """Let upstream send an event to whoever holds it, and see it arrive."""
        assert await self.fake.emit(event) == 1
        for client in to:
            await client.until_event(event)

    def find_subscribes(self, channel: str, action: str = "subscribe") -> int:
        """How many actions upstream received that name the channel."""
        return sum(a.action == action and channel in a.params.split(",") for a in self.fake.actions)


@asynccontextmanager
async def running_proxy(
    directory: Path,
    *,
    gateways: int = 1,
    constants: Mapping[str, float] | None = None,
    password: str = "",
    redis: RedisState | None = None,
    **environ: str,
) -> AsyncIterator[Proxy]:
    """The pipeline, live; afterwards each process has ended by TERM with 0, and none has printed a traceback.

    It has a Redis of its own, with a password if one is given, or that of the caller.
    `constants` of ingest.*, gateway.* and shared.* shorten their waits (see `tests.processes.python`).
    """
    async with AsyncExitStack() as stack:
        if redis is None:
            redis = await stack.enter_async_context(running_redis(password=password))
        fake = await stack.enter_async_context(FakePolygon(keys=frozenset([KEY])))
        settings = {
            "POLYGON_API_KEY": KEY,
            "POLYGON_WS_URL": fake.url,
            "PROXY_API_KEYS": CLIENT_KEY,
            "REDIS_URL": redis.url,
            "RECONNECT_DELAY_MS": "100",
            "ENABLE_METRICS": "false",
            "LOG_LEVEL": "debug",
        }
        proxy = Proxy(directory, fake, redis, settings | environ, constants or {})
        try:
            await proxy.start_ingest()
            for _ in range(gateways):
                await proxy.start_gateway()
            await proxy.until_state("live", 20)
            for gateway in proxy.gateways:
                await proxy.until_listening(gateway)
            yield proxy
            await _stop(proxy)
        finally:
            for client in proxy.clients:
                client.abort()
            for process in proxy.processes:
                await process.end()


async def _stop(proxy: Proxy) -> None:
    for client in proxy.clients:
        client.abort()
    running = [process for process in proxy.processes if process.child.returncode is None]
    for process in running:
        process.child.send_signal(signal.SIGTERM)
    statuses = await asyncio.gather(*(process.wait(_GONE_S) for process in running))
    assert set(statuses) <= {0}, "\n".join(process.describe() for process in running)
    for process in proxy.processes:
        assert "Traceback" not in process.output, process.output
