"""Python's values -> the plain ones that recipes, plans and streams hold: exact bool, int, float and str."""

from __future__ import annotations

from enum import Enum
from numbers import Real
from typing import Any

LEAST_WHOLE, MOST_WHOLE = -(2**63), 2**64 - 1
"""The whole numbers that 64 bits hold, with or without a sign."""

PLAIN_TYPES = (bool, int, float, str)


def plain(value: Any) -> Any:
    """Return the bool, int, float or str that a value stands for; what stands for none is returned as it is.

    Subclasses of int, float and str, scalars of NumPy, arrays and tensors without dimensions, and enums of texts
    stand for one.

    Example:
        >>> import numpy as np
        >>> [plain(np.int64(3)), plain(np.array(0.5)), plain(np.str_("fan_in")), plain([1])]
        [3, 0.5, 'fan_in', [1]]
    """
    if value is None or type(value) in PLAIN_TYPES:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Enum):
        return plain(value.value) if isinstance(value.value, str) else value
    try:
        element = value.item() if getattr(value, "shape", None) == () else None
    except Exception:  # an array of others, or a tensor on meta, which holds no value
        return value
    if isinstance(element, PLAIN_TYPES):
        return plain(element)
    return float(element) if isinstance(element, Real) else value  # a long double


def is_whole(value: Any) -> bool:
    """Return whether a plain value is a whole number that 64 bits hold.

    Example:
        >>> is_whole(3), is_whole(True), is_whole(2**64)
        (True, False, False)
    """
    return type(value) is int and LEAST_WHOLE <= value <= MOST_WHOLE
