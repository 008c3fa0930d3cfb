"""What a plan finds wrong, as messages: slots without rules, rules without slots, initializers that do not fit."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence
from typing import NamedTuple

from initplug.errors import NAME, ROWS, Finding, cut, near, shortened
from initplug.language.faults import shown
from initplug.language.recipe import Recipe
from initplug.language.selectors import Selector
from initplug.planning.evaluation import Miss

Block = tuple[str, list[Finding]]
"""A paragraph of a message, and the findings it tells of."""


class Unmatched(NamedTuple):
    """A slot that no rule matches."""

    name: str
    module_type: str
    shape: tuple[int, ...]


def unmatched_slots(rows: Sequence[Unmatched], total: int, recipe: Recipe, on_meta: bool) -> Block:
    """Parameters that no rule matches; some of them may be on meta, where nothing can be kept."""
    way = "Add a rule, or, for a model that is not on meta," if on_meta else "Add a rule, or"
    hint = f"{way} set `unmatched: keep` to leave them as constructed."
    names = [cut(row.name, NAME) for row in rows]
    wide = max(map(len, names))
    kinds = max(len(row.module_type) for row in rows)
    lines = [f"  {name:{wide}}  {row.module_type:{kinds}}  {row.shape}" for name, row in zip(names, rows, strict=True)]
    head = f"{len(rows)} of {total} parameters match no rule of {recipe.origin}"
    closest = _closest_rule(rows[0], recipe)
    text = [head, *shortened(lines), *([f"closest: {closest}"] if closest else []), hint]
    return "\n".join(text), [Finding(row.name, f"{row.shape} matches no rule", hint=hint) for row in rows]


def _closest_rule(row: Unmatched, recipe: Recipe) -> str | None:
    """The rule whose selector reads most like a slot's name and type."""
    scored = [
        (_likeness(selector, row), _rule(name, selector.text, recipe.location(name)))
        for name, rule in recipe.rules.items()
        if rule is not None
        for selector in rule.selectors
    ]
    score, closest = max(scored, default=(0.0, None), key=lambda pair: pair[0])
    return closest if score >= CLOSE else None


CLOSE = 0.6
"""How alike, between 0 and 1, a selector and a name must be for the one to be offered for the other."""


def _likeness(selector: Selector, row: Unmatched) -> float:
    """Mean likeness of the segments of a selector, from the right, to a slot's name and its owner's type."""
    types = [row.module_type if place == 1 else "" for place in range(len(row.name.split(".")))]
    scores = []
    for segment, part, kind in zip(reversed(selector.segments), reversed(row.name.split(".")), types, strict=False):
        if segment.types is not None:
            scores.append(max(_ratio(glob, kind) for glob in segment.types))
        elif segment.names is not None and segment.names != ("*",):
            scores.append(max(_ratio(glob, part) for glob in segment.names))
    return sum(scores) / len(scores) if scores else 0.0


def _ratio(glob: str, word: str) -> float:
    return 1.0 if fnmatch.fnmatchcase(word, glob) else difflib.SequenceMatcher(None, glob.strip("*"), word).ratio()


def _rule(name: str, selector: str, location: str | None) -> str:
    place = f" ({location})" if location else ""
    if name == selector:
        return f"rule {shown(name)}{place}"
    return f'rule {shown(name)} "{cut(selector, NAME)}"{place}'


def nothing_selected(unused: Sequence[str], recipe: Recipe, names: Sequence[str]) -> Block:
    """Rules that select nothing."""
    lines: list[str] = []
    findings: list[Finding] = []
    for name in unused:
        rule = recipe.rules[name]
        assert rule is not None  # a disabled rule is not unused
        selector = rule.match[0]
        # Only the rows that are shown are worth the search.
        like = near(selector.replace("*", "").strip(".^"), names) if len(lines) < ROWS else None
        closest = f"; closest: {like}" if like else ""
        lines.append(f"  {_rule(name, selector, recipe.location(name))}{closest}")
        findings.append(Finding.at(recipe.location(name), name, "selects nothing", like and f"closest: {like}"))
    counted = "1 rule" if len(unused) == 1 else f"{len(unused)} rules"
    head = f"{counted} of {recipe.origin} select{'s' if len(unused) == 1 else ''} nothing"
    hint = "Mend the selector, remove the rule, or mark it `optional: true`."
    return "\n".join([head, *shortened(lines), hint]), findings


class Left(NamedTuple):
    """A frozen parameter, and the rule that would draw it, were it not frozen."""

    row: int
    name: str
    rule: str


def left_alone(left: Sequence[Left], recipe: Recipe, *, on_meta: bool = False, all_of_them: bool = False) -> Block:
    """Frozen parameters that rules would draw.

    Args:
        left: such parameters.
        recipe: of the rules.
        on_meta: whether any is on meta.
        all_of_them: whether nothing is written, since nothing else would be.
    """
    wide = max(len(cut(one.name, NAME)) for one in left[:ROWS])
    lines = [f"  {cut(one.name, NAME):{wide}}  {_rule(one.rule, one.rule, recipe.location(one.rule))}" for one in left]
    counted = "1 frozen parameter" if len(left) == 1 else f"{len(left)} frozen parameters"
    head = f"rules of {recipe.origin} leave {counted} alone (requires_grad=False)"
    if all_of_them:
        head += ", and nothing else is there to write"
    text = [head, *shortened(lines)]
    if on_meta:
        text.append("On meta they have no values to keep: `apply` refuses what has none by then.")
    draw = "To draw it," if len(left) == 1 else "To draw them,"
    text.append(f"{draw} set `frozen: write`, or `trainable: any` in a rule.")
    if not all_of_them:
        text[-1] += " `trainable: true` in a rule says so, without this warning."
    hint = "set `frozen: write`, or `trainable: any` in the rule"
    return "\n".join(text), [
        Finding(one.name, f"it is frozen, and rule {one.rule!r} leaves it", hint=hint) for one in left
    ]


def misfit(misses: Sequence[Miss]) -> Block:
    """Initializers that do not fit their tensors."""
    lines = [f"  {cut(miss.name, NAME)} {miss.shape}: {miss.reason}; {_by(miss)}" for miss in misses]
    head = f"{len(misses)} initializer{'s do' if len(misses) > 1 else ' does'} not fit"
    text = [head, *shortened(lines)]
    if any("below two dimensions" in miss.reason for miss in misses):
        text.append("Restrict the rule with `ndim: '>=2'`, or add a later rule for them, such as `*.bias: 0`.")
    return "\n".join(text), [Finding.at(miss.location, miss.name, f"{miss.shape}: {miss.reason}") for miss in misses]


def _by(miss: Miss) -> str:
    return _rule(miss.winner.rule, miss.winner.selector, miss.location)
