"""Small charts as inline SVG: lines and histograms. They take their colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from gsegkit.progress import number

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 24
MAX_POINTS = 400  # per line; more cannot be seen
SMOOTH_FROM = 40  # shorter lines are drawn as they are

Point = tuple[float, float]


def line_chart(series: Mapping[str, Sequence[Point]], title: str, x_name: str = "step") -> Markup:
    """Lines over a shared x axis.

    Long lines are drawn twice: faint as measured, and smoothed. Points that are not finite are left out.

    Args:
        series: name -> (x, y) points in the order of x.
        title: what it shows, for readers who cannot see it.
        x_name: what x is.
    """
    lines = {
        name: [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])] for name, points in series.items()
    }
    points = [point for line in lines.values() for point in line]
    if not points:
        return Markup("")
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    frame = _Frame(min(xs), max(xs), min(ys), max(ys))
    parts = [frame.axes(x_name)]
    for index, (name, line) in enumerate(lines.items()):
        if not line:
            continue
        thin = _thin(line)
        if len(thin) >= SMOOTH_FROM:
            parts.append(frame.path(thin, f"line faint s{index % 6}", name))
            thin = _smooth(thin)
        parts.append(frame.path(thin, f"line s{index % 6}", name))
    return _svg(title, parts)


def histogram(values: Sequence[float], title: str, bins: int = 30) -> Markup:
    """Bars that count values, with a mark at the median; values that are not finite are left out."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return Markup("")
    low, high = finite[0], finite[-1]
    if high <= low:  # all equal: one bar in the middle
        low, high = low - 0.5, high + 0.5
    counts = [0] * bins
    for value in finite:
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    frame = _Frame(low, high, 0.0, float(max(counts)), padded=False)
    parts = [frame.axes("")]
    step = (high - low) / bins
    for i, count in enumerate(counts):
        if count:
            x0, x1, y = frame.x(low + i * step), frame.x(low + (i + 1) * step), frame.y(count)
            text = f"{number(low + i * step)} to {number(low + (i + 1) * step)}: {count}"
            parts.append(
                Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
                    _at(x0 + 0.5), _at(y), _at(max(x1 - x0 - 1, 0.5)), _at(HEIGHT - BOTTOM - y), text
                )
            )
    median = frame.x(finite[len(finite) // 2])
    mark = '<line class="median" x1="{0}" x2="{0}" y1="{1}" y2="{2}"><title>median {3}</title></line>'
    parts.append(Markup(mark).format(_at(median), TOP, HEIGHT - BOTTOM, number(finite[len(finite) // 2])))
    return _svg(title, parts)


class _Frame:
    """Maps values to the drawing, and draws its axes."""

    def __init__(self, x0: float, x1: float, y0: float, y1: float, padded: bool = True) -> None:
        margin = (y1 - y0) * 0.05 if padded else 0.0
        self.x0, self.x1 = (x0, x1) if x1 > x0 else (x0 - 0.5, x1 + 0.5)
        self.y0, self.y1 = (
            (y0 - margin, y1 + margin) if y1 > y0 else (y0 - abs(y0) * 0.1 - 1e-9, y1 + abs(y1) * 0.1 + 1e-9)
        )

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)

    def axes(self, x_name: str) -> Markup:
        parts = []
        for value in _ticks(self.y0, self.y1, 4):
            row = '<line class="rule" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="y" x="{}" y="{}">{}</text>'
            y = _at(self.y(value))
            parts.append(Markup(row).format(LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y, number(value)))
        ticks = _ticks(self.x0, self.x1, 5)
        for value in ticks:
            label = f"{number(value)} {x_name}" if x_name and value == ticks[-1] else number(value)
            end = " end" if self.x(value) > WIDTH - 40 else ""
            row = '<text class="x{}" x="{}" y="{}">{}</text>'
            parts.append(Markup(row).format(end, _at(min(self.x(value), WIDTH - 2)), HEIGHT - 6, label))
        return Markup("").join(parts)

    def path(self, points: Sequence[Point], style: str, name: str) -> Markup:
        if len(points) == 1:
            dot = '<circle class="dot {}" cx="{}" cy="{}" r="3"><title>{}: {}</title></circle>'
            x, y = points[0]
            return Markup(dot).format(style, _at(self.x(x)), _at(self.y(y)), name, number(y))
        steps = " ".join(f"{_at(self.x(x))},{_at(self.y(y))}" for x, y in points)
        line = '<polyline class="{}" points="{}"><title>{}: last {}</title></polyline>'
        return Markup(line).format(style, steps, name, number(points[-1][1]))


def _svg(title: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        WIDTH, HEIGHT, escape(title)
    )
    return head + Markup("").join(parts) + Markup("</svg>")


def _at(value: float) -> str:
    return f"{value:.1f}"


def _thin(points: Sequence[Point]) -> list[Point]:
    stride = -(-len(points) // MAX_POINTS)
    thin = list(points[::stride])
    return thin if not points or thin[-1] == points[-1] else [*thin, points[-1]]


def _smooth(points: Sequence[Point]) -> list[Point]:
    """Mean over a centred window of a tenth of the line, shorter at the ends."""
    half = max(len(points) // 20, 1)
    smooth = []
    for i, (x, _) in enumerate(points):
        reach = min(half, i, len(points) - 1 - i)
        window = [y for _, y in points[i - reach : i + reach + 1]]
        smooth.append((x, sum(window) / len(window)))
    return smooth


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round values inside [low, high], about `count` of them."""
    rough = (high - low) / count
    if not rough > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]
