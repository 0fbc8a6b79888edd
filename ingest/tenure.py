"""All that runs only while this process has the upstream slot: built when it is taken, gone when it is lost."""

import logging
import time
from collections.abc import Iterable
from typing import Any, Final

from redis.asyncio import Redis

from ingest.backfill import Backfill
from ingest.control import Control, Parts
from ingest.demand_watch import DemandWatch
from ingest.intake import Intake
from ingest.mix import Mix, Sieve
from ingest.old_log import OldLog
from ingest.players import Players
from ingest.polygon import Polygon
from ingest.publisher import Publisher
from ingest.refill import Refill
from ingest.rehearsal import Rehearsal
from ingest.slot import Slot
from ingest.state import StateWriter
from ingest.switches import decode_switches, encode_switches
from ingest.upstream import Upstream
from ingest.whole import FIELDS, encode_last_live, encode_whole, find_whole_ms
from shared.config import Config
from shared.demand import ASKED_S
from shared.gap import Gap
from shared.lifecycle import Tasks
from shared.names import Names
from shared.notice import make_gap

_log = logging.getLogger(__name__)
_TOOK_OVER: Final = "another ingest took over"
_BEGAN: Final = "a new ingest had to wait for upstream"


class Tenure:
    """One epoch of one feed; must be built inside a running event loop."""

    def __init__(self, config: Config, redis: "Redis", names: Names, slot: Slot) -> None:
        self._config = config
        self._redis = redis
        self._names = names
        self._slot = slot
        self._source = Upstream(config.feed, config.polygon_api_key or "simulated")  # the one that Polygon plays
        self._sieve = Sieve(config.test_symbols)
        self._rehearsed = Upstream(config.feed, "simulated") if config.is_mixed else self._source
        self._mix = Mix(self._source, self._rehearsed, self._sieve) if config.is_mixed else None
        self._upstream: Upstream | Mix = self._mix or self._source
        self._publisher = Publisher(config.redis_url, redis, names, slot)
        self._intake = Intake(names, self._publisher, slot.epoch, self._source.on_status)
        self._old_log = OldLog(redis, names, slot.epoch, self._intake.keep_log_from)
        self._state = StateWriter(redis, names, self._upstream, slot, self._get_counters)
        self._rehearsal = self._make_rehearsal()
        self._refill = self._make_refill()
        self._told_us = 0  # when clients were last told of a gap (Unix us)
        self._watch = DemandWatch(redis, names, self._upstream)
        parts = Parts(self._rehearsal, self._mix, self._intake, self._publisher, self._state)
        self._control = Control(redis, names, slot, parts)
        self._state.get_indicator = self._control.get_indicator
        self._state.get_whole = self._get_whole
        self._upstream.on_wanted_types = self._intake.set_alls
        self._upstream.on_doubled = self._intake.overlap.set_channels
        self._upstream.on_drop = self._state.request_drop
        for upstream in (self._source, self._rehearsed):
            upstream.on_gap = self._on_gap
            upstream.get_last_event_us = lambda: self._intake.last_event_us
        self._source.on_gap_told = lambda gap: self._tell_gap(
            gap, spared=self._sieve.symbols if config.is_mixed else ()
        )
        if config.is_mixed:
            self._source.get_last_event_us = lambda: self._intake.last_live_us
            self._rehearsed.on_gap_told = self._tell_gap
        self._state.on_recording = lambda is_asked: self._intake.tape.set_asked(is_asked, time.monotonic())
        self._publisher.on_connected = self._state.forget
        self._publisher.get_channels = lambda: sorted(self._upstream.wanted)
        self._publisher.on_lost = self._on_lost

    def _make_rehearsal(self) -> Rehearsal | None:
        """Raises Unplayable (ingest/players.py)."""
        config = self._config
        if not (config.is_simulated or config.is_mixed):
            return None
        publisher = self._publisher
        players = Players(config, self._redis, self._names, lambda: publisher.unanswered_bytes)
        rehearsal = Rehearsal(self._rehearsed, self._intake.take_test, players, config)
        rehearsal.on_changed = self._upstream.changed.set
        self._state.get_switches = lambda: encode_switches(config, rehearsal.get_switches())
        if config.is_mixed:
            self._intake.screen = self._sieve.pass_live
            self._intake.test_screen = self._sieve.pass_test
        return rehearsal

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
            "live_dropped": self._sieve.dropped,
            "injected": self._control.injected,
            "lost_events": publisher.lost.events,
            "bus_reconnects": max(0, publisher.reconnects),
            "bus_refusals": publisher.refusals,
        }

    def _get_whole(self) -> dict[str, str]:
        whole_ms = self._upstream.find_whole_ms()
        is_answered = self._publisher.has_answered(max(self._told_us, (whole_ms or 0) * 1000))
        whole = encode_whole(whole_ms, self._upstream.missing_since_ms, is_answered=is_answered)
        return whole | encode_last_live(self._intake.last_live_us)

    def get_status(self) -> dict[str, Any]:
        """What monitors see: numbers, but for `state` and `test_data`."""
        upstream = self._upstream
        return {
            "state": upstream.state,
            "live": int(upstream.is_live),
            "test_data": self._control.get_indicator(),
            "since": upstream.since_s,
            "held": len(upstream.held),
            "drops": upstream.drops,
            "refusals": upstream.refusals,
            **self._get_counters(),
        }

    def _on_gap(self, gap: Gap) -> None:
        self._state.add_gap(gap)
        if self._refill is not None:
            self._refill.add(gap)

    def _tell_gap(self, gap: Gap, spared: Iterable[str] = ()) -> None:
        self._intake.tell(make_gap(gap.from_ms, gap.to_ms, gap.cause, gap.channels, spared))
        self._told_us = time.time_ns() // 1000

    def _on_lost(self, from_us: int, to_us: int, channels: list[str]) -> None:
        # Gateways see the hole in the sequence themselves, each when it comes to it; this is for operators.
        cause = "Redis was away for longer than ingest can remember"
        self._state.add_gap(Gap(from_us // 1000, to_us // 1000, cause, channels))

    async def inherit(self) -> None:
        """Take over from the holder before us: what it did not log is missing until upstream sends it to us.

        Raises redis.RedisError.
        """
        await self._watch.read_all()
        last_us = await self._old_log.find_last_us()
        left: Any = await self._redis.hmget(self._names.upstream, "switches", *FIELDS)
        now_ms = time.time_ns() // 1_000_000
        if (whole_ms := find_whole_ms(last_us, left[1:], now_ms)) is not None:
            self._upstream.open_gap(whole_ms, _TOOK_OVER)
        else:
            # A new system, or an emptied Redis, whose gateways tell a gap up to ASKED_S after our first heartbeat.
            self._upstream.expect_gap(now_ms + int(ASKED_S * 1000), _BEGAN)
        if self._rehearsal is not None:
            await self._rehearsal.restore(decode_switches(self._config, left[0]))
            if self._mix is not None:
                self._mix.set_symbols(self._rehearsal.symbols)

    def _make_polygon(self) -> Polygon:
        config = self._config
        _log.info("feed: %s", config.polygon_ws_url)
        retry_s = config.reconnect_delay_ms / 1000.0
        return Polygon(
            config.polygon_ws_url, self._source, self._intake, self._slot, retry_s, config.heartbeat_interval_s
        )

    def _say_what_is_played(self) -> None:
        config = self._config
        if config.is_simulated:
            _log.warning("SIMULATED FEED: invented prices; set POLYGON_API_KEY for the real market")
        elif self._rehearsal is not None:
            symbols = ",".join(self._rehearsal.symbols)  # as switched, not as configured
            _log.warning("MIXED FEED: invented prices for %s", symbols or "no symbols")

    async def run(self) -> None:
        """Serve the feed until the slot is lost."""
        self._say_what_is_played()
        upstreams = {"plan": self._source} | ({"test plan": self._rehearsed} if self._mix is not None else {})
        async with Tasks() as tasks:
            tasks.start("publisher", self._publisher.run())
            tasks.start("heartbeat", self._intake.run())
            tasks.start("old log", self._old_log.run())
            tasks.start("demand notices", self._watch.run_notices())
            tasks.start("demand reconcile", self._watch.run_reconcile())
            for name, upstream in upstreams.items():
                tasks.start(name, upstream.run())
            tasks.start("control", self._control.run())
            tasks.start("state", self._state.run())
            if not self._config.is_simulated:
                tasks.start("feed", self._make_polygon().run())
            if self._rehearsal is not None:
                tasks.start("test data", self._rehearsal.run())
            if self._refill is not None:
                tasks.start("refill", self._refill.run())
            await tasks.until(self._slot.lost)

    def forget(self) -> None:
        """Redis may have lost what was written of the state."""
        self._state.forget()

    async def leave(self) -> None:
        """Say that upstream is given up."""
        await self._state.leave()
