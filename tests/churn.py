"""Clients that join and leave at random over several gateways, some of which are killed: what must hold afterwards.

Every session is judged by a checker with sequence numbers; what a session held when it ended well, or holds at the end,
it must have got exactly once.
"""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from shared.channels import is_covered
from tests.bench.client import Client
from tests.checker import Verdict
from tests.fakes.polygon import Load
from tests.processes import until
from tests.proxy import Gateway, Proxy

_CAUGHT_UP_WITHIN_S = 10.0
_ACKED_WITHIN_S = 20.0
_RETRY_S = 0.2


@dataclass(frozen=True)
class Plan:
    """How much happens: `clients` at a time, each holding up to `channels` of 2 x `symbols`."""

    clients: int
    seconds: float
    kills: int
    symbols: int = 20
    channels: int = 8
    rate: float = 1000.0
    stay_s: float = 4.0
    seed: int = 1


@dataclass
class Report:
    """What was seen."""

    sessions: int = 0
    cut_off: int = 0  # sessions whose gateway was killed
    events: int = 0
    faults: list[str] = field(default_factory=list)
    settled_s: float = 0.0  # from the end of the churn until the refcount was exact


class Churn:
    """One run over a running proxy."""

    def __init__(self, proxy: Proxy, plan: Plan) -> None:
        self._proxy = proxy
        self._plan = plan
        self._chance = random.Random(plan.seed)
        self._load = Load(proxy.fake.live, rate=plan.rate, symbols=plan.symbols, seed=plan.seed)
        self._sessions: dict[Client, tuple[Gateway, tuple[str, ...]]] = {}
        self._ending = False
        self._killed: set[int] = set()
        self.report = Report()

    async def run(self) -> Report:
        """Join and leave, kill, settle, judge."""
        self._load.start()
        people = [asyncio.create_task(self._live(), name=f"person {n}") for n in range(self._plan.clients)]
        started = time.monotonic()
        for number in range(self._plan.kills):
            due = started + self._plan.seconds * (number + 1) / (self._plan.kills + 1)
            await asyncio.wait(people, timeout=due - time.monotonic(), return_when=asyncio.FIRST_EXCEPTION)
            await self._kill_a_gateway()
        rest = started + self._plan.seconds - time.monotonic()
        await asyncio.wait(people, timeout=rest, return_when=asyncio.FIRST_EXCEPTION)
        self._ending = True
        await asyncio.gather(*people)
        await self._settle()
        return self.report

    def _choose_channels(self) -> tuple[str, ...]:
        symbols = self._chance.sample(range(self._plan.symbols), self._chance.randint(1, self._plan.channels))
        channels = {f"{self._chance.choice('TQ')}.S{symbol:04d}" for symbol in symbols}
        if self._chance.random() < 0.1:
            channels.add(self._chance.choice(("T.*", "Q.*")))
        return tuple(sorted(channels))

    async def _live(self) -> None:
        """One person's sessions, one after the other; the last one stays."""
        while not self._ending:
            gateway = self._chance.choice(self._proxy.gateways)
            channels = self._choose_channels()
            client = Client(gateway.url, "dummy-polygon-key", channels, latency_ms=Counter())
            self._sessions[client] = (gateway, channels)
            try:
                await client.connect()
                async with asyncio.timeout(_ACKED_WITHIN_S):
                    await client.acked
            except (OSError, ConnectionError):
                self._end(client)
                await asyncio.sleep(_RETRY_S)  # as a client would that finds its gateway dead
                continue
            self.report.sessions += 1
            await self._stay(client)

    async def _stay(self, client: Client) -> None:
        until_s = time.monotonic() + self._chance.expovariate(1.0 / self._plan.stay_s)
        while time.monotonic() < until_s and not self._ending and not client.closed.done():
            await asyncio.wait([client.closed], timeout=min(0.2, max(0.01, until_s - time.monotonic())))
        if not self._ending and not client.closed.done():
            client.close()
        if not self._ending or client.closed.done():
            self._end(client)

    def _end(self, client: Client) -> None:
        gateway, channels = self._sessions.pop(client)
        if client.closed.done() and gateway.process.pid in self._killed:
            self.report.cut_off += 1
        self._judge(client.checker.finish({}), channels)

    def _judge(self, verdict: Verdict, channels: tuple[str, ...]) -> None:
        self.report.events += verdict.events
        bad = verdict.lost + verdict.doubled + verdict.reordered + verdict.foreign + verdict.malformed
        if bad or verdict.unseen:
            self.report.faults.append(f"{channels}: {verdict}")

    async def _kill_a_gateway(self) -> None:
        victim = self._chance.choice(self._proxy.gateways)
        self._killed.add(victim.process.pid)
        victim.process.child.kill()
        await victim.process.child.wait()
        fresh = await self._proxy.start_gateway(PROXY_STOCKS_PORT=str(victim.port))
        self._proxy.gateways.remove(victim)
        await self._proxy.until_listening(fresh)

    async def _settle(self) -> None:
        started = time.monotonic()
        counts: Counter[str] = Counter()
        for gateway in self._proxy.gateways:
            counts.update({c for g, channels in self._sessions.values() if g.port == gateway.port for c in channels})
        await self._proxy.until_refcount(counts, within_s=12.0)  # the lease, and a gateway's own linger
        self.report.settled_s = time.monotonic() - started
        before = self._load.last_numbers()
        held = {channel for _, channels in self._sessions.values() for channel in channels}
        await until(
            lambda: all(self._load.last_numbers()[c] > n for c, n in before.items() if is_covered(c, held)),
            "upstream has sent on every held channel since the last client came",
        )
        self._load.stop()
        last = self._load.last_numbers()
        clients = list(self._sessions)
        await until(
            lambda: all(client.checker.count_behind(last) == 0 for client in clients),
            "every surviving client has everything",
            within_s=_CAUGHT_UP_WITHIN_S,
        )
        for client, (_, channels) in self._sessions.items():
            assert not client.closed.done(), f"a surviving client was disconnected: {client.closed.result()}"
            self._judge(client.checker.finish(last), channels)
            client.close()
