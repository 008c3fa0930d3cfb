"""Weights in a file: a model's `state_dict` as safetensors, written and read as the command line does."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from initplug.cli.models import Failure, user_code
from initplug.errors import shortened
from initplug.planning.dtypes import CODES
from initplug.tables.replacement import replacing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from initplug.planning.weight_files import Header

RowSlice = slice | EllipsisType
"""Some rows of a tensor, or all of it."""

COPIED_AT_A_TIME = 1 << 22
"""Bytes that are copied at a time, whatever a tensor's size."""

OPEN = 1 << 24
"""Bytes that are read before a file is opened anew: until it is closed, what was read stays in memory."""


def weights_of(model: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a model's `state_dict`, tied ones once under their first name, if a file can hold them.

    Args:
        model: of which nothing is changed.
        path: of the file, for messages.

    Raises:
        Failure: a tensor that the format has no place for, by its name.
    """
    tensors, seen = {}, set()
    for name, tensor in _state_of(model).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor
    for name, tensor in tensors.items():
        reason = _without_place(name, tensor)
        if reason is not None:
            raise Failure(f"{path}: {name} cannot be saved: {reason}")
    return tensors


def _without_place(name: str, tensor: Tensor) -> str | None:
    """Return why a safetensors file cannot hold a tensor, if it cannot."""
    import torch
    from torch.nn.parameter import is_lazy

    if name == "__metadata__":
        return "the format keeps this name for itself"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "its name holds half a character (a surrogate)"
    if is_lazy(tensor):
        return "it waits for a first batch to learn its shape"
    if tensor.is_nested or tensor.layout != torch.strided:
        return f"it is {'nested' if tensor.is_nested else str(tensor.layout).removeprefix('torch.')}, not dense"
    if tensor.is_meta:
        return "it is on meta, where there are no values"
    if _word(tensor) not in CODES:
        return f"its dtype is {_word(tensor)}, which the format lacks"
    if not _has_memory(tensor):
        return f"it is a {type(tensor).__name__}, whose values are in other tensors"
    return None


def _has_memory(tensor: Tensor) -> bool:
    """Return whether a tensor's own memory holds its values: that of shards, fakes and other wrappers does not."""
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    try:
        made_of_others: bool = is_traceable_wrapper_subclass(tensor)
        return not made_of_others and (tensor.numel() == 0 or tensor.data_ptr() != 0)
    except (RuntimeError, ValueError):  # fakes have none, and lazy ones not even a shape
        return False


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's `state_dict`, tied tensors once under their first name, the file replaced as a whole.

    It is to the byte the file that safetensors itself writes, which wants all tensors contiguous at once, a second copy
    of a model in another memory format, and hears no signal until it is done. Here they go there window by window.
    """
    tensors = weights_of(model, path)
    order = list(CODES)
    names = sorted(tensors, key=lambda name: (order.index(_word(tensors[name])), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": CODES[_word(tensor)], "shape": [*tensor.shape], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file, file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            for window in _byte_windows(tensors[name]):
                stream.write(window)


def _word(tensor: Tensor) -> str:
    """Return the dtype of a tensor as a word: `float32`."""
    return str(tensor.dtype).removeprefix("torch.")


def _byte_windows(tensor: Tensor) -> Iterator[Any]:
    """Yield the bytes of a tensor in row-major order, of one window after the other."""
    import torch

    plain = tensor.detach().as_subclass(torch.Tensor)
    for rows in _row_windows(tensor):
        window = plain[rows].cpu().resolve_conj().resolve_neg().contiguous()
        yield window.reshape(-1).view(torch.uint8).numpy()


def _row_windows(tensor: Tensor) -> Iterator[RowSlice]:
    """Yield the rows of each window: all of a tensor, or as many as `COPIED_AT_A_TIME` has, at least one."""
    if tensor.nbytes <= COPIED_AT_A_TIME or not tensor.dim():
        yield ...
        return
    step = max(1, COPIED_AT_A_TIME * len(tensor) // tensor.nbytes)
    for start in range(0, len(tensor), step):
        yield slice(start, start + step)


def _state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model's `state_dict`, which is its own code."""
    from torch import Tensor

    with user_code("the model's state_dict raised"):
        state = dict(model.state_dict(keep_vars=True))
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise Failure(f"{others[0]} of the model's state_dict is a {type(state[others[0]]).__name__}, not a tensor")
    return state


def check_readable(path: Path) -> None:
    """Refuse what is no file, before anything is done for it.

    Raises:
        Failure: saying what it is.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise Failure(f"{path}: there is no such file", 2) from None
    except OSError as error:
        raise Failure(f"{path}: cannot be read: {error.strerror or error}", 2) from None
    if not stat.S_ISREG(mode):
        raise Failure(f"{path}: it is no regular file", 2)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a file of weights into a model; these must be all of the model's and nothing else.

    Names, shapes and dtypes are compared before any value is read, and values are read piece by piece.
    """
    from safetensors import SafetensorError

    from initplug.planning.weight_files import header_of, open_weights

    own = _state_of(model)
    try:
        header = header_of(path)
        _refuse_other_tensors(own, header, path)
        _refuse_untied_values(own, header, path)
        held = {id(tensor) for tensor in chain(model.parameters(), model.buffers()) if _has_memory(tensor)}
        if held.issuperset(map(id, own.values())):
            _copy_from_file({name: own[name] for name in header}, path)
        else:  # what its `state_dict` makes anew, and what has no shape yet, only the model itself can take back
            with user_code(), open_weights(path) as file:
                model.load_state_dict({name: file.get_tensor(name) for name in header}, strict=False)
    except LookupError as error:
        raise Failure(str(error.args[0])) from None
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        detail = " ".join(str(error).split())
        raise Failure(f"{path}: cannot be loaded: {detail}") from None


def _refuse_other_tensors(own: Mapping[str, Tensor], header: Header, path: Path) -> None:
    """Refuse a file that does not hold the tensors of a `state_dict`, each of them under one of its names."""
    from torch.nn.parameter import is_lazy

    from initplug.planning.copies import unlike
    from initplug.tables.text import cell

    given = {id(own[name]) for name in header if name in own}
    rows = [f"  missing: {name}" for name, tensor in own.items() if id(tensor) not in given]
    rows += [f"  unknown: {name}" for name in header if name not in own]
    for name, (shape, dtype) in header.items():
        if name not in own or is_lazy(own[name]):
            continue
        if shape != tuple(own[name].shape):
            rows.append(f"  {name}: {cell(shape)} in the file, {cell(tuple(own[name].shape))} in the model")
        else:
            reason = unlike(name, shape, dtype, own[name])
            rows += [] if reason is None else [f"  {reason}"]
    _refuse_rows(path, rows)


def _refuse_rows(path: Path, rows: Sequence[str]) -> None:
    if rows:
        raise Failure("\n".join([f"{path}: these are not the model's weights", *shortened(rows)]))


def _refuse_untied_values(own: Mapping[str, Tensor], header: Header, path: Path) -> None:
    """Refuse a file that holds other values for one name of a tensor than for another: of which only one would stay."""
    from initplug.planning.copies import apart

    names: dict[Any, list[str]] = {}
    for name, tensor in own.items():
        if name in header:
            names.setdefault(_memory_place(tensor), []).append(name)
    rows = [
        f"  {other}: other values in the file than {tied[0]}, which it is tied to in the model"
        for tied in names.values()
        if (other := apart(path, tied, header, own[tied[0]].dtype)) is not None
    ]
    _refuse_rows(path, rows)


def _memory_place(tensor: Tensor) -> Any:
    """Return what tensors have in common that are one, or views of the same elements."""
    if not _has_memory(tensor) or not tensor.numel():
        return id(tensor)
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.is_conj(), tensor.is_neg()


def _copy_from_file(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors from a file that holds them."""
    import torch

    from initplug.planning.weight_files import open_weights

    for parts in _together(tensors):
        with open_weights(path) as file, torch.no_grad():
            for name, rows in parts:
                read = file.get_tensor(name) if rows is ... else file.get_slice(name)[rows]
                tensors[name][rows].copy_(read)


def _together(tensors: Mapping[str, Tensor]) -> Iterator[list[tuple[str, RowSlice]]]:
    """Yield what is read while the file is open once: windows, of about `OPEN` bytes."""
    parts: list[tuple[str, RowSlice]] = []
    size = 0
    for name, tensor in tensors.items():
        for rows in _row_windows(tensor):
            parts.append((name, rows))
            size += min(tensor.nbytes, COPIED_AT_A_TIME)
            if size >= OPEN:
                yield parts
                parts, size = [], 0
    if parts:
        yield parts
