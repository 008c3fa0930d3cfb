"""Watching: a constructor's own code runs, and for all memory it is noted what was written where, by which line.

Watching draws no conclusions. What an operator writes is a `Value`: the operator, what it was given, and the line of
code outside torch that called it. Tensors that it was given stand in it as a `Read`: the writes to their memory so
far, and the part that was looked at.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from initplug.errors import InitplugError
from initplug.planning.closed_forms import FIXED, WHOLE
from initplug.studies.recording.meta import Disguise, executed, values_of
from initplug.studies.recording.operators import Operator, operator_of
from initplug.studies.recording.writes import Call, Place, Read, Region, Value, Write

SEVERAL = frozenset({*WHOLE, *FIXED})
"""Functions of torch.nn.init whose steps have no meaning one by one."""

INIT = "torch.nn.init"


@dataclass(slots=True)
class _Memory:
    """A storage, and what was written to it.

    Args:
        alive: keeps its address from being given to another one, and not its data.
        nbytes: that were taken for it.
        writes: since the last that took all of it.
        found: whether it was there before an operator that was seen made it.
    """

    alive: StorageWeakRef
    nbytes: int
    writes: list[Write]
    found: bool


class RoomError(InitplugError):
    """A constructor that takes more memory than it may."""


def _plainly(operator: Operator, func: Any, args: Any, kwargs: Any) -> Any:  # noqa: ARG001  # as on meta
    return func(*args, **kwargs)


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's stubs
    """Sees every operator that a constructor's code runs, and notes what it writes.

    Args:
        meta: whether large tensors are on meta, without values.
        room: bytes that the code may take at a time; beyond them a `RoomError` ends it.
    """

    def __init__(self, *, meta: bool = False, room: float = math.inf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's stubs
        self.meta = meta
        self._run: Callable[[Operator, Any, Any, Any], Any] = executed if meta else _plainly
        self._room = room
        self._bytes = 0
        self._memories: dict[int, _Memory] = {}
        self._within: tuple[FrameType, Call, set[int]] | None = None
        self._disguises = ExitStack()

    def __enter__(self) -> Any:
        if self.meta:
            self._disguises.enter_context(
                Disguise(self._note_asking, lambda frame: _is_inside(frame.f_code.co_filename))
            )
        return super().__enter__()  # type: ignore[no-untyped-call]  # torch's stubs

    def __exit__(self, *raised: Any) -> Any:
        self._within = None
        left = super().__exit__(*raised)  # type: ignore[no-untyped-call]  # torch's stubs
        self._disguises.close()
        return left

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

    def values(self, tensor: Tensor) -> Tensor | None:
        """Return a tensor with the values of one that may be on meta; None where they are not known."""
        return values_of(self.read(tensor)) if tensor.is_meta else tensor.detach()

    def place(self) -> Place | None:
        """Return the line of the model's code that is at work."""
        return self._caller(sys._getframe(1).f_back)[0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operator = operator_of(func)
        if operator.views:
            return self._run(operator, func, args, kwargs)
        place, call = self._caller(sys._getframe(1))
        if call is not None and call.name in SEVERAL:
            result = self._run(operator, func, args, kwargs)
            if operator.written:
                self._note_call(call, place)
            return result
        seen_args, seen_kwargs = self._seen(operator, args), self._seen(operator, kwargs)
        result = self._run(operator, func, args, kwargs)
        targets = operator.targets(args, kwargs) if operator.written else tree_leaves(result)
        for index, tensor in enumerate(targets):
            if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                op = f"{operator.name}[{index}]" if len(targets) > 1 else operator.name
                sizes, draws, in_place = tuple(tensor.shape), operator.draws, operator.in_place
                held = self._held(operator, tensor, args)
                self._write(
                    tensor, Value(op, seen_args, seen_kwargs, sizes, tensor.dtype, draws, in_place, place, call, held)
                )
        return result

    def _held(self, operator: Operator, tensor: Tensor, args: Any) -> Tensor | None:
        """Return the values that are copied to a tensor on meta."""
        if not (self.meta and operator.name in COPIES and tensor.is_meta):
            return None
        source = args[1 if operator.name == "copy" else 0]
        values = self.values(source) if isinstance(source, Tensor) and source.shape == tensor.shape else None
        return None if values is None else values.clone(memory_format=torch.contiguous_format)

    def _seen(self, operator: Operator, given: Any) -> Any:
        """Return arguments with what is known of tensors in their place."""

        def seen(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            read = self.read(leaf)
            return replace(read, places=_places(self.values(leaf))) if operator.name in PLACED else read

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
            nbytes = 0 if found or tensor.is_meta else storage.nbytes()
            alive = StorageWeakRef(storage)  # type: ignore[no-untyped-call]  # torch's own
            memory = self._memories[key] = _Memory(alive, nbytes, [Write(_region(tensor), given, True)], found)
            self._count(nbytes)
        return memory

    def _count(self, nbytes: int) -> None:
        """Count the memory that was taken; what is beyond the room ends the construction.

        Raises:
            RoomError: it is beyond.
        """
        self._bytes += nbytes
        if self._bytes > self._room:  # as far as it is still there
            living = (memory for memory in self._memories.values() if not memory.alive.expired())  # type: ignore[no-untyped-call]  # torch's own
            self._bytes = sum(memory.nbytes for memory in living)
            if self._bytes > self._room:
                raise RoomError(f"building the model takes more than {self._room / 1e9:.3g} GB")

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

    def _note_asking(self, frame: FrameType) -> None:
        """Note what a function of torch.nn.init would write that returns at once, as its tensor is on meta."""
        place, call = self._caller(frame)
        if call is not None and call.name in SEVERAL:
            self._note_call(call, place)

    def _note_call(self, call: Call, place: Place | None) -> None:
        """Note once what a function of torch.nn.init of several steps writes to its tensor."""
        assert self._within is not None
        frame, _, noted = self._within
        tensor = frame.f_locals.get("tensor")
        if not isinstance(tensor, Tensor) or id(tensor) in noted:
            return
        noted.add(id(tensor))
        draws = call.name in WHOLE
        self._write(tensor, Value(call.name, (), {}, tuple(tensor.shape), tensor.dtype, draws, True, place, call))


COPIES = frozenset({"copy", "_to_copy", "clone"})
"""Operators after which a tensor has the values of another."""

WRAPPERS = frozenset({"transformers.initialization"})
"""Modules of functions of the same names as those of torch.nn.init, which call them."""

START = str(Path(__file__).parent / "construction.py")
"""The file that calls constructors: what is above it is no code of the model."""

OURS = tuple(f"{Path(str(file)).parent}/" for file in (torch.__file__, Path(__file__).parents[1]))
STANDARD = f"{Path(str(functools.__file__)).parent}/"


def _is_passed(frame: FrameType) -> bool:
    """Return whether who called is told instead: of functions that fill a tensor which they are given, and of torch."""
    name, file = frame.f_code.co_name, frame.f_code.co_filename
    if file == START:
        return False
    fills = name.endswith("_") and not name.endswith("__")
    return fills or _is_inside(file) or frame.f_globals.get("__name__") in WRAPPERS


def line_of(frame: FrameType) -> Place | None:
    """Return the line that a frame is at; None where it is no code of a model's."""
    if _is_passed(frame) or frame.f_code.co_filename == START:
        return None
    return Place(frame.f_code.co_filename, frame.f_lineno)


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


PLACED = {
    *("index", "index_put", "_index_put_impl", "index_select", "index_fill", "index_copy", "gather", "scatter"),
    *("masked_fill", "masked_select", "masked_scatter", "where"),
}
"""Operators that are given places in a tensor, or a mask."""

MOST_PLACES = 1 << 24
"""The most places that are kept."""


def _places(values: Tensor | None) -> Tensor | None:
    """Return a copy of what may be places or a mask."""
    if values is None or values.dtype not in (torch.bool, torch.uint8, torch.int32, torch.int64):
        return None
    return values.detach().cpu().clone() if values.numel() <= MOST_PLACES else None


def _number(tensor: Tensor) -> float | None:
    if tensor.numel() != 1 or tensor.is_meta or tensor.is_complex() or tensor.is_quantized:
        return None
    return float(tensor.item())
