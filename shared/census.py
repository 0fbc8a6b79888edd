"""How many clients get a channel's events: ingest asks all gateways, each answers for its own.  Pure but for `answer`.

The question is published behind the events that it is about, on the same bus, so a gateway counts after it has taken
them in.
"""

from typing import Annotated, Final

import msgspec
from redis.asyncio import Redis

from shared.names import Names

ANSWER_KEPT_S: Final = 10
MAX_CHANNELS: Final = 1000  # of one question


class Question(msgspec.Struct, frozen=True):
    """How many of your clients get events of at least one of these exact channels?"""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    channels: Annotated[list[str], msgspec.Meta(max_length=MAX_CHANNELS)]


class Answer(msgspec.Struct, frozen=True):
    """One gateway's."""

    gateway: str
    clients: int


_encode = msgspec.json.Encoder().encode
_decode_question = msgspec.json.Decoder(Question).decode
_decode_answer = msgspec.json.Decoder(Answer).decode


def encode_question(question: Question) -> bytes:
    """The question as JSON."""
    return _encode(question)


def parse_question(text: bytes) -> Question:
    """The question in a JSON text; raises msgspec.DecodeError."""
    return _decode_question(text)


def parse_answer(text: bytes) -> Answer:
    """The answer in a JSON text; raises msgspec.DecodeError."""
    return _decode_answer(text)


async def answer(redis: "Redis", names: Names, question_id: str, count: Answer) -> None:
    """Leave the answer where ingest waits for it; raises redis.RedisError."""
    key = names.get_census_reply(question_id)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.rpush(key, _encode(count))
        pipe.expire(key, ANSWER_KEPT_S)
        await pipe.execute()
