"""Placements: operators that move elements, or write to some of them, as maps of the elements that they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.studies.recording.forms import Content, Form, compacted, moved, repeated
from initplug.studies.recording.writes import Read, Value

Codes = NDArray[np.int64]


def _indexed(x: Tensor, places: Sequence[Any]) -> Tensor:
    found: Tensor = torch.ops.aten.index(x, [*places])
    return found


def _put(x: Tensor, places: Sequence[Any], new: Tensor, accumulate: bool = False, _unsafe: bool = False) -> Tensor:
    if accumulate:
        raise ValueError("it adds")
    found: Tensor = torch.ops.aten.index_put(x, [*places], new)
    return found


def _scattered(x: Tensor, dim: int, places: Tensor, new: Tensor, **given: Any) -> Tensor:
    if given:
        raise ValueError("it reduces")
    return x.scatter(dim, places, new if new.dim() else int(new))


PLACEMENTS: Mapping[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "index": (_indexed, (0,)),
    "index_select": (lambda x, dim, places: x.index_select(dim, places), (0,)),
    "gather": (lambda x, dim, places, sparse_grad=False: x.gather(dim, places), (0,)),  # noqa: ARG005  # as torch calls it
    "masked_select": (lambda x, mask: x.masked_select(mask), (0,)),
    "index_put": (_put, (0, 2)),
    "_index_put_impl": (_put, (0, 2)),
    "index_fill": (lambda x, dim, places, new: x.index_fill(dim, places, int(new)), (0, 3)),
    "index_copy": (lambda x, dim, places, new: x.index_copy(dim, places, new), (0, 3)),
    "masked_fill": (lambda x, mask, new: x.masked_fill(mask, int(new)), (0, 2)),
    "masked_scatter": (lambda x, mask, new: x.masked_scatter(mask, new), (0, 2)),
    "scatter": (_scattered, (0, 3)),
    "where": (torch.where, (1, 2)),
    "flip": (lambda x, dims: x.flip(dims), (0,)),
    "roll": (lambda x, shifts, dims=(): x.roll(shifts, dims or None), (0,)),
    "tril": (lambda x, diagonal=0: x.tril(diagonal), (0,)),
    "triu": (lambda x, diagonal=0: x.triu(diagonal), (0,)),
    "repeat": (lambda x, times: x.repeat(times), (0,)),
    "constant_pad_nd": (lambda x, pad, value: torch.nn.functional.pad(x, pad, value=int(value)), (0, 2)),
    "fill_diagonal": (lambda x, new, wrap=False: x.clone().fill_diagonal_(int(new), wrap), (0, 1)),
}
"""Operators that place elements, and which of their arguments those are; the others are places and dimensions."""

MOST = 1 << 24
"""The most elements whose places are followed."""


def placed(value: Value, operands: Mapping[int, Content], nothing: Form) -> Content:
    """Return the content of what an operator places.

    Args:
        value: its result.
        operands: the contents of the arguments whose elements it places, by their place among the arguments.
        nothing: the form of elements that are none of these: zeros.

    Raises:
        ValueError: the places are not known, or they are too many.
    """
    function, _ = PLACEMENTS[value.op]
    forms: list[Form] = [nothing]
    tables = [np.zeros(1, np.int32)]
    given: list[Any] = [_plain(one) for one in value.args]
    size = 1  # the code 0 is that of nothing
    for place, content in operands.items():
        operand = value.args[place]
        sizes = operand.region.sizes if isinstance(operand, Read) else ()
        count = int(np.prod(sizes, dtype=np.int64))
        ids = np.zeros(count, np.int32) if content.ids is None else content.ids.reshape(-1).astype(np.int32)
        tables.append(ids + len(forms))
        stays = value.in_place and place == 0
        forms.extend(content.forms if stays else (moved(form, value) for form in content.forms))
        given[place] = torch.arange(size, size + count).reshape(sizes)
        size += count
    if size > MOST or np.prod(value.sizes, dtype=np.int64) > MOST:
        raise ValueError("of too many elements")
    try:
        codes = function(*given, **{key: _plain(one) for key, one in value.kwargs.items()}).numpy()
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError("at places that are not known") from error
    ids = np.concatenate(tables)[codes]
    drawn = np.array([bool(form.sources) for form in forms])
    counts = np.bincount(codes.reshape(-1), minlength=size)
    twice = set(np.concatenate(tables)[counts > 1].tolist())
    found = [repeated(form) if drawn[at] and at in twice else form for at, form in enumerate(forms)]
    return compacted(found, ids.reshape(value.sizes))


def _plain(given: Any) -> Any:
    """Return an argument as the operator is given it: places as they are."""
    if isinstance(given, list | tuple):
        return [_plain(one) for one in given]
    return given.places if isinstance(given, Read) else given
