"""The publishing socket: batches go out without waiting, and are kept until Redis has answered, and a while longer.

Upstream is never held up by Redis.  While Redis is away, batches pile up here to BUFFER_BYTES; beyond it the oldest go
and are counted, and gateways see the hole in the sequence and tell their clients.  Notices are kept (lost.py): the
gap of the hole does not say since when upstream had been away.  After a reconnect whatever was not answered is sent
again under the same ids: Redis may have published some of it, and gateways ignore a mark that they have flushed.  If
Redis came back empty, its log is gone, and with it what gateways might still have read there: so the last answered
batches (answered.py) are sent again as well, as far as the log lacks them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from ingest.answered import Answered
from ingest.batch import Encoded, encode_mark_command
from ingest.lost import Lost
from ingest.slot import Slot
from shared.backoff import Backoff
from shared.batch import Mark
from shared.bus import BusError, BusSocket, open_bus_socket
from shared.names import Names

_log = logging.getLogger(__name__)
# Seconds at 50,000 events/s; while somebody records, a batch has its frames beside it and they are half.
BUFFER_BYTES: Final = 64 * 1024 * 1024  # ~10 s; beyond it the oldest batches are lost and counted ...
_LEFT_SHARE: Final = 7 / 8  # ... and so many that the next connection has ~1 s for its first answer before more are
_AHEAD_BYTES: Final = 1024 * 1024  # written before Redis takes them; the rest waits here, where it is counted
_STAYED_S: Final = 1.0  # a connection that was worth something
_SILENT_S: Final = 3.0  # without an answer to what was sent: the connection is taken for dead


class _PublishingSocket(BusSocket):
    """Hands replies to the publisher, and says when there is room; an error reply is for the operator."""

    def __init__(self, publisher: "Publisher") -> None:
        super().__init__()
        self._publisher = publisher
        self.is_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.set_write_buffer_limits(_AHEAD_BYTES)

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self._publisher.has_room(self)

    def receive(self) -> None:
        gets = self.reader.gets
        count = 0
        while (reply := gets()) is not False:
            count += 1
            if reply.__class__ is not int and isinstance(reply, Exception):
                self._publisher.refused(reply)
        self._publisher.answered(self, count)


class Publisher:
    """Owns the publishing socket; `publish` never blocks and never raises."""

    def __init__(self, url: str, redis: "Redis", names: Names, slot: Slot) -> None:
        self._url = url
        self._redis = redis
        self._names = names
        self._slot = slot
        self._name = f"polygon-proxy-ingest-{names.feed}"  # in CLIENT LIST
        self._socket: _PublishingSocket | None = None
        self._unanswered: deque[Encoded] = deque()
        self._written = 0  # so many of them were written to this socket
        self._bytes = 0
        self._answers = 0  # to the oldest unanswered batch
        self._answered_at = 0.0  # loop time of the last answer, or of the first batch that waits for one
        self._answered_batches = Answered()
        # Bounded by who asks: control does one thing after the other.
        self._waiters: deque[tuple[Encoded, asyncio.Future[None]]] = deque()
        self._resent = 0  # entries that the log, or the frames, may refuse because they have them
        self._loop = asyncio.get_running_loop()
        self.lost = Lost(lambda: self.get_channels())
        self.refusals = 0
        self.reconnects = -1
        self.on_connected: Callable[[], None] = lambda: None
        self.get_channels: Callable[[], list[str]] = list  # what is wanted now
        self.on_lost: Callable[[int, int, list[str]], None] = lambda _from_us, _to_us, _channels: None

    @property
    def unanswered_bytes(self) -> int:
        """What waits for an answer of Redis; above BUFFER_BYTES the oldest batches would be lost."""
        return self._bytes

    def has_answered(self, until_us: int) -> bool:
        """Whether Redis has answered all that was received until then (Unix us); on a busy feed more always waits."""
        if self.lost.has_notices:
            return False
        return not self._unanswered or self._unanswered[0].mark.received_us > until_us

    def publish(self, batch: Encoded) -> None:
        """Send a batch, or keep it until Redis is back."""
        self._keep(batch)
        self._answered_batches.make_room(self._bytes)
        if self._bytes > BUFFER_BYTES:
            while self._bytes > BUFFER_BYTES * _LEFT_SHARE and len(self._unanswered) > 1:
                self._lose_oldest()
        self._write()

    def _write(self) -> None:
        """Write what was not written yet, as far as there is room."""
        socket, unanswered = self._socket, self._unanswered
        if socket is None or socket.transport is None:
            return
        if not self._slot.is_sure():
            self._give_socket_up()  # nothing goes out until the slot is ours for sure; then all of it is sent again
            return
        while not socket.is_full and self._written < len(unanswered):
            socket.transport.write(unanswered[self._written].data)
            self._written += 1

    def has_room(self, socket: _PublishingSocket) -> None:
        """Redis took most of what was written to this socket."""
        if socket is self._socket:
            self._write()

    def _give_socket_up(self) -> None:
        if self._socket is not None:
            self._socket.abort()
            self._socket = None

    def _lose_oldest(self) -> None:
        oldest = self._pop_oldest()
        # Answers no longer match batches, and what is in the transport cannot be taken back: start over.
        self._give_socket_up()
        if not self.lost.batches:
            _log.warning("Redis is too slow or away for too long: the oldest batches are being lost")
        self.lost.add(oldest)

    def heartbeat(self, mark: Mark) -> None:
        """Repeat a mark, so that gateways can tell silence from a dead bus; not while Redis is away."""
        if self._socket is not None and self._socket.transport is not None:
            self._keep(self._make_heartbeat(mark))
            self._write()

    def answered(self, socket: _PublishingSocket, count: int) -> None:
        """Redis answered `count` more commands on this socket."""
        if socket is not self._socket:
            return  # given up, and what it was sent is sent again
        self._answers += count
        self._answered_at = self._loop.time()
        while self._unanswered and self._answers >= self._unanswered[0].replies:
            oldest = self._pop_oldest()
            self._answers -= oldest.replies
            self._written -= 1
            if oldest.mark.events:
                self._answered_batches.add(oldest, self._answered_at, self._bytes)

    def _pop_oldest(self) -> Encoded:
        oldest = self._unanswered.popleft()
        self._bytes -= oldest.size
        while self._waiters and self._waiters[0][0] is oldest:
            waiter = self._waiters.popleft()[1]
            if not waiter.done():
                waiter.set_result(None)
        return oldest

    async def until_answered(self) -> None:
        """Return once Redis has answered all that was published until now, or it was lost."""
        if self._unanswered:
            waiter = self._loop.create_future()
            self._waiters.append((self._unanswered[-1], waiter))
            await waiter

    def refused(self, reply: Exception) -> None:
        """Redis refused a command: count it, and tell the operator of the first."""
        if "equal or smaller" in str(reply) and self._resent > 0:
            self._resent -= 1  # it is there already: Redis had taken it before the connection broke
            return
        self.refusals += 1
        if self.refusals == 1:
            _log.error("Redis refuses to publish: %s", reply)

    async def run(self) -> None:
        """Keep the socket open, while the slot is ours, for as long as the process runs."""
        backoff = Backoff(0.05, 1.0)
        try:
            while True:
                await self._slot.until_sure()
                try:
                    await self._connect()
                except (OSError, TimeoutError, BusError, RedisError) as exc:
                    delay_s = backoff.next_s()
                    _log.warning("bus: cannot connect (%s), next try in %.1f s", exc or type(exc).__name__, delay_s)
                    await asyncio.sleep(delay_s)
                    continue
                connected_at = self._loop.time()
                await self._until_lost()
                if self._loop.time() - connected_at > _STAYED_S:
                    backoff.reset()
                await asyncio.sleep(backoff.next_s())  # who cuts us off each time must not cost a core
        finally:
            self._give_socket_up()

    async def _connect(self) -> None:
        ask = (b"XREVRANGE", self._names.log.encode(), b"+", b"-", b"COUNT", b"1")
        socket = await open_bus_socket(self._url, lambda: _PublishingSocket(self), self._name, ask, (b"CLIENT", b"ID"))
        try:
            await self._cut_others(socket.greeted.pop())
        except BaseException:
            socket.abort()
            raise
        if not self._slot.is_sure():
            socket.abort()
            return
        self._answers = self._written = 0
        self._answered_at = self._loop.time()
        self._socket = socket
        self.reconnects += 1
        for notice in reversed(self.lost.take_notices()):
            self._keep(notice, at_front=True)
        self._restore(socket.greeted[-1])
        if self._unanswered:
            # Redis may have published a part of the first one: a mark before it makes gateways forget that part.
            first = self._unanswered[0].mark
            self._keep(self._make_heartbeat(first._replace(sequence=first.sequence - 1)), at_front=True)
        self._resent = sum(batch.appends for batch in self._unanswered)
        self._write()
        self.on_connected()
        if (span := self.lost.take_span()) is not None:
            self.on_lost(*span)
        _log.info("bus: connected, %d batches to be sent again", len(self._unanswered))

    async def _cut_others(self, own: int) -> None:
        """Cut off who published before us, an ingest or ourselves: what it wrote may still lie in its socket.

        It would come late, in the middle of what we write now.  Raises redis.RedisError.
        """
        try:
            clients: Any = await self._redis.client_list()
            for client in clients:
                if client.get("name") == self._name and client["id"] != str(own):
                    _log.info("bus: cutting off the connection that published before")
                    await self._redis.client_kill_filter(_id=client["id"])
        except ResponseError as exc:
            _log.warning("bus: who published before cannot be cut off (%s): it must not run any more", exc)

    def _restore(self, newest: list[Any]) -> None:
        """Queue again what was answered but is not in the log; `newest` is the log's last entry, if it has any."""
        logged = tuple(int(part) for part in newest[0][0].split(b"-")) if newest else (0, 0)
        lost = self._answered_batches.take_beyond(logged)
        if not lost:
            return
        _log.warning("bus: Redis lost its log; %d batches that it had answered are sent again", len(lost))
        for batch in reversed(lost):
            if self._bytes + batch.size > BUFFER_BYTES * _LEFT_SHARE:
                break  # those are the oldest: gateways that are so far behind see the hole
            self._keep(batch, at_front=True)

    def _make_heartbeat(self, mark: Mark) -> Encoded:
        mark = mark._replace(events=0)
        return Encoded(b"", b"", encode_mark_command(self._names, mark), 1, mark)

    def _keep(self, batch: Encoded, *, at_front: bool = False) -> None:
        if not self._unanswered:
            self._answered_at = self._loop.time()
        (self._unanswered.appendleft if at_front else self._unanswered.append)(batch)
        self._bytes += batch.size

    async def _until_lost(self) -> None:
        socket = self._socket
        while socket is not None and not socket.lost.done():
            await asyncio.wait([socket.lost], timeout=_SILENT_S / 4)
            silent_s = self._loop.time() - self._answered_at
            if self._unanswered and silent_s >= _SILENT_S:
                _log.warning("bus: no answer for %.1f s, connecting anew", silent_s)
                socket.abort()
                await socket.lost
        self._socket = None
        if socket is not None:
            _log.warning("bus: connection lost")
