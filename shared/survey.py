"""What is in a recording, counted in bounded memory.  Pure.

Symbols are counted exactly up to SYMBOLS_MOST at a time.  Beyond it the rarer half is forgotten, and a symbol that is
seen again starts anew: what it may have lost is at most `uncounted`, the largest count that was ever forgotten, summed
over the times that this happened.
"""

from collections import Counter
from typing import Final

from shared.recording import Frame, Hole, Record
from shared.split import MalformedFrame, split_frame

SYMBOLS_MOST: Final = 20_000  # US stocks have some 11,000
TYPES_MOST: Final = 100  # beyond it a type is counted as "other"
HOLES_MOST: Final = 100  # kept; of more only the number
COLUMNS: Final = 60  # of the drawing of rates
_OTHER: Final = "other"


class Survey:
    """Counts over records in any order; times are Unix microseconds."""

    def __init__(self, first_us: int, last_us: int) -> None:
        """The span over which rates are counted, in COLUMNS equal parts."""
        self._first_us = first_us
        self._span_us = max(1, last_us - first_us + 1)
        self.frames = 0
        self.events = 0
        self.malformed_frames = 0
        self.raw_bytes = 0  # of frames
        self.by_type: Counter[str] = Counter()
        self.by_symbol: Counter[str] = Counter()
        self.uncounted = 0
        self.holes: list[Hole] = []
        self.hole_count = 0
        self.columns = [0] * COLUMNS

    @property
    def column_s(self) -> float:
        """Seconds that a column stands for."""
        return self._span_us / COLUMNS / 1e6

    def add(self, record: Record) -> None:
        """Count one record."""
        if isinstance(record, Frame):
            self._add_frame(record)
        else:
            self.hole_count += 1
            if len(self.holes) < HOLES_MOST:
                self.holes.append(record)

    def _add_frame(self, frame: Frame) -> None:
        self.frames += 1
        self.raw_bytes += len(frame.data)
        try:
            heads = split_frame(frame.data).heads
        except MalformedFrame:
            self.malformed_frames += 1
            return
        self.events += len(heads)
        column = (frame.time_us - self._first_us) * COLUMNS // self._span_us
        self.columns[min(max(column, 0), COLUMNS - 1)] += len(heads)
        for head in heads:
            is_known = head.ev in self.by_type or len(self.by_type) < TYPES_MOST
            self.by_type[head.ev if is_known else _OTHER] += 1
            if symbol := head.symbol:
                self.by_symbol[symbol] += 1
        if len(self.by_symbol) > SYMBOLS_MOST:
            self._forget_rare()

    def _forget_rare(self) -> None:
        kept = self.by_symbol.most_common(SYMBOLS_MOST // 2 + 1)
        self.uncounted += kept.pop()[1]
        self.by_symbol = Counter(dict(kept))
