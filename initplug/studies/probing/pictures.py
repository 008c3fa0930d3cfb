"""The classical picture, std against depth with a line for each recipe: as sparklines, as SVG, and as PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from os import PathLike
from typing import Any, NamedTuple

from initplug.errors import InitplugError, cut, visible
from initplug.studies.probing.traces import Trace
from initplug.tables.files import check_path
from initplug.tables.replacement import replacing
from initplug.tables.text import terminal_width

COLOURS = ("#8a8f98", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a")
"""Of lines, in the order of recipes: Okabe and Ito's, which tell apart without red and green."""

BARS = "▁▂▃▄▅▆▇█"
NOTHING, BROKEN = "·", "×"
"""The signs for zero, and for NaN and infinities, on a scale of logarithms."""

WIDEST = 160
"""Columns that sparklines take of what is no terminal."""


class Curve(NamedTuple):
    """The numbers of one trace from station to station.

    Args:
        name: of the trace.
        values: None where there is none.
    """

    name: str
    values: tuple[float | None, ...]

    @property
    def drawn(self) -> list[tuple[int, float]]:
        """The points that a scale of logarithms has."""
        return [(place, value) for place, value in enumerate(self.values) if value]


class Panel(NamedTuple):
    """One quantity against depth.

    Args:
        title: of the panel.
        curves: one for each trace.
        dashed: of the same traces, drawn thinner in the same panel.
    """

    title: str
    curves: tuple[Curve, ...]
    dashed: tuple[Curve, ...] = ()

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest value; None where nothing is drawn."""
        values = [value for curve in (*self.curves, *self.dashed) for _, value in curve.drawn]
        return (min(values), max(values)) if values else None


def panels(traces: Sequence[Trace]) -> list[Panel]:
    """Return what is drawn: std and signal forward, std of gradients backward."""
    std = tuple(Curve(one.name, tuple(station.layer.std for station in one.stations)) for one in traces)
    signal = tuple(Curve(one.name, tuple(station.layer.signal for station in one.stations)) for one in traces)
    gradient = tuple(Curve(one.name, tuple(station.layer.gradient for station in one.stations)) for one in traces)
    return [Panel("std of activations", std, signal), Panel("std of gradients", gradient)]


# Terminal ---------------------------------------------------------------------------------------------------


def sparklines(traces: Sequence[Trace], *, width: int | None = None) -> str:
    """Return lines of bars on a common scale of logarithms, one for each trace, as wide as a terminal.

    Args:
        traces: to be drawn.
        width: in characters; the terminal's unless given.
    """
    width = min(width or terminal_width(), WIDEST)
    forward, backward = panels(traces)
    drawn = [(forward.title, forward.curves), ("std between inputs", forward.dashed), (backward.title, backward.curves)]
    blocks = [text for title, curves in drawn if (text := _spark_panel(title, curves, width))]
    if not blocks:
        return ""
    longest = _longest(traces)
    unit = f"{len(longest.stations)} {longest.unit}{'' if len(longest.stations) == 1 else 's'}"
    ends = f"{longest.stations[0].name} → {longest.stations[-1].name}"
    return "\n".join([_fitting(visible(f"against depth, {unit}: {ends}"), width), *blocks])


def _spark_panel(title: str, curves: Sequence[Curve], width: int) -> str:
    bounds = Panel(title, tuple(curves)).bounds
    if bounds is None:
        return ""
    low, high = bounds
    label = min(max(len(curve.name) for curve in curves), max(width // 4, 8))
    tail = len("0.0001234 → 0.0001234")
    room = max(width - label - tail - 4, 8)
    lines = [f"{title}, from {low:.2g} to {high:.2g}"]
    for curve in curves:
        bars = "".join(_bar(value, low, high) for value in _resampled(curve.values, room))
        ends = [_end(value) for value in (curve.values[0], curve.values[-1])] if curve.values else ["–", "–"]
        lines.append(f" {cut(curve.name, label):{label}}  {bars:{min(len(curve.values), room)}} {ends[0]} → {ends[1]}")
    return "\n".join(_fitting(line, width) for line in lines)


def _end(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _fitting(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def _resampled(values: Sequence[float | None], room: int) -> list[float | None]:
    """Return as many values as there is room for, evenly taken, the first and the last among them."""
    if len(values) <= room:
        return list(values)
    return [values[round(place * (len(values) - 1) / (room - 1))] for place in range(room)]


def _bar(value: float | None, low: float, high: float) -> str:
    """Return the bar of a value on a scale of logarithms.

    Example:
        >>> "".join(_bar(value, 1e-4, 1.0) for value in (1e-4, 1e-2, 1.0, 0.0, None))
        '▁▅█·×'
    """
    if value is None:
        return BROKEN
    if value == 0:
        return NOTHING
    if high <= low * 1.05:  # a line that is flat to a twentieth
        return BARS[3]
    place = math.log(value / low) / math.log(high / low)
    return BARS[min(int(place * len(BARS)), len(BARS) - 1)]


# SVG --------------------------------------------------------------------------------------------------------

LEFT, RIGHT, TOP, BOTTOM, HEIGHT, GAP = 62, 14, 30, 44, 210, 34
LEAST_DECADES = 2.0
"""Powers of ten that an axis shows at least: what is flat is to look flat."""

STYLE = (
    ".probe{max-width:100%;height:auto}"
    ".probe text{font:12px 'DejaVu Sans',Verdana,Arial,sans-serif;fill:var(--soft,#40454d)}"
    ".probe .grid{stroke:var(--line,#dfe2e6);stroke-width:1}.probe .axis{stroke:var(--soft,#b0b5bd);stroke-width:1}"
    ".probe polyline{fill:none;stroke-width:2;stroke-linejoin:round}"
    ".probe .between{stroke-width:1.2;stroke-dasharray:4 3}"
)


def svg(traces: Sequence[Trace], *, title: str, told: str = "", width: int = 720) -> str:
    """Return the picture as SVG text of its own, which a page can hold inline.

    Args:
        traces: to be drawn.
        title: for those who do not see it, as is what is `told`.
        told: what the picture shows, in words.
        width: in pixels; both panels share it.
    """
    shown = [panel for panel in panels(traces) if panel.bounds is not None]
    names = [trace.name for trace in traces]
    legend, rows = _legend(names, width)
    top = TOP + 20 * rows
    inner = (width - GAP * (len(shown) - 1)) / max(len(shown), 1)
    parts = [
        _panel(panel, left=place * (inner + GAP), top=top, width=inner, trace=_longest(traces))
        for place, panel in enumerate(shown)
    ]
    height = top + HEIGHT + BOTTOM
    return (
        f'<svg class="probe" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(visible(told))}</desc>"
        f"<style>{STYLE}</style>{legend}{''.join(parts)}</svg>\n"
    )


def _longest(traces: Sequence[Trace]) -> Trace:
    return max(traces, key=lambda trace: len(trace.stations))


def _legend(names: Sequence[str], width: int) -> tuple[str, int]:
    """Return the names beside their colours, in as many rows as they take."""
    parts, left, row = [], LEFT * 1.0, 0
    for place, name in enumerate(names):
        text = cut(visible(name), 60)
        size = 30 + 7.3 * len(text)
        if left + size > width and left > LEFT:
            left, row = LEFT * 1.0, row + 1
        y = 14 + 20 * row
        colour = COLOURS[place % len(COLOURS)]
        parts.append(
            f'<line x1="{left:.0f}" x2="{left + 20:.0f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{left + 26:.0f}" y="{y + 4}">{escape(text)}</text>'
        )
        left += size + 16
    return "".join(parts), row + 1


def _panel(panel: Panel, *, left: float, top: float, width: float, trace: Trace) -> str:
    bounds = panel.bounds
    assert bounds is not None  # which is asked before
    low, high = _decades(*bounds)
    begin, end = left + LEFT, left + width - RIGHT
    longest = max(len(curve.values) for curve in panel.curves)

    def x(place: int) -> float:
        return begin + (end - begin) * place / max(longest - 1, 1)

    def y(value: float) -> float:
        return top + HEIGHT * (high - math.log10(value)) / (high - low)

    parts = [f'<text x="{begin:.0f}" y="{top - 10:.0f}" font-weight="bold">{escape(panel.title)}</text>']
    for decade in _ticks(low, high):
        level = y(10.0**decade)
        parts.append(f'<line class="grid" x1="{begin:.1f}" x2="{end:.1f}" y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(f'<text x="{begin - 6:.0f}" y="{level + 4:.1f}" text-anchor="end">{_power_of_ten(decade)}</text>')
    parts.append(f'<line class="axis" x1="{begin:.1f}" x2="{end:.1f}" y1="{top + HEIGHT}" y2="{top + HEIGHT}"/>')
    parts += [
        f'<text x="{x(place):.1f}" y="{top + HEIGHT + 16}" text-anchor="middle">{place + 1}</text>'
        for place in _marks(longest)
    ]
    label = "dashed: std between inputs" if panel.dashed else ""
    under = f"{trace.unit}{', ' + label if label else ''}"
    middle = (begin + end) / 2
    parts.append(f'<text x="{middle:.0f}" y="{top + HEIGHT + 34}" text-anchor="middle">{under}</text>')
    for curves, marked in ((panel.dashed, ' class="between"'), (panel.curves, "")):
        for place, curve in enumerate(curves):
            points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in curve.drawn)
            colour = COLOURS[place % len(COLOURS)]
            parts.append(
                f'<polyline{marked} stroke="{colour}" points="{points}"><title>{escape(visible(curve.name))}</title>'
                "</polyline>"
            )
    return "".join(parts)


def _decades(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis in powers of ten, a little beyond what it shows."""
    begin, end = math.log10(low), math.log10(high)
    spare = max((LEAST_DECADES - (end - begin)) / 2, 0.04 * (end - begin))
    return begin - spare, end + spare


def _ticks(low: float, high: float) -> list[int]:
    """Return the whole powers of ten between two, at most seven."""
    every = max(math.ceil((high - low) / 6), 1)
    return [decade for decade in range(math.ceil(low), math.floor(high) + 1) if decade % every == 0]


def _marks(count: int) -> list[int]:
    """Return at most eight places of an axis."""
    every = max(math.ceil(count / 7), 1)
    return list(range(0, count, every))


def _power_of_ten(decade: int) -> str:
    """Return a power of ten as it is written.

    Example:
        >>> _power_of_ten(-12), _power_of_ten(0), _power_of_ten(2)
        ('10⁻¹²', '1', '100')
    """
    if 0 <= decade <= 2:
        return str(10**decade)
    if decade == -1:
        return "0.1"
    return "10" + str(decade).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


# PNG --------------------------------------------------------------------------------------------------------


def save_png(traces: Sequence[Trace], path: str | PathLike[str]) -> None:
    """Write the picture as PNG, which matplotlib draws.

    Raises:
        InitplugError: matplotlib is not installed, or the path cannot be written.
    """
    target = check_path(path, (".png",))
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InitplugError(
            f"{visible(str(target))}: matplotlib draws PNG and is not installed: pip install matplotlib, or save .svg"
        ) from None
    shown = [panel for panel in panels(traces) if panel.bounds is not None]
    figure = Figure(figsize=(1 + 4.2 * max(len(shown), 1), 3.6), layout="constrained")
    axes: list[Any] = list(figure.subplots(1, max(len(shown), 1), squeeze=False).flat)
    for axis, panel in zip(axes, shown, strict=False):
        _draw(axis, panel, _longest(traces).unit)
    if shown:
        handles = [line for line in axes[0].get_lines() if not line.get_label().startswith("_")]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 4), frameon=False)
    with replacing(target) as file:
        figure.savefig(file, format="png", dpi=150)


def _draw(axis: Any, panel: Panel, unit: str) -> None:
    """Draw a panel by matplotlib."""
    bounds = panel.bounds
    assert bounds is not None  # which is asked before
    low, high = _decades(*bounds)
    axis.set_yscale("log")
    axis.set_ylim(10**low, 10**high)
    axis.set_title(panel.title, loc="left", fontsize=11)
    axis.set_xlabel(unit + (", dashed: std between inputs" if panel.dashed else ""))
    axis.grid(axis="y", color="#eceef1")
    axis.spines[["top", "right"]].set_visible(False)
    for style, curves in (({"linestyle": "--", "linewidth": 1.0}, panel.dashed), ({"linewidth": 2.0}, panel.curves)):
        for place, curve in enumerate(curves):
            label = f"_{curve.name}" if style.get("linestyle") else visible(curve.name).lstrip("_") or "trace"
            points = curve.drawn
            colour = COLOURS[place % len(COLOURS)]
            axis.plot([at + 1 for at, _ in points], [value for _, value in points], color=colour, label=label, **style)
