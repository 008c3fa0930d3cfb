"""Spelling: numbers, and distributions by their numbers, as a person would write them in a recipe."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from initplug.language.numbers import Written
from initplug.schemes.compositions import Batched, Drawn, Stacked
from initplug.schemes.distributions import Complex, Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.log_uniform import LogUniform
from initplug.schemes.structures.arange import Arange
from initplug.schemes.structures.orthogonal import Orthogonal
from initplug.schemes.structures.sparse import Sparse
from initplug.schemes.uniform_log import UniformLog
from initplug.studies.drafting.agreement import NEAR

CLOSE = 1e-7
"""The relative distance within which a number is a shorter one: single precision keeps no more of it."""

SHORT = 3
"""Digits that a person writes down; more of them are of a formula."""


def spelled_number(value: float, *, exactly: bool = False) -> Any:
    """Return the shortest number, or root, that a number is.

    Args:
        value: the number.
        exactly: whether it shall be the same in single precision, as constants are compared.

    Example:
        >>> [spelled_number(x) for x in (1.0, 0.02, 2**0.5, 768**-0.5, 1 / 3, 0.10000000149)]
        [1, 0.02, 'sqrt(2)', '1/sqrt(768)', '1/3', 0.1]
    """
    if not math.isfinite(value):
        return value
    if value == int(value) and abs(value) < 1e6:
        return int(value)
    short = _shortest(value, 6, exactly)
    if short is not None:
        return short
    sign, size = ("-" if value < 0 else ""), abs(value)
    for text, whole in ((f"{sign}sqrt({{}})", size**2), (f"{sign}1/{{}}", 1 / size), (f"{sign}1/sqrt({{}})", size**-2)):
        if 1 < whole < 1e6 and abs(whole - round(whole)) <= 2 * CLOSE * whole:
            written = text.format(round(whole))
            if _close(Written(written), value, exactly):
                return written
    return _shortest(value, 17, exactly)


def _shortest(value: float, most: int, exactly: bool) -> float | None:
    shorter = (float(f"{value:.{digits}g}") for digits in range(1, most + 1))
    return next((number for number in shorter if _close(number, value, exactly)), None)


def _close(one: float, other: float, exactly: bool) -> bool:
    if exactly:
        return bool(np.float32(one) == np.float32(other))
    return abs(one - other) <= CLOSE * abs(other)


def is_short(form: Any, digits: int = SHORT) -> bool:
    """Return whether all numbers of an initializer are such as a person writes down.

    Example:
        >>> is_short({"fn": "normal", "std": 0.02}), is_short({"fn": "normal", "std": "1/sqrt(768)"})
        (True, False)
    """
    if isinstance(form, dict):
        return all(is_short(value, digits) for key, value in form.items() if key not in ("fn", "link"))
    if isinstance(form, list):
        return all(is_short(part, digits) for part in form)
    if isinstance(form, str):
        return not ("/" in form or "(" in form)
    return bool(form == float(f"{form:.{digits}g}"))


def form_of(drawn: Drawn) -> Any:
    """Return the initializer that says a distribution by its numbers; None where none does.

    Example:
        >>> form_of(Normal(0.0, 0.02)), form_of(Constant(1.0))
        ({'fn': 'normal', 'std': 0.02}, 1)
    """
    match drawn:
        case Constant(value):
            return spelled_number(value, exactly=True)
        case Normal(mean, std):
            return _call("normal", mean=(mean, 0.0), std=(std, 1.0))
        case Uniform(low, high):
            return _call("uniform", low=(low, None), high=(high, None))
        case TruncatedNormal(loc, scale, low, high):
            return _truncated(loc, scale, low, high)
        case LogUniform(low, high, link, floor, 1.0):
            form = _call("log_uniform", low=(low, None), high=(high, None))
            link_ = {} if link == "none" else {"link": link}
            return {**form, **link_, **({} if floor is None else {"floor": spelled_number(floor)})}
        case Complex(real, imaginary) if real == imaginary:
            return form_of(real)
        case Orthogonal(gain):
            return _call("orthogonal", gain=(gain, 1.0))
        case Sparse(scale, sparsity):
            return _call("sparse", sparsity=(sparsity, None), std=(scale, 0.01))
        case UniformLog(low, high, gain):
            form = _call("uniform", low=(low, None), high=(high, None))
            return {**form, "link": "log", **({} if gain == 1 else {"factor": spelled_number(gain)})}
        case Arange(1.0, start, step, dim, link, shape):
            turns = step / math.pi
            form = _call("arange", start=(start, 0.0), step=(step, 1.0), dim=(dim - len(shape), -1))
            exact = {"step": step} if turns and abs(turns - round(turns, 3)) < CLOSE * abs(turns) else {}  # times pi
            linked = {} if link == "none" else {"link": link}
            return {**(form if isinstance(form, dict) else {"fn": form}), **exact, **linked}
        case Batched(part, dims):
            form = form_of(part)
            return None if form is None else {**(form if isinstance(form, dict) else {"fn": form}), "batch_dims": dims}
        case Stacked(parts, dim, sizes):
            forms = [form_of(part) for part in parts if isinstance(part, Drawn)]
            unit = math.gcd(*sizes) if sizes else 1
            lengths = {"sizes": [size // unit for size in sizes]} if sizes else {}
            split = {"split": forms, **lengths, **({"dim": dim} if dim else {})}
            return split if len(forms) == len(parts) and None not in forms else None
    return None


def _call(fn: str, **numbers: tuple[float, float | None]) -> Any:
    kept = {name: spelled_number(value) for name, (value, usual) in numbers.items() if value != usual}
    return {"fn": fn, **kept} if kept else fn


def _truncated(loc: float, scale: float, low: float, high: float) -> Any:
    form = _call("trunc_normal", mean=(loc, 0.0), std=(scale, 1.0))
    cut = (loc - low) / scale
    if abs(cut - (high - loc) / scale) <= NEAR * abs(cut) and cut < 10 and float(f"{cut:.3g}") == round(cut, 6):
        if round(cut, 6) == 2:
            return form
        ends = {"cutoff": spelled_number(cut)}
    elif math.isinf(low) or math.isinf(high):
        reach = 10 * scale  # beyond which nothing is
        ends = {"low": spelled_number(max(low, loc - reach)), "high": spelled_number(min(high, loc + reach))}
    else:
        ends = {"low": spelled_number(low), "high": spelled_number(high)}
    return {**(form if isinstance(form, dict) else {"fn": form}), **ends}
