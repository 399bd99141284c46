"""A chart as SVG text: points over a numeric or logarithmic axis, lines, labels, and a level to reach.

Text follows the page's colour scheme. Series have colours that colour-blind readers can tell apart (Okabe and Ito), and
a shape each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 40, 52
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
SHAPES = ("circle", "square", "triangle", "diamond")
MOST_LABELS = 40
_ATTRIBUTES = f'width="{WIDTH}" height="{HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="12"'
_STYLE = """<style>
.ink{fill:#222}.axis{stroke:#888;fill:none}.grid{stroke:#888;stroke-opacity:.25}
@media (prefers-color-scheme:dark){.ink{fill:#ddd}}
</style>"""


@dataclass(frozen=True, slots=True)
class Mark:
    """A point. A ``y`` that is not finite is drawn at the edge, with an arrow. ``label`` stands beside it."""

    x: float
    y: float
    title: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind; ``line`` joins them in their order, ``steps`` as a staircase."""

    name: str
    marks: Sequence[Mark]
    line: bool = False
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """``levels`` are horizontal lines with a text each. ``log_x`` is a logarithmic x axis, ``from_zero`` one from 0."""

    title: str
    x: str
    y: str
    series: Sequence[Series]
    levels: Sequence[tuple[float, str]] = ()
    log_x: bool = False
    from_zero: bool = False


def svg(chart: Chart) -> str:
    """The chart as one SVG element, which stands alone as a file too."""
    frame = _frame(chart)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {_ATTRIBUTES}',
        f'aria-label="{escape(chart.title)}">{_STYLE}',
        f'<text class="ink" x="{LEFT}" y="20" font-weight="600">{escape(chart.title)}</text>',
        *_axes(chart, frame),
        *_levels(chart, frame),
    ]
    for index, series in enumerate(chart.series):
        parts += _series(series, PALETTE[index % len(PALETTE)], SHAPES[index % len(SHAPES)], frame)
    parts += [*_legend(chart), "</svg>"]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True)
class _Frame:
    low_x: float
    high_x: float
    low_y: float
    high_y: float
    log_x: bool
    labels: list[tuple[float, float]] = field(default_factory=list)

    def x(self, value: float) -> float:
        value = math.log10(value) if self.log_x else value
        return LEFT + (value - self.low_x) / (self.high_x - self.low_x) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        if not math.isfinite(value):
            return TOP + 6.0 if value > 0 else HEIGHT - BOTTOM - 6.0
        return HEIGHT - BOTTOM - (value - self.low_y) / (self.high_y - self.low_y) * (HEIGHT - TOP - BOTTOM)


def _frame(chart: Chart) -> _Frame:
    marks = [mark for series in chart.series for mark in series.marks]
    xs = [math.log10(mark.x) if chart.log_x else mark.x for mark in marks] or [0.0]
    ys = [mark.y for mark in marks if math.isfinite(mark.y)] + [level for level, _ in chart.levels]
    low_x, high_x = (0.0, 1.15 * max(xs)) if chart.from_zero else _widened(min(xs), max(xs))
    low_y, high_y = _widened(min(ys, default=0.0), max(ys, default=1.0))
    return _Frame(low_x, high_x, low_y, high_y, chart.log_x)


def _widened(low: float, high: float) -> tuple[float, float]:
    margin = 0.07 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """About six round numbers between ``low`` and ``high``."""
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough), 10 * unit)
    first = math.ceil(low / step)
    return [round(step * at, 12) for at in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between the powers ``low`` and ``high`` of ten: 1, 2 and 5 of each decade."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    numbers = [factor * 10.0**decade for decade in decades for factor in ((1, 2, 5) if high - low < 4 else (1,))]
    return [number for number in numbers if low <= math.log10(number) <= high]


def _axes(chart: Chart, frame: _Frame) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    ticks = _log_ticks(frame.low_x, frame.high_x) if chart.log_x else _ticks(frame.low_x, frame.high_x)
    for tick in ticks:
        x = frame.x(tick)
        yield f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>'
        yield f'<text class="ink" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>'
    for tick in _ticks(frame.low_y, frame.high_y):
        y = frame.y(tick)
        yield f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield f'<text class="ink" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    yield f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
    middle_x, middle_y = (LEFT + right) / 2, (TOP + bottom) / 2
    yield f'<text class="ink" x="{middle_x}" y="{HEIGHT - 14}" text-anchor="middle">{escape(chart.x)}</text>'
    turned = f'transform="rotate(-90 16 {middle_y})"'
    yield f'<text class="ink" x="16" y="{middle_y}" text-anchor="middle" {turned}>{escape(chart.y)}</text>'


def _levels(chart: Chart, frame: _Frame) -> Iterator[str]:
    for level, text in chart.levels:
        y = frame.y(level)
        yield f'<line class="axis" stroke-dasharray="5 4" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        yield f'<text class="ink" x="{WIDTH - RIGHT}" y="{y - 4:.1f}" text-anchor="end">{escape(text)}</text>'


def _series(series: Series, colour: str, shape: str, frame: _Frame) -> Iterator[str]:
    places = [(frame.x(mark.x), frame.y(mark.y)) for mark in series.marks]
    if series.line and len(places) > 1:
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
        path += "".join(f"H{x:.1f}V{y:.1f}" if series.steps else f"L{x:.1f} {y:.1f}" for x, y in places[1:])
        yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    for mark, (x, y) in zip(series.marks, places, strict=True):
        yield f'<g fill="{colour}"><title>{escape(mark.title)}</title>{_shape(shape, x, y, finite=mark.y)}</g>'
        if mark.label and len(frame.labels) < MOST_LABELS:
            to_left = x > WIDTH - RIGHT - 6 * len(mark.label)
            anchor = "end" if to_left else "start"
            place = f'x="{x + (-7 if to_left else 7):.1f}" y="{_free(frame, x, y):.1f}" text-anchor="{anchor}"'
            yield f'<text class="ink" {place} font-size="10">{escape(mark.label)}</text>'


def _free(frame: _Frame, x: float, y: float) -> float:
    """A height near ``y`` at which no label is yet."""
    offsets = [sign * 11.0 * step for step in range(12) for sign in (1, -1)]
    inside = [y + 4 + offset for offset in offsets if TOP <= y + 4 + offset <= HEIGHT - BOTTOM]
    taken = [other_y for other_x, other_y in frame.labels if abs(x - other_x) < 110]
    place = next((each for each in inside if all(abs(each - other) >= 11 for other in taken)), y + 4)
    frame.labels.append((x, place))
    return place


def _shape(shape: str, x: float, y: float, *, finite: float) -> str:
    if not math.isfinite(finite):  # an arrow to where the value is
        tip = -7 if finite > 0 else 7
        return f'<path d="M{x - 5:.1f} {y:.1f}H{x + 5:.1f}L{x:.1f} {y + tip:.1f}Z"/>'
    match shape:
        case "square":
            return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
        case "triangle":
            return f'<path d="M{x:.1f} {y - 5:.1f}L{x + 5:.1f} {y + 4:.1f}H{x - 5:.1f}Z"/>'
        case "diamond":
            return f'<path d="M{x:.1f} {y - 6:.1f}L{x + 5:.1f} {y:.1f}L{x:.1f} {y + 6:.1f}L{x - 5:.1f} {y:.1f}Z"/>'
        case _:
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'


def _legend(chart: Chart) -> Iterator[str]:
    named = [(index, series) for index, series in enumerate(chart.series) if series.name]
    x = float(WIDTH - RIGHT - sum(18 + 6.5 * len(series.name) for _, series in named))
    for index, series in named:
        colour = PALETTE[index % len(PALETTE)]
        yield f'<g fill="{colour}">{_shape(SHAPES[index % len(SHAPES)], x, 32, finite=0.0)}</g>'
        yield f'<text class="ink" x="{x + 8:.1f}" y="36" font-size="11">{escape(series.name)}</text>'
        x += 18 + 6.5 * len(series.name)
