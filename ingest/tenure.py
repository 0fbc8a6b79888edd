"""All that runs only while this process has the upstream slot: built when it is taken, gone when it is lost."""

import logging
from typing import Any, Final

from redis.asyncio import Redis

from ingest.backfill import Backfill
from ingest.demand_watch import DemandWatch
from ingest.intake import Intake
from ingest.polygon import Polygon
from ingest.publisher import Publisher
from ingest.refill import Refill
from ingest.simulator import SYMBOLS, Simulator
from ingest.slot import Slot
from ingest.state import StateWriter
from ingest.upstream import Upstream
from shared.batch import parse_mark
from shared.config import Config
from shared.gap import Gap
from shared.lifecycle import Tasks
from shared.names import Names
from shared.notice import make_gap

_log = logging.getLogger(__name__)
_TOOK_OVER: Final = "another ingest took over"


class Tenure:
    """One epoch of one feed; must be built inside a running event loop."""

    def __init__(self, config: Config, redis: "Redis", names: Names, slot: Slot) -> None:
        self._config = config
        self._redis = redis
        self._names = names
        self._slot = slot
        self._upstream = Upstream(config.feed, config.polygon_api_key or "simulated")
        self._publisher = Publisher(config.redis_url, redis, names, slot)
        self._intake = Intake(names, self._publisher, slot.epoch, self._upstream.on_status)
        self._refill = self._make_refill()
        self._watch = DemandWatch(redis, names, self._upstream)
        self._state = StateWriter(redis, names, self._upstream, slot, self._get_counters)
        self._upstream.on_wanted_types = self._intake.set_alls
        self._upstream.on_doubled = self._intake.overlap.set_channels
        self._upstream.on_drop = self._state.request_drop
        self._upstream.on_gap = self._on_gap
        self._upstream.get_last_event_us = lambda: self._intake.last_event_us
        self._publisher.on_connected = self._state.forget
        self._publisher.get_channels = lambda: sorted(self._upstream.reconcile.wanted)
        self._publisher.on_lost = self._on_lost

    def _make_refill(self) -> Refill | None:
        config = self._config
        if not config.backfill or config.is_simulated or config.polygon_api_key is None:
            return None
        backfill = Backfill(self._redis, self._names, config.polygon_rest_url, config.polygon_api_key)
        return Refill(backfill, self._intake)

    def _get_counters(self) -> dict[str, Any]:
        intake, publisher = self._intake, self._publisher
        return {
            "last_event_us": intake.last_event_us,
            "frames": intake.frames,
            "events": intake.events,
            "malformed": intake.malformed,
            "doubles_removed": intake.overlap.removed,
            "lost_events": publisher.lost_events,
            "bus_reconnects": max(0, publisher.reconnects),
        }

    def get_status(self) -> dict[str, Any]:
        """What monitors see: numbers, but for `state`."""
        upstream = self._upstream
        return {
            "state": upstream.state,
            "live": int(upstream.reconcile.is_live),
            "since": upstream.since_s,
            "held": len(upstream.reconcile.held),
            "drops": upstream.drops,
            "refusals": upstream.refusals,
            **self._get_counters(),
        }

    def _on_gap(self, gap: Gap) -> None:
        self._state.add_gap(gap)
        self._intake.tell(make_gap(gap.from_ms, gap.to_ms, gap.cause, gap.channels))
        if self._refill is not None:
            self._refill.add(gap)

    def _on_lost(self, from_us: int, to_us: int, channels: list[str]) -> None:
        # Gateways see the hole in the sequence themselves, each when it comes to it; this is for operators.
        cause = "Redis was away for longer than ingest can remember"
        self._state.add_gap(Gap(from_us // 1000, to_us // 1000, cause, channels))

    async def inherit(self) -> None:
        """Take over from the holder before us: what it did not log is missing until upstream sends it to us.

        Raises redis.RedisError.
        """
        await self._watch.read_all()
        newest: Any = await self._redis.xrevrange(self._names.log, count=1)
        state: Any = await self._redis.hmget(self._names.upstream, "state", "since")
        if newest:
            self._upstream.open_gap(parse_mark(newest[0][1][b"mark"]).received_us // 1000, _TOOK_OVER)
        elif state[0] == b"live":
            self._upstream.open_gap(int(float(state[1]) * 1000), _TOOK_OVER)

    def _make_source(self) -> Polygon | Simulator:
        config = self._config
        if config.is_simulated:
            _log.warning("SIMULATED FEED: invented prices for %d symbols, such as %s", len(SYMBOLS), SYMBOLS[0])
            _log.warning("set POLYGON_API_KEY for the real market")
            return Simulator(self._upstream, self._intake.take)
        _log.info("feed: %s", config.polygon_ws_url)
        retry_s = config.reconnect_delay_ms / 1000.0
        return Polygon(
            config.polygon_ws_url, self._upstream, self._intake, self._slot, retry_s, config.heartbeat_interval_s
        )

    async def run(self) -> None:
        """Serve the feed until the slot is lost."""
        async with Tasks() as tasks:
            tasks.start("publisher", self._publisher.run())
            tasks.start("heartbeat", self._intake.run())
            tasks.start("demand notices", self._watch.run_notices())
            tasks.start("demand reconcile", self._watch.run_reconcile())
            tasks.start("plan", self._upstream.run())
            tasks.start("state", self._state.run())
            tasks.start("feed", self._make_source().run())
            if self._refill is not None:
                tasks.start("refill", self._refill.run())
            await tasks.until(self._slot.lost)

    def forget(self) -> None:
        """Redis may have lost what was written of the state."""
        self._state.forget()

    async def leave(self) -> None:
        """Say that upstream is given up."""
        await self._state.leave()
