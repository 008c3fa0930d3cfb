"""Modules that were equal before a write and are not after it: target networks, momentum encoders, averaged models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from initplug.auditing.audit import to_write
from initplug.errors import NAME, cut, shortened, warn
from initplug.filling.work import Work
from initplug.language.selectors import selector_of
from initplug.planning.slots import PLAIN_TENSORS, Kin, Node, Tree


class Clone(NamedTuple):
    """Two modules of one structure that hold equal values.

    Args:
        original: the one that the other is a copy of.
        copy: the other.
        pairs: their tensors, side by side.
    """

    original: Node
    copy: Node
    pairs: tuple[tuple[Tensor, Tensor], ...]


def clones(work: Work) -> list[Clone]:
    """Return the modules that are equal to the bit to another and are about to be written, or the other is.

    The outermost ones count. Modules that are numbered items of one list, such as the layers of nn.TransformerEncoder,
    are clones by their construction and no such pair.
    """
    tree = work.tree
    marks = _marks(tree)
    if len({*marks.values()}) == len(marks):
        return []  # no two matrices are equal, as in nearly every model
    groups = defaultdict[Hashable, list[int]](list)
    described = _described(tree, marks)
    for index, found in enumerate(described):
        if found is not None:
            groups[found].append(index)
    written = {id(work.slots[row].tensor) for row in to_write(work.statuses).tolist()}
    several = [indices for indices in groups.values() if len(indices) > 1]
    outermost = ([one for one in indices if not _is_within(tree, one, described, groups)] for indices in several)
    return [clone for indices in outermost for clone in _pairs_among(tree, indices, written)]


def warn_of_parted(found: Sequence[Clone]) -> None:
    """Warn of modules that were equal before a write and are not any more."""
    parted = [one for one in found if not _are_equal(one)]
    if not parted:
        return
    lines = [
        f"  {cut(one.copy.name, NAME)} ({one.copy.cls.__name__}), a copy of {cut(one.original.name, NAME)}"
        for one in parted
    ]
    counted = "1 module was a copy" if len(parted) == 1 else f"{len(parted)} modules were copies"
    head = f"{counted} of another to the bit, and {'is' if len(parted) == 1 else 'are'} not any more"
    rules = [f"`{selector_of(one.copy.name)}: copy source=^{one.original.name}`" for one in parted]
    way = f"Where they are to start alike, as target networks do, add {', '.join(shortened(rules, 3))}."
    warn("\n".join([head, *shortened(lines), way]))


# What modules hold --------------------------------------------------------------------------------------------

COMPARED = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
"""The dtypes of tensors that tell modules apart."""

LEAST, SAMPLED = 16, 4
"""Elements that a tensor has at least which tells modules apart, and how many of them are looked at first."""


def _marks(tree: Tree) -> dict[int, bytes]:
    """Return a few elements of the matrices of a model, by their rows; those that hold one value say nothing."""
    slots = tree.slots
    alike = defaultdict[Hashable, list[int]](list)
    for row in slots.kins.where(_is_telling).tolist():
        tensor = slots.tensors[row]
        readable = type(tensor) in PLAIN_TENSORS and tensor.layout == torch.strided and not tensor.is_meta
        if readable and tensor.is_contiguous():
            alike[tensor.dtype, tensor.device].append(row)
    marks: dict[int, bytes] = {}
    with torch.no_grad():
        for rows in alike.values():
            tensors = [slots.tensors[row] for row in rows]
            views = [tensor.as_strided((SAMPLED,), ((tensor.numel() - 1) // (SAMPLED - 1),)) for tensor in tensors]
            words = torch.stack(views).view(torch.uint8).cpu().numpy().reshape(len(rows), SAMPLED, -1)
            varied = (words != words[:, :1]).any(axis=(1, 2))
            marks.update((rows[at], words[at].tobytes()) for at in varied.nonzero()[0].tolist())
    return marks


def _is_telling(kin: Kin) -> bool:
    """Return whether tensors of a kin may tell modules apart: matrices of some size."""
    large = kin.kind == "parameter" and len(kin.shape) > 1 and kin.shape.numel() >= LEAST
    return large and kin.dtype in COMPARED


def _described(tree: Tree, marks: dict[int, bytes]) -> list[Hashable | None]:
    """Return what each module is made of and holds, as far as it was looked at; None where nothing tells it apart."""
    slots = tree.slots
    own = defaultdict[int, list[Hashable]](list)
    marked = [False] * len(tree.nodes)
    for row, kin in enumerate(slots.kins):
        if kin.kind == "parameter":
            own[slots.nodes[row]].append((kin.key, tuple(kin.shape), kin.dtype, marks.get(row)))
            marked[slots.nodes[row]] |= row in marks
    below = defaultdict[int, list[Hashable]](list)
    numbers: dict[Hashable, int] = {}
    found = list[Hashable | None]([None] * len(tree.nodes))
    for index in range(len(tree.nodes) - 1, -1, -1):  # modules stand before what is below them
        node = tree.nodes[index]
        made = (node.cls, tuple(own[index]), tuple(below[index]))
        number = numbers.setdefault(made, len(numbers))
        if marked[index]:
            found[index] = number
        if node.parent >= 0:
            below[node.parent].append((node.key, number))
            marked[node.parent] |= marked[index]
    return found


def _is_within(tree: Tree, index: int, described: Sequence[Hashable | None], groups: dict[Hashable, list[int]]) -> bool:
    """Return whether a module lies in one that others are like."""
    parent = tree.nodes[index].parent
    return parent >= 0 and described[parent] is not None and len(groups[described[parent]]) > 1


def _pairs_among(tree: Tree, indices: Sequence[int], written: set[int]) -> Iterator[Clone]:
    """Yield the modules that are equal to the first of some, or to the first that is written."""
    held = [(tree.nodes[index], [*tree.nodes[index].module.parameters()]) for index in indices]
    held = [one for one in held if PLAIN_TENSORS.issuperset(map(type, one[1]))]
    held.sort(key=lambda one: not any(id(tensor) in written for tensor in one[1]))
    while len(held) > 1:
        (original, tensors), *others = held
        held = []
        for node, same in others:
            clone = Clone(original, node, tuple(zip(tensors, same, strict=True)))
            if not {*map(id, tensors)}.isdisjoint(map(id, same)) or _place(node) == _place(original):
                continue
            if not _are_equal(clone):
                held.append((node, same))
            elif any(id(tensor) in written for tensor in (*tensors, *same)):
                yield clone


def _place(node: Node) -> str:
    """Return a name without the numbers of items in lists."""
    return ".".join("#" if part.isdigit() else part for part in node.name.split("."))


def _are_equal(clone: Clone) -> bool:
    return all(_are_same(*pair) for pair in clone.pairs)


def _are_same(one: Tensor, other: Tensor) -> bool:
    if one.is_meta or other.is_meta or one.shape != other.shape:
        return False
    with torch.no_grad():
        return torch.equal(one, other.to(one.device))
