"""Remarks on slots: what is good to know of how their values come about, in their rows and summed up by rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from initplug.columns import Coded
from initplug.errors import ROWS, shortened, warn
from initplug.language.init import Init
from initplug.language.recipe import Recipe
from initplug.planning.accounts import Note, is_of_preset
from initplug.planning.advice import own_rule
from initplug.planning.assignment import Share
from initplug.planning.plan import Plan
from initplug.planning.resets import AS_RECORDED
from initplug.planning.slots import Slots
from initplug.schemes.compositions import Keep, Planned, parts_of, singles
from initplug.schemes.distributions import TruncatedNormal
from initplug.schemes.fans import Layout

UNKNOWN_LAYOUT = "nobody knows how its module uses it, so its effective fans are counted as torch counts them"


def remark(init: Init, layout: Layout, planned: Planned | None) -> str | None:
    """Return what is good to know of what an initializer comes down to for a tensor; None where nothing is."""
    found = [f"`default` keeps it: {reason}" for reason in causes(planned)]
    drawn = singles(planned)
    counted = any(one.fans == "effective" for one in (init, *init.parts))
    if counted and drawn and not layout.known:
        found.append(UNKNOWN_LAYOUT)
    found += dict.fromkeys(told for one in drawn if (told := _idle_cut(one)) is not None)
    return "; ".join(found) or None


def causes(planned: Planned | None) -> list[str]:
    """Return why a tensor, or parts of it, are kept where a recipe asks for something else first."""
    kept = (part.because for part in parts_of(planned) if isinstance(part, Keep))
    return [*dict.fromkeys(reason for reason in kept if reason is not None)]


def warn_of_unread(plan: Plan, slots: Slots, chosen: Collection[int]) -> None:
    """Warn of what `default` keeps, since no reset writes it, or none that can be read.

    Args:
        plan: the plan.
        slots: in its order.
        chosen: positions of the slots that are to be written.
    """
    rows = plan.shares.where(lambda share: bool(causes(share.distribution))).tolist()
    kept = [row for row in rows if row in chosen]
    if not kept:
        return
    counted = "1 tensor" if len(kept) == 1 else f"{len(kept)} tensors"
    lines = [
        f"  {plan.names[row]} {plan.shares[row].shape}: {'; '.join(causes(plan.shares[row].distribution))}"
        for row in kept[: ROWS + 1]
    ]
    shown = shortened([*lines, *[""] * (len(kept) - len(lines))])
    it, its = ("it", "a later rule of its own") if len(kept) == 1 else ("them", "later rules of their own")
    way = f"Where that is not meant, give {it} {its}, such as `{own_rule(slots[kept[0]])}`"
    way += "; `keep` in a rule says that it is meant."
    warn("\n".join([f"`default` leaves {counted} of {plan.origin} as constructed", *shown, way]))


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
        asked = told.startswith(AS_RECORDED)  # for by the user, whoever wrote the rule
        yield Note(rule, message, recipe.location(rule), is_of_preset(recipe, rule) and not asked)
