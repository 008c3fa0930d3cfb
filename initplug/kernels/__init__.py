"""Numbers and memory in, random values and moments out. Nothing here knows of tensors, names or recipes.

`reference` says what the values are; `native` gives the same ones, faster, where its binary is.
"""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from initplug.kernels import binary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from initplug.kernels.reference import Addresses, Draws, Keys, Runs

KERNEL_VARIABLE = "INITPLUG_KERNELS"
"""Of the environment: which kernel is wanted."""

KERNELS = ("reference", "native")


class KernelError(ImportError):
    """The kernel that is wanted cannot be used."""


class Kernel(Protocol):
    """A kernel: it fills memory and measures it, as `reference` says."""

    def fill(
        self,
        addresses: Addresses,
        dtype: str,
        draws: Draws,
        keys: Keys,
        runs: Runs,
        begin: int,
        count: int,
        measured: NDArray[Any] | None = None,
    ) -> None:
        """Fill stretches of tensors that are alike."""

    def measure(self, addresses: Addresses, dtype: str, count: int, measured: NDArray[Any]) -> None:
        """Measure tensors that are alike."""

    def orthonormalize(self, strips: NDArray[Any], columns: int) -> None:
        """Replace a matrix by Q of its QR decomposition, as `qr_reference` says."""


@lru_cache(maxsize=1)
def chosen() -> str:
    """Return the name of the kernel in use: the one that the environment wants, else the native one where it is built.

    Raises:
        KernelError: the environment names none, or one that cannot be used.
    """
    wanted = os.environ.get(KERNEL_VARIABLE, "")
    if wanted not in ("", *KERNELS):
        raise KernelError(f"{KERNEL_VARIABLE} is {wanted!r}, which is no kernel: it may be {' or '.join(KERNELS)}")
    if wanted == "reference":
        return wanted
    try:
        binary.library()
    except OSError as error:
        missing = not binary.BINARY.exists()
        problem = "it was not built" if missing else " ".join(str(error).split())
        told = f"the native kernel cannot be used ({binary.BINARY}: {problem})"
        if wanted:
            raise KernelError(f"{told}: pip install --force-reinstall initplug") from None
        if not missing:
            warnings.warn(f"{told}: the reference gives the same values, more slowly", RuntimeWarning, stacklevel=2)
        return "reference"
    return "native"


LEVELS = ("", " (AVX2)", " (AVX-512)")
"""The instructions that the native kernel makes use of."""


def described_kernel() -> str:
    """Return the kernel in use in words, with the instructions of the processor that it makes use of.

    Raises:
        KernelError: the environment names none, or one that cannot be used.
    """
    name = chosen()
    asked = getattr(binary.library(), "instructions", None) if name == "native" else None  # newer than its ABI
    return f"{name} kernel{'' if asked is None else LEVELS[int(asked())]}"


@lru_cache(maxsize=1)
def kernel() -> Kernel:
    """Return the kernel in use.

    Raises:
        KernelError: the environment names none, or one that cannot be used.
    """
    from initplug.kernels import native, reference

    return native if chosen() == "native" else reference
