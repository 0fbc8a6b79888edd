"""What breaks in a soak: each fault is real, has a bound from the table of promises, and is timed until all is well.

"All is well" is what clients see: everybody who reads is connected and acked, and got on each channel something that
was sent after the fault was over (or, where a standby or a retry must mend it, after it struck).
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tests.processes import Process, until
from tests.proxy import KEY
from tests.soak.person import Person
from tests.soak.stage import Stage
from tests.subscriber import Subscriber

Fact = Callable[[], Awaitable[bool]]
_STOPPED_INGEST_S: Final = 5.0
_STOPPED_GATEWAY_S: Final = 3.0
_STOPPED_REDIS_S: Final = 6.0
_REDIS_AWAY_S: Final = 1.0
_RIVAL_S: Final = 1.5
_AWAY_S: Final = 10.0
_UNREAD_S: Final = 4.0
_UNREAD_MOST_S: Final = 12.0  # if by then no gateway says that somebody is slow; how much kernels take varies
_LOOK_S: Final = 0.1
_VICTIMS: Final = 3  # clients that a fault of clients befalls at once


@dataclass
class Injury:
    """A fault that has struck.  Recovery counts from `since` (time.monotonic), when `last` was sent."""

    since: float
    last: dict[str, int]
    also: Fact | None = None  # must be true as well, besides that all is well
    after: Callable[[], Awaitable[None]] | None = None  # tidies up once all is well; then all must be well again


@dataclass(frozen=True)
class Fault:
    """`bound_s` for the recovery; `loses`: what upstream sends meanwhile may be missing, and must be told."""

    name: str
    bound_s: float
    strike: Callable[[Stage], Awaitable[Injury]]
    loses: bool = False
    kills: bool = field(default=False, kw_only=True)  # whether a process ends, so that its memory cannot be watched


def _strike_now(stage: Stage) -> Injury:
    return Injury(time.monotonic(), stage.get_last())


async def _drop_upstream(stage: Stage) -> Injury:
    await stage.fake.drop(close_code=stage.chance.choice([None, 1001]))
    return _strike_now(stage)


async def _evict_upstream(stage: Stage) -> Injury:
    rival = await Subscriber.join(stage.fake.url, "T.RIVAL", key=KEY)
    await asyncio.sleep(_RIVAL_S)
    rival.abort()
    return _strike_now(stage)


async def _kill_ingest(stage: Stage) -> Injury:
    holder = await stage.find_holder()
    injury = _strike_now(stage)
    await stage.kill(holder)
    injury.after = stage.start_standby
    return injury


async def _stop_ingest(stage: Stage) -> Injury:
    holder = await stage.find_holder()
    os.kill(holder.pid, signal.SIGSTOP)
    injury = _strike_now(stage)

    async def go_on() -> None:
        await asyncio.sleep(max(0.0, injury.since + _STOPPED_INGEST_S - time.monotonic()))
        os.kill(holder.pid, signal.SIGCONT)
        await until(lambda: "the upstream slot went to another ingest" in holder.output, "it stands by", (holder,))

    injury.after = go_on
    return injury


def _choose_leaver(stage: Stage) -> tuple[Process, Injury]:
    """A gateway that is about to end; it is started again once all is well."""
    victim = stage.choose_gateway()
    stage.close_door(victim)
    injury = _strike_now(stage)
    injury.after = lambda: stage.start_gateway_again(victim)
    return victim.process, injury


async def _kill_gateway(stage: Stage) -> Injury:
    victim, injury = _choose_leaver(stage)
    await stage.kill(victim)

    async def counts_are_right() -> bool:
        return await stage.proxy.redis.get_refcount() == stage.count_demand()

    injury.also = counts_are_right
    return injury


async def _keep_clients_away(stage: Stage) -> Injury:
    victim, injury = _choose_leaver(stage)
    doors, stage.doors = stage.doors, []
    await stage.kill(victim)
    await asyncio.sleep(_AWAY_S)
    stage.doors = doors
    return replace(_strike_now(stage), after=injury.after)


async def _end_gateway(stage: Stage) -> Injury:
    victim, injury = _choose_leaver(stage)
    victim.child.send_signal(signal.SIGTERM)

    async def has_ended() -> bool:
        assert victim.child.returncode in (None, 0), victim.describe()
        return victim.child.returncode == 0

    injury.also = has_ended
    return injury


async def _stop_gateway(stage: Stage) -> Injury:
    victim = stage.choose_gateway().process
    os.kill(victim.pid, signal.SIGSTOP)
    await asyncio.sleep(_STOPPED_GATEWAY_S)
    os.kill(victim.pid, signal.SIGCONT)
    return _strike_now(stage)


async def _empty_redis(stage: Stage) -> Injury:
    stage.server.kill()
    await asyncio.sleep(_REDIS_AWAY_S)
    await asyncio.to_thread(stage.server.start)
    return _strike_now(stage)


async def _stop_redis(stage: Stage) -> Injury:
    os.kill(stage.redis_pid, signal.SIGSTOP)
    await asyncio.sleep(_STOPPED_REDIS_S)
    os.kill(stage.redis_pid, signal.SIGCONT)
    return _strike_now(stage)


async def _cut_subscribed(stage: Stage) -> Injury:
    await stage.proxy.redis.client.client_kill_filter(_type="pubsub")
    return _strike_now(stage)


async def _cut_publishing(stage: Stage) -> Injury:
    for client in await stage.proxy.redis.client.client_list():
        if client["name"] == "polygon-proxy-ingest-stocks":
            await stage.proxy.redis.client.client_kill_filter(_id=client["id"])
    return _strike_now(stage)


def _choose_people(stage: Stage) -> list[Person]:
    """Such as resume, and are well just now; the first ones are the busy ones."""
    able = [person for person in stage.people if person.name is not None and person.is_settled and person.is_reading]
    return stage.chance.sample(able, min(_VICTIMS, len(able)))


async def _is_somebody_slow(stage: Stage) -> bool:
    leases = await stage.proxy.redis.get_leases()
    return any(int(lease.get("conflating_clients", 0)) for lease in leases)


async def _stop_reading(stage: Stage) -> Injury:
    victims = {*_choose_people(stage), *stage.people[: stage.plan.busy]}
    for person in victims:
        person.stop_reading()
    last = stage.get_last()
    began = time.monotonic()
    await asyncio.sleep(_UNREAD_S)
    while not await _is_somebody_slow(stage) and time.monotonic() - began < _UNREAD_MOST_S:
        await asyncio.sleep(_LOOK_S)
    assert stage.is_well(last), f"others noticed: {stage.describe_unwell(last)}"
    for person in victims:
        person.read_on()
    return _strike_now(stage)


async def _cut_clients(stage: Stage) -> Injury:
    for person in _choose_people(stage):
        person.cut()
    return _strike_now(stage)


async def _crash_clients(stage: Stage) -> Injury:
    for person in _choose_people(stage):
        person.crash()
    return _strike_now(stage)


FAULTS: Final = (
    Fault("upstream drops us", 5.0, _drop_upstream, loses=True),
    Fault("upstream evicts us; the rival leaves", 5.0, _evict_upstream, loses=True),
    Fault("ingest killed, standby there", 5.0, _kill_ingest, loses=True, kills=True),
    Fault("ingest stopped 5 s, standby there", 5.0, _stop_ingest, loses=True),
    Fault("gateway killed (refcounts right again)", 10.0, _kill_gateway, kills=True),
    Fault("gateway killed, its clients away for 10 s", 10.0, _keep_clients_away, kills=True),
    Fault("gateway TERM (gone, its clients elsewhere)", 30.0, _end_gateway, kills=True),
    Fault("gateway stopped 3 s", 5.0, _stop_gateway),
    Fault("redis killed, back empty after 1 s", 5.0, _empty_redis, kills=True),
    Fault("redis stopped 6 s", 5.0, _stop_redis),
    Fault("subscribing sockets cut in Redis", 5.0, _cut_subscribed),
    Fault("publishing socket cut in Redis", 5.0, _cut_publishing),
    Fault("clients do not read for 4 s", 5.0, _stop_reading),
    Fault("clients' sockets cut", 5.0, _cut_clients),
    Fault("clients crash", 5.0, _crash_clients),
)
