"""The gateway's copy of what upstream confirmed and refused: from notices, and read whole."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisAway

from gateway.held import Held
from shared.channels import EVENT_TYPES
from shared.held import HeldNotice, encode_held
from shared.indicator import Indicator, encode_indicator, make_indicator_status
from shared.names import Names

NAMES = Names("stocks")
WILDCARDS = [f"{event_type}.*" for event_type in EVENT_TYPES["stocks"]]
REFUSAL = "not authorized"


class Store:
    """What Held reads of Redis; `meanwhile` happens between the reading and the answer."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.refused: dict[str, str] = {}
        self.test_data: bytes | None = None
        self.reads: list[str] = []
        self.failure: Exception | None = None
        self.meanwhile: list[Callable[[], None]] = []

    async def smembers(self, name: str) -> set[bytes]:
        self._read(name)
        return {channel.encode() for channel in self.held}

    async def hgetall(self, name: str) -> dict[bytes, bytes]:
        self._read(name)
        answer = {channel.encode(): text.encode() for channel, text in self.refused.items()}
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return answer

    async def hget(self, name: str, field: str) -> bytes | None:
        self._read(f"{name} {field}")
        return self.test_data

    def _read(self, name: str) -> None:
        self.reads.append(name)
        if self.failure is not None:
            raise self.failure


class Copy:
    """A Held beside its Redis, and how often it told of a change."""

    def __init__(self, feed: str = "stocks") -> None:
        self.store = Store()
        self.changes = 0
        self.held = Held(cast(Any, self.store), Names(feed), self._count)

    def _count(self) -> None:
        self.changes += 1

    def hear(self, *added: str, **more: Any) -> None:
        self.held.on_notice(encode_held(HeldNotice(added=list(added), **more)))

    def get_held(self, *channels: str) -> list[str]:
        return [channel for channel in channels if self.held.is_held(channel)]


@pytest.fixture
def copy() -> Copy:
    return Copy()


def test_nothing_is_held_or_refused_before_ingest_said_so(copy: Copy) -> None:
    assert copy.get_held("T.AAPL", "T.*", "*") == []
    assert copy.held.refused == {}
    assert copy.held.find_refusal("*") is None
    assert copy.held.find_refused_parts("*") == {}


def test_notices_add_and_remove_and_each_is_told(copy: Copy) -> None:
    copy.hear("T.AAPL", "Q.*")
    assert copy.get_held("T.AAPL", "T.MSFT", "T.*", "Q.MSFT", "Q.*", "*") == ["T.AAPL", "Q.MSFT", "Q.*"]
    copy.hear("T.*", removed=["T.AAPL"])
    assert copy.get_held("T.AAPL", "T.MSFT", "T.*") == ["T.AAPL", "T.MSFT", "T.*"]
    copy.hear(removed=["T.*"])
    assert copy.get_held("T.AAPL", "T.*", "Q.AAPL") == ["Q.AAPL"]
    assert copy.changes == 3


def test_a_reset_forgets_what_was_held_and_then_adds(copy: Copy) -> None:
    copy.hear("T.AAPL", "T.MSFT", refused={"NOI.*": REFUSAL})
    copy.hear("T.MSFT", reset=True)
    assert copy.get_held("T.AAPL", "T.MSFT") == ["T.MSFT"]
    assert copy.held.refused == {}


def test_each_notice_brings_all_refusals_there_are(copy: Copy) -> None:
    copy.hear("T.AAPL", refused={"NOI.*": REFUSAL, "LULD.MSFT": "no"})
    assert copy.held.refused == {"NOI.*": REFUSAL, "LULD.MSFT": "no"}
    copy.hear(refused={"LULD.MSFT": "no"})
    assert copy.held.refused == {"LULD.MSFT": "no"}
    assert copy.get_held("T.AAPL") == ["T.AAPL"]
    copy.hear()
    assert copy.held.refused == {}


def test_what_is_refused_is_not_held(copy: Copy) -> None:
    copy.hear("T.AAPL", refused={"NOI.*": REFUSAL, "T.*": REFUSAL})
    assert copy.get_held("T.AAPL", "T.*", "T.MSFT", "NOI.*", "NOI.AAPL") == ["T.AAPL"]


@pytest.mark.parametrize(
    "text", [b"", b"x", b"[]", b'{"added":"T.AAPL"}', b'{"refused":["NOI.*"]}', b'{"reset":"yes"}']
)
def test_a_notice_of_an_unknown_shape_is_logged_and_changes_nothing(
    copy: Copy, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    copy.hear("T.AAPL", refused={"NOI.*": REFUSAL})
    copy.held.on_notice(text)
    assert copy.get_held("T.AAPL") == ["T.AAPL"]
    assert copy.held.refused == {"NOI.*": REFUSAL}
    assert copy.changes == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# The star is every event type, as far as upstream lets us have them.


def test_a_star_is_held_with_the_last_of_its_parts(copy: Copy) -> None:
    for wildcard in WILDCARDS[:-1]:
        copy.hear(wildcard)
        assert not copy.held.is_held("*")
    copy.hear(WILDCARDS[-1])
    assert copy.held.is_held("*")
    copy.hear(removed=[WILDCARDS[0]])
    assert not copy.held.is_held("*")


def test_a_star_is_held_when_all_is_answered_and_a_part_was_refused(copy: Copy) -> None:
    allowed = [wildcard for wildcard in WILDCARDS if wildcard not in ("NOI.*", "FMV.*")]
    copy.hear(*allowed[1:], refused={"NOI.*": REFUSAL, "FMV.*": REFUSAL})
    assert not copy.held.is_held("*"), f"{allowed[0]} was not answered yet"
    copy.hear(allowed[0], refused={"NOI.*": REFUSAL, "FMV.*": REFUSAL})
    assert copy.held.is_held("*")
    copy.hear(refused={"NOI.*": REFUSAL})
    assert not copy.held.is_held("*"), "FMV.* is being asked for again"


def test_a_star_is_not_held_when_every_part_is_refused(copy: Copy) -> None:
    copy.hear("T.AAPL", refused=dict.fromkeys(WILDCARDS, REFUSAL))
    assert not copy.held.is_held("*")


def test_a_star_has_the_parts_of_the_feed() -> None:
    copy = Copy("indices")
    copy.hear("V.*", "A.*")
    assert not copy.held.is_held("*")
    copy.hear("AM.*")
    assert copy.held.is_held("*")


def test_refusals_are_found_by_the_channel_itself_and_by_the_star_they_are_part_of(copy: Copy) -> None:
    copy.hear("T.*", refused={"NOI.*": REFUSAL, "FMV.*": "not in your plan", "T.AAPL": REFUSAL})
    find = copy.held.find_refusal
    assert find("NOI.*") == REFUSAL
    assert find("T.AAPL") is None, "its wildcard is held, so its events come"
    assert find("T.*") is None
    assert find("T.MSFT") is None
    assert find("*") is None, "a part of it is held"
    assert copy.held.find_refused_parts("*") == {"NOI.*": REFUSAL, "FMV.*": "not in your plan"}
    assert copy.held.find_refused_parts("NOI.*") == {}
    copy.hear(removed=["T.*"], refused={"T.AAPL": REFUSAL})
    assert find("T.AAPL") == REFUSAL


# Read whole.


async def test_load_reads_both_under_their_names_and_replaces_what_was_known(copy: Copy) -> None:
    copy.hear("T.TSLA", refused={"LULD.*": REFUSAL})
    copy.store.held = {"T.AAPL", "Q.*"}
    copy.store.refused = {"NOI.*": REFUSAL}
    await copy.held.load()
    assert copy.store.reads == [NAMES.held, NAMES.refused, f"{NAMES.upstream} test_data"]
    assert copy.get_held("T.AAPL", "Q.MSFT", "T.TSLA") == ["T.AAPL", "Q.MSFT"]
    assert copy.held.refused == {"NOI.*": REFUSAL}
    assert copy.changes == 2


async def test_a_notice_while_it_is_being_read_makes_it_read_again(copy: Copy) -> None:
    """The reading may be older than the notice: what the notice dropped must not come back with it."""
    copy.store.held = {"T.AAPL"}

    def change() -> None:
        copy.store.held = {"T.MSFT"}
        copy.store.refused = {"NOI.*": REFUSAL}
        copy.hear("T.MSFT", removed=["T.AAPL"], refused={"NOI.*": REFUSAL})

    copy.store.meanwhile = [change]
    await copy.held.load()
    assert len(copy.store.reads) == 6
    assert copy.get_held("T.AAPL", "T.MSFT") == ["T.MSFT"]
    assert copy.held.refused == {"NOI.*": REFUSAL}


async def test_it_reads_until_no_notice_comes_in_between(copy: Copy) -> None:
    copy.store.meanwhile = [lambda: copy.hear("T.AAPL")] * 3
    await copy.held.load()
    assert len(copy.store.reads) == 12
    assert copy.get_held("T.AAPL") == [], "the last reading counts, and there was no notice after it"
    assert copy.changes == 4


async def test_an_unreadable_notice_while_reading_does_not_count(copy: Copy) -> None:
    copy.store.held = {"T.AAPL"}
    copy.store.meanwhile = [lambda: copy.held.on_notice(b"x")]
    await copy.held.load()
    assert len(copy.store.reads) == 3
    assert copy.get_held("T.AAPL") == ["T.AAPL"]


@pytest.mark.parametrize("failure", [RedisAway("gone"), OSError("gone"), TimeoutError()])
async def test_a_redis_that_cannot_be_read_leaves_what_was_known(
    copy: Copy, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    copy.hear("T.AAPL", refused={"NOI.*": REFUSAL})
    copy.store.failure = failure
    await copy.held.load()
    assert copy.get_held("T.AAPL") == ["T.AAPL"]
    assert copy.held.refused == {"NOI.*": REFUSAL}
    assert copy.changes == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# Whether it is the market at all.

SIMULATED = Indicator("simulated", "halt")


async def test_test_data_is_known_from_a_notice_and_from_reading_and_each_notice_says_it_anew(copy: Copy) -> None:
    assert not copy.held.test_data
    copy.hear("T.AAPL", test_data=SIMULATED)
    assert list(copy.held.test_data) == [make_indicator_status(SIMULATED)]
    copy.store.test_data = encode_indicator(Indicator("replay", "monday.rec"))
    await copy.held.load()
    assert [status.message for status in copy.held.test_data] == ["this is test data: mode replay, scenario monday.rec"]
    copy.hear("T.MSFT")
    assert not copy.held.test_data


@pytest.mark.parametrize(("stored", "is_known"), [(None, True), (b"", False), (b"{", False)])
async def test_a_redis_that_came_back_empty_does_not_make_test_data_the_market(
    copy: Copy, stored: bytes | None, is_known: bool
) -> None:
    copy.hear(test_data=SIMULATED)
    copy.store.test_data = stored
    await copy.held.load()
    assert bool(copy.held.test_data) is is_known
