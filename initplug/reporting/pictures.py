"""Pictures of a page: inline SVG in the colours of the page, with a title and a description for who cannot see them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import takewhile
from typing import Any

from initplug.errors import VALUE, cut
from initplug.reporting.wording import compact, number, plural, whole

OWN = "the model"
"""The name of a group: parameters that are no module's below the root."""

WIDTH, HEIGHT = 1000, 300
"""Units of a plot, which is stretched to the room that there is; texts and strokes are not."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture beside the table of a page.

    Args:
        name: an identifier, of letters and hyphens.
        title: its heading, a text.
        html: what it shows, as markup that holds no script; names in it are escaped.
        data: the numbers that it was drawn from; they stand in the page's block of data under `pictures`.
    """

    name: str
    title: str
    html: str
    data: Any = None


def drawn(picture: Picture) -> str:
    """Return the markup of a picture.

    Example:
        >>> drawn(Picture("of-depth", "a < b", "<svg></svg>"))
        '<figure class="picture" id="of-depth"><h2>a &lt; b</h2><svg></svg></figure>'
    """
    return (
        f'<figure class="picture" id="{escape(picture.name)}"><h2>{escape(picture.title)}</h2>{picture.html}</figure>'
    )


def of_modules(parts: Sequence[Mapping[str, Any]]) -> Picture:
    """Return bars of the elements of each module.

    Args:
        parts: with `name`, `slots` and `numel`.
    """
    total, most = sum(part["numel"] for part in parts), max((part["numel"] for part in parts), default=0)
    lines = []
    above = _common([part["name"] for part in parts if part["name"] != OWN])
    for part in parts:
        share = part["numel"] / total if total else 0.0
        label, short = (escape(cut(text, VALUE)) for text in (part["name"], part["name"].removeprefix(above)))
        counts = f"{plural(part['slots'], 'parameter')}, {plural(part['numel'], 'element')}"
        told = f"{label}: {counts}, {number(100 * share, 2)} %"
        width = number(100 * part["numel"] / most if most else 0.0)
        lines.append(
            f'<li title="{told}"><span class="name">{_ends(short)}</span>'
            '<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img">'
            f'<title>{told}</title><rect width="{width}" height="10"/></svg>'
            f"<span>{compact(part['numel'])}</span></li>"
        )
    return Picture("of-modules", "Where the elements are", f"<ol>{''.join(lines)}</ol>", [*parts])


def _ends(name: str) -> str:
    """Return a name of which the end is left where there is little room: names differ at their ends."""
    head, dot, tail = name.rpartition(".")
    return f'<bdi>{head}</bdi><bdi class="tail">{dot}{tail}</bdi>' if head else f"<bdi>{tail}</bdi>"


def _common(names: Sequence[str]) -> str:
    """Return the leading segments, with their dots, that all names have."""
    parts = [name.split(".")[:-1] for name in names]
    shared = list(takewhile(lambda same: len({*same}) == 1, zip(*parts, strict=False)))
    return "".join(f"{same[0]}." for same in shared) if len(names) > 1 else ""


def of_depth(kinds: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Return a plot of standard deviations against depth, on a scale of powers; None where there is nothing to draw.

    Args:
        kinds: with `kind`, and of every point `places`, `expected` and `measured`.
    """
    values = [value for kind in kinds for key in ("expected", "measured") for value in kind[key] if value]
    if not values:
        return None
    low, high = math.log10(min(values)), math.log10(max(values))
    middle, room = (low + high) / 2, max(high - low, 0.3) / 2 * 1.12
    low, high = middle - room, middle + room
    last = max(max(kind["places"]) for kind in kinds)

    def x(place: float) -> float:
        return WIDTH * (0.02 + 0.96 * place / last) if last else WIDTH / 2

    def y(value: float) -> float:
        return HEIGHT * (1 - (math.log10(value) - low) / (high - low))

    ticks = _ticks(low, high)
    grid = "".join(f"M0 {y(tick):.1f}H{WIDTH}" for tick in ticks)
    paths, legend = [], []
    for color, kind in enumerate(kinds):
        name = escape(cut(kind["kind"], VALUE))
        marks = ""
        for key, mark in (("expected", "h22"), ("measured", "h0")):
            told = [
                f"M{x(place) - (11 if key == 'expected' else 0):.1f} {y(value):.1f}{mark}"
                for place, value in zip(kind["places"], kind[key], strict=True)
                if value
            ]
            marks += f'<path class="{key}" d="{"".join(told)}"/>' if told else ""
        paths.append(f'<g class="k{color}"><title>{name}</title>{marks}</g>')
        legend.append(f'<span class="k{color}"><i></i><bdi>{name}</bdi></span>')
    span = f"from {number(min(values))} to {number(max(values))}"
    about = f"Standard deviations {span} over {plural(last + 1, 'layer')}: {', '.join(_told(kind) for kind in kinds)}"
    sides = "".join(f'<span style="top:{100 * y(tick) / HEIGHT:.1f}%">{number(tick)}</span>' for tick in ticks)
    html = (
        f'<div class="plot"><div class="scale" aria-hidden="true">{sides}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        'aria-labelledby="depth-title depth-desc">'
        f'<title id="depth-title">Standard deviation against depth</title><desc id="depth-desc">{about}</desc>'
        f'<path class="grid" d="{grid}"/>{"".join(paths)}</svg></div>'
        f'<p class="ends" aria-hidden="true"><span>first layer</span><span>layer {whole(last + 1)}</span></p>'
        f'<p class="legend">{"".join(legend)}{_keys(kinds)}</p>'
    )
    return Picture("of-depth", "Standard deviation against depth, by kind of layer", html, [*kinds])


def _keys(kinds: Sequence[Mapping[str, Any]]) -> str:
    """Return which mark is which, of those that are drawn."""
    marks = (("measured", "dot"), ("expected", "dash"))
    drawn = [(key, mark) for key, mark in marks if any(value for kind in kinds for value in kind[key])]
    return "".join(f'<span class="key"><i class="{mark}"></i>{key}</span>' for key, mark in drawn)


def _told(kind: Mapping[str, Any]) -> str:
    values = [value for key in ("measured", "expected") for value in kind[key] if value]
    name = escape(cut(kind["kind"], VALUE))
    first, last = values[0], ([value for value in kind["measured"] if value] or values)[-1]
    return f"{name} {number(first)}" if number(first) == number(last) else f"{name} {number(first)} to {number(last)}"


STEPS = (
    (1,),
    (1, 2, 5),
    (1, 1.5, 2, 3, 4, 5, 7),
    (1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9),
)
"""Round numbers up to ten, the coarsest first."""


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two powers of ten, at most about six."""
    every = max(1, math.ceil((high - low) / 6))
    powers = range(max(math.floor(low), -307), min(math.ceil(high), 306) + 1, every)  # which doubles hold
    found: list[float] = []
    for steps in STEPS:
        found = [step * 10.0**power for power in powers for step in steps]
        found = [tick for tick in found if low <= math.log10(tick) <= high]
        if len(found) > 2:
            break
    return found
