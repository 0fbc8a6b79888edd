"""One backfill between a real redis-server's log and a fake of Polygon's REST side."""

import json
from collections.abc import Iterable
from typing import Final

import hiredis
from redis.asyncio import Redis

from ingest.backfill import Backfill, Filled
from ingest.batch import Batch
from shared.gap import Gap
from shared.names import Names
from shared.split import split_frame
from tests.fakes.rest import FakeRest

NAMES: Final = Names("stocks")
KEY: Final = "sekret-polygon-key"
# All of it lies in the past, so that no test waits for a gap to settle.
FROM_MS: Final = 1_788_877_050_000
TO_MS: Final = FROM_MS + 10_000
LAG_MS: Final = 100  # of the events that these tests deliver


def ns(after_ms: float) -> int:
    """A time in the feed's clock, so many ms after the gap began there."""
    return FROM_MS * 1_000_000 - LAG_MS * 1_000_000 + round(after_ms * 1_000_000)


class Rig:
    """One backfill between a log and a fake."""

    def __init__(self, redis: "Redis", fake: FakeRest) -> None:
        self.redis = redis
        self.fake = fake
        self._sequence = 0

    async def deliver(self, *events: bytes, received_ms: int, alls: Iterable[str] = ()) -> None:
        """Log a batch as ingest does."""
        batch = Batch(NAMES)
        batch.set_alls(frozenset(alls))
        batch.add(split_frame(b"[" + b",".join(events) + b"]"))
        self._sequence += 1
        encoded = batch.encode(7, self._sequence, received_ms * 1000, "0-0")
        _, name, *_trim, ident, mark, text, batch_name, published = read_first_command(encoded.data)
        await self.redis.xadd(name, {mark: text, batch_name: published}, id=ident.decode())

    async def deliver_around(self) -> None:
        """Live trades of MSFT well before and after the gap: the log reaches back, and tells the lag."""
        for at_ms in (-10_000, 11_000):
            at = FROM_MS + at_ms
            await self.deliver(b'{"ev":"T","sym":"MSFT","i":"%d","x":1,"t":%d}' % (at, at - LAG_MS), received_ms=at)

    async def fill(self, *channels: str, url: str = "") -> Filled:
        gap = Gap(FROM_MS, TO_MS, "upstream closed", ["T.MSFT", *channels])
        return await Backfill(self.redis, NAMES, url or self.fake.url, KEY).fill(gap)

    def ask_counts(self) -> dict[str, int]:
        paths = [asked.path for asked in self.fake.requests if "MSFT" not in asked.path]
        return {path: paths.count(path) for path in paths}


def read_first_command(data: bytes) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(data)
    command = reader.gets()
    assert isinstance(command, list)
    return command


def get_ids(filled: Filled) -> list[str]:
    return [json.loads(event)["i"] for event in filled.events]


def trade(ident: str, after_ms: float) -> bytes:
    """A trade of AAPL as the feed sends it."""
    return b'{"ev":"T","sym":"AAPL","i":"%b","x":4,"p":1.5,"s":100,"t":%d}' % (ident.encode(), ns(after_ms) // 10**6)
