"""What upstream confirmed and what it refused, as ingest tells it: copies, for acks that tell the truth."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.channels import ALL, expand, get_wildcard, is_covered
from shared.demand import chunks
from shared.held import decode_held
from shared.indicator import Indicator, decode_indicator, make_indicator_status
from shared.names import Names
from shared.protocol import Status

_log = logging.getLogger(__name__)


class Held:
    """Kept by notices, read whole after each connection to the bus; `on_change` is called after each change."""

    def __init__(self, redis: "Redis", names: Names, on_change: Callable[[], None]) -> None:
        self._redis = redis
        self._names = names
        self._on_change = on_change
        self._channels: set[str] = set()
        self.refused: dict[str, str] = {}
        self.test_data: tuple[Status, ...] = ()  # what clients are told beside their acks, while it is not the market
        self._notices = 0

    def _set_indicator(self, indicator: Indicator | None) -> None:
        self.test_data = () if indicator is None else (make_indicator_status(indicator),)

    def is_held(self, channel: str) -> bool:
        """Whether upstream sends every event of the channel; of `*`, every event that it lets us have."""
        if channel != ALL:
            return is_covered(channel, self._channels)
        parts = expand(self._names.feed, [ALL])
        return parts <= self._channels | self.refused.keys() and not parts.isdisjoint(self._channels)

    def find_refusal(self, channel: str) -> str | None:
        """Upstream's text if it refuses the channel; of `*`, if it refuses every part; not if its wildcard is held."""
        parts = expand(self._names.feed, [channel])
        if parts <= self.refused.keys() and not any(is_covered(part, self._channels) for part in parts):
            return self.refused[min(parts)]
        return None

    def find_refused_parts(self, channel: str) -> dict[str, str]:
        """The parts of `*` that upstream refuses, with its text; of any other channel none."""
        parts = sorted(expand(self._names.feed, [ALL])) if channel == ALL else []
        return {part: self.refused[part] for part in parts if part in self.refused}

    def on_notice(self, text: bytes) -> None:
        """Ingest says what changed."""
        try:
            notice = decode_held(text)
        except msgspec.DecodeError:
            _log.warning("held: a notice of an unknown shape")
            return
        self._notices += 1
        if notice.reset:
            self._channels.clear()
        self._channels.update(notice.added)
        self._channels.difference_update(notice.removed)
        self.refused = notice.refused
        self._set_indicator(notice.test_data)
        self._on_change()

    async def refresh(self, channels: Iterable[str]) -> None:
        """Look at these after they were acquired: the copy may be a moment old, and ingest may just have dropped them.

        What is held now stays so, since ingest sees our count (shared/lua/clear.lua).  Raises redis.RedisError.
        """
        parts = expand(self._names.feed, channels)
        looked_at = sorted(parts | {get_wildcard(part) for part in parts})
        for chunk in chunks(looked_at):
            notices = -1
            while notices != self._notices:
                notices = self._notices
                answers: Any = await self._redis.smismember(self._names.held, chunk)
            for part, is_held in zip(chunk, answers, strict=True):
                (self._channels.add if is_held else self._channels.discard)(part)

    async def load(self) -> None:
        """Read the whole set; again if a notice came meanwhile, since either could be the older."""
        while True:
            notices = self._notices
            try:
                members: Any = await self._redis.smembers(self._names.held)
                refused: Any = await self._redis.hgetall(self._names.refused)
                test_data: Any = await self._redis.hget(self._names.upstream, "test_data")
            except (RedisError, OSError) as exc:
                _log.warning("held: cannot be read (%s); acks wait for notices", exc)
                return
            if notices == self._notices:
                self._channels = {member.decode() for member in members}
                self.refused = {channel.decode(): text.decode() for channel, text in refused.items()}
                if test_data is not None:  # else Redis came back empty, and ingest will say it again
                    self._set_indicator(decode_indicator(test_data))
                self._on_change()
                return
