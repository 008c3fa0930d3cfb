"""The page of a probe: what each layer gives and gets, the lines against depth, the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from initplug.errors import cut, visible
from initplug.reporting.opening import SHOWN, Fact, Names, line_of, summary
from initplug.reporting.page import Report
from initplug.reporting.pictures import Picture
from initplug.reporting.wording import name, plural, whole
from initplug.tables.text import Column

COLUMNS = (
    Column("layer", "name"),
    Column("kind", "module_type"),
    Column("output", "shape"),
    Column("std", "std"),
    Column("between inputs", "signal"),
    Column("zeros", "zeros"),
    Column("gradient", "gradient"),
    Column("verdict", "verdict"),
)

LABEL = 30
"""Characters of a trace's name beside a number."""

NUMBERS = (
    *("mean", "std", "ratio", "signal", "zeros", "dead", "saturated", "gradient", "gradient_ratio"),
    "function",
)
"""The facts of a layer's row, beside its name, kind and shape."""


def probe_report(data: Mapping[str, Any], line: str, svg: str, told: Sequence[str]) -> Report:
    """Return the contents of the page of a probe: the layers of its first trace, the lines of all.

    Args:
        data: what `Probe.to_dict` gives.
        line: what it comes to.
        svg: the lines against depth.
        told: verdicts and remarks, a text each.
    """
    first = data["traces"][0]
    alarms = {verdict["layer"]: verdict for verdict in reversed(first["verdicts"]) if verdict["alarm"]}
    rows = [_row(layer, alarms) for layer in first["layers"]]
    seed = [] if data["seed"] is None else [f"seed {data['seed']}"]
    return Report(
        kind="probe",
        about=f"signals and gradients of <b>{name(data['model'])}</b>"
        + (f", layer by layer under {name(first['name'])}" if len(data["traces"]) > 1 else ""),
        heading=data["model"],
        facts=[first["name"], f"inputs {data['inputs']}", *seed, f"backward from {first['start']}"],
        summary=_summary(data, rows, line, told),
        rows=rows,
        agreed=[None] * len(rows),  # every layer has numbers of its own
        drawn={"": [None] * len(rows)},
        columns=COLUMNS,
        plain=rows,
        pictures=[Picture("against-depth", "Standard deviation against depth", svg)],
    )


def _row(layer: Mapping[str, Any], alarms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    found = next((alarms[one] for one in (layer["name"], *layer["also"]) if one in alarms), None)
    return {
        "name": layer["name"],
        "aliases": layer["also"],
        "kind": "output",
        "module_type": layer["kind"],
        "shape": layer["shape"],
        **{key: layer[key] for key in NUMBERS},
        "verdict": "ok" if found is None else "alarm",
        "problem": None if found is None else f"{found['message']} ({found['hint']})",
    }


def _summary(
    data: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    line: str,
    told: Sequence[str],
) -> str:
    traces = data["traces"]
    counts = [sum(verdict["alarm"] for verdict in trace["verdicts"]) for trace in traces]
    names = [trace["name"] for trace in traces]
    bad = sum(row["verdict"] == "alarm" for row in rows)
    facts = [
        Fact(whole(len(rows)), "layers"),
        Fact(whole(len(traces[0]["stations"])), "points of the line"),
        *(Fact(whole(count), f"alarms of {cut(one, LABEL)}") for one, count in zip(names, counts, strict=True)),
    ]
    tally = {"ok": len(rows) - bad, "differs": bad}
    lists = [escape(visible(one)) for one in told[: 2 * SHOWN]]
    more = len(told) - 2 * SHOWN
    lists += [f"… and {plural(more, 'more line')}"] if more > 0 else []
    at = [(row["name"], "row", place) for place, row in enumerate(rows) if row["verdict"] == "alarm"]
    lists += [line_of(Names("Alarms at", at))] if at else []
    tally = {key: count for key, count in tally.items() if count}
    return summary(line, bool(counts[0]), tally, facts, lists)
