"""The subscribed socket: every bus message of this gateway comes in here, and is routed without being parsed."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.catchup import CatchUp
from gateway.groups import encode_frame
from gateway.hub import Hub
from gateway.log import Log, parse_newest
from gateway.outbox import Outbox
from shared.backoff import Backoff
from shared.batch import Mark, encode_command, parse_mark
from shared.bus import BusError, BusSocket, open_bus_socket
from shared.demand import LEASE_S, RETRY_MOST_S
from shared.metrics import Histogram
from shared.names import Names
from shared.notice import Notice
from shared.protocol import encode_status

_log = logging.getLogger(__name__)
_CONFIRM_WITHIN_S: Final = 5.0
_CHUNK: Final = 500  # channels in one SUBSCRIBE
_SILENT_S: Final = 2.0  # marks come every second; then a PING, and after as long again the socket is given up
AWAY_S: Final = LEASE_S  # then nobody counts what this gateway's clients hold, and new ones had better go elsewhere
_BACKLOG_BYTES: Final = 128 * 1024  # in one read; at 50,000 events/s a batch has 12 KB


class BusAway(Exception):
    """The bus did not confirm in time, or is not connected; the listener is reconnecting."""


class _SubscribedSocket(BusSocket):
    """Reads the bus: messages into the hub, marks and notices to the listener."""

    def __init__(self, listener: "Listener") -> None:
        super().__init__()
        self._listener = listener

    def receive(self) -> None:
        listener = self._listener
        gets = self.reader.gets
        collect = listener.collect
        special = listener.special
        reply = gets()
        while reply is not False:
            try:
                kind, channel, payload = reply
            except (TypeError, ValueError):
                listener.on_odd(reply)
                reply = gets()
                continue
            if kind == b"message":
                handler = special.get(channel)
                if handler is None:
                    collect(channel, payload)
                else:
                    handler(payload)
                    collect = listener.collect
            else:
                listener.on_confirmed(kind, channel)
            reply = gets()
        listener.flush()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(data) >= _BACKLOG_BYTES and self.transport is not None and not self.transport.is_closing():
            # We are behind.  libuv would read on and on in this round of the loop, and nothing else would happen.
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()


class Listener:
    """Owns the subscribed socket; hands each closed batch to the outboxes of its members."""

    def __init__(
        self, url: str, names: Names, hub: Hub, log: Log, notices: Mapping[str, Callable[[bytes], None]]
    ) -> None:
        self._url = url
        self._socket: _SubscribedSocket | None = None
        self._listened: dict[bytes, None] = {}
        self._waiting: dict[bytes, asyncio.Future[None]] = {}  # at most one for each that is listened to
        self._loop = asyncio.get_running_loop()
        self.hub = hub
        self.special = {name.encode(): self._after_flush(handler) for name, handler in notices.items()}
        self.special[names.mark.encode()] = self._on_mark
        self._log = log
        self._always = [names.notices.encode(), *self.special]  # the mark last: when it comes, all is subscribed
        self.catchup = CatchUp(log, hub, self._seal, self.flush)
        self.on_connected: Callable[[], None] = lambda: None
        self.on_moved: Callable[[], None] = lambda: None
        self._sealed: list[Mark] = []  # closed since the last flush
        self._mark_waiters: list[asyncio.Future[None]] = []
        self.latency = Histogram()
        self.frames_out = 0
        self.bytes_out = 0
        self.reconnects = -1
        self.last_mark_s = 0.0  # Unix time
        self._heard_at: float | None = None  # loop time of the last mark or pong
        self._has_pinged = False

    @property
    def collect(self) -> Callable[[bytes, bytes], None]:
        """Where live messages go now."""
        return self.catchup.collect if self.catchup.is_behind else self.hub.collect

    def _on_mark(self, text: bytes) -> None:
        try:
            mark = parse_mark(text)
        except ValueError:
            _log.error("bus: not a mark: %r", text[:100])
            return
        self.last_mark_s = time.time()
        self.hub.live_epoch = mark.epoch
        has_stood_still = self._get_silent_s() > AWAY_S  # without a loss of the bus: this process did
        self._on_heard()
        if not self.catchup.is_behind and (has_stood_still or not self.hub.is_next(mark)):
            self.catchup.start()
        if self.catchup.is_behind:
            self.catchup.on_mark(mark)
        else:
            self._seal(mark)

    def _after_flush(self, handler: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """What a notice makes us send must not overtake events that were sealed before it."""

        def handle(payload: bytes) -> None:
            self.flush()
            handler(payload)

        return handle

    def _seal(self, mark: Mark) -> None:
        self._sealed.append(mark)
        if self.hub.seal(mark):
            self.flush()

    def flush(self) -> None:
        """Send what was sealed; called when all that has arrived is taken in."""
        if self._sealed:
            self._flush_hub()
            self._sealed = []
            self._wake_mark_waiters()

    def tell(self, notice: Notice) -> None:
        """Let at once know whom it concerns: who waits for its next batch may get other channels by then."""
        self.hub.tell(notice)
        self._flush_hub()
        member: Outbox
        for member, status in self.hub.address_late(notice):  # type: ignore[assignment]  # as above
            member.send(encode_frame([encode_status(status)]))

    def _flush_hub(self) -> None:
        frames = 0
        moves_made = self.hub.moves_made
        for frame, members in self.hub.flush():
            member: Outbox
            for member in members:  # type: ignore[assignment]  # the hub is given outboxes and no others
                member.send(frame)
            count = len(members)  # type: ignore[arg-type]
            frames += count
            self.bytes_out += len(frame) * count
        if frames:
            self.frames_out += frames
            # The loop writes to the sockets at the end of this round: what counts is the time after that.
            self._loop.call_soon(self._measure, self._sealed)
        if self.hub.moves_made != moves_made:
            self.on_moved()

    async def until_mark(self) -> None:
        """Wait until the next mark has come and what it closes is sent."""
        waiter = self._loop.create_future()
        self._mark_waiters.append(waiter)
        await waiter

    def _wake_mark_waiters(self) -> None:
        for waiter in self._mark_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._mark_waiters.clear()

    def _measure(self, marks: list[Mark]) -> None:
        now_us = time.time_ns() // 1000
        for mark in marks:
            if mark.events:
                self.latency.add(now_us - mark.received_us)

    async def listen(self, channels: Iterable[str]) -> None:
        """SUBSCRIBE, and wait until Redis confirmed each; raises BusAway."""
        names = [channel.encode() for channel in channels]
        self._listened.update(dict.fromkeys(names))
        for name in names:
            if name not in self._waiting:
                self._waiting[name] = self._loop.create_future()
        waiters = [self._waiting[name] for name in names]
        self._send(b"SUBSCRIBE", names)
        if waiters:
            _, late = await asyncio.wait(waiters, timeout=_CONFIRM_WITHIN_S)
            if late:
                raise BusAway

    def unlisten(self, channels: Iterable[str]) -> None:
        """UNSUBSCRIBE; what is still under way is dropped by the hub, which has no route for it."""
        names = [channel.encode() for channel in channels]
        for name in names:
            self._listened.pop(name, None)
            self._waiting.pop(name, None)
        self._send(b"UNSUBSCRIBE", names)

    def _send(self, command: bytes, names: list[bytes]) -> None:
        transport = self._socket.transport if self._socket is not None else None
        if transport is None:
            return  # after the reconnect all that is listened to is subscribed
        for start in range(0, len(names), _CHUNK):
            transport.write(encode_command(command, *names[start : start + _CHUNK]))

    def on_confirmed(self, kind: bytes, channel: bytes) -> None:
        """Redis confirmed a SUBSCRIBE or UNSUBSCRIBE."""
        if kind == b"subscribe" and (waiter := self._waiting.pop(channel, None)) is not None and not waiter.done():
            waiter.set_result(None)

    def on_odd(self, reply: object) -> None:
        """Redis said something that is neither a message nor a confirmation: a pong, or it refuses a SUBSCRIBE."""
        if isinstance(reply, list) and reply[:1] == [b"pong"]:
            self._on_heard()
            return
        _log.error("bus: Redis says %r", reply)

    async def run(self) -> None:
        """Keep the socket open and subscribed for as long as the process runs."""
        backoff = Backoff(0.05, RETRY_MOST_S)
        while True:
            try:
                name = "polygon-proxy-gateway"
                socket = await open_bus_socket(self._url, lambda: _SubscribedSocket(self), name, self._log.newest)
            except (OSError, TimeoutError, BusError) as exc:
                delay_s = backoff.next_s()
                _log.warning("bus: cannot connect (%s), next try in %.1f s", exc or type(exc).__name__, delay_s)
                await asyncio.sleep(delay_s)
                continue
            backoff.reset()
            self._on_connected(socket)
            await self._until_lost(socket)
            self._socket = None
            self.catchup.start()
            _log.warning("bus: connection lost")
            await asyncio.sleep(backoff.next_s())  # a little, so that not all gateways come at the same moment

    async def _until_lost(self, socket: _SubscribedSocket) -> None:
        """Without a mark a PING says whether Redis is there at all; without an answer the socket is given up."""
        while not socket.lost.done():
            await asyncio.wait([socket.lost], timeout=_SILENT_S / 4)
            silent_s = self._get_silent_s()
            if silent_s >= 2 * _SILENT_S:
                _log.warning("bus: silent for %.1f s, connecting anew", silent_s)
                socket.abort()
                await socket.lost
            elif silent_s >= _SILENT_S and not self._has_pinged and socket.transport is not None:
                self._has_pinged = True
                socket.transport.write(encode_command(b"PING"))

    def _get_silent_s(self) -> float:
        return math.inf if self._heard_at is None else self._loop.time() - self._heard_at

    def find_trouble(self) -> str:
        """Why clients get nothing through this gateway; empty if nothing is known against it."""
        silent_s = self._get_silent_s()
        if silent_s <= AWAY_S:
            return ""
        return "no bus yet" if self._heard_at is None else f"no bus for {silent_s:.0f} s"

    def _on_heard(self) -> None:
        """Redis is there, though perhaps no ingest."""
        self._heard_at = self._loop.time()
        self._has_pinged = False

    def _on_connected(self, socket: _SubscribedSocket) -> None:
        self._socket = socket
        self.reconnects += 1
        self._on_heard()
        if self.reconnects == 0:
            self.hub.begin(parse_newest(socket.greeted[-1]))
        self.catchup.start()
        self._send(b"SUBSCRIBE", [*self._listened, *self._always])
        _log.info("bus: connected, %d channels", len(self._listened))
        self.on_connected()
