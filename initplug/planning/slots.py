"""A module tree as slots: every named place that holds a tensor, tied places together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeVar, cast, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from initplug.columns import Coded, Rows, coded
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
T = TypeVar("T")


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


@dataclass(frozen=True, slots=True, eq=False)
class Kin:
    """What slots that are alike have in common before any rule sees them.

    Args:
        kind: parameter or buffer.
        cls: class of the owner as its user knows it.
        key: the attribute of the owner.
        shape: sizes, in elements; none of a lazy tensor.
        dtype: of the elements.
        trainable: whether it requires a gradient.
        plain: whether the tensor is of torch's own types, as nearly all are.
        lazy: whether it waits for a first batch to learn its shape.
    """

    kind: Kind
    cls: type
    key: str
    shape: torch.Size
    dtype: torch.dtype
    trainable: bool
    plain: bool
    lazy: bool

    @classmethod
    def of(
        cls,
        kind: Kind,
        owner: type,
        key: str,
        tensor: type,
        shape: torch.Size | None,
        dtype: torch.dtype,
        trainable: bool,
    ) -> Kin:
        """That of tensors of a type which modules of a class hold; those without a shape are lazy."""
        return cls(kind, owner, key, shape or torch.Size(), dtype, trainable, tensor in PLAIN_TENSORS, shape is None)


PLAIN_TENSORS = frozenset({Tensor, nn.Parameter})
"""The types of nearly all tensors, which settle most questions at once."""


class Columns:
    """All slots of a model: a list for each thing that is known of every slot, and what only few have, by position.

    Args:
        names: canonical dotted names.
        keys: the attributes of the owners.
        nodes: indices of the owners' nodes.
        tensors: the tensors; of those that are computed stand-ins on meta.
        kins: what each has in common with others.
        others: (name, key, node) of the further places of a tensor.
        computed: how its owner computes it.
        also: how owners at further places compute it.
    """

    __slots__ = ("also", "computed", "keys", "kins", "names", "nodes", "others", "tensors")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.keys: list[str] = []
        self.nodes: list[int] = []
        self.tensors: list[Tensor] = []
        self.kins: Coded[Kin] = coded(())
        self.others: dict[int, tuple[tuple[str, str, int], ...]] = {}
        self.computed: dict[int, Computed] = {}
        self.also: dict[int, tuple[Computed, ...]] = {}


class Slot(NamedTuple):
    """A tensor with every place that holds it, the first of which names it: a row of the columns, and always current.

    Args:
        columns: of all slots of the model.
        position: in them.
    """

    columns: Columns
    position: int

    @property
    def kin(self) -> Kin:
        """What it has in common with others."""
        return self.columns.kins[self.position]

    @property
    def name(self) -> str:
        """Canonical dotted name."""
        return self.columns.names[self.position]

    @property
    def key(self) -> str:
        """The attribute of the owner."""
        return self.kin.key

    @property
    def node(self) -> int:
        """Index of the owner's node."""
        return self.columns.nodes[self.position]

    @property
    def kind(self) -> Kind:
        """Parameter or buffer."""
        return self.kin.kind

    @property
    def tensor(self) -> Tensor:
        """The tensor; of one that is computed a stand-in on meta."""
        return self.columns.tensors[self.position]

    @property
    def others(self) -> tuple[tuple[str, str, int], ...]:
        """(name, key, node) of the further places of the same tensor."""
        return self.columns.others.get(self.position, ())

    @property
    def computed(self) -> Computed | None:
        """How its owner computes it; None for a plain tensor."""
        return self.columns.computed.get(self.position)

    @property
    def also(self) -> tuple[Computed, ...]:
        """How owners at further places compute it."""
        return self.columns.also.get(self.position, ())

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
        return self.kin.lazy


class Slots(Sequence[Slot]):
    """Slots of a model, all or some of them, in order; what is known of them by columns.

    Args:
        columns: of all slots of the model.
        positions: of these in them; None for all.
    """

    __slots__ = ("columns", "positions")

    def __init__(self, columns: Columns, positions: Rows | None = None) -> None:
        self.columns = columns
        self.positions = positions

    def __len__(self) -> int:
        return len(self.columns.names) if self.positions is None else len(self.positions)

    @overload
    def __getitem__(self, index: int) -> Slot: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Slot]: ...
    def __getitem__(self, index: int | slice) -> Slot | Sequence[Slot]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        return Slot(self.columns, range(len(self))[index] if self.positions is None else int(self.positions[index]))

    def __iter__(self) -> Iterator[Slot]:
        every = range(len(self)) if self.positions is None else self.positions.tolist()
        return (Slot(self.columns, position) for position in every)

    def taken(self, rows: Rows) -> Slots:
        """Some of these."""
        return Slots(self.columns, rows if self.positions is None else self.positions[rows])

    @property
    def names(self) -> list[str]:
        """Canonical name of each."""
        return self._of(self.columns.names)

    @property
    def keys(self) -> list[str]:
        """The attribute of the owner of each."""
        return self._of(self.columns.keys)

    @property
    def nodes(self) -> list[int]:
        """Index of the owner's node of each."""
        return self._of(self.columns.nodes)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensor of each."""
        return self._of(self.columns.tensors)

    @property
    def kins(self) -> Coded[Kin]:
        """What each has in common with others."""
        return self.columns.kins if self.positions is None else self.columns.kins.taken(self.positions)

    @property
    def tied(self) -> list[int]:
        """The rows of those that are at several places."""
        return self._rows(self.columns.others)

    @property
    def computed(self) -> list[int]:
        """The rows of those that their owners compute."""
        return self._rows(self.columns.computed)

    def _of(self, column: list[T]) -> list[T]:
        return column if self.positions is None else [column[position] for position in self.positions.tolist()]

    def _rows(self, among: Mapping[int, object]) -> list[int]:
        if self.positions is None or not among:
            return sorted(among)
        return [row for row, position in enumerate(self.positions.tolist()) if position in among]


@dataclass(frozen=True, slots=True)
class Tree:
    """A walked model: its modules in registration order, its parameters in `named_parameters()` order, its buffers."""

    nodes: Sequence[Node]
    slots: Slots

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
        PlanError: `model` is no module, or `prefix` no name; or two tensors have one name.

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
    slots = _slots(nodes, ("parameter", "buffer") if buffers else ("parameter",))
    if len(set(slots.names)) < len(slots):
        (name, count), *_ = Counter(slots.names).most_common(1)
        raise PlanError(f"{count} tensors are called {name}, so that no rule, stream or checkpoint can tell them apart")
    return Tree(nodes, slots)


@lru_cache(maxsize=4096)
def plain_class(cls: Any) -> type | None:
    """The class that a user knows of modules that stand for themselves; None of wrappers and TorchScript."""
    return None if wrapping_key(cls) is not None or issubclass(cls, torch.jit.ScriptModule) else public_type(cls)


def buffers_of(tree: Tree) -> Sequence[Slot]:
    """The buffers of a walked model as slots, also where the walk left them out."""
    rows = tree.slots.kins.where(lambda kin: kin.kind == "buffer")
    return tree.slots.taken(rows) if len(rows) else _slots(tree.nodes, ("buffer",))


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


def _slots(nodes: Sequence[Node], kinds: Sequence[Kind]) -> Slots:
    """The tensors of some kinds, each once, in the order in which torch names what is stored.

    A tensor that parametrizations compute comes after the tensors of their own, on which its value depends.
    """
    columns = Columns()
    names, keys, places, tensors = columns.names, columns.keys, columns.nodes, columns.tensors
    counts: list[int] = []
    for kind in kinds:
        known: dict[int, int] = {}  # the rows of what is stored, by its ids
        waiting: list[tuple[str, list[_Found]]] = []
        for index, (name, _, module, cls, _, _) in enumerate(nodes):
            while waiting and not name.startswith(waiting[-1][0]):
                _place(waiting.pop()[1], columns, known)
            held: Mapping[str, Tensor | None] = module._parameters if kind == "parameter" else module._buffers
            if not held:
                continue
            if module._forward_pre_hooks or cls is ParametrizationList:
                owner, found = _found(nodes, index, held)
                if owner == index:
                    _place(found, columns, known)
                else:
                    waiting.append((f"{name}.", found))
                continue
            start = name + "." if name else ""
            for key, tensor in held.items():
                if tensor is None:
                    continue
                if id(tensor) in known:
                    _place([_Found(start + key, key, index, tensor, None)], columns, known)
                else:  # nearly all
                    known[id(tensor)] = len(names)
                    names.append(start + key)
                    keys.append(key)
                    places.append(index)
                    tensors.append(tensor)
        while waiting:
            _place(waiting.pop()[1], columns, known)
        counts.append(len(names) - sum(counts))
    columns.kins = _kins(columns, nodes, [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)])
    return Slots(columns)


def _kins(columns: Columns, nodes: Sequence[Node], kinds: Sequence[Kind]) -> Coded[Kin]:
    """What each tensor has in common with others."""
    tensors = columns.tensors
    types = [*map(type, tensors)]
    plain = PLAIN_TENSORS.issuperset(types)
    shapes = map(SHAPE, tensors) if plain else (None if is_lazy(tensor) else tensor.shape for tensor in tensors)
    classes = [nodes[index].cls for index in columns.nodes]
    alike = zip(kinds, classes, columns.keys, types, shapes, map(DTYPE, tensors), map(TRAINABLE, tensors), strict=True)
    known: dict[Any, int] = {}
    codes = [known.setdefault(like, len(known)) for like in alike]
    return Coded([Kin.of(*like) for like in known], np.array(codes, np.intp))


SHAPE, DTYPE, TRAINABLE = attrgetter("shape"), attrgetter("dtype"), attrgetter("requires_grad")


def _place(found: Sequence[_Found], columns: Columns, known: dict[int, int]) -> None:
    """Make places of tensors slots, or further places of slots that are known by the ids of what is stored."""
    for name, key, node, tensor, computed in found:
        stored = computed.stored if computed is not None else (tensor,)
        row = next((known[id(part)] for part in stored if id(part) in known), None)
        if row is None:
            row = len(columns.names)
            columns.names.append(name)
            columns.keys.append(key)
            columns.nodes.append(node)
            columns.tensors.append(tensor if computed is None else stand_in(computed, name))
            if computed is not None:
                columns.computed[row] = computed
            known.update(dict.fromkeys(map(id, stored), row))
        else:
            columns.others[row] = (*columns.others.get(row, ()), (name, key, node))
            if computed is not None:
                columns.also[row] = (*columns.also.get(row, ()), computed)
        first = columns.computed.get(row)
        count = len(first.stored) if first is not None else 1
        if any(known.get(id(part)) != row for part in stored) or len(stored) != count:
            raise PlanError(f"{name} and {columns.names[row]} are computed from tensors that they share in part")


class _Found(NamedTuple):
    """A tensor at one place, with what holds its value."""

    name: str
    key: str
    node: int
    tensor: Tensor
    computed: Computed | None


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
    if isinstance(module, EMBEDDINGS):
        return Layout(embedding=True)
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # transformers.pytorch_utils.Conv1D, x @ W
        return Layout(matmul=True)
    return PLAIN


EMBEDDINGS = nn.Embedding, nn.EmbeddingBag
"""Modules of whose weight a row may be padding."""


def padding_row(tree: Tree, slot: Slot) -> int | None:
    """The row that an embedding keeps at zero, under whichever of its names the tensor is one's weight."""
    for _, key, index in slot.places:
        module = tree.nodes[index].module
        if key == "weight" and isinstance(module, EMBEDDINGS) and module.padding_idx is not None:
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
