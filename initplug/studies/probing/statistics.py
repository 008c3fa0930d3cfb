"""Numbers of one tensor on its way through a model: spread, signal between samples, zeros, dead and saturated units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from initplug.auditing.moments import measure

SAMPLED = 1 << 11
"""Places of a sample at which the variation between samples is measured, or queries of an attention: enough for 2 %."""

PIECES = 1 << 16
"""Elements of which the saturated share is counted."""


class Spread(NamedTuple):
    """Mean and population standard deviation of a tensor, and the elements that it has."""

    mean: float
    std: float
    numel: int

    @property
    def finite(self) -> bool:
        """Return whether no element is NaN or infinite."""
        return math.isfinite(self.mean) and math.isfinite(self.std)

    @property
    def norm(self) -> float:
        """√Σ(x - mean)²: what is kept where a tensor gets fewer elements on its way, as by pooling."""
        return self.std * math.sqrt(self.numel)


def spread_of(tensor: Tensor) -> Spread | None:
    """Return the spread of a tensor; None of an empty one.

    Example:
        >>> spread_of(torch.tensor([1.0, 3.0]))
        Spread(mean=2.0, std=1.0, numel=2)
    """
    if not tensor.numel():
        return None
    if tensor.is_cpu or tensor.is_complex():
        found = measure(tensor)
        assert found is not None  # it has elements
        return Spread(found.mean, found.std, found.numel)
    wide = torch.float32 if tensor.device.type == "mps" else torch.float64  # which Apple's devices lack
    variance, mean = torch.var_mean(tensor.detach().to(wide), correction=0)
    return Spread(mean.item(), math.sqrt(variance.item()), tensor.numel())


def signal_of(tensor: Tensor) -> float | None:
    """Return the deviation between samples: √ of the variance along the batch at the same place, averaged over places.

    It is what is left of the inputs: biases and everything else that all samples share is no part of it. Of a batch of
    one it is that along the next dimension; None where there is but one of everything.

    Example:
        >>> signal_of(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        0.7071067811865476
    """
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.ndim > 2 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim < 1 or tensor.shape[0] < 2 or not tensor.numel():
        return None
    rows = tensor.detach().flatten(1) if tensor.ndim > 1 else tensor.detach().unsqueeze(1)
    step = max(rows.shape[1] // SAMPLED, 1) | 1  # odd, so that it does not hit the same pixel of every channel
    columns = rows[:, ::step].contiguous().cpu().double()
    centred = columns - columns.sum(0) / len(columns)  # a fraction of the time that `var` takes along rows
    return math.sqrt((centred * centred).sum().item() / centred.numel())


def zeros_of(tensor: Tensor) -> float:
    """Return the share of elements that are zero."""
    return 1 - int(torch.count_nonzero(tensor.detach())) / tensor.numel()


LEAST_SAMPLES = 8
"""Values of a unit of which it can be said that it is dead: of fewer, all are zero by chance too often."""


def dead_of(tensor: Tensor, dim: int) -> float | None:
    """Return the share of units that are zero in every sample and at every place.

    Args:
        tensor: the output of a rectifier, which has nothing below zero.
        dim: along which the units lie.

    Example:
        >>> dead_of(torch.tensor([[0.0, 1.0]] * 8), 1)
        0.5
    """
    tensor = tensor.detach()
    units = tensor.shape[dim]
    if tensor.numel() < LEAST_SAMPLES * max(units, 1):
        return None
    others = [other for other in range(tensor.ndim) if other != dim % tensor.ndim]
    return 1 - int(torch.count_nonzero(tensor.amax(others))) / units


SATURATED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": lambda y: y.abs() > 0.975,
    "sigmoid": lambda y: (y - 0.5).abs() > 0.4873,
    "hardtanh": lambda y: (y == y.min()) | (y == y.max()),
    "hardsigmoid": lambda y: (y <= 0) | (y >= 1),
    "relu6": lambda y: y >= 6,
    "softsign": lambda y: y.abs() > 0.7764,
}
"""Outputs at which a function's slope is below a twentieth of its largest: tanh' = 1 - y², sigmoid' = y(1 - y)."""


def saturated_of(tensor: Tensor, function: str) -> float | None:
    """Return the share of elements at which a function has nearly no slope; None of functions that have no bounds."""
    judged = SATURATED.get(function)
    if judged is None or not tensor.numel():
        return None
    flat = tensor.detach().reshape(-1)
    return float(judged(flat[:: max(len(flat) // PIECES, 1) | 1].float()).double().mean())


class Peaks(NamedTuple):
    """The spread of attention over the keys that a query may look at.

    Args:
        peak: the largest weight, averaged over queries.
        evenness: entropy over the entropy of equal weights, averaged likewise; 1 is uniform.
    """

    peak: float
    evenness: float


MASKED = -9000.0
"""Scores below it are masked: by -inf, the least number of a dtype, or -1e4."""

LEAST_KEYS = 4
"""Keys that a query must be able to look at to be counted."""


def peaks_of(scores: Tensor) -> Peaks | None:
    """Return how the softmax of scores over the last dimension is spread; None where no query has `LEAST_KEYS` keys.

    Example:
        >>> peaks_of(torch.zeros(1, 4, 4))
        Peaks(peak=0.25, evenness=1.0)
    """
    flat = scores.detach().reshape(-1, scores.shape[-1])
    flat = flat[:: max(len(flat) // SAMPLED, 1) | 1].float()
    allowed = flat > MASKED
    keys = allowed.sum(-1)
    kept = keys >= LEAST_KEYS
    if not bool(kept.any()):
        return None
    flat, allowed, keys = flat[kept], allowed[kept], keys[kept]
    logs = flat.masked_fill(~allowed, -torch.inf).log_softmax(-1)
    weights = logs.exp()
    entropy = -(weights * logs.masked_fill(~allowed, 0.0)).nan_to_num(0.0).sum(-1)
    return Peaks(weights.amax(-1).mean().item(), (entropy / keys.log()).mean().item())


ROWS = 32
"""Queries of each head whose attention is computed again where a fused kernel shows no weights."""


def scores_of(
    query: Tensor, key: Tensor, mask: Tensor | None = None, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Return what a fused attention takes the softmax of, for some of its queries.

    Args:
        query: (…, L, E).
        key: (…, S, E), with as many heads or fewer.
        mask: additive, or boolean where True may be looked at.
        causal: whether a query sees no later keys.
        scale: of the products; 1/√E unless given.
    """
    query, key = query.detach()[:2], key.detach()[:2]
    length, keys = query.shape[-2], key.shape[-2]
    if query.ndim > 3 and key.shape[-3] != query.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    rows = torch.arange(0, length, max(length // ROWS, 1), device=query.device)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query[..., rows, :].float() @ key.float().transpose(-1, -2) * factor
    if causal:
        later = torch.arange(keys, device=query.device) > rows.unsqueeze(-1)
        scores = scores.masked_fill(later, -torch.inf)
    if mask is not None:
        mask = mask.detach()
        mask = mask.expand(*mask.shape[:-2], length, keys)[..., rows, :]
        mask = mask[:2] if mask.ndim == query.ndim and mask.shape[0] > 1 else mask
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores


class FirstLoss(NamedTuple):
    """The cross-entropy that logits give before any training, whatever the targets.

    Args:
        loss: log Σ exp z - mean z in nats, averaged over samples: the expected loss over uniformly random targets.
        classes: number of them.
    """

    loss: float
    classes: int


def first_loss_of(logits: Tensor) -> FirstLoss:
    """Return the cross-entropy of logits (…, classes) against uniformly random targets.

    Example:
        >>> loss, classes = first_loss_of(torch.zeros(2, 10))
        >>> round(loss, 4), classes
        (2.3026, 10)
    """
    flat = logits.detach().reshape(-1, logits.shape[-1])
    flat = flat[:: max(len(flat) // SAMPLED, 1) | 1].cpu().double()
    return FirstLoss((flat.logsumexp(-1) - flat.mean(-1)).mean().item(), logits.shape[-1])
