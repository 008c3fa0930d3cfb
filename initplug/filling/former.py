"""Values of tensors before they are written that no reset leaves, so that somebody has set them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from initplug.auditing.audit import to_write
from initplug.errors import ROWS, shortened, warn
from initplug.filling.owners import generators_kept, value_of
from initplug.filling.sharding import is_sharded, local_of
from initplug.filling.work import Work
from initplug.language.recipe import Recipe
from initplug.planning.advice import own_rule
from initplug.planning.assignment import Share
from initplug.planning.slots import PLAIN_TENSORS, Slot, Slots
from initplug.schemes.compositions import Planned, text
from initplug.schemes.distributions import Constant, Uniform


class _Set(NamedTuple):
    """A slot that holds one value throughout, which its default does not give."""

    slot: Slot
    share: Share
    value: Any


def warn_of_set_values(work: Work) -> None:
    """Warn of tensors that `default` is about to draw over although their constructor, or somebody since, set them.

    A reset leaves draws, or a constant. A tensor that holds another value in all of its elements was set after it.
    """
    rules = _defaulting(work.plan.recipe)
    if not rules:
        return
    slots, shares = work.slots, work.plan.shares
    rows, found = to_write(work.statuses), list[_Set]()
    tensors, computed = slots.tensors, {*slots.computed}

    def held(row: int, share: Share) -> Tensor | None:
        """Return what a slot holds; nearly all of them are asked one question each."""
        tensor = tensors[row]
        if row in computed or type(tensor) not in PLAIN_TENSORS:
            return _held_value(slots[row], share)
        return None if tensor.is_meta else tensor

    with torch.no_grad():
        for share, group in shares.taken(rows).groups():
            if share.rule in rules and share.numel > 1:
                pairs = ((row, held(row, share)) for row in rows[group].tolist())
                found += _set_among(slots, [(row, tensor) for row, tensor in pairs if tensor is not None], share)
    if found:
        warn("\n".join(_warning_lines(sorted(found, key=lambda one: one.slot.position))))


def _defaulting(recipe: Recipe) -> set[str]:
    """Return the rules that draw what resets draw, as a whole or in parts."""
    rules = ((name, rule.init) for name, rule in recipe.rules.items() if rule is not None)
    return {name for name, init in rules if "default" in (init.fn, *(part.fn for part in init.parts))}


def _held_value(slot: Slot, share: Share) -> Tensor | None:
    """Return what an unusual slot holds here, if that can be read and has elements to compare."""
    # A rank may hold nothing but the padding row, which is zero by rights.
    if slot.on_meta or (share.padding_row is not None and is_sharded(slot.tensor)):
        return None
    try:
        if slot.computed is None:
            tensor = local_of(slot.tensor).detach()
        else:
            with generators_kept(slot.stored[0].device):
                tensor = value_of(slot)
        return tensor if tensor.numel() > 1 else None
    except Exception:  # parametrizations are the model's own code; writing tells what is wrong with them
        return None


def _set_among(slots: Slots, held: Sequence[tuple[int, Tensor]], share: Share) -> list[_Set]:
    """Return the rows, among slots that are alike, that hold one value which `default` does not give, with it."""
    try:
        alike = _ends_agree([tensor for _, tensor in held], share.distribution) if held else []
        return [
            _Set(slots[row], share, value)
            for row, tensor in compress(held, alike)
            if (value := _one_value(tensor)) is not None and not _may_be_chance(value, tensor, share.distribution)
        ]
    except Exception:  # a dtype that torch cannot compare, a class of tensors that does not let itself be read
        return []


def _ends_agree(tensors: Sequence[Tensor], planned: Planned | None) -> list[bool]:
    """Return whether the first and the last element of each are equal, and no constant that is planned."""
    parts = [*map(_outer_elements, tensors)]
    if len({*map(DEVICE, parts)}) > 1:
        parts = [part.to(parts[0].device) for part in parts]
    ends = torch.stack(parts)
    agree = ends[:, 0] == ends[:, 1]
    if isinstance(planned, Constant):
        agree &= ends[:, 0] != torch.full_like(ends[:, 0], planned.value)
    return agree.tolist()


DEVICE = attrgetter("device")


def _outer_elements(tensor: Tensor) -> Tensor:
    """Return the first and the last element."""
    if tensor.is_contiguous():
        return tensor.as_strided((2,), (tensor.numel() - 1,))
    span = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((2,), (span,))


def _one_value(tensor: Tensor) -> Any:
    """Return the value that all elements have; None if they differ."""
    first = tensor.as_strided(tensor.shape, (0,) * tensor.ndim)
    return tensor.as_strided((), ()).item() if torch.equal(tensor, first) else None


def _may_be_chance(value: Any, tensor: Tensor, planned: Planned | None) -> bool:
    """Return whether draws of a narrow dtype may come out equal in all of a few elements; they hardly ever are zero."""
    if isinstance(planned, Uniform) and planned.low == planned.high == value:
        return True  # of a layer without inputs
    if isinstance(planned, Constant) or not value:
        return False
    return torch.finfo(tensor.dtype).eps ** (tensor.numel() - 1) > CHANCE_OF_ONE_VALUE


CHANCE_OF_ONE_VALUE = 1e-6


def _warning_lines(found: Sequence[_Set]) -> Iterator[str]:
    """Yield the lines of the warning."""
    counted = "1 tensor holds" if len(found) == 1 else f"{len(found)} tensors hold"
    yield f"{counted} one value throughout, which no reset leaves there: `default` overwrites what has set it"
    rows = [
        f"{one.slot.name} {one.share.shape}: {_recipe_number(one.value, one.slot.tensor)}, and `default` is "
        f"{text(one.share.distribution)}"
        for one in found[: ROWS + 1]
    ]
    yield from (f"  {row}" for row in shortened([*rows, *[""] * (len(found) - len(rows))]))
    slot, _, value = found[0]
    ways = [f"keep it with `{own_rule(slot, 'keep')}`"]
    if isinstance(value, int | float) and math.isfinite(value):
        ways.insert(
            0, f"give it a later rule of its own, such as `{own_rule(slot, _recipe_number(value, slot.tensor))}`"
        )
    yield f"Where that is not meant, {', or '.join(ways)}."


def _recipe_number(value: Any, tensor: Tensor) -> str:
    """Return a value as a recipe writes it, in the digits that its dtype tells apart."""
    if isinstance(value, float) and tensor.dtype != torch.float64:
        return str(np.float32(value)).removesuffix(".0")
    return str(int(value) if isinstance(value, bool) else value).removesuffix(".0")
