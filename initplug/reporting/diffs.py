"""The page of a diff: both sides of every slot that they do not treat alike, with both densities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from html import escape
from typing import Any

from initplug.errors import NAME, cut
from initplug.reporting.opening import SHOWN, Fact, summary
from initplug.reporting.page import Report
from initplug.reporting.wording import name, number, plural, whole
from initplug.schemes.compositions import Planned
from initplug.tables.text import Column


def diff_report(
    data: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    distributions: tuple[Sequence[Planned | None], Sequence[Planned | None]],
    line: str,
) -> Report:
    """Return the contents of the page of a diff.

    Args:
        data: what `Diff.to_dict` gives.
        rows: by rule, with `rules`, both sides and their moments.
        distributions: of every row, those of the first side and those of the second.
        line: what it comes to.
    """
    what = Counter(row["what"] for row in rows)
    facts = [
        Fact(whole(data["slots"]), "slots"),
        Fact(whole(data["slots"] - len(rows)), "alike", "ok"),
        *(Fact(whole(count), _sort(word), "differs", {"what": word}) for word, count in what.items()),
    ]
    tally = {"ok": data["slots"] - len(rows), "differs": len(rows)}
    columns = (
        Column("parameter", "name"),
        Column("shape", "shape"),
        Column("rules", "rules"),
        Column(data["a"], "a"),
        Column(data["b"], "b"),
        Column("ratio of std", "ratio"),
    )
    return Report(
        kind="diff",
        about="two sides of one initialization",
        heading=f"{cut(data['a'], NAME)} and {cut(data['b'], NAME)}",
        facts=["a is the first side, b the second: the ratio is that of the second deviation to the first"],
        summary=summary(line, bool(rows), {key: count for key, count in tally.items() if count}, facts, _by_rule(rows)),
        rows=rows,
        agreed=[*map(_agreed, rows)],
        drawn={"_a": distributions[0], "_b": distributions[1]},
        columns=columns,
        plain=rows,
        data={"a": data["a"], "b": data["b"]},
    )


def _sort(what: str) -> str:
    return what if what.startswith("only") else f"differ in {what}"


def _by_rule(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each pair of rules: how many slots differ, and by what ratios of deviations."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["rules"], []).append(row)
    lines = []
    for rules, group in [*found.items()][:SHOWN]:
        ratios = [row["ratio"] for row in group if row["ratio"] is not None]
        span = f", std ×{number(min(ratios))}" if ratios else ""
        span += f" to ×{number(max(ratios))}" if ratios and number(min(ratios)) != number(max(ratios)) else ""
        rule = name(rules) if rules != "–" else "without rules"
        lines.append(f"{rule}: {escape(plural(len(group), 'slot'))}{span}")
    more = len(found) - SHOWN
    return lines + ([f"… and {plural(more, 'more pair')} of rules"] if more > 0 else [])


def _agreed(row: Mapping[str, Any]) -> Hashable:
    return tuple(tuple(value) if isinstance(value, list) else value for key, value in row.items() if key != "name")
