"""Winning initializers x tensors: what each comes down to, slots that are alike evaluated once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from initplug.columns import Coded, Rows, coded, paired
from initplug.language.faults import shown
from initplug.language.init import Init
from initplug.language.recipe import Recipe
from initplug.planning.advice import own_rule
from initplug.planning.assignment import LAZY, UNMATCHED, Share
from initplug.planning.composition import NO_CONTEXT, Context, Pair, distribution_for, factored_by, fans_for
from initplug.planning.copies import Known, LackingError, copied, loaded, settled
from initplug.planning.dtypes import check_dtype, in_dtype, misfit_of
from initplug.planning.factors import Places, multiplier
from initplug.planning.matching import Frozen, Winner
from initplug.planning.references import EMBEDDINGS, layout_of, padding_row, referred
from initplug.planning.remarks import remark
from initplug.planning.resets import Replays, default_of, recorded_of
from initplug.planning.slots import Slot, Slots, Tree
from initplug.schemes.calls import MisfitError
from initplug.schemes.compositions import Copy, Drawn, Keep, Load, Planned
from initplug.schemes.fans import PLAIN_LAYOUT, Fans
from initplug.schemes.initializers import BY_CHANNEL, TRANSFERS
from initplug.schemes.structures.base import Structured


@dataclass(frozen=True, slots=True)
class _Setting:
    """The surroundings in which every slot of one plan is evaluated, and what is known already."""

    tree: Tree
    recipe: Recipe
    inits: Mapping[str, Init]
    texts: Mapping[str, str]
    shares: dict[Any, Share]
    replays: Replays
    places: dict[str, Places]
    known: Known = field(default_factory=Known)


def evaluate(
    tree: Tree, recipe: Recipe, winners: Coded[Winner | Frozen | None], replays: Replays
) -> tuple[Slots, Coded[Share], dict[int, str]]:
    """Return what the winning initializers come down to; slots that are alike are evaluated once.

    Args:
        tree: the walked model.
        recipe: the recipe that the winners are rules of.
        winners: of every slot; None where no rule takes it.
        replays: what resets draw, added to.

    Returns:
        The slots that have a row (buffers that no rule takes have none), the share of each, and by row why initializers
        do not fit.
    """
    rules = {name: rule for name, rule in recipe.rules.items() if rule is not None}
    inits = {name: _with_folder(rule.init, recipe.folder(name)) for name, rule in rules.items()}
    setting = _Setting(tree, recipe, inits, {name: rule.init.text for name, rule in rules.items()}, {}, replays, {})
    plain = {name for name, init in inits.items() if _is_plain(init)}
    scaled = {name for name in plain if inits[name].factors}
    slots, alike = tree.slots, paired(winners, tree.slots.kins)
    rows = alike.where(lambda pair: pair[0] is not None or pair[1].kind == "parameter")
    if len(rows) < len(slots):
        slots, alike = slots.taken(rows), alike.taken(rows)
    shares: list[Share] = []
    places: dict[int, int] = {}  # of shares among them, by their ids
    codes = np.empty(len(slots), np.intp)
    misses: dict[int, str] = {}

    def note(rows: Rows | int, share: Share) -> None:
        codes[rows] = place = places.setdefault(id(share), len(shares))
        if place == len(shares):
            shares.append(share)

    def take(rows: Rows, winner: Winner | Frozen | None) -> None:
        """Evaluate what the first of some rows is to get, which the others get too."""
        share, reason = _attempted(setting, slots[int(rows[0])], winner)
        note(rows, share)
        if reason is not None:
            misses.update(dict.fromkeys(rows.tolist(), reason))

    single = np.zeros(len(slots), np.bool_)  # evaluated one by one: a tied tensor may be an embedding elsewhere
    single[slots.tied] = True
    for (winner, kin), group in alike.groups():
        plainly = not isinstance(winner, Winner) or (winner.rule in plain and not kin.lazy)
        if not plainly or issubclass(kin.cls, EMBEDDINGS):  # whose padding row is each one's own
            single[group] = True
        elif len(rest := group[~single[group]]):
            if isinstance(winner, Winner) and winner.rule in scaled and kin.shape.numel():
                for row, multiple in zip(rest.tolist(), _multiples(setting, slots, rest, winner), strict=True):
                    if multiple is None:
                        single[row] = True
                    else:
                        note(row, multiple)
            else:
                take(rest, winner)
    for row in np.flatnonzero(single).tolist():
        take(np.array([row]), alike[row][0])
    found, misses = Coded(shares, codes), dict(sorted(misses.items()))
    if any(isinstance(share.distribution, Copy) for share in found.values):
        found = _settle(slots, found, misses)
    return slots, found, misses


def _multiples(setting: _Setting, slots: Slots, rows: Rows, winner: Winner) -> Iterator[Share | None]:
    """Yield the shares of slots that are alike but for their factors; None where one does not fit."""
    first, init = slots[int(rows[0])], setting.inits[winner.rule]
    shape, dtype = tuple(first.kin.shape), first.kin.dtype
    known: dict[tuple[float, float], Share] = {}
    try:
        whole, fans = distribution_for(init, shape, shape, PLAIN_LAYOUT, NO_CONTEXT)
    except MisfitError:
        yield from [None] * len(rows)
        return
    note = remark(init, PLAIN_LAYOUT, whole)  # cuts are as far out whatever the factor
    share = _share(setting, first, winner, whole, fans)._replace(note=note)

    def multiple(row: int) -> Share | None:
        try:
            factor = _factor(setting, slots[row], init)
            if factor not in known:
                distribution = in_dtype(factored_by(factor, whole, init), dtype)
                check_dtype(distribution, dtype, init.fn)
                known[factor] = share._replace(distribution=distribution)
            return known[factor]
        except MisfitError:
            return None

    yield from map(multiple, rows.tolist())


def _is_plain(init: Init) -> bool:
    """Return whether what an initializer comes down to depends on nothing but the tensor and its factors."""
    by_module = init.fans == "effective" or init.fn in ("default", "keep", *BY_CHANNEL, *TRANSFERS)
    if init.parts or by_module:
        return False
    return "of" not in init.initializer.parameters


def _attempted(setting: _Setting, slot: Slot, winner: Winner | Frozen | None) -> tuple[Share, str | None]:
    """Return the share of a slot, and what keeps its initializer from fitting."""
    if not isinstance(winner, Winner):
        return _share(setting, slot, winner, None, None), None
    try:
        return _share_of(setting, slot, winner), None
    except MisfitError as reason:
        return _share(setting, slot, winner, None, None), str(reason)
    except LackingError as lacking:
        return _before(setting, slot, winner, lacking)


def _before(setting: _Setting, slot: Slot, winner: Winner, lacking: LackingError) -> tuple[Share, str | None]:
    """Return what a slot gets by the rule before one whose file lacks it, and what keeps that from fitting."""
    before = winner.before(slot.kin.trainable or slot.kind == "buffer")
    told = f"{lacking.args[0]}; rule {shown(winner.rule)} leaves it"
    if before is None and setting.recipe.unmatched == "error":
        return _share(setting, slot, winner, None, None), f"load: {lacking.args[0]}, and no earlier rule takes it"
    share, reason = _attempted(setting, slot, before)
    return share._replace(note=f"{told}; {share.note}" if share.note else told), reason


def _settle(slots: Slots, column: Coded[Share], misses: dict[int, str]) -> Coded[Share]:
    """Tell copies what their values come from in the end; circles are misses."""
    shares, names = [*column], slots.names
    copies, circles = settled({name: share.distribution for name, share in zip(names, shares, strict=True)})
    for index, (name, share) in enumerate(zip(names, shares, strict=True)):
        if name in copies:
            shares[index] = share._replace(distribution=copies[name])
        elif name in circles:
            shares[index] = share._replace(distribution=None)
            misses[index] = f"copy: {circles[name]}"
    return coded(shares)


def _with_folder(init: Init, folder: Path) -> Init:
    """Return an initializer whose path, if it has one, starts where it stands in the recipe."""
    if init.fn != "load":
        return init
    return replace(init, arguments={**init.arguments, "path": str(folder / init.arguments["path"])})


def _share_of(setting: _Setting, slot: Slot, winner: Winner) -> Share:
    """Return the share of a slot, from what is known of slots like it if there are any."""
    if slot.lazy:
        return _share(setting, slot, winner, None, None)
    tensor, init = slot.tensor, setting.inits[winner.rule]
    owner = setting.tree.owner(slot)
    all_of_them = (init, *init.parts)
    asked = any(one.fans == "effective" or one.fn in BY_CHANNEL for one in all_of_them)
    layout = layout_of(owner, slot.key) if asked else PLAIN_LAYOUT
    row = padding_row(setting.tree, slot)
    context = _context(setting, slot, init)
    recorded = recorded_of(setting.replays, slot) if any(one.fn == "default" for one in all_of_them) else None
    told = recorded.told if recorded is not None and isinstance(recorded.outcome, Drawn) else None
    key = (
        winner,
        setting.tree.nodes[slot.node].cls,
        slot.kin.shape,
        tensor.dtype,
        tensor.requires_grad,
        layout,
        row,
        context,
        told,
    )
    share = setting.shares.get(key)
    if share is None:
        distribution: Planned | None = None
        fans: Pair | None = Fans(slot.kin.shape).pair
        if tensor.numel():
            whole = tuple(slot.kin.shape)
            made, fans = distribution_for(init, whole, whole, layout, context)
            distribution = in_dtype(made, tensor.dtype)
            check_dtype(distribution, tensor.dtype, init.fn)
        share = _share(setting, slot, winner, distribution, fans, row)
        notes = [told, remark(init, layout, distribution)]
        share = setting.shares[key] = share._replace(note="; ".join(filter(None, notes)) or None)
    return share


def _context(setting: _Setting, slot: Slot, init: Init) -> Context:
    if slot.tensor.numel() == 0:
        return NO_CONTEXT
    source = None if init.parts else _surroundings(setting, slot, init)
    if source is None and not init.factors and not init.parts:
        return NO_CONTEXT
    parts = tuple(_context(setting, slot, part) for part in init.parts)
    return Context(source, _factor(setting, slot, init) if init.factors else None, parts)


def _surroundings(setting: _Setting, slot: Slot, init: Init) -> Drawn | Copy | Load | Keep | Fans | None:
    """Return what a distribution depends on beyond the tensor itself: resets, fans or values of something else."""
    if init.fn in TRANSFERS:
        return _transferred(setting, slot, init)
    otherwise = init.arguments.get("otherwise")
    if init.fn == "default" or (init.fn == "keep" and otherwise == "default" and slot.on_meta):
        return _default(setting, slot, kept=init.fn == "default" and otherwise == "keep")
    if "of" in init.initializer.parameters and (slot.tensor.ndim < 2 or "of" in init.arguments):
        reference = init.arguments.get("of", init.initializer.parameters["of"].default)
        try:
            source, layout = referred(setting.tree, slot, reference)
        except LookupError as error:
            raise MisfitError(f"{init.fn} takes the fan of another tensor, and {error.args[0]}") from None
        return fans_for(init, tuple(source.shape), layout)
    return None


def _transferred(setting: _Setting, slot: Slot, init: Init) -> Copy | Load:
    """Return where the values of a copied or loaded slot come from."""
    given = init.arguments
    try:
        if init.fn == "copy":
            return copied(setting.tree, slot, given["source"], setting.known)
        return loaded(slot, Path(given["path"]), given.get("key"), given.get("prefix") or "", setting.known)
    except LookupError as error:
        if isinstance(error, LackingError) and given.get("missing") == "previous":
            raise
        raise MisfitError(f"{init.fn}: {error.args[0]}") from None


def _factor(setting: _Setting, slot: Slot, init: Init) -> tuple[float, float]:
    """Return what multiplies and what divides the result."""
    try:
        return multiplier(setting.tree, slot, init.factors, setting.places)
    except LookupError as error:
        raise MisfitError(f"{init.fn}: factor: {error.args[0]}") from None
    except ArithmeticError:
        powers = " · ".join(factor.text for factor in init.factors)
        raise MisfitError(f"{init.fn}: factor: {powers} is beyond what numbers hold") from None


def _default(setting: _Setting, slot: Slot, *, kept: bool) -> Drawn | Keep:
    """Return what the resets of the owner and its ancestors leave, innermost first, the last write counting.

    Args:
        setting: of the plan.
        slot: a tensor.
        kept: whether it stays as it is where that cannot be told, or given to it.
    """
    outcome = default_of(setting.replays, slot)
    recorded = recorded_of(setting.replays, slot)
    if recorded is not None and isinstance(recorded.outcome, Drawn):
        outcome = recorded.outcome
    if isinstance(outcome, Drawn):
        dtype = slot.tensor.dtype
        misfit = misfit_of(in_dtype(outcome, dtype), dtype, "default") if kept else None
        return outcome if misfit is None else Keep(because=misfit.removeprefix("default: "))
    kind = setting.tree.nodes[slot.node].cls.__name__
    reason = outcome or f"no reset of {kind} or of a module around it writes it"
    if recorded is not None:
        reason += f", and recorded is: {recorded.outcome}"
    if kept:
        return Keep(because=reason)
    if slot.on_meta:  # where nothing is that could be kept
        raise MisfitError(f"default: {reason}; give it a later rule of its own, such as `{own_rule(slot)}`")
    raise MisfitError(f"default: {reason}; `keep` leaves it as it is")


def has_default(replays: Replays, slot: Slot, *, whole: bool) -> bool:
    """Return whether `default` fits a slot, as a whole or one of its parts."""
    outcome = default_of(replays, slot)
    if not isinstance(outcome, Drawn) or (isinstance(outcome, Structured) and not whole):
        return False
    dtype = slot.tensor.dtype
    return misfit_of(in_dtype(outcome, dtype), dtype, "default") is None


def _left_alone(
    setting: _Setting, slot: Slot, winner: Winner | Frozen | None, distribution: Planned | None
) -> str | None:
    """Return why nothing is to be written to a slot; None where something is."""
    if not isinstance(winner, Winner):
        return UNMATCHED if winner is None else winner.reason
    undrawn = slot.lazy or not slot.tensor.numel()  # of which no distribution says that it is kept
    if isinstance(distribution, Keep) or (undrawn and setting.inits[winner.rule].fn == "keep"):
        return "keep"
    return LAZY if slot.lazy else None


def _share(
    setting: _Setting,
    slot: Slot,
    winner: Winner | Frozen | None,
    distribution: Planned | None,
    fans: Pair | None,
    row: int | None = None,
) -> Share:
    tensor = slot.tensor
    won = winner if isinstance(winner, Winner) else None
    return Share(
        kind=slot.kind,
        module_type=setting.tree.nodes[slot.node].cls.__name__,
        shape=tuple(slot.kin.shape),  # which lazy and nested tensors have none of
        dtype=str(tensor.dtype).removeprefix("torch."),
        numel=0 if slot.lazy else tensor.numel(),
        trainable=tensor.requires_grad,
        rule=won.rule if won else None,
        selector=won.selector if won else None,
        location=setting.recipe.location(won.rule) if won else None,
        shadowed=won.shadowed if won else (),
        init=setting.texts[won.rule] if won else None,
        distribution=distribution,
        fan_in=fans[0] if fans else None,
        fan_out=fans[1] if fans else None,
        reason=_left_alone(setting, slot, winner, distribution),
        padding_row=row if isinstance(distribution, Drawn) else None,
        lazy=slot.lazy,
        passed=winner.passed if winner else None,
    )
