"""The first screen of a page: what it is about, what it comes to, and the recipe with hits beside its rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Any, NamedTuple

from initplug.errors import visible
from initplug.language.yaml import written
from initplug.reporting.wording import name, plural, whole

SHOWN = 12
"""The most names that a list tells."""

METADATA = ("about", "source", "family", "deviations", "proven_on")
"""The keys of a recipe that stand folded away."""


class Fact(NamedTuple):
    """A number of the summary.

    Args:
        value: as text.
        word: what it is of.
        kind: a class of the style sheet, or an empty text.
        filters: what a press on it shows: values of filters by name, empty for none.
    """

    value: str
    word: str
    kind: str = ""
    filters: Mapping[str, str] = MappingProxyType({})


class Names(NamedTuple):
    """A line of names that lead somewhere.

    Args:
        title: what they are.
        names: and where each leads: `row` or `rule`, and its place among those; None for nowhere.
    """

    title: str
    names: Sequence[tuple[str, str | None, int]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as the page lists it.

    Args:
        name: of the rule.
        text: as YAML.
        location: file and line.
        won: how many slots it has; None where nobody knows.
        shadowed: how many it would have, were it not for later ones.
        disabled: whether it is set to null.
    """

    name: str
    text: str
    location: str | None
    won: int | None
    shadowed: int
    disabled: bool


def summary(line: str, bad: bool, tally: Mapping[str, int], facts: Iterable[Fact], lists: Iterable[str]) -> str:
    """Return the box that sums up.

    Args:
        line: what it comes to, a text.
        bad: whether that is a fault.
        tally: of the bar, the rows of each sort.
        facts: the numbers.
        lists: lines of markup.
    """
    told = ", ".join(f"{whole(count)} {word}" for word, count in tally.items())
    # Each has a part that is seen, however few they are; of the sizes alone the browser makes whole lengths.
    bar = "".join(f'<i class="{word}" style="flex-grow:{count}"></i>' for word, count in tally.items())
    strip = f'<div class="bar" role="img" aria-label="{escape(told)}">{bar}</div>' if tally else ""
    numbers = "".join(_fact(fact) for fact in facts)
    below = "".join(f"<p>{one}</p>" for one in lists)
    return (
        f'<p class="verdict-line{" bad" if bad else ""}">{escape(line)}</p>{strip}<div class="facts">{numbers}</div>'
        + (f'<div class="lists">{below}</div>' if below else "")
    )


def _fact(fact: Fact) -> str:
    inner = f"<b>{escape(fact.value)}</b><span>{escape(fact.word)}</span>"
    if not fact.filters:
        return f'<div class="{fact.kind}">{inner}</div>' if fact.kind else f"<div>{inner}</div>"
    held = "".join(f' data-{key}="{escape(value)}"' for key, value in fact.filters.items())
    return f'<button type="button" class="{fact.kind}"{held}>{inner}</button>'


def line_of(names: Names) -> str:
    """Return a line of names, of which some dozen are told.

    Example:
        >>> line_of(Names("Differ", [("<b>", "row", 3)]))
        'Differ: <button type="button" data-to-row="3"><bdi>&lt;b&gt;</bdi></button>'
    """
    told = [
        name(text) if kind is None else f'<button type="button" data-to-{kind}="{place}">{name(text)}</button>'
        for text, kind, place in names.names[:SHOWN]
    ]
    more = len(names.names) - SHOWN
    return f"{escape(names.title)}: {', '.join(told)}{f' and {whole(more)} more' if more > 0 else ''}"


def recipe_listing(recipe: Mapping[str, Any], rules: Sequence[Rule]) -> str:
    """Return a recipe as markup: its settings, its metadata folded away, and a line for each rule with its hits.

    Args:
        recipe: what `Recipe.plain` gives.
        rules: in order.
    """
    settings = {key: value for key, value in recipe.items() if key not in ("rules", *METADATA)}
    about = {key: value for key, value in recipe.items() if key in METADATA}
    head = f"<pre>{escape(_lines(written(settings)))}</pre>" if settings else ""
    folded = (
        f"<details><summary>{escape(', '.join(about).replace('_', ' '))}</summary>"
        f"<pre>{escape(_lines(written(about)))}</pre></details>"
        if about
        else ""
    )
    return f"{head}{folded}<pre>rules:</pre>{''.join(_rule(place, rule) for place, rule in enumerate(rules))}"


def _rule(place: int, rule: Rule) -> str:
    kind = " off" if rule.disabled else " none" if rule.won == 0 else ""
    hits = "off" if rule.disabled else "" if rule.won is None else whole(rule.won)
    lost = f" <small>· {whole(rule.shadowed)} shadowed</small>" if rule.shadowed else ""
    spoken = "disabled" if rule.disabled else "" if rule.won is None else plural(rule.won, "parameter")
    spoken += f", shadowed on {whole(rule.shadowed)}" if rule.shadowed else ""
    label = f"rule {visible(rule.name)}" + (f": {spoken}" if spoken else "")
    title = f' title="{escape(visible(rule.location))}"' if rule.location else ""
    text = "\n".join(f"  {line}" for line in _lines(rule.text).splitlines())
    return (
        f'<button type="button" class="rule{kind}" data-rule="{place}" aria-pressed="false" '
        f'aria-label="{escape(label)}"{title}>'
        f'<span class="hits">{hits}{lost}</span><code>{escape(text)}</code></button>'
    )


def _lines(text: str) -> str:
    """Return a text of several lines with what is hidden in each shown as escapes."""
    return "\n".join(visible(line) for line in text.rstrip("\n").split("\n"))
