"""Builds a gateway's parts, runs them and stops them."""

import asyncio
import logging
import os
import secrets
import socket
from typing import Any

import msgspec

from gateway.census import Census
from gateway.held import Held
from gateway.hub import Hub
from gateway.interest import Interest
from gateway.keys import Keys
from gateway.listener import Listener
from gateway.log import Log
from gateway.resume import Resumption
from gateway.returning import Returning
from gateway.server import Door, Limits
from shared.config import Config
from shared.demand import Demand
from shared.lifecycle import Tasks, watch_signals
from shared.memory import keep_returning_unused
from shared.names import Names
from shared.redis_address import make_redis
from shared.reload import watch_hangup

_log = logging.getLogger(__name__)


class Gateway:
    """One gateway process; must be built inside a running event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        names = Names(config.feed)
        self._redis = make_redis(config.redis_url, lambda: self._interest.assert_again())
        self._hub = Hub(names)
        self._keys = Keys(config.client_keys)
        self._held = Held(self._redis, names, self._on_change)
        log = Log(self._redis, names)
        self._resumption = Resumption(self._redis, names, self._id)
        self._census = Census(self._redis, names, self._hub, self._id)
        notices = {
            names.held: self._held.on_notice,
            names.resume: self._resumption.on_claim,
            names.census: self._census.on_question,
        }
        self._listener = Listener(config.redis_url, names, self._hub, log, notices)
        demand = Demand(self._redis, names)
        self._interest = Interest(self._id, names, self._hub, self._listener, demand, self._held, self._get_statistics)
        self._door = Door(
            config.feed,
            self._keys,
            self._hub,
            self._interest,
            self._held,
            Returning(self._resumption, log, self._hub, names, self._listener.until_mark),
            Limits(config.max_clients, config.message_buffer_events),
        )
        self._bus_connected = asyncio.Event()
        self._listener.on_connected = self._on_bus_connected
        self._listener.catchup.may_go_on_to = self._interest.may_go_on_to
        self._listener.on_moved = self._on_change
        self._door.find_trouble = self._listener.find_trouble
        self._interest.on_ready = self._on_change

    def _on_bus_connected(self) -> None:
        self._bus_connected.set()
        self._resumption.forget()
        if self._listener.reconnects:
            self._interest.assert_again()  # Redis may have come back with what it had a moment ago

    def _on_change(self) -> None:
        self._door.on_change()

    def _get_statistics(self) -> dict[str, Any]:
        door, listener, hub = self._door, self._listener, self._hub
        return {
            "pid": os.getpid(),
            "clients": len(door.clients),
            "channels": len(hub.get_wanted()),
            "frames_out": listener.frames_out,
            "bytes_out": listener.bytes_out,
            "missed_batches": hub.missed_batches,
            "caught_up_batches": listener.catchup.batches,
            "gaps": listener.catchup.gaps,
            "last_mark": f"{listener.last_mark_s:.3f}",
            "bus_reconnects": max(0, listener.reconnects),
            "slow_clients": door.slow_clients,
            "conflating_clients": door.conflating_clients,
            "conflated_events": door.conflated_events,
            "slowest": msgspec.json.encode([slow._asdict() for slow in door.find_slowest()]),
            "refused_clients": door.refused_clients,
            "bad_messages": door.bad_messages,
            "unknown_topics": door.unknown_topics,
            "latency_us": listener.latency.encode(),
        }

    async def _load_held(self) -> None:
        while True:
            await self._bus_connected.wait()
            self._bus_connected.clear()
            await self._held.load()

    async def run(self) -> None:
        """Run until TERM or INT."""
        config = self._config
        stop = watch_signals()
        watch_hangup("gateway", config, lambda settings: self._keys.replace(settings.client_keys))
        async with Tasks() as tasks:
            listener = self._listener
            tasks.start("listener", listener.run())
            tasks.start("catch-up", listener.catchup.run())
            tasks.start("held", self._load_held())
            tasks.start("resumption", self._resumption.run())
            tasks.start("census", self._census.run())
            tasks.start("interest", self._interest.run())
            tasks.start("memory", keep_returning_unused())
            await self._door.open(config.proxy_host, config.proxy_stocks_port, config.heartbeat_interval_s)
            self._announce()
            await tasks.until(stop)
            await self._door.leave()
        await self._interest.leave()
        await self._redis.aclose()
        _log.info("stopped")

    def _announce(self) -> None:
        config = self._config
        _log.info("clients connect to ws://%s:%d/%s", config.proxy_host, config.proxy_stocks_port, config.feed)
        if not config.client_keys:
            _log.info("no key is configured, so any key that is not empty is accepted")
