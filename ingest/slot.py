"""The upstream slot: only the ingest that has it may connect to Polygon or publish.

Theory.  The slot is a key in Redis that its holder renews every RENEW_S and that runs out after LEASE_S.  The *epoch*
grows with each holder.  A holder that merely stood still does not know that its time ran out, so it looks at the clock
before each write to Redis (`is_sure`): LEASE_S after the last confirmed renewal it writes nothing until it has asked
again; what it wrote before may still lie in its socket, so whoever takes the slot cuts that connection before it
publishes (ingest/publisher.py).  If Redis does not answer, nobody can take the slot there either: the holder keeps its
upstream connection, and its batches wait.  So a standby leaves a Redis that came back, empty or not, alone for LEASE_S:
the holder, whose key went with the rest or ran out meanwhile, comes first.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.demand import read_script
from shared.names import Names

_log = logging.getLogger(__name__)
LEASE_S: Final = 3.0  # a killed ingest is replaced after LEASE_S + RENEW_S and a connect: promised <= 5 s
RENEW_S: Final = 0.5
_ANSWER_WITHIN_S: Final = 1.0
_LEAVE_WITHIN_S: Final = 1.0
_EMPTY: Final = -2
_NOBODY: Final = -1


class Slot:
    """This process's claim; `epoch` is 0 while it does not have the slot."""

    def __init__(self, redis: "Redis", names: Names) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.epoch = 0
        self._names = names
        self._claim = redis.register_script(read_script("claim"))
        self._give_up = redis.register_script(read_script("give_up"))
        self._sure_until = 0.0
        self._has_met_holder = False  # a process that never met one need not wait for it
        self._may_take_at = 0.0
        self._answered_at = float("inf")
        self._has_failed = False  # the last time that Redis was asked
        self.sure = asyncio.Event()
        self.taken = asyncio.Event()
        self.lost = asyncio.Event()
        self.lost.set()

    def is_sure(self) -> bool:
        """Whether nobody else can have the slot now."""
        if time.monotonic() < self._sure_until:
            return True
        self.sure.clear()
        return False

    async def until_sure(self) -> None:
        """Wait until nobody else can have the slot."""
        while not self.is_sure():
            await self.sure.wait()

    async def run(self) -> None:
        """Claim or renew for as long as the process runs."""
        said = ""
        while True:
            try:
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    await self._renew()
                saying = "" if self.epoch else "standing by: another ingest has the upstream slot"
            except (RedisError, OSError, TimeoutError) as exc:
                self._has_failed = True
                saying = f"slot: Redis does not answer ({exc or type(exc).__name__})"
            if saying and saying != said:
                _log.warning(saying)
            said = saying
            await asyncio.sleep(RENEW_S)

    async def _renew(self) -> None:
        asked_at = time.monotonic()
        epoch = await self._ask(may_take=False)
        is_emptied = epoch == _EMPTY and self._has_met_holder
        self._has_met_holder = epoch >= 0
        # A new process may have come just before Redis; but one that is empty, too, is that of a new system.
        is_back = asked_at - self._answered_at > 2 * RENEW_S or (self._has_failed and epoch == _NOBODY)
        if is_emptied or is_back:
            self._may_take_at = asked_at + LEASE_S  # Redis was away: its holder, who has batches for it, comes first
        self._answered_at = time.monotonic()
        self._has_failed = False
        if epoch < 0:
            if asked_at < self._may_take_at:
                return
            # Asked again only now: a claim that takes must not lie in the socket of a Redis that stands still.
            asked_at = time.monotonic()
            epoch = await self._ask(may_take=True)
        self._has_met_holder |= epoch >= 0  # also itself
        if epoch:
            self._sure_until = asked_at + LEASE_S
            self.sure.set()
        if epoch != self.epoch:
            self._set_epoch(epoch)

    async def _ask(self, *, may_take: bool) -> int:
        names = self._names
        args: list[str | int] = [
            self.holder,
            self.epoch,
            int(LEASE_S * 1000),
            time.time_ns() // 1_000_000,
            int(may_take),
        ]
        return int(await self._claim(keys=[names.ingest, names.upstream], args=args))

    def _set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if epoch:
            _log.info("this ingest has the upstream slot (epoch %d)", epoch)
            self.lost.clear()
            self.taken.set()
        else:
            _log.warning("the upstream slot went to another ingest")
            self._sure_until = 0.0
            self.sure.clear()
            self.taken.clear()
            self.lost.set()

    async def give_up(self) -> None:
        """Let a standby take over at once."""
        try:
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                await self._give_up(keys=[self._names.ingest], args=[self.holder])
        except (RedisError, OSError, TimeoutError) as exc:
            _log.info("slot: not given up (%s); it will run out", exc)
