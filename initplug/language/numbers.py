"""Numbers that are written as quotients and square roots: the value counts, and the text is kept."""

from __future__ import annotations

import math
import re
from typing import Any

from initplug.language.faults import NUMBER

TERM = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
FORM = rf"[-+]?(?:{TERM}|sqrt\({TERM}\))(?:/(?:{TERM}|sqrt\({TERM}\)))?"
"""One sign, one quotient, whole or decimal numbers and square roots of them; plain numbers are of this form, too."""


class Written(float):
    """A number with the text that it is written as; infinite or NaN where that divides by zero.

    Example:
        >>> number = Written("-1/sqrt(4)")
        >>> float(number), str(number)
        (-0.5, '-1/sqrt(4)')
    """

    text: str

    def __new__(cls, text: str) -> Written:
        """Evaluate a text of the form `FORM`."""
        top, _, bottom = text.lstrip("+-").partition("/")
        divisor = _term(bottom) if bottom else 1.0
        size = _term(top) / divisor if divisor else math.inf
        number = super().__new__(cls, -size if text.startswith("-") else size)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text

    __str__ = __repr__

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # what a copy is made of is the text
        return (self.text,)


def _term(text: str) -> float:
    root = text.removeprefix("sqrt(").removesuffix(")")
    return float(text) if root == text else math.sqrt(float(root))


def formula(value: Any) -> Any:
    """Return the number that a text writes as a quotient or a square root; anything else as it is.

    Example:
        >>> formula("1/32") + 1, formula("1e-4"), formula(2)
        (1.03125, '1e-4', 2)
    """
    if not isinstance(value, str) or NUMBER.fullmatch(value) or not re.fullmatch(FORM, value):
        return value
    return Written(value)


def spelled(data: Any) -> Any:
    """Return plain data in which numbers that were written so are texts again.

    Example:
        >>> spelled({"std": Written("1/32")})
        {'std': '1/32'}
    """
    if isinstance(data, dict):
        return {key: spelled(value) for key, value in data.items()}
    if isinstance(data, list):
        return [spelled(value) for value in data]
    return data.text if isinstance(data, Written) else data
