"""The limits of dtypes, of what they hold and what torch draws in them: seen before anything is written."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch

from initplug.schemes.calls import MisfitError
from initplug.schemes.compositions import Batched, Copy, Keep, Load, Planned, Single, Stacked
from initplug.schemes.distributions import Complex, Constant, Elementwise, Normal
from initplug.schemes.structures.base import Fixed
from initplug.schemes.structures.custom import Custom
from initplug.torch_versions import can_fill

CODES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""Dtypes as safetensors names them, in the order of its files: large ones first, so that all are aligned. Those that
pack several numbers into one element are left out."""

DRAWN_DTYPES = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex32, torch.complex64, torch.complex128}
)
"""Dtypes that torch draws random numbers in; shorter floats are stored, not drawn."""


def check_dtype(distribution: Planned, dtype: torch.dtype, fn: str) -> None:
    """Refuse what a dtype cannot hold or torch cannot draw in it.

    Raises:
        MisfitError: saying what does not fit.
    """
    if isinstance(distribution, Copy | Load | Keep):
        return
    if isinstance(distribution, Stacked):
        for part in distribution.drawn:
            check_dtype(part, dtype, fn)
        return
    name = str(dtype).removeprefix("torch.")
    if not isinstance(distribution, Constant):
        if dtype not in DRAWN_DTYPES:
            raise MisfitError(f"{fn}: {name} tensors take constants only")
        if dtype.is_complex != isinstance(distribution, Complex) and not isinstance(distribution, Normal):
            told = "complex tensors take constants, normal, truncated and uniform draws only"
            raise MisfitError(f"{fn}: {told}" if dtype.is_complex else f"{fn}: {name} tensors take no complex draws")
    part = distribution.part if isinstance(distribution, Batched) else distribution
    if isinstance(part, Custom):
        return  # how far the elements reach is seen when they are computed
    try:
        low, high = _range(dtype)
    except (TypeError, NotImplementedError):  # the latter of dtypes that pack several numbers into one element
        raise MisfitError(f"{fn}: {name} tensors cannot be filled") from None
    if not can_fill(dtype):
        raise MisfitError(f"{fn}: {name} tensors cannot be filled by torch {torch.__version__}")
    for value in _reach(distribution):
        if not low <= value <= high:
            raise MisfitError(
                f"{fn}: {_exact(value)} does not fit {name}, which ends at {_exact(high if value > 0 else low)}"
            )
        if not (dtype.is_floating_point or dtype.is_complex) and value != int(value):
            raise MisfitError(f"{fn}: {value:g} is no {name}")
    if isinstance(part, Constant) and _rounds_to_zero(part.value, dtype):
        raise MisfitError(f"{fn}: {part.value:g} would be 0: the smallest number of {name} is {finest(dtype):g}")
    if not isinstance(distribution, Constant):
        least = finest(dtype)
        for what, size in (("std", distribution.std), ("gain", abs(part.gain) if isinstance(part, Fixed) else 0.0)):
            if 0 < size < least:
                raise MisfitError(f"{fn}: its {what} is {size:g}, and the smallest number of {name} is {least:g}")
        near, far = torch.tensor(_reach(distribution), dtype=torch.float64, device="cpu").to(dtype).tolist()
        law = distribution.law
        cut = isinstance(distribution, Elementwise) and -math.inf < law.low < law.high < math.inf
        if near == far and (cut or distribution.std):
            raise MisfitError(
                f"{fn}: its std is {distribution.std:g}, which is lost beside its mean: every element would be {far:g} "
                f"in {name}"
            )
    span = distribution.law.span
    if span is not None and span > high:
        raise MisfitError(f"{fn}: the interval {distribution.low:g} to {distribution.high:g} is too wide for {name}")


def in_dtype(planned: Planned, dtype: torch.dtype) -> Planned:
    """Return what is drawn in a dtype: complex elements have two parts."""
    if not dtype.is_complex:
        return planned
    if isinstance(planned, Stacked):
        parts = tuple(in_dtype(part, dtype) for part in planned.parts)
        return replace(planned, parts=cast("tuple[Single | Batched | Keep, ...]", parts))
    return (planned.complex_form or planned) if isinstance(planned, Elementwise) else planned


def misfit_of(distribution: Planned, dtype: torch.dtype, fn: str) -> str | None:
    """Return what keeps a dtype from taking a distribution; None where nothing does."""
    try:
        check_dtype(distribution, dtype, fn)
    except MisfitError as reason:
        return str(reason)
    return None


def _exact(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _range(dtype: torch.dtype) -> tuple[float, float]:
    """Return the smallest and largest number that a dtype holds."""
    if dtype == torch.bool:
        return 0, 1
    limits = torch.finfo(dtype) if dtype.is_floating_point or dtype.is_complex else torch.iinfo(dtype)
    return limits.min, limits.max


def finest(dtype: torch.dtype) -> float:
    """Return the smallest number above zero that a dtype of floats holds."""
    limits = torch.finfo(dtype)
    return float(limits.smallest_normal * limits.eps)


def _rounds_to_zero(value: float, dtype: torch.dtype) -> bool:
    """Return whether a number other than 0 is 0 in a dtype."""
    if value == 0 or not (dtype.is_floating_point or dtype.is_complex):
        return False
    return bool(torch.tensor(value, dtype=torch.float64, device="cpu").to(dtype).to(torch.complex128) == 0)


def _reach(distribution: Single | Batched) -> tuple[float, float]:
    """Return where the elements lie: the bounds, or six standard deviations where those are wider."""
    if isinstance(distribution, Constant):
        return distribution.value, distribution.value
    law = distribution.law
    if law.inner is not None and law.outer is None:  # draws come to the bounds, however far out they are
        return law.low, law.high
    return max(law.low, law.mean - 6 * law.std), min(law.high, law.mean + 6 * law.std)
