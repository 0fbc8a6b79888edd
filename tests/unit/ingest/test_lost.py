"""What is known of batches that were lost."""

from ingest.batch import Batch, Encoded
from ingest.lost import NOTICES_BYTES, Lost
from shared.names import Names
from shared.notice import Notice
from shared.split import split_frame

NAMES = Names("stocks")


def make_batch(sequence: int) -> Encoded:
    batch = Batch(NAMES)
    batch.add(split_frame(b'[{"ev":"T","sym":"A"},{"ev":"T","sym":"B"}]'))
    return batch.encode(7, sequence, sequence * 1000, "0-0")


def make_notice(sequence: int, text: str = "told", *, has_event: bool = False) -> Encoded:
    batch = Batch(NAMES)
    batch.add_notice(Notice("gap", text, ["T.A"]))
    if has_event:
        batch.add(split_frame(b'[{"ev":"T","sym":"A"}]'))
    return batch.encode(7, sequence, sequence * 1000, "0-0")


def test_batches_are_counted_and_their_span_is_told_once_with_what_was_wanted_as_it_began() -> None:
    wanted = ["T.A"]
    lost = Lost(lambda: list(wanted))
    for sequence in (1, 2, 3):
        lost.add(make_batch(sequence))
        wanted.clear()
    assert (lost.batches, lost.events) == (3, 6)
    assert lost.take_span() == (1000, 3000, ["T.A"]) and lost.take_span() is None


def test_notices_are_kept_in_order_and_not_counted() -> None:
    lost = Lost(list)
    notices = [make_notice(1), make_notice(3)]
    for batch in (notices[0], make_batch(2), notices[1]):
        lost.add(batch)
    assert (lost.batches, lost.take_notices(), lost.take_notices()) == (1, notices, [])


def test_events_that_come_with_a_notice_are_no_notice() -> None:
    lost = Lost(list)
    lost.add(make_notice(1, has_event=True))
    assert (lost.batches, lost.take_notices()) == (1, [])


def test_of_too_many_notices_the_oldest_are_lost() -> None:
    lost = Lost(list)
    for sequence in range(1, 40):
        lost.add(make_notice(sequence, "x" * 100_000))
    kept = lost.take_notices()
    assert NOTICES_BYTES - 100_500 < sum(notice.size for notice in kept) <= NOTICES_BYTES
    assert kept[-1].mark.sequence == 39
