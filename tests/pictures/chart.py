"""Price, spread and volume over time as an SVG picture.

It brings its own background, so that it reads the same on a light and on a dark page.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import Final, NamedTuple

from tests.pictures.rows import Point

WIDTH: Final = 800
LEFT, RIGHT, TOP, GAP, BOTTOM = 66, 18, 50, 14, 40
HEIGHTS: Final = (190, 84, 84)
HEIGHT: Final = TOP + sum(HEIGHTS) + 2 * GAP + BOTTOM
INK, FRAME, GRID, PAPER = "#1f2328", "#8c959f", "#e4e8ec", "#ffffff"
PRICE, QUOTES, SPREAD, VOLUME = "#0550ae", "#a8cbf5", "#a04100", "#57606a"
SHADES: Final = {"halt": ("#fbdada", "#8f1018"), "limit": ("#fdebc0", "#7a4d00"), "": ("none", "#57606a")}
LETTER: Final = 6.4  # the width of a letter at 11 pixels, about
MOST_LINEAR: Final = 50  # where the highest value is more than so many times the lowest, the scale is logarithmic


class Span(NamedTuple):
    """A phase as it is drawn."""

    start_s: float
    end_s: float
    name: str
    kind: str  # a key of SHADES


class Axis(NamedTuple):
    """From values to pixels; `low` is where `first` is.  A value outside lies on the edge."""

    low: float
    high: float
    first: float
    last: float
    is_log: bool = False

    def place(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 1)


def draw(title: str, points: Sequence[Point], spans: Sequence[Span], ends_s: tuple[float, float], zero: str) -> str:
    """The picture from one time to another; `zero` says since when times count."""
    start_s, end_s = ends_s
    time = Axis(start_s, end_s, LEFT, WIDTH - RIGHT)
    price, spread, volume = make_axes(points)
    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{PAPER}"/>',
        _text(LEFT, 21, title, INK, 'font-size="14" font-weight="600"'),
        *(_shade(span, time) for span in spans),
        *_draw_scale(price, "price (USD)"),
        *_draw_scale(spread, "spread (cents)"),
        *_draw_scale(volume, "shares per s"),
        *_draw_time(time, zero),
        *_draw_quotes(points, time, price),
        *_draw_line([(p.time_s, p.price) for p in points], spans, time, price, PRICE),
        *_draw_line([(p.time_s, p.spread and p.spread * 100) for p in points], (), time, spread, SPREAD),
        _draw_bars([(p.time_s, p.volume) for p in points], time, volume),
        *(_label(span, time) for span in spans),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    font = 'font-family="system-ui, \'DejaVu Sans\', sans-serif" font-size="11"'
    return "\n".join((f'{head} role="img" {font}>', f"<title>{escape(title)}</title>", *parts, "</svg>", ""))


def make_axes(points: Sequence[Point]) -> tuple[Axis, Axis, Axis]:
    """Of price (with some air), spread and volume (from 0, or logarithmic where a halt's quotes dwarf the others)."""
    tops = [TOP + sum(HEIGHTS[:n]) + n * GAP for n in range(3)]
    ends = [(top + height, top) for top, height in zip(tops, HEIGHTS, strict=True)]
    prices = [price for p in points for price in (p.price, p.bid, p.ask) if price] or [0.0, 1.0]
    air = (max(prices) - min(prices)) * 0.06 or 0.01
    spreads = [p.spread * 100 for p in points if p.spread] or [1.0]
    volume = max((p.volume for p in points), default=0) or 1
    is_log = max(spreads) > MOST_LINEAR * min(spreads)
    return (
        Axis(min(prices) - air, max(prices) + air, *ends[0]),
        Axis(min(spreads) * 0.8 if is_log else 0, max(spreads) * (1.5 if is_log else 1.08), *ends[1], is_log),
        Axis(0, volume * 1.08, *ends[2]),
    )


def find_ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers from low to high: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (power * factor) <= most - 1)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def find_powers(low: float, high: float) -> list[float]:
    """The powers of ten from low to high."""
    return [10.0**n for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def _draw_scale(axis: Axis, label: str) -> Iterable[str]:
    right = WIDTH - RIGHT
    height = axis.first - axis.last
    few = find_ticks(axis.low, axis.high, 8 if height > 100 else 5)
    for tick in find_powers(axis.low, axis.high) if axis.is_log else few:
        y = axis.place(tick)
        yield f'<path d="M{LEFT} {y}H{right}" stroke="{GRID}"/>'
        yield _text(LEFT - 6, y + 4, f"{tick:,.10g}", INK, 'text-anchor="end"')
    yield f'<path d="M{LEFT} {axis.last}V{axis.first}H{right}" fill="none" stroke="{FRAME}"/>'
    middle = axis.last + height / 2
    yield _text(13, middle, label, INK, f'text-anchor="middle" transform="rotate(-90 13 {middle})"')


def _draw_time(time: Axis, zero: str) -> Iterable[str]:
    """Ticks in the largest of hours, minutes and seconds of which there are four."""
    length_s = time.high - time.low
    unit_s, unit = next(
        (s, u) for s, u in ((3600, "hours"), (60, "minutes"), (1, "seconds")) if length_s >= 4 * s or s == 1
    )
    y = HEIGHT - BOTTOM
    for tick in find_ticks(time.low / unit_s, time.high / unit_s, 14):
        x = time.place(tick * unit_s)
        yield f'<path d="M{x} {y}v4" stroke="{FRAME}"/>'
        yield _text(x, y + 16, f"{tick:.10g}", INK, 'text-anchor="middle"')
    x = (time.first + time.last) / 2
    yield _text(x, y + 32, f"simulated {unit} {zero}", INK, 'text-anchor="middle"')


def _shade(span: Span, time: Axis) -> str:
    x, end = time.place(span.start_s), time.place(span.end_s)
    bottom, fill = HEIGHT - BOTTOM, SHADES[span.kind][0]
    shade = f'<path d="M{x} {TOP}H{end}V{bottom}H{x}Z" fill="{fill}"/>'
    edge = f'<path d="M{x} {TOP}V{bottom}" stroke="{FRAME}" stroke-dasharray="2 3"/>'
    return (shade if span.kind else "") + edge


def _label(span: Span, time: Axis) -> str:
    """A phase's name above the prices, upright among them where it is too narrow; none where even that is."""
    x, width = time.place(span.start_s), time.place(span.end_s) - time.place(span.start_s)
    colour, style = SHADES[span.kind][1], 'font-weight="600"'
    if len(span.name) * LETTER + 6 <= width:
        return _text(x + 3, TOP - 5, span.name, colour, style)
    x = round(x + width / 2 + 4, 1)
    turned = f'{style} text-anchor="end" transform="rotate(-90 {x} {TOP + 5})"'
    return _text(x, TOP + 5, span.name, colour, turned) if width >= 12 else ""


def _draw_quotes(points: Iterable[Point], time: Axis, price: Axis) -> Iterable[str]:
    """The area between bid and ask."""
    quoted = [p for p in points if p.bid and p.ask]
    if quoted:
        asks = [f"{time.place(p.time_s)} {price.place(p.ask or 0)}" for p in quoted]
        bids = [f"{time.place(p.time_s)} {price.place(p.bid or 0)}" for p in reversed(quoted)]
        yield f'<path d="M{"L".join(asks + bids)}Z" fill="{QUOTES}"/>'


def _draw_line(
    values: Iterable[tuple[float, float | None]], breaks: Iterable[Span], time: Axis, axis: Axis, colour: str
) -> Iterable[str]:
    """A line through the values that are there, broken where something was halted."""
    there = [(time_s, value) for time_s, value in values if value is not None]
    halts = [span for span in breaks if span.kind == "halt"]
    path = ""
    for (before_s, _), (time_s, value) in pairwise([(-math.inf, 0.0), *there]):
        is_broken = before_s == -math.inf or any(before_s < h.end_s and h.start_s < time_s for h in halts)
        path += f"{'M' if is_broken else 'L'}{time.place(time_s)} {axis.place(value)}"
    if path:
        yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.4" stroke-linejoin="round"/>'


def _draw_bars(values: Iterable[tuple[float, float]], time: Axis, axis: Axis) -> str:
    bars = "".join(f"M{time.place(time_s)} {axis.first}V{axis.place(value)}" for time_s, value in values if value)
    return f'<path d="{bars}" stroke="{VOLUME}" stroke-width="1.6"/>'


def _text(x: float, y: float, text: str, colour: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" {more}>{escape(text)}</text>'
