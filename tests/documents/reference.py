"""Write the pages of the guide that are made of the code: the reference of initializers, and a plot of each.

python tests/documents/reference.py            write them
python tests/documents/reference.py --check    say which are stale, and end in status 1 if any is
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray
from torch import nn

import initplug
from initplug.language.idioms import LIBRARIES
from initplug.schemes.densities import Curve, curve
from initplug.schemes.gains import Nonlinearity
from initplug.schemes.initializers import REGISTRY
from initplug.schemes.laws import Distribution
from initplug.schemes.registry import Initializer, Reference

GUIDE = Path(__file__).parents[2] / "examples" / "guide"
PAGE = GUIDE / "initializers.md"
PLOTS = GUIDE / "plots"

SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "constant": ("constant 0.5", (64, 32, 3, 3)),
    "uniform": ("uniform -0.1 0.1", (64, 32, 3, 3)),
    "log_uniform": ("log_uniform 0.001 0.1", (64, 32, 3, 3)),
    "fan_uniform": ("fan_uniform", (64, 32, 3, 3)),
    "prior_bias": ("prior_bias", (80,)),
    "orthogonal": ("orthogonal", (16, 16)),
    "delta_orthogonal": ("delta_orthogonal", (8, 8, 3, 3)),
    "dirac": ("dirac", (8, 8, 3, 3)),
    "eye": ("eye", (16, 16)),
    "sparse": ("sparse 0.75", (16, 16)),
    "bilinear": ("bilinear", (4, 4, 4, 4)),
    "sincos": ("sincos", (16, 16)),
    "arange": ("arange start=1", (16, 16)),
    "default": ("default", (64, 32, 3, 3)),
}
"""What is shown of an initializer, where it is not its name alone on a convolution of 32 to 64 channels."""

USUAL = (64, 32, 3, 3)
HELD = ("copy", "load", "keep")
"""Initializers whose values come from elsewhere: there is nothing to plot."""

WIDTH, HEIGHT, MARGIN = 300, 120, 24
LINE, INK = "#3f6fb5", "#808080"  # seen on white and on black


# Plots ------------------------------------------------------------------------------------------------------


def svg(parts: Sequence[str], width: int, height: int, title: str) -> str:
    """Return a picture of its parts."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = f'font-family="sans-serif" font-size="10" fill="{INK}"'
    return "\n".join([f"{head} {style}>", f"<title>{title}</title>", *parts, "</svg>", ""])


def density_plot(drawn: Curve, title: str) -> str:
    """Return the density of one element; values that many elements share are spikes."""
    atoms = [value for value, _ in drawn.atoms]
    low, high = min([*drawn.x, *atoms]), max([*drawn.x, *atoms])
    if low == high:  # a constant: as much room as from 0 to it, on both sides
        room = abs(low) or 1.0
        low, high = low - room, high + room
    top = max(drawn.y, default=0.0) or 1.0
    base = HEIGHT - MARGIN

    def x(value: float) -> float:
        return MARGIN + (value - low) / (high - low) * (WIDTH - 2 * MARGIN)

    parts = [f'<path d="M{MARGIN} {base}H{WIDTH - MARGIN}" stroke="{INK}" stroke-width="1"/>']
    if drawn.x:
        points = [f"{x(at):.1f},{base - y / top * (base - 10):.1f}" for at, y in zip(drawn.x, drawn.y, strict=True)]
        look = f'fill="{LINE}" fill-opacity="0.2" stroke="{LINE}" stroke-width="1.5"'
        parts.append(f'<polyline points="{" ".join(points)}" {look}/>')
    for value, share in drawn.atoms:
        place, height = x(value), base - share * (base - 10)
        parts.append(f'<path d="M{place:.1f} {base}V{height:.1f}" stroke="{LINE}" stroke-width="3"/>')
    middle = drawn.atoms[0][0] if not drawn.x else None
    ticks = (low, high) if middle is None else (low, middle, high)
    parts += [f'<text x="{x(at):.1f}" y="{base + 13}" text-anchor="middle">{at:.3g}</text>' for at in ticks]
    return svg(parts, WIDTH, HEIGHT, title)


CELL = 7


def value_plot(values: NDArray[np.float32], title: str) -> str:
    """Return a matrix as squares, blue below 0 and red above; further dimensions lie inside each element."""
    if values.ndim == 4:
        out, into, rows, columns = values.shape
        matrix = values.transpose(0, 2, 1, 3).reshape(out * rows, into * columns)
    else:
        matrix = values
    largest = float(np.abs(matrix).max()) or 1.0
    squares: dict[tuple[str, int], str] = {}  # one path for all of a shade
    for row, line in enumerate(matrix):
        for column, value in enumerate(line):
            level = round(abs(float(value)) / largest * 8)
            if level:
                shade = ("#c0392b" if value > 0 else LINE, level)
                squares[shade] = f"{squares.get(shade, '')}M{column * CELL} {row * CELL}h{CELL}v{CELL}h-{CELL}z"
    parts = [
        f'<path d="{path}" fill="{colour}" fill-opacity="{level / 8}"/>'
        for (colour, level), path in sorted(squares.items())
    ]
    height, width = (CELL * size for size in matrix.shape)
    parts.append(f'<path d="M0 0H{width}V{height}H0Z" fill="none" stroke="{INK}"/>')
    return svg(parts, width, height, title)


# What an initializer gives ----------------------------------------------------------------------------------


class Held(nn.Module):
    """A module with one weight, a convolution of one kind or another."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))


def planned(text: str, shape: tuple[int, ...]) -> initplug.Assignment:
    """Return the row of a plan that gives a tensor of this shape an initializer."""
    model = nn.Conv2d(shape[1], shape[0], shape[2], bias=False) if text == "default" else Held(shape)
    return initplug.plan(model, {"rules": {"*": text}})["weight"]


def drawn(text: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the values of a tensor of this shape under seed 0."""
    model = Held(shape)
    initplug.apply(model, {"rules": {"*": text}}, seed=0)
    return model.weight.detach().numpy()


def shown(name: str) -> tuple[str, tuple[int, ...]]:
    """Return the text and the shape by which an initializer is shown."""
    return SHAPES.get(name, (name, USUAL))


def plot(name: str) -> str | None:
    """Return the picture of an initializer; None where its values come from elsewhere."""
    if name in HELD:
        return None
    text, shape = shown(name)
    found = density_of(planned(text, shape))
    title = f"{text} of {'×'.join(map(str, shape))}"
    return value_plot(drawn(text, shape), title) if is_structure(name) or found is None else density_plot(found, title)


def density_of(row: initplug.Assignment) -> Curve | None:
    """Return the density of one element, if there is one."""
    return curve(row.distribution) if isinstance(row.distribution, Distribution) else None


def is_structure(name: str) -> bool:
    """Return whether the elements of an initializer belong together."""
    return REGISTRY[name].home.startswith("initplug.schemes.structures")


def number(value: float | None) -> str:
    """Return a number as the page shows it; None is what no bound ends."""
    return "∞" if value is None else f"{value:.4g}".replace("inf", "∞")


def moments(name: str) -> str | None:
    """Return what an initializer gives the tensor by which it is shown; None where that is not known before."""
    if name in HELD:
        return None
    text, shape = shown(name)
    row = planned(text, shape)
    size = "×".join(map(str, shape))
    if row.mean is None or row.std is None:
        return f"`{text}` for {size}"
    low, high = row.low, row.high
    alone = density_of(row) is not None and not is_structure(name)
    bounds = f", between {number(low)} and {number(high)}" if alone and low != high else ""
    bounds = "" if "∞" in bounds else bounds
    fans = f" (fan_in {row.fan_in}, fan_out {row.fan_out})" if alone and len(shape) > 1 else ""
    return f"`{text}` for {size}{fans}: mean {number(row.mean)}, std {number(row.std)}{bounds}"


# The page ---------------------------------------------------------------------------------------------------


def kind_text(annotation: Any) -> str:
    """Return what an argument takes, in words."""
    if annotation is Reference:
        return "a reference"
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        if {int, float} <= {*parts}:
            parts.remove(int)
        return ", or ".join(kind_text(part) for part in parts)
    if annotation == Nonlinearity:
        return "[a nonlinearity](language.md#initializers)"
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in get_args(annotation))
    if origin is Annotated:
        base, *limits = get_args(annotation)
        signs = {Gt: ("above", "gt"), Ge: ("at least", "ge"), Lt: ("below", "lt"), Le: ("at most", "le")}
        told = [f"{signs[type(one)][0]} {getattr(one, signs[type(one)][1])}" for one in limits]
        return f"{kind_text(base)} {' and '.join(told)}"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[annotation]


def sections(function: Any) -> dict[str, str]:
    """Return the parts of a docstring by their headings; what stands before the first is `""`."""
    found: dict[str, list[str]] = {"": []}
    heading = ""
    for line in (inspect.getdoc(function) or "").splitlines():
        begun = re.fullmatch(r"(Args|Raises|Example|Source):(?: (.*))?", line)
        if begun:
            heading = begun[1]
            found[heading] = [begun[2]] if begun[2] else []
        else:
            found[heading].append(line)
    return {name: textwrap.dedent("\n".join(lines)).strip() for name, lines in found.items()}


def described(text: str) -> dict[str, str]:
    """Return the lines of a section `Args` or `Raises`, by their names."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        begun = re.fullmatch(r"(\w+): (.*)", line)
        if begun:
            name, found[begun[1]] = begun[1], begun[2]
        elif line.strip():
            found[name] += f" {line.strip()}"
    return found


def cell(text: str) -> str:
    """Return a text as a cell of a table holds it."""
    return text.replace("|", "\\|")


def argument_rows(initializer: Initializer) -> Iterator[str]:
    """Yield the table of arguments."""
    said = described(sections(initializer.function).get("Args", ""))
    if not initializer.parameters:
        return
    yield from ("", "| argument | takes | default | |", "|---|---|---|---|")
    for name, parameter in initializer.parameters.items():
        default = "" if parameter.required else "none" if parameter.default is None else f"`{parameter.default}`"
        yield f"| `{name}` | {cell(kind_text(parameter.annotation))} | {default} | {cell(said.get(name, ''))} |"
    if initializer.bare:
        names = " and ".join(f"`{name}`" for name in initializer.bare)
        yield from ("", f"In a text bare numbers go to {names}.")


def library_of(library: str, name: str) -> str:
    """Return the column of a name: TensorFlow's own are those of its first version."""
    return "TensorFlow 1" if library == "Keras" and name.endswith("_initializer") else library


def elsewhere(name: str) -> dict[str, str]:
    """Return the names that an initializer has in other libraries, those first that mean it without arguments."""
    found: dict[str, dict[str, list[str]]] = {}
    for library in LIBRARIES:
        for foreign, said in library.names.items():
            for here in said.partition(";")[0].split(" or "):
                if here.partition(" ")[0] == name:
                    given = "" if here == name or "…" in here else here
                    column = found.setdefault(library_of(library.name, foreign), {})
                    column.setdefault(given, []).append(f"`{foreign}`")
    told: dict[str, str] = {}
    for library_name, column in found.items():
        parts = [", ".join(names) + (f" for `{given}`" if given else "") for given, names in sorted(column.items())]
        told[library_name] = ", ".join(parts)
    return told


def entry(name: str) -> Iterator[str]:
    """Yield the lines of one initializer."""
    initializer = REGISTRY[name]
    parts = sections(initializer.function)
    yield from ("", f"## `{name}`", "", *parts[""].splitlines())
    known = moments(name)
    if plot(name) is not None:
        yield from ("", f"![{shown(name)[0]}](plots/{name}.svg)")
    if known is not None:
        yield from ("", known)
    yield from argument_rows(initializer)
    refused = parts.get("Raises", "").removeprefix("ValueError: ")
    if refused:
        yield from ("", "Refused: " + " ".join(refused.split()))
    names = elsewhere(name)
    if names:
        yield from ("", "| elsewhere | |", "|---|---|")
        yield from (f"| {library} | {cell(text)} |" for library, text in names.items())
    if "Source" in parts:
        yield from ("", "Source: " + " ".join(parts["Source"].split()))


OPENING = """<!-- written by `make reference` -->
# Initializers

Every initializer that a recipe may name, as the code has it: what it gives, its moments for one tensor, its arguments,
and what other libraries call it. Where a name means other arguments there, what gives the same here stands beside it.
What all of them take beside their own arguments (`fans`, `factor`, `split`, `batch_dims`) is in
[the language](language.md#initializers).

The pictures show the density of one element; where elements belong together, they show a tensor that was drawn under
seed 0, red above 0 and blue below.
"""


def page() -> str:
    """Return the reference of initializers."""
    built_in = [name for name, one in REGISTRY.items() if one.built_in]
    links = " · ".join(f"[`{name}`](#{name})" for name in sorted(built_in))
    lines = [OPENING, links, *(line for name in sorted(built_in) for line in entry(name))]
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """Return what the files hold that this script writes."""
    plots = {PLOTS / f"{name}.svg": plot(name) for name, one in sorted(REGISTRY.items()) if one.built_in}
    return {PAGE: page(), **{path: text for path, text in plots.items() if text is not None}}


def stale() -> list[str]:
    """Return the files that are not what the code says, those among them that nothing speaks of any more."""
    wanted = files()
    there = {PAGE, *PLOTS.glob("*.svg")}
    return sorted(
        path.relative_to(GUIDE).as_posix()
        for path in there | wanted.keys()
        if not path.is_file() or path.read_text() != wanted.get(path)
    )


def main() -> int:
    """Write the pages, or check them."""
    if "--check" in sys.argv:
        found = stale()
        print(*(f"{name} is stale: make reference" for name in found), sep="\n", end="\n" if found else "")
        return int(bool(found))
    PLOTS.mkdir(exist_ok=True)
    for path in PLOTS.glob("*.svg"):
        path.unlink()
    for path, text in files().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
