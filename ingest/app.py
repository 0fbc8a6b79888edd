"""Builds ingest's parts, runs them and stops them."""

import logging
import time
from typing import Any

from ingest.demand_watch import DemandWatch
from ingest.intake import Intake
from ingest.ops import Ops
from ingest.polygon import Polygon
from ingest.publisher import Publisher
from ingest.simulator import SYMBOLS, Simulator
from ingest.state import StateWriter
from ingest.upstream import Upstream
from shared.config import Config
from shared.lifecycle import Tasks
from shared.names import Names
from shared.redis_address import make_redis

_log = logging.getLogger(__name__)


class Ingest:
    """One ingest process; must be built inside a running event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        names = Names(config.feed)
        epoch = time.time_ns() // 1_000_000  # grows with each start, and survives a Redis that comes back empty
        self._redis = make_redis(config.redis_url, lambda: self._state.forget())
        self._upstream = Upstream(config.feed, config.polygon_api_key or "simulated")
        self._publisher = Publisher(config.redis_url, names)
        self._intake = Intake(names, self._publisher, epoch, self._upstream.on_status)
        self._upstream.on_wanted_types = self._intake.set_alls
        self._upstream.on_doubled = self._intake.overlap.set_channels
        self._watch = DemandWatch(self._redis, names, self._upstream)
        self._state = StateWriter(self._redis, names, self._upstream, epoch, self._get_counters)
        self._upstream.on_drop = self._state.request_drop
        self._publisher.on_connected = self._state.forget
        self._ops = Ops(self._redis, names, self._upstream, self._get_counters)

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

    def _make_source(self) -> Polygon | Simulator:
        config = self._config
        if config.is_simulated:
            _log.warning("SIMULATED FEED: invented prices for %d symbols, such as %s", len(SYMBOLS), SYMBOLS[0])
            _log.warning("set POLYGON_API_KEY for the real market")
            return Simulator(self._upstream, self._intake.take)
        _log.info("feed: %s", config.polygon_ws_url)
        retry_s = config.reconnect_delay_ms / 1000.0
        return Polygon(config.polygon_ws_url, self._upstream, self._intake, retry_s, config.heartbeat_interval_s)

    async def run(self) -> None:
        """Run until TERM or INT."""
        async with Tasks() as tasks:
            tasks.start("publisher", self._publisher.run())
            tasks.start("heartbeat", self._intake.run())
            tasks.start("demand notices", self._watch.run_notices())
            tasks.start("demand reconcile", self._watch.run_reconcile())
            tasks.start("plan", self._upstream.run())
            tasks.start("state", self._state.run())
            tasks.start("feed", self._make_source().run())
            if self._config.enable_metrics:
                await self._ops.open(self._config.proxy_host, self._config.metrics_port)
            await tasks.until_stopped()
        await self._ops.close()
        await self._state.leave()
        await self._redis.aclose()
        _log.info("stopped")
