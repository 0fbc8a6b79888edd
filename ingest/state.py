"""What operators and gateways may know of upstream, kept in Redis: the `upstream` hash, `held` and `refused`."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.mix import Mix
from ingest.slot import Slot
from ingest.upstream import Upstream
from shared.demand import chunks, read_script
from shared.gap import Gap, encode_gap
from shared.held import HeldNotice, encode_held
from shared.indicator import Indicator, encode_indicator
from shared.names import Names

_log = logging.getLogger(__name__)
_WRITE_EVERY_S: Final = 1.0
_LEAVE_WITHIN_S: Final = 1.0
_GAPS_WAITING: Final = 100  # while Redis is away; of more the oldest are in the log of this process only
_FRAMES_EXPIRE_S: Final = 60  # frames that nobody asks for any more
_GAPS_KEPT: Final = 100  # in Redis, 200 KB each with 20,000 channels; the oldest go


class StateWriter:
    """Writes at every change and once a second; what could not be written is written whole the next time."""

    def __init__(
        self,
        redis: "Redis",
        names: Names,
        upstream: Upstream | Mix,
        slot: Slot,
        get_counters: Callable[[], dict[str, Any]],
    ) -> None:
        self._redis = redis
        self._names = names
        self._upstream = upstream
        self._get_counters = get_counters
        self.get_indicator: Callable[[], Indicator | None] = lambda: None
        self.get_switches: Callable[[], bytes] = lambda: b""
        self.get_whole: Callable[[], dict[str, str]] = dict
        self._slot = slot
        self._is_recording = False
        self.on_recording: Callable[[bool], None] = lambda _is_asked: None
        self._gaps: deque[Gap] = deque(maxlen=_GAPS_WAITING)
        self._clear = redis.register_script(read_script("clear"))
        self._to_drop: set[str] = set()
        self._generation = 0  # of what Redis knows; a writing that began before `forget` proves nothing after it
        self._lock = asyncio.Lock()  # one writing or clearing at a time, or `_written` would not be true
        # As Redis has it; None when that is not known.
        self._written: tuple[set[str], dict[str, str], Indicator | None] | None = None

    def forget(self) -> None:
        """Redis may have lost what was written."""
        self._written = None
        self._generation += 1
        self._upstream.changed.set()

    async def run(self) -> None:
        """Write for as long as the process runs."""
        while True:
            try:
                async with asyncio.timeout(_WRITE_EVERY_S):
                    await self._upstream.changed.wait()
            except TimeoutError:
                pass  # nothing changed: the counters are written all the same
            self._upstream.changed.clear()
            await self.write()

    async def write(self) -> None:
        """One writing; a Redis that does not answer is logged once.  Without the slot nothing here is true any more."""
        async with self._lock:
            if not self._slot.is_sure():
                self._written = None
                return
            try:
                await self._write_held()
                await self._clear_drops()
                await self._write_upstream()
                await self._write_gaps()
                await self._find_recorder()
            except (RedisError, OSError) as exc:
                if self._written is not None:
                    _log.warning("state: Redis does not answer (%s)", exc)
                self._written = None
                self._upstream.keep(self._to_drop)
                self._to_drop.clear()

    def request_drop(self, channels: list[str]) -> None:
        """Upstream is to give these up, if nobody wants them."""
        self._to_drop.update(channels)
        self._upstream.changed.set()

    async def _clear_drops(self) -> None:
        """Take what nobody wants out of `held`, and only then let upstream drop it."""
        names = self._names
        for chunk in chunks(sorted(self._to_drop)):
            reply: Any = await self._clear(keys=[names.refcount, names.held, names.refused], args=chunk)
            cleared = {channel.decode() for channel in reply}
            self._to_drop.difference_update(chunk)
            self._upstream.keep(set(chunk) - cleared)
            if self._written is not None:
                self._written[0].difference_update(cleared)
            self._upstream.drop(cleared)
            notice = HeldNotice(
                removed=sorted(cleared), refused=dict(self._upstream.refused), test_data=self.get_indicator()
            )
            await self._redis.publish(self._names.held, encode_held(notice))

    async def _write_upstream(self) -> None:
        upstream = self._upstream
        fields: dict[Any, Any] = {
            "state": upstream.state,
            "since": f"{upstream.since_s:.3f}",
            "held": len(upstream.held),
            "drops": upstream.drops,
            "refusals": upstream.refusals,
            "last_refusal": upstream.last_refusal,
            "holder": self._slot.holder,
            "feed": self._names.feed,
            "recording": int(self._is_recording),
            "switches": self.get_switches(),
            **self._get_counters(),
            **self.get_whole(),
        }
        await self._redis.hset(self._names.upstream, mapping=fields)
        count: Any = await self._redis.scard(self._names.held)
        if self._written is not None and count != len(self._written[0]):
            self._written = None  # somebody emptied Redis: all of it is written with the next round

    def add_gap(self, gap: Gap) -> None:
        """Keep a record of it for operators."""
        self._gaps.append(gap)
        self._upstream.changed.set()

    async def _write_gaps(self) -> None:
        while self._gaps:
            text = encode_gap(self._gaps[0])
            await self._redis.xadd(self._names.gaps, {"gap": text}, maxlen=_GAPS_KEPT, approximate=True)
            self._gaps.popleft()

    async def _find_recorder(self) -> None:
        """Hear whether somebody asks for frames; those in Redis are forgotten a while after the last one did."""
        is_asked = bool(await self._redis.exists(self._names.recording))
        self.on_recording(is_asked)
        if is_asked != self._is_recording:
            self._is_recording = is_asked
            self._upstream.changed.set()
        if is_asked:
            await self._redis.expire(self._names.frames, _FRAMES_EXPIRE_S)

    async def _write_held(self) -> None:
        held, refused, indicator = set(self._upstream.held), dict(self._upstream.refused), self.get_indicator()
        if self._written is None:
            notice = HeldNotice(added=sorted(held), reset=True, refused=refused, test_data=indicator)
        elif self._written == (held, refused, indicator):
            return
        else:
            before = self._written[0]
            added, removed = sorted(held - before), sorted(before - held)
            notice = HeldNotice(added=added, removed=removed, refused=refused, test_data=indicator)
        generation = self._generation
        async with self._redis.pipeline(transaction=True) as pipe:
            self._queue_held(pipe, notice)
            await pipe.execute()
        if generation == self._generation:
            self._written = held, refused, indicator

    def _queue_held(self, pipe: Any, notice: HeldNotice) -> None:
        names = self._names
        if notice.reset:
            pipe.delete(names.held)
        for chunk in chunks(notice.added):
            pipe.sadd(names.held, *chunk)
        for chunk in chunks(notice.removed):
            pipe.srem(names.held, *chunk)
        pipe.delete(names.refused)
        if notice.refused:
            pipe.hset(names.refused, mapping=notice.refused)
        pipe.hset(names.upstream, "test_data", encode_indicator(notice.test_data))
        pipe.publish(names.held, encode_held(notice))

    async def leave(self) -> None:
        """Say that nobody holds upstream any more."""
        self._upstream.closed("stopped")
        try:
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                await self.write()
        except TimeoutError:
            _log.info("state: not written, Redis does not answer")
