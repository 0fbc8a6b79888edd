"""The connection to Polygon beside a slot and a clock that the test moves."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from websockets.asyncio.server import ServerConnection, serve

import ingest.polygon
from ingest.intake import Intake
from ingest.polygon import Polygon
from ingest.slot import Slot
from ingest.upstream import Upstream
from tests.fakes.polygon import FakePolygon

RETRY_S = 1.0
BACK_WITHIN_S = 5.0  # DESIGN 6, after upstream accepts again


class SomeSlot:
    """Ours until it is lost."""

    def __init__(self) -> None:
        self.is_ours = True
        self.gained = asyncio.Event()

    def is_sure(self) -> bool:
        return self.is_ours

    async def until_sure(self) -> None:
        if not self.is_ours:
            await self.gained.wait()


def make_polygon(url: str, slot: SomeSlot) -> tuple[Polygon, Upstream]:
    """A connection whose statuses reach upstream, as the intake does it."""
    upstream = Upstream("stocks", "dummy-polygon-key")
    intake = SimpleNamespace(take=lambda frame: upstream.on_status(frame[1:-1]))
    return Polygon(url, upstream, cast(Intake, intake), cast(Slot, slot), RETRY_S, 30.0), upstream


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_however_long_upstream_is_away_it_is_tried_often_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    enough = asyncio.Event()

    async def sleep(delay_s: float) -> None:
        delays.append(delay_s)
        if len(delays) >= 200:
            enough.set()
            await asyncio.Event().wait()

    patched: Any = SimpleNamespace(**{**vars(asyncio), "sleep": sleep})
    monkeypatch.setattr(ingest.polygon, "asyncio", patched)
    monkeypatch.setattr(ingest.polygon, "connect", _refuse)
    polygon, _ = make_polygon("ws://nowhere", SomeSlot())
    task = asyncio.create_task(polygon.run())
    await enough.wait()
    task.cancel()
    assert max(delays) < BACK_WITHIN_S and min(delays[10:]) > RETRY_S, "it backs off, but not for too long"


def _refuse(*_args: object, **_options: object) -> None:
    raise ConnectionRefusedError


async def test_who_lost_the_slot_while_it_was_connecting_does_not_authenticate() -> None:
    """It may have stood still meanwhile, and another ingest may be connected."""
    async with FakePolygon() as fake:
        fake.script.greeting_delay_s = 0.5
        slot = SomeSlot()
        polygon, upstream = make_polygon(fake.url, slot)
        task = asyncio.create_task(polygon.run())
        await until(lambda: upstream.state == "authenticating")
        slot.is_ours = False
        await until(lambda: upstream.state.startswith("down: another ingest may have the upstream slot by now"))
        assert fake.actions == []
        task.cancel()


async def test_who_does_not_even_answer_a_close_frame_is_left_in_time() -> None:
    came: list[float] = []
    over = asyncio.Event()

    async def hang(connection: ServerConnection) -> None:
        came.append(asyncio.get_running_loop().time())
        connection.transport.pause_reading()
        await over.wait()
        connection.transport.abort()

    async with serve(hang, "127.0.0.1", 0) as server:
        polygon, _ = make_polygon(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/stocks", SomeSlot())
        task = asyncio.create_task(polygon.run())
        async with asyncio.timeout(10.0):
            while len(came) < 2:
                await asyncio.sleep(0.01)
        task.cancel()
        over.set()
    assert came[1] - came[0] < BACK_WITHIN_S
