"""The running pipeline of a soak: processes that may be broken, people who hold channels, and whether all is well."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from tests.fakes.polygon import FakePolygon
from tests.integration.conftest import RedisServer, find_redis_program
from tests.processes import Process, until
from tests.proxy import CLIENT_KEY, KEY, Gateway, Proxy
from tests.redis_state import RedisState
from tests.soak.flow import Flow
from tests.soak.ledger import Emitted, Outage
from tests.soak.person import Person

_SLOW_RETRY_S: Final = 4.0  # 30 s in earnest: too rare an attempt for a soak
_POLL_S: Final = 0.05
_BARS_RATE: Final = 200.0
_BARS: Final = 50
_BUSY_CHANNELS: Final = 120  # quotes that each of the busy clients holds, who is behind when it does not read


@dataclass(frozen=True)
class Plan:
    """How much of everything; `rate` is in events/s."""

    rate: float
    gateways: int
    clients: int
    symbols: int
    per_client: int
    busy: int
    seed: int
    write_limit_bytes: int = 1024 * 1024  # the product's own, and
    buffer_events: int = 10_000  # MESSAGE_BUFFER_SIZE: smaller ones let a client be slow at a low rate


class Stage:
    """What the faults act on."""

    def __init__(self, plan: Plan, proxy: Proxy, server: RedisServer) -> None:
        self.plan = plan
        self.proxy = proxy
        self.fake = proxy.fake
        self.server = server
        self.chance = random.Random(plan.seed)
        self.flow = Flow(self.fake.live, rate=plan.rate, symbols=plan.symbols)
        self.bars = Flow(self.fake.live, rate=min(_BARS_RATE, plan.rate / 10), symbols=_BARS // 2, bars=True)
        self.emitted = _join(self.flow.emitted, self.bars.emitted)
        self.killed: set[int] = set()
        self.outages: list[Outage] = []
        self.doors: list[Gateway] = list(proxy.gateways)  # where clients may come to
        self.people = [
            Person(name, held, self.emitted, self._choose, self.killed, is_busy=number < plan.busy)
            for number, (name, held) in enumerate(self._cast())
        ]

    def _choose(self) -> Gateway | None:
        return self.chance.choice(self.doors) if self.doors else None

    def _cast(self) -> list[tuple[str | None, list[str]]]:
        """Every second one has a name, every fourth holds all bars; the others share the channels out in turn."""
        plan, turn = self.plan, 0
        names = self.chance.sample(self.flow.channels, len(self.flow.channels))
        quotes = [channel for channel in self.flow.channels if channel.startswith("Q.")]
        cast: list[tuple[str | None, list[str]]] = []
        for number in range(plan.clients):
            name = f"soak-{number}" if number % 2 else None
            if number < plan.busy:
                held = self.chance.sample(quotes, min(_BUSY_CHANNELS, len(quotes)))
            elif number % 4 < 2 and number // 4 % 2:
                held = ["A.*"]
            else:
                held = [names[(turn + k) % len(names)] for k in range(plan.per_client)]
                turn += plan.per_client
            cast.append((name, held))
        return cast

    # Facts.

    def get_last(self) -> dict[str, int]:
        """The last number sent on each channel."""
        return {channel: len(times) for channel, times in self.emitted.times.items()}

    def is_well(self, last: dict[str, int]) -> bool:
        """Whether everybody who reads has everything acked, and on each channel something sent after these numbers."""
        return all(p.is_settled and p.is_beyond(last) for p in self.people if p.is_reading)

    def describe_unwell(self, last: dict[str, int]) -> str:
        """Who it is that is not well."""
        away = [p for p in self.people if not p.is_settled]
        stale = [p for p in self.people if p.is_settled and p.is_reading and not p.is_beyond(last)]
        example = f", such as {stale[0].name} {stale[0].channels[:3]}" if stale else ""
        return f"{len(away)} clients are not connected and acked, {len(stale)} get nothing new{example}"

    def count_demand(self) -> Counter[str]:
        """What the refcount must be: how many gateways have somebody who holds the channel."""
        held: dict[int, set[str]] = {}
        for person in self.people:
            if person.gateway is not None:
                held.setdefault(person.gateway.port, set()).update(person.channels)
        return Counter(channel for channels in held.values() for channel in channels)

    def choose_gateway(self) -> Gateway:
        """One that has clients, if possible."""
        ports = {person.gateway.port for person in self.people if person.is_settled and person.gateway is not None}
        return self.chance.choice([door for door in self.doors if door.port in ports] or self.doors)

    async def find_holder(self) -> Process:
        """The ingest that has the slot."""
        holder = (await self.proxy.redis.get_upstream()).get("holder", "")
        ingests = [process for process in self.ingests if f":{process.pid}:" in f"{holder}:"]
        return ingests[0] if ingests else self.ingests[0]

    @property
    def ingests(self) -> list[Process]:
        """Those that run."""
        return [p for p in self.proxy.processes if p.name == "ingest" and p.child.returncode is None]

    @property
    def running(self) -> dict[str, int]:
        """Name -> process id of all that runs and is the product's, and Redis."""
        live = [p for p in self.proxy.processes if p.child.returncode is None]
        return {f"{p.name} {p.pid}": p.pid for p in live} | {f"redis {self.redis_pid}": self.redis_pid}

    @property
    def redis_pid(self) -> int:
        process = self.server._process
        return process.pid if process is not None else 0

    # Deeds.

    async def until_well(self, last: dict[str, int], within_s: float, also: Callable[[], bool] | None = None) -> float:
        """Wait until all is well; returns time.monotonic() of that.  AssertionError if it takes longer."""
        await until(lambda: self.is_well(last) and (also is None or also()), "all is well again", within_s=within_s)
        return time.monotonic()

    def close_door(self, gateway: Gateway) -> None:
        """No more clients go there."""
        self.doors = [door for door in self.doors if door.port != gateway.port]

    async def start_gateway_again(self, gateway: Gateway) -> None:
        """A new process on the port of one that has ended."""
        fresh = await self.proxy.start_gateway(PROXY_STOCKS_PORT=str(gateway.port))
        self.proxy.gateways.remove(gateway)
        await self.proxy.until_listening(fresh)
        self.doors.append(fresh)

    async def kill(self, process: Process) -> None:
        """SIGKILL, and wait for the end."""
        self.killed.add(process.pid)
        process.child.kill()
        await process.child.wait()

    async def start_standby(self) -> None:
        """One more ingest; returns when it knows who has the slot."""
        process = await self.proxy.start_ingest()
        await until(lambda: "upstream slot" in process.output, "an ingest runs", (process,), 20)


def _get_constants(plan: Plan) -> dict[str, float]:
    return {"ingest.session.SLOW_RETRY_S": _SLOW_RETRY_S, "gateway.server.WRITE_LIMIT_BYTES": plan.write_limit_bytes}


def _join(*parts: Emitted) -> Emitted:
    joined = Emitted([], parts[0].began_ms)
    for part in parts:
        part.began_ms = joined.began_ms
        joined.times.update(part.times)
    return joined


@asynccontextmanager
async def running_stage(plan: Plan, directory: Path) -> AsyncIterator[Stage]:
    """The pipeline with everybody connected; all processes end by TERM with 0 afterwards, unless it went wrong."""
    find_redis_program()
    fake = FakePolygon(keys=frozenset([KEY]))
    with RedisServer() as server:
        url = f"{server.url}/0"
        retry = Retry(ConstantBackoff(0.1), 50)  # it is killed now and then, and with it our connection
        async with fake, Redis.from_url(url, socket_timeout=5, retry=retry) as client:
            settings = {
                "POLYGON_API_KEY": KEY,
                "POLYGON_WS_URL": fake.url,
                "PROXY_API_KEYS": CLIENT_KEY,
                "REDIS_URL": url,
                "ENABLE_METRICS": "false",
                "MESSAGE_BUFFER_SIZE": str(plan.buffer_events),
            }
            proxy = Proxy(directory, fake, RedisState(url, client, server), settings, _get_constants(plan))
            try:
                yield await _start(plan, proxy, server)
                await _end(proxy)
            finally:
                for process in proxy.processes:
                    _continue(process)
                    await process.end()


async def _start(plan: Plan, proxy: Proxy, server: RedisServer) -> Stage:
    for _ in range(2):
        await proxy.start_ingest()
    for _ in range(plan.gateways):
        await proxy.start_gateway()
    await proxy.until_state("live", 20)
    for gateway in proxy.gateways:
        await proxy.until_listening(gateway)
    return Stage(plan, proxy, server)


async def _end(proxy: Proxy) -> None:
    running = [process for process in proxy.processes if process.child.returncode is None]
    for process in running:
        process.child.send_signal(signal.SIGTERM)
    statuses = await asyncio.gather(*(process.wait(10.0) for process in running))
    assert set(statuses) <= {0}, "\n".join(process.describe() for process in running)
    for process in proxy.processes:
        assert "Traceback" not in process.output, process.output[-5000:]


def _continue(process: Process) -> None:
    if process.child.returncode is None:
        os.kill(process.pid, signal.SIGCONT)
