"""The exchange's hours in New York: sessions, half days, holidays, and how busy each minute is.  Pure.

Two kinds of clock: exact hours (pre-market from 4:00, regular 9:30 to 16:00, after hours to 20:00, closed otherwise;
half days close at 13:00 and end at 17:00), or always open: then all but the regular hours is a quiet midday.
"""

from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import holidays

NEW_YORK: Final = ZoneInfo("America/New_York")
CLOSED, EXTENDED, REGULAR = range(3)  # sessions
_START, _OPEN, _CLOSE, _END = time(4), time(9, 30), time(16), time(20)
_HALF_CLOSE, _HALF_END = time(13), time(17)
_MINUTE_MS: Final = 60_000


class Day(NamedTuple):
    """One date in New York; times are Unix ms.  On days without trading start, open, close and end are midnight."""

    date: date
    midnight_ms: int
    start_ms: int
    open_ms: int
    close_ms: int
    end_ms: int
    next_ms: int  # the next midnight


def to_ms(moment: datetime) -> int:
    """Unix ms of a moment with a zone."""
    return int(moment.timestamp()) * 1000


class Hours:
    """Answers for any time; remembers the day that was asked for last."""

    def __init__(self, always_open: bool) -> None:
        self._always_open = always_open
        self._closed = holidays.financial_holidays("NYSE")
        self._half = holidays.financial_holidays("NYSE", categories=("half_day",))
        self._day = self._make_day(date(2000, 1, 1))

    def get_day(self, now_ms: int) -> Day:
        """The day in New York that a time belongs to."""
        if not self._day.midnight_ms <= now_ms < self._day.next_ms:
            self._day = self._make_day(datetime.fromtimestamp(now_ms / 1000, NEW_YORK).date())
        return self._day

    def get_session(self, now_ms: int) -> int:
        """CLOSED, EXTENDED or REGULAR."""
        day = self.get_day(now_ms)
        if self._always_open or day.open_ms <= now_ms < day.close_ms:
            return REGULAR
        return EXTENDED if day.start_ms <= now_ms < day.end_ms else CLOSED

    def get_shape(self, now_ms: int) -> float:
        """How many events there are beside a quiet midday's (1); 0 while closed."""
        day = self.get_day(now_ms)
        if day.open_ms <= now_ms < day.close_ms:
            since, left = (now_ms - day.open_ms) / _MINUTE_MS, (day.close_ms - now_ms) / _MINUTE_MS
            return 1 + 3 / (1 + (since / 10) ** 2) + 2 / (1 + (left / 12) ** 2)
        if self._always_open:
            return 1.0
        if day.start_ms <= now_ms < day.open_ms:
            return 0.02 + 0.28 * ((now_ms - day.start_ms) / (day.open_ms - day.start_ms)) ** 2
        if day.close_ms <= now_ms < day.end_ms:
            return 0.02 + 0.28 / (1 + ((now_ms - day.close_ms) / _MINUTE_MS / 15) ** 2)
        return 0.0

    def find_start(self, now_ms: int) -> int:
        """Unix ms at which trading of a later day starts (4:00), counted from the day of `now_ms` on."""
        day = self.get_day(now_ms)
        while day.start_ms == day.end_ms or day.start_ms <= now_ms:
            day = self._make_day(day.date + timedelta(days=1))
        return day.start_ms

    def is_over(self, now_ms: int) -> bool:
        """Whether nothing is traded until `find_start`."""
        return self.get_session(now_ms) == CLOSED

    def _make_day(self, on: date) -> Day:
        def at(moment: time, day: date = on) -> int:
            return to_ms(datetime.combine(day, moment, NEW_YORK))

        midnight, following = at(time()), at(time(), on + timedelta(days=1))
        if on.weekday() >= 5 or on in self._closed:
            return Day(on, midnight, midnight, midnight, midnight, midnight, following)
        is_half = on in self._half
        close, end = (_HALF_CLOSE, _HALF_END) if is_half else (_CLOSE, _END)
        return Day(on, midnight, at(_START), at(_OPEN), at(close), at(end), following)


def write_hhmm(now_ms: int) -> int:
    """The time of day in New York as NOI has it: 930 for 9:30."""
    moment = datetime.fromtimestamp(now_ms / 1000, NEW_YORK)
    return moment.hour * 100 + moment.minute
