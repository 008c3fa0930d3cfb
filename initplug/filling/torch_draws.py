"""Distributions as draws from torch's global generator: one in-place torch call per tensor.

Where torch.nn.init has the function, it is that function that is called, so that the bits are those of a hand-written
loop.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from initplug.filling.draws import draws_from_generator
from initplug.filling.padding import zero_padding
from initplug.planning.assignment import Share
from initplug.schemes.compositions import Batched, Drawn, Keep, Stacked
from initplug.schemes.distributions import Complex, Elementwise
from initplug.schemes.laws import Sampling, TorchCall
from initplug.schemes.structures.base import Structured
from initplug.schemes.structures.custom import Custom


def draw_from_generator(distribution: Drawn, tensor: Tensor) -> None:
    """Fill a tensor in place.

    Args:
        distribution: of every element.
        tensor: any shape and dtype that the distribution fits.

    Raises:
        ValueError: a function of others gives no such values; the tensor is as it was.
    """
    if isinstance(distribution, Stacked | Batched) and math.isnan(distribution.std):
        # A later part may fail.
        whole = tensor.clone()
        _draw_parts(distribution, whole)
        tensor.copy_(whole)
    else:
        _draw_parts(distribution, tensor)


def _draw_parts(distribution: Drawn, tensor: Tensor) -> None:
    match distribution:
        case Stacked(parts, dim):
            lengths = distribution.lengths(tensor.shape[dim])
            for part, piece in zip(parts, torch.split(tensor, lengths, dim), strict=True):
                if not isinstance(part, Keep):
                    _draw_parts(part, piece)
        case Batched(part, dims):
            for index in itertools.product(*(range(size) for size in tensor.shape[:dims])):
                _draw_parts(part, tensor[index])
        case _:
            call = distribution.torch_call
            if call is not None:
                _call_torch(call, tensor)
            elif isinstance(distribution, Complex):
                for part, view in zip(distribution.complex_parts, (tensor.real, tensor.imag), strict=True):
                    _draw_parts(part, view)
            elif isinstance(distribution, Structured):
                _copy_computed(distribution, tensor)
            elif isinstance(distribution, Elementwise):
                _copy_mapped(distribution.sampling, tensor)


def _call_torch(call: TorchCall, tensor: Tensor) -> None:
    if call.centre:
        tensor.zero_()
        tensor = _kernel_centre(tensor)
    function = GUARDED.get(call.function) or getattr(nn.init, call.function)
    function(tensor, *call.arguments)
    if call.gain != 1:
        tensor.mul_(call.gain)


def _copy_computed(structure: Structured, tensor: Tensor) -> None:
    """Copy what is computed as a whole; only what a function of others gives may be beyond the dtype."""
    values = torch.from_numpy(structure.values(draws_from_generator(tuple(tensor.shape)))).to(tensor.dtype)
    if isinstance(structure, Custom) and not torch.isfinite(values).all():
        raise ValueError(f"{structure.name} gave values beyond {str(tensor.dtype).removeprefix('torch.')}")
    tensor.copy_(values.view(tensor.shape))


def _copy_mapped(sampling: Sampling, tensor: Tensor) -> None:
    """Copy what is made of torch's standard numbers, of single precision but for a tensor of double."""
    dtype = torch.float64 if tensor.dtype is torch.float64 else torch.float32
    numbers = torch.empty(tensor.shape, dtype=dtype, device=tensor.device)
    (nn.init.normal_ if sampling.standard == "normal" else nn.init.uniform_)(numbers)
    assert sampling.mapped is not None  # the others have a function
    made = torch.from_numpy(sampling.mapped(numbers.double().cpu().numpy()))
    tensor.copy_(made.to(dtype))


def _normal(tensor: Tensor, mean: float, std: float) -> None:
    """Call torch's function, which gives the imaginary part the mean, too: elsewhere it is added."""
    apart = bool(mean) and tensor.is_complex()
    nn.init.normal_(tensor, 0.0 if apart else mean, std)
    if apart:
        tensor.add_(mean)


def _trunc_normal(tensor: Tensor, mean: float, std: float, low: float, high: float) -> None:
    """Call torch's function, which doubts intervals beyond 2 std; a plan has refused what lies beyond 6."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "mean is more than 2 std", UserWarning)
        nn.init.trunc_normal_(tensor, mean, std, low, high)


def _orthogonal(tensor: Tensor, gain: float) -> None:
    """Call torch's function, which knows no half precision and takes a view: elsewhere its draw is copied."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    if half or not tensor.is_contiguous():
        dtype = torch.float32 if half else tensor.dtype
        tensor.copy_(nn.init.orthogonal_(torch.empty(tensor.shape, dtype=dtype, device=tensor.device), gain))
    else:
        nn.init.orthogonal_(tensor, gain)


def _sparse(tensor: Tensor, sparsity: float, std: float) -> None:
    """Call torch's function, whose permutation of rows is made where a surrounding `torch.device` says."""
    with tensor.device:
        nn.init.sparse_(tensor, sparsity, std)


GUARDED: dict[str, Callable[..., None]] = {
    "normal_": _normal,
    "trunc_normal_": _trunc_normal,
    "orthogonal_": _orthogonal,
    "sparse_": _sparse,
}
"""Functions of torch.nn.init that do not do for every tensor, or warn for nothing, by calls that do."""


def _kernel_centre(tensor: Tensor) -> Tensor:
    """Return the matrix at the centre of a convolution's kernel."""
    for dim in range(tensor.ndim - 1, 1, -1):
        tensor = tensor.select(dim, (tensor.shape[dim] - 1) // 2)
    return tensor


def filler(share: Share) -> Callable[[Tensor], None]:
    """Return what gives a tensor the values that its share plans, from torch's global generator."""
    distribution = share.distribution
    assert isinstance(distribution, Drawn)  # what `initialized` means

    def fill(tensor: Tensor) -> None:
        draw_from_generator(distribution, tensor)
        zero_padding(tensor, share.padding_row, distribution)

    return fill
