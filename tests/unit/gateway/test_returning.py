"""What a client with a name gets when it subscribes: what it missed from the log, the rest live, and a receipt kept."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisAway
from websockets.exceptions import ConnectionClosedOK
from websockets.protocol import State

import gateway.returning
from gateway.client import Client, ClientConnection
from gateway.counted import CountedOutbox, CountedTransport
from gateway.hub import Hub
from gateway.outbox import Outbox
from gateway.receipt import LIVE, Lane, Receipt
from gateway.replay import Replay
from gateway.resume import Resumer, Resumption
from gateway.returning import Returning
from gateway.session import Session
from shared.batch import NOTHING, Mark
from shared.names import Names
from shared.protocol import Status

NAMES = Names("stocks")


def make_mark(sequence: int) -> Mark:
    return NOTHING._replace(epoch=7, sequence=sequence)


class Wire(asyncio.Transport):
    """Its socket is closed; what is under way is what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.under_way = 0

    def write(self, data: Any) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.under_way

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        closed = socket.socket()
        closed.close()
        return closed


class Connection:
    """A connection as far as a client's tasks see it; each ping is answered when the test says so."""

    remote_address = None
    state = State.OPEN

    def __init__(self) -> None:
        self.wire = Wire()
        self.transport: Any = self.wire
        self.before_close: Callable[[], None] = lambda: None
        self.pings: list[asyncio.Future[float]] = []
        self.closed: list[tuple[int, str]] = []
        self.is_over = False

    async def ping(self) -> asyncio.Future[float]:
        if self.is_over:
            raise ConnectionClosedOK(None, None)
        self.pings.append(asyncio.get_running_loop().create_future())
        return self.pings[-1]

    async def close(self, code: int, reason: str) -> None:
        self.before_close()
        self.closed.append((code, reason))


class Records:
    """The resumption, which hands out one resumer and keeps nothing."""

    def __init__(self, resumer: Resumer | None) -> None:
        self.resumer = resumer
        self.claims = 0
        self.saves = 0
        self.ended: list[list[str]] = []

    async def claim(self, name: str, receipt: Receipt, is_over: object) -> Resumer | None:
        self.claims += 1
        return self.resumer

    def save_soon(self) -> None:
        self.saves += 1

    async def end(self, resumer: Resumer) -> None:
        self.ended.append([channel for part in resumer.confirmed for channel in part.channels])


class Rig:
    """A client with a name, of which the record says what it held before."""

    def __init__(self, *missed: str, name: str | None = "bot-1") -> None:
        self.hub = Hub(NAMES)
        self.hub.begin(make_mark(9))
        self.connection = Connection()
        self.records = Records(None)
        resumption = cast(Resumption, self.records)
        self.returning = Returning(resumption, cast(Any, None), self.hub, NAMES, cast(Any, None))
        session = Session("stocks", lambda key: True)
        connection = cast(ClientConnection, self.connection)
        self.outbox = self.returning.make_outbox(connection, name, 1000)
        self.client = Client(connection, session, self.outbox, name)
        self.started: dict[str, Coroutine[Any, Any, None]] = {}
        self.client.start = self._start  # type: ignore[method-assign]
        if isinstance(self.outbox, CountedOutbox):
            lanes = [Lane(make_mark(3), missed)] if missed else []
            self.records.resumer = Resumer("bot-1", "a/1", lanes, self.outbox.receipt)

    def _start(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        if what in self.started:
            self.started[what].close()
        self.started[what] = work

    @property
    def resumer(self) -> Resumer:
        assert self.records.resumer is not None
        return self.records.resumer

    async def claim(self) -> None:
        await self.returning.claim(self.client)

    def add(self, *channels: str) -> None:
        """As the server does: the session knows them first."""
        self.client.session.spellings.update(zip(channels, channels, strict=True))
        self.returning.add(self.client, channels)

    @property
    def wire(self) -> Wire:
        return self.connection.wire

    @property
    def live(self) -> set[str]:
        return self.resumer.receipt.lanes[LIVE].channels

    @property
    def late(self) -> Iterable[str]:
        return self.hub.find_late(self.outbox)

    def end_tasks(self) -> None:
        for task in self.started.values():
            task.close()


@pytest.fixture
async def rig() -> Any:
    """Held T.A and T.B before, and has authenticated."""
    rig = Rig("T.A", "T.B")
    await rig.claim()
    yield rig
    rig.end_tasks()


def test_only_a_client_with_a_name_has_what_is_written_to_it_counted() -> None:
    assert type(Rig(name=None).outbox) is Outbox
    rig = Rig()
    assert isinstance(rig.outbox, CountedOutbox) and isinstance(rig.connection.transport, CountedTransport)
    assert rig.outbox.receipt.lanes[LIVE].position == make_mark(9)


async def test_a_client_without_a_name_is_left_alone() -> None:
    rig = Rig(name=None)
    await rig.claim()
    rig.add("T.A")
    rig.returning.remove(rig.client, ["T.A"])
    await rig.returning.end(rig.client)
    assert (rig.records.claims, rig.records.saves, rig.records.ended, rig.started, rig.late) == (0, 0, [], {}, set())


async def test_a_name_is_claimed_once_however_often_the_client_authenticates(rig: Rig) -> None:
    await rig.claim()
    assert rig.records.claims == 1 and rig.started.keys() == {"confirm", "taken over"}


async def test_a_claim_that_came_to_nothing_starts_nothing() -> None:
    rig = Rig()
    rig.records.resumer = None
    await rig.claim()
    assert rig.client.resumer is None and rig.started == {}


async def test_what_was_held_before_is_held_off_and_replayed_and_the_rest_is_live(rig: Rig) -> None:
    rig.add("T.A", "Q.A")
    assert rig.late == {"T.A"} and "replay" in rig.started
    assert rig.live == {"Q.A"}
    assert [part.channels for part in rig.resumer.confirmed] == [["Q.A"], ["T.A"], ["T.B"]]
    assert rig.records.saves == 1, "a kill must find what it holds now"


async def test_what_was_not_held_before_is_live_at_once(rig: Rig) -> None:
    rig.add("Q.A")
    assert (rig.late, rig.live) == (set(), {"Q.A"}) and "replay" not in rig.started


@pytest.mark.parametrize("whole", ["T.*", "*"])
async def test_what_comes_whole_already_is_not_caught_up_any_more(rig: Rig, whole: str) -> None:
    """Its events would overtake what was missed."""
    rig.add(whole)
    rig.add("T.A")
    assert (rig.late, rig.live) == (set(), {whole, "T.A"}) and "replay" not in rig.started


@pytest.mark.parametrize("whole", ["T.*", "*"])
async def test_a_new_wildcard_above_what_was_missed_is_not_caught_up_and_waits_in_the_hub(rig: Rig, whole: str) -> None:
    rig.add("T.A", whole, "Q.*")
    assert rig.late == {"T.A"} and rig.live == {whole, "Q.*"}


async def test_a_channel_under_a_wildcard_that_is_caught_up_is_recorded_as_far_as_that() -> None:
    rig = Rig("T.*")
    await rig.claim()
    rig.add("T.*")
    rig.add("T.A", "Q.A")
    assert [part.channels for part in rig.resumer.confirmed] == [["Q.A"], ["T.*", "T.A"]]
    rig.end_tasks()


async def test_what_is_live_or_caught_up_by_itself_is_not_given_again_with_its_wildcard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replays: list[tuple[Any, ...]] = []
    monkeypatch.setattr(gateway.returning, "Replay", lambda *args: replays.append(args))
    rig = Rig("T.*")
    await rig.claim()
    rig.resumer.missed.lanes.append(Lane(make_mark(2), ["T.C"]))
    rig.add("T.A", "T.B")
    rig.hub.add(rig.outbox, ["T.A", "T.B"])
    rig.hub.set_ready(["T.A", "T.B"])
    rig.hub.let_in(rig.outbox, frozenset(["T.A", "T.B"]), rig.hub.last_mark, lambda: None)
    rig.started.pop("replay").close()
    rig.returning.remove(rig.client, ["T.B"])
    rig.hub.remove(rig.outbox, ["T.B"])
    rig.add("T.*", "T.C")
    missed = {min(late): skipped for *_, late, skipped in replays[1:]}
    assert set(missed["T.*"]) == {"T.A", "T.C"}
    rig.end_tasks()


async def test_channels_that_are_given_up_are_recorded_no_more(rig: Rig) -> None:
    rig.add("Q.A", "Q.B")
    rig.returning.remove(rig.client, ["Q.A"])
    assert rig.live == {"Q.B"} and rig.resumer.confirmed[0].channels == ["Q.B"]


@pytest.mark.parametrize("error", [RedisAway("away"), OSError("away")])
async def test_a_log_that_cannot_be_read_is_tried_again_at_the_next_mark(
    rig: Rig, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[str] = []

    class Flaky:
        async def run(self) -> None:
            steps.append("run")
            if len(steps) == 1:
                raise error

    async def until_mark() -> None:
        steps.append("mark")

    rig.returning._until_mark = until_mark
    await rig.returning._replay(rig.client, cast(Replay, Flaky()))
    assert steps == ["run", "mark", "run"]
    assert "what it missed cannot be read yet (away)" in caplog.text


async def test_a_pong_confirms_what_was_written_before_its_ping_and_not_what_came_after(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.returning, "SAVE_S", 0.0)
    rig.add("Q.A")

    def get_position() -> int:
        return next(part.sequence for part in rig.resumer.confirmed if "Q.A" in part.channels)

    confirm = asyncio.create_task(rig.started.pop("confirm"))
    async with asyncio.timeout(5):
        while not rig.connection.pings:
            await asyncio.sleep(0)
        rig.hub.seal(make_mark(10))
        rig.outbox.send(b"after the ping")
        assert get_position() == 9
        rig.connection.pings[0].set_result(0.0)
        while len(rig.connection.pings) < 2:
            await asyncio.sleep(0)
        assert get_position() == 9
        rig.connection.is_over = True
        rig.connection.pings[1].set_result(0.0)
        await confirm
    assert get_position() == 10


async def test_a_client_whose_name_was_taken_over_is_told_and_closed(rig: Rig) -> None:
    rig.resumer.taken_over.set()
    await rig.started.pop("taken over")
    assert b"another connection came with resume=bot-1" in rig.wire.written[-1]
    assert rig.connection.closed == [(1008, "resumed elsewhere")]


async def test_where_a_client_got_to_is_written_before_it_is_told_that_its_name_was_taken_over(rig: Rig) -> None:
    """Whoever came with the name waits for it, and the old connection may hang."""
    rig.add("Q.A")
    rig.hub.seal(make_mark(10))
    rig.outbox.send(b"arrives")
    rig.hub.seal(make_mark(11))
    rig.outbox.send(b"is under way")
    rig.wire.under_way = 1
    rig.connection.before_close = lambda: rig.records.ended.append(["closed"])
    rig.resumer.taken_over.set()
    await rig.started.pop("taken over")
    assert rig.records.ended == [["Q.A", "T.A", "T.B"], ["closed"]]
    assert rig.resumer.confirmed[0].sequence == 10
    rig.outbox.send(b"too late")
    assert b"too late" not in rig.wire.written


@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
async def test_the_last_word_is_what_arrived_if_that_is_known(rig: Rig, exc: Exception | None) -> None:
    rig.resumer.receipt.add(["Q.A"])  # not confirmed yet
    rig.outbox.end(exc, has_said_goodbye=True)
    await rig.returning.end(rig.client)
    assert rig.records.ended == [["T.A", "T.B"] if exc else ["Q.A", "T.A", "T.B"]]


@pytest.mark.parametrize("wildcard", ["T.*", "*"])
@pytest.mark.parametrize("beside", [(), ("T.A", "Q.A")])
async def test_what_a_new_wildcard_passes_over_is_told_as_a_gap(wildcard: str, beside: tuple[str, ...]) -> None:
    rig = Rig("T.A", "Q.A")
    await rig.claim()
    told: list[Status] = []
    rig.client.send = told.extend  # type: ignore[method-assign, assignment]
    rig.add(wildcard, *beside)
    passed = [] if beside else [["T.A"] if wildcard == "T.*" else ["Q.A", "T.A"]]
    assert [status.message.rpartition("channels: ")[2].split(",") for status in told] == passed
    assert all(status.status == "gap" and "events from 0 to" in status.message for status in told)
    rig.end_tasks()
