"""Writes: what is noted of a memory, who wrote it with what, and what was known of it when it was looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


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
        held: the values, where they were copied to a tensor on meta.
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
    held: Tensor | None = None


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


def reads_in(value: Value) -> Iterator[Read]:
    """Yield what an operator was given of tensors."""
    return (leaf for leaf in tree_leaves((value.args, dict(value.kwargs))) if isinstance(leaf, Read))
