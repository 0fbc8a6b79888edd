"""Everything that demand is made of, but for the sockets: gateways, Redis, and the ingest with its upstream.

The code is the real one (Interest, Demand and its scripts, DemandWatch, Upstream, Reconcile); time, the wire and the
order of things are the history's.  Beside it runs the model, which is told what was done and what was observed.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio import Redis

from ingest.demand_watch import DemandWatch
from ingest.state import StateWriter
from ingest.upstream import Upstream
from shared.demand import CHUNK
from shared.names import Names
from tests.fakes.session import Script, render_status
from tests.property.clock import Clock
from tests.property.model import LEASE_S, Model, State, parts_of
from tests.property.polygon import Wire
from tests.property.stepped import Armed, InterruptedDemand, Outcome, SteppedInterest
from tests.sure_slot import make_sure_slot

TICK_S: Final = 2.0  # a gateway renews, and ingest reads all of demand, that often
SMALL_CHUNK: Final = 2
SLOTS: Final = (0, 1)
SWEEPER: Final = -1
NAMES: Final = Names("stocks")
_FENCE: Final = b"fence"
assert SMALL_CHUNK < CHUNK


class World:
    """One history's worth; `slots` are machines on which a gateway may run."""

    def __init__(self, redis: "Redis", clock: Clock, script: Script) -> None:
        self.redis = redis
        self.clock = clock
        self.script = script
        self.model = Model()
        self.slots: dict[int, SteppedInterest] = {}
        self.idents: dict[int, str] = {}
        self.stepping: set[int] = set()
        self.started = 0
        self.sweeper = InterruptedDemand(redis, NAMES)
        self.notices_to_lose = 0
        self.wanted_s: dict[str, float] = {}  # when a channel was last seen to be counted
        self._notices: Any = redis.pubsub()
        self.faults: list[str] = []

    async def open(self) -> None:
        """Two gateways and an ingest, on an empty Redis."""
        await self.redis.flushall()
        await self._notices.subscribe(NAMES.demand)
        await self.restart_ingest()
        for slot in SLOTS:
            await self.start(slot)

    async def close(self) -> None:
        """Everything ends."""
        for interest in self.slots.values():
            await interest.end()
        await self._notices.aclose()

    # Gateways and their clients.

    async def start(self, slot: int) -> None:
        """A gateway starts where none runs."""
        if slot in self.slots:
            return
        self.started += 1
        ident = f"g{self.started}"
        self.model.start(ident)
        demand = InterruptedDemand(self.redis, NAMES, lambda: self.model.joined(ident, self.clock.now_s))
        demand.set_owner(lambda: self.model.gateways[ident].state is State.CRASHED)
        self.idents[slot] = ident
        self.slots[slot] = SteppedInterest(ident, self.redis, NAMES, demand)
        await self.step(slot)

    def is_in(self, slot: int, *states: State) -> bool:
        """Whether a gateway runs there, in one of these states."""
        return slot in self.slots and self.model.gateways[self.idents[slot]].state in states

    async def subscribe(self, slot: int, client: int, channels: list[str]) -> None:
        """A client asks its gateway for channels."""
        if self.is_in(slot, State.LIVE):
            self.model.subscribe(self.idents[slot], client, channels)
            interest = self.slots[slot]
            interest.want(interest.hub.add(client, channels))

    async def unsubscribe(self, slot: int, client: int, channels: list[str]) -> None:
        """A client drops channels."""
        if self.is_in(slot, State.LIVE):
            self.model.unsubscribe(self.idents[slot], client, channels, self.clock.now_s)
            interest = self.slots[slot]
            interest.unwant(interest.hub.remove(client, channels))

    async def step(self, slot: int) -> None:
        """The gateway does what it has to do, if Redis answers."""
        if not self.is_in(slot, State.LIVE) or slot in self.stepping:
            return
        self.stepping.add(slot)
        try:
            outcome = await self.slots[slot].step()
        finally:
            self.stepping.discard(slot)
        ident = self.idents[slot]
        if outcome is Outcome.ENDED:
            del self.slots[slot]
        elif outcome is Outcome.RESTED and self.is_in(slot, State.LIVE):
            self._note_renewal(ident)
            self.model.rested(ident, self.clock.now_s)

    def _note_renewal(self, ident: str) -> None:
        gateway = self.model.gateways[ident]
        if gateway.has_lease:
            gateway.renewed_s = self.clock.now_s

    async def crash(self, slot: int) -> None:
        """kill -9: at its next script call if it is just at work."""
        if slot not in self.slots or self.is_in(slot, State.CRASHED):
            return
        self.model.gateways[self.idents[slot]].state = State.CRASHED
        if slot not in self.stepping:
            await self.slots.pop(slot).end()

    async def leave(self, slot: int) -> None:
        """TERM: all demand is given back at once."""
        if self.is_in(slot, State.LIVE) and slot not in self.stepping:
            interest = self.slots.pop(slot)
            await interest.end()
            interest.demand.armed.clear()
            interest.demand.lose_reply_after = interest.demand.lose_request_after = None
            await interest.leave()
            del self.model.gateways[self.idents[slot]]

    async def pause(self, slot: int) -> None:
        """SIGSTOP."""
        if self.is_in(slot, State.LIVE) and slot not in self.stepping:
            self.model.paused(self.idents[slot])

    async def resume(self, slot: int) -> None:
        """SIGCONT."""
        if self.is_in(slot, State.PAUSED):
            self.model.gateways[self.idents[slot]].state = State.LIVE

    # Redis.

    async def expire(self, slot: int) -> None:
        """The lease of the last gateway there runs out."""
        if self.idents[slot] in self.model.gateways:
            await self._expire(self.idents[slot])

    async def _expire(self, ident: str) -> None:
        await self.redis.pexpire(NAMES.get_lease(ident), 0)
        self.model.lost_lease(ident)

    async def sweep(self) -> None:
        """Anybody sweeps."""
        lease_less = self.model.get_lease_less()
        await self.sweeper.sweep()
        self.model.swept(lease_less)

    async def restart_redis(self) -> None:
        """It comes back empty, without scripts."""
        await self.redis.flushall()
        await self.redis.script_flush()
        self.model.restart_redis()

    async def get_counts(self) -> Counter[str]:
        """THE refcount."""
        counts: Any = await self.redis.hgetall(NAMES.refcount)
        return Counter({channel.decode(): int(count) for channel, count in counts.items()})

    async def get_counted(self) -> Counter[str]:
        """How many sets of gateways hold each channel; each gateway's must be found by a sweep."""
        counted: Counter[str] = Counter()
        known: Any = await self.redis.smembers(NAMES.gateways)
        for ident in self.model.gateways:
            members: Any = await self.redis.smembers(NAMES.get_gateway_channels(ident))
            counted.update(member.decode() for member in members)
            if members and ident.encode() not in known:
                self.faults.append(f"no sweep will find {ident}, which counts for {members}")
        return counted

    # Ingest and upstream.

    async def restart_ingest(self) -> None:
        """A new process, which knows nothing."""
        self.upstream = Upstream("stocks", "key")
        self.state = StateWriter(self.redis, NAMES, self.upstream, make_sure_slot(), dict)
        self.upstream.on_drop = self.state.request_drop
        self.watch = DemandWatch(self.redis, NAMES, self.upstream)
        self.reconnect()
        await self.read_all_of_demand()

    def reconnect(self) -> None:
        """Upstream drops us, and takes us again."""
        self.upstream.closed("dropped")
        self.wire = Wire(self.script, self.clock.monotonic, self.get_protected)
        self.upstream.opened(self.wire.send)
        self.upstream.on_status(render_status("connected", "Connected Successfully"))
        self.answer(1)

    def answer(self, count: int) -> None:
        """Upstream's next statuses arrive."""
        for _ in range(count):
            if (status := self.wire.read()) is not None:
                self.upstream.on_status(status)

    async def read_notices(self) -> None:
        """Ingest hears what gateways announced, but for what is lost."""
        await self.redis.publish(NAMES.demand, _FENCE)
        while True:
            message = await self._notices.get_message(timeout=5.0)
            assert message is not None, "Redis did not publish"
            if message["type"] != "message":
                continue
            if message["data"] == _FENCE:
                return
            if self.notices_to_lose:
                self.notices_to_lose -= 1
            else:
                await self.watch._on_notice(message)

    async def read_all_of_demand(self) -> None:
        """Ingest's reading every RECONCILE_S."""
        await self.watch.read_all()

    def get_protected(self) -> set[str]:
        """What clients hold for sure, so that upstream must not lose it: on a gateway that lives, made ready.

        Not on one that stood still for so long that its lease ran out, until it has asserted again.
        """
        protected: set[str] = set()
        for slot, interest in self.slots.items():
            gateway = self.model.gateways[self.idents[slot]]
            if gateway.state is not State.CRASHED and not gateway.was_given_up:
                protected |= parts_of(interest.hub.ready & gateway.wants)
        return protected - self.upstream.reconcile.refused.keys()

    # Time, and disturbances.

    async def tick(self) -> None:
        """TICK_S pass: each process does what it does in that time."""
        self.clock.now_s += TICK_S
        for ident, gateway in self.model.gateways.items():
            if gateway.has_lease and self.clock.now_s - gateway.renewed_s >= LEASE_S:
                await self._expire(ident)
        self.answer(1000)
        self.upstream.plan()  # before it has heard of what gateways did last
        await self.state.write()  # with which Redis is asked before anything is dropped
        for slot in [*self.slots, *self.slots]:  # again, if Redis did not answer at first
            await self.step(slot)
        await self.read_notices()
        await self.sweep()
        await self.read_all_of_demand()
        self.upstream.plan()
        await self.state.write()
        self.wanted_s.update(dict.fromkeys(await self.get_counts(), self.clock.now_s))

    def arm(self, owner: int, calls: int, act: Callable[[], Awaitable[None]]) -> None:
        """Before the script call that `owner` makes after `calls` more, something else happens."""
        if (demand := self._find_demand(owner)) is not None:
            demand.armed.append(Armed(calls, act))

    def lose(self, slot: int, calls: int, *, reply: bool) -> None:
        """A request to Redis, or the reply to it, is lost."""
        if (demand := self._find_demand(slot)) is None or slot == SWEEPER:
            return
        if reply:
            demand.lose_reply_after = calls
        else:
            demand.lose_request_after = calls

    def _find_demand(self, owner: int) -> InterruptedDemand | None:
        if owner == SWEEPER:
            return self.sweeper
        return self.slots[owner].demand if owner in self.slots else None
