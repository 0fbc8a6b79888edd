"""How far back what earlier epochs logged is kept: by its age, whoever had the slot how often."""

import pytest
from redis.asyncio import Redis

from ingest.logbook import LOG_S
from ingest.old_log import OldLog
from shared.batch import Mark, encode_mark
from shared.names import Names

NAMES = Names("stocks")
NOW_S = 1_795_000_000.0
EPOCH = 100


async def log(redis: "Redis", epoch: int, sequence: int, seconds_ago: float) -> None:
    mark = Mark(epoch, sequence, round((NOW_S - seconds_ago) * 1e6), 1, frozenset())
    await redis.xadd(NAMES.log, {"mark": encode_mark(mark), "batch": b""}, id=f"{epoch}-{sequence}")


def parse(ident: str) -> tuple[int, ...]:
    return tuple(int(part) for part in ident.split("-"))


@pytest.mark.parametrize(
    ("seconds_ago", "expected"),
    [
        ({}, None),
        ({99: [10, 5]}, None),
        ({EPOCH: [500, 400]}, None),
        ({98: [500, 400], 99: [300, 10]}, "99-2"),
        ({98: [500, 400], EPOCH: [300, 10]}, "98-3"),
        ({97: [500], 98: [400], 99: [20, 10], EPOCH: [5]}, "98-2"),
        ({99: [60, 40, 20, 10]}, "99-3"),
        ({99: [60, 20]}, "99-2"),
        ({99: [60]}, "99-2"),
    ],
)
async def test_the_log_is_kept_from_the_first_entry_that_is_young_enough(
    seconds_ago: dict[int, list[float]], expected: str | None, redis: "Redis"
) -> None:
    for epoch, ages in seconds_ago.items():
        for sequence, age in enumerate(ages, 1):
            await log(redis, epoch, sequence, age)
    found = await OldLog(redis, NAMES, EPOCH, lambda _: None).find_oldest(NOW_S - LOG_S)
    assert found == expected


async def test_of_a_long_log_all_that_is_young_is_kept_and_little_that_is_old(redis: "Redis") -> None:
    for sequence in range(1, 1001):
        await log(redis, 99, 100_000 + 3 * sequence, (1000 - sequence) * 0.1)  # with holes; 100 s in all
    found = await OldLog(redis, NAMES, EPOCH, lambda _: None).find_oldest(NOW_S - LOG_S)
    assert found is not None
    epoch, sequence = parse(found)
    kept_s = 0.1 * (1000 - (sequence - 100_000) / 3)
    assert epoch == 99 and LOG_S - 0.1 <= kept_s <= LOG_S + 100 / 64 + 0.1


async def test_an_entry_of_an_unknown_shape_is_old(redis: "Redis") -> None:
    await redis.xadd(NAMES.log, {"odd": "1"}, id="98-1")
    await log(redis, 99, 1, 5)
    assert await OldLog(redis, NAMES, EPOCH, lambda _: None).find_oldest(NOW_S - LOG_S) == "98-2"
