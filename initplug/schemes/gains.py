"""Gains: the factor that keeps the variance through a nonlinearity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

Nonlinearity = Literal[
    "linear",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "elu",
    "softplus",
    "hardswish",
]
Gain = float | Nonlinearity

GAINS: Mapping[str, float] = {
    # torch.nn.init.calculate_gain
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "leaky_relu": math.sqrt(2.0 / (1 + 0.01**2)),
    "selu": 3.0 / 4.0,
    # 1/√E[f(z)²] for z ~ N(0, 1), to double precision
    "gelu": 1.5335304411955353,
    "silu": 1.6765324703310909,
    "mish": 1.4868475812732078,
    "elu": 1.2451983007007066,
    "softplus": 1.0418668355353018,
    "hardswish": 1.7366572127665416,
}


def gain_of(gain: Gain) -> float:
    """Return the factor of a nonlinearity, or the number itself.

    Gains of linear, the convolutions, sigmoid, tanh, relu, leaky_relu (slope 0.01) and selu are torch's; those of
    gelu, silu, mish, elu, softplus and hardswish are 1/√E[f(z)²] for standard normal z.

    Example:
        >>> gain_of("tanh") == 5 / 3
        True
    """
    return GAINS[gain] if isinstance(gain, str) else float(gain)
