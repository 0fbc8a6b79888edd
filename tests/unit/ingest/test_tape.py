"""What recorders get: frames, once, beside the batch that they leave with; nothing while nobody asks."""

from typing import Any

import hiredis
import pytest

import ingest.tape
from ingest.batch import OBJECTS_BYTES, Encoded
from ingest.mix import Sieve
from ingest.tape import LINGER_S
from shared.names import Names
from shared.recording import Frame, Record, iterate_records
from tests.unit.ingest.test_intake import Rig

NAMES = Names("stocks")
TRADE = b'[{"ev":"T","sym":"AAPL","p":1.50}]'
STATUS = b'[{"ev":"status","status":"success","message":"subscribed to: T.AAPL"}]'


def read_commands(batch: Encoded) -> list[Any]:
    reader = hiredis.Reader()
    reader.feed(batch.data)
    commands: list[Any] = []
    while (command := reader.gets()) is not False:
        commands.append(command)
    return commands


def read_frames(batch: Encoded) -> tuple[bytes, bytes, list[Record]]:
    """Id, `after` and records of what a batch has for recorders, which is its last command."""
    [*_, command] = read_commands(batch)
    assert command[:2] == [b"XADD", NAMES.frames.encode()]
    ident, _, after, _, records = command[-5:]
    return ident, after, list(iterate_records(records))


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_nothing_is_kept_while_nobody_records(rig: Rig) -> None:
    rig.intake.take(TRADE)
    rig.intake.flush()
    [batch] = rig.publisher.batches
    assert (batch.frames, batch.appends, rig.intake.tape.has_frames) == (b"", 1, False)


async def test_frames_leave_with_their_batch_byte_for_byte(rig: Rig) -> None:
    rig.intake.tape.set_asked(True, 0.0)
    for frame in (STATUS, b"no JSON at all", TRADE):
        rig.intake.take(frame)
    rig.intake.flush()
    rig.intake.take(TRADE)
    rig.intake.flush()
    first, second = rig.publisher.batches
    ident, after, records = read_frames(first)
    assert (ident, after) == (b"7-1", b"")
    assert [record.data for record in records if isinstance(record, Frame)] == [STATUS, b"no JSON at all", TRADE]
    assert read_frames(second)[:2] == (b"7-2", b"7-1")


def make_trade(symbol: str, number: int) -> bytes:
    return b'{"ev":"T","sym":"%b","p":1.50,"q":%d}' % (symbol.encode(), number)


def read_recorded(rig: Rig) -> list[bytes]:
    """The frames of all batches."""
    rig.intake.flush()
    batches = [batch for batch in rig.publisher.batches if batch.frames]
    return [record.data for batch in batches for record in read_frames(batch)[2] if isinstance(record, Frame)]


async def test_of_a_mixture_recorders_get_no_event_that_clients_do_not_get(rig: Rig) -> None:
    sieve, intake = Sieve(["AAPL"]), rig.intake
    intake.screen, intake.test_screen = sieve.pass_live, sieve.pass_test
    intake.tape.set_asked(True, 0.0)
    odd = b'[{ "ev":"T", "sym":"MSFT", "p":1.50e0 }, %b]' % make_trade("MSFT", 0)
    intake.take(odd)
    intake.take(b"[%b,%b,%b]" % (make_trade("MSFT", 1), make_trade("AAPL", 1), make_trade("MSFT", 2)))
    intake.take(b"[%b]" % make_trade("AAPL", 2))
    intake.take_test(b"[%b,%b]" % (make_trade("AAPL", 3), make_trade("MSFT", 3)))
    intake.overlap.set_channels(frozenset({"T.MSFT"}))
    doubled = b"[%b]" % make_trade("MSFT", 4)
    for _ in range(2):
        intake.take(doubled)
    recorded = read_recorded(rig)
    assert recorded == [
        odd,
        b"[%b,%b]" % (make_trade("MSFT", 1), make_trade("MSFT", 2)),
        b"[%b]" % make_trade("AAPL", 3),
        doubled,
    ]


async def test_of_live_data_alone_recorders_get_every_frame_as_it_was_received(rig: Rig) -> None:
    rig.intake.tape.set_asked(True, 0.0)
    rig.intake.overlap.set_channels(frozenset({"T.AAPL"}))
    for _ in range(2):
        rig.intake.take(TRADE)
    assert read_recorded(rig) == [TRADE, TRADE]


async def test_a_batch_expects_one_reply_for_each_of_its_commands(rig: Rig) -> None:
    for is_asked in (False, True):
        rig.intake.tape.set_asked(is_asked, 0.0)
        rig.intake.take(TRADE)
        rig.intake.flush()
        batch = rig.publisher.batches[-1]
        assert batch.replies == len(read_commands(batch))
        assert batch.size <= len(batch.data) + OBJECTS_BYTES
    assert batch.appends == 2


async def test_a_status_alone_waits_for_the_next_batch(rig: Rig) -> None:
    rig.intake.tape.set_asked(True, 0.0)
    rig.intake.take(STATUS)
    rig.intake.flush()
    assert rig.publisher.batches == [] and rig.intake.tape.has_frames


async def test_recording_goes_on_for_a_while_after_redis_forgot_who_asked(rig: Rig) -> None:
    tape = rig.intake.tape
    tape.set_asked(True, 100.0)
    tape.set_asked(False, 100.0 + LINGER_S - 0.1)
    assert tape.is_on
    rig.intake.take(TRADE)
    tape.set_asked(False, 100.0 + LINGER_S)
    assert not tape.is_on and not tape.has_frames


async def test_frames_that_no_batch_takes_are_bounded_and_leave_a_hole(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.tape, "WAITING_BYTES", 2 * (len(STATUS) + 13))
    rig.intake.tape.set_asked(True, 0.0)
    rig.intake.take(TRADE)
    rig.intake.flush()
    for _ in range(4):
        rig.intake.take(STATUS)
    rig.intake.take(TRADE)
    rig.intake.flush()
    _, after, records = read_frames(rig.publisher.batches[-1])
    assert after == b"" and len(records) == 2
