"""Version 1 of the streams on CUDA and ROCm devices: kernels in Triton, which give the bits of the CPU.

Integer operations, gathers, IEEE products and sums are all that they take, and no product is fused with a sum, which
would round once where the CPU rounds twice.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from initplug.kernels.reference import WORD_COUNT, Draw

if TYPE_CHECKING:
    import torch
    import triton.language as tl

OPTIONS = {"enable_fp_fusion": False, "num_warps": 4}
"""The options that every kernel is compiled with."""

STEP = 256
"""Blocks of Philox, of eight words each, that an instance of a kernel computes."""


class StreamRows(NamedTuple):
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


def table_on(device: torch.device, table: NDArray[np.float32]) -> torch.Tensor:
    """Return the table of normals on a device, a 64-bit word for each segment.

    Args:
        device: of the tensors that are to be filled.
        table: (segments, 2), contiguous: intercept and slope for the high 18 bits of every word as a float.
    """
    import torch

    return torch.from_numpy(table).view(torch.int64).view(-1).to(device)


def fill_words(out: torch.Tensor, key: tuple[int, int], start: int, rows: StreamRows | None = None) -> None:
    """Write the words of a stream.

    Args:
        out: contiguous, of 32-bit integers.
        key: of the stream, two 64-bit words.
        start: place in the stream of the first word.
        rows: where the words do not follow each other.
    """
    _fill(out, out, key, start, rows, (0, WORD_COUNT, 1.0, -0.0, -math.inf, math.inf), "words")


def fill(
    out: torch.Tensor,
    key: tuple[int, int],
    start: int,
    table: torch.Tensor,
    draw: Draw,
    rows: StreamRows | None = None,
) -> None:
    """Write a value for each word of a stream, as `reference.fill` does.

    Args:
        out: contiguous, of float32, float64, bfloat16 or float16.
        key: of the stream, two 64-bit words.
        start: place in the stream of the first word.
        table: of normals, on the same device.
        draw: of every element.
        rows: where the words do not follow each other.
    """
    kind = "uniform" if draw.uniform else "normal" if (draw.first, draw.number) == (0, WORD_COUNT) else "confined"
    numbers = (draw.first, draw.number, draw.scale, draw.shift, draw.low, draw.high)
    _fill(out, table, key, start, rows, numbers, kind)


def _fill(
    out: torch.Tensor,
    table: torch.Tensor,
    key: tuple[int, int],
    start: int,
    rows: StreamRows | None,
    numbers: tuple[int, int, float, float, float, float],
    kind: str,
) -> None:
    """Launch the kernel for what a tensor holds."""
    assert out.is_contiguous()
    if not out.numel():
        return
    length, pitch = rows or StreamRows(out.numel(), 0)
    whole = length % 8 == start % 8 == pitch % 8 == 0
    # A row takes as many blocks as one may touch wherever it begins.
    each = -(-(start % 8 + length) // 8) if rows is None else length // 8 if whole else (length + 14) // 8
    blocks = out.numel() // length * each
    begin, count, *others = numbers
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite
        scale, shift, low, high = map(float, np.array(others, np.float32))
    constants = {
        "kind": kind,
        "whole": whole,
        "in_rows": rows is not None,
        "shifted": shift != 0 or math.copysign(1, shift) > 0,  # -0 leaves all numbers as they are
        "clipped": (low, high) != (-math.inf, math.inf),
        "half": str(out.dtype) == "torch.bfloat16",
        "step": STEP,
    }
    arguments = (out, table, *key, start, length, pitch, each, blocks, begin, count, scale, shift, low, high)
    _launch(out.device, -(-blocks // STEP), arguments, constants)


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
    scale: tl.float32,
    shift: tl.float32,
    low: tl.float32,
    high: tl.float32,
    kind: tl.constexpr,
    whole: tl.constexpr,
    in_rows: tl.constexpr,
    shifted: tl.constexpr,
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
        scale: of the values.
        shift: added afterwards.
        low: bound of the values.
        high: likewise.
        kind: of draw: `words`, `normal`, `confined` or `uniform`.
        whole: whether all rows begin and end with a block.
        in_rows: whether there are several.
        shifted: whether `shift` is added.
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
    key, other_key = tl.cast(key_low, tl.uint64), tl.cast(key_high, tl.uint64)
    for _ in tl.static_range(10):
        up, over = tl.umulhi(a, one), tl.umulhi(c, other)
        a, b, c, d = over ^ b ^ key, c * other, up ^ d ^ other_key, a * one
        key += tl.full([], 0x9E3779B97F4A7C15, tl.uint64)
        other_key += tl.full([], 0xBB67AE8584CAA73B, tl.uint64)
    wide = tl.interleave(tl.interleave(a, c), tl.interleave(b, d))
    words = tl.reshape(tl.interleave(wide.to(tl.uint32), (wide >> 32).to(tl.uint32)), (step, 8))

    if kind == "words":
        values = words.to(tl.int32, bitcast=True)
    else:
        if kind == "uniform":
            values = (words >> 8).to(tl.int32).to(tl.float32) * (2.0**-24)
        else:
            if kind == "confined":
                words = (((words.to(tl.uint64) * tl.cast(count, tl.uint64)) >> 32) + begin).to(tl.uint32)
            number = words.to(tl.int32, bitcast=True).to(tl.float32)
            line = tl.load(table + (number.to(tl.uint32, bitcast=True) >> 14))
            intercept = line.to(tl.uint32).to(tl.float32, bitcast=True)
            slope = (line >> 32).to(tl.uint32).to(tl.float32, bitcast=True)
            values = intercept + slope * number
        values = values * scale
        if shifted:
            values = values + shift
        if clipped:
            values = tl.where(values < low, low, values)
            values = tl.where(values > high, high, values)
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
