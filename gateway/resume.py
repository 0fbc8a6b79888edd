"""`?resume=NAME`: a client that comes back, to any gateway, gets what it missed before it goes on live.

Theory.  While the client is connected its record in Redis says, every SAVE_S, which channels it holds and up to which
mark it surely has them: a pong confirms what was written before the ping.  When the connection ends here, the record
gets the exact position: the bytes that the client's machine has acknowledged (TCP).  Only if that machine reset the
connection, which it does when it threw away what was not read, or the client closed its socket without reading our
answer to its close frame, the last confirmed position is the one that counts.
So nothing is lost; and what is doubled is at most what arrived after the last pong, when a client or a gateway is
killed.  A proxy between us and the client acknowledges in its place: through one, what it holds at the end is lost.

A name has one connection.  Whoever comes with it while it is in use elsewhere takes it over, and waits HAND_OVER_S at
most for the other gateway to write the position.  Each connection has a later claim than those before it, and only a
record of a later one says that the name is lost: a Redis that comes back with older data has records of earlier ones.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.missed import MOST_CHANNELS, Missed
from gateway.receipt import LIVE, Lane, Receipt
from shared.backoff import Backoff
from shared.batch import NOTHING, Mark
from shared.demand import read_script
from shared.names import Names

_log = logging.getLogger(__name__)
SAVE_S: Final = 0.4  # between two pings of a client, and between two writes: together what a kill may double
HAND_OVER_S: Final = 1.0
_LOOK_S: Final = 0.02
_REWRITE_S: Final = 3600.0  # so that the record of a client that stays never expires
_END_WITHIN_S: Final = 4.0  # for the last word on a connection; later the record may be up to SAVE_S behind
_KEPT_S: Final = 86_400  # a name that does not come back for a day is forgotten, and then begins anew
# Names of which there is a record; beyond it those that came or left longest ago are forgotten, as after a day.  With
# up to LARGE channels each that is 110 MB; a larger one (540 KB at most) is soon forgotten when its client has left.
MOST_NAMES: Final = 10_000
LARGE: Final = 1000
_LARGE_KEPT_S: Final = 600
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _Part(msgspec.Struct, frozen=True):
    epoch: int
    sequence: int
    received_us: int
    channels: list[str]


class _Record(msgspec.Struct, frozen=True):
    """What a gateway says; before it there is the claim, which is the script's alone (shared/lua/record.lua)."""

    is_open: bool
    parts: list[_Part]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Record).decode


def find_name(query: str, feed: str) -> str | None:
    """The name in `?resume=NAME`; None without one.  Raises ValueError if it is no name.

    Some official clients append the cluster path to whatever URL they are given, so `NAME/stocks` is NAME.
    """
    if not query:
        return None
    name = query.removesuffix(f"/{feed}")
    if not _NAME.fullmatch(name):
        raise ValueError("resume: expected 1 to 64 letters, digits, dots, hyphens or underscores")
    return name


class Resumer:
    """One connection of a name: what the client missed before, and what it has got since."""

    def __init__(self, name: str, owner: str, missed: list[Lane], receipt: Receipt) -> None:
        self.name = name
        self.owner = owner  # its gateway, and the number of the connection there
        self.claim = 0  # until it has taken the name over
        self.missed = Missed(missed)
        self.receipt = receipt
        self.taken_over = asyncio.Event()
        self._confirmed = self._get_parts()
        self._is_due = False

    @property
    def confirmed(self) -> list[_Part]:
        """What a record says of it; made anew only when somebody looks, for with 10,000 channels that takes ms."""
        if self._is_due:
            self._confirmed = self._get_parts()
            self._is_due = False
        return self._confirmed

    def _get_parts(self) -> list[_Part]:
        lanes = [lane for lane in self.receipt.lanes.values() if lane.channels]
        lanes += [further for lane in lanes for further in lane.find_further()]
        given_up = self.missed.find_begun_below().difference(*(lane.channels for lane in lanes))
        lanes += [Lane(self.receipt.lanes[LIVE].position, given_up), *self.missed.lanes]
        parts = [(lane.position, sorted(lane.channels)) for lane in lanes if lane.channels]
        return [_Part(mark.epoch, mark.sequence, mark.received_us, channels) for mark, channels in parts]

    def confirm(self) -> None:
        """What has arrived now is what counts if nothing more is heard of the client."""
        self._is_due = True


class Resumption:
    """The records of all names in Redis, and this gateway's connections with one."""

    def __init__(self, redis: "Redis", names: Names, gateway_id: str) -> None:
        self._redis = redis
        self._names = names
        self._gateway_id = gateway_id
        self._numbers = 0
        self.open: dict[str, Resumer] = {}
        self._written: dict[str, list[_Part]] = {}
        self._due = asyncio.Event()
        self._record = redis.register_script(read_script("record"))

    async def claim(self, name: str, receipt: Receipt, is_over: Callable[[], bool]) -> Resumer | None:
        """Take the name over; waits for a Redis that does not answer, since what the client missed stands there.

        None if the connection is over before that.
        """
        self._numbers += 1
        owner = f"{self._gateway_id}/{self._numbers}"
        backoff = Backoff(0.05, 1.0)
        said = False
        while not is_over():
            try:
                record = await self._hand_over(name, owner)
                if is_over():
                    return None  # a live connection may have the name
                await self._keep_name(name)
                resumer = Resumer(name, owner, _find_missed(record), receipt)
                await self._write({name: resumer}, is_open=True)
            except (RedisError, OSError) as exc:
                if not said:
                    _log.warning("resume %s: its record cannot be read (%s), it waits", name, exc)
                said = True
                await asyncio.sleep(backoff.next_s())
                continue
            self.open[name] = resumer
            return resumer
        return None

    def save_soon(self) -> None:
        """A client holds other channels than its record says: a kill must not find it so."""
        self._due.set()

    async def _until_due(self) -> None:
        try:
            async with asyncio.timeout(SAVE_S):
                await self._due.wait()
        except TimeoutError:
            pass  # what has arrived meanwhile is recorded all the same
        self._due.clear()

    def forget(self) -> None:
        """Redis may have lost the records: all of them are written again, at once."""
        self._written.clear()
        self._due.set()

    async def _hand_over(self, name: str, owner: str) -> _Record | None:
        """The last record of the name, once its connection has ended or HAND_OVER_S have passed."""
        deadline = time.monotonic() + HAND_OVER_S
        claim = _encode([name, owner])
        record = await self._read(name)
        if record is not None and record.is_open:
            await self._redis.publish(self._names.resume, claim)
        while record is not None and record.is_open and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_S)
            record = await self._read(name)
        return record

    async def _keep_name(self, name: str) -> None:
        """Whoever makes up a name for each connection must not fill Redis: of too many the oldest are forgotten.

        One that is connected writes its record again.
        """
        names = self._names
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(names.resumed, {name: time.time()})
            pipe.zcard(names.resumed)
            pipe.expire(names.resumed, _KEPT_S)
            _, count, _ = await pipe.execute()
        if count > MOST_NAMES:
            oldest: Any = await self._redis.zpopmin(names.resumed, count - MOST_NAMES)
            await self._redis.delete(*(names.get_resume(old.decode()) for old, _ in oldest))

    async def _read(self, name: str) -> _Record | None:
        text: Any = await self._redis.get(self._names.get_resume(name))
        try:
            return _decode(text) if text is not None else None
        except msgspec.DecodeError:
            _log.error("resume %s: a record of an unknown shape, it begins anew", name)
            return None

    def on_claim(self, text: bytes) -> None:
        """Some gateway, perhaps this one, has a new connection with a name."""
        try:
            name, owner = msgspec.json.decode(text, type=tuple[str, str])
        except msgspec.DecodeError:
            _log.error("bus: a claim of an unknown shape")
            return
        resumer = self.open.get(name)
        if resumer is not None and owner != resumer.owner:
            resumer.taken_over.set()

    async def end(self, resumer: Resumer) -> None:
        """The connection is over; `resumer.confirmed` is its last word."""
        if self.open.get(resumer.name) is resumer:
            del self.open[resumer.name]
            self._written.pop(resumer.name, None)
        backoff = Backoff(0.05, 1.0)
        deadline = time.monotonic() + _END_WITHIN_S
        while True:
            try:
                await self._write({resumer.name: resumer}, is_open=False)
                await self._keep_name(resumer.name)
                return
            except (RedisError, OSError) as exc:
                if time.monotonic() > deadline:
                    _log.warning("resume %s: not recorded (%s); it may get some again", resumer.name, exc)
                    return
                await asyncio.sleep(backoff.next_s())

    async def run(self) -> None:
        """Keep the records of the open connections for as long as the process runs."""
        rewrite_at = time.monotonic() + _REWRITE_S
        while True:
            await self._until_due()
            if time.monotonic() > rewrite_at:
                rewrite_at += _REWRITE_S
                self._written.clear()
            changed = {n: resumer for n, resumer in self.open.items() if self._written.get(n) != resumer.confirmed}
            try:
                await self._write(changed, is_open=True)
            except (RedisError, OSError):
                _log.debug("resume: records are not written, Redis does not answer")

    async def _write(self, resumers: dict[str, Resumer], *, is_open: bool) -> None:
        """Write records; who has no claim yet takes its name over, and who has lost its name meanwhile is told."""
        if not resumers:
            return
        confirmed = {name: resumer.confirmed for name, resumer in resumers.items()}
        async with self._redis.pipeline(transaction=False) as pipe:
            for name, resumer in resumers.items():
                headless = _encode(_Record(is_open, confirmed[name])).removeprefix(b"{")
                is_large = sum(len(part.channels) for part in confirmed[name]) > LARGE
                kept_s = _LARGE_KEPT_S if is_large and not is_open else _KEPT_S
                args: list[int | bytes] = [resumer.claim, int(time.time() * 1000), headless, kept_s]
                await self._record(keys=[self._names.get_resume(name)], args=args, client=pipe)
            replies: Any = await pipe.execute()
        for (name, resumer), claim in zip(resumers.items(), replies, strict=True):
            if not claim:
                resumer.taken_over.set()
                continue
            resumer.claim = claim
            if self.open.get(name) is resumer:
                self._written[name] = confirmed[name]


def _find_missed(record: _Record | None) -> list[Lane]:
    """What the client did not get, as far as it is worth keeping: newest first, at most MOST_CHANNELS."""
    oldest_us = int((time.time() - _KEPT_S) * 1e6)
    parts = record.parts if record is not None else []
    parts = [part for part in parts if not 0 < part.received_us < oldest_us]  # 0: before the first batch of all
    lanes: list[Lane] = []
    room = MOST_CHANNELS
    for part in sorted(parts, key=lambda part: part.received_us, reverse=True):
        lanes.append(Lane(_make_mark(part), part.channels[:room]))
        room -= len(lanes[-1].channels)
    return [lane for lane in lanes if lane.channels]


def _make_mark(part: _Part) -> Mark:
    return NOTHING._replace(epoch=part.epoch, sequence=part.sequence, received_us=part.received_us)
