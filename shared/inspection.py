"""A recording as a table and a drawing of its rates over time: colours and blocks on a terminal, else plain text."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from shared.recording_reader import Damage, RecordingReader, Span
from shared.survey import COLUMNS, Survey

_NEW_YORK: Final = ZoneInfo("America/New_York")
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_BAR: Final = 40  # characters
_TOP: Final = 10
_SHOWN: Final = 10  # holes and damages; of more only the number
_DAMAGES_MOST: Final = 1000


class Inspection:
    """What is known of a recording once all of it was read; raises BadRecording or OSError."""

    def __init__(self, path: Path) -> None:
        self.damages: list[Damage] = []
        self.damage_count = 0
        self._reader = RecordingReader(path, self._note)
        self.parts = self._reader.parts
        self.span = RecordingReader(path).read_span()
        self.survey = Survey(self.span.first_us, self.span.last_us)

    def _note(self, damage: Damage) -> None:
        self.damage_count += 1
        if len(self.damages) < _DAMAGES_MOST:
            self.damages.append(damage)

    def read(self, progress: Progress) -> None:
        """Count everything; it takes ~1 us an event."""
        task = progress.add_task("reading", total=self.span.raw_bytes)
        for chunk in self._reader.chunks():
            for record in chunk.records:
                self.survey.add(record)
            progress.advance(task, chunk.head.raw_bytes)


def format_time(time_us: int) -> str:
    """In New York, to the millisecond."""
    return datetime.fromtimestamp(time_us / 1e6, _NEW_YORK).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def print_inspection(inspection: Inspection, console: Console) -> None:
    """The table, then the rates."""
    console.print(_make_table(inspection, console.is_terminal))
    for line in draw_rates(inspection.survey, inspection.span, is_terminal=console.is_terminal):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _make_table(inspection: Inspection, is_terminal: bool) -> Table:
    table = Table(box=box.ROUNDED if is_terminal else None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, lines in _make_rows(inspection):
        table.add_row(name, "\n".join(lines))
    return table


def _make_rows(inspection: Inspection) -> Iterable[tuple[str, list[str]]]:
    span, survey = inspection.span, inspection.survey
    files = sum(part.stat().st_size for part in inspection.parts)
    yield "parts", [str(part) for part in inspection.parts]
    if span.chunks:
        seconds = (span.last_us - span.first_us) / 1e6
        yield "span", [f"{format_time(span.first_us)} to {format_time(span.last_us)} New York, {seconds:,.3f} s"]
    yield "frames", [f"{survey.frames:,}"]
    yield "events", [f"{survey.events:,}"]
    ratio = f" ({files / survey.raw_bytes:.2f})" if survey.raw_bytes else ""
    yield "bytes", [f"{survey.raw_bytes:,} received, {files:,} on disk{ratio}"]
    yield "types", [f"{ev}  {count:,}" for ev, count in survey.by_type.most_common()]
    about = f" (each up to {survey.uncounted:,} more)" if survey.uncounted else ""
    yield "top symbols" + about, [f"{name}  {count:,}" for name, count in survey.by_symbol.most_common(_TOP)]
    if survey.malformed_frames:
        yield "no frames of events", [f"{survey.malformed_frames:,}"]
    holes = [f"{format_time(h.time_us)} to {format_time(h.until_us)}: {h.cause}" for h in survey.holes[:_SHOWN]]
    yield "holes", _cut(holes, survey.hole_count)
    yield "damage", _cut([str(damage) for damage in inspection.damages[:_SHOWN]], inspection.damage_count)


def _cut(lines: list[str], count: int) -> list[str]:
    more = [f"and {count - len(lines):,} more"] if count > len(lines) else []
    return [*lines, *more] or ["none"]


def draw_rates(survey: Survey, span: Span, *, is_terminal: bool) -> list[str]:
    """Events a second over the recording's time: one line of blocks, or a line of text for each third column."""
    if not survey.events:
        return []
    rates = [count / survey.column_s for count in survey.columns]
    most = max(rates)
    if is_terminal:
        blocks = "".join(_BLOCKS[-(-int(rate * 8000 / most) // 1000)] for rate in rates)
        begin, end = format_time(span.first_us)[11:19], format_time(span.last_us)[11:19]
        return [f"events/s, most {most:,.0f}", blocks, begin + end.rjust(COLUMNS - len(begin))]
    lines = []
    for place in range(0, COLUMNS, 3):
        rate = sum(rates[place : place + 3]) / 3
        at = format_time(span.first_us + int(place * survey.column_s * 1e6))[11:19]
        lines.append(f"{at} {rate:>12,.1f}/s {'#' * round(rate * _BAR / most)}".rstrip())
    return lines
