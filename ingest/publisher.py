"""The publishing socket: batches go out without waiting, and are kept until Redis has answered them.

Upstream is never held up by Redis.  While Redis is away, batches pile up here to BUFFER_BYTES; beyond it the oldest go
and are counted.  After a reconnect whatever was not answered is sent again under the same ids: Redis may have
published some of it, and gateways ignore a mark that they have flushed already.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from ingest.batch import Encoded, encode_mark_command
from shared.backoff import Backoff
from shared.batch import Mark
from shared.bus import BusError, BusSocket, open_bus_socket
from shared.names import Names

_log = logging.getLogger(__name__)
BUFFER_BYTES: Final = (
    64 * 1024 * 1024
)  # 2.5 to 4 s at 50,000 events/s; beyond it the oldest batches are lost and counted


class _PublishingSocket(BusSocket):
    """Hands replies to the publisher; an error reply is for the operator."""

    def __init__(self, publisher: "Publisher") -> None:
        super().__init__()
        self._publisher = publisher

    def receive(self) -> None:
        gets = self.reader.gets
        count = 0
        while (reply := gets()) is not False:
            count += 1
            if reply.__class__ is not int and isinstance(reply, Exception):
                self._publisher.refused(reply)
        self._publisher.answered(count)


class Publisher:
    """Owns the publishing socket; `publish` never blocks and never raises."""

    def __init__(self, url: str, names: Names) -> None:
        self._url = url
        self._names = names
        self._socket: _PublishingSocket | None = None
        self._unanswered: deque[Encoded] = deque()
        self._answers = 0  # to the oldest unanswered batch
        self._bytes = 0
        self._resent = 0  # batches that the log may refuse because it has them
        self.lost_batches = 0
        self.lost_events = 0
        self.refusals = 0
        self.reconnects = -1
        self.on_connected: Callable[[], None] = lambda: None

    def publish(self, batch: Encoded) -> None:
        """Send a batch, or keep it until Redis is back."""
        self._keep(batch)
        while self._bytes > BUFFER_BYTES and len(self._unanswered) > 1:
            self._lose_oldest()
        if self._socket is not None and self._socket.transport is not None:
            self._socket.transport.write(batch.data)

    def _lose_oldest(self) -> None:
        oldest = self._unanswered.popleft()
        self._bytes -= len(oldest.data)
        if not self.lost_batches:
            _log.warning("Redis is too slow or away for too long: the oldest batches are being lost")
        self.lost_batches += 1
        self.lost_events += oldest.mark.events
        if self._socket is not None:
            # Answers no longer match batches, and what is in the transport cannot be taken back: start over.
            self._socket.abort()
            self._socket = None

    def heartbeat(self, mark: Mark) -> None:
        """Repeat a mark, so that gateways can tell silence from a dead bus; not while Redis is away."""
        if self._socket is not None and self._socket.transport is not None:
            beat = self._make_heartbeat(mark)
            self._keep(beat)
            self._socket.transport.write(beat.data)

    def answered(self, count: int) -> None:
        """Redis answered `count` more commands."""
        self._answers += count
        while self._unanswered and self._answers >= self._unanswered[0].replies:
            oldest = self._unanswered.popleft()
            self._answers -= oldest.replies
            self._bytes -= len(oldest.data)

    def refused(self, reply: Exception) -> None:
        """Redis refused a command: count it, and tell the operator of the first."""
        if "equal or smaller" in str(reply) and self._resent > 0:
            self._resent -= 1  # the log has this batch already: Redis had taken it before the connection broke
            return
        self.refusals += 1
        if self.refusals == 1:
            _log.error("Redis refuses to publish: %s", reply)

    async def run(self) -> None:
        """Keep the socket open for as long as the process runs."""
        backoff = Backoff(0.05, 2.0)
        while True:
            try:
                await self._connect()
            except (OSError, TimeoutError, BusError) as exc:
                delay_s = backoff.next_s()
                _log.warning("bus: cannot connect (%s), next try in %.1f s", exc or type(exc).__name__, delay_s)
                await asyncio.sleep(delay_s)
                continue
            backoff.reset()
            await self._until_lost()

    async def _connect(self) -> None:
        socket = await open_bus_socket(self._url, lambda: _PublishingSocket(self), "polygon-proxy-ingest")
        self._answers = 0
        self._socket = socket
        self.reconnects += 1
        if self._unanswered:
            # Redis may have published a part of the first one: a mark before it makes gateways forget that part.
            first = self._unanswered[0].mark
            self._keep(self._make_heartbeat(first._replace(sequence=first.sequence - 1)), at_front=True)
        self._resent = len(self._unanswered)
        if socket.transport is not None:
            socket.transport.writelines([batch.data for batch in self._unanswered])
        self.on_connected()
        _log.info("bus: connected, %d batches sent again", len(self._unanswered))

    def _make_heartbeat(self, mark: Mark) -> Encoded:
        mark = mark._replace(events=0)
        return Encoded(encode_mark_command(self._names, mark), 1, mark)

    def _keep(self, batch: Encoded, *, at_front: bool = False) -> None:
        (self._unanswered.appendleft if at_front else self._unanswered.append)(batch)
        self._bytes += len(batch.data)

    async def _until_lost(self) -> None:
        socket = self._socket
        if socket is not None:
            await socket.lost
        self._socket = None
        _log.warning("bus: connection lost")
