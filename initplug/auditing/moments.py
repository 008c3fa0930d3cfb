"""Moments and extremes of what a tensor holds, measured in chunks."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import attrgetter
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initplug.kernels import kernel
from initplug.kernels.reference import MOMENTS

MEASURED_AT_A_TIME = 1 << 15
"""Elements measured at a time: the scratch of a measurement, whatever the tensor's size.

Torch hands nothing shorter to its pool of threads, which spin while they wait: beside busy neighbours that takes many
times as long as the work.
"""


class Moments(NamedTuple):
    """Population moments and extremes of the `numel` elements of a tensor."""

    numel: int
    mean: float
    std: float
    min: float
    max: float


def measure(
    tensor: Tensor, padding_row: int | None = None, without: Collection[float] = (), threads: int = 1
) -> Moments | None:
    """Measure a tensor in chunks that threads share; a padding row, which nothing draws, is left out, and given values.

    The deviation of complex elements is √E|z - mean|², their mean that of the real part, their extremes those of both
    parts. An empty tensor has no moments.

    Example:
        >>> measure(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), padding_row=1)
        Moments(numel=2, mean=2.0, std=1.0, min=1.0, max=3.0)
    """
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = tensor.resolve_conj()
        parts = torch.view_as_real(tensor).unbind(-1)
        real, imaginary = (measure(part, padding_row, threads=threads) for part in parts)
        return None if real is None or imaginary is None else _complex_moments(real, imaginary)
    held = _parts(tensor, padding_row)
    if not without and tensor.dtype in KERNEL_DTYPES and all(part.is_cpu and is_dense(part) for part in held):
        found = [one for part in held for one in measure_memory(part.data_ptr(), tensor.dtype, part.numel(), threads)]
    else:
        chosen = (_without(chunk, without) for chunk in chunks(tensor, padding_row))
        found = [one for chunk in chosen if chunk.size for one in measure_array(chunk)]
    return reduce(together, filter(None, found)) if found else None


def _without(chunk: NDArray[Any], values: Collection[float]) -> NDArray[Any]:
    """Return a chunk without the elements that have given values."""
    for value in values:
        chunk = chunk[chunk != value]
    return chunk


def _complex_moments(real: Moments, imaginary: Moments) -> Moments:
    """Return the moments of complex elements from those of their parts."""
    std = math.hypot(real.std, imaginary.std, imaginary.mean)
    return Moments(real.numel, real.mean, std, min(real.min, imaginary.min), max(real.max, imaginary.max))


def chunks(tensor: Tensor, padding_row: int | None = None) -> Iterator[NDArray[Any]]:
    """Yield the elements as floats, `MEASURED_AT_A_TIME` in a row, without a copy where memory allows it."""
    for part in _parts(tensor, padding_row):
        yield from _flat_pieces(part)


def _parts(tensor: Tensor, padding_row: int | None) -> list[Tensor]:
    """Return what is left of a tensor without its padding row: views that hold something, none negated."""
    parts = [tensor] if padding_row is None else [tensor[:padding_row], tensor[padding_row + 1 :]]
    return [part.resolve_neg() for part in parts if part.numel()]


def _flat_pieces(tensor: Tensor) -> Iterator[NDArray[Any]]:
    if is_dense(tensor):
        flat = tensor.as_strided((tensor.numel(),), (1,))
        if flat.is_cpu and flat.dtype in (torch.float32, torch.float64):
            values = array_of(flat)
            yield from (
                values[start : start + MEASURED_AT_A_TIME] for start in range(0, len(values), MEASURED_AT_A_TIME)
            )
        else:
            yield from (_wide_enough(piece) for piece in torch.split(flat, MEASURED_AT_A_TIME))
    elif tensor.numel() <= MEASURED_AT_A_TIME:
        yield _wide_enough(tensor.reshape(-1))
    else:
        step = MEASURED_AT_A_TIME * tensor.shape[0] // tensor.numel()
        for part in torch.split(tensor, step) if step else tensor.unbind(0):
            yield from _flat_pieces(part)


def _wide_enough(piece: Tensor) -> NDArray[Any]:
    """Return a piece in double precision, where single precision does not hold what it holds."""
    single = piece.dtype == torch.float32 or (piece.is_floating_point() and piece.element_size() < 4)
    values: NDArray[Any] = array_of(piece.to(torch.float32 if single else torch.float64).cpu())
    return values


class ArrayMemory:
    """The memory of a tensor as NumPy is told of it, kept alive; nothing is read.

    Args:
        tensor: on any device.
        typestr: NumPy's name of its elements.
    """

    def __init__(self, tensor: Tensor, typestr: str) -> None:
        self.tensor = tensor
        self.__array_interface__ = {
            "version": 3,
            "data": (tensor.data_ptr(), False),
            "typestr": typestr,
            "shape": tuple(tensor.shape),
            "strides": tuple(stride * tensor.element_size() for stride in tensor.stride()),
        }


NUMPY = {getattr(torch, name): np.dtype(name).str for name in ("float32", "float64", "int8", "int16", "int32", "int64")}


def array_of(tensor: Tensor) -> NDArray[Any]:
    """Return the elements of a tensor on the CPU as an array over the same memory.

    `Tensor.numpy` gives the same, but from then on forbids all others to resize the memory, as FSDP does.

    Raises:
        ValueError: the tensor is conjugated or negated, so that its memory holds something else.

    Example:
        >>> held = torch.zeros(2)
        >>> array_of(held)[0] = 1
        >>> held, held.untyped_storage().resizable()
        (tensor([1., 0.]), True)
    """
    if tensor.is_conj() or tensor.is_neg():
        raise ValueError("a conjugated or negated tensor is not what its memory holds")
    return np.asarray(ArrayMemory(tensor.detach(), NUMPY[tensor.dtype]))


def is_dense(tensor: Tensor) -> bool:
    """Return whether the elements fill one stretch of memory, in whatever order."""
    filled = 1
    for stride, size in sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != filled:
            return False
        filled *= size
    return True


KERNEL_DTYPES = {getattr(torch, name): name for name in ("float32", "float64", "bfloat16", "float16")}
"""Dtypes that kernels write and measure, by the names that they have there."""

AT_ONCE = 1 << 18
"""Elements whose moments are added up at once, whoever measures them."""


def measure_memory(address: int, dtype: torch.dtype, count: int, threads: int = 1) -> Measured:
    """Measure elements that follow each other in memory, in stretches of `AT_ONCE`.

    Args:
        address: of the first, on the CPU.
        dtype: one of `KERNEL_DTYPES`.
        count: how many there are, one or more.
        threads: that share the stretches, which changes nothing.
    """
    whole, rest = divmod(count, AT_ONCE)
    found, size = Measured.none(whole + (rest > 0)), AT_ONCE * dtype.itemsize
    addresses = (address + np.arange(len(found)) * size).astype(np.uintp)

    def measure_stretches(some: slice, each: int) -> None:
        kernel().measure(addresses[some], KERNEL_DTYPES[dtype], each, found.table[some])

    share = max(-(-whole // threads), 1)
    shares = [slice(begin, min(begin + share, whole)) for begin in range(0, whole, share)]
    if len(shares) > 1:
        with ThreadPoolExecutor(len(shares)) as pool:
            for done in [pool.submit(measure_stretches, some, AT_ONCE) for some in shares]:
                done.result()
    elif shares:
        measure_stretches(shares[0], AT_ONCE)
    if rest:
        measure_stretches(slice(whole, None), rest)
    return found


def measure_array(values: NDArray[Any]) -> Measured:
    """Measure the elements of an array of floats, one or more.

    Example:
        >>> [*measure_array(np.array([1, 3], np.float32))]
        [Moments(numel=2, mean=2.0, std=1.0, min=1.0, max=3.0)]
    """
    values = np.ascontiguousarray(values)
    return measure_memory(address_of(values), getattr(torch, values.dtype.name), values.size)


def address_of(values: NDArray[Any]) -> int:
    """Return where an array without gaps begins in memory."""
    return values.ctypes.data


def together(one: Moments, other: Moments) -> Moments:
    """Return the moments of both samples as one.

    Source: Chan, Golub, LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances.
    """
    count = one.numel + other.numel
    delta = other.mean - one.mean
    mean = one.mean + delta * other.numel / count
    share, rest = math.sqrt(one.numel / count), math.sqrt(other.numel / count)
    std = math.hypot(share * one.std, rest * other.std, share * rest * delta)
    return Moments(count, mean, std, min(one.min, other.min), max(one.max, other.max))


class Measured(Sequence[Moments | None]):
    """The moments of many tensors as a table with a row for each; rows without elements were not measured.

    Args:
        table: with the fields of `Moments` as its columns.

    Example:
        >>> found = Measured.none(2)
        >>> found[1] = Moments(2, 0.5, 0.5, 0.0, 1.0)
        >>> found[0], found[1].mean, found.rows.tolist()
        (None, 0.5, [1])
    """

    __slots__ = ("table",)

    def __init__(self, table: NDArray[Any]) -> None:
        self.table = table

    @classmethod
    def none(cls, count: int) -> Measured:
        """Return a table of tensors that were not measured yet."""
        return cls(np.zeros(count, MOMENTS))

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> Moments | None: ...
    @overload
    def __getitem__(self, index: slice) -> Measured: ...
    def __getitem__(self, index: int | slice) -> Moments | Measured | None:
        if isinstance(index, slice):
            return Measured(self.table[index])
        moments = Moments(*self.table[index].item())
        return moments if moments.numel else None

    def __setitem__(self, index: int, moments: Moments | None) -> None:
        self.table[index] = (0,) * len(Moments._fields) if moments is None else moments

    def put(self, rows: Sequence[int] | NDArray[np.intp], measured: Measured) -> None:
        """Take over what was measured of some rows."""
        self.table[np.asarray(rows, np.intp)] = measured.table

    @property
    def rows(self) -> NDArray[np.intp]:
        """The rows that were measured."""
        return np.flatnonzero(self.table["numel"])


SINGLE = frozenset({torch.float32, torch.bfloat16, torch.float16})
"""Dtypes whose elements single precision holds."""


def measure_alike(tensors: Sequence[Tensor], *, in_order: bool) -> Measured:
    """Measure tensors of one shape and one dtype of `SINGLE`, one element or more each.

    Args:
        tensors: of one device.
        in_order: whether they `lie_in_order`.

    Example:
        >>> [*measure_alike([torch.tensor([1.0, 3.0]), torch.tensor([5.0, 5.0])], in_order=True)]
        [Moments(numel=2, mean=2.0, std=1.0, min=1.0, max=3.0), Moments(numel=2, mean=5.0, std=0.0, min=5.0, max=5.0)]
    """
    found, dtype, numel = Measured.none(len(tensors)), KERNEL_DTYPES[tensors[0].dtype], tensors[0].numel()
    if in_order:
        kernel().measure(addresses_of(tensors), dtype, numel, found.table)
        return found
    step = max((MEASURED_AT_A_TIME - 1) // numel, 1)
    for start in range(0, len(tensors), step):
        rows = torch.stack([*tensors[start : start + step]]).detach().cpu()
        kernel().measure(addresses_of(rows.unbind(0)), dtype, numel, found.table[start : start + step])
    return found


IS_CPU = attrgetter("is_cpu")


def lie_in_order(tensors: Sequence[Tensor]) -> bool:
    """Return whether kernels may write and measure tensors: in row-major order, on the CPU, not negated."""
    return (
        all(map(IS_CPU, tensors)) and all(map(Tensor.is_contiguous, tensors)) and not any(map(Tensor.is_neg, tensors))
    )


def addresses_of(tensors: Sequence[Tensor]) -> NDArray[np.uintp]:
    """Return where tensors begin in memory."""
    return np.fromiter(map(Tensor.data_ptr, tensors), np.uintp, len(tensors))
