"""A model -> its slots, walked once: every named place that holds a tensor, tied places together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from initplug.columns import Coded
from initplug.errors import PlanError
from initplug.planning.elsewhere import flat_parameters
from initplug.planning.parametrized import (
    PARAMETRIZATIONS,
    Computed,
    computed_by_hooks,
    computed_by_list,
    lists_of,
    originals,
    stand_in,
)
from initplug.planning.slots import Columns, Kin, Node, Slot, SlotKind, Slots, Tree
from initplug.planning.wrappers import public_type, unwrapped, wrapping_key


def walk(model: nn.Module, prefix: str = "", *, buffers: bool = True) -> Tree:
    """Walk a model once.

    Args:
        model: any module.
        prefix: the canonical name of `model` in the whole model that names count from.
        buffers: whether buffers become slots.

    Raises:
        PlanError: `model` is no module, or `prefix` no name, or two tensors have one name.

    Example:
        >>> [slot.name for slot in walk(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))).slots][:4]
        ['0.weight', '0.bias', '1.weight', '1.bias']
    """
    if not isinstance(model, nn.Module):
        raise PlanError(f"a model is a torch.nn.Module, not a {type(model).__name__}")
    if not isinstance(prefix, str) or (prefix and not all(prefix.split("."))):
        raise PlanError(f"prefix {prefix!r} is no dotted name such as 'layers.17'")
    nodes: list[Node] = []
    _visit(model, prefix, nodes)
    slots = _slots(nodes, ("parameter", "buffer") if buffers else ("parameter",))
    if len(set(slots.names)) < len(slots):
        (name, count), *_ = Counter(slots.names).most_common(1)
        raise PlanError(f"{count} tensors are called {name}, so that no rule, stream or checkpoint can tell them apart")
    return Tree(nodes, slots, flat_parameters(model, slots.names, slots.tensors))


@lru_cache(maxsize=4096)
def plain_class(cls: Any) -> type | None:
    """Return the class that a user knows of modules that stand for themselves; None of wrappers and TorchScript."""
    return None if wrapping_key(cls) is not None or issubclass(cls, torch.jit.ScriptModule) else public_type(cls)


def buffers_of(tree: Tree) -> Sequence[Slot]:
    """Return the buffers of a walked model as slots, also where the walk left them out."""
    rows = tree.slots.kins.where(lambda kin: kin.kind == "buffer")
    return tree.slots.taken(rows) if len(rows) else _slots(tree.nodes, ("buffer",))


class _Place(NamedTuple):
    """A module that is to be visited, and where it stands."""

    module: nn.Module
    name: str
    key: str
    parent: int
    place: int | None


def _visit(model: nn.Module, prefix: str, nodes: list[Node]) -> None:
    """Append the node of every module, each before those below it; no depth is too deep."""
    first = _Place(model, prefix, prefix.rpartition(".")[2], -1, None)
    above: set[int] = set()
    waiting: list[tuple[Iterator[_Place], int]] = [(iter([first]), 0)]  # of each module above, what is left below it
    while waiting:
        below, parent = waiting[-1]
        found = next(below, None)
        if found is None:
            waiting.pop()
            above.discard(parent)
            continue
        module, name, key, index, place = found
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
            continue
        nodes.append(_node(name, key, module, cls, index, place))
        if module._modules:
            above.add(id(module))
            waiting.append((_visit_children(module, name, nodes), id(module)))


def _visit_children(module: nn.Module, name: str, nodes: list[Node]) -> Iterator[_Place]:
    """Append the nodes of the children of the module that was visited last, but for those that are to be visited."""
    index = len(nodes) - 1
    children = [(child_key, child) for child_key, child in module._modules.items() if child is not None]
    start = name + "." if name else ""
    hidden = PARAMETRIZATIONS if lists_of(module) else None
    position = -sum(child_key != hidden for child_key, _ in children)
    for child_key, child in children:
        counted = child_key != hidden
        at = position if counted else None
        own: Any = type(child)  # hashable, likewise
        cls = None if child._modules else plain_class(own)
        if cls is not None:  # nothing is below it, as of most modules
            nodes.append(_node(start + child_key, child_key, child, cls, index, at))
        else:
            yield _Place(child, start + child_key, child_key, index, at)
        position += counted


def _node(name: str, key: str, module: nn.Module, cls: type, parent: int, place: int | None) -> Node:
    held = module._parameters, module._buffers, bool(module._forward_pre_hooks)
    return tuple.__new__(Node, (name, key, module, cls, parent, place, *held))  # as `Node(...)`, in half the time


def _slots(nodes: Sequence[Node], kinds: Sequence[SlotKind]) -> Slots:
    """Return the tensors of some kinds, each once, in the order in which torch names what is stored."""
    every = Columns()
    for kind in kinds:
        columns = _gathered(nodes, kind)
        if columns.computed or len({*map(id, columns.tensors)}) < len(columns):
            columns = _tied(columns)
        columns.kins = _kins(columns, nodes, kind)
        every = every.then(columns) if len(every) else columns
    return Slots(every)


def _gathered(nodes: Sequence[Node], kind: SlotKind) -> Columns:
    """Return the tensors of one kind, at each of their places.

    A tensor that parametrizations compute comes after the tensors of their own, on which its value depends.
    """
    columns = Columns()
    names, keys, places, holders, tensors = (
        columns.names,
        columns.keys,
        columns.nodes,
        columns.holders,
        columns.tensors,
    )
    waiting: list[tuple[str, list[_Found]]] = []
    of_parameters = kind == "parameter"
    for index, (name, _, _, cls, _, _, parameters, buffers, hooked) in enumerate(nodes):
        while waiting and not name.startswith(waiting[-1][0]):
            _append(columns, waiting.pop()[1])
        held = parameters if of_parameters else buffers
        if not held:
            continue
        if hooked or cls is ParametrizationList:
            owner, found = _found(nodes, index, held)
            if owner == index:
                _append(columns, found)
            else:
                waiting.append((f"{name}.", found))
            continue
        start = name + "." if name else ""
        for key, tensor in held.items():
            if tensor is not None:  # one by one: this is most of the time that a walk takes
                names.append(start + key)
                keys.append(key)
                places.append(index)
                holders.append(held)
                tensors.append(tensor)
    while waiting:
        _append(columns, waiting.pop()[1])
    return columns


class _Found(NamedTuple):
    """A tensor at one place, with what holds its value."""

    name: str
    key: str
    node: int
    holder: dict[str, Any]
    tensor: Tensor
    computed: Computed | None


def _append(columns: Columns, found: Iterable[_Found]) -> None:
    for name, key, node, holder, tensor, computed in found:
        if computed is not None:
            columns.computed[len(columns)] = computed
        columns.names.append(name)
        columns.keys.append(key)
        columns.nodes.append(node)
        columns.holders.append(holder)
        columns.tensors.append(tensor)


def _tied(columns: Columns) -> Columns:
    """Return the same with one row for all places of a tensor, which the first of them names."""
    tied = Columns()
    known: dict[int, int] = {}  # rows by the ids of what is stored
    rows = zip(columns.names, columns.keys, columns.nodes, columns.holders, columns.tensors, strict=True)
    for place, (name, key, node, holder, tensor) in enumerate(rows):
        computed = columns.computed.get(place)
        stored = computed.stored if computed is not None else (tensor,)
        row = next((known[id(part)] for part in stored if id(part) in known), None)
        if row is None:
            row = len(tied)
            value = tensor if computed is None else stand_in(computed, name)
            _append(tied, [_Found(name, key, node, holder, value, computed)])
            known.update(dict.fromkeys(map(id, stored), row))
        else:
            tied.others[row] = (*tied.others.get(row, ()), (name, key, node))
            if computed is not None:
                tied.also[row] = (*tied.also.get(row, ()), computed)
        first = tied.computed.get(row)
        count = len(first.stored) if first is not None else 1
        if any(known.get(id(part)) != row for part in stored) or len(stored) != count:
            raise PlanError(f"{name} and {tied.names[row]} are computed from tensors that they share in part")
    return tied


def _kins(columns: Columns, nodes: Sequence[Node], kind: SlotKind) -> Coded[Kin]:
    """Return what each tensor has in common with others."""
    try:
        return _alike(columns, nodes, kind, SHAPE)
    except RuntimeError:  # the sizes of a few cannot be asked for
        return _alike(columns, nodes, kind, _shape)


def _alike(
    columns: Columns, nodes: Sequence[Node], kind: SlotKind, shape_of: Callable[[Tensor], torch.Size | None]
) -> Coded[Kin]:
    tensors = columns.tensors
    classes = map(CLASS, map(nodes.__getitem__, columns.nodes))
    asked = (map(type, tensors), map(shape_of, tensors), map(DTYPE, tensors), map(TRAINABLE, tensors))
    places: dict[Any, int] = defaultdict(count().__next__)  # which gives every new kin the next number
    codes = np.fromiter(map(places.__getitem__, zip(classes, columns.keys, *asked, strict=True)), np.intp, len(tensors))
    return Coded([Kin.of(kind, *like) for like in places], codes)


def _shape(tensor: Tensor) -> torch.Size | None:
    """Return the sizes of a tensor; None for a lazy one, no sizes for a strided nested one, which has rows of many."""
    if is_lazy(tensor):
        return None
    return torch.Size() if tensor.is_nested and tensor.layout is torch.strided else tensor.shape


CLASS, SHAPE = attrgetter("cls"), attrgetter("shape")
DTYPE, TRAINABLE = attrgetter("dtype"), attrgetter("requires_grad")


def _found(nodes: Sequence[Node], index: int, held: dict[str, Any]) -> tuple[int, list[_Found]]:
    """Return the node whose tensors those of a module are, and they at their places."""
    computed, owner = _computed(nodes, index)
    found: list[_Found] = []
    for key, tensor in held.items():
        if tensor is None:
            continue
        how = computed.get(key)
        place, key = (index, key) if how is None else (owner, how.key)
        start = nodes[place].name + "." if nodes[place].name else ""
        if how is None or not any(other.computed is how for other in found):
            found.append(_Found(start + key, key, place, held, tensor, how))
    return owner, found


def _computed(nodes: Sequence[Node], index: int) -> tuple[Mapping[str, Computed], int]:
    """Return what is computed from a module's tensors, by their keys, and the node of the module that computes it."""
    node = nodes[index]
    module = node.module
    if isinstance(module, ParametrizationList) and node.parent >= 0 and nodes[node.parent].parent >= 0:
        place = nodes[node.parent].parent
        owner = nodes[place].module
        if lists_of(owner).get(node.key) is module:
            return dict.fromkeys(originals(module), computed_by_list(owner, node.key, module)), place
    return (computed_by_hooks(module) if module._forward_pre_hooks else {}), index
