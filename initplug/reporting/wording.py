"""Numbers and names as pages write them."""

from __future__ import annotations

import math
from html import escape

from initplug.errors import NAME, cut

UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def whole(count: int) -> str:
    """Return a count with its thousands apart.

    Example:
        >>> whole(20002)
        '20,002'
    """
    return f"{count:,}"


def plural(count: int, word: str) -> str:
    """Return a count with its word.

    Example:
        >>> plural(1, "rule"), plural(2, "rule")
        ('1 rule', '2 rules')
    """
    return f"{whole(count)} {word}{'' if count == 1 else 's'}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number to so many significant digits.

    Example:
        >>> number(0.0589256), number(1234567.0), number(None), number(0.5)
        ('0.0589', '1.23e+06', '–', '0.5')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def compact(count: int) -> str:
    """Return a count that is short.

    Example:
        >>> compact(999), compact(13568), compact(25557032)
        ('999', '13.6k', '25.6M')
    """
    unit = next(((size, sign) for size, sign in UNITS if count >= (1e4 if sign == "k" else size)), None)
    return whole(count) if unit is None else f"{_plainly(count / unit[0])}{unit[1]}"


def bytes_told(count: int) -> str:
    """Return a number of bytes, in units of a thousand.

    Example:
        >>> bytes_told(102_228_128), bytes_told(12)
        ('102 MB', '12 bytes')
    """
    unit = next(((size, sign) for size, sign in BYTES if count >= size), None)
    return plural(count, "byte") if unit is None else f"{_plainly(count / unit[0])} {unit[1]}"


def _plainly(value: float) -> str:
    """Return three significant digits, without a power of ten."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"


def name(text: str) -> str:
    """Return a name as markup, without its middle where it is long: text that no direction of its own leads out of.

    Example:
        >>> name("<b>")
        '<bdi>&lt;b&gt;</bdi>'
    """
    return f"<bdi>{escape(cut(text, NAME))}</bdi>"
