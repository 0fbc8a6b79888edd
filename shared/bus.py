"""The two hot sockets to Redis: ingest's publishing one and a gateway's subscribed one.  Ours, for they carry it all.

redis-py's pub/sub loop costs 10.1 us a message, `hiredis.Reader` in an asyncio.Protocol 0.55 us (DESIGN 3).
Everything else in Redis goes through redis-py.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import hiredis
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection

from shared.batch import encode_command
from shared.redis_address import find_address, until_moved

CONNECT_WITHIN_S: Final = 5.0
_ROLE: Final = (b"ROLE",)

_Socket = TypeVar("_Socket", bound="BusSocket")


class BusError(Exception):
    """Redis refused the connection's first commands; str() is its answer."""


class BusSocket(asyncio.Protocol):
    """One RESP2 connection: subclasses say in `receive` what becomes of the replies."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reader = hiredis.Reader()
        self.greeted: list[Any] = []  # the replies to the connection's first commands
        self._greetings: list[asyncio.Future[Any]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        for waiter in self._greetings:
            if not waiter.done():
                waiter.set_exception(exc or ConnectionResetError("closed by Redis"))
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        if self._greetings:
            self._read_greetings()
        if not self._greetings:
            self.receive()

    def abort(self) -> None:
        """Close at once; `lost` follows."""
        if self.transport is not None:
            self.transport.abort()

    def receive(self) -> None:
        """Take all replies that `reader` holds; called whenever some arrived."""
        raise NotImplementedError

    def _read_greetings(self) -> None:
        while self._greetings and (reply := self.reader.gets()) is not False:
            waiter = self._greetings.pop(0)
            if not waiter.done():
                waiter.set_result(reply)

    async def greet(self, commands: list[tuple[bytes, ...]]) -> None:
        """Send the connection's first commands; raises BusError if Redis refuses one."""
        assert self.transport is not None
        waiters = [asyncio.get_running_loop().create_future() for _ in commands]
        self._greetings = list(waiters)
        self.transport.write(b"".join(encode_command(*words) for words in commands))
        self.greeted = await asyncio.gather(*waiters)
        for words, reply in zip(commands, self.greeted, strict=True):
            if isinstance(reply, Exception):
                raise BusError(str(reply))
            if words == _ROLE and reply[0] != b"master":
                raise BusError("the sentinels name a server that is no master yet, or no more")


async def open_bus_socket(url: str, make: Callable[[], _Socket], name: str, *asked: tuple[bytes, ...]) -> _Socket:
    """A connected and authenticated socket to the Redis at `url`, under `name` in CLIENT LIST.

    The replies to the commands of `asked` are the last of `greeted`.
    Where sentinels name the master, the socket is lost once they name another.
    Raises OSError, TimeoutError or BusError.
    """
    async with asyncio.timeout(CONNECT_WITHIN_S):
        options = await find_address(url)
        socket = await _connect(options, make)
        try:
            await socket.greet([*_get_greeting(options, name), *asked])
        except BaseException:
            socket.abort()
            raise
    if "sentinels" in options:
        follower = asyncio.create_task(_follow(options, socket), name="bus master")
        socket.lost.add_done_callback(lambda _: follower.cancel())
    return socket


async def _follow(options: dict[str, Any], socket: BusSocket) -> None:
    await until_moved(options)
    socket.abort()


async def _connect(options: dict[str, Any], make: Callable[[], _Socket]) -> _Socket:
    loop = asyncio.get_running_loop()
    kind = options.get("connection_class")
    if kind is UnixDomainSocketConnection:
        return (await loop.create_unix_connection(make, options["path"]))[1]
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    if kind is not SSLConnection:
        return (await loop.create_connection(make, host, port))[1]
    tls = {key: value for key, value in options.items() if key.startswith("ssl")}
    context = SSLConnection(**tls).ssl_context.get()
    return (await loop.create_connection(make, host, port, ssl=context, server_hostname=host))[1]


def _get_greeting(options: dict[str, Any], name: str) -> list[tuple[bytes, ...]]:
    greeting: list[tuple[bytes, ...]] = []
    if password := options.get("password"):
        username = options.get("username")
        words = [username, password] if username else [password]
        greeting.append((b"AUTH", *(str(word).encode() for word in words)))
    if db := options.get("db"):
        greeting.append((b"SELECT", str(db).encode()))
    greeting.append((b"CLIENT", b"SETNAME", name.encode()))
    if "sentinels" in options:
        greeting.append(_ROLE)  # a replica would take what is published, and only its own subscribers would hear it
    return greeting
