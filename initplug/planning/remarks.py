"""Remarks on slots: what is good to know of how their values come about, in their rows and summed up by rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from initplug.columns import Coded
from initplug.language.init import Init
from initplug.language.recipe import Recipe
from initplug.planning.accounts import Note, is_of_preset
from initplug.planning.assignment import Share
from initplug.schemes.compositions import Planned, singles
from initplug.schemes.distributions import TruncatedNormal
from initplug.schemes.fans import Layout

UNKNOWN_LAYOUT = "nobody knows how its module uses it, so its effective fans are counted as torch counts them"


def remark(init: Init, layout: Layout, planned: Planned | None) -> str | None:
    """Return what is good to know of what an initializer comes down to for a tensor; None where nothing is."""
    found = []
    drawn = singles(planned)
    counted = any(one.fans == "effective" for one in (init, *init.parts))
    if counted and drawn and not layout.known:
        found.append(UNKNOWN_LAYOUT)
    found += dict.fromkeys(told for one in drawn if (told := _idle_cut(one)) is not None)
    return "; ".join(found) or None


MOST_STDS = 6.3
"""Standard deviations that no normal number of a seed's lies beyond."""


def _idle_cut(one: object) -> str | None:
    """Return what is said of a cut beyond everything that is drawn."""
    if not isinstance(one, TruncatedNormal):
        return None
    least = min(one.loc - one.low, one.high - one.loc) / one.scale
    if least < MOST_STDS:
        return None
    return f"its bounds lie {least:.3g} std out, so that they cut nothing"


def remarks(shares: Coded[Share], recipe: Recipe) -> Iterator[Note]:
    """Yield the remarks on slots of a plan, once for all slots of a rule that one is on."""
    counts: Counter[tuple[str, str]] = Counter()
    for share, rows in shares.groups():
        if share.note is not None and share.rule is not None:
            counts[share.rule, share.note] += len(rows)
    for (rule, told), count in counts.items():
        message = told if count == 1 else f"{told} ({count} slots)"
        yield Note(rule, message, recipe.location(rule), is_of_preset(recipe, rule))
