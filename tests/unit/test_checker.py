"""The checker that proves "exactly once" is itself shown every fault that it must find, and clean streams."""

import json
import random

import pytest

from tests.checker import MAX_EXAMPLES, MAX_HOLES, Checker, Verdict


def make_event(channel: str, number: int) -> str:
    """An event of the load, with a nested value and keys before and after those that are read."""
    event_type, _, symbol = channel.partition(".")
    middle = '"i":"7","x":4,"p":114.125,"s":100,"c":[14,41],"t":1700000000000'
    return f'{{"ev":"{event_type}","sym":"{symbol}",{middle},"q":{number},"z":3}}'


def make_frame(*events: tuple[str, int]) -> bytes:
    return f"[{','.join(make_event(*event) for event in events)}]".encode()


def make_status(kind: str, message: str = "") -> str:
    return json.dumps({"ev": "status", "status": kind, "message": message})


def judge(numbers: list[int], last: int, *, expect_from: int | None = None, channel: str = "T.A") -> Verdict:
    """The verdict on one channel, one event a frame, of which upstream sent 1..last."""
    checker = Checker([channel], expect_from=expect_from)
    for number in numbers:
        checker.feed(make_frame((channel, number)))
    return checker.finish({channel: last})


def count_faults(verdict: Verdict) -> dict[str, int]:
    kinds = ("lost", "doubled", "reordered", "foreign", "malformed", "unseen")
    return {kind: count for kind in kinds if (count := getattr(verdict, kind))}


def test_clean_stream_of_many_channels_passes() -> None:
    channels = [f"{event_type}.S{number:04}" for event_type in "TQ" for number in range(50)]
    chance, last = random.Random(1), dict.fromkeys(channels, 0)
    checker = Checker(channels, expect_from=1)
    for size in [chance.randint(1, 40) for _ in range(500)]:
        frame = []
        for channel in chance.choices(channels, k=size):
            last[channel] += 1
            frame.append((channel, last[channel]))
        checker.feed(make_frame(*frame))
    assert checker.count_behind(last) == 0
    verdict = checker.finish(last)
    assert verdict.is_clean
    assert not verdict.examples
    assert (verdict.frames, verdict.events) == (500, sum(last.values()))


@pytest.mark.parametrize(
    ("numbers", "last", "expect_from", "faults"),
    [
        ([1, 2, 3], 3, 1, {}),
        ([7, 8, 9], 9, None, {}),
        ([1, 2, 4, 5], 5, 1, {"lost": 1}),
        ([1, 5], 5, 1, {"lost": 3}),
        ([3, 4], 4, 1, {"lost": 2}),
        ([1, 2, 2, 3], 3, 1, {"doubled": 1}),
        ([1, 2, 3, 1, 2, 3, 4], 4, 1, {"doubled": 3}),
        ([1, 1, 1], 1, 1, {"doubled": 2}),
        ([1, 3, 2, 4], 4, 1, {"reordered": 1}),
        ([1, 4, 3, 2, 5], 5, 1, {"reordered": 2}),
        ([1, 5, 3, 6], 6, 1, {"lost": 2, "reordered": 1}),
        ([1, 5, 3, 3, 2, 4, 6], 6, 1, {"reordered": 3, "doubled": 1}),
        ([7, 8, 6, 9], 9, None, {"reordered": 1}),
        ([1, 2, 3], 5, 1, {"lost": 2}),
        ([7, 8], 9, None, {"lost": 1}),
        ([], 4, 1, {"lost": 4}),
        ([], 4, None, {"unseen": 1}),
        ([], 0, None, {}),
        ([1, 2, 3], 2, 1, {"foreign": 1}),
    ],
)
def test_each_fault_is_named_and_counted(
    numbers: list[int], last: int, expect_from: int | None, faults: dict[str, int]
) -> None:
    verdict = judge(numbers, last, expect_from=expect_from)
    assert count_faults(verdict) == faults
    assert verdict.is_clean == (not faults)
    assert bool(verdict.examples) == bool(faults)


def test_faults_within_one_frame_are_found() -> None:
    checker = Checker(["T.A", "Q.A"], expect_from=1)
    checker.feed(make_frame(("T.A", 1), ("Q.A", 1), ("T.A", 2), ("T.A", 2), ("Q.A", 3), ("T.A", 3)))
    assert count_faults(checker.finish({"T.A": 3, "Q.A": 3})) == {"lost": 1, "doubled": 1}


def test_channels_of_one_symbol_are_counted_apart() -> None:
    checker = Checker(["T.A", "Q.A"], expect_from=1)
    checker.feed(make_frame(("T.A", 1), ("Q.A", 1), ("T.A", 2), ("Q.A", 2)))
    assert checker.finish({"T.A": 2, "Q.A": 2}).is_clean


@pytest.mark.parametrize("foreign", ["T.B", "Q.A", "LULD.A"])
def test_event_of_a_channel_not_held_is_foreign_and_disturbs_nothing(foreign: str) -> None:
    checker = Checker(["T.A"], expect_from=1)
    checker.feed(make_frame(("T.A", 1), (foreign, 1), (foreign, 2), ("T.A", 2)))
    assert count_faults(checker.finish({"T.A": 2, foreign: 2})) == {"foreign": 2}


@pytest.mark.parametrize("held", [["T.*"], ["*"], None])
def test_wildcards_hold_what_they_cover(held: list[str] | None) -> None:
    checker = Checker(held)
    checker.feed(make_frame(("T.A", 5), ("T.B", 9), ("T.A", 6)))
    assert checker.finish({"T.A": 6, "T.B": 9}).is_clean


def test_wildcard_does_not_hold_another_event_type() -> None:
    checker = Checker(["T.*"])
    checker.feed(make_frame(("T.A", 1), ("Q.A", 1)))
    assert count_faults(checker.finish({"T.A": 1, "Q.A": 1})) == {"foreign": 1}


def test_statuses_are_told_in_place_and_are_no_events() -> None:
    told: list[tuple[str, str]] = []
    checker = Checker(["T.A"], on_status=lambda kind, message: told.append((kind, message)))
    acks = [make_status("success", "subscribed to: T.A"), make_status("error", "not authorized")]
    checker.feed(f"[{acks[0]},{make_event('T.A', 4)},{acks[1]},{make_event('T.A', 5)}]".encode())
    verdict = checker.finish({"T.A": 5})
    assert told == [("success", "subscribed to: T.A"), ("error", "not authorized")]
    assert verdict.statuses == {"success": 1, "error": 1}
    assert (verdict.events, verdict.is_clean) == (2, True)


def test_gap_notice_can_forgive_the_numbers_it_covers() -> None:
    checker = Checker(["T.A", "Q.A"], on_status=lambda kind, _: checker.forgive(["T.A"]) if kind == "gap" else None)
    checker.feed(make_frame(("T.A", 1), ("Q.A", 1)))
    checker.feed(f"[{make_status('gap')},{make_event('T.A', 8)},{make_event('Q.A', 3)}]".encode())
    assert count_faults(checker.finish({"T.A": 8, "Q.A": 3})) == {"lost": 1}


@pytest.mark.parametrize(
    "frame", [b"", b"[", b"{}", b"[1]", b'[{"sym":"A"}]', b'[{"ev":"T","sym":"A","q":"1"}]', b"\xff"]
)
def test_malformed_frame_is_counted_and_changes_nothing_else(frame: bytes) -> None:
    checker = Checker(["T.A"], expect_from=1)
    checker.feed(make_frame(("T.A", 1)))
    checker.feed(frame)
    checker.feed(make_frame(("T.A", 2)))
    assert count_faults(checker.finish({"T.A": 2})) == {"malformed": 1}


def test_event_without_a_number_is_counted_but_no_fault() -> None:
    checker = Checker(["A.X", "LULD.X"])
    checker.feed(b'[{"ev":"A","sym":"X","v":1},{"ev":"LULD","T":"X","q":3}]')
    verdict = checker.finish({})
    assert (verdict.is_clean, verdict.events, verdict.unnumbered) == (True, 2, 2)


def test_white_space_and_key_order_do_not_matter() -> None:
    checker = Checker(["T.A"], expect_from=1)
    checker.feed(b' [ {"q": 1, "t": 5, "sym": "A", "ev": "T"} ,\n {"x": {"q": 9}, "ev": "T", "sym": "A", "q": 2}]')
    assert checker.finish({"T.A": 2}).is_clean


def test_dropped_channel_is_foreign_until_held_again_and_then_starts_anew() -> None:
    checker = Checker(["T.A", "T.B"], expect_from=1)
    checker.feed(make_frame(("T.A", 1), ("T.B", 1)))
    checker.drop(["T.A"])
    checker.feed(make_frame(("T.A", 2), ("T.B", 2)))
    checker.hold(["T.A"])
    checker.feed(make_frame(("T.A", 7), ("T.A", 8), ("T.B", 3)))
    assert count_faults(checker.finish({"T.A": 8, "T.B": 3})) == {"foreign": 1}


def test_count_behind_reaches_zero_with_the_last_event() -> None:
    checker = Checker(["T.A", "Q.A"], expect_from=1)
    last = {"T.A": 2, "Q.A": 1, "T.B": 9}
    behind = [checker.count_behind(last)]
    for event in (("T.A", 1), ("Q.A", 1), ("T.A", 2)):
        checker.feed(make_frame(event))
        behind.append(checker.count_behind(last))
    assert behind == [3, 2, 1, 0]


def test_memory_is_bounded_whatever_comes() -> None:
    checker = Checker(["T.A"], expect_from=1)
    for number in range(2, 4 * MAX_HOLES, 2):
        checker.feed(make_frame(("T.A", number)))
        checker.feed(f'[{{"ev":"X{number}","sym":"S{number}","q":1}},{make_status(f"kind {number}")}]'.encode())
    verdict = checker.finish({"T.A": 4 * MAX_HOLES - 2})
    assert verdict.lost == 2 * MAX_HOLES - 1
    assert len(verdict.examples) == MAX_EXAMPLES
    assert len(verdict.statuses) <= 101
    assert checker.count_state() <= MAX_HOLES + 2
