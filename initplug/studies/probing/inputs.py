"""Inputs of a forward: given as tensors, described by a text such as `8x3x32x32`, read from a file, or returned."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from initplug.errors import ProbeError, brief, cut, did_you_mean, near, visible
from initplug.filling.streams import fill_box
from initplug.filling.words import key_of
from initplug.kernels.reference import words
from initplug.regions import Box
from initplug.schemes.distributions import Normal

FORMS = "8x3x32x32, 2x128:int64<50257> or input_ids=2x128:int64<50257>"


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a forward is called with.

    Args:
        positional: arguments.
        named: keyword arguments.
    """

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The shapes and dtypes, as they are told."""
        parts = [_described(value) for value in self.positional]
        return ", ".join([*parts, *(f"{name}={_described(value)}" for name, value in self.named.items())])


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        sizes = "×".join(map(str, value.shape)) or "scalar"
        return f"{sizes} {_name(value.dtype)}"
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
        return f"[{', '.join(map(_described, value[:3]))}{', …' if len(value) > 3 else ''}]"
    return type(value).__name__ if not isinstance(value, int | float | bool | str | None) else cut(repr(value), 40)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def inputs_of(given: Any) -> Inputs:
    """Return inputs as they were given: a mapping is keyword ones, a tuple positional ones, anything else is one.

    Raises:
        ProbeError: a text that describes none, or floating-point inputs that are not finite.

    Example:
        >>> inputs_of((torch.zeros(2, 3), torch.ones(2, dtype=torch.int64))).text
        '2×3 float32, 2 int64'
    """
    if isinstance(given, Inputs):
        return given
    if isinstance(given, str):
        return described([given])
    if isinstance(given, Mapping):
        wrong = [name for name in given if not isinstance(name, str)]
        if wrong:
            raise ProbeError(f"a mapping is keyword inputs, and {wrong[0]!r} is no name of one; a tuple is positional ones")
        found = Inputs((), {**given})
    else:
        found = Inputs(given if isinstance(given, tuple) else (given,))
    _check_values(found)
    return found


def _check_values(inputs: Inputs) -> None:
    """Refuse inputs that are no numbers for a forward.

    Raises:
        ProbeError: some are on meta, or hold NaN or infinities.
    """
    named = chain(((f"input {place}", one) for place, one in enumerate(inputs.positional, 1)), inputs.named.items())
    for name, value in named:
        if isinstance(value, np.ndarray):
            raise ProbeError(f"{name} is a NumPy array: torch.from_numpy makes a tensor of it")
        if not isinstance(value, Tensor):
            continue
        if value.is_meta:
            raise ProbeError(f"{name} is on meta and has no values")
        if value.is_floating_point() and value.layout == torch.strided and not bool(torch.isfinite(value).all()):
            kind = "NaN" if bool(torch.isnan(value).any()) else "infinities"
            raise ProbeError(f"{name} holds {kind} itself: nothing can be said of the layers")


def check_names(model: nn.Module, inputs: Inputs) -> None:
    """Refuse keyword inputs that a forward does not take, and too many positional ones, before it is called.

    Raises:
        ProbeError: with the nearest name.
    """
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return
    kinds = {parameter.kind for parameter in parameters.values()}
    known = [name for name, one in parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for name in inputs.named:
            if name not in known:
                hint = did_you_mean(name, known) or f"it takes {', '.join(known) or 'nothing'}"
                raise ProbeError(f"forward of {type(model).__name__} takes no {name!r} ({hint})")
    else:  # it takes any, and drops what it does not know
        for name in inputs.named:
            close = None if name in known else near(name, known, 0.8)
            if close is not None:
                raise ProbeError(f"forward of {type(model).__name__} names no {name!r} (did you mean {close}?)")
    if inspect.Parameter.VAR_POSITIONAL not in kinds and len(inputs.positional) > len(known):
        counted = f"{len(known)} input{'' if len(known) == 1 else 's'}"
        raise ProbeError(f"forward of {type(model).__name__} takes {counted}, not {len(inputs.positional)}")


# Described by a text ----------------------------------------------------------------------------------------

DESCRIPTION = re.compile(r"(?P<sizes>\d+(?:[x×]\d+)*)(?::(?P<dtype>[a-z]\w*)(?:<(?P<high>\d+)>?)?)?")
NAMED = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<rest>.*)", re.DOTALL)
DTYPES = {
    name: getattr(torch, name)
    for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
}
MOST = 1 << 34
"""Elements of a described input: more are a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Described:
    """An input that a text describes.

    Args:
        name: of the keyword; None for a positional one.
        shape: sizes.
        dtype: of the elements.
        high: integers are below it.
    """

    name: str | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    high: int

    def drawn(self, place: int, seed: int = 0) -> Tensor:
        """Return unit normals, or integers below `high`, of a stream that is named for the input.

        Example:
            >>> read_description("2x4:int64<10>").drawn(0).max() < 10
            tensor(True)
        """
        key = key_of(seed, f"input {self.name or place}")
        numel = math.prod(self.shape)
        if self.dtype.is_floating_point:
            values = np.empty(numel, np.float32)
            fill_box(values, Normal(0.0, 1.0), key, Box.whole(self.shape))
            return torch.from_numpy(values).view(self.shape).to(self.dtype)
        drawn = words(key, 0, numel).astype(np.uint64)
        numbers = (drawn * np.uint64(self.high)) >> np.uint64(32)
        return torch.from_numpy(numbers.astype(np.int64)).view(self.shape).to(self.dtype)


def read_description(text: str) -> Described:
    """Return what a text such as `8x3x32x32` or `input_ids=2x128:int64<50257>` describes.

    Raises:
        ProbeError: it describes nothing.

    Example:
        >>> read_description("ids=2x128:int64<50257>")
        Described(name='ids', shape=(2, 128), dtype=torch.int64, high=50257)
    """
    named = NAMED.fullmatch(text)
    name, rest = (named["name"], named["rest"]) if named else (None, text)
    found = DESCRIPTION.fullmatch(rest.replace(" ", ""))
    if found is None:
        raise ProbeError(f"input {cut(repr(text), 100)} describes no tensor: write {FORMS}")
    word = found["dtype"] or "float32"
    if word not in DTYPES:
        raise ProbeError(f"input {text!r}: {word} is no dtype ({did_you_mean(word, DTYPES) or ', '.join(DTYPES)})")
    dtype, shape = DTYPES[word], tuple(map(int, re.split("[x×]", found["sizes"])))
    if math.prod(shape) == 0 or math.prod(shape) > MOST:
        raise ProbeError(f"input {text!r} has {math.prod(shape)} elements")
    if dtype.is_floating_point:
        if found["high"] is not None:
            raise ProbeError(f"input {text!r}: floats are unit normals; <{found['high']}> bounds integers alone")
        return Described(name, shape, dtype, 0)
    if dtype == torch.bool:
        return Described(name, shape, dtype, 2)
    if found["high"] is None:
        raise ProbeError(f"input {text!r}: say below what integers lie: {rest}<50257>")
    high = int(found["high"])
    if not 0 < high <= min(torch.iinfo(dtype).max + 1, 1 << 32):
        raise ProbeError(f"input {text!r}: integers below {high} do not fit {word}")
    return Described(name, shape, dtype, high)


def described(texts: Sequence[str], device: torch.device | str = "cpu") -> Inputs:
    """Return the inputs that texts describe, name files of, or both.

    Args:
        texts: `[NAME=]SIZES[:DTYPE[<HIGH>]]`, or `[NAME=]FILE` of .pt, .npy or .safetensors.
        device: where they are made.

    Raises:
        ProbeError: one describes nothing, or names a file that cannot be read; two have one name.

    Example:
        >>> described(["2x3", "mask=2x3:bool"]).text
        '2×3 float32, mask=2×3 bool'
    """
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for text in texts:
        split = NAMED.fullmatch(text)
        name, rest = (split["name"], split["rest"]) if split else (None, text)
        if Path(rest).suffix in READERS:
            found = _read(Path(rest))
            value = inputs_of(found) if name is None else Inputs((), {name: found})
        else:
            one = read_description(text)
            drawn = one.drawn(len(positional))
            value = Inputs((drawn,)) if name is None else Inputs((), {name: drawn})
        _check_values(value)
        twice = named.keys() & value.named.keys()
        if twice:
            raise ProbeError(f"two inputs are called {min(twice)!r}")
        positional += value.positional
        named.update(value.named)
    return moved(Inputs(tuple(positional), named), device)


def moved(inputs: Inputs, device: torch.device | str) -> Inputs:
    """Return inputs whose tensors are on a device."""

    def there(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    named = {name: there(value) for name, value in inputs.named.items()}
    return Inputs(tuple(map(there, inputs.positional)), named)


def _read_torch(path: Path) -> Any:
    return torch.load(path, weights_only=True, map_location="cpu")


def _read_numpy(path: Path) -> Any:
    return torch.from_numpy(np.load(path, allow_pickle=False))


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


READERS = {".pt": _read_torch, ".pth": _read_torch, ".npy": _read_numpy, ".safetensors": _read_safetensors}


def _read(path: Path) -> Any:
    """Return what a file holds: a tensor, or several by name or in order.

    Raises:
        ProbeError: it cannot be read, or holds something else.
    """
    if not path.is_file():
        raise ProbeError(f"input {visible(str(path))}: there is no such file")
    try:
        found = READERS[path.suffix](path)
    except Exception as error:  # of whatever reader
        raise ProbeError(f"input {visible(str(path))} cannot be read: {brief(error, 200)}") from None
    if isinstance(found, list):
        found = tuple(found)
    values = list(found.values()) if isinstance(found, Mapping) else found if isinstance(found, tuple) else [found]
    if not values or not all(isinstance(value, Tensor) for value in values):
        raise ProbeError(f"input {visible(str(path))} holds a {type(found).__name__}, not tensors")
    return found
