"""The two hot sockets and the batch on a real redis-server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import hiredis
import pytest
from redis.asyncio import Redis

import shared.bus
from ingest.batch import Batch, Encoded
from shared.batch import encode_command, parse_mark
from shared.bus import BusError, BusSocket, open_bus_socket
from shared.names import Names
from shared.split import split_frame
from tests.integration.conftest import RedisServer

NAMES: Final = Names("stocks")
WITHIN_S: Final = 10.0


class Talk(BusSocket):
    """A socket that keeps its replies."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: asyncio.Queue[Any] = asyncio.Queue()

    def receive(self) -> None:
        while (reply := self.reader.gets()) is not False:
            self.replies.put_nowait(reply)

    async def ask(self, data: bytes, replies: int = 1) -> list[Any]:
        """Write commands, and wait for so many replies."""
        assert self.transport is not None
        self.transport.write(data)
        async with asyncio.timeout(WITHIN_S):
            return [await self.replies.get() for _ in range(replies)]


async def open_talk(url: str) -> Talk:
    return await open_bus_socket(url, Talk, "a-name")


async def get_client_info(talk: Talk) -> dict[str, str]:
    (info,) = await talk.ask(encode_command(b"CLIENT", b"INFO"))
    return dict(word.split("=", 1) for word in info.decode().split())


# Opening.


async def test_a_socket_is_connected_and_named_over_tcp_and_over_a_unix_socket(redis_server: RedisServer) -> None:
    for url in (redis_server.url, redis_server.unix_url):
        talk = await open_talk(url)
        info = await get_client_info(talk)
        assert (info["name"], info["db"], info["user"]) == ("a-name", "0", "default")
        talk.abort()


async def test_the_database_in_the_url_is_selected(redis_server: RedisServer) -> None:
    for url in (f"{redis_server.url}/3", f"{redis_server.unix_url}?db=3"):
        talk = await open_talk(url)
        assert (await get_client_info(talk))["db"] == "3"
        talk.abort()


async def test_password_and_database_together(start_redis_server: Callable[..., RedisServer]) -> None:
    server = start_redis_server("--requirepass", "pa/ss w@rd")
    for url in (f"redis://:pa%2Fss%20w%40rd@127.0.0.1:{server.port}/5", f"unix://:pa%2Fss%20w%40rd@{server.path}?db=5"):
        talk = await open_talk(url)
        info = await get_client_info(talk)
        assert (info["name"], info["db"]) == ("a-name", "5")
        talk.abort()


async def test_a_user_with_a_password(redis_server: RedisServer, redis: "Redis") -> None:
    await redis.acl_setuser("bus", enabled=True, passwords=["+secret"], commands=["+@all"], keys=["*"], channels=["*"])
    try:
        talk = await open_talk(f"redis://bus:secret@127.0.0.1:{redis_server.port}")
        assert (await get_client_info(talk))["user"] == "bus"
        talk.abort()
    finally:
        await redis.acl_deluser("bus")


@pytest.mark.parametrize("credentials", ["", ":wrong@", "nobody:secret@"])
async def test_a_refused_login_is_a_bus_error_that_does_not_show_the_password(
    start_redis_server: Callable[..., RedisServer], credentials: str
) -> None:
    server = start_redis_server("--requirepass", "secret")
    with pytest.raises(BusError) as caught:
        await open_talk(f"redis://{credentials}127.0.0.1:{server.port}")
    assert str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_database_that_does_not_exist_is_a_bus_error(redis_server: RedisServer) -> None:
    with pytest.raises(BusError):
        await open_talk(f"{redis_server.url}/4711")


async def test_a_refused_socket_is_closed_and_not_left_open(redis_server: RedisServer, redis: "Redis") -> None:
    made: list[Talk] = []

    def make() -> Talk:
        made.append(Talk())
        return made[0]

    with pytest.raises(BusError):
        await open_bus_socket(f"{redis_server.url}/4711", make, "a-name")
    async with asyncio.timeout(WITHIN_S):
        await made[0].lost


async def test_nobody_there_is_an_os_error(start_redis_server: Callable[..., RedisServer]) -> None:
    server = start_redis_server()
    server.kill()
    for url in (server.url, server.unix_url):
        with pytest.raises(OSError):  # noqa: PT011  (refused, or no such file)
            await open_talk(url)


@pytest.fixture
async def mute() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A server that answers nothing; it hangs up once the event is set."""
    hang_up = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hang_up.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", hang_up
        hang_up.set()


async def test_a_server_that_says_nothing_is_given_up_in_time(
    mute: tuple[str, asyncio.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.bus, "CONNECT_WITHIN_S", 0.05)
    with pytest.raises(TimeoutError):
        await open_talk(mute[0])


async def test_a_server_that_hangs_up_during_the_greeting_is_an_os_error(mute: tuple[str, asyncio.Event]) -> None:
    url, hang_up = mute
    hang_up.set()
    with pytest.raises(OSError):  # noqa: PT011  (reset, or closed in good order)
        await open_talk(url)


# Losing.


async def test_lost_comes_true_when_redis_cuts_the_connection(redis_server: RedisServer, redis: "Redis") -> None:
    talk = await open_talk(redis_server.url)
    info = await get_client_info(talk)
    assert not talk.lost.done()
    await redis.client_kill_filter(_id=info["id"])
    async with asyncio.timeout(WITHIN_S):
        await talk.lost
    assert talk.transport is None
    talk.abort()


async def test_lost_comes_true_when_redis_dies(start_redis_server: Callable[..., RedisServer]) -> None:
    server = start_redis_server()
    talk = await open_talk(server.url)
    server.kill()
    async with asyncio.timeout(WITHIN_S):
        await talk.lost
    assert talk.transport is None


async def test_lost_comes_true_after_our_own_abort(redis_server: RedisServer) -> None:
    talk = await open_talk(redis_server.url)
    talk.abort()
    async with asyncio.timeout(WITHIN_S):
        await talk.lost


# The batch.


def make_batch(*frames: str, sequence: int, alls: tuple[str, ...] = (), oldest: str = "0-0") -> Encoded:
    batch = Batch(NAMES)
    batch.set_alls(frozenset(alls))
    for frame in frames:
        batch.add(split_frame(frame.encode()))
    return batch.encode(7, sequence, 1_000_001, oldest)


FRAME = '[{"ev":"T","sym":"AAPL","p":1.50},{"ev":"Q","sym":"AAPL"},{"ev":"T","sym":"MSFT","s":"\\r\\né"}]'


async def test_redis_takes_a_batch_with_as_many_replies_as_it_says(redis_server: RedisServer, redis: "Redis") -> None:
    talk = await open_talk(redis_server.url)
    for sequence, alls in enumerate([(), ("T",), ("T", "Q", "AM")], start=1):
        encoded = make_batch(FRAME, sequence=sequence, alls=alls)
        replies = await talk.ask(encoded.data + encode_command(b"PING"), encoded.replies + 1)
        assert replies == [f"7-{sequence}".encode(), *[0] * (encoded.replies - 1), b"PONG"]
    talk.abort()
    assert await redis.xlen(NAMES.log) == 3


async def test_the_log_refuses_a_batch_twice_and_is_otherwise_as_it_was(
    redis_server: RedisServer, redis: "Redis"
) -> None:
    talk = await open_talk(redis_server.url)
    encoded = make_batch(FRAME, sequence=5)
    await talk.ask(encoded.data, encoded.replies)
    before = await redis.xrange(NAMES.log)
    for again in (encoded, make_batch(FRAME, sequence=4)):
        replies = await talk.ask(again.data, again.replies)
        assert isinstance(replies[0], hiredis.ReplyError)
        assert replies[1:] == [0] * (again.replies - 1)
    assert await redis.xrange(NAMES.log) == before
    talk.abort()


async def test_a_batch_read_from_the_log_holds_what_was_published(redis_server: RedisServer, redis: "Redis") -> None:
    talk = await open_talk(redis_server.url)
    encoded = make_batch(FRAME, sequence=1, alls=("T",))
    async with redis.pubsub() as pubsub:
        await pubsub.psubscribe("*")
        await talk.ask(encoded.data, encoded.replies)
        messages: list[tuple[bytes, bytes]] = []
        async with asyncio.timeout(WITHIN_S):
            async for message in pubsub.listen():
                if message["type"] == "pmessage":
                    messages.append((message["channel"], message["data"]))
                if message["channel"] == NAMES.mark.encode():
                    break
    log: Any = await redis.xrange(NAMES.log)
    ((ident, fields),) = log
    assert ident == b"7-1"
    assert messages.pop() == (NAMES.mark.encode(), fields[b"mark"])
    assert parse_mark(fields[b"mark"]) == encoded.mark
    reader = hiredis.Reader()
    reader.feed(fields[b"batch"])
    logged = []
    while (command := reader.gets()) is not False:
        logged.append(tuple(command[1:]))
    assert logged == messages
    assert [channel for channel, _ in messages] == [b"T.AAPL", b"Q.AAPL", b"T.MSFT", b"polygon:{stocks}:all:T"]
    talk.abort()


async def test_the_log_forgets_what_is_older_than_the_oldest_to_be_kept(
    redis_server: RedisServer, redis: "Redis"
) -> None:
    talk = await open_talk(redis_server.url)
    for sequence in range(1, 1001):
        encoded = make_batch(FRAME, sequence=sequence, oldest=f"7-{max(0, sequence - 100)}")
        await talk.ask(encoded.data, encoded.replies)
    # Redis trims whole nodes of at most 100 entries (stream-node-max-entries): up to that many more stay.
    assert 100 <= await redis.xlen(NAMES.log) <= 202
    talk.abort()
