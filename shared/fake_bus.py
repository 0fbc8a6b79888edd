"""fakeredis behind a TCP port: the bus of a machine without a Redis.

fakeredis 2.40 brings a TCP server of its own, which does not serve us: it hangs up on a client after any error reply
(a batch that the log has already, an unknown script), hangs up in the middle of a reply as soon as a client's socket
is full, lets each message wait up to 10 ms and keeps what an unread subscriber missed without bound.
So here fakeredis only executes the commands; reading, writing and waiting are an asyncio server's.
"""

import asyncio
import logging
import signal
from typing import Any, Final, cast

import hiredis
from fakeredis._clients._tcp_server import encode_reply
from fakeredis._core import FakeServer
from fakeredis._helpers import SimpleError
from fakeredis._socket import AsyncFakeSocket
from redis.asyncio import Redis

_log = logging.getLogger(__name__)
_MAX_UNREAD_BYTES: Final = 128 * 1024 * 1024  # beyond it a subscriber is cut off, as redis-server would do
_VERSION: Final = (7, 4)  # the Redis that fakeredis imitates: the newest before 8, whose INFO clients look into


class _Executor(AsyncFakeSocket):
    """fakeredis' view of one client; a reply or a published message leaves through `connection`."""

    def __init__(self, server: FakeServer, connection: "_Connection", client_info: dict[str, Any]) -> None:
        super().__init__(server, db=0, client_class=Redis, client_info=client_info)
        self._connection = connection

    def execute(self, words: list[bytes]) -> None:
        """Run one command; raises nothing, since whatever goes wrong is a reply."""
        try:
            self._process_command(words)
        except Exception as exc:
            # fakeredis' own faults: redis-server would have answered, so its client must get an answer as well.
            _log.exception("fakeredis failed at %s", words[0][:32])
            self.put_response(SimpleError(f"ERR fakeredis: {type(exc).__name__}"))

    @property
    def is_paused(self) -> bool:
        """Whether a blocking command waits."""
        return self._paused

    @property
    def is_subscribed(self) -> bool:
        """Whether published messages come here."""
        return bool(self._pubsub)

    @property
    def protocol_version(self) -> int:
        """RESP 2, or 3 after HELLO 3."""
        return int(self._client_info.protocol_version)

    def put_response(self, msg: Any) -> None:
        self._connection.reply(msg)

    def resume(self) -> None:
        self._paused = False
        self._connection.execute_read()

    def _decode_error(self, error: SimpleError) -> Any:
        # Kept as it is: redis-py's exceptions have lost the first word of errors that they do not know.
        return error


class _Connection(asyncio.Protocol):
    """One client.  What one read or one publisher causes is written at once, at the end of the loop's turn."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._reader = hiredis.Reader()
        self._unsent: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        addresses = {"addr": transport.get_extra_info("peername"), "laddr": transport.get_extra_info("sockname")}
        self._executor = _Executor(self._server, self, addresses)

    def connection_lost(self, exc: Exception | None) -> None:
        self._executor.close()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self.execute_read()

    def execute_read(self) -> None:
        """Run the commands that have arrived, up to one that blocks."""
        while not self._executor.is_paused and not self._transport.is_closing():
            try:
                words = self._reader.gets()
            except hiredis.ProtocolError as exc:
                self._refuse(str(exc))
                return
            if words is False:
                return
            if not isinstance(words, list) or not words or not all(isinstance(word, bytes) for word in words):
                self._refuse("expected an array of bulk strings")
                return
            self._executor.execute(words)

    def _refuse(self, reason: str) -> None:
        self.reply(SimpleError(f"ERR Protocol error: {reason}"))
        self._flush()
        self._transport.close()

    def reply(self, value: Any) -> None:
        """Send a reply or a published message, in order."""
        if self._transport.is_closing():
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(encode_reply(value, self._executor.protocol_version))

    def _flush(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if self._executor.is_subscribed and self._transport.get_write_buffer_size() > _MAX_UNREAD_BYTES:
            _log.warning("a subscriber does not read: cut off with %d MB unread", _MAX_UNREAD_BYTES >> 20)
            self._transport.abort()


async def serve(host: str, port: int) -> None:
    """Serve until TERM or INT; raises OSError if the port cannot be had."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    fake = FakeServer(version=_VERSION)
    server = await loop.create_server(lambda: _Connection(fake), host, port)
    await stop.wait()
    server.close()
