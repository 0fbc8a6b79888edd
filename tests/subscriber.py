"""A client of a gateway that reads all the time and remembers every event's own bytes."""

import array
import asyncio
import fcntl
import json
import termios
import time
from collections.abc import Callable
from typing import Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Frame, Opcode

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_numbered = msgspec.json.Decoder(dict[str, str | int]).decode
WITHIN_S = 10.0


class Subscriber:
    """One connection; what it got is in `events` and `statuses`, in order of arrival."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[str | bytes] = []
        self.events: list[bytes] = []
        self.statuses: list[str] = []  # "status: message"
        self.status_places: list[int] = []  # of each, how many events came before it
        self.held: set[str] = set()  # acked
        self.close_code: int | None = None  # 1006 if there was no close frame
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name="subscriber")

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connected, nothing said."""
        return cls(await connect(url, max_size=None, close_timeout=1))

    @classmethod
    async def join(cls, url: str, *channels: str, key: str = "dummy-polygon-key") -> Self:
        """Connected, authenticated, and each of the channels acked."""
        client = await cls.open(url)
        await client.say("auth", key)
        await client.until_status("auth_success: authenticated")
        if channels:
            await client.subscribe(*channels)
        return client

    async def _read(self) -> None:
        try:
            while True:
                frame = await self.socket.recv()
                self.frames.append(frame)
                for raw in _split(frame):
                    event = bytes(raw).strip()
                    fields = json.loads(event)
                    if fields["ev"] == "status":
                        self.statuses.append(f"{fields['status']}: {fields['message']}")
                        self.status_places.append(len(self.events))
                    else:
                        self.events.append(event)
                self._note()
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd else 1006
            self._note()

    def _note(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def say(self, action: str, params: object) -> None:
        await self.socket.send(json.dumps({"action": action, "params": params}))

    async def subscribe(self, *channels: str) -> None:
        """Until each is acked; the acks of earlier subscriptions do not count."""
        since = len(self.statuses)
        await self.say("subscribe", ",".join(channels))
        for channel in channels:
            await self.until_status(f"success: subscribed to: {channel}", since)
            self.held.add(channel)

    async def unsubscribe(self, *channels: str) -> None:
        """Until each is acked."""
        since = len(self.statuses)
        await self.say("unsubscribe", ",".join(channels))
        for channel in channels:
            await self.until_status(f"success: unsubscribed to: {channel}", since)
            self.held.discard(channel)

    def read_numbers(self) -> list[tuple[str, int]]:
        """Channel and `q` of each event."""
        fields = [_decode_numbered(event) for event in self.events]
        return [(f"{each['ev']}.{each['sym']}", int(each["q"])) for each in fields]

    async def until_status(self, status: str, since: int = 0, within_s: float = WITHIN_S) -> None:
        """Until the status is among those from the `since`-th on."""
        await self.until(lambda: status in self.statuses[since:], f"status {status!r}", within_s)

    async def until_event(self, event: bytes, within_s: float = WITHIN_S) -> None:
        await self.until(lambda: event in self.events, f"event {event!r}", within_s)

    async def until_events(self, count: int, within_s: float = 20.0) -> None:
        await self.until(lambda: len(self.events) >= count, f"{count} events", within_s)

    async def until_first_event(self, within_s: float = WITHIN_S) -> None:
        await self.until(lambda: bool(self.events), "any event", within_s)

    async def until_closed(self, within_s: float = WITHIN_S) -> int:
        await self.until(lambda: self.close_code is not None, "the end", within_s)
        assert self.close_code is not None
        return self.close_code

    @property
    def is_open(self) -> bool:
        return self.close_code is None and not self._reader.done()

    async def until(self, fact: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
        """Until the fact is true; it is asked at each frame."""
        deadline = time.monotonic() + within_s
        while not fact():
            changed = self._changed
            if self.close_code is not None or self._reader.done():
                raise AssertionError(f"closed ({self.close_code}) while waiting for {what}; said {self.statuses[-5:]}")
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await changed.wait()
            except TimeoutError:
                got = f"{len(self.events)} events, last {self.events[-2:]}, statuses {self.statuses[-5:]}"
                raise AssertionError(f"not within {within_s:g} s: {what}; got {got}") from None

    async def close(self) -> None:
        await self.socket.close()
        await self._reader

    async def cut(self) -> None:
        """No close frame: we say no more, and read what is still on its way to us."""
        self.socket.transport.write_eof()
        await self._reader

    def hang_up(self) -> None:
        """As the official Go client does: a close frame, and the socket is closed at once."""
        self.socket.transport.write(Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True))
        self.socket.transport.abort()

    def count_unread(self) -> int:
        """Bytes that our machine has acknowledged and nobody has read (SIOCINQ)."""
        size = array.array("i", [0])
        fcntl.ioctl(self.socket.transport.get_extra_info("socket").fileno(), termios.FIONREAD, size)
        return size[0]

    def abort(self) -> None:
        """Gone without a close frame."""
        self.socket.transport.abort()
