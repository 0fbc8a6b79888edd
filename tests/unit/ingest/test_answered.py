"""What is kept of what Redis has answered: for how long, and how much beside what waits."""

from ingest.answered import KEPT_BYTES, KEPT_S, LEAST_BYTES, Answered
from ingest.batch import OBJECTS_BYTES, Encoded
from shared.batch import Mark

MB = 1024 * 1024
BEGINNING = (0, 0)


def make_batch(sequence: int, size: int = MB) -> Encoded:
    return Encoded(b"", b" " * (size - OBJECTS_BYTES), b"", 1, Mark(1, sequence, sequence, 1, frozenset()))


def fill(count: int, waiting: int = 0) -> Answered:
    answered = Answered()
    for sequence in range(1, count + 1):
        answered.add(make_batch(sequence), 0.0, waiting)
    return answered


def get_sequences(batches: list[Encoded]) -> list[int]:
    return [batch.mark.sequence for batch in batches]


def test_batches_are_kept_for_a_while() -> None:
    answered = fill(3)

    answered.add(make_batch(4), KEPT_S, 0)
    answered.add(make_batch(5), KEPT_S + 0.1, 0)

    assert get_sequences(answered.take_beyond(BEGINNING)) == [4, 5]


def test_only_those_beyond_the_log_are_sent_again() -> None:
    assert get_sequences(fill(5).take_beyond((1, 3))) == [4, 5]


def test_a_log_that_has_all_leaves_all_here() -> None:
    answered = fill(2)

    assert answered.take_beyond((1, 2)) == []
    assert get_sequences(answered.take_beyond(BEGINNING)) == [1, 2]
    assert (answered.take_beyond(BEGINNING), answered.size) == ([], 0)


def test_what_waits_takes_the_place_of_what_was_answered() -> None:
    answered = fill(100)
    assert answered.size == KEPT_BYTES

    for waiting in range(0, KEPT_BYTES - LEAST_BYTES, MB):
        answered.make_room(waiting)
        assert answered.size + waiting == KEPT_BYTES

    assert get_sequences(answered.take_beyond(BEGINNING))[-1] == 100, "the oldest goes first"


def test_half_a_second_stays_whatever_waits() -> None:
    answered = fill(100)

    answered.make_room(100 * MB)
    assert answered.size == LEAST_BYTES

    answered.add(make_batch(101), 0.0, 100 * MB)
    assert get_sequences(answered.take_beyond(BEGINNING)) == [98, 99, 100, 101]


def test_a_batch_larger_than_all_that_may_be_kept_is_not() -> None:
    answered = Answered()

    answered.add(make_batch(1, LEAST_BYTES + 1), 0.0, KEPT_BYTES)

    assert (answered.take_beyond(BEGINNING), answered.size) == ([], 0)
