"""The one WebSocket connection to Polygon: connect, read for ever, come back after every drop."""

import asyncio
import contextlib
import logging
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from ingest.intake import Intake
from ingest.session import State
from ingest.slot import Slot
from ingest.upstream import Upstream
from shared.backoff import Backoff

_log = logging.getLogger(__name__)
# For each step until it is live: the upgrade, the greeting, auth.  Who hangs is left, and tried anew soon, since a
# connection that hung may hang on when others are served again.  How long upstream itself waits is unknown.
_ANSWER_WITHIN_S: Final = 3.5
_PONG_WITHIN_S: Final = 60.0  # pongs come late under load (PROTOCOL d.6.8)
_NOTICED_LATE_S: Final = 5.0  # the close that nobody answers takes 1 s, and a busy process may be late twice
_MAX_FRAME_BYTES: Final = 16 * 1024 * 1024  # real frames are below 1 MB (PROTOCOL f)
_QUEUED_FRAMES: Final = 256  # beyond it the socket is not read for a moment, and TCP holds upstream back
_RETRY_CAP_S: Final = 4.0  # so that we are back <= 5 s after upstream accepts again


class Polygon:
    """Feeds the intake from upstream for as long as the process runs."""

    def __init__(self, url: str, upstream: Upstream, intake: Intake, slot: Slot, retry_s: float, ping_s: float) -> None:
        self._url = url
        self._slot = slot
        self._upstream = upstream
        self._intake = intake
        self._ping_s = ping_s
        upstream.noticed_within_s = ping_s + _PONG_WITHIN_S + _NOTICED_LATE_S
        self._backoff = Backoff(retry_s, max(retry_s, _RETRY_CAP_S))

    async def run(self) -> None:
        """Connect again after every end, later and later until one connection went live."""
        while True:
            await self._slot.until_sure()  # if not, another ingest may be connected by now
            why = await self._converse()
            delay_s = self._backoff.next_s(self._upstream.retry_floor_s)
            self._upstream.closed(f"{why}; next try in {delay_s:.1f} s")
            await asyncio.sleep(delay_s)

    async def _converse(self) -> str:
        """One connection, from its opening to its end; returns why it ended."""
        try:
            async with connect(
                self._url,
                compression=None,
                max_size=_MAX_FRAME_BYTES,
                max_queue=_QUEUED_FRAMES,
                open_timeout=_ANSWER_WITHIN_S,
                ping_interval=self._ping_s,
                ping_timeout=_PONG_WITHIN_S,
                close_timeout=1.0,
                proxy=None if _is_loopback(self._url) else True,
            ) as connection:
                await self._read(connection)
            return self._upstream.over or "another ingest may have the upstream slot by now"
        except ConnectionClosed as exc:
            return self._upstream.over or f"connection lost ({exc})"
        except TimeoutError:
            self._backoff.reset()  # we have waited already
            return "no answer"
        except (OSError, WebSocketException) as exc:
            return f"cannot connect ({exc})"

    async def _read(self, connection: ClientConnection) -> None:
        outgoing: asyncio.Queue[str] = asyncio.Queue()  # bounded by demand: each channel is asked for once
        self._upstream.opened(outgoing.put_nowait)
        sender = asyncio.create_task(_send(connection, outgoing), name="upstream sender")
        try:
            if await self._go_live(connection):
                while not self._upstream.is_over:
                    self._intake.take(await connection.recv(decode=False))
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender

    async def _go_live(self, connection: ClientConnection) -> bool:
        """Whether it is live; not without the slot, which may be lost while upstream takes its time, or we stood still.

        Raises TimeoutError.
        """
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S) as deadline:
                return await self._converse_until_live(connection, deadline)
        except TimeoutError:
            connection.transport.abort()  # who does not answer would not answer a close frame either
            raise

    async def _converse_until_live(self, connection: ClientConnection, deadline: asyncio.Timeout) -> bool:
        state = self._upstream.session.state
        while not self._upstream.is_over:
            frame = await connection.recv(decode=False)
            if not self._slot.is_sure():
                return False
            self._intake.take(frame)
            if state is not (state := self._upstream.session.state):
                deadline.reschedule(asyncio.get_running_loop().time() + _ANSWER_WITHIN_S)
            if state is State.LIVE:
                self._backoff.reset()
                return True
        return False


async def _send(connection: ClientConnection, outgoing: asyncio.Queue[str]) -> None:
    try:
        while True:
            await connection.send(await outgoing.get())
    except ConnectionClosed:
        _log.debug("upstream closed while an action was being sent; the reader reports it")


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
