"""Builds ingest's parts, runs them and stops them."""

import asyncio
import logging
from typing import Any, Final

from redis.exceptions import RedisError

from ingest.ops import Ops
from ingest.slot import Slot
from ingest.tenure import Tenure
from shared.config import Config
from shared.control import open_control
from shared.lifecycle import Tasks, watch_signals
from shared.names import Names
from shared.reload import watch_hangup

_log = logging.getLogger(__name__)
_RETRY_S: Final = 0.5


class Ingest:
    """One ingest process: stands by until it has the slot, and again when it lost it.  Needs a running event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._names = Names(config.feed)
        self._redis = open_control(config.redis_url)
        self._slot = Slot(self._redis, self._names)
        self._tenure: Tenure | None = None
        self._ops = Ops(self._redis, self._names, self._get_status)

    def _get_status(self) -> dict[str, Any]:
        if self._tenure is None:
            return {"state": "standing by", "live": 0}
        return self._tenure.get_status()

    async def _serve(self) -> None:
        while True:
            await self._slot.taken.wait()
            self._tenure = Tenure(self._config, self._redis, self._names, self._slot)
            try:
                await self._tenure.inherit()
            except (RedisError, OSError) as exc:
                _log.warning("Redis does not answer (%s): trying again to take over", exc)
                await asyncio.sleep(_RETRY_S)
                continue
            await self._tenure.run()
            self._tenure = None

    async def run(self) -> None:
        """Run until TERM or INT."""
        config = self._config
        stop = watch_signals()
        watch_hangup("ingest", lambda _settings: None)
        async with Tasks() as tasks:
            tasks.start("slot", self._slot.run())
            tasks.start("serve", self._serve())
            if config.enable_metrics:
                await self._ops.open(config.proxy_host, config.metrics_port)
            await tasks.until(stop)
            tenure = self._tenure
        await self._ops.close()
        if tenure is not None:
            await tenure.leave()
            await self._slot.give_up()
        await self._redis.aclose()
        _log.info("stopped")
