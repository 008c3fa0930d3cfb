"""Distributions as draws from torch's global generator: one in-place torch call per tensor.

Where torch.nn.init has the function, it is that function that is called, so that the bits are those of a hand-written
loop.
"""

from __future__ import annotations

import warnings

from torch import Tensor, nn

from initplug.schemes.distributions import Constant, Drawn, Normal, TruncatedNormal, Uniform


def draw(distribution: Drawn, tensor: Tensor) -> None:
    """Fill a tensor in place.

    Args:
        distribution: of every element.
        tensor: any shape and dtype that the distribution fits.
    """
    match distribution:
        case Constant(value):
            nn.init.constant_(tensor, value)
        case Normal(mean, std):
            nn.init.normal_(tensor, mean, std)
        case Uniform(low, high):
            nn.init.uniform_(tensor, low, high)
        case TruncatedNormal(loc, scale, low, high):
            with warnings.catch_warnings():
                # torch doubts intervals beyond 2 std; a plan has refused what lies beyond 6.
                warnings.filterwarnings("ignore", "mean is more than 2 std", UserWarning)
                nn.init.trunc_normal_(tensor, loc, scale, low, high)
