"""Messages on what a plan finds wrong: slots without rules, rules without slots, initializers that do not fit."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence

from initplug.errors import NAME, ROWS, Finding, cut, near, shortened
from initplug.language.faults import shown
from initplug.language.messages import dotted
from initplug.language.recipe import Recipe
from initplug.language.selectors import Selector, parse
from initplug.language.yaml import Place, Steps
from initplug.planning.accounts import Accounts, Entry
from initplug.planning.assignment import Assignment
from initplug.planning.expected import Unmet

Block = tuple[str, list[Finding]]
"""A paragraph of a message, and the findings it tells of."""


def unmatched_slots(rows: Sequence[Assignment], total: int, recipe: Recipe, on_meta: bool) -> Block:
    """Return the message on parameters that no rule matches; some of them may be on meta, where nothing can be kept."""
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


def _closest_rule(row: Assignment, recipe: Recipe) -> str | None:
    """Return the rule whose selector reads most like a slot's name and type."""
    scored = [
        (_likeness(selector, row), _rule_text(name, selector.text, recipe.location(name)))
        for name, rule in recipe.rules.items()
        if rule is not None
        for selector in rule.selectors
    ]
    score, closest = max(scored, default=(0.0, None), key=lambda pair: pair[0])
    return closest if score >= CLOSE else None


CLOSE = 0.6
"""The likeness, between 0 and 1, that a selector and a name need for the one to be offered for the other."""


def _likeness(selector: Selector, row: Assignment) -> float:
    """Return the mean likeness of the segments of a selector, from the right, to a slot's name and its owner's type."""
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


def _rule_text(name: str, selector: str, location: str | None) -> str:
    place = f" ({location})" if location else ""
    if name == selector:
        return f"rule {shown(name)}{place}"
    return f'rule {shown(name)} "{cut(selector, NAME)}"{place}'


def _rule_with_place(name: str, recipe: Recipe) -> str:
    """Return the text of a rule with its first selector and its place."""
    rule = recipe.rules[name]
    assert rule is not None  # a disabled rule matches nothing
    return _rule_text(name, rule.match[0], recipe.location(name))


def nothing_selected(unused: Sequence[str], accounts: Accounts, recipe: Recipe, names: Sequence[str]) -> Block:
    """Return the message on rules that select nothing."""
    lines: list[str] = []
    findings: list[Finding] = []
    for entry in accounts.idle:
        clause, place = entry.clause, _entry_place(entry, recipe)
        closest = _way_out(entry, names, accounts.classes) if len(lines) < ROWS else None
        why = f"; {cut(closest, NAME)}" if closest else "" if entry.lost else f": {entry.effect}"
        lines.append(f"  {_rule_text(clause.name, clause.selector, place.text if place else None)}{why}")
        findings.append(_entry_finding(clause.name, entry, recipe, closest))
    counted = "1 rule" if len(unused) == 1 else f"{len(unused)} rules"
    head = f"{counted} of {recipe.origin} select{'s' if len(unused) == 1 else ''} nothing"
    hint = "Mend the selector, remove the rule, or mark it `optional: true`."
    return "\n".join([head, *shortened(lines), hint]), findings


def without_effect(accounts: Accounts, recipe: Recipe, names: Sequence[str]) -> Block:
    """Return the message on selectors without effect, of rules that select something."""
    lines: list[str] = []
    findings: list[Finding] = []
    for entry in accounts.dead:
        clause, place = entry.clause, _entry_place(entry, recipe)
        # Only the rows that are shown are worth the search.
        closest = _way_out(entry, names, accounts.classes) if len(lines) < ROWS else None
        at = f" ({place.text})" if place is not None and place.text else ""
        near_by = f"; {cut(closest, NAME)}" if closest else ""
        key = recipe.word(clause.name, clause.key)
        said = f'{key} "{cut(clause.selector, NAME)}"'
        lines.append(f"  rule {shown(clause.name)}, {said}{at}: {entry.effect}{near_by}")
        several = len(clause.rule.match if clause.key == "match" else clause.rule.except_) > 1
        path: Steps = ("rules", clause.name, key, *([clause.place] if several else []))
        findings.append(_entry_finding(dotted(path), entry, recipe, closest))
    one = len(lines) == 1
    head = f"{'1 selector' if one else f'{len(lines)} selectors'} of {recipe.origin} ha{'s' if one else 've'} no effect"
    hint = f"Mend or remove {'it' if one else 'them'}, or mark the rule `optional: true`."
    return "\n".join([head, *shortened(lines), hint]), findings


def wins_nothing(accounts: Accounts, recipe: Recipe) -> Block:
    """Return the message on rules that a later and wider one leaves nothing."""
    lines: list[str] = []
    findings: list[Finding] = []
    for name, by in accounts.covered:
        other = _rule_with_place(by, recipe)
        lines.append(f"  {_rule_with_place(name, recipe)}: {other} takes all of it and more; put it after {shown(by)}")
        message = f"wins nothing: rule {shown(by)} takes all that it selects"
        findings.append(Finding.at(recipe.location(name), name, message, f"put it after {shown(by)}"))
    counted = "1 rule" if len(lines) == 1 else f"{len(lines)} rules"
    head = f"{counted} of {recipe.origin} win{'s' if len(lines) == 1 else ''} nothing: the last rule that matches wins"
    hint = "Write general rules first; `optional: true` in a rule says that it may win nothing."
    return "\n".join([head, *shortened(lines), hint]), findings


def not_as_expected(unmet: Unmet, recipe: Recipe) -> Block:
    """Return the message on a rule that does not select what it expects."""
    per, times = cut(unmet.expected.per, NAME), unmet.expected.times
    named, location = _rule_with_place(unmet.rule, recipe), recipe.location(unmet.rule)
    slots = "1 slot" if times == 1 else f"{times} slots"
    if not unmet.modules:
        closest = f"; closest: {cut(unmet.closest, NAME)}" if unmet.closest else ""
        text = f'{named} expects {slots} below each module of "{per}", which selects no module{closest}'
        message = f'it expects {slots} below each module of "{per}", which selects no module'
        return text, [Finding.at(location, unmet.rule, message, unmet.closest and f"closest: {unmet.closest}")]
    modules = "the module" if unmet.modules == 1 else f"{len(unmet.found)} of {unmet.modules} modules"
    head = f'{named} expects {slots} below each module of "{per}", and selects another number below {modules}'
    rows = [(cut(name or ROOT, NAME), cls, count) for name, cls, count in unmet.found]
    wide, kinds = max(len(name) for name, _, _ in rows[:ROWS]), max(len(cls) for _, cls, _ in rows[:ROWS])
    lines = [f"  {name:{wide}}  {cls:{kinds}}  {count}, expected {times}" for name, cls, count in rows]
    findings = [
        Finding.at(location, name or ROOT, f"rule {shown(unmet.rule)} selects {count} below it, expected {times}")
        for name, _, count in unmet.found
    ]
    return "\n".join([head, *shortened(lines), "Mend `match` of the rule, or set its `expect` to null."]), findings


ROOT = "the model"
"""The name that messages give the nameless first module."""


def _entry_place(entry: Entry, recipe: Recipe) -> Place | None:
    return recipe.place(entry.clause.name, entry.clause.key, entry.clause.place)


def _entry_finding(path: str, entry: Entry, recipe: Recipe, hint: str | None) -> Finding:
    place = _entry_place(entry, recipe)
    if place is None or place.text is None:
        return Finding(path, entry.effect, hint=hint)
    return Finding(path, entry.effect, place.file, place.line, place.column, hint)


def _way_out(entry: Entry, names: Sequence[str], classes: Sequence[str]) -> str | None:
    """Return what a selector that selects nothing was meant to be, or the nearest thing that it may be meant for."""
    closest = entry.meant or _closest(entry, names, classes)
    return closest if closest is None or entry.meant else f"closest: {closest}"


def _closest(entry: Entry, names: Sequence[str], classes: Sequence[str]) -> str | None:
    """Return what a selector that selects nothing may be meant to select: a class, or a slot."""
    if not entry.lost:
        return None
    selector = parse(entry.clause.selector)
    for segment in selector.segments:
        for glob in segment.types or ():
            if not fnmatch.filter(classes, glob.rpartition(".")[2]):
                like = near(glob.strip("*"), classes)
                return like and f"<{like}>"
    text = selector.text.replace("*", "").strip(".^")
    words = (segment.names[0].strip("*") if segment.names else "" for segment in selector.segments)
    said = ".".join(words).strip(".")
    parts = _name_runs(names, len(selector.segments))
    whole, part = near(text, names), near(said, parts)
    if part is None or whole is None:
        return whole or (part and parts[part])
    # What has as many segments as the selector says more of it than a name that is as short as it is.
    more = difflib.SequenceMatcher(None, said, part).ratio() > difflib.SequenceMatcher(None, text, whole).ratio()
    return parts[part] if more and not whole.endswith(part) else whole


def _name_runs(names: Iterable[str], count: int) -> dict[str, str]:
    """Return runs of so many segments of names, each with the name up to there; repeated blocks stand for one."""
    parts: dict[str, str] = {}
    for name in {re.sub("[0-9]+", "0", name): name for name in reversed([*names])}.values():
        segments = name.split(".")
        for end in range(count, len(segments) + 1):
            part = segments[end - count : end]
            if not part[-1].isdigit():
                parts.setdefault(".".join(part), ".".join(segments[:end]))
    return parts


def left_alone(
    left: Sequence[Assignment], recipe: Recipe, *, on_meta: bool = False, all_of_them: bool = False
) -> Block:
    """Return the message on frozen parameters that rules would draw.

    Args:
        left: such parameters.
        recipe: of the rules.
        on_meta: whether any is on meta.
        all_of_them: whether nothing is written, since nothing else would be.
    """
    wide = max(len(cut(one.name, NAME)) for one in left[:ROWS])
    rules = [one.share.passed or "" for one in left]
    lines = [
        f"  {cut(one.name, NAME):{wide}}  {_rule_text(rule, rule, recipe.location(rule))}"
        for one, rule in zip(left, rules, strict=True)
    ]
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
        Finding(one.name, f"it is frozen, and rule {rule!r} leaves it", hint=hint)
        for one, rule in zip(left, rules, strict=True)
    ]


def misfit(misses: Sequence[tuple[Assignment, str]], recipe: Recipe) -> Block:
    """Return the message on initializers that do not fit their tensors, each with the reason."""
    lines: list[str] = []
    findings: list[Finding] = []
    for row, reason in misses:
        assert row.rule is not None  # whose initializer does not fit
        assert row.selector is not None  # of that rule
        location = recipe.giver(row.rule)
        lines.append(f"  {cut(row.name, NAME)} {row.shape}: {reason}; {_rule_text(row.rule, row.selector, location)}")
        findings.append(Finding.at(location, row.name, f"{row.shape}: {reason}"))
    head = f"{len(misses)} initializer{'s do' if len(misses) > 1 else ' does'} not fit"
    text = [head, *shortened(lines)]
    if any("below two dimensions" in reason for _, reason in misses):
        text.append("Restrict the rule with `ndim: '>=2'`, or add a later rule for them, such as `*.bias: 0`.")
    return "\n".join(text), findings
