"""The pages of recordings and inferences: what each parameter holds or looks like, and the recipe drafted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from html import escape
from typing import Any

from initplug.errors import visible
from initplug.language.yaml import written
from initplug.reporting.opening import SHOWN, Fact, Names, Rule, line_of, summary
from initplug.reporting.page import Report
from initplug.reporting.pictures import of_depth, of_modules
from initplug.reporting.wording import compact, name, plural, whole
from initplug.schemes.compositions import Planned
from initplug.tables.text import Column
from initplug.tables.totals import by_depth, by_module

COLUMNS = (
    Column("parameter", "name"),
    Column("shape", "shape"),
    Column("holds", "holds"),
    Column("written last at", "place"),
    Column("recipe", "verdict"),
)

INFERRED = (
    Column("parameter", "name"),
    Column("shape", "shape"),
    Column("looks like", "holds"),
    Column("formula", "init"),
    Column("confidence", "confidence"),
    Column("recipe", "verdict"),
)


def recording_report(
    data: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    comments: Mapping[str, str],
    distributions: Sequence[Planned | None],
    told: Sequence[str],
    versions: Mapping[str, str],
) -> Report:
    """Return the contents of the page of a recording.

    Args:
        data: what `Recording.to_dict` gives.
        rows: of its parameters, with `holds`, `place`, the `rule` of the recipe drafted, `verdict` and `problem`.
        comments: by rule how many parameters it takes, and where they come from.
        distributions: of every row.
        told: lines on the nearest preset and on copies.
        versions: of what made the recording.
    """
    totals = data["summary"]
    rules = f"{plural(totals['rules'], 'rule')} {'gives' if totals['rules'] == 1 else 'give'}"
    line = f"{rules} {whole(totals['given'])} of {plural(len(rows), 'parameter')} what the code does"
    lines = Fact(whole(len({row["place"] for row in rows if row["place"]})), "lines of code")
    about = f"what the code of <b>{name(data['model'])}</b> initialises"
    opening = _summary(data, rows, told, line, [lines])
    return _report("recording", about, data, rows, comments, distributions, versions, COLUMNS, opening)


def inference_report(
    data: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    comments: Mapping[str, str],
    distributions: Sequence[Planned | None],
    told: Sequence[str],
    versions: Mapping[str, str],
    headline: str,
) -> Report:
    """Return the contents of the page of an inference, which is told of as a recording is.

    Args:
        data: what `Inference.to_dict` gives.
        rows: as of a recording, with the `init` and the `confidence` of each, and `others` that fit.
        comments: by rule how many parameters it takes, and how sure that is.
        distributions: of every row.
        told: lines on the nearest preset, on copies, on guesses, and on whether the model looks trained.
        versions: of what made the inference.
        headline: that sums it up.
    """
    totals = data["summary"]
    facts = [Fact(whole(totals["known"]), "known"), Fact(whole(totals["guesses"]), "guessed")]
    about = f"what the values of <b>{name(data['model'])}</b> look like"
    opening = _summary(data, rows, told, headline, facts)
    return _report("inference", about, data, rows, comments, distributions, versions, INFERRED, opening)


def _report(
    kind: str,
    about: str,
    data: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    comments: Mapping[str, str],
    distributions: Sequence[Planned | None],
    versions: Mapping[str, str],
    columns: Sequence[Column],
    opening: str,
) -> Report:
    recipe = data["recipe"]
    hits = Counter(row["rule"] for row in rows)
    known = any(row["rule"] is not None for row in rows)
    rules = [
        Rule(
            key,
            (f"# {visible(comments[key])}\n" if key in comments else "") + written({key: rule}),
            None,
            hits[key] if known else None,
            0,
            rule is None,
        )
        for key, rule in recipe["rules"].items()
    ]
    depth = of_depth(by_depth(rows))
    return Report(
        kind=kind,
        about=about,
        heading=data["model"],
        facts=[f"{package} {version}" for package, version in versions.items()],
        summary=opening,
        rows=rows,
        agreed=[*map(_agreed, rows)],
        drawn={"": distributions},
        columns=columns,
        plain=rows,
        recipe=recipe,
        rules=rules,
        pictures=[of_modules(by_module(rows)), *([] if depth is None else [depth])] if rows else [],
    )


def _summary(
    data: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], told: Sequence[str], line: str, further: Sequence[Fact]
) -> str:
    totals, problems = data["summary"], data["problems"]
    tally = Counter(row["verdict"] for row in rows)
    closed = sum(row["distribution"] is not None for row in rows)
    facts = [
        Fact(whole(len(rows)), "parameters"),
        Fact(compact(totals["numel"]), "elements"),
        Fact(whole(closed), "in closed form"),
        *further,
        *(Fact(whole(tally[word]), word, word, {"verdict": word}) for word in ("ok", "differs") if tally[word]),
    ]
    at = {row["name"]: place for place, row in enumerate(rows)}
    lists = [escape(visible(each)) for each in told]
    names = Names("Not given", [(problem["name"], "row", at[problem["name"]]) for problem in problems])
    lists += [line_of(names)] if problems else []
    for problem in problems[:SHOWN]:
        where = f" ({problem['place']})" if problem["place"] else ""
        lists.append(f"{name(problem['name'])}: {escape(visible(problem['reason'] + where))}")
    return summary(line, bool(problems), {word: tally[word] for word in ("ok", "differs") if tally[word]}, facts, lists)


def _agreed(row: Mapping[str, Any]) -> Hashable | None:
    if row["problem"] is not None or row["twin"] is not None:
        return None
    from_where = row.get("place"), row.get("init"), row.get("confidence")
    return tuple(row["shape"]), row["holds"], *from_where, row["rule"], row["module_type"], row["trainable"]
