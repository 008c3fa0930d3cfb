"""Watching: a constructor's own code runs, and for all memory it is noted what was written where, by which line.

Watching draws no conclusions. What an operator writes is a `Value`: the operator, what it was given, and the line of
code outside torch that called it. Tensors that it was given stand in it as a `Read`: the writes to their memory so
far, and the part that was looked at.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from initplug.planning.closed_forms import FIXED, WHOLE

SEVERAL = frozenset({*WHOLE, *FIXED})
"""Functions of torch.nn.init whose steps have no meaning one by one."""

INIT = "torch.nn.init"


class Place(NamedTuple):
    """A line of code."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def short(self) -> str:
        """The file below the folder of packages, or the current one, and the line."""
        file = self.file.rpartition("/site-packages/")[2]
        return f"{file.removeprefix(f'{Path.cwd()}/')}:{self.line}"


class Region(NamedTuple):
    """The part of a memory that a tensor shows, in elements.

    Args:
        offset: where it begins.
        sizes: of the tensor.
        strides: likewise.
        itemsize: bytes of an element.
    """

    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A call of a function of torch.nn.init, under whatever name the code knows it.

    Args:
        name: of the function.
        arguments: by name, without the tensor and the generator.
    """

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """The result of one operator.

    Args:
        op: its name, without the mark of what works in place.
        args: as it was given them; a `Read` where it was given a tensor.
        kwargs: likewise.
        sizes: of the result.
        dtype: of the result.
        draws: whether it takes random numbers.
        in_place: whether its first argument is what it writes to.
        place: the line outside torch that called it, where known.
        call: the call of torch.nn.init that it was made in, if any.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    sizes: tuple[int, ...]
    dtype: torch.dtype
    draws: bool = False
    in_place: bool = False
    place: Place | None = None
    call: Call | None = None


class Write(NamedTuple):
    """A value that was written.

    Args:
        region: where.
        value: which.
        whole: whether it took all of the memory.
    """

    region: Region
    value: Value
    whole: bool


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A tensor that was looked at.

    Args:
        writes: to its memory, in order; later ones may follow.
        count: how many of them there were.
        region: which part of the memory it shows.
        size: elements of the memory.
        dtype: of the tensor.
        number: its value, where it has one element.
        places: its values, where an operator was given them as places or as a mask.
    """

    writes: list[Write]
    count: int
    region: Region
    size: int
    dtype: torch.dtype
    number: float | None = None
    places: Tensor | None = None

    @property
    def last(self) -> Write:
        """The last write before it was looked at."""
        return self.writes[self.count - 1]


@dataclass(slots=True)
class _Memory:
    """A storage, and what was written to it.

    Args:
        alive: keeps its address from being given to another one, and not its data.
        writes: since the last that took all of it.
        found: whether it was there before an operator that was seen made it.
    """

    alive: StorageWeakRef
    writes: list[Write]
    found: bool


class _Operator(NamedTuple):
    """The properties of an operator that are asked for at every call.

    Args:
        name: without the mark of what works in place.
        written: the places and names of the arguments that it writes to.
        views: whether what it returns are views.
        draws: whether it takes random numbers.
        in_place: whether its first argument is what it writes to.
    """

    name: str
    written: tuple[tuple[int, str], ...]
    views: bool
    draws: bool
    in_place: bool


@lru_cache(maxsize=4096)
def _operator(func: Any) -> _Operator:
    schema = func._schema
    written = tuple(
        (place, argument.name)
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    views = not written and any(result.alias_info is not None for result in schema.returns)
    name = schema.name.partition("::")[2]
    views = views or name == "set_"  # which has the tensor show other memory
    draws = torch.Tag.nondeterministic_seeded in func.tags
    return _Operator(name.rstrip("_"), written, views, draws, name.endswith("_"))


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's stubs
    """Sees every operator that a constructor's code runs, and notes what it writes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's stubs
        self._memories: dict[int, _Memory] = {}
        self._within: tuple[FrameType, Call, set[int]] | None = None

    def __exit__(self, *raised: Any) -> Any:
        self._within = None
        return super().__exit__(*raised)  # type: ignore[no-untyped-call]  # torch's stubs

    def read(self, tensor: Tensor) -> Read:
        """Return what is known of a tensor as it is now."""
        memory = self._memory(tensor)
        return Read(
            memory.writes,
            len(memory.writes),
            _region(tensor),
            tensor.untyped_storage().nbytes() // tensor.itemsize,
            tensor.dtype,
            _number(tensor),
        )

    def found(self, tensor: Tensor) -> bool:
        """Return whether the memory of a tensor was there before an operator that was seen made it."""
        return self._memory(tensor).found

    def place(self) -> Place | None:
        """Return the line of the model's code that is at work."""
        return self._caller(sys._getframe(1).f_back)[0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operator = _operator(func)
        if operator.views:
            return func(*args, **kwargs)
        place, call = self._caller(sys._getframe(1))
        if call is not None and call.name in SEVERAL:
            result = func(*args, **kwargs)
            self._note_call(operator, call, place)
            return result
        seen_args, seen_kwargs = self._seen(operator, args), self._seen(operator, kwargs)
        result = func(*args, **kwargs)
        if operator.written:
            targets = [
                tensor
                for index, name in operator.written
                for tensor in tree_leaves(args[index] if index < len(args) else kwargs.get(name))
            ]
        else:
            targets = tree_leaves(result)
        for index, tensor in enumerate(targets):
            if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                op = f"{operator.name}[{index}]" if len(targets) > 1 else operator.name
                sizes, draws, in_place = tuple(tensor.shape), operator.draws, operator.in_place
                self._write(
                    tensor, Value(op, seen_args, seen_kwargs, sizes, tensor.dtype, draws, in_place, place, call)
                )
        return result

    def _seen(self, operator: _Operator, given: Any) -> Any:
        """Return arguments with what is known of tensors in their place."""

        def seen(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            read = self.read(leaf)
            return replace(read, places=_places(leaf)) if operator.name in PLACED else read

        return tree_map(seen, given)

    def _write(self, tensor: Tensor, value: Value) -> None:
        memory = self._memory(tensor, found=value.in_place)
        if tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize:
            memory.writes = [Write(_region(tensor), value, True)]  # a new list: the old one is read elsewhere
        elif tensor.numel():
            memory.writes.append(Write(_region(tensor), value, False))

    def _memory(self, tensor: Tensor, *, found: bool = True) -> _Memory:
        storage = tensor.untyped_storage()
        key = storage._cdata
        memory = self._memories.get(key)
        if memory is None:
            given = Value("given", (), {}, tuple(tensor.shape), tensor.dtype)
            alive = StorageWeakRef(storage)  # type: ignore[no-untyped-call]  # torch's own
            memory = self._memories[key] = _Memory(alive, [Write(_region(tensor), given, True)], found)
        return memory

    # Frames ---------------------------------------------------------------------------------------------------------

    def _caller(self, frame: FrameType | None) -> tuple[Place | None, Call | None]:
        """Return the line outside torch that led to an operator, and the call of torch.nn.init on the way to it."""
        called, first = None, frame
        while frame is not None and _is_passed(frame):
            if frame.f_globals.get("__name__") == INIT:
                called = frame
            frame = frame.f_back
        if frame is None or frame.f_code.co_filename == START:  # torch's own class is all that there is
            frame = first
            while frame is not None and not _is_layer(frame):
                frame = frame.f_back
            frame = frame or first
        place = None if frame is None else Place(frame.f_code.co_filename, frame.f_lineno)
        if called is None:
            return place, None
        if self._within is None or self._within[0] is not called:
            self._within = (called, _call(called), set())
        return place, self._within[1]

    def _note_call(self, operator: _Operator, call: Call, place: Place | None) -> None:
        """Note once what a function of torch.nn.init of several steps writes to its tensor."""
        assert self._within is not None
        frame, _, noted = self._within
        tensor = frame.f_locals.get("tensor")
        if not operator.written or not isinstance(tensor, Tensor) or id(tensor) in noted:
            return
        noted.add(id(tensor))
        draws = call.name in WHOLE
        self._write(tensor, Value(call.name, (), {}, tuple(tensor.shape), tensor.dtype, draws, True, place, call))


WRAPPERS = frozenset({"transformers.initialization"})
"""Modules of functions of the same names as those of torch.nn.init, which call them."""

START = str(Path(__file__).parent / "construction.py")
"""The file that calls constructors: what is above it is no code of the model."""

OURS = tuple(f"{Path(str(file)).parent}/" for file in (torch.__file__, Path(__file__).parent))
STANDARD = f"{Path(str(functools.__file__)).parent}/"


def _is_passed(frame: FrameType) -> bool:
    """Return whether who called is told instead: of functions that fill a tensor which they are given, and of torch."""
    name, file = frame.f_code.co_name, frame.f_code.co_filename
    if file == START:
        return False
    fills = name.endswith("_") and not name.endswith("__")
    return fills or _is_inside(file) or frame.f_globals.get("__name__") in WRAPPERS


def _is_layer(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith("torch.nn.") and name != INIT


@lru_cache(maxsize=4096)
def _is_inside(file: str) -> bool:
    """Return whether a file is one of torch's, of this package's, or of Python's own library."""
    return file.startswith(OURS) or (file.startswith(STANDARD) and "site-packages" not in file)


def _call(frame: FrameType) -> Call:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    held = frame.f_locals
    arguments = {name: held[name] for name in names if name in held and name not in ("tensor", "generator")}
    return Call(code.co_name.removeprefix("_no_grad_"), arguments)


def _region(tensor: Tensor) -> Region:
    return Region(int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), tensor.itemsize)


PLACED = frozenset(
    {
        "index",
        "index_put",
        "_index_put_impl",
        "index_select",
        "index_fill",
        "index_copy",
        "masked_fill",
        "masked_select",
    }
    | {"masked_scatter", "scatter", "gather", "where"}
)
"""Operators that are given places in a tensor, or a mask."""

MOST_PLACES = 1 << 24
"""The most places that are kept."""


def _places(tensor: Tensor) -> Tensor | None:
    """Return a copy of what may be places or a mask."""
    if tensor.dtype not in (torch.bool, torch.uint8, torch.int32, torch.int64) or tensor.is_meta:
        return None
    return tensor.detach().cpu().clone() if tensor.numel() <= MOST_PLACES else None


def _number(tensor: Tensor) -> float | None:
    if tensor.numel() != 1 or tensor.is_meta or tensor.is_complex() or tensor.is_quantized:
        return None
    return float(tensor.item())


def reads_in(value: Value) -> Iterator[Read]:
    """Yield what an operator was given of tensors."""
    return (leaf for leaf in tree_leaves((value.args, dict(value.kwargs))) if isinstance(leaf, Read))
