"""Reads the log for many who replay at once: one reading serves all whose position it passes.

Theory.  When a gateway dies, its clients come to the others within a second, each with a position of its own.  If each
read the log alone, a hundred of them together would read more than ingest writes: none would ever catch up, and the log
would run away from them.  So a reading is shared: it begins at the oldest position that somebody asked for, and answers
whoever asked before it began and whose position it passes.  These are at the same place then, and go on together.

But while clients keep coming who are far behind, there is always an older position, and nobody would ever be live.  So
one reading in NEWEST_EVERY begins at the newest position, which has the least to go.  Not more of them: the oldest must
be faster, or it would never reach the newest and go on together with it.
"""

import asyncio
from typing import Final

from gateway.log import Log, Reading
from shared.batch import Mark

NEWEST_EVERY: Final = 4  # ~100 readings a second, thus 2,000 batches, of which a busy feed makes 500


class _Question:
    def __init__(self, position: Mark) -> None:
        self.position = position
        self.answer: Reading | None = None


class Reader:
    """The log as `Log.read` gives it, one reading at a time.  Each replay has one question, which bounds them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._turn = asyncio.Lock()
        self._questions: dict[_Question, None] = {}
        self._readings = 0

    async def read(self, position: Mark) -> Reading:
        """As `Log.read`, of the log as it is after this call; raises redis.RedisError."""
        question = _Question(position)
        self._questions[question] = None
        try:
            while question.answer is None:
                async with self._turn:
                    if question.answer is None:
                        await self._answer_some()
            return question.answer
        finally:
            del self._questions[question]

    async def _answer_some(self) -> None:
        waiting = [question for question in self._questions if question.answer is None]
        self._readings += 1
        choose = min if self._readings % NEWEST_EVERY else max
        first = choose(waiting, key=lambda question: question.position[:2]).position
        reading = await self._log.read(first)
        for question in waiting:
            is_same = question.position[:2] == first[:2]
            question.answer = reading if is_same else reading.find_rest(question.position)
