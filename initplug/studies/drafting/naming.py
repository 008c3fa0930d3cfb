"""Naming: rules as a person would write them, with names and comments, as plain data of a recipe."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from initplug.studies.drafting.formulas import FITTED, LONG, Candidate
from initplug.studies.drafting.induction import TYPED, Proposal
from initplug.studies.recording.rows import Row

WORDS: Sequence[tuple[str, str]] = (
    ("conv", "conv"),
    ("norm", "norm"),
    ("embed", "embedding"),
    ("linear", "linear"),
    ("attention", "attention"),
    ("rnn|lstm|gru", "recurrent"),
)
"""Words of classes, and what a person calls them."""


def names_of(proposals: Sequence[Proposal], rows: Sequence[Row]) -> list[str]:
    """Return names for rules, as a person would give them."""
    wanted = [_name(one, [rows[place] for place in one.wins]) for one in proposals]
    counts = Counter(wanted)
    typed = [TYPED.fullmatch(one.selectors[0]) if len(one.selectors) == 1 else None for one in proposals]
    wanted = [
        _snake(found["word"]) if counts[name] > 1 and found and _snake(found["word"]) not in counts else name
        for name, found in zip(wanted, typed, strict=True)
    ]
    counts, found = Counter(wanted), []
    seen: Counter[str] = Counter()
    for name in wanted:
        seen[name] += 1
        found.append(f"{name}_{seen[name]}" if counts[name] > 1 else name)
    return found


def _name(proposal: Proposal, rows: Sequence[Row]) -> str:
    if proposal.selectors == ["*"]:
        return "rest"
    if proposal.init.text == "keep":
        return "as_constructed"
    if proposal.init.text.startswith("copy "):
        return "copies"
    if len(proposal.selectors) > 2 and proposal.init.form in (0, 1):
        return "zeros" if proposal.init.form == 0 else "ones"
    keys = sorted({row.name.rpartition(".")[2] for row in rows})
    kinds = [*dict.fromkeys(_kind(row.module_type) for row in rows)]
    if all(selector.startswith("<") and selector.count(".") == 1 for selector in proposal.selectors):
        if keys == ["weight"]:
            return "_".join(kinds) if len(kinds) < 4 else "weights"
        if all("bias" in key for key in keys) and len(keys) == 1:
            return f"{kinds[0]}_biases" if len(kinds) == 1 and keys == ["bias"] else _plural(keys)
        return "_".join(keys[:2]) if "weight" not in keys else "_".join(kinds[:3])
    last = dict.fromkeys(_last(selector) for selector in proposal.selectors)
    return "_".join([*last][:2])


def _kind(cls: str) -> str:
    for pattern, word in WORDS:
        if re.search(pattern, cls, re.IGNORECASE):
            return word
    return _snake(cls)


def _snake(cls: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls).lower()


def _plural(keys: Sequence[str]) -> str:
    return "biases" if keys == ["bias"] else "_".join(keys[:2])


def _last(selector: str) -> str:
    """Return the words of a selector that tell what it is about."""
    words = [word for word in re.findall(r"\w+", re.sub(r"<[^>]*>", "", selector)) if not word.isdigit()]
    kept = [word for word in words if word not in ("weight", "bias")] or words or ["rest"]
    return f"{kept[-1]}_bias" if words[-1:] == ["bias"] and kept != words else kept[-1]


def comments_of(proposals: Sequence[Proposal], rows: Sequence[Row], candidates: Sequence[Candidate] = ()) -> list[str]:
    """Return for every rule how many parameters it takes, the line that most come from, and what would say the same."""
    found = []
    for one in proposals:
        places = Counter(rows[place].place for place in one.wins if rows[place].place is not None)
        told = [str(len(one.wins)) + (" parameter" if len(one.wins) == 1 else " parameters")]
        told += [place.short for place, _ in places.most_common(1) if place is not None]
        more = f" and {len(places) - 1} more line{'s' if len(places) > 2 else ''}" if len(places) > 1 else ""
        others = [other.text for other in candidates if _says_the_same(other, one)]
        same = f"; {others[0]} would say the same here" if others else ""
        found.append("; ".join(told) + more + same)
    return found


def _says_the_same(other: Candidate, one: Proposal) -> bool:
    """Return whether another formula fits as well, where the code names none."""
    fitted = FITTED <= one.init.cost < LONG and FITTED <= other.cost < LONG
    return fitted and other is not one.init and bool(other.gives[np.array(one.wins, np.intp)].all())


def recipe_data(proposals: Sequence[Proposal], names: Sequence[str]) -> dict[str, Any]:
    """Return the rules as plain data of a recipe."""
    rules: dict[str, Any] = {}
    for name, one in zip(names, proposals, strict=True):
        match = one.selectors[0] if len(one.selectors) == 1 else one.selectors
        exceptions = {"except": one.exceptions} if one.exceptions else {}
        # A copy takes any.
        frozen = {"trainable": "any"} if one.frozen and one.init.text != "keep" else {}
        rules[name] = {"match": match, **exceptions, "init": one.init.form, **frozen}
    return rules
