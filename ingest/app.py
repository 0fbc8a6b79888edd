"""Builds ingest's parts, runs them and stops them."""

import asyncio
import gc
import logging
from typing import Any, Final

from redis.exceptions import RedisError

from ingest.ops import STANDBY, Ops
from ingest.slot import Slot
from ingest.tenure import Tenure
from shared.config import Config
from shared.lifecycle import Tasks, watch_signals
from shared.names import Names
from shared.redis_address import make_redis
from shared.reload import watch_hangup

_log = logging.getLogger(__name__)
_RETRY_S: Final = 0.5


class Ingest:
    """One ingest process: stands by until it has the slot, and again when it lost it.  Needs a running event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._names = Names(config.feed)
        self._redis = make_redis(config.redis_url, self._on_moved)
        self._slot = Slot(self._redis, self._names)
        self._tenure: Tenure | None = None
        self._ops = Ops(self._redis, self._names, self._get_status)

    def _on_moved(self) -> None:
        """Sentinels name another master now, which may lack the last of what the old one was told."""
        if self._tenure is not None:
            self._tenure.forget()

    def _get_status(self) -> dict[str, Any]:
        if self._tenure is not None:
            return self._tenure.get_status()
        return {"state": "taking over", "live": 0} if self._slot.epoch else STANDBY

    async def _serve(self) -> None:
        while True:
            await self._slot.taken.wait()
            epoch = self._slot.epoch
            self._tenure = Tenure(self._config, self._redis, self._names, self._slot)
            try:
                await self._tenure.inherit()
            except (RedisError, OSError) as exc:
                _log.warning("Redis does not answer (%s): trying again to take over", exc)
                await asyncio.sleep(_RETRY_S)
                continue
            if self._slot.epoch == epoch:  # else it was lost meanwhile, and perhaps taken anew
                await self._tenure.run()
            self._tenure = None
            gc.collect()  # it was a web of callbacks that holds up to ~100 MB of batches, and would be found late

    async def run(self) -> None:
        """Run until TERM or INT."""
        config = self._config
        stop = watch_signals()
        watch_hangup("ingest", config, None)
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
