"""Which slots of a model a recipe, or a plan made earlier, is about; and which of them are chosen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from initplug.columns import coded
from initplug.errors import ROWS, ApplyError, Finding, did_you_mean, listed
from initplug.language.loading import load
from initplug.language.selectors import Matcher, SelectorError, parse
from initplug.planning.dtypes import check_dtype
from initplug.planning.evaluation import Share
from initplug.planning.matching import hits_of, states_of
from initplug.planning.plan import Plan, planned, tree_for
from initplug.planning.references import padding_row
from initplug.planning.restoring import Restoration
from initplug.planning.slots import Slot, Slots, Tree
from initplug.planning.walking import walk
from initplug.schemes.calling import MisfitError
from initplug.schemes.distributions import Drawn


def fitted(model: nn.Module, recipe: Any, prefix: str) -> tuple[Plan, Tree, Slots]:
    """The plan of the model's slots, with the slots in its order."""
    if isinstance(recipe, Plan):
        return _of_earlier(model, recipe, prefix)
    recipe = load(recipe)
    tree = tree_for(model, recipe, prefix)
    plan, slots = planned(tree, recipe, prefix)
    return plan, tree, slots


def _of_earlier(model: nn.Module, whole: Plan, prefix: str) -> tuple[Plan, Tree, Slots]:
    """A plan, made earlier or of a larger model, cut to the slots of this one."""
    if whole.findings:
        head = f"the plan is unfinished: it was made with {len(whole.findings)} findings"
        raise ApplyError(listed(head, whole.findings), whole.findings)
    tree = walk(model, prefix)
    positions: dict[int, int] = {}
    shares: list[Share] = []
    findings: list[Finding] = []
    for row, slot in enumerate(tree.slots):
        position, problem = _position(slot, whole)
        if problem is not None:
            hint = did_you_mean(slot.name, whole.names) if slot.name not in whole and len(findings) < ROWS else None
            findings.append(Finding(slot.name, problem, hint=hint))
        elif position is not None:
            share = whole.shares[position]
            problem = "the plan ties it to another slot" if position in positions else _misfit(slot, share)
            if problem is not None:
                findings.append(Finding(slot.name, problem))
            positions[position] = row
            known = {name for name, _, _ in slot.places}
            elsewhere = not known.issuperset((whole.names[position], *whole.aliases(position)))
            shares.append(_of_this_model(share, tree, slot, elsewhere=elsewhere))
    if findings:
        raise ApplyError(listed("the plan is of another model", findings), findings)
    rows = np.array([*positions.values()], np.intp)
    return whole.part(list(positions), coded(shares)), tree, tree.slots.taken(rows)


def _position(slot: Slot, plan: Plan) -> tuple[int | None, str | None]:
    """Where a plan has a slot, or why it does not fit; neither for a buffer that the plan leaves out."""
    found = {plan.index_of(name) if name in plan else None for name, _, _ in slot.places}
    if len(found) > 1:
        return None, f"it is tied to {slot.aliases[0]}, which the plan does not say"
    (position,) = found
    missing = position is None and slot.kind == "parameter"
    return position, "the plan has no such slot" if missing else None


def _misfit(slot: Slot, share: Share) -> str | None:
    """What keeps a planned distribution from going to a tensor."""
    shape = () if slot.lazy else tuple(slot.tensor.shape)
    if shape != share.shape:
        return f"its shape is {shape}, the plan's {share.shape}"
    if isinstance(share.distribution, Drawn):
        try:
            check_dtype(share.distribution, slot.tensor.dtype, str(share.init))
        except MisfitError as reason:
            return str(reason)
    return None


def _of_this_model(share: Share, tree: Tree, slot: Slot, *, elsewhere: bool) -> Share:
    """What a plan says of a slot, with what is this model's own.

    Args:
        share: the plan's.
        tree: the walked model.
        slot: of it.
        elsewhere: whether the slot is at further places outside this model, which may be embeddings.
    """
    row = padding_row(tree, slot) if isinstance(share.distribution, Drawn) else None
    if row is None and elsewhere:
        row = share.padding_row
    dtype = str(slot.tensor.dtype).removeprefix("torch.")
    return replace(share, padding_row=row, dtype=dtype, trainable=slot.tensor.requires_grad)


def chosen_by(
    only: str | Iterable[str] | None,
    model: nn.Module,
    tree: Tree,
    planned: Slots,
    buffers: Sequence[Restoration],
    prefix: str,
) -> Collection[int]:
    """Positions of what `only` names or selects, of those planned and then of the buffers; a range where it is all."""
    if only is None:
        return range(len(planned) + len(buffers))
    slots = [*planned, *(buffer.slot for buffer in buffers)]
    if isinstance(only, str):
        return _selected(only, tree, slots, prefix)
    if not isinstance(only, Iterable):
        raise ApplyError(f"only= is a selector or names, not {only!r}")
    names = list(only)
    positions = {name: index for index, slot in enumerate(slots) for name, _, _ in slot.places}
    known = set(positions)
    # `missing_keys` of a load_state_dict are torch's names, with wrappers and what computed tensors are stored as; they
    # hold buffers too, which a recipe need not speak of. Hooks may rename the keys once more.
    holders = {id(tensor): index for index, slot in enumerate(slots) for tensor in slot.stored}
    start = prefix and f"{prefix}."
    for stored in (_named, _keyed):
        if all(isinstance(name, str) and name in known for name in names):
            break
        tensors = {start + name: tensor for name, tensor in stored(model).items()}
        found = {name: holders[id(tensor)] for name, tensor in tensors.items() if id(tensor) in holders}
        positions = found | positions
        known.update(tensors)
    unknown = [str(name) for name in names if not isinstance(name, str) or name not in known]
    if unknown:
        hints = [did_you_mean(name, known) if index < ROWS else None for index, name in enumerate(unknown)]
        findings = [
            Finding(name, "the model has no such tensor", hint=hint) for name, hint in zip(unknown, hints, strict=True)
        ]
        raise ApplyError(listed(f"only= names {len(unknown)} tensors that the model does not have", findings), findings)
    return {positions[name] for name in names if name in positions}


def _named(model: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def _keyed(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict(keep_vars=True))


def _selected(text: str, tree: Tree, slots: Sequence[Slot], prefix: str) -> set[int]:
    try:
        matcher = Matcher([parse(text)])
    except SelectorError as error:
        raise ApplyError(f"only={text!r}: bad selector: {error} (column {error.offset + 1})") from None
    states = states_of(tree, matcher, prefix)
    chosen = {index for index, slot in enumerate(slots) if hits_of(slot, states, matcher)}
    if not chosen:
        hint = did_you_mean(text, (slot.name for slot in slots))
        raise ApplyError(f"only={text!r} selects nothing" + (f" ({hint})" if hint else ""))
    return chosen
