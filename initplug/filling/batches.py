"""Small tensors from the streams of their names, many at a time: words, writes and moments in one go each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from initplug.filling import streams
from initplug.filling.streams import BLOCK, CHUNK, Elementwise, Source
from initplug.moments import Moments, measure_rows
from initplug.regions import Region
from initplug.schemes.distributions import Constant, Drawn


class Kind(NamedTuple):
    """What is drawn for tensors that are alike: of one shape and dtype.

    Args:
        distribution: of the whole tensor.
        measured: whether it is measured as it is drawn, which takes one distribution for all elements.
        region: which part of the whole tensor is held; None for all.
    """

    distribution: Drawn
    measured: bool
    region: Region | None = None


class Order(NamedTuple):
    """A tensor to be filled.

    Args:
        name: canonical, which selects its streams.
        tensor: any dtype, layout and device that the distribution fits; what is held of it, if not all is.
        kind: what tensors that are alike have in common.
    """

    name: str
    tensor: Tensor
    kind: Kind


SMALL = 1 << 12
"""Elements up to which tensors are drawn in batches."""

FINE = 1 << 15
"""Elements that one thread computes at a time: its scratch lies in the first-level cache, near enough."""

Batch = list[list[int]]
"""Places of orders of one distribution, dtype and device, those of one shape together; at most CHUNK elements."""


def batches(orders: Sequence[Order]) -> tuple[list[Batch], list[int]]:
    """The small orders in batches, and the places of the others."""
    alike: dict[Any, list[int]] = {}
    for index, (_, tensor, kind) in enumerate(orders):
        alike.setdefault((id(kind), tensor.device), []).append(index)
    groups: dict[Any, list[list[int]]] = {}
    large: list[int] = []
    for run in alike.values():
        _, tensor, (distribution, measured, region) = orders[run[0]]
        drawn = isinstance(distribution, Elementwise) and _is_run(region)
        plain = (drawn or isinstance(distribution, Constant)) and tensor.is_floating_point()
        if plain and 0 < tensor.numel() <= SMALL:
            groups.setdefault((distribution, tensor.dtype, tensor.device, measured), []).append(run)
        else:
            large += run
    found: list[Batch] = []
    for runs in groups.values():
        room = 0
        for run in runs:
            padded = _padded(orders[run[0]])
            while run:
                if room < padded:
                    found.append([])
                    room = CHUNK
                taken, run = run[: room // padded], run[room // padded :]
                found[-1].append(taken)
                room -= len(taken) * padded
    return found, sorted(large)


def draw(runs: Sequence[Sequence[Order]], seed: int) -> list[Moments]:
    """Fill small tensors of one distribution; the values are those that each would get alone.

    Args:
        runs: the tensors, those of one shape together.
        seed: of all streams.

    Returns:
        The moments of each, in order; none if they are not to be measured.
    """
    tensors = [order.tensor for run in runs for order in run]
    torch._foreach_copy_(
        tensors, _constants(runs) if isinstance(runs[0][0].kind.distribution, Constant) else _views(runs, seed)
    )
    if not runs[0][0].kind.measured:
        return []
    moments: list[Moments] = []
    for run in runs:
        held = torch.stack([order.tensor for order in run]).to("cpu", torch.float32)
        moments += measure_rows(held.reshape(len(run), -1).numpy(), run[0].kind.distribution.mean)
    return moments


def _constants(runs: Sequence[Sequence[Order]]) -> list[Tensor]:
    """A constant in the shape of every tensor."""
    found: list[Tensor] = []
    for run in runs:
        _, first, (constant, _, _) = run[0]
        assert isinstance(constant, Constant)  # as all of the batch
        found += [torch.full(first.shape, constant.value, dtype=first.dtype, device=first.device)] * len(run)
    return found


def _views(runs: Sequence[Sequence[Order]], seed: int) -> list[Tensor]:
    """What is drawn for every tensor, in its shape."""
    keys = streams.keys_of(seed, [order.name for run in runs for order in run])
    counts = [run[0].tensor.numel() for run in runs for _ in run]
    words, firsts = streams.words_of_many(keys, counts, [_start(run[0]) for run in runs for _ in run])
    values = np.empty(len(words), np.float32)
    streams.sampler(runs[0][0].kind.distribution)(words, values, Source(FINE))
    drawn, place = torch.from_numpy(values), 0
    found: list[Tensor] = []
    for run in runs:
        shape = run[0].tensor.shape
        rows = drawn.as_strided((len(run), shape.numel()), (_padded(run[0]), 1), int(firsts[place]))
        found += rows.view(len(run), *shape).unbind(0)
        place += len(run)
    return found


def _is_run(region: Region | None) -> bool:
    """Whether the elements that are held follow each other in the whole."""
    return region is None or (len(region.boxes) == 1 and len(region.boxes[0][1].runs[0]) == 1)


def _start(order: Order) -> int:
    """The place in the whole of the first element that is held."""
    region = order.kind.region
    return 0 if region is None else int(region.boxes[0][1].runs[0][0])


def _padded(order: Order) -> int:
    """Words of the blocks that hold those of a tensor."""
    return -(-(_start(order) % BLOCK + order.tensor.numel()) // BLOCK) * BLOCK
