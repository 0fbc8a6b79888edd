"""Up to when nothing is missing, as one ingest leaves it in the `upstream` hash to the next.

    whole_until    what upstream sent before (Unix s) is in the log, or clients were told that it is missing
    missing_since  since when a gap is open that they will be told of; empty while none is
    last_live      when the last live frame came, beside test data (Unix s); else empty: then the log's end says it

`whole_until` hides no loss.  It is written only while upstream is live, no gap is open and Redis has answered all that
was published until then; and it lies before whatever may still be unknown: a connection that is dead and not missed
yet, a standstill, what waits in a socket (Upstream.find_whole_ms).  Once true it stays true: an old one does no harm.
`missing_since` is taken back only when Redis has answered the notice of the gap, too.
"""

from collections.abc import Sequence
from typing import Final

_TAKEOVER_MS: Final = 5000  # what it may take
FIELDS: Final = ("whole_until", "missing_since", "last_live")


def encode_last_live(last_live_us: int) -> dict[str, str]:
    """The field to write (from Unix us); 0 where no test data comes beside live data."""
    return {"last_live": _encode(last_live_us // 1000) if last_live_us else ""}


def encode_whole(whole_ms: int | None, missing_ms: int | None, *, is_answered: bool) -> dict[str, str]:
    """The fields to write (from Unix ms); those that are left out stay as they are."""
    if missing_ms is not None:
        return {"missing_since": _encode(missing_ms)}
    if whole_ms is None or not is_answered:
        return {}
    return {"whole_until": _encode(whole_ms), "missing_since": ""}


def find_whole_ms(last_us: int | None, fields: Sequence[bytes | None], now_ms: int) -> int | None:
    """Up to when nothing is missing, by the log's last batch and the values of FIELDS (Unix ms); None if unknown."""
    until_ms, missing_ms, live_ms = (_decode(value) for value in fields)
    if until_ms is not None and until_ms > now_ms:
        until_ms = None  # by another host's clock, which is wrong, or ours is
    logged_ms = last_us // 1000 if last_us is not None else None
    if logged_ms is not None and live_ms is not None:
        logged_ms = min(logged_ms, live_ms)
    if logged_ms is not None and logged_ms > now_ms:
        logged_ms = now_ms - _TAKEOVER_MS  # by a clock that is ahead of ours
    whole_ms = max((ms for ms in (logged_ms, until_ms) if ms is not None), default=None)
    # While a gap is open the log goes on: with what is held already, with notices, with test data.
    return min((ms for ms in (whole_ms, missing_ms) if ms is not None), default=None)


def _encode(unix_ms: int) -> str:
    return f"{unix_ms / 1000:.3f}"


def _decode(value: bytes | None) -> int | None:
    return round(float(value) * 1000) if value else None
