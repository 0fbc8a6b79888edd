"""A bare client, for tests that are transcripts: it says what the test says, and each wait has a deadline."""

import asyncio
import json
from typing import ClassVar, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.fakes.server import FakePolygon


class Client:
    """One connection. No wait takes longer than 5 s."""

    # All that a test has opened, for `close_all` after it.
    opened: ClassVar[list["Client"]] = []

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.opened.append(self)

    @classmethod
    async def open(cls, url: str) -> Self:
        return cls(await connect(url, max_size=None))

    @classmethod
    async def close_all(cls) -> None:
        for client in cls.opened:
            client.socket.transport.abort()
            await client.socket.wait_closed()
        cls.opened.clear()

    async def say(self, action: str, params: object) -> None:
        await self.socket.send(json.dumps({"action": action, "params": params}))

    async def hear(self) -> str | bytes:
        async with asyncio.timeout(5):
            return await self.socket.recv()

    async def hear_statuses(self) -> list[str]:
        """The next frame as "status: message" lines."""
        return [f"{one['status']}: {one['message']}" for one in json.loads(await self.hear())]

    async def hear_end(self) -> int:
        """The close code; 1006 when there was no close frame."""
        try:
            heard = await self.hear()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        raise AssertionError(f"not the end, but {heard[:200]!r}")

    async def subscribe(self, params: str) -> list[str]:
        await self.say("subscribe", params)
        return await self.hear_statuses()


async def join(fake: FakePolygon, key: str = "k", cluster: str = "stocks") -> Client:
    """Connect and authenticate."""
    client = await Client.open(fake.url_of(cluster))
    assert await client.hear_statuses() == ["connected: Connected Successfully"]
    await client.say("auth", key)
    assert await client.hear_statuses() == ["auth_success: authenticated"]
    return client


async def nothing_before(client: Client, fake: FakePolygon) -> None:
    """The client has heard nothing so far: what is sent now is what comes next."""
    await fake.send_raw("marker")
    assert await client.hear() == "marker"
