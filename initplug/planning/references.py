"""The surroundings of a slot: its use by its owner, and the tensors and numbers that recipes refer to from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn

from initplug.errors import NAME, brief, near
from initplug.planning.parametrized import computed_by_hooks, computed_by_list, lists_of, stand_in
from initplug.planning.slots import Node, Slot, Tree
from initplug.planning.wrappers import public_type, unwrapped
from initplug.schemes.fans import PLAIN_LAYOUT, Layout
from initplug.values import is_whole, plain


def layout_of(module: nn.Module, key: str) -> Layout:
    """Return how a module uses the dimensions of one of its tensors."""
    if key == "weight":
        if isinstance(module, nn.modules.conv._ConvNd):
            stride = module.stride if module.transposed else ()
            return Layout(convolution=True, transposed=module.transposed, groups=module.groups, stride=stride)
        if isinstance(module, EMBEDDINGS):
            return Layout(embedding=True)
        if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # transformers.pytorch_utils.Conv1D, x @ W
            return Layout(matmul=True)
    return PLAIN_LAYOUT if isinstance(module, PLAIN_MODULES) else Layout(known=False)


PLAIN_MODULES = nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase
"""Modules whose matrices are stored as (out, in)."""

EMBEDDINGS = nn.Embedding, nn.EmbeddingBag
"""Modules of whose weight a row may be padding."""


def padding_row(tree: Tree, slot: Slot) -> int | None:
    """Return the row that an embedding keeps at zero, under whichever of its names the tensor is one's weight."""
    for _, key, index in slot.places:
        module = tree.nodes[index].module
        if key == "weight" and isinstance(module, EMBEDDINGS) and module.padding_idx is not None:
            return int(module.padding_idx)
    return None


def start_of(tree: Tree, slot: Slot, reference: str) -> tuple[Node, list[str]]:
    """Return the module that a reference starts from, and the names that lead on.

    Raises:
        LookupError: it starts outside the tree.
    """
    prefix = tree.nodes[0].name
    outside = f"{reference!r} lies outside the part {prefix!r}: plan the whole (meta) model"
    if reference.startswith("^"):
        rest = reference[1:]
        if prefix and not f"{rest}.".startswith(f"{prefix}."):
            raise LookupError(outside)
        below = rest[len(prefix) :].removeprefix(".")
        return tree.nodes[0], below.split(".") if below else []
    rest = reference.lstrip(".")
    chain = list(tree.ancestors(slot.node))
    climbs = max(len(reference) - len(rest) - 1, 0)
    if climbs >= len(chain):
        raise LookupError(outside if prefix else f"{reference!r} climbs above the model")
    return tree.nodes[chain[climbs]], rest.split(".")


def referred(tree: Tree, slot: Slot, reference: str) -> tuple[Tensor, Layout]:
    """Return the tensor that a reference names, read from the slot's owner, with the layout it has there.

    Args:
        tree: the walked model.
        slot: where the reference starts.
        reference: `weight` beside the slot, `..q.weight` from one module up, `^shared.weight` from the whole model.

    Raises:
        LookupError: there is no such tensor.
    """
    node, names = start_of(tree, slot, reference)
    owner, target = node.module, cast(object, node.module)
    for name in names:
        if not isinstance(target, nn.Module):
            raise LookupError(f"{reference!r} leads through {name!r}, which is below a {type(target).__name__}")
        held = held_by(target)
        if held.get(name) is None:
            raise LookupError(_without(target, name, reference, held))
        owner, target = target, held[name]
    if not isinstance(target, torch.Tensor):
        raise LookupError(f"{reference!r} is a {type(target).__name__}, not a tensor")
    return target, layout_of(owner, names[-1])


def held_by(module: nn.Module) -> Mapping[str, object]:
    """Return what a module holds by public names: modules without wrappers, tensors, stand-ins of computed ones."""
    children = ((key, child) for key, child in module._modules.items() if child is not None)
    modules = {key: unwrapped(child) for key, child in children}
    computed = [computed_by_list(module, key, by) for key, by in lists_of(module).items()]
    computed += computed_by_hooks(module).values()
    stand_ins = {one.key: stand_in(one, one.key) for one in computed}
    return {**modules, **module._parameters, **module._buffers, **stand_ins}


def _without(target: object, name: str, reference: str, known: Iterable[str]) -> str:
    """Return what is said of a name that a reference leads through and that is not there, with the nearest that is."""
    like = _nearest(name, tuple(known))
    hint = f"; did you mean {like}?" if like else ""
    return f"{public_type(type(target)).__name__} has no {name!r} (reference {reference!r}{hint})"


@lru_cache(maxsize=256)
def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    """Return the nearest name; modules of a class mostly have the same, and there may be thousands."""
    return near(word, known)


def _names_of(target: object) -> Iterable[str]:
    """Return the public names of attributes, or the keys of a mapping."""
    try:
        known = list(target) if isinstance(target, Mapping) else dir(target)
    except Exception:  # both are code of others
        return ()
    return (name for name in known if isinstance(name, str) and not name.startswith("_"))


MISSING = object()


def attribute(tree: Tree, slot: Slot, reference: str) -> int | float:
    """Return the number that a reference names, from the slot's owner on: `in_features`, `..width`, `^config.n_layer`.

    Raises:
        LookupError: there is no such attribute, or it is no number.
    """
    node, names = start_of(tree, slot, reference)
    target: object = node.module
    for name in names:
        try:
            found = target.get(name, MISSING) if isinstance(target, Mapping) else getattr(target, name, MISSING)
        except Exception as error:  # a property is code of others
            raise LookupError(f"reading {name!r} raised {brief(error, NAME)} (reference {reference!r})") from None
        if found is MISSING:
            raise LookupError(_without(target, name, reference, _names_of(target)))
        target = unwrapped(found) if isinstance(found, nn.Module) else found
    number = plain(target)
    if isinstance(number, float) or is_whole(number):
        return number  # type: ignore[no-any-return]  # one of both
    what = "a number beyond 64 bits" if type(number) is int else f"a {type(target).__name__}, not a number"
    raise LookupError(f"{reference!r} is {what}")
