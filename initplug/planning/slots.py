"""A walked model as slots: every named place that holds a tensor, and what is known of them by columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, overload

import torch
from torch import Tensor, nn

from initplug.columns import Coded, Rows, coded
from initplug.errors import Finding
from initplug.planning.parametrized import Computed

SlotKind = Literal["parameter", "buffer"]
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
        parameters: that it holds.
        buffers: that it holds.
        hooked: whether something runs before its forward, which may compute a tensor.
    """

    name: str
    key: str
    module: nn.Module
    cls: type
    parent: int
    place: int | None
    parameters: dict[str, Any]
    buffers: dict[str, Any]
    hooked: bool


@dataclass(frozen=True, slots=True, eq=False)
class Kin:
    """The properties that slots which are alike share before any rule sees them.

    Args:
        kind: parameter or buffer.
        cls: class of the owner as its user knows it.
        key: the attribute of the owner.
        shape: sizes, in elements; none of a lazy tensor.
        dtype: of the elements.
        trainable: whether it requires a gradient.
        plain: whether the tensor is of torch's own types and not quantized, as nearly all are.
        lazy: whether it waits for a first batch to learn its shape.
    """

    kind: SlotKind
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
        kind: SlotKind,
        owner: type,
        key: str,
        tensor: type,
        shape: torch.Size | None,
        dtype: torch.dtype,
        trainable: bool,
    ) -> Kin:
        """Return the kin of tensors of a type which modules of a class hold; those without a shape are lazy.

        A ragged tensor has a symbol among its sizes, for rows of many, and gets no sizes.
        """
        plain = tensor in PLAIN_TENSORS and dtype not in QUANTIZED
        known = shape if shape is not None and all(type(size) is int for size in shape) else torch.Size()
        return cls(kind, owner, key, known, dtype, trainable, plain, shape is None)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.shape.numel() * self.dtype.itemsize


PLAIN_TENSORS = frozenset({Tensor, nn.Parameter})
"""The types of nearly all tensors, which settle most questions at once."""

QUANTIZED = frozenset({torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4})
"""Dtypes of tensors that hold a scale beside their elements."""


class Columns:
    """All slots of a model: a list for each thing that is known of every slot, and what only few have, by position.

    Args:
        names: canonical dotted names.
        keys: the attributes of the owners.
        nodes: indices of the owners' nodes.
        holders: the owners' dictionaries of them.
        tensors: the tensors; of those that are computed stand-ins on meta.
        kins: what each has in common with others.
        others: (name, key, node) of the further places of a tensor.
        computed: how its owner computes it.
        also: how owners at further places compute it.
    """

    __slots__ = ("also", "computed", "holders", "keys", "kins", "names", "nodes", "others", "tensors")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.keys: list[str] = []
        self.nodes: list[int] = []
        self.holders: list[dict[str, Any]] = []
        self.tensors: list[Tensor] = []
        self.kins: Coded[Kin] = coded(())
        self.others: dict[int, tuple[tuple[str, str, int], ...]] = {}
        self.computed: dict[int, Computed] = {}
        self.also: dict[int, tuple[Computed, ...]] = {}

    def __len__(self) -> int:
        return len(self.names)

    def then(self, other: Columns) -> Columns:
        """Return these slots, and after them those of another model, or of another kind."""
        both, count = Columns(), len(self)
        both.names, both.keys, both.nodes = self.names + other.names, self.keys + other.keys, self.nodes + other.nodes
        both.holders, both.tensors = self.holders + other.holders, self.tensors + other.tensors
        both.others = self.others | {row + count: places for row, places in other.others.items()}
        both.computed = self.computed | {row + count: computed for row, computed in other.computed.items()}
        both.also = self.also | {row + count: computed for row, computed in other.also.items()}
        both.kins = self.kins.then(other.kins)
        return both


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
        """The properties that it shares with others."""
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
    def kind(self) -> SlotKind:
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
        """The way its owner computes it; None for a plain tensor."""
        return self.columns.computed.get(self.position)

    @property
    def also(self) -> tuple[Computed, ...]:
        """The ways in which owners at further places compute it."""
        return self.columns.also.get(self.position, ())

    @property
    def stored(self) -> tuple[Tensor, ...]:
        """The tensors that hold the value: the tensor itself, unless it is computed."""
        return self.computed.stored if self.computed is not None else (self.tensor,)

    @property
    def on_meta(self) -> bool:
        """Return whether there is no value yet."""
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
        """Return whether the tensor waits for a first batch to learn its shape."""
        return self.kin.lazy


class Slots(Sequence[Slot]):
    """Slots of a model, all or some of them, in order; what is known of them by columns.

    All selections of a model's slots are views of one table, so that a slot that gets another tensor has it in each.

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
        """Return some of these, in order."""
        if len(rows) == len(self):
            return self
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
    def holders(self) -> list[dict[str, Any]]:
        """The owner's dictionary of each that holds it."""
        return self._of(self.columns.holders)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensor of each."""
        return self._of(self.columns.tensors)

    @property
    def kins(self) -> Coded[Kin]:
        """The properties that each shares with others."""
        return self.columns.kins if self.positions is None else self.columns.kins.taken(self.positions)

    @property
    def plain(self) -> bool:
        """Return whether all are of torch's own types."""
        return all(kin.plain for kin in self.kins.distinct)

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
    """A walked model.

    Args:
        nodes: its modules in registration order.
        slots: its parameters in `named_parameters()` order, its buffers.
        flat: what is wrong with tensors that many others are cut into, by name.
    """

    nodes: Sequence[Node]
    slots: Slots
    flat: Mapping[str, Finding]

    def owner(self, slot: Slot) -> nn.Module:
        """Return the module whose attribute the slot is."""
        return self.nodes[slot.node].module

    def ancestors(self, node: int) -> Iterator[int]:
        """Yield indices from a node up to the model itself, the node included."""
        while node >= 0:
            yield node
            node = self.nodes[node].parent
