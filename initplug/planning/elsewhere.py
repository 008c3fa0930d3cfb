"""Tensors whose values are not where the model has them: placeholders, and pieces that others put together.

DeepSpeed, accelerate and torch's first FSDP are known by the marks that they leave, so that none of them is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from initplug.errors import Finding, PlanError, headed, shortened, warn
from initplug.planning.slots import Slots, Tree

GATHER = "apply before `deepspeed.zero.Init`, or inside `deepspeed.zero.GatheredParameters(…, modifier_rank=0)`"
DISPATCH = "apply before `dispatch_model`, `cpu_offload` or `disk_offload`, or after `remove_hook_from_submodules`"
FLAT = "use `fully_shard`, initialise before wrapping, or apply inside `FullyShardedDataParallel.summon_full_params`"


def elsewhere(tree: Tree, slots: Slots) -> dict[int, Finding]:
    """Return the slots whose values lie elsewhere, with what holds them; the first of a kind says how to reach them.

    Args:
        tree: the walked model.
        slots: of it, all or some.
    """
    found: dict[int, Finding] = {}
    tensors = slots.tensors
    for row in compress(range(len(slots)), map(MARKS, tensors)):  # nearly none
        sizes = tensors[row].__dict__.get("ds_shape")
        if sizes is not None and tuple(sizes) != tuple(tensors[row].shape):
            message = f"DeepSpeed keeps its {tuple(sizes)} in parts elsewhere (ZeRO 3), and here is a placeholder"
            found[row] = Finding(slots.names[row], message, hint=None if found else GATHER)
    if any("_hf_hook" in vars(node.module) for node in tree.nodes):
        hint: str | None = DISPATCH
        for row, slot in enumerate(slots):
            if slot.on_meta and any(_offloads(tree, node, slot.node) for node in tree.ancestors(slot.node)):
                message = "accelerate keeps its values elsewhere (offload), and would put them back over any others"
                found[row], hint = Finding(slot.name, message, hint=hint), None
    return found


MARKS = attrgetter("__dict__")
"""The attributes that others have written on a tensor."""


def _offloads(tree: Tree, node: int, owner: int) -> bool:
    """Return whether a hook of the module at a node holds the tensors of an owner at or below it."""
    hooks = _hooks(vars(tree.nodes[node].module).get("_hf_hook"))
    return any(hook.offload and (node == owner or hook.place_submodules) for hook in hooks)


def _hooks(hook: Any) -> Iterator[Any]:
    """Yield the hooks that align devices among one, or several in a sequence."""
    for one in getattr(hook, "hooks", (hook,)):
        if hasattr(one, "offload") and hasattr(one, "place_submodules"):
            yield one


def warn_of_elsewhere(tree: Tree) -> None:
    """Warn of slots whose values lie elsewhere, which cannot be written where the model has them."""
    found = elsewhere(tree, tree.slots)
    if found:
        first = next(iter(found.values()))
        names = ", ".join(shortened([finding.path for finding in found.values()]))
        counted = f"{len(found)} of {len(tree.slots)} slots"
        warn(f"{counted} have their values elsewhere, and cannot be written: {names}\n{first}")


def flat_parameters(model: nn.Module, names: Sequence[str], tensors: Sequence[Tensor]) -> dict[str, Finding]:
    """Return the flat parameters of torch's first FSDP, by name: many tensors in one, cut where no tensor ends."""
    distributed: Any = sys.modules.get("torch.distributed.fsdp")
    if distributed is None:
        return {}
    marked = compress(zip(names, tensors, strict=True), map(MARKS, tensors))
    flat = {name: tensor for name, tensor in marked if "_fsdp_flattened" in tensor.__dict__}
    if not flat or _summoned(distributed.FullyShardedDataParallel, model):
        return {}
    return {name: Finding(name, f"it is {_of_what(vars(tensor))}") for name, tensor in flat.items()}


def refuse_flat(findings: Sequence[Finding]) -> None:
    """Refuse flat parameters.

    Raises:
        PlanError: naming them, if there are any.
    """
    if findings:
        counted = "1 tensor is" if len(findings) == 1 else f"{len(findings)} tensors are"
        raise PlanError(
            f"{headed(f'{counted} cut by FSDP1 without regard to shapes', findings)}\n{FLAT[0].upper()}{FLAT[1:]}.",
            findings,
        )


def _summoned(cls: Any, model: nn.Module) -> bool:
    """Return whether all parameters are whole for now, and what is written to them is kept."""
    states = [module.training_state for module in cls.fsdp_modules(model)]
    return bool(states) and all(state.name == "SUMMON_FULL_PARAMS" for state in states)


def _of_what(marks: Mapping[str, Any]) -> str:
    held = marks.get("_fqns")
    return f"a flat parameter, which holds {', '.join(shortened(held, 3))}" if held else "a part of a flat parameter"
