"""`polygon-proxy inspect` and what `record` refuses; recording itself is proven with real parts (tests/acceptance)."""

import io
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from rich.progress import Progress

import shared.survey
from shared.cli import main
from shared.inspection import Inspection, print_inspection
from shared.recording import Frame, Hole, Record
from shared.survey import Survey
from tests.recordings import BEGIN_US, make_trades, write_recording

S = 1_000_000


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def squeeze(text: str) -> str:
    return " ".join(text.split())


def test_inspect_tells_what_is_in_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "day"
    records = make_trades(60, S)
    records += [Hole(BEGIN_US + 60 * S, BEGIN_US + 61 * S, "another ingest took over")]
    records += [Frame(BEGIN_US + 61 * S, b'[{"ev":"Q","sym":"MSFT"},{"ev":"status","status":"x","message":"y"}]')]
    records += [Frame(BEGIN_US + 62 * S, b"no JSON")]
    write_recording(path, records)
    with path.open("ab") as file:
        file.write(b"CHNK torn")
    result = call("inspect", path)
    assert result.exit_code == 0
    text = squeeze(result.output)
    for fact in (
        "span 2026-11-23 09:30:00.000 to 2026-11-23 09:31:02.000 New York, 62.000 s",
        "frames 62 events 62 bytes",
        "types T 60 Q 1 status 1",
        "top symbols MSFT 31 AAPL 30",
        "no frames of events 1",
        "holes 2026-11-23 09:31:00.000 to 2026-11-23 09:31:01.000: another ingest took over",
        f"parts {path} span",
        f"damage {path}: torn tail at offset {path.stat().st_size - 9}: 9 bytes left out",
        "09:30:03 1.0/s ####",
    ):
        assert fact in text, text
    assert result.output.isascii() and "\x1b" not in result.output


def test_inspect_draws_blocks_on_a_terminal(tmp_path: Path) -> None:
    inspection = Inspection(write_recording(tmp_path / "day", make_trades(120, S)))
    out = io.StringIO()
    with Progress(console=Console(file=io.StringIO())) as progress:
        inspection.read(progress)
    print_inspection(inspection, Console(file=out, force_terminal=True, width=120))
    assert "█" in out.getvalue() and "09:30:00" in out.getvalue() and "events/s, most 1" in out.getvalue()


@pytest.mark.parametrize(
    ("content", "line"),
    [(None, "cannot be read (No such file or directory)"), (b"hello", "not a recording"), (b"", "not a recording")],
)
def test_inspect_refuses_what_is_no_recording(tmp_path: Path, content: bytes | None, line: str) -> None:
    if content is not None:
        (tmp_path / "day").write_bytes(content)
    result = call("inspect", tmp_path / "day")
    assert (result.exit_code, result.output) == (1, f"{tmp_path / 'day'}: {line}\n")


def test_inspect_of_an_empty_recording_says_so(tmp_path: Path) -> None:
    result = call("inspect", write_recording(tmp_path / "day", []))
    assert result.exit_code == 0 and "frames 0 events 0" in squeeze(result.output)


def test_inspect_tells_of_a_part_that_was_only_begun(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "day", make_trades(60, S))
    (tmp_path / "day.1").write_bytes(b"PPREC")
    result = call("inspect", path)
    assert result.exit_code == 0
    text = squeeze(result.output)
    assert f"parts {path} span" in text and "frames 60 events 60" in text
    assert f"damage {path}.1: torn tail at offset 0: 5 bytes left out" in text


def test_inspect_refuses_a_pipe_and_does_not_wait_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "day")
    result = call("inspect", tmp_path / "day")
    assert (result.exit_code, result.output) == (1, f"{tmp_path / 'day'}: is not a file\n")


def test_a_link_to_a_recording_is_one(tmp_path: Path) -> None:
    write_recording(tmp_path / "day", make_trades(60, S))
    (tmp_path / "link").symlink_to(tmp_path / "day")
    assert "frames 60 events 60" in squeeze(call("inspect", tmp_path / "link").output)


@pytest.mark.parametrize("begun", [b"", b"PPREC"])
def test_record_does_not_write_over_or_before_a_part_that_was_only_begun(tmp_path: Path, begun: bytes) -> None:
    (tmp_path / "day.1").write_bytes(begun)
    result = call("record", tmp_path / "day")
    assert result.exit_code == 1 and "exists, and is not written over" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["day.1"] and (tmp_path / "day.1").read_bytes() == begun


def test_record_refuses_a_file_that_exists_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "day"
    path.write_bytes(b"mine")
    result = call("record", path)
    assert result.exit_code == 1 and "exists, and is not written over" in result.output
    assert path.read_bytes() == b"mine"


def test_record_refuses_a_place_that_cannot_be_written_and_a_rotation_that_is_none(tmp_path: Path) -> None:
    result = call("record", tmp_path / "nowhere" / "day")
    assert result.exit_code == 1 and "cannot be written (No such file or directory)" in result.output
    result = call("record", tmp_path / "day", "--rotate", "weekly")
    assert result.exit_code == 2 and "such as 1h, 30m, 90s, 500MB or 2GB, not 'weekly'" in squeeze(result.output)
    assert list(tmp_path.iterdir()) == []


def test_symbols_are_counted_in_bounded_memory_and_it_says_how_far_off_they_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared.survey, "SYMBOLS_MOST", 10)
    survey = Survey(BEGIN_US, BEGIN_US + S)
    truth: dict[str, int] = {}
    for number in range(300):
        symbol = "AAPL" if number % 3 == 0 else f"S{number % 40}"
        truth[symbol] = truth.get(symbol, 0) + 1
        record: Record = Frame(BEGIN_US + number, b'[{"ev":"T","sym":"%b"}]' % symbol.encode())
        survey.add(record)
        assert len(survey.by_symbol) <= 11
    assert survey.by_symbol.most_common(1)[0] == ("AAPL", 100)
    for symbol, count in survey.by_symbol.items():
        assert count <= truth[symbol] <= count + survey.uncounted


def test_types_and_holes_are_bounded() -> None:
    survey = Survey(BEGIN_US, BEGIN_US + S)
    for number in range(300):
        survey.add(Frame(BEGIN_US, b'[{"ev":"E%d","sym":"A"}]' % number))
        survey.add(Hole(BEGIN_US, BEGIN_US, "x"))
    assert len(survey.by_type) == 101 and survey.by_type["other"] == 200
    assert (len(survey.holes), survey.hole_count) == (100, 300)
