"""What REST remembers of the stock feed, as the feed's own events.  Pure.

Sources: the REST docs (`/v3/trades`, `/v3/quotes`, `/v2/aggs`) and PROTOCOL b.2.  Keys come in the order of the
feed's samples, and numbers in the spelling of REST, so that no price or id passes through a float.  What REST does not
have is left out, never made up: `av`, `op`, `a`, `z`, `dv` and `dav` of bars.  Of a quote's conditions REST has a
list and the feed one number, so the first is taken.

*At* is when the feed sends an event: the SIP's time of a trade or quote, BAR_DELAY_MS after the end of a bar.  An
*identity* tells whether two are the same event; that `q` is REST's `sequence_number` is what the docs say of both,
and that `t` is its SIP time cut or rounded to milliseconds is all that can be known, so both spellings count.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from shared.channels import get_event_type

BAR_DELAY_MS: Final = 2000  # how long after its end a bar is sent (PROTOCOL f)
PAGE_EVENTS: Final = 5000  # mapped in ~70 ms; REST would give 50,000, which live events would feel longer
_BAR_MS: Final = {"A": 1000, "AM": 60_000}
_SPAN: Final = {"A": "second", "AM": "minute"}
_TICKS: Final = {"T": "trades", "Q": "quotes"}
EVENT_TYPES: Final = frozenset({*_SPAN, *_TICKS})  # those that REST has a history of
_MOST_DIGITS: Final = 19  # of a whole number: nanoseconds since 1970; more is no number of this feed
_WHITE_SPACE: Final = b" \t\r\n"

Identity = tuple[str | int | None, ...]
_Result = dict[str, msgspec.Raw]


class Found(NamedTuple):
    """One event from REST; it was delivered before if any of its identities was."""

    at_ns: int
    sequence: int
    identities: tuple[Identity, ...]
    event: bytes


class Sighting(NamedTuple):
    """One event that the feed delivered."""

    at_ms: int
    identity: Identity


def get_request(channel: str, from_ms: int, to_ms: int) -> str:
    """Path and query for what the feed sends on the channel at `from_ms` and later, but before `to_ms`."""
    event_type, _, symbol = channel.partition(".")
    symbol = quote(symbol, safe="")
    if event_type in _TICKS:
        span = f"timestamp.gte={from_ms * 1_000_000}&timestamp.lt={to_ms * 1_000_000}"
        return f"/v3/{_TICKS[event_type]}/{symbol}?{span}&order=asc&sort=timestamp&limit={PAGE_EVENTS}"
    shift_ms = BAR_DELAY_MS + _BAR_MS[event_type]
    span = f"{from_ms - shift_ms}/{to_ms - shift_ms - 1}"  # both ends of it are part of it
    return f"/v2/aggs/ticker/{symbol}/range/1/{_SPAN[event_type]}/{span}?adjusted=false&sort=asc&limit={PAGE_EVENTS}"


def map_results(channel: str, results: bytes) -> tuple[list[Found], int]:
    """The events in a JSON array of REST's results, and how many of them had a shape that is not known.

    Raises msgspec.DecodeError if it is no array of objects.
    """
    found = []
    decoded = _decode_results(results)
    for result in decoded:
        try:
            found.append(_map_result(channel, result))
        except (KeyError, ValueError, msgspec.DecodeError):
            continue  # counted by the difference
    return found, len(decoded) - len(found)


_decode_results = msgspec.json.Decoder(list[_Result]).decode


def _map_result(channel: str, result: _Result) -> Found:
    event_type, _, symbol = channel.partition(".")
    values = {name: text for name, raw in result.items() if (text := bytes(raw)) != b"null"}
    if event_type in _SPAN:
        return _map_bar(channel, event_type, symbol, values)
    at_ns = _parse_whole(values["sip_timestamp"])
    sequence = _parse_whole(values.get("sequence_number", b"0"))
    if event_type == "T":
        fields, identities = _TRADE, _identify_trade(channel, values, sequence)
    else:
        fields, identities = _QUOTE, _identify_quote(channel, sequence, at_ns // 1_000_000)
    return Found(at_ns, sequence, identities, _encode(event_type, symbol, fields, values))


def _map_bar(channel: str, event_type: str, symbol: str, values: dict[str, bytes]) -> Found:
    start_ms = _parse_whole(values["t"])
    end_ms = start_ms + _BAR_MS[event_type]
    values["end"] = b"%d" % end_ms
    event = _encode(event_type, symbol, _BAR, values)
    return Found((end_ms + BAR_DELAY_MS) * 1_000_000, start_ms, ((channel, start_ms),), event)


def _identify_trade(channel: str, values: dict[str, bytes], sequence: int) -> tuple[Identity, ...]:
    """By the id, which is unique per symbol, exchange and TRF; the feed may not name the TRF, or lack the id."""
    by_sequence: Identity = (channel, "q", sequence)
    if "id" not in values:
        return (by_sequence,)
    trade_id, exchange = _decode_id(values["id"]), _parse_whole(values.get("exchange", b"0"))
    trf = _parse_whole(values.get("trf_id", b"0"))
    return (channel, trade_id, exchange, trf), (channel, trade_id, exchange, 0), by_sequence


def _identify_quote(channel: str, sequence: int, t_ms: int) -> tuple[Identity, ...]:
    return (channel, sequence, t_ms), (channel, sequence, t_ms + 1)


def _decode_id(text: bytes) -> str:
    return str(msgspec.json.decode(text, type=str | int))


# -- values


def _parse_whole(text: bytes) -> int:
    """The whole number that a JSON number spells, also as `1.5e+18` or `100.0`; raises ValueError."""
    if text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    try:
        number = Decimal(text.decode())
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not number.is_finite() or number.adjusted() >= _MOST_DIGITS or number != int(number):
        raise ValueError("not a whole number")
    return int(number)


def _keep(text: bytes) -> bytes:
    return text


def _shorten(text: bytes) -> bytes:
    """Whole numbers as the feed writes them: REST says `4989.0`, which typed clients do not take for an integer."""
    try:
        return b"%d" % _parse_whole(text)
    except ValueError:
        return text


def _to_ms(text: bytes) -> bytes:
    return b"%d" % (_parse_whole(text) // 1_000_000)


def _list(text: bytes) -> bytes:
    """A list without white space; nothing if it is empty, since the feed then leaves it out."""
    compact = text.translate(None, _WHITE_SPACE)
    return b"" if compact == b"[]" else compact


def _first(text: bytes) -> bytes:
    return _list(text)[1:-1].partition(b",")[0]


def _if_true(text: bytes) -> bytes:
    return text if text == b"true" else b""


# The feed's key, REST's name, and how the value changes; what REST leaves out stays out.
_Field = tuple[bytes, str, Callable[[bytes], bytes]]

_TRADE: Final[tuple[_Field, ...]] = (
    (b"i", "id", _keep),
    (b"x", "exchange", _keep),
    (b"p", "price", _keep),
    (b"s", "size", _shorten),
    (b"ds", "decimal_size", _keep),
    (b"c", "conditions", _list),
    (b"t", "sip_timestamp", _to_ms),
    (b"pt", "participant_timestamp", _to_ms),
    (b"q", "sequence_number", _keep),
    (b"z", "tape", _keep),
    (b"trfi", "trf_id", _keep),
    (b"trft", "trf_timestamp", _to_ms),
)
_QUOTE: Final[tuple[_Field, ...]] = (
    (b"bx", "bid_exchange", _keep),
    (b"bp", "bid_price", _keep),
    (b"bs", "bid_size", _shorten),
    (b"ax", "ask_exchange", _keep),
    (b"ap", "ask_price", _keep),
    (b"as", "ask_size", _shorten),
    (b"c", "conditions", _first),
    (b"i", "indicators", _list),
    (b"t", "sip_timestamp", _to_ms),
    (b"q", "sequence_number", _keep),
    (b"z", "tape", _keep),
)
_BAR: Final[tuple[_Field, ...]] = (
    (b"v", "v", _shorten),
    (b"vw", "vw", _keep),
    (b"o", "o", _keep),
    (b"c", "c", _keep),
    (b"h", "h", _keep),
    (b"l", "l", _keep),
    (b"s", "t", _shorten),
    (b"e", "end", _keep),
    (b"otc", "otc", _if_true),
)


def _encode(event_type: str, symbol: str, fields: Iterable[_Field], values: dict[str, bytes]) -> bytes:
    parts = [b'{"ev":"%b","sym":%b' % (event_type.encode(), msgspec.json.encode(symbol))]
    for key, name, change in fields:
        text = change(values[name]) if name in values else b""
        if text:
            parts.append(b',"%b":%b' % (key, text))
    return b"".join(parts) + b"}"


# -- what the feed delivered


class _LiveTrade(msgspec.Struct, gc=False):
    t: int = 0
    i: str | int = ""
    x: int = 0
    q: int = 0
    trfi: int = 0

    def identify(self, channel: str) -> Sighting:
        by_id = (channel, str(self.i), self.x, self.trfi)
        return Sighting(self.t, by_id if self.i != "" else (channel, "q", self.q))


class _LiveQuote(msgspec.Struct, gc=False):
    t: int = 0
    q: int = 0

    def identify(self, channel: str) -> Sighting:
        return Sighting(self.t, (channel, self.q, self.t))


class _LiveBar(msgspec.Struct, gc=False):
    s: int = 0
    e: int = 0

    def identify(self, channel: str) -> Sighting:
        return Sighting(self.e + BAR_DELAY_MS, (channel, self.s))


_LIVE: Final[dict[str, Callable[[bytes], Sequence[_LiveTrade | _LiveQuote | _LiveBar]]]] = {
    "T": msgspec.json.Decoder(list[_LiveTrade]).decode,
    "Q": msgspec.json.Decoder(list[_LiveQuote]).decode,
    "A": msgspec.json.Decoder(list[_LiveBar]).decode,
    "AM": msgspec.json.Decoder(list[_LiveBar]).decode,
}


def identify(channel: str, events: bytes) -> list[Sighting]:
    """What a JSON array of the channel's events delivered; empty for event types without a history.

    Raises msgspec.DecodeError for events of an unknown shape.
    """
    decode = _LIVE.get(get_event_type(channel))
    return [] if decode is None else [event.identify(channel) for event in decode(events)]
