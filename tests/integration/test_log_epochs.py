"""How far the log of those who had the slot before is kept."""

import pytest
from redis.asyncio import Redis

from ingest.logbook import LOG_S
from ingest.tenure import find_oldest_epoch
from shared.names import Names

NAMES = Names("stocks")
NOW_MS = 1_795_000_000_000


@pytest.mark.parametrize(
    ("began_s_ago", "kept_s_ago"),
    [
        ([], None),
        ([5], 5),
        ([500], 500),
        ([500, 100, 20], 100),
        ([100, 60, LOG_S, 29, 10, 5], LOG_S),
        ([29, 20, 10], 29),
    ],
)
async def test_the_log_is_kept_from_the_newest_epoch_that_began_as_long_ago_as_it_reaches(
    began_s_ago: list[float], kept_s_ago: float | None, redis: "Redis"
) -> None:
    for seconds in began_s_ago:
        for sequence in (1, 2):
            await redis.xadd(NAMES.log, {"mark": "m", "batch": "b"}, id=f"{NOW_MS - round(seconds * 1000)}-{sequence}")
    expected = 0 if kept_s_ago is None else NOW_MS - round(kept_s_ago * 1000)
    assert await find_oldest_epoch(redis, NAMES, NOW_MS) == expected
