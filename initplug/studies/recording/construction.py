"""Constructions: a constructor runs under watch, a second time where other generators than torch's may have drawn."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from initplug.errors import InitplugError, brief
from initplug.filling.deferred import deferring_nothing
from initplug.planning.slots import Slot, Tree
from initplug.planning.walk import walk
from initplug.studies.generators import generators_kept
from initplug.studies.recording.forms import Computed, Given, Table
from initplug.studies.recording.memory import available_memory
from initplug.studies.recording.recognition import recognised
from initplug.studies.recording.rows import Row, constant_parts, rows_of
from initplug.studies.recording.watching import RoomError, Watch, line_of
from initplug.studies.recording.writes import Place


@dataclass(frozen=True, slots=True)
class Watched:
    """A model that was built under watch.

    Args:
        tree: the model, walked.
        rows: one for every parameter.
        built: whether it was built then, and not only written to.
        meta: whether its large tensors have no values.
        why: why that was, or was not to be; None where it was as asked, or as usual.
    """

    tree: Tree
    rows: tuple[Row, ...]
    built: bool
    meta: bool = False
    why: str | None = None


def watched(build: Callable[[], Any], *, meta: bool | None = False) -> Watched:
    """Run a constructor under watch and return what it wrote; the generators end as they began.

    Args:
        build: returns a module.
        meta: whether large tensors have no values, so that there need be no memory for them; with None where there is
            not enough for them, or where the code itself builds on meta.

    Raises:
        InitplugError: `build` is no function, or returns no module; or it needs values, and more memory than there is.
    """
    if isinstance(build, nn.Module) or not callable(build):
        told = f"a {type(build).__name__}"
        way_out = "record(lambda: model.apply(fn)) for what a function writes to a model that is there"
        raise InitplugError(
            f"record takes a function that builds a model, not {told}: record(lambda: Net()), or {way_out}"
        )
    if meta is False:
        return _watched(build, Watch())
    real, why, full = None, None, None
    room = available_memory() / 2
    if meta is None:
        try:
            real = _watched(build, Watch(room=room))
        except Exception as error:  # of the constructor's own code, too
            why = full = _full(error, room)
            if full is None:
                raise
        else:
            if not any(tensor.is_meta for tensor in _plain_tensors(real.tree)):
                return real
            why = "its own code builds it there"
    try:
        return replace(_watched(build, Watch(meta=True)), why=why)
    except InitplugError:
        raise
    except Exception as error:  # the code needs values that are not there, or fails anyway
        raised = f"on meta its code raises {brief(_cause(error), 120)}{_raised_at(error)}"
    if real is not None:
        return real
    if full is None:
        try:
            return replace(_watched(build, Watch(room=room)), why=raised)
        except Exception as error:
            full = _full(error, room)
            if full is None:
                raise
    raise InitplugError(f"{raised}, and {full}")


def _full(error: Exception, room: float) -> str | None:
    """Return in words that there is not enough memory, if an error says so; None where it says something else."""
    if isinstance(error, RoomError):
        return f"for real it takes more than {room / 1e9:.3g} GB, half of what is free"
    refused = isinstance(error, MemoryError) or ALLOCATOR in str(error)
    return "for real it takes more memory than there is" if refused else None


ALLOCATOR = "DefaultCPUAllocator"
"""The word by which torch's errors tell that memory was refused."""


def _cause(error: BaseException) -> BaseException:
    """Return the error that the model's own code raised, where another one tells of it."""
    return error.__context__ if error.__suppress_context__ and error.__context__ is not None else error


def _raised_at(error: BaseException) -> str:
    """Return the line of a model's code that an error was raised in, in brackets."""
    frames = [frame for frame, _ in traceback.walk_tb(_cause(error).__traceback__)]
    place = next((place for frame in reversed(frames) if (place := line_of(frame)) is not None), None)
    return "" if place is None else f" ({place.short})"


def _watched(build: Callable[[], Any], watch: Watch) -> Watched:
    registered: dict[int, Place | None] = {}

    def note(module: nn.Module, name: str, parameter: Any) -> None:  # noqa: ARG001  # as hooks are called
        registered[id(parameter)] = watch.place()

    with generators_kept(), deferring_nothing() if watch.meta else nullcontext():
        hook = register_module_parameter_registration_hook(note)
        try:
            with watch:
                model = build()
        finally:
            hook.remove()
        if not isinstance(model, nn.Module):
            raise InitplugError(f"the function returned a {type(model).__name__}, not a torch.nn.Module")
        tree = walk(model, buffers=False)
        rows = [
            row if row.places or (place := registered.get(id(slot.tensor))) is None else replace(row, places=(place,))
            for row, slot in zip(rows_of(tree, watch), tree.slots, strict=True)
        ]
        before = (id(tensor) not in registered and watch.found(tensor.detach()) for tensor in _plain_tensors(tree))
        built = not any(before)
        rows = _named_tables(tree, rows, Table | Given if built else Table, watch)
        if built and any(row.numel and isinstance(row.outcome, Table | Given) for row in rows):
            rows = _drawn_elsewhere(tree, rows, build, watch)
        rows = [_without_values(row, slot, built, watch) for row, slot in zip(rows, tree.slots, strict=True)]
    return Watched(tree, tuple(rows), built, watch.meta)


def _without_values(row: Row, slot: Slot, built: bool, watch: Watch) -> Row:
    """Return a row that says so where a table would be told by values that are not there."""
    if not isinstance(row.outcome, Table | Given if built else Table) or not row.numel or slot.computed is not None:
        return row
    if not slot.kin.plain or slot.lazy or watch.values(slot.tensor) is not None:
        return row
    return replace(row, outcome=Computed("a table of fixed values, which are not known on meta"))


def _plain_tensors(tree: Tree) -> list[torch.Tensor]:
    slots = (slot for slot in tree.slots if slot.kin.plain and not slot.lazy and slot.computed is None)
    return [slot.tensor for slot in slots]


def _named_tables(tree: Tree, rows: Sequence[Row], kinds: Any, watch: Watch) -> list[Row]:
    """Return the rows, with the distributions of tables that initializers give, too."""
    found = list(rows)
    for place, (slot, row) in enumerate(zip(tree.slots, rows, strict=True)):
        if not isinstance(row.outcome, kinds) or slot.computed is not None or not slot.kin.plain:
            continue
        values = watch.values(slot.tensor)
        if values is not None and values.numel() and values.is_floating_point():
            table = recognised(values)
            outcome = table[0] if table is not None else constant_parts(values)
            if outcome is not None:
                found[place] = replace(row, outcome=outcome)
    return found


SECOND = 0x1217
"""The seed under which NumPy and Python draw in a second construction."""


def _drawn_elsewhere(tree: Tree, rows: Sequence[Row], build: Callable[[], Any], watch: Watch) -> list[Row]:
    """Return the rows; those that differ in a second construction are drawn by another generator than torch's."""
    np.random.seed(SECOND)
    random.seed(SECOND)
    second = Watch(meta=watch.meta)
    with second if watch.meta else nullcontext():
        again = build()
    found = list(rows)
    if not isinstance(again, nn.Module):
        return found
    others = {slot.name: slot for slot in walk(again, buffers=False).slots}
    for place, (slot, row) in enumerate(zip(tree.slots, rows, strict=True)):
        if not isinstance(row.outcome, Table | Given) or not row.numel:
            continue
        other = others.get(slot.name)
        values = watch.values(slot.tensor)
        if values is None:
            continue
        same = other is not None and other.kin.shape == slot.kin.shape
        like = second.values(other.tensor) if other is not None and same else None
        fixed = like is not None and torch.equal(like, values)
        found[place] = replace(row, outcome=Table() if fixed else Computed("drawn outside torch, or in another thread"))
    return found
