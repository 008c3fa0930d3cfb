"""Constructions: a constructor runs under watch, a second time where other generators than torch's may have drawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from initplug.errors import InitplugError
from initplug.planning.slots import Tree
from initplug.planning.walk import walk
from initplug.studies.forms import Computed, Given, Table
from initplug.studies.recognition import recognised
from initplug.studies.rows import Row, constant_parts, rows_of
from initplug.studies.watching import Place, Watch


@dataclass(frozen=True, slots=True)
class Watched:
    """A model that was built under watch.

    Args:
        tree: the model, walked.
        rows: one for every parameter.
        built: whether it was built then, and not only written to.
    """

    tree: Tree
    rows: tuple[Row, ...]
    built: bool


def watched(build: Callable[[], Any]) -> Watched:
    """Run a constructor under watch and return what it wrote; the generators end as they began.

    Args:
        build: returns a module.

    Raises:
        InitplugError: `build` is no function, or returns no module.
    """
    if isinstance(build, nn.Module) or not callable(build):
        told = f"a {type(build).__name__}"
        way_out = "record(lambda: model.apply(fn)) for what a function writes to a model that is there"
        raise InitplugError(
            f"record takes a function that builds a model, not {told}: record(lambda: Net()), or {way_out}"
        )
    watch, registered = Watch(), dict[int, Place | None]()

    def note(module: nn.Module, name: str, parameter: Any) -> None:  # noqa: ARG001  # as hooks are called
        registered[id(parameter)] = watch.place()

    with generators_kept():
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
        rows = _named_tables(tree, rows, Table | Given if built else Table)
        if built and any(row.numel and isinstance(row.outcome, Table | Given) for row in rows):
            rows = _drawn_elsewhere(tree, rows, build)
    return Watched(tree, tuple(rows), built)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the generators of torch, NumPy and Python back to where they were."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]  # torch's
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)


def _plain_tensors(tree: Tree) -> list[torch.Tensor]:
    slots = (slot for slot in tree.slots if slot.kin.plain and not slot.lazy and slot.computed is None)
    return [slot.tensor for slot in slots]


def _named_tables(tree: Tree, rows: Sequence[Row], kinds: Any) -> list[Row]:
    """Return the rows, with the distributions of tables that initializers give, too."""
    found = list(rows)
    for place, (slot, row) in enumerate(zip(tree.slots, rows, strict=True)):
        if isinstance(row.outcome, kinds) and slot.computed is None and slot.kin.plain and _has_values(slot.tensor):
            table = recognised(slot.tensor)
            outcome = table[0] if table is not None else constant_parts(slot.tensor)
            if outcome is not None:
                found[place] = replace(row, outcome=outcome)
    return found


def _has_values(tensor: torch.Tensor) -> bool:
    return tensor.numel() > 0 and not tensor.is_meta and tensor.is_floating_point()


SECOND = 0x1217
"""The seed under which NumPy and Python draw in a second construction."""


def _drawn_elsewhere(tree: Tree, rows: Sequence[Row], build: Callable[[], Any]) -> list[Row]:
    """Return the rows; those that differ in a second construction are drawn by another generator than torch's."""
    np.random.seed(SECOND)
    random.seed(SECOND)
    again = build()
    found = list(rows)
    if not isinstance(again, nn.Module):
        return found
    others = {slot.name: slot for slot in walk(again, buffers=False).slots}
    for place, (slot, row) in enumerate(zip(tree.slots, rows, strict=True)):
        if not isinstance(row.outcome, Table | Given) or not row.numel:
            continue
        other = others.get(slot.name)
        same = other is not None and other.kin.shape == slot.kin.shape and torch.equal(other.tensor, slot.tensor)
        found[place] = replace(row, outcome=Table() if same else Computed("drawn outside torch"))
    return found
