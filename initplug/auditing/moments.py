"""Moments and extremes of what a tensor holds, measured in chunks."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEASURED_AT_A_TIME = 1 << 15
"""Elements measured at a time: the scratch of a measurement, whatever the tensor's size.

Torch hands nothing shorter to its pool of threads, which spin while they wait: beside busy neighbours that takes many
times as long as the work. NumPy has no pool, but that of its linear algebra, which takes rows longer than `ROW`.
"""


class Moments(NamedTuple):
    """Population moments and extremes of the `numel` elements of a tensor."""

    numel: int
    mean: float
    std: float
    min: float
    max: float


def measure(tensor: Tensor, padding_row: int | None = None, without: Collection[float] = ()) -> Moments | None:
    """Measure a tensor in chunks; a padding row, which nothing draws, is left out, and so are given values.

    The deviation of complex elements is √E|z - mean|², their mean that of the real part, their extremes those of both
    parts. An empty tensor has no moments.

    Example:
        >>> measure(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), padding_row=1)
        Moments(numel=2, mean=2.0, std=1.0, min=1.0, max=3.0)
    """
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = tensor.resolve_conj()
        real, imaginary = (measure(part, padding_row) for part in torch.view_as_real(tensor).unbind(-1))
        return None if real is None or imaginary is None else _complex_moments(real, imaginary)
    total: Moments | None = None
    for chunk in chunks(tensor, padding_row):
        for value in without:
            chunk = chunk[chunk != value]
        if not chunk.size:
            continue
        measured = _measured(chunk)
        total = measured if total is None else together(total, measured)
    return total


def _complex_moments(real: Moments, imaginary: Moments) -> Moments:
    """Return the moments of complex elements from those of their parts."""
    std = math.hypot(real.std, imaginary.std, imaginary.mean)
    return Moments(real.numel, real.mean, std, min(real.min, imaginary.min), max(real.max, imaginary.max))


def chunks(tensor: Tensor, padding_row: int | None = None) -> Iterator[NDArray[Any]]:
    """Yield the elements as floats, `MEASURED_AT_A_TIME` in a row, without a copy where memory allows it."""
    parts = [tensor] if padding_row is None else [tensor[:padding_row], tensor[padding_row + 1 :]]
    for part in parts:
        if part.numel():
            yield from _flat_pieces(part.resolve_neg())


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


def _measured(values: NDArray[Any]) -> Moments:
    size, low, high = values.size, float(np.minimum.reduce(values)), float(np.maximum.reduce(values))
    if low == high:
        return Moments(size, low, 0.0, low, high)
    with np.errstate(invalid="ignore"):  # of infinite elements, and of signalling NaNs
        deviations, scale = values.astype(np.float64), _scale(low, high)
        if scale != 1:
            deviations *= scale
        mean = float(np.add.reduce(deviations)) / size
        np.subtract(deviations, mean, deviations)
        variance = _squares(deviations) / size
    return Moments(size, mean / scale, math.sqrt(variance) / scale, low, high)


def _scale(low: float, high: float) -> float:
    """Return a power of two that keeps the squares of elements in double precision from being infinite or 0."""
    largest = max(-low, high, low, -high)
    if 1e-120 < largest < 1e120 or not math.isfinite(largest):
        return 1.0
    return 2.0**600 if largest < 1 else 2.0**-600


def _squares(values: NDArray[Any]) -> float:
    """Return the sum of squares, over rows that linear algebra does not share among threads."""
    full = values.size - values.size % ROW
    rows, rest = values[:full].reshape(-1, ROW), values[full:]
    return math.fsum(np.vecdot(rows, rows).tolist()) + float(np.vecdot(rest, rest))


ROW = 1 << 12
"""Elements whose products are added at once."""


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
        return cls(np.zeros(count, MOMENT_COLUMNS))

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


MOMENT_COLUMNS = np.dtype([(field, np.int64 if field == "numel" else np.float64) for field in Moments._fields])


SINGLE = frozenset({torch.float32, torch.bfloat16, torch.float16})
"""Dtypes whose elements single precision holds."""


def measure_alike(tensors: Sequence[Tensor]) -> Measured:
    """Measure small tensors of one shape and one dtype of `SINGLE`, all at once, in double precision.

    Example:
        >>> [*measure_alike([torch.tensor([1.0, 3.0]), torch.tensor([5.0, 5.0])])]
        [Moments(numel=2, mean=2.0, std=1.0, min=1.0, max=3.0), Moments(numel=2, mean=5.0, std=0.0, min=5.0, max=5.0)]
    """
    found, step = Measured.none(len(tensors)), max((MEASURED_AT_A_TIME - 1) // tensors[0].numel(), 1)
    if len(tensors) <= FEW_TENSORS:
        for row, tensor in enumerate(tensors):
            found[row] = measure(tensor)
        return found
    for start in range(0, len(tensors), step):
        rows = torch.stack([*tensors[start : start + step]]).detach().to("cpu", torch.float32)
        _measure_rows(rows.reshape(len(rows), -1), found.table[start : start + step])
    return found


FEW_TENSORS = 3
"""How many tensors are measured faster one by one."""


def _measure_rows(rows: Tensor, table: NDArray[Any]) -> None:
    values = rows.numpy()
    table["numel"] = values.shape[1]
    first = values[0, 0]
    if (values == first).all():  # constants, which nearly all small tensors are
        for field in ("mean", "min", "max"):
            table[field] = first
        return
    # NumPy takes ten times as long for extremes along rows.
    lows, highs = torch.amin(rows, 1).numpy(), torch.amax(rows, 1).numpy()
    equal = lows == highs
    # Deviations from an element of the row itself: from zero, squares of nearly equal elements would cancel.
    origins = np.where(np.isfinite(values[:, 0]), values[:, 0], 0).astype(np.float64)
    with np.errstate(invalid="ignore"):  # of infinite elements
        deviations = values - origins[:, None]
        offs = np.vecdot(deviations, np.ones(values.shape[1])) / values.shape[1]
        squares = np.vecdot(deviations, deviations) / values.shape[1]
        table["std"] = np.where(equal, 0.0, np.sqrt(np.maximum(squares - np.square(offs), 0.0)))
        table["mean"] = np.where(equal, lows, origins + offs)
    table["min"], table["max"] = lows, highs


def measure_drawn(values: NDArray[np.float32], mean: float, std: float) -> Moments:
    """Measure a chunk that was just drawn, fast: sums in single precision over rows, in double over these.

    Args:
        values: one-dimensional, contiguous, not empty.
        mean: expected; taken off before the squares where it exceeds `std`, lest they cancel.
        std: expected.

    Example:
        >>> measure_drawn(np.array([1, 3], np.float32), 0.0, 1.0)
        Moments(numel=2, mean=2.0, std=1.0, min=1.0, max=3.0)
    """
    # Calls are few, since other threads wait for the interpreter between two of them.
    size, low, high = values.size, float(np.minimum.reduce(values)), float(np.maximum.reduce(values))
    if low == high:
        return Moments(size, low, 0.0, low, high)
    shift = mean if abs(mean) > std else 0.0
    deviations = values - np.float32(shift) if shift else values
    full = size - size % ROW
    rows = deviations[:full].reshape(-1, ROW)
    total, squares = sum(np.vecdot(rows, ONES).tolist()), sum(np.vecdot(rows, rows).tolist())
    if full < size:
        rest = deviations[full:].astype(np.float64)
        total, squares = total + float(rest.sum()), squares + float(rest @ rest)
    off = total / size
    return Moments(size, float(np.float32(shift)) + off, math.sqrt(max(squares / size - off**2, 0.0)), low, high)


ONES = np.ones(ROW, np.float32)
