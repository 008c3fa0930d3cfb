"""Inputs of a model: what `--input` says, read into data, and the tensors that it stands for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from initplug.errors import VALUE, InitplugError, brief, cut, did_you_mean
from initplug.filling.streams import fill_box
from initplug.filling.words import key_of
from initplug.planning.weight_files import header_of, open_weights
from initplug.regions import Box
from initplug.schemes.distributions import Normal, Uniform

FLOATS = ("float32", "float64", "float16", "bfloat16")
WHOLE = ("int64", "int32", "int16", "int8", "uint8")
DTYPES = (*FLOATS, *WHOLE, "bool")

FILES = (".pt", ".pth", ".npy", ".safetensors")
"""Ends of the names of files that hold inputs."""

MOST_BELOW = 1 << 24
"""The largest bound of whole numbers: each is made of 24 random bits."""

FORMS = "8x3x32x32, 2x128:int64<50257, batch.pt, package.module:callable, each also as name=…"

NAMED = re.compile(r"(?P<name>[^\W\d]\w*)=(?P<rest>.*)", re.DOTALL)
SHAPE = re.compile(r"(?P<shape>\d+(x\d+)*)(:(?P<dtype>\w+))?(<(?P<below>\d+)>?)?")


@dataclass(frozen=True, slots=True)
class DrawnInput:
    """A tensor that is drawn: unit normals, or whole numbers that are as likely as each other.

    Args:
        shape: sizes, in elements.
        dtype: such as `float32`.
        below: bound of whole numbers, which begin at 0; None for floats and bools.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    below: int | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """An input that is told in words.

    Args:
        text: as it was told.
        name: the keyword that it is given as; None for a place.
        what: a tensor to be drawn, a file, or the `module:callable` that returns it.
    """

    text: str
    name: str | None
    what: DrawnInput | Path | str


def parse_input(text: str) -> Input:
    """Return what an `--input` says.

    Raises:
        InitplugError: it is none of the forms.

    Example:
        >>> parse_input("ids=2x128:int64<50257").what
        DrawnInput(shape=(2, 128), dtype='int64', below=50257)
    """
    named = NAMED.fullmatch(text)
    name, rest = (named["name"], named["rest"]) if named else (None, text)
    if rest.endswith(FILES):
        return Input(text, name, Path(rest))
    drawn = SHAPE.fullmatch(rest)
    if drawn is not None:
        return Input(text, name, _drawn(text, drawn))
    if ":" not in rest or rest[0].isdigit():
        raise _error(text, f"expected one of {FORMS}")
    return Input(text, name, rest)


def _error(text: str, message: str) -> InitplugError:
    return InitplugError(f"input {cut(text, VALUE)!r}: {message}")


def _drawn(text: str, found: re.Match[str]) -> DrawnInput:
    """Return the tensor that a shape, a dtype and a bound say."""
    shape, dtype, below = tuple(map(int, found["shape"].split("x"))), found["dtype"] or "float32", found["below"]
    if dtype not in DTYPES:
        raise _error(text, f"{dtype} is no dtype of inputs ({did_you_mean(dtype, DTYPES) or ', '.join(DTYPES)})")
    if not all(shape):
        raise _error(text, "a size is at least 1")
    if dtype not in WHOLE:
        if below is not None:
            raise _error(text, f"only whole numbers have a bound: {found['shape']}:int64<{below}")
        return DrawnInput(shape, dtype)
    if below is None:
        raise _error(text, f"whole numbers need a bound: '{found['shape']}:{dtype}<1000' draws 0 to 999")
    most = min(torch.iinfo(getattr(torch, dtype)).max + 1, MOST_BELOW)
    if not 1 <= int(below) <= most:
        raise _error(text, f"the bound of {dtype} is from 1 to {most}")
    return DrawnInput(shape, dtype, int(below))


def make_inputs(given: Sequence[Input], seed: int, call: Callable[[str], Any]) -> Any:
    """Return the inputs that are told in words: a mapping where they are named, else a tuple, or what one holds.

    Args:
        given: all with a name, or none.
        seed: 0 to 2^64 - 1, of what is drawn: from streams of its own, by name or place.
        call: returns what a `module:callable` gives.

    Raises:
        InitplugError: names beside places, one name twice, a file that cannot be read, or no memory.

    Example:
        >>> [one.shape for one in make_inputs([parse_input("2x3"), parse_input("4")], 0, call=None)]
        [torch.Size([2, 3]), torch.Size([4])]
    """
    names = [one.name for one in given]
    if None in names and any(names):
        unnamed = next(one for one in given if one.name is None)
        raise _error(unnamed.text, "either all inputs have a name (name=…) or none has")
    for one in given:
        if one.name is not None and names.count(one.name) > 1:
            raise _error(one.text, f"{one.name} is given twice")
    made = [_made(one, str(place) if one.name is None else one.name, seed, call) for place, one in enumerate(given)]
    if any(names):
        return dict(zip(names, made, strict=True))
    return made[0] if len(made) == 1 else tuple(made)


def arguments_of(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments of a forward.

    Args:
        inputs: a mapping of keyword arguments, a tuple of positional ones, or the only one.

    Raises:
        InitplugError: a mapping whose keys are no names.

    Example:
        >>> arguments_of((1, 2)), arguments_of({"x": 3}), arguments_of([4])
        (((1, 2), {}), ((), {'x': 3}), (([4],), {}))
    """
    if isinstance(inputs, Mapping):
        odd = [key for key in inputs if not isinstance(key, str)]
        if odd:
            raise InitplugError(f"inputs: a mapping holds keyword arguments, and {cut(repr(odd[0]), VALUE)} is no name")
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def _made(one: Input, label: str, seed: int, call: Callable[[str], Any]) -> Any:
    match one.what:
        case DrawnInput():
            try:
                return _draw(one.what, seed, label)
            except (MemoryError, RuntimeError) as error:
                raise _error(one.text, f"there is no memory for it ({brief(error, VALUE)})") from None
        case Path():
            return _read(one, one.what)
        case target:
            return call(target)


def _draw(drawn: DrawnInput, seed: int, label: str) -> Tensor:
    """Draw a tensor from the stream of an input."""
    count, dtype = math.prod(drawn.shape), getattr(torch, drawn.dtype)
    out = np.empty(count, np.float32)
    bound = 2 if drawn.dtype == "bool" else drawn.below
    values = Normal(0.0, 1.0) if bound is None else Uniform(0.0, float(bound))
    fill_box(out, values, key_of(seed, label, "input"), Box.whole(drawn.shape))
    if bound is not None:
        out = np.minimum(np.floor(out), np.float32(bound - 1))
    return torch.from_numpy(out).reshape(drawn.shape).to(dtype)


def _read(one: Input, path: Path) -> Any:
    """Return what a file holds: a tensor, or of torch.save's and of safetensors what they hold by name."""
    try:
        if not path.is_file():
            raise _error(one.text, f"{path} is a folder" if path.is_dir() else f"there is no file {path}")
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False))
        if path.suffix != ".safetensors":
            return torch.load(path, map_location="cpu", weights_only=True)
        header_of(path)
        with open_weights(path) as file:
            held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no mapping
    except InitplugError:
        raise
    except Exception as error:  # each format has errors of its own
        raise _error(one.text, f"it cannot be read: {brief(error, VALUE)}") from None
    if one.name is None:
        return held
    if one.name not in held and len(held) != 1:
        raise _error(one.text, f"the file holds no tensor {one.name} ({did_you_mean(one.name, held) or 'but others'})")
    return held.get(one.name, next(iter(held.values())))
