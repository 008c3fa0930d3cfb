"""Origins of the values of slots that are not drawn: another slot, or a tensor in a file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

import torch

from initplug.errors import ROWS, did_you_mean
from initplug.planning.dtypes import CODES
from initplug.planning.references import start_of
from initplug.planning.slots import Slot, Tree
from initplug.planning.weight_files import UNREADABLE, Header, header_of, open_weights
from initplug.schemes.compositions import Copy, Load, Planned, closed_form
from initplug.torch_versions import DTYPES_SINCE, dtype_named

WORDS = {**{code: word for word, code in CODES.items()}, **{word: word for word in CODES}, "complex128": "complex128"}
"""Dtypes as torch names them, by the names that files have for them."""


class LackingError(LookupError):
    """A file has no tensor of a slot's name, or one of another shape."""


@dataclass(slots=True)
class Known:
    """The data that the transfers of one plan share: slots by name, modules, files read, hints given."""

    slots: dict[str, Slot] = field(default_factory=dict)
    modules: dict[str, None] = field(default_factory=dict)
    headers: dict[str, Header | str] = field(default_factory=dict)
    apart: dict[tuple[str, tuple[str, ...], torch.dtype], str | None] = field(default_factory=dict)
    hints: int = 0


# Copies -----------------------------------------------------------------------------------------------------


def copied(tree: Tree, slot: Slot, reference: str, known: Known) -> Copy:
    """Return what a slot is copied from.

    Args:
        tree: the walked model.
        slot: where the reference starts.
        reference: another tensor, or a module: then the tensor below it whose name is the longest end of the slot's.
        known: what the copies of one plan share.

    Raises:
        LookupError: there is no such tensor, or it does not fit.
    """
    if not known.slots:
        known.slots.update((name, each) for each in tree.slots for name, _, _ in each.places)
        known.modules.update(dict.fromkeys(each.name for each in tree.nodes))
    node, names = start_of(tree, slot, reference)
    path = ".".join([*([node.name] if node.name else []), *names])
    if path in known.slots:
        found = path
    else:
        if path not in known.modules:
            hint = _take_hint(path, chain(known.slots, known.modules), known)
            raise LookupError(f"there is no {path}, which {reference!r} refers to{hint}")
        ends = slot.name.split(".")
        below = [f"{path}.{'.'.join(ends[start:])}" for start in range(len(ends))]
        found = next((name for name in below if name in known.slots), "")
        if not found:
            raise LookupError(f"there is no tensor below {path} whose name is an end of {slot.name}")
    source = known.slots[found]
    if source == slot:
        tie = "" if found == slot.name else ", which is tied to it"
        raise LookupError(f"a tensor cannot be its own source: {_circle([slot.name, found])}{tie}")
    if source.lazy:
        raise LookupError(f"its source {found} waits for a first batch to learn its shape")
    reason = unlike(found, tuple(source.tensor.shape), source.tensor.dtype, slot.tensor)
    if reason is not None:
        raise LookupError(reason)
    return Copy(source.name)


def settled(planned: Mapping[str, Planned | None]) -> tuple[dict[str, Copy], dict[str, str]]:
    """Return the copies with what their values come from in the end, and the circles among them.

    Args:
        planned: what each slot comes down to, by canonical name.

    Returns:
        By name of the slot: the copies that lead to a draw, with it; and for one slot of every circle, the reason.
    """
    ends: dict[str, Planned | None] = {}
    circles: dict[str, str] = {}
    for name, distribution in planned.items():
        links: dict[str, None] = {}
        while isinstance(distribution, Copy) and name not in ends and name not in links:
            links[name] = None
            name, distribution = distribution.source, planned.get(distribution.source)
        if name in links:
            circle = list(links)[list(links).index(name) :]
            circles[name] = f"copies in a circle: {_circle([*circle, name])}"
            distribution = None
        ends.update(dict.fromkeys(links, ends.get(name, distribution)))
    copies = {
        name: Copy(copy.source, drawn)
        for name, copy in planned.items()
        if isinstance(copy, Copy) and (drawn := closed_form(ends[name])) is not None
    }
    return copies, circles


def _circle(names: Iterable[str]) -> str:
    return " <- ".join(names)


def depths(planned: Mapping[str, Planned | None]) -> dict[str, int]:
    """Return how many copies after what is not copied each copy comes; circles there are none.

    Example:
        >>> depths({"c": Copy("b"), "b": Copy("a"), "a": None})
        {'b': 1, 'c': 2}
    """
    found: dict[str, int] = {}
    for name in planned:
        links = []
        while name not in found and isinstance(copy := planned.get(name), Copy):
            links.append(name)
            name = copy.source
        found.update((link, depth) for depth, link in enumerate(reversed(links), found.get(name, 0) + 1))
    return found


# Files ------------------------------------------------------------------------------------------------------


def loaded(slot: Slot, path: Path, key: str | None, prefix: str, known: Known) -> Load:
    """Return the tensor in a file that a slot gets.

    Args:
        slot: that gets it.
        path: of the file.
        key: name in the file; None for the slot's own, or else that of one of its aliases.
        prefix: what stands before the slot's names in the file.
        known: what the loads of one plan share.

    Raises:
        LackingError: the file has no such tensor, or one of another shape.
        LookupError: there is no such file, or what it has does not fit, or has other values under another name of the
            slot.
    """
    if str(path) not in known.headers:
        try:
            known.headers[str(path)] = header_of(path)
        except LookupError as error:
            known.headers[str(path)] = error.args[0]
    header = known.headers[str(path)]
    if isinstance(header, str):
        raise LookupError(header)
    names = [key] if key is not None else [prefix + name for name, _, _ in slot.places]
    present = [name for name in names if name in header]
    if not present:
        hint = _take_hint(names[0], header, known) or (_prefix_hint(names[0], header) if known.hints <= ROWS else "")
        raise LackingError(f"{path} has no {names[0]!r}{hint}")
    for name in present:
        reason = unlike(f"{name!r} in {path}", *header[name], slot.tensor)
        if reason is not None:
            raise (LookupError if header[name][0] == tuple(slot.tensor.shape) else LackingError)(reason)
    asked = (str(path), tuple(present), slot.tensor.dtype)
    if asked not in known.apart:
        known.apart[asked] = apart(path, present, header, slot.tensor.dtype)
    other = known.apart[asked]
    if other is not None:
        raise LookupError(
            f"{path} has other values for {other!r} than for {present[0]!r}, which are one tensor here; untie them, or "
            "name one with key="
        )
    return Load(str(path), present[0])


def apart(path: Path, names: Sequence[str], header: Header, dtype: torch.dtype) -> str | None:
    """Return the first of some names in a file whose values, cast to a dtype, are not to the bit those of the first.

    Args:
        path: of the file.
        names: in it, of what is one tensor in a model; their values are read if there are several.
        header: of the file.
        dtype: of that tensor.

    Raises:
        LookupError: the file cannot be read.
    """
    first, *others = names
    for other in others:
        if header[other][0] != header[first][0]:
            return other
        try:
            for values, same in _side_by_side(path, first, other, header[first][0]):
                bits = [part.to(dtype).reshape(-1).view(torch.uint8) for part in (values, same)]
                if not torch.equal(*bits):
                    return other
        except UNREADABLE as error:
            raise LookupError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return None


WINDOW, WINDOWS = 1 << 19, 8
"""Elements that are compared at a time, in whole rows; and how often until a file, whose pages stay, is opened anew."""


def _side_by_side(
    path: Path, first: str, other: str, shape: tuple[int, ...]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the values of two tensors of one shape in a file, window by window."""
    if not shape:
        with open_weights(path) as file:
            yield file.get_tensor(first), file.get_tensor(other)
        return
    step = max(1, WINDOW // max(1, math.prod(shape[1:])))
    starts = range(0, shape[0], step)
    for begin in range(0, len(starts), WINDOWS):
        with open_weights(path) as file:
            for start in starts[begin : begin + WINDOWS]:
                rows = slice(start, start + step)
                yield file.get_slice(first)[rows], file.get_slice(other)[rows]


def _take_hint(word: str, candidates: Iterable[str], known: Known) -> str:
    """Return the nearest name, for as many as a message shows: in long lists each is a search of its own."""
    known.hints += 1
    hint = did_you_mean(word, candidates) if known.hints <= ROWS else None
    return f" ({hint})" if hint else ""


def _prefix_hint(name: str, header: Header) -> str:
    """Return the prefix under which a file has a name, if there is one."""
    found = next((other for other in header if other.endswith(f".{name}")), None)
    return f" (it has {found}: write prefix={found.removesuffix(name)})" if found else ""


# Both -------------------------------------------------------------------------------------------------------


def unlike(name: str, shape: tuple[int, ...], dtype: torch.dtype | str, target: torch.Tensor) -> str | None:
    """Return what keeps values of a shape and dtype from going to a tensor; None if they fit.

    Args:
        name: of the source, in the message.
        shape: of the source.
        dtype: of the source, as torch or as safetensors names it.
        target: where the values are to go.
    """
    if shape != tuple(target.shape):
        return f"the shape of {name} is {shape}"
    word = WORDS.get(dtype) if isinstance(dtype, str) else str(dtype).removeprefix("torch.")
    if word is None:
        return f"the dtype of {name}, {dtype}, is none that can be cast"
    kind = dtype_named(word)
    if kind is None:
        return f"the dtype of {name} is {word}, which torch has since {DTYPES_SINCE[word]}: this is {torch.__version__}"
    if castable(kind, target.dtype):
        return None
    given, wanted = (str(each).removeprefix("torch.") for each in (kind, target.dtype))
    return f"{name} is {given}, which cannot be cast to {wanted}"


@cache
def castable(source: torch.dtype, target: torch.dtype) -> bool:
    """Return whether a cast keeps what numbers mean: no imaginary part or fraction is cut off.

    Example:
        >>> castable(torch.float32, torch.bfloat16), castable(torch.float32, torch.int64)
        (True, False)
    """
    if source == target:
        return True
    real = target.is_floating_point or target.is_complex
    if (source.is_complex and not target.is_complex) or (source.is_floating_point and not real):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls short complex numbers experimental
            torch.empty(1, dtype=source, device="cpu").to(target)
    except (RuntimeError, TypeError):  # packed dtypes, which torch stores and cannot cast
        return False
    return True
