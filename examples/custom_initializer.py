"""Initializers of your own: one that gives a distribution, and one that computes a tensor as a whole.

Run it with `python examples/custom_initializer.py`.
"""

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import nn

import initplug
from initplug.schemes.structures import Draw


@initplug.initializer(bare=("depth",))
def depth_normal(
    fans: initplug.Fans, *, depth: Annotated[int, Ge(1)], mode: Literal["fan_in", "fan_out"] = "fan_in"
) -> initplug.Normal:
    """N(0, 1 / (depth · fan)), for a residual branch of which there are `depth`."""
    fan = fans.fan_in if mode == "fan_in" else fans.fan_out
    return initplug.Normal(0.0, (depth * fan) ** -0.5)


@initplug.initializer(kind="whole")
def waves(shape: tuple[int, ...], draw: Draw, *, periods: float = 4.0) -> NDArray[np.float32]:
    """Rows of cosines, each with a phase and a frequency of its own."""
    phase, frequency = draw.uniform("phase")[..., :1], draw.uniform("frequency")[..., :1]
    place = np.linspace(0, 1, shape[-1], dtype=np.float32)
    values: NDArray[np.float32] = np.cos(np.float32(2 * np.pi) * (phase + np.float32(periods) * frequency * place))
    return values


RECIPE = """
rules:
  <Linear>.weight: depth_normal 12 fan_out
  *.bias: 0
  <Embedding>.weight: waves periods=8 factor=0.02
"""

model = nn.Sequential(nn.Embedding(100, 64), nn.Linear(64, 256), nn.Linear(256, 64))
print(initplug.plan(model, RECIPE))

torch.manual_seed(0)
audit = initplug.apply(model, RECIPE)
assert not audit.problems()

# Arguments are checked by the annotations.
try:
    initplug.load("rules:\n  '*': depth_normal 0\n")
except initplug.RecipeError as error:
    print(error)

table = audit["0.weight"]
print(f"waves: measured std {table.measured_std:.3f}, {table.verdict}")
