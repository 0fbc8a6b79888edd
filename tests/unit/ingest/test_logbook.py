"""How far back the log in Redis reaches."""

from ingest.logbook import LOG_BYTES, LOG_S, Logbook


def test_nothing_is_trimmed_before_our_own_batches_are_old_so_an_earlier_epoch_stays_readable() -> None:
    book = Logbook(7)
    assert book.get_oldest(0.0) == "0-0"
    book.add(0.0, 1, 100)
    assert book.get_oldest(LOG_S) == "0-0"


def test_a_batch_is_kept_for_log_s_seconds_and_no_longer() -> None:
    book = Logbook(7)
    for sequence in range(1, 61):
        book.add(float(sequence), sequence, 100)
    assert book.get_oldest(1.0 + LOG_S) == "0-0"
    assert book.get_oldest(1.5 + LOG_S) == "7-2"
    assert book.get_oldest(30.0 + LOG_S) == "7-30"
    assert book.get_oldest(30.0 + LOG_S) == "7-30"


def test_more_bytes_than_the_limit_shorten_the_log() -> None:
    book = Logbook(7)
    size = LOG_BYTES // 4
    for sequence in range(1, 5):
        book.add(1.0, sequence, size)
    assert book.get_oldest(1.0) == "0-0"
    book.add(1.0, 5, size)
    assert book.get_oldest(1.0) == "7-2"
    book.add(1.0, 6, 3 * size)
    assert book.get_oldest(1.0) == "7-5"


def test_one_batch_above_the_limit_does_not_break_the_book() -> None:
    book = Logbook(7)
    book.add(1.0, 1, LOG_BYTES + 1)
    book.get_oldest(1.0)
    book.add(2.0, 2, 10)
    assert book.get_oldest(2.0) == "7-2"


def test_the_oldest_id_never_goes_back() -> None:
    book = Logbook(7)
    ids = []
    now_s = 0.0
    for sequence in range(1, 400):
        now_s += 0.2 if sequence % 100 else 50.0
        oldest = book.get_oldest(now_s)
        ids.append(tuple(int(part) for part in oldest.split("-")))
        book.add(now_s, sequence, 1000)
    assert ids == sorted(ids)


def test_a_pause_longer_than_the_log_leaves_nothing_old_in_it() -> None:
    book = Logbook(7)
    for sequence in range(1, 11):
        book.add(1.0, sequence, 100)
    oldest = book.get_oldest(1.0 + 2 * LOG_S)
    assert oldest not in ("0-0", "7-0"), "the ten batches are 60 s old and may go"


def test_what_earlier_epochs_logged_goes_when_it_is_said_or_when_ours_is_old_and_never_comes_back() -> None:
    book = Logbook(7_000)
    book.keep_from("5000-90")
    assert book.get_oldest(0.0) == "5000-90"
    book.keep_from("5000-9")
    assert book.get_oldest(0.0) == "5000-90", "90 is after 9"
    book.add(0.0, 1, 10)
    book.keep_from("6000-2")
    assert book.get_oldest(LOG_S - 1.0) == "6000-2"
    assert book.get_oldest(LOG_S + 1.0) == "7000-2"
    book.keep_from("6000-3")
    assert book.get_oldest(100.0) == "7000-2"
