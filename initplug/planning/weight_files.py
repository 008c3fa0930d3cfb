"""Files of weights: what they hold is told without reading values, and values are read slice by slice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from types import TracebackType
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

Header = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape and dtype, as its format names it, of every tensor in a file."""

PICKLED = (".pt", ".pth")
"""Ends of the names of files that torch.save has written."""

UNREADABLE = (SafetensorError, OSError)
"""Errors of reading values of a file that has changed."""


class Slice(Protocol):
    """A tensor in a file, of which parts can be read."""

    def get_shape(self) -> list[int]:
        """Return its sizes."""

    def get_dtype(self) -> str:
        """Return its dtype: as safetensors names it, or torch."""

    def __getitem__(self, index: Any) -> Tensor:
        """Return a part of its values."""


class WeightFile(Protocol):
    """An open file of weights."""

    def keys(self) -> list[str]:
        """Return the names of its tensors."""

    def get_slice(self, key: str) -> Slice:
        """Return a tensor, whose values are not read yet."""

    def get_tensor(self, key: str) -> Tensor:
        """Return a tensor with its values."""


@dataclass(frozen=True, slots=True)
class _PickledSlice:
    """A tensor that torch.load has mapped into memory."""

    tensor: Tensor

    def get_shape(self) -> list[int]:
        return [*self.tensor.shape]

    def get_dtype(self) -> str:
        return str(self.tensor.dtype).removeprefix("torch.")

    def __getitem__(self, index: Any) -> Tensor:
        return self.tensor[index]


class _PickledFile(AbstractContextManager["_PickledFile"]):
    """A file of torch.save's, as safetensors opens its own; nothing but tensors and plain data is unpickled."""

    def __init__(self, path: Path) -> None:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        self._tensors = dict(_tensors_in(loaded))

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._tensors = {}

    def keys(self) -> list[str]:
        return [*self._tensors]

    def get_slice(self, key: str) -> _PickledSlice:
        if key not in self._tensors:
            raise SafetensorError(f"there is no tensor {key!r} any more")
        return _PickledSlice(self._tensors[key])

    def get_tensor(self, key: str) -> Tensor:
        return self.get_slice(key).tensor


def _tensors_in(held: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested mappings, by names joined with dots; what is beside them is left out."""
    if isinstance(held, Tensor) and held.layout == torch.strided and not held.is_quantized:
        yield path, held.detach()
    elif isinstance(held, Mapping):
        for key, value in held.items():
            if isinstance(key, str):
                yield from _tensors_in(value, f"{path}.{key}" if path else key)


def open_weights(path: Path) -> Any:
    """Return an open file of weights, of safetensors or by its name of torch.save; it can be used as a context.

    Raises:
        LookupError: it is a file of torch.save that cannot be read, and why.
        SafetensorError: it is no file of safetensors.
        OSError: the system refuses it.
    """
    if path.suffix.lower() not in PICKLED:
        return safe_open(path, framework="pt")
    try:
        return _PickledFile(path)
    except UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        told = f"{path} holds more than tensors and plain data{what}, which could run code"
        raise LookupError(f"{told}: save its state_dict alone") from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        if "_use_new_zipfile_serialization" in str(error):
            raise LookupError(f"{path} is no file that torch.save writes since 1.6: save it again") from None
        raise LookupError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def header_of(path: Path) -> Header:
    """Return what a file of weights says of its tensors; their values are not read.

    Raises:
        LookupError: it cannot be read, and why.
    """
    try:
        if not path.is_file():
            raise LookupError(f"{path} is a folder" if path.is_dir() else f"there is no file {path}")
        with open_weights(path) as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  # it is no mapping
            return {key: (tuple(part.get_shape()), part.get_dtype()) for key, part in slices.items()}
    except SafetensorError as error:
        raise LookupError(f"{path} is no safetensors file: {error}") from None
    except (OSError, ValueError) as error:
        raise LookupError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
