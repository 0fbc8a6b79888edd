"""Upstream sends what is no frame of events: skipped, counted, logged at most once a second; good events arrive."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fakes.session import render_frame
from tests.processes import until
from tests.proxy import Proxy, running_proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The frame, whether it is a text frame, and what it counts for.
FRAMES = {
    "binary garbage": (b"\x00\xff\x00", False, 1),
    "text that is not UTF-8": (b'[{"ev":"T","sym":"AAPL","n":"\xff\xfe"}]', True, 1),
    "truncated": (b'[{"ev":"T","sym":"AAPL","p":1', True, 1),
    "empty": (b"", True, 1),
    "numbers": (b"[1,2,3]", True, 3),
    "nested arrays": (b'[[{"ev":"T","sym":"AAPL"}]]', True, 1),
    "no symbol": (b'[{"ev":"T","p":1}]', True, 1),
    "no event type": (b'[{"sym":"AAPL","p":1}]', True, 1),
    "symbol that is a number": (b'[{"ev":"T","sym":5}]', True, 1),
    "a text": (b'"AAPL"', True, 1),
    "null": (b"null", True, 1),
    "two arrays": (b"[][]", True, 1),
    "nested deep": (b'[{"ev":"T","sym":"AAPL","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", True, 1),
}


def trade(number: int) -> bytes:
    return b'{"ev":"T","sym":"AAPL","q":%d}' % number


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    often = {"ingest.state._WRITE_EVERY_S": 0.1}  # how soon a count shows in Redis
    async with running_proxy(tmp_path_factory.mktemp("malformed"), constants=often) as proxy:
        yield proxy


async def send(proxy: Proxy, frame: bytes, *, text: bool = True) -> None:
    [connection] = proxy.fake.live()
    connection.write(frame, text=text)


async def count_malformed(proxy: Proxy) -> int:
    return int((await proxy.redis.get_upstream()).get("malformed", "0"))


async def until_counted(proxy: Proxy, number: int) -> None:
    async def is_counted() -> bool:
        return await count_malformed(proxy) >= number

    await until(is_counted, f"{number} malformed", (proxy.ingest,))
    assert await count_malformed(proxy) == number


@pytest.mark.parametrize("what", FRAMES)
async def test_malformed_frame_is_skipped_and_counted(what: str, proxy: Proxy) -> None:
    frame, text, count = FRAMES[what]
    before = await count_malformed(proxy)
    client = await proxy.join("T.AAPL")
    await proxy.emit(trade(1), client)
    await send(proxy, frame, text=text)
    await proxy.emit(trade(2), client)
    assert client.events == [trade(1), trade(2)]
    await until_counted(proxy, before + count)
    assert (await proxy.redis.get_upstream())["drops"] == "0"


async def test_good_events_of_a_frame_with_bad_ones_arrive(proxy: Proxy) -> None:
    before = await count_malformed(proxy)
    client = await proxy.join("T.AAPL")
    await send(proxy, render_frame([b"7", trade(1), b"null", b'{"ev":"T"}', b'{"x":1}', b"[]", trade(2)]))
    await client.until_event(trade(2))
    assert client.events == [trade(1), trade(2)]
    await until_counted(proxy, before + 5)


async def test_flood_is_logged_at_most_once_a_second(proxy: Proxy) -> None:
    before, logged = await count_malformed(proxy), proxy.ingest.output.count("cannot be routed")
    started = time.monotonic()
    client = await proxy.join("T.AAPL")
    for _ in range(2000):
        await send(proxy, b"[1")
        await asyncio.sleep(0)
    await proxy.emit(trade(1), client)
    await until_counted(proxy, before + 2000)
    seconds = time.monotonic() - started
    assert proxy.ingest.output.count("cannot be routed") - logged <= 1 + seconds
    assert "cannot be routed" in proxy.ingest.output
