"""Questions to the ingest that has the upstream slot, and its answers, over Redis.

Who asks PUBLISHes a request on `polygon:{F}:control` and waits at a list of its own, `polygon:{F}:control:ID`, where
the answer is pushed.  Only the holder of the slot listens, so nobody there means that no ingest runs.  Requests hold no
key of any client: whoever can write to this Redis may ask.
"""

import asyncio
import secrets
from typing import Annotated, Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.names import Names
from shared.redis_address import describe

MAX_REQUEST_BYTES: Final = 1024 * 1024  # a longer one is refused before it is read
ANSWER_WITHIN_S: Final = 5.0
ANSWER_KEPT_S: Final = 60  # in Redis, for who has stopped waiting


class Request(msgspec.Struct, frozen=True):
    """`id` names the list for the answer; `args` are the command's own."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    command: Annotated[str, msgspec.Meta(max_length=32)]
    args: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True):
    """Either it was done, and `data` has what became of it, or `error` is one line that says why not."""

    error: str = ""
    data: dict[str, Any] = {}


class NotDone(Exception):
    """The request was refused, or nobody answered; str() is one line for the operator."""


_encode = msgspec.json.Encoder().encode
_decode_request = msgspec.json.Decoder(Request).decode
_decode_reply = msgspec.json.Decoder(Reply).decode


class BadRequest(Exception):
    """No request at all: nobody can be answered."""


def parse_request(text: bytes) -> Request:
    """The request in a message; raises BadRequest."""
    if len(text) > MAX_REQUEST_BYTES:
        raise BadRequest(f"{len(text)} bytes are too many")
    try:
        return _decode_request(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequest(str(exc)) from None


async def answer(redis: "Redis", names: Names, request: Request, reply: Reply) -> None:
    """Leave the answer where the asker looks for it; raises redis.RedisError."""
    key = names.get_control_reply(request.id)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.rpush(key, _encode(reply))
        pipe.expire(key, ANSWER_KEPT_S)
        await pipe.execute()


class Asker:
    """Asks one question after the other."""

    def __init__(self, redis: "Redis", names: Names, redis_url: str) -> None:
        self._redis = redis
        self._names = names
        self._where = describe(redis_url)

    async def ask(
        self, command: str, args: dict[str, Any] | None = None, within_s: float = ANSWER_WITHIN_S
    ) -> dict[str, Any]:
        """What the command answers; raises NotDone."""
        request = Request(secrets.token_hex(16), command, args or {})
        try:
            text = _encode(request)
        except UnicodeEncodeError:
            raise NotDone(f"{command}: what was given is not UTF-8") from None
        if len(text) > MAX_REQUEST_BYTES:
            raise NotDone(f"the request has {len(text)} bytes, more than {MAX_REQUEST_BYTES}")
        try:
            if not await self._redis.publish(self._names.control, text):
                raise NotDone("no ingest is running (nobody has the upstream slot)")
            _heed_cancel()
            found: Any = await self._wait(self._names.get_control_reply(request.id), within_s)
        except (RedisError, OSError) as exc:
            raise NotDone(f"Redis at {self._where} does not answer: {exc or type(exc).__name__}") from None
        if found is None:
            raise NotDone(f"ingest has not answered within {within_s:g} s")
        reply = _decode_reply(found[1])
        if reply.error:
            raise NotDone(reply.error)
        return reply.data

    async def _wait(self, key: str, within_s: float) -> Any:
        # Below the socket's own timeout of 5 s, so that an answer that does not come is no failure of Redis.
        waited_s = 0.0
        while waited_s < within_s:
            part_s = min(1.0, within_s - waited_s)
            found: Any = await self._redis.blpop([key], timeout=part_s)
            _heed_cancel()
            if found is not None:
                return found
            waited_s += part_s
        return None


def _heed_cancel() -> None:
    """Python 3.11's asyncio.wait_for, in which redis-py writes, swallows one that comes as the write ends."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
