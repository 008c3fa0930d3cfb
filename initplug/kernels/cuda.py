"""Version 1 of the streams on CUDA and ROCm devices: kernels in Triton, which give the bits of the CPU.

Integer operations, gathers, IEEE products and sums are all that they take, and no product is fused with a sum, which
would round once where the CPU rounds twice.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    import triton.language as tl

OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}
"""The options that every kernel is compiled with."""

STEP = 256
"""Blocks of Philox, of eight words each, that an instance of a kernel computes."""


class Rows(NamedTuple):
    """Stretches of a stream that follow each other in memory: the rows of a box.

    Args:
        length: words of each.
        pitch: from the first word of one to the first word of the next.
    """

    length: int
    pitch: int


OLDEST = (3, 3)
"""The first Triton that kernels are tested with."""

ANSWER = (0xCA36314C, 0x16554D9E)
"""The first words under the key 0, as the tests of Philox's authors have them."""


@lru_cache(maxsize=1)
def available() -> bool:
    """Return whether kernels run here: there are Triton, a device of CUDA's or ROCm's, and a right answer from it."""
    if find_spec("triton") is None:
        return False
    import torch

    if not torch.cuda.is_available():
        return False
    try:
        import triton

        if tuple(map(int, triton.__version__.split(".")[:2])) < OLDEST:
            return False
        words = torch.zeros(2, dtype=torch.int32, device="cuda")
        fill_words(words, (0, 0), 0)
        return tuple(word % (1 << 32) for word in words.tolist()) == ANSWER
    except Exception:  # a Triton of another torch or Python, a compiler that is missing, a card that is too old
        return False


def table_on(device: torch.device, intercepts: NDArray[np.float32], slopes: NDArray[np.float32]) -> torch.Tensor:
    """Return the table of normals on a device: of each segment the intercept and the slope in one 64-bit word.

    Args:
        device: of the tensors that are to be filled.
        intercepts: by the high 18 bits of the float of a word.
        slopes: likewise.
    """
    import torch

    pairs = np.stack([intercepts, slopes], axis=1)
    return torch.from_numpy(pairs).view(torch.int64).view(-1).to(device)


def fill_words(out: torch.Tensor, key: tuple[int, int], start: int, rows: Rows | None = None) -> None:
    """Write the words of a stream.

    Args:
        out: contiguous, of 32-bit integers.
        key: of the stream, two 64-bit words.
        start: place in the stream of the first word.
        rows: where the words do not follow each other.
    """
    _fill(out, key, start, rows, "words")


def fill_normal(
    out: torch.Tensor,
    key: tuple[int, int],
    start: int,
    table: torch.Tensor,
    *,
    scale: float = 1.0,
    shift: float = 0.0,
    within: tuple[int, int] | None = None,
    bounds: tuple[float, float] | None = None,
    rows: Rows | None = None,
) -> None:
    """Write normals times `scale` plus `shift`, one for each word of a stream.

    Args:
        out: contiguous, of float32, float64, bfloat16 or float16.
        key: of the stream, two 64-bit words.
        start: place in the stream of the first word.
        table: of normals, on the same device.
        scale: rounded to float32, as are all numbers.
        shift: added afterwards.
        within: first word, and number of words, onto which all are mapped in order; by default all 2^32.
        bounds: what the values are cut at in the end.
        rows: where the words do not follow each other.
    """
    kind = "normal" if within is None else "confined"
    _fill(out, key, start, rows, kind, table, (scale, 1.0), shift, within or (0, 1 << 32), bounds)


def fill_uniform(
    out: torch.Tensor,
    key: tuple[int, int],
    start: int,
    *,
    unit: float = 2.0**-24,
    scale: float = 1.0,
    shift: float = 0.0,
    rows: Rows | None = None,
) -> None:
    """Write the high 24 bits of every word of a stream times `unit` times `scale` plus `shift`.

    Args:
        out: contiguous, of float32, float64, bfloat16 or float16.
        key: of the stream, two 64-bit words.
        start: place in the stream of the first word.
        unit: what the lowest of the 24 bits stands for, rounded to float32, as are all numbers.
        scale: multiplied with afterwards.
        shift: added in the end.
        rows: where the words do not follow each other.
    """
    _fill(out, key, start, rows, "uniform", None, (unit, scale), shift)


def _fill(
    out: torch.Tensor,
    key: tuple[int, int],
    start: int,
    rows: Rows | None,
    kind: str,
    table: torch.Tensor | None = None,
    factors: tuple[float, float] = (1.0, 1.0),
    shift: float = 0.0,
    within: tuple[int, int] = (0, 1 << 32),
    bounds: tuple[float, float] | None = None,
) -> None:
    """Launch the kernel for what a tensor holds."""
    assert out.is_contiguous()
    count = out.numel()
    if not count:
        return
    length, pitch = rows or Rows(count, 0)
    whole = length % 8 == start % 8 == pitch % 8 == 0
    # A row takes as many blocks as one may touch wherever it begins.
    each = -(-(start % 8 + length) // 8) if rows is None else length // 8 if whole else (length + 14) // 8
    blocks = count // length * each
    lowest, highest = bounds or (0.0, 0.0)
    arguments = (
        *(out, out if table is None else table, *key, start, length, pitch, each, blocks, *within),
        # -0 is what changes nothing if it is added: 0 would change -0.
        *(_single(number) for number in (*factors, shift or -0.0, lowest, highest)),
    )
    constants = {
        "kind": kind,
        "whole": whole,
        "in_rows": rows is not None,
        "clipped": bounds is not None,
        "half": str(out.dtype) == "torch.bfloat16",
        "step": STEP,
    }
    _launch(out.device, -(-blocks // STEP), arguments, constants)


def _single(number: float) -> float:
    """Return a number rounded to float32."""
    return float(np.float32(number))


def _launch(device: torch.device, instances: int, arguments: tuple[Any, ...], constants: dict[str, Any]) -> None:
    """Start instances of the kernel on a device, whichever is the current one."""
    import torch

    with torch.cuda.device(device if device.type == "cuda" else -1):
        _kernel()[(instances,)](*arguments, **constants, **OPTIONS)


@lru_cache(maxsize=1)
def _kernel() -> Any:
    """Return the kernel, to be compiled for each dtype and kind of draw as these come."""
    import triton
    import triton.language

    globals()["tl"] = triton.language  # Triton looks up here what names in a kernel mean
    numbers = [
        name for name, kind in _fill_blocks.__annotations__.items() if kind.startswith(("tl.int", "tl.u", "tl.f"))
    ]
    return triton.jit(_fill_blocks, do_not_specialize=numbers)


def _fill_blocks(
    out: tl.tensor,
    table: tl.tensor,
    key_low: tl.uint64,
    key_high: tl.uint64,
    start: tl.int64,
    length: tl.int64,
    pitch: tl.int64,
    each: tl.int64,
    blocks: tl.int64,
    begin: tl.uint64,
    count: tl.uint64,
    factor: tl.float32,
    further: tl.float32,
    shift: tl.float32,
    lowest: tl.float32,
    highest: tl.float32,
    kind: tl.constexpr,
    whole: tl.constexpr,
    in_rows: tl.constexpr,
    clipped: tl.constexpr,
    half: tl.constexpr,
    step: tl.constexpr,
) -> None:
    """Write what some blocks of a stream give, in the part of Python that Triton compiles.

    Args:
        out: memory of the first element.
        table: of normals; not read for other draws.
        key_low: first half of the key.
        key_high: second half.
        start: place in the stream of the first word.
        length: words of a row.
        pitch: from the first word of a row to that of the next.
        each: blocks that are computed for a row.
        blocks: that are computed for all.
        begin: first of the words onto which all are mapped.
        count: how many these are.
        factor: of the values.
        further: factor after that.
        shift: added afterwards.
        lowest: bound of the values.
        highest: likewise.
        kind: of draw: `words`, `normal`, `confined` or `uniform`.
        whole: whether all rows begin and end with a block.
        in_rows: whether there are several.
        clipped: whether values are cut at the bounds.
        half: whether they become bfloat16.
        step: blocks that are computed here.
    """
    at = tl.program_id(0).to(tl.int64) * step + tl.arange(0, step)
    row = at // each if in_rows else tl.zeros_like(at)
    inner = at - row * each
    first = start + row * pitch

    # Philox4x64-10, whose counter is the place of the block.
    a = ((first >> 3) + inner).to(tl.uint64)
    b, c, d = tl.zeros_like(a), tl.zeros_like(a), tl.zeros_like(a)
    one, other = tl.full(a.shape, 0xD2E7470EE14C6C93, tl.uint64), tl.full(a.shape, 0xCA5A826395121157, tl.uint64)
    low, high = tl.cast(key_low, tl.uint64), tl.cast(key_high, tl.uint64)
    for _ in tl.static_range(10):
        up, over = tl.umulhi(a, one), tl.umulhi(c, other)
        a, b, c, d = over ^ b ^ low, c * other, up ^ d ^ high, a * one
        low += tl.full([], 0x9E3779B97F4A7C15, tl.uint64)
        high += tl.full([], 0xBB67AE8584CAA73B, tl.uint64)
    wide = tl.interleave(tl.interleave(a, c), tl.interleave(b, d))
    words = tl.reshape(tl.interleave(wide.to(tl.uint32), (wide >> 32).to(tl.uint32)), (step, 8))

    if kind == "words":
        values = words.to(tl.int32, bitcast=True)
    else:
        if kind == "uniform":
            values = (words >> 8).to(tl.int32).to(tl.float32)
        else:
            if kind == "confined":
                words = (((words.to(tl.uint64) * tl.cast(count, tl.uint64)) >> 32) + begin).to(tl.uint32)
            number = words.to(tl.int32, bitcast=True).to(tl.float32)
            line = tl.load(table + (number.to(tl.uint32, bitcast=True) >> 14))
            intercept = line.to(tl.uint32).to(tl.float32, bitcast=True)
            slope = (line >> 32).to(tl.uint32).to(tl.float32, bitcast=True)
            values = intercept + slope * number
        values = values * factor * further + shift
        if clipped:
            values = tl.where(values > lowest, values, lowest)
            values = tl.where(values < highest, values, highest)
        if half:
            # Rounded to even by hand: Triton's interpreter, which shows the bits to be right, would cut them off.
            bits = values.to(tl.uint32, bitcast=True)
            bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
            values = bits.to(tl.uint16).to(tl.bfloat16, bitcast=True)

    place = (inner * 8)[:, None] + tl.arange(0, 8)[None, :]
    inside = (at < blocks)[:, None] & (place >= 0)
    if not whole:
        place -= (first & 7)[:, None]
        inside = inside & (place >= 0) & (place < length)
    tl.store(out + (row * length)[:, None] + place, values.to(out.dtype.element_ty), mask=inside)
