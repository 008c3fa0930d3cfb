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
from initplug.planning.references import EMBEDDINGS, padding_row
from initplug.planning.restoring import Restoration
from initplug.planning.slots import Kin, Slot, Slots, Tree
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
    slots, tied = tree.slots, {*tree.slots.tied}
    positions: dict[int, int] = {}
    shares: list[Share] = []
    findings: list[Finding] = []
    # What is the same for slots that are alike is found once.
    known: dict[tuple[int, Kin, int | None], tuple[str | None, Share]] = {}
    for row, (name, kin) in enumerate(zip(slots.names, slots.kins, strict=True)):
        places = {whole.find(place) for place in (name, *(slots[row].aliases if row in tied else ()))}
        if len(places) > 1:
            findings.append(Finding(name, f"it is tied to {slots[row].aliases[0]}, which the plan does not say"))
            continue
        (position,) = places
        if position is None:
            if kin.kind == "parameter":  # a plan may leave buffers out
                hint = did_you_mean(name, whole.names) if len(findings) < ROWS else None
                findings.append(Finding(name, "the plan has no such slot", hint=hint))
            continue
        share = whole.shares[position]
        padding = _padding_row(whole, position, tree, row) if _may_be_padded(share, kin) or row in tied else None
        key = (id(share), kin, padding)
        if key not in known:
            known[key] = _misfit(kin, share), _of_this_model(share, kin, padding)
        problem, own = known[key]
        problem = "the plan ties it to another slot" if position in positions else problem
        if problem is not None:
            findings.append(Finding(name, problem))
        positions[position] = row
        shares.append(own)
    if findings:
        raise ApplyError(listed("the plan is of another model", findings), findings)
    rows = np.array([*positions.values()], np.intp)
    return whole.part(list(positions), coded(shares)), tree, slots.taken(rows)


def _misfit(kin: Kin, share: Share) -> str | None:
    """What keeps a planned distribution from going to a tensor."""
    if tuple(kin.shape) != share.shape:
        return f"its shape is {tuple(kin.shape)}, the plan's {share.shape}"
    if isinstance(share.distribution, Drawn):
        try:
            check_dtype(share.distribution, kin.dtype, str(share.init))
        except MisfitError as reason:
            return str(reason)
    return None


def _may_be_padded(share: Share, kin: Kin) -> bool:
    """Whether a slot may be the weight of an embedding with a padding row, here or elsewhere in the plan's model."""
    return share.padding_row is not None or issubclass(kin.cls, EMBEDDINGS)


def _padding_row(whole: Plan, position: int, tree: Tree, row: int) -> int | None:
    """The padding row of a slot that is drawn: its own, or that of a further place outside this model."""
    share, slot = whole.shares[position], tree.slots[row]
    found = padding_row(tree, slot) if isinstance(share.distribution, Drawn) else None
    if found is None and not {slot.name, *slot.aliases}.issuperset((whole.names[position], *whole.aliases(position))):
        return share.padding_row
    return found


def _of_this_model(share: Share, kin: Kin, padding: int | None) -> Share:
    """What a plan says of a slot, with what is this model's own."""
    dtype = str(kin.dtype).removeprefix("torch.")
    return replace(share, padding_row=padding, dtype=dtype, trainable=kin.trainable)


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
        try:
            tensors = {start + name: tensor for name, tensor in stored(model).items()}
        except RecursionError:  # of a tree that is too deep for torch to name
            break
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
