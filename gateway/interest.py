"""Turns this gateway's interest into demand: SUBSCRIBE on the bus, then acquire; and back, after a linger.

One task does it all, in rounds that compare what the hub wants with what was taken up: so edges that come and go
while a round waits for Redis are looked at again before anything is done about them, and any number of edges cost one
round.  The same task renews the lease, and re-asserts everything when the lease was lost.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from redis.exceptions import RedisError

from gateway.held import Held
from gateway.hub import Hub
from gateway.listener import BusAway, Listener
from shared.batch import Mark
from shared.channels import ALL, find_cover
from shared.demand import ASKED_S, HELD_S, LEASE_S, RENEW_S, Demand, LeaseLost
from shared.names import Names
from shared.notice import make_gap

_log = logging.getLogger(__name__)
LINGER_S: Final = 1.0
_RETRY_S: Final = 0.5
_LEAVE_WITHIN_S: Final = 1.0
_UNHELD: Final = "this gateway was cut off for so long that upstream may not have been asked for them"


class Interest:
    """The channels that this gateway counts for; `on_ready` is called whenever some became ready."""

    def __init__(
        self,
        gateway_id: str,
        names: Names,
        hub: Hub,
        listener: Listener,
        demand: Demand,
        held: Held,
        get_statistics: Callable[[], dict[str, Any]],
    ) -> None:
        self._id = gateway_id
        self._names = names
        self._hub = hub
        self._listener = listener
        self._demand = demand
        self._held = held
        self._get_statistics = get_statistics
        self._todo: dict[str, None] = {}  # edges up, not yet taken up
        self._taken: set[str] = set()
        self._idle_since: dict[str, float] = {}
        self._unreleased: set[str] = set()  # let go, but Redis may not have heard of it
        self._wake = asyncio.Event()
        self._renew_at = 0.0
        self._counted_at = time.monotonic()  # when Redis surely had our counts
        self._doubts = 1  # times that Redis may not have known what this gateway counts for
        self._doubts_settled = 0
        self.on_ready: Callable[[], None] = lambda: None

    def want(self, channels: Iterable[str]) -> None:
        """Edges up: somebody here holds these now."""
        for channel in channels:
            self._idle_since.pop(channel, None)
            if channel not in self._taken:
                self._todo[channel] = None
                self._unreleased.discard(channel)
        self._wake.set()

    def unwant(self, channels: Iterable[str]) -> None:
        """Edges down: nobody here holds these any more."""
        now = time.monotonic()
        for channel in channels:
            # Also if it was not taken up: it may be listened to, and counted if only the reply was lost.
            self._todo.pop(channel, None)
            self._idle_since[channel] = now

    def assert_again(self) -> None:
        """Redis may not know the last of what it was told: count everything anew."""
        self._doubts += 1
        self._wake.set()

    async def run(self) -> None:
        """Serve edges and the lease for as long as the process runs."""
        failing = False
        while True:
            try:
                await self._round()
                failing = False
                await self._sleep()
            except LeaseLost:
                _log.warning("lease lost (this process stood still, or Redis lost its data): asserting again")
                self._doubts += 1
            except (RedisError, OSError, BusAway) as exc:
                if not failing:
                    _log.warning("demand: Redis does not answer (%s); clients stay", exc or type(exc).__name__)
                failing = True
                await asyncio.sleep(_RETRY_S)

    async def _sleep(self) -> None:
        due = min([self._renew_at, *(since + LINGER_S for since in self._idle_since.values())])
        try:
            async with asyncio.timeout(max(0.01, due - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass  # time for the lease or a linger
        self._wake.clear()

    async def _round(self) -> None:
        if self._doubts_settled != (doubts := self._doubts):
            await self._demand.leave(self._id)  # what was released may still be counted
            await self._demand.join(self._id)
            await self._demand.acquire(self._id, self._taken)
            self._counted_again(await self._demand.get_epoch())
            self._doubts_settled = doubts
            self._renew_at = 0.0  # the new lease has no statistics yet
        if (now := time.monotonic()) >= self._renew_at:
            await self._demand.renew(self._id, self._get_statistics())
            self._counted_at = now
            self._renew_at = time.monotonic() + RENEW_S
        await self._take_up()
        await self._let_go()

    def may_go_on_to(self, mark: Mark) -> bool:
        """Whether members may get what comes up to this mark: not before a gap that stands before it is told.

        The ingest that had our counts asks for our channels until HELD_S after it lost them.  Another one knows of them
        if Redis surely has had them until now.
        """
        unsure_s = time.monotonic() - self._counted_at
        if mark.epoch == self._hub.last_mark.epoch:
            return unsure_s < HELD_S
        return unsure_s < LEASE_S and self._doubts_settled == self._doubts

    def _counted_again(self, epoch: int) -> None:
        """Tell our members what upstream may not have sent, if it was not asked for our channels meanwhile.

        Nothing from after that has been given to them: catch-up waits for us.
        """
        now, now_s, position = time.monotonic(), time.time(), self._hub.last_mark
        unheld_s = now - self._counted_at - HELD_S
        self._counted_at = now
        has_changed = 0 < position.epoch < epoch
        if not self._taken or not (has_changed or unheld_s > 0):
            return
        first_ms = position.received_us // 1000 if has_changed else int((now_s - unheld_s) * 1000)
        last_ms = int((now_s + ASKED_S) * 1000)
        _log.error("gap: %s, from %d to %d", _UNHELD, first_ms, last_ms)
        self._listener.tell(make_gap(first_ms, last_ms, _UNHELD, self._taken))

    async def _take_up(self) -> None:
        channels = list(self._todo)
        if not channels:
            return
        await self._listener.listen(self._get_bus_channels(channels))
        await self._demand.acquire(self._id, channels)
        await self._held.refresh(channels)
        self._taken.update(channels)
        now = time.monotonic()
        for channel in channels:
            self._todo.pop(channel, None)
            if not self._hub.is_wanted(channel):
                self._idle_since[channel] = now
        self._hub.set_ready(channels)
        self.on_ready()

    async def _let_go(self) -> None:
        now = time.monotonic()
        channels = [channel for channel, since in self._idle_since.items() if now - since >= LINGER_S]
        if channels:
            self._stop_listening(channels, now)
        releasing = [channel for channel in self._unreleased if channel not in self._todo]
        if releasing:
            await self._demand.release(self._id, releasing)
            # Whoever is wanted again by now left the set, and is acquired in the next round.
            self._unreleased.difference_update(releasing)

    def _stop_listening(self, channels: list[str], now: float) -> None:
        still = set(self._get_bus_channels(self._taken.difference(channels)))
        for channel in channels:
            names = [name for name in self._get_bus_channels([channel]) if name not in still]
            if any(self._hub.is_routed(name) for name in names):
                self._idle_since[channel] = now  # a member is served by it until the next mark
                continue
            del self._idle_since[channel]
            self._taken.discard(channel)
            self._hub.set_unready([channel])
            self._listener.unlisten(names)
            self._unreleased.add(channel)

    def _get_bus_channels(self, channels: Iterable[str]) -> list[str]:
        """Where the events of these channels come from; `*` comes from all event types."""
        exact: dict[str, None] = {}
        for channel in channels:
            for part in find_cover(self._names.feed, [ALL]) if channel == ALL else (channel,):
                exact[self._names.get_bus_channel(part)] = None
        return list(exact)

    async def leave(self) -> None:
        """Give all demand back at once; a Redis that does not answer must not hold up the end."""
        try:
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                await self._demand.leave(self._id)
        except (RedisError, OSError, TimeoutError) as exc:
            _log.info("demand: not given back (%s); the lease will run out", exc)
