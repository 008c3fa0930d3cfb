"""Weights in a file: a model's `state_dict` as safetensors, written and read as the command line does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from initplug.errors import brief, shortened
from initplug.targets import Failure, user_code

if TYPE_CHECKING:
    from torch import Tensor, nn


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's `state_dict`, tied tensors once under their first name, the file replaced as a whole."""
    from safetensors.torch import save

    from initplug.tables.files import replace

    state, name = _state_of(model), ""
    seen: set[int] = set()
    tensors = {}
    try:
        for name, tensor in state.items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                tensors[name] = tensor.detach().contiguous().clone()
        name = ""
        content = save(tensors, metadata={"format": "pt"})
    except Exception as error:  # dtypes and kinds of tensors that the format lacks, tensors without values
        raise Failure(f"{path}: {name or 'the weights'} cannot be saved: {brief(error)}") from None
    replace(path, content)


def _state_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model's `state_dict`, which is its own code."""
    from torch import Tensor

    try:
        with user_code():
            state = dict(model.state_dict(keep_vars=True))
    except Exception as error:
        raise Failure(f"the model's state_dict raised {brief(error)}") from None
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise Failure(f"{others[0]} of the model's state_dict is a {type(state[others[0]]).__name__}, not a tensor")
    return state


def load_weights(model: nn.Module, path: Path) -> None:
    """Load safetensors into a model; the weights must be all of the model's and nothing else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
        own = _state_of(model)
        given = {id(own[name]) for name in tensors if name in own}
        missing = [name for name, tensor in own.items() if id(tensor) not in given]
        unknown = [name for name in tensors if name not in own]
        if missing or unknown:
            rows = [f"  missing: {name}" for name in missing] + [f"  unknown: {name}" for name in unknown]
            raise Failure("\n".join([f"{path}: these are not the model's weights", *shortened(rows)]))
        model.load_state_dict(tensors, strict=False)
    except (SafetensorError, OSError, RuntimeError) as error:
        detail = " ".join(str(error).split())
        raise Failure(f"{path}: cannot be loaded: {detail}") from None
