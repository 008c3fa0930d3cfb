"""The `Probe`: the traces of one or several passes side by side, with verdicts, tables and growth with width."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from initplug._version import __version__
from initplug.errors import did_you_mean, visible
from initplug.reporting.documents import Document
from initplug.studies.probing.pictures import save_png, sparklines, svg
from initplug.studies.probing.traces import KEYS, Layer, Trace
from initplug.studies.probing.verdicts import Verdict, judged
from initplug.tables.files import to_markdown
from initplug.tables.text import UNBOUNDED, WIDE, Column, table, terminal_width

STEADY = 0.25
"""The exponent up to which a layer keeps its scale: one draw of narrow layers has as much by chance, √width is 0.5."""


if TYPE_CHECKING:
    from initplug.reporting.page import Report

PAGE = 960
"""Pixels of the picture of a page."""

SUFFIXES = (".html", ".svg", ".png", ".json", ".csv", ".md")
"""Files that a probe is written to."""

SCREEN = 40
"""Layers of which a table shows every one."""


class Growth(NamedTuple):
    """The power law by which the std of a layer goes with what was varied.

    Args:
        layer: its name in all traces.
        stds: in the order of the values.
        exponent: of the power law through them.
    """

    layer: str
    stds: tuple[float, ...]
    exponent: float


class Varied(NamedTuple):
    """The setting that was varied from trace to trace.

    Args:
        key: its name, such as `width`.
        values: one for each trace.
        recipes: the names that they would have without it.
    """

    key: str
    values: tuple[str, ...]
    recipes: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Probe(Document):
    """Signals and gradients in a model: one trace, or one for each recipe or size.

    Iterating gives the traces; `probe[name]` finds a layer of the first. Printed, it is a table with verdicts.

    Args:
        model: class of the model.
        inputs: shapes and dtypes of what it was given.
        seed: of the recipes.
        traces: in the order of the recipes.
        varied: what differs from trace to trace beside the recipe.
    """

    model: str
    inputs: str
    seed: int | None
    traces: tuple[Trace, ...]
    varied: Varied | None = None

    def __len__(self) -> int:
        return len(self.traces)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self.traces)

    def __getitem__(self, name: str) -> Layer:
        return self.traces[0][name]

    def trace(self, name: str) -> Trace:
        """Return the trace of a recipe.

        Raises:
            KeyError: there is none of that name.
        """
        for trace in self.traces:
            if trace.name == name:
                return trace
        hint = did_you_mean(name, [trace.name for trace in self.traces])
        raise KeyError(f"there is no trace {name!r}" + (f" ({hint})" if hint else ""))

    @cached_property
    def judgements(self) -> Mapping[str, tuple[Verdict, ...]]:
        """The verdicts on each trace, notes included, by its name."""
        return {trace.name: judged(trace) for trace in self.traces}

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts on the first trace, alarms first, then notes."""
        return self.judgements[self.traces[0].name]

    def problems(self) -> list[Verdict]:
        """Return the alarms of the first trace, which is that of the recipe in question."""
        return [verdict for verdict in self.verdicts if verdict.alarm]

    def growth(self, recipe: str | None = None) -> tuple[Growth, ...]:
        """Return how the std of each layer grows with what was varied, where that is a number.

        The exponent is the slope of log std over log value: a coordinate check of one pass.

        Args:
            recipe: whose traces are compared; the first unless given.
        """
        if self.varied is None or not all(map(_is_number, self.varied.values)):
            return ()
        recipe = self.varied.recipes[0] if recipe is None else recipe
        rows = zip(self.varied.values, self.varied.recipes, self.traces, strict=True)
        chosen = [(float(value), trace) for value, name, trace in rows if name == recipe]
        if len({value for value, _ in chosen}) < 2:
            return ()
        found = []
        for layer in chosen[0][1].layers:
            stds = [trace._by_name[layer.name].std for _, trace in chosen if layer.name in trace._by_name]
            known = [std for std in stds if std]
            if len(known) == len(chosen):
                exponent = _slope([math.log(value) for value, _ in chosen], [math.log(std) for std in known])
                found.append(Growth(layer.name, tuple(known), exponent))
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the probe as plain data: schema, model, inputs, traces, verdicts; missing numbers are null."""
        traces = [
            {**trace.to_dict(), "verdicts": [verdict.to_dict() for verdict in self.judgements[trace.name]]}
            for trace in self.traces
        ]
        varied = None
        if self.varied is not None:
            varied = {"key": self.varied.key, "values": [*self.varied.values], "recipes": [*self.varied.recipes]}
        return {
            "schema": 1,
            "initplug": __version__,
            "model": self.model,
            "inputs": self.inputs,
            "seed": self.seed,
            "varied": varied,
            "traces": traces,
            "growth": {
                recipe: [{**one._asdict(), "stds": [*one.stds]} for one in self.growth(recipe)]
                for recipe in self._recipes
            },
        }

    @property
    def _recipes(self) -> list[str]:
        """The recipes whose traces differ in what was varied."""
        return [] if self.varied is None else list(dict.fromkeys(self.varied.recipes))

    def rows(self) -> list[dict[str, Any]]:
        """Return the layers of all traces as flat rows, each with the name of its trace."""
        return [{"trace": trace.name, **layer.to_dict()} for trace in self.traces for layer in trace.layers]

    @property
    def _keys(self) -> tuple[str, ...]:
        return ("trace", *KEYS)

    def _flat(self, every: bool = True) -> list[dict[str, Any]]:  # noqa: ARG002  # layers are told one by one
        return self.rows()

    def to_markdown(self, *, every: bool = True) -> str:  # noqa: ARG002  # layers are told one by one
        """Return the verdicts as a list, and the layers of the first trace as a Markdown table."""
        lines = [f"- {trace.name}: {verdict}" for trace in self.traces for verdict in self.judgements[trace.name]]
        shown = [{"name": row.name, "shape": [*row.shape], "mean": row.mean, "std": row.std} for row in self.traces[0]]
        return "\n".join([*lines, "", to_markdown(shown, ("name", "shape", "mean", "std"))]).lstrip("\n")

    def to_svg(self, *, width: int = 720) -> str:
        """Return the picture: std of signals and of gradients against depth, a line for each trace."""
        title = f"{self.model}: std of activations and of gradients against depth, a line for each recipe"
        return svg(self.traces, title=visible(title), told="; ".join(self.told()), width=width)

    def _report(self) -> Report:
        from initplug.reporting.probes import probe_report

        return probe_report(self.to_dict(), self.headline(), self.to_svg(width=PAGE), self.told()[:-1])

    def save(self, path: str | PathLike[str], **page: Any) -> None:
        """Write a .html, .json, .csv, .md, .svg or .png file; a PNG needs matplotlib.

        Args:
            path: of the file.
            page: what `to_html` takes, for .html alone.

        Raises:
            InitplugError: an unknown suffix, or a path that cannot be written.
        """
        if Path(path).suffix == ".png" and not page:
            save_png(self.traces, path)
        else:
            super().save(path, **page)

    def _writers(self) -> dict[str, Callable[..., str]]:
        return {**super()._writers(), ".svg": self.to_svg, ".png": self.to_svg}  # `save` draws a PNG, which is no text

    def __repr__(self) -> str:
        return f"<Probe {self.headline()}>"

    def headline(self) -> str:
        """Return one line that sums the probe up."""
        names = [trace.name for trace in self.traces]
        alarms = [sum(verdict.alarm for verdict in self.judgements[name]) for name in names]
        if len(names) == 1:
            told = f"{alarms[0]} alarm{'' if alarms[0] == 1 else 's'}" if alarms[0] else "no alarms"
            layers = "1 layer" if len(self.traces[0]) == 1 else f"{len(self.traces[0])} layers"
            return visible(f"{self.model}, {names[0]}: {layers}, inputs {self.inputs}; {told}")
        told = ", ".join(f"{name} {count or 'none'}" for name, count in zip(names, alarms, strict=True))
        return visible(f"{self.model}: inputs {self.inputs}; alarms: {told}")

    def to_text(self, *, width: int | None = None, color: bool = False, every: bool = False) -> str:
        """Return a table of the first trace's layers, the lines of all traces against depth, and the verdicts.

        Args:
            width: in characters; the terminal's unless given.
            color: whether it carries terminal colours.
            every: a row for every layer, also where those of repeated blocks agree.
        """
        parts = []
        if len(self.traces) == 1:
            shown = [layer.to_dict() for layer in (self.traces[0].layers if every else self._telling())]
            hidden = len(self.traces[0]) - len(shown)
            more = f"{hidden} layers more: --all, or every=True" if hidden else ""
            parts.append(table(COLUMNS, shown, more=more, width=width, color=color))
        parts.append(sparklines(self.traces, width=width))
        if self.varied is not None:
            parts.append(self._grown(width=width, color=color))
        columns = min(width or terminal_width(), UNBOUNDED)
        parts.append("\n".join("\n".join(textwrap.wrap(line, columns, subsequent_indent="  ")) for line in self.told()))
        return "\n\n".join(part for part in parts if part)

    def _telling(self) -> list[Layer]:
        """Return the layers of the first trace that tell most: of many the stations, the ends and those judged."""
        trace = self.traces[0]
        if len(trace) <= SCREEN:
            return list(trace.layers)
        judged_names = {verdict.layer for verdict in self.verdicts}
        names = {trace.layers[0].name, trace.layers[-1].name, *(station.layer.name for station in trace.stations)}
        return [one for one in trace.layers if names & {one.name} or judged_names & {one.name, *one.also}]

    def _grown(self, *, width: int | None, color: bool) -> str:
        """Return a table of the stds of each layer by what was varied."""
        assert self.varied is not None  # which is asked before
        parts = []
        for recipe in self._recipes:
            growths = self.growth(recipe)
            if not growths:
                continue
            values = self._values_of(recipe)
            columns = [Column(visible(recipe), "name", gives=True)]
            columns += [Column(f"{self.varied.key}={value}", str(place)) for place, value in enumerate(values)]
            columns.append(Column("grows as", "grows"))
            rows = [
                {
                    "name": one.layer,
                    **{str(place): std for place, std in enumerate(one.stds)},
                    "grows": self._power(one),
                }
                for one in growths
            ]
            parts.append(table(columns, rows, width=width, color=color))
        return "\n\n".join(parts)

    def _values_of(self, recipe: str) -> list[str]:
        """Return the values that a recipe was probed with."""
        assert self.varied is not None  # likewise
        rows = zip(self.varied.values, self.varied.recipes, strict=True)
        return [value for value, name in rows if name == recipe]

    def _power(self, growth: Growth) -> str:
        assert self.varied is not None  # likewise
        return "steady" if abs(growth.exponent) <= STEADY else f"{self.varied.key}^{growth.exponent:.2f}"

    def told(self) -> list[str]:
        """Return what is to be said: alarms, notes and remarks of each trace."""
        lines = []
        for trace in self.traces:
            head = f"{trace.name}: " if len(self.traces) > 1 else ""
            verdicts = self.judgements[trace.name]
            lines += [f"{head}{'' if verdict.alarm else 'note: '}{verdict}" for verdict in verdicts]
            lines += [f"{head}note: {visible(remark)}" for remark in trace.remarks]
        for one in self._growing():
            lines.append(one)
        return [*lines, self.headline()]

    def _growing(self) -> Iterator[str]:
        """Yield a line for each recipe whose layers do not keep their scale."""
        if self.varied is None:
            return
        for recipe in self._recipes:
            growths = self.growth(recipe)
            moved = [one for one in growths if abs(one.exponent) > STEADY]
            head = f"{recipe}: "
            if moved:
                worst = max(moved, key=lambda one: abs(one.exponent))
                grown = f"std goes with {self.varied.key}^{worst.exponent:.2f} in {worst.layer}"
                yield visible(f"{head}{len(moved)} of {len(growths)} layers change with {self.varied.key}: {grown}")
            elif growths:
                yield visible(f"{head}all {len(growths)} layers keep their scale whatever {self.varied.key} is")


def beside(parts: Sequence[tuple[str | None, Probe]], key: str | None = None) -> Probe:
    """Return probes of differently built models as one, in the order of recipes.

    Args:
        parts: each with the value that its model was built with.
        key: what was varied; without it the traces keep their names.
    """
    first = parts[0][1]
    if key is None:
        traces = tuple(trace for _, part in parts for trace in part.traces)
        return replace(first, traces=traces)
    rows = [(trace.name, str(value), trace) for value, part in parts for trace in part.traces]
    recipes = list(dict.fromkeys(name for name, _, _ in rows))
    rows.sort(key=lambda row: recipes.index(row[0]))  # which keeps the order of values
    named = tuple(replace(trace, name=f"{name} {key}={value}") for name, value, trace in rows)
    varied = Varied(key, tuple(value for _, value, _ in rows), tuple(name for name, _, _ in rows))
    return replace(first, traces=named, varied=varied)


def _is_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of the line of least squares through points."""
    centre_x, centre_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((one - centre_x) * (other - centre_y) for one, other in zip(x, y, strict=True))
    return above / sum((one - centre_x) ** 2 for one in x)


COLUMNS = (
    Column("layer", "name", gives=True),
    Column("kind", "kind", least=WIDE, gives=True),
    Column("output", "shape", least=WIDE),
    Column("mean", "mean", least=WIDE),
    Column("std", "std"),
    Column("ratio", "ratio", least=WIDE),
    Column("signal", "signal"),
    Column("zeros", "zeros"),
    Column("dead", "dead", least=WIDE),
    Column("saturated", "saturated", least=WIDE),
    Column("gradient", "gradient"),
    Column("ratio ", "gradient_ratio", least=WIDE),
)
