"""`record`: what a constructor's own code initialises, as rows and as a recipe that is checked against them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

from torch import nn

from initplug.auditing.moments import measure
from initplug.errors import ApplyError, InitplugWarning, warn
from initplug.filling.apply import audit
from initplug.filling.owners import value_of
from initplug.filling.scrutiny import beside_bounds
from initplug.language.loading import load
from initplug.language.preset_list import presets
from initplug.language.recipe import Recipe
from initplug.planning.draft import drafted
from initplug.planning.references import padding_row
from initplug.planning.resets import Replays
from initplug.planning.slots import Slot, Tree
from initplug.schemes.compositions import Drawn, Keep
from initplug.studies.drafting.agreement import agrees
from initplug.studies.drafting.formulas import candidates, copies
from initplug.studies.drafting.induction import rules_for
from initplug.studies.drafting.naming import comments_of, names_of, recipe_data
from initplug.studies.generators import generators_kept
from initplug.studies.recording.construction import watched
from initplug.studies.recording.recording import Nearest, Recording
from initplug.studies.recording.rows import Row
from initplug.studies.suggest import best_of


def record(build: Callable[[], nn.Module], *, meta: bool | None = None, check: bool = True) -> Recording:
    """Say what a constructor's own code initialises, and write a recipe that does the same.

    The constructor runs, on the CPU unless it says otherwise, while every operator is watched: a row tells what a
    parameter holds in the end and which lines of code wrote it. The generators of torch, NumPy and Python end as they
    began. What depends on no draw of torch's, and is no table that is known, is built a second time to tell fixed
    tables from draws of others.

    On meta large tensors have no values: a model of 70 billion elements is recorded within seconds, in some megabytes.
    The code is told that they are on the CPU, and runs as it does there.

    Args:
        build: returns the model; `lambda: model.apply(fn)` for what a function does to a model that is there.
        meta: whether large tensors are on meta. By default they are where the model would take more than half of the
            memory that is free, or is built on meta by its own code. Code that needs their values runs for real all
            the same, with a warning.
        check: whether the recipe is planned on the model and compared with every row, the values are measured, and the
            nearest preset is looked for.

    Raises:
        InitplugError: `build` is no function, or returns no module, or needs values and more memory than there is; what
            it raises itself is raised.

    Example:
        >>> recording = record(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
        >>> recording["1.weight"].distribution
        Constant(value=1.0)
        >>> recording.headline()
        'Sequential: 240 elements; 1 rule gives 4 of 4 parameters what the code does'
    """
    found = watched(build, meta=meta)
    if found.why is not None:
        warn(f"recorded {'on meta' if found.meta else 'for real'}: {found.why}")
    tree, rows = found.tree, found.rows
    replays = Replays(tree)
    drawn = [replace(row, twin=None) for row in rows]
    tried = candidates(tree, drawn, replays)
    proposals = rules_for(tree, rows, tried, copies(tree, rows, replays))
    names = names_of(proposals, rows)
    cls = tree.nodes[0].cls.__name__
    about = f"{cls} as its own code initialises it"
    recipe = load({"name": cls, "about": about, "rules": recipe_data(proposals, names)})
    differing, takers = _differing(tree, recipe, rows, replays) if check else ({}, {})
    return Recording(
        model=cls,
        rows=rows,
        recipe=recipe,
        comments=dict(zip(names, comments_of(proposals, rows, tried), strict=True)),
        look=(lambda: nearest_preset(tree, rows, replays)) if check and found.built else None,
        differing=differing,
        checked=check,
        meta=found.meta,
        takers=takers,
    )


UNSEEN = "its values are not what its code was seen to write"


def _differing(
    tree: Tree, recipe: Recipe, rows: Sequence[Row], replays: Replays
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return what a recipe does not give by what is planned and measured, and the rule of each row."""
    found, takers, complete = ungiven(tree, recipe, rows, replays)
    return (_with_measured(tree, recipe, rows, found) if complete else found), takers


def _with_measured(tree: Tree, recipe: Recipe, rows: Sequence[Row], planned: Mapping[str, str]) -> Mapping[str, str]:
    """Return what the planner says, and what has other moments than were recorded."""
    found = dict(planned)
    real = [slot.name for slot in tree.slots if not slot.tensor.is_meta]
    if len(real) < len(rows):  # there are no values, as on meta
        drawn = ((row.name, row.over) for row in rows if row.over is not None and row.name not in real)
        found.update((name, f"{PADDED}: padding row {over} is not 0") for name, over in drawn)
    if not real:
        return found
    with generators_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore", InitplugWarning)
        try:
            measured = audit(tree.nodes[0].module, recipe, only=real if len(real) < len(rows) else None)
        except ApplyError:  # nor are there here
            return found
    slots = {slot.name: slot for slot in tree.slots}
    recorded = {row.name: row.distribution for row in rows}
    for one in measured:
        doubtful = one.verdict == "differs" and not isinstance(one.distribution, Keep)
        slot = slots[one.name]
        if doubtful and not _holds(slot, recorded.get(one.name)) and not _is_rounded(slot, recorded.get(one.name)):
            padding = str(one.problem).startswith("padding row") and _draws_padding(tree, slot)
            found[one.name] = f"{PADDED if padding else UNSEEN}: {one.problem}"
    return found


def ungiven(
    tree: Tree, recipe: Recipe, rows: Sequence[Row], replays: Replays
) -> tuple[dict[str, str], dict[str, str], bool]:
    """Return what a recipe is not planned to give, the rule of each row, and whether it gives everything."""
    plan, _, misses = drafted(tree, recipe, replays=replays)
    found: dict[str, str] = {}
    takers = {row.name: share.rule for row, share in zip(rows, plan.shares, strict=False) if share.rule is not None}
    for place, row in enumerate(rows):
        planned = plan.shares[place].distribution
        if row.numel and not agrees(planned, row):
            text = "nothing" if planned is None else planned.text
            found[row.name] = f"the recipe gives {misses.get(place, text)}"
    return found, takers, not (found or plan.unmatched or misses)


PADDED = "its code draws the row that is meant for padding, too, which every recipe zeroes"


def _draws_padding(tree: Tree, slot: Slot) -> bool:
    """Return whether the row that is meant for padding holds more than one number."""
    row = padding_row(tree, slot)
    return row is not None and len(set(value_of(slot)[row].flatten()[:2].tolist())) > 1


def _is_rounded(slot: Slot, recorded: Drawn | None) -> bool:
    """Return whether a tensor that its owner computes, as by a norm, is beyond its bounds by rounding alone."""
    if slot.computed is None or recorded is None:
        return False
    value = value_of(slot)
    ends = [float(end) for end in value.aminmax()]
    low, high = recorded.law.low, recorded.law.high
    beyond = max(low - ends[0], ends[1] - high)
    near = 0 < beyond <= 1e-5 * max(abs(low), abs(high))
    _, judged = beside_bounds(recorded, measure(value.clamp(low, high)), value.dtype, partial(measure, value, None))
    return near and (judged is None or judged.verdict == "ok")


def _holds(slot: Slot, recorded: Drawn | None) -> bool:
    """Return whether a slot is a truncated draw with elements on a bound far out, where the recipe has none."""
    value = value_of(slot)
    _, judged = beside_bounds(recorded, measure(value), value.dtype, partial(measure, value, None))
    return judged is not None and judged.verdict == "ok"


def nearest_preset(tree: Tree, rows: Sequence[Row], replays: Replays) -> Nearest | None:
    """Return the preset that gives most parameters what was recorded; None where none gives any."""
    alone = [replace(row, twin=None) for row in rows]
    found: dict[str, tuple[str, ...]] = {}
    for name in presets():
        plan, _, _ = drafted(tree, _preset(name), replays=replays)
        planned = dict(zip(plan.names, plan.shares, strict=True))  # buffers, too
        found[name] = tuple(row.name for row in alone if not agrees(planned[row.name].distribution, row))
    least = min(map(len, found.values()))
    if least == len(rows):
        return None
    nearest = [name for name, differs in found.items() if len(differs) == least]
    # Of several, what was written for the model, rather than what happens to say the same.
    best = nearest[0] if len(nearest) == 1 else best_of(tree, nearest, replays)
    return Nearest(best, found[best])


@lru_cache(maxsize=1024)
def _preset(name: str) -> Recipe:
    return load(name).model_copy(update={"frozen": "write"})
