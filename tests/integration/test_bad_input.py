"""What clients may do wrong: each gets a clear answer or is closed, it is counted, and nobody else notices."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from tests.processes import until
from tests.proxy import KEY, Proxy, running_proxy
from tests.subscriber import Subscriber

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXPECTED = 'error: expected {"action":"auth|subscribe|unsubscribe","params":"<string>"}'
NOT_BINARY = "error: binary messages are not understood: send a JSON object as text"
DEEP = "[" * 100_000 + "]" * 100_000


class Bad(NamedTuple):
    """A message, and what the one who sends it gets: a status of this beginning, or a close with this code."""

    message: str | bytes
    answer: str = ""
    close: int = 0


def subscribe(params: object, **more: object) -> str:
    return json.dumps({"action": "subscribe", "params": params} | more)


ROWS = {
    "malformed JSON": Bad('{"action":"subscribe","params":"T.A', "error: malformed JSON"),
    "no JSON at all": Bad("hello", "error: malformed JSON"),
    "empty message": Bad("", "error: malformed JSON"),
    "lone surrogate": Bad('{"action":"subscribe","params":"T.\\ud800"}', "error: "),
    "params that are a list": Bad(subscribe(["T.AAPL"]), EXPECTED),
    "params that are a number": Bad(subscribe(5), EXPECTED),
    "params that are null": Bad(subscribe(None), EXPECTED),
    "no params": Bad('{"action":"subscribe"}', EXPECTED),
    "an array": Bad('[{"action":"subscribe","params":"T.AAPL"}]', EXPECTED),
    "action that is a number": Bad('{"action":1,"params":"T.AAPL"}', EXPECTED),
    "unknown action": Bad('{"action":"steal","params":"T.AAPL"}', "error: unknown action: 'steal'"),
    "binary frame": Bad(b'{"action":"subscribe","params":"T.AAPL"}', NOT_BINARY),
    "binary garbage": Bad(b"\x00\xff\xfe", NOT_BINARY),
    "nested deep": Bad(subscribe("x").replace('"x"', DEEP), EXPECTED),
    "nested deep in a key that nobody reads": Bad(
        subscribe("T.AAPL", more="x").replace('"x"', DEEP), "error: malformed JSON"
    ),
    "100,000 channels": Bad(subscribe(",".join(f"T.S{n}" for n in range(100_000))), "error: more than 50000 channels"),
    "glob": Bad(subscribe("T.AA*"), "error: not a symbol (EV.* is the only wildcard): 'T.AA*'"),
    "glob of Redis": Bad(subscribe("T.[A-Z]?"), "error: not a symbol"),
    "control characters": Bad(subscribe("T.AA\r\nPL\x1b[31m\x00"), "error: not a symbol"),
    "no ASCII": Bad(subscribe("T.ÄÖÜ🚀"), "error: not a symbol"),
    "no event type": Bad(subscribe(".AAPL"), "error: not a channel"),
    "no symbol": Bad(subscribe("T."), "error: not a channel"),
    "no dot": Bad(subscribe("AAPL"), "error: not a channel"),
    "very long channel": Bad(subscribe("T." + "A" * 10_000), "error: channel too long"),
    "over-long message": Bad(subscribe("T." + "A" * (1024 * 1024)), close=1009),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    often = {"gateway.interest.RENEW_S": 0.2}  # how soon a count shows in the lease
    async with running_proxy(tmp_path_factory.mktemp("bad-input"), constants=often) as proxy:
        yield proxy


class Bystander:
    """Another client of the gateway: all that time its events come, and its socket stays."""

    def __init__(self, proxy: Proxy, client: Subscriber) -> None:
        self.proxy = proxy
        self.client = client
        self.sent: list[bytes] = []

    @classmethod
    async def begin(cls, proxy: Proxy) -> "Bystander":
        return cls(proxy, await proxy.join("T.CALM"))

    async def check(self) -> None:
        event = b'{"ev":"T","sym":"CALM","q":%d}' % len(self.sent)
        self.sent.append(event)
        await self.proxy.emit(event, self.client)
        assert self.client.events == self.sent
        assert self.client.is_open

    async def end(self) -> None:
        await self.check()
        assert [status for status in self.client.statuses if "error" in status] == []
        await self.client.close()


async def count(proxy: Proxy, name: str) -> int:
    return sum(int(lease[name]) for lease in await proxy.redis.get_leases())


async def until_counted(proxy: Proxy, name: str, least: int) -> None:
    """Until the gateway's lease shows the count."""

    async def is_counted() -> bool:
        return await count(proxy, name) >= least

    await until(is_counted, f"{name} >= {least}", within_s=3.0)


@pytest.mark.parametrize("what", ROWS)
async def test_bad_message_is_answered_and_counted_and_changes_nothing_else(what: str, proxy: Proxy) -> None:
    bad = ROWS[what]
    bystander = await Bystander.begin(proxy)
    client = await proxy.join("T.OWN")
    since = len(client.statuses)
    refcount = await proxy.redis.get_refcount()
    before = await read_bad_messages(proxy)
    await client.socket.send(bad.message)
    await bystander.check()
    if bad.close:
        assert await client.until_closed() == bad.close
    else:
        await client.subscribe("Q.OWN")  # the connection is as good as before
        [answer] = client.statuses[since:-1]
        assert answer.startswith(bad.answer)
        assert len(answer) < 300 and answer.isprintable()
        event = b'{"ev":"T","sym":"OWN"}'
        await proxy.emit(event, client)
        assert client.events == [event]
        added = {channel: n for channel, n in (await proxy.redis.get_refcount()).items() if channel not in refcount}
        assert added in ({"Q.OWN": 1}, {})
        await client.close()
    await bystander.end()
    assert await read_bad_messages(proxy, above=before) == before + 1


async def read_bad_messages(proxy: Proxy, above: int = -1) -> int:
    """The count in the lease, once it is above."""
    if above < 0:
        return await count(proxy, "bad_messages")
    await until_counted(proxy, "bad_messages", above + 1)
    return await count(proxy, "bad_messages")


async def test_good_channels_beside_bad_ones_are_subscribed(proxy: Proxy) -> None:
    client = await proxy.join()
    since = len(client.statuses)
    await client.say("subscribe", "T.GOOD, bad ,, T.A*,Q.GOOD,ZZ.UNKNOWN,*.AAPL")
    await client.until_status("success: subscribed to: Q.GOOD")
    heard = client.statuses[since:]
    assert "success: subscribed to: T.GOOD" in heard
    assert sum(status.startswith("error: not a ") for status in heard) == 2
    assert len(heard) == 4  # of the unknown topics nothing, as upstream does
    await until_counted(proxy, "unknown_topics", 2)
    await client.close()


async def test_client_that_sends_nothing_but_garbage_is_closed(proxy: Proxy) -> None:
    bystander = await Bystander.begin(proxy)
    client = await proxy.join()
    before = proxy.output.count("malformed JSON")
    for _ in range(100):
        await client.socket.send("{")
    assert await client.until_closed() == 1008
    assert client.statuses[-1] == "error: closed after 100 bad messages"
    assert proxy.output.count("malformed JSON") - before == 1  # logged once
    await bystander.end()


@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
async def test_nothing_is_subscribed_before_auth(action: str, proxy: Proxy) -> None:
    client = await Subscriber.open(proxy.gateways[0].url)
    await client.say(action, "T.EARLY")
    await client.until_status("auth_required: authenticate before you subscribe")
    await client.say("auth", KEY)
    await client.until_status("auth_success: authenticated")
    await client.subscribe("T.LATER")
    assert "T.EARLY" not in await proxy.redis.get_refcount()
    assert proxy.find_subscribes("T.EARLY") == 0
    await client.close()


@pytest.mark.parametrize("key", ["wrong", "", KEY + "x", KEY[:-1], KEY.upper(), KEY + "\x00"], ids=ascii)
async def test_wrong_key_is_refused_and_closed(key: str, proxy: Proxy) -> None:
    client = await Subscriber.open(proxy.gateways[0].url)
    await client.say("auth", key)
    assert await client.until_closed() == 1008
    assert client.statuses == ["connected: Connected Successfully", "auth_failed: authentication failed"]


async def open_raw(proxy: Proxy, *messages: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client without a library: upgraded, and with these messages sent, each masked with zeros (RFC 6455 5.3)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.gateways[0].port)
    writer.write(
        b"GET /stocks HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for message in messages:
        assert len(message) < 126
        writer.write(bytes((0x81, 0x80 | len(message))) + bytes(4) + message)
    return reader, writer


async def test_client_that_leaves_in_the_middle_of_a_message_leaves_nothing_behind(proxy: Proxy) -> None:
    bystander = await Bystander.begin(proxy)
    auth = json.dumps({"action": "auth", "params": KEY}).encode()
    reader, writer = await open_raw(proxy, auth, subscribe("T.HALF").encode())
    async with asyncio.timeout(5):
        await reader.readuntil(b"subscribed to: T.HALF")
    assert (await proxy.redis.get_refcount())["T.HALF"] == 1
    writer.write(b"\x81\xfe\x10\x00" + bytes(4) + b'{"action":"sub')  # of 4,096 bytes
    await writer.drain()
    transport: Any = writer.transport
    transport.abort()

    async def is_gone() -> bool:
        return "T.HALF" not in await proxy.redis.get_refcount()

    await until(is_gone, "T.HALF is released")
    await bystander.end()


@pytest.mark.parametrize(
    ("bytes_sent", "code"),
    [(b"\x81\x05hello", 1002), (b"\xf1\x80" + bytes(4), 1002), (b"\x81\x82" + bytes(4) + b"\xff\xfe", 1007)],
    ids=["unmasked", "reserved bits", "text that is not UTF-8"],
)
async def test_breach_of_the_websocket_protocol_is_closed(bytes_sent: bytes, code: int, proxy: Proxy) -> None:
    bystander = await Bystander.begin(proxy)
    reader, writer = await open_raw(proxy)
    async with asyncio.timeout(5):
        await reader.readuntil(b"Connected Successfully")
        writer.write(bytes_sent)
        said = await reader.read()
    assert b"\x88" in said and code.to_bytes(2) in said
    writer.close()
    await bystander.end()


@pytest.mark.parametrize(
    "request_bytes", [b"\x16\x03\x01\x02\x00garbage\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_what_is_no_websocket_is_refused(request_bytes: bytes, proxy: Proxy) -> None:
    bystander = await Bystander.begin(proxy)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.gateways[0].port)
    writer.write(request_bytes)
    async with asyncio.timeout(5):
        said = await reader.read()
    assert said == b"" or said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 426"))
    writer.close()
    await bystander.end()


async def test_log_has_no_control_character_of_a_clients(proxy: Proxy, tmp_path: Path) -> None:
    client = await proxy.join()
    await client.say("subscribe", "T.\x1b[2J\nFORGED")
    await client.until_status("error: not a symbol (EV.* is the only wildcard): 'T.\\x1b[2J\\nFORGED'")
    assert not any(line.startswith("FORGED") for line in proxy.output.splitlines())
    assert "\x1b" not in proxy.output
    await client.close()
