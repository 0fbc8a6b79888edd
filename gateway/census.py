"""Answers ingest's question how many clients of this gateway get the events of some channels (shared/census.py)."""

import asyncio
import logging
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.hub import Hub
from shared.census import Answer, answer, parse_question
from shared.names import Names

_log = logging.getLogger(__name__)
_WAITING: Final = 100  # answers that Redis has not taken yet; a question beyond that stays without one


class Census:
    """Counts as the question comes, behind the events that it is about; `run` sends the answers."""

    def __init__(self, redis: "Redis", names: Names, hub: Hub, gateway_id: str) -> None:
        self._redis = redis
        self._names = names
        self._hub = hub
        self._id = gateway_id
        self._answers: asyncio.Queue[tuple[str, Answer]] = asyncio.Queue(_WAITING)

    def on_question(self, text: bytes) -> None:
        """A question came over the bus."""
        try:
            question = parse_question(text)
        except msgspec.DecodeError:
            _log.warning("census: a question of an unknown shape")
            return
        count = Answer(self._id, self._hub.count_members(question.channels))
        try:
            self._answers.put_nowait((question.id, count))
        except asyncio.QueueFull:
            _log.warning("census: Redis does not take our answers; one is left out")

    async def run(self) -> None:
        """Send answers for as long as the process runs."""
        while True:
            question_id, count = await self._answers.get()
            try:
                await answer(self._redis, self._names, question_id, count)
            except (RedisError, OSError) as exc:
                _log.warning("census: not answered (%s)", exc)
