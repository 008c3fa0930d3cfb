"""A module tree as slots: every named place that holds a tensor, tied places together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from initplug.errors import PlanError
from initplug.planning.reparametrized import (
    PARAMETRIZATIONS,
    Computed,
    computed_by_hooks,
    computed_by_list,
    lists_of,
    originals,
    public_type,
    stand_in,
    unwrapped,
    wrapping_key,
)
from initplug.schemes.fans import PLAIN, Layout

Kind = Literal["parameter", "buffer"]


class Node(NamedTuple):
    """A module at one of its places.

    Args:
        name: canonical dotted name; empty for the model itself.
        key: the last segment of the name.
        module: the module.
        cls: its class as its user knows it.
        parent: index of the parent node; -1 for the model itself.
        place: its place among its siblings, counted from the end; None for the model itself.
    """

    name: str
    key: str
    module: nn.Module
    cls: type
    parent: int
    place: int | None


@dataclass(slots=True)
class Slot:
    """A tensor with every place that holds it; the first place names it.

    Args:
        name: canonical dotted name.
        key: the attribute of the owner.
        node: index of the owner's node.
        kind: parameter or buffer.
        tensor: the tensor; of one that is computed a stand-in on meta.
        others: (name, key, node) of the further places of the same tensor.
        computed: how its owner computes it; None for a plain tensor.
        also: how owners at further places compute it.
    """

    name: str
    key: str
    node: int
    kind: Kind
    tensor: Tensor
    others: tuple[tuple[str, str, int], ...] = ()
    computed: Computed | None = None
    also: tuple[Computed, ...] = ()

    @property
    def stored(self) -> tuple[Tensor, ...]:
        """The tensors that hold the value: the tensor itself, unless it is computed."""
        return self.computed.stored if self.computed is not None else (self.tensor,)

    @property
    def on_meta(self) -> bool:
        """Whether there is no value yet."""
        return any(tensor.is_meta for tensor in self.stored)

    @property
    def aliases(self) -> tuple[str, ...]:
        """The further names."""
        return tuple(name for name, _, _ in self.others)

    @property
    def places(self) -> tuple[tuple[str, str, int], ...]:
        """(name, key, node) of every place, the naming one first."""
        return ((self.name, self.key, self.node), *self.others)

    @property
    def lazy(self) -> bool:
        """Whether the tensor waits for a first batch to learn its shape."""
        return type(self.tensor) not in PLAIN_TENSORS and bool(is_lazy(self.tensor))


PLAIN_TENSORS = frozenset({Tensor, nn.Parameter})
"""The types of nearly all tensors, which settle most questions at once."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A walked model: its modules in registration order, its parameters in `named_parameters()` order, its buffers."""

    nodes: Sequence[Node]
    slots: Sequence[Slot]

    def owner(self, slot: Slot) -> nn.Module:
        """The module whose attribute the slot is."""
        return self.nodes[slot.node].module

    def ancestors(self, node: int) -> Iterator[int]:
        """Indices from a node up to the model itself, the node included."""
        while node >= 0:
            yield node
            node = self.nodes[node].parent


def walk(model: nn.Module, prefix: str = "", *, buffers: bool = True) -> Tree:
    """Walk a model once.

    Args:
        model: any module.
        prefix: the canonical name of `model` in the whole model that names count from.
        buffers: whether buffers become slots.

    Raises:
        PlanError: `model` is no module, or `prefix` no name.

    Example:
        >>> [slot.name for slot in walk(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))).slots][:4]
        ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    if not isinstance(model, nn.Module):
        raise PlanError(f"a model is a torch.nn.Module, not a {type(model).__name__}")
    if not isinstance(prefix, str) or (prefix and not all(prefix.split("."))):
        raise PlanError(f"prefix {prefix!r} is no dotted name such as 'layers.17'")
    nodes: list[Node] = []
    _visit(model, prefix, prefix.rpartition(".")[2], -1, None, nodes, set())
    parameters = _slots(nodes, "parameter")
    return Tree(nodes, [*parameters, *_slots(nodes, "buffer")] if buffers else parameters)


@lru_cache(maxsize=4096)
def plain_class(cls: Any) -> type | None:
    """The class that a user knows of modules that stand for themselves; None of wrappers and TorchScript."""
    return None if wrapping_key(cls) is not None or issubclass(cls, torch.jit.ScriptModule) else public_type(cls)


def buffers_of(tree: Tree) -> list[Slot]:
    """The buffers of a walked model as slots, also where the walk left them out."""
    return [slot for slot in tree.slots if slot.kind == "buffer"] or _slots(tree.nodes, "buffer")


def _visit(
    module: nn.Module, name: str, key: str, parent: int, place: int | None, nodes: list[Node], above: set[int]
) -> None:
    own: Any = type(module)  # hashable, which the types of torch's modules hide
    cls = plain_class(own)
    if cls is None:
        module = unwrapped(module)
        cls = public_type(type(module))
        if isinstance(module, torch.jit.ScriptModule):
            raise PlanError(
                f"{name or 'the model'} is a TorchScript module, which hands out copies: plan it before scripting"
            )
    if id(module) in above:  # a module inside itself: torch visits it once
        return
    index = len(nodes)
    nodes.append(Node(name, key, module, cls, parent, place))
    if not module._modules:
        return
    children = [(child_key, child) for child_key, child in module._modules.items() if child is not None]
    above.add(id(module))
    start = name + "." if name else ""
    hidden = PARAMETRIZATIONS if lists_of(module) else None
    position = -sum(child_key != hidden for child_key, _ in children)
    for child_key, child in children:
        counted = child_key != hidden
        _visit(child, start + child_key, child_key, index, position if counted else None, nodes, above)
        position += counted
    above.discard(id(module))


class _Found(NamedTuple):
    """A tensor at one place, with what holds its value."""

    name: str
    key: str
    node: int
    tensor: Tensor
    computed: Computed | None


def _slots(nodes: Sequence[Node], kind: Kind) -> list[Slot]:
    """The tensors of one kind, each once, in the order in which torch names what is stored.

    A tensor that parametrizations compute comes after the tensors of their own, on which its value depends.
    """
    slots: list[Slot] = []
    known: dict[int, Slot] = {}
    waiting: list[tuple[str, list[_Found]]] = []
    for index, (name, _, module, cls, _, _) in enumerate(nodes):
        while waiting and not name.startswith(waiting[-1][0]):
            _place(waiting.pop()[1], kind, slots, known)
        held: Mapping[str, Tensor | None] = module._parameters if kind == "parameter" else module._buffers
        if not held:
            continue
        if module._forward_pre_hooks or cls is ParametrizationList:
            owner, found = _found(nodes, index, held)
            if owner == index:
                _place(found, kind, slots, known)
            else:
                waiting.append((f"{name}.", found))
            continue
        start = name + "." if name else ""
        for key, tensor in held.items():
            if tensor is None:
                continue
            if id(tensor) in known:
                _place([_Found(start + key, key, index, tensor, None)], kind, slots, known)
            else:  # nearly all
                slot = known[id(tensor)] = Slot(start + key, key, index, kind, tensor)
                slots.append(slot)
    while waiting:
        _place(waiting.pop()[1], kind, slots, known)
    return slots


def _place(found: Sequence[_Found], kind: Kind, slots: list[Slot], known: dict[int, Slot]) -> None:
    """Make places of tensors slots, or further places of slots that are known by the ids of what is stored."""
    for name, key, node, tensor, computed in found:
        stored = computed.stored if computed is not None else (tensor,)
        slot = next((known[id(part)] for part in stored if id(part) in known), None)
        if slot is None:
            value = tensor if computed is None else stand_in(computed, name)
            slot = Slot(name, key, node, kind, value, computed=computed)
            slots.append(slot)
            known.update(dict.fromkeys(map(id, stored), slot))
        else:
            slot.others = (*slot.others, (name, key, node))
            if computed is not None:
                slot.also = (*slot.also, computed)
        if any(known.get(id(part)) is not slot for part in stored) or len(stored) != len(slot.stored):
            raise PlanError(f"{name} and {slot.name} are computed from tensors that they share in part")


def _found(nodes: Sequence[Node], index: int, held: Mapping[str, Tensor | None]) -> tuple[int, list[_Found]]:
    """The node whose tensors those of a module are, and they at their places."""
    computed, owner = _computed(nodes, index)
    found: list[_Found] = []
    for key, tensor in held.items():
        if tensor is None:
            continue
        how = computed.get(key)
        place, key = (index, key) if how is None else (owner, how.key)
        start = nodes[place].name + "." if nodes[place].name else ""
        if how is None or not any(other.computed is how for other in found):
            found.append(_Found(start + key, key, place, tensor, how))
    return owner, found


def _computed(nodes: Sequence[Node], index: int) -> tuple[Mapping[str, Computed], int]:
    """What is computed from the tensors of a module, by their keys, and the node of the module that computes it."""
    node = nodes[index]
    module = node.module
    if isinstance(module, ParametrizationList) and node.parent >= 0 and nodes[node.parent].parent >= 0:
        place = nodes[node.parent].parent
        owner = nodes[place].module
        if lists_of(owner).get(node.key) is module:
            return dict.fromkeys(originals(module), computed_by_list(owner, node.key, module)), place
    return (computed_by_hooks(module) if module._forward_pre_hooks else {}), index


def layout_of(module: nn.Module, key: str) -> Layout:
    """How a module uses the dimensions of one of its tensors."""
    if key != "weight":
        return PLAIN
    if isinstance(module, nn.modules.conv._ConvNd):
        return Layout(transposed=module.transposed, groups=module.groups)
    if is_embedding(module):
        return Layout(embedding=True)
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # transformers.pytorch_utils.Conv1D, x @ W
        return Layout(matmul=True)
    return PLAIN


def is_embedding(module: nn.Module) -> bool:
    """Whether a row of its weight may be padding."""
    return isinstance(module, nn.Embedding | nn.EmbeddingBag)


def padding_row(tree: Tree, slot: Slot) -> int | None:
    """The row that an embedding keeps at zero, under whichever of its names the tensor is one's weight."""
    for _, key, index in slot.places:
        module = tree.nodes[index].module
        if key == "weight" and is_embedding(module) and module.padding_idx is not None:
            return int(cast(int, module.padding_idx))
    return None


def start_of(tree: Tree, slot: Slot, reference: str) -> tuple[Node, list[str]]:
    """The module that a reference starts from, and the names that lead on.

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
    """The tensor that a reference names, read from the slot's owner, with the layout it has there.

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
            raise LookupError(f"{public_type(type(target)).__name__} has no {name!r} (reference {reference!r})")
        owner, target = target, held[name]
    if not isinstance(target, torch.Tensor):
        raise LookupError(f"{reference!r} is a {type(target).__name__}, not a tensor")
    return target, layout_of(owner, names[-1])


def held_by(module: nn.Module) -> Mapping[str, object]:
    """What a module holds by public names: modules without their wrappers, tensors, stand-ins of computed ones."""
    children = ((key, child) for key, child in module._modules.items() if child is not None)
    modules = {key: unwrapped(child) for key, child in children}
    computed = [computed_by_list(module, key, by) for key, by in lists_of(module).items()]
    computed += computed_by_hooks(module).values()
    stand_ins = {one.key: stand_in(one, one.key) for one in computed}
    return {**modules, **module._parameters, **module._buffers, **stand_ins}


MISSING = object()


def attribute(tree: Tree, slot: Slot, reference: str) -> int | float:
    """The number that a reference names, read from the slot's owner: `in_features`, `..width`, `^config.n_layer`.

    Raises:
        LookupError: there is no such attribute, or it is no number.
    """
    node, names = start_of(tree, slot, reference)
    target: object = node.module
    for name in names:
        found = target.get(name, MISSING) if isinstance(target, Mapping) else getattr(target, name, MISSING)
        if found is MISSING:
            raise LookupError(f"{public_type(type(target)).__name__} has no {name!r} (reference {reference!r})")
        target = unwrapped(found) if isinstance(found, nn.Module) else found
    if isinstance(target, bool) or not isinstance(target, int | float):
        raise LookupError(f"{reference!r} is a {type(target).__name__}, not a number")
    return target
