"""Initializers that draw nothing: the values of another tensor, or of a file."""

from __future__ import annotations

from initplug.schemes.distributions import Copy, Load
from initplug.schemes.fans import Fans
from initplug.schemes.registry import Reference, initializer

TRANSFERS = ("copy", "load")
"""Initializers that give a tensor as a whole the values that something else has."""


@initializer(modified=False, any_shape=True)
def copy(fans: Fans, *, source: Reference) -> Copy:
    """The values of another parameter of the same shape, cast to the dtype.

    Args:
        fans: not used.
        source: the other parameter, or a module: then the parameter below it whose name is the longest end of the
            slot's own.

    Example:
        >>> copy(Fans((2, 2)), source=Reference("..q.weight"))
        Copy(source='..q.weight', drawn=None)

    Source: He et al. 2020, arXiv:1911.05722, whose key encoder begins as a copy of the query encoder.
    """
    return Copy(source)


@initializer(modified=False, any_shape=True)
def load(fans: Fans, *, path: str, key: str | None = None, prefix: str | None = None) -> Load:
    """The values that a safetensors file holds, cast to the dtype.

    Args:
        fans: not used.
        path: of the file; a relative one starts at the recipe file.
        key: the name in the file; otherwise the slot's canonical name, or one of its aliases.
        prefix: what the file puts before the slot's name.

    Raises:
        ValueError: no path, or a key with a prefix.

    Source: https://huggingface.co/docs/safetensors
    """
    if not path:
        raise ValueError("path is empty")
    if key is not None and prefix is not None:
        raise ValueError(
            "key is the whole name in the file, and prefix what stands before the slot's: give one of them"
        )
    return Load(path, key or "")  # without a key, it is the slot that says which
