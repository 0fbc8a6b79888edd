"""Who is told of late events: with each chunk those who may get some, in the end all whom the gap concerned."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

import ingest.refill
from ingest.backfill import Filled
from ingest.refill import Refill
from shared.gap import Gap
from shared.notice import Notice


class Told:
    """The intake: what clients are told, and how many events come with it."""

    def __init__(self) -> None:
        self.notices: list[tuple[Notice, int, Notice | None]] = []

    def tell(self, notice: Notice, events: Sequence[bytes] = (), end: Notice | None = None) -> None:
        self.notices.append((notice, len(events), end))


class Found:
    """A backfill that has 300 events of T.A; T.B was beyond its bound."""

    async def fill(self, _gap: Gap) -> Filled:
        return Filled([b"{}"] * 300, "not or not wholly filled: T.B", ["T.A"])


async def test_chunks_are_told_to_those_that_may_get_them_and_the_end_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.refill, "_PER_SECOND", 1_000_000)
    told = Told()
    refill = Refill(cast(Any, Found()), cast(Any, told))
    task = asyncio.create_task(refill.run())
    refill.add(Gap(1000, 2000, "upstream was away", ["T.A", "T.B"]))
    async with asyncio.timeout(5):
        while len(told.notices) < 3:
            await asyncio.sleep(0)
    task.cancel()
    *chunks, (last, count, end) = told.notices
    assert [count for _, count, _ in chunks] == [200, 100]
    for begin, _, chunk_end in chunks:
        assert begin.channels == ["T.A"] and chunk_end is not None and chunk_end.channels == ["T.A"]
    assert (last.channels, count, end) == (["T.A", "T.B"], 0, None)
    assert last.text == "300 events from 1000 to 2000 were missing; not or not wholly filled: T.B"
