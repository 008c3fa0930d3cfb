"""Initializers: a name, arguments and fans come down to a distribution.

Everything random here is a one-line specialisation of `variance`: noise of a given variance in a given shape.
Functions take `fans` first and keyword arguments with annotations, which the registry reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from initplug.schemes.distributions import (
    Constant,
    Default,
    Drawn,
    Keep,
    Normal,
    TruncatedNormal,
    Uniform,
)
from initplug.schemes.fans import Fans
from initplug.schemes.registry import REGISTRY as REGISTRY  # filled by the time it is imported from here
from initplug.schemes.registry import Reference, register
from initplug.schemes.structures import DeltaOrthogonal, Dirac, Eye, Orthogonal, SinCos, Sparse

Nonlinearity = Literal[
    "linear",
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
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
GAINS: Mapping[str, float] = {
    # torch.nn.init.calculate_gain
    "linear": 1.0,
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
WEIGHT = Reference("weight")
TRUNCATION_SHRINK = 0.87962566103423978
"""Standard deviation of a standard normal cut at ±2."""


Gain = float | Nonlinearity
Std = Annotated[float, Ge(0)]


def gain_of(gain: Gain) -> float:
    """The factor of a nonlinearity, or the number itself.

    Gains of linear, sigmoid, tanh, relu, leaky_relu (slope 0.01) and selu are torch's; those of gelu, silu,
    mish, elu, softplus and hardswish are 1/√E[f(z)²] for standard normal z.

    Example:
        >>> gain_of("tanh") == 5 / 3
        True
    """
    return GAINS[gain] if isinstance(gain, str) else float(gain)


def fan_of(fans: Fans, mode: Mode) -> float:
    """The fan that `mode` names; the averages are arithmetic and geometric.

    Example:
        >>> fan_of(Fans((4, 16)), "fan_geo_avg")
        8.0
    """
    match mode:
        case "fan_in":
            return fans.fan_in
        case "fan_out":
            return fans.fan_out
        case "fan_avg":
            return (fans.fan_in + fans.fan_out) / 2
        case "fan_geo_avg":
            return math.sqrt(fans.fan_in * fans.fan_out)


def noise(std: float, distribution: Literal["normal", "uniform"]) -> Drawn:
    """Zero-mean noise of this standard deviation: N(0, std²) or U(±√3·std)."""
    if distribution == "normal":
        return Normal(0.0, std)
    bound = math.sqrt(3.0) * std
    return Uniform(-bound, bound)


@register()
def zeros(fans: Fans) -> Constant:
    """Every element 0."""
    return Constant(0.0)


@register()
def ones(fans: Fans) -> Constant:
    """Every element 1."""
    return Constant(1.0)


@register(bare=("value",))
def constant(fans: Fans, *, value: int | float) -> Constant:
    """Every element `value`.

    Example:
        >>> constant(Fans((3,)), value=0.5)
        Constant(value=0.5)
    """
    return Constant(value)


@register()
def normal(fans: Fans, *, mean: float = 0.0, std: Std = 1.0) -> Normal:
    """N(mean, std²).

    Args:
        fans: not used.
        mean: in units of the tensor.
        std: in units of the tensor, not negative.

    Source: torch.nn.init.normal_.
    """
    return Normal(float(mean), float(std))


@register(bare=("low", "high"))
def uniform(fans: Fans, *, low: float, high: float) -> Uniform:
    """U(low, high).

    Raises:
        ValueError: `low` exceeds `high`.

    Source: torch.nn.init.uniform_.
    """
    return Uniform(float(low), float(high))


@register()
def trunc_normal(
    fans: Fans,
    *,
    std: Annotated[float, Gt(0)] = 1.0,
    mean: float = 0.0,
    cutoff: Annotated[float, Gt(0)] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> TruncatedNormal:
    """N(mean, std²) conditioned on mean ± cutoff·std (cutoff 2), or on [low, high].

    `std` is that of the normal before the cut: cut at two standard deviations what is drawn has 0.8796·std.
    torch's own bounds are absolute, so its ±2 cuts nothing at std 0.02.

    Args:
        fans: not used.
        std: of the normal before the cut, positive.
        mean: of the normal before the cut.
        cutoff: in standard deviations; excludes `low` and `high`.
        low: absolute lower bound, together with `high`.
        high: absolute upper bound.

    Raises:
        ValueError: both kinds of bounds, one bound alone, or an interval beyond six standard deviations.

    Example:
        >>> trunc_normal(Fans((8, 8)), std=0.02)
        TruncatedNormal(loc=0.0, scale=0.02, low=-0.04, high=0.04)

    Source: torch.nn.init.trunc_normal_; timm trunc_normal_tf_ for the cut in standard deviations.
    """
    if (low is None) != (high is None):
        raise ValueError("low and high go together")
    if low is not None and high is not None:
        if cutoff is not None:
            raise ValueError("cutoff (in std) and low/high (absolute) exclude each other")
        return TruncatedNormal(float(mean), float(std), float(low), float(high))
    reach = (2.0 if cutoff is None else cutoff) * std
    return TruncatedNormal(float(mean), float(std), mean - reach, mean + reach)


@register(bare=("gain",))
def xavier_uniform(fans: Fans, *, gain: Gain = 1.0) -> Drawn:
    """U(±gain·√(6 / (fan_in + fan_out))).

    Args:
        fans: both fans are used.
        gain: a number, or the name of a nonlinearity.

    Example:
        >>> xavier_uniform(Fans((50, 100))).high
        0.2

    Source: torch.nn.init.xavier_uniform_; Glorot and Bengio 2010.
    """
    return noise(_xavier_std(fans, gain), "uniform")


@register(bare=("gain",))
def xavier_normal(fans: Fans, *, gain: Gain = 1.0) -> Drawn:
    """N(0, gain²·2 / (fan_in + fan_out)).

    Source: torch.nn.init.xavier_normal_; Glorot and Bengio 2010.
    """
    return noise(_xavier_std(fans, gain), "normal")


def _xavier_std(fans: Fans, gain: Gain) -> float:
    # The order of operations is torch's: the same double, hence the same bits.
    return gain_of(gain) * math.sqrt(2.0 / float(fans.fan_in + fans.fan_out))


@register()
def kaiming_uniform(
    fans: Fans,
    *,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    a: float | None = None,
) -> Drawn:
    """U(±gain·√(3 / fan)).

    Args:
        fans: the fan that `mode` names is used.
        mode: `fan_in` keeps the variance of activations, `fan_out` that of gradients.
        nonlinearity: names the gain; `leaky_relu` with slope 0, the default, has the gain of relu.
        a: slope of leaky_relu, 0 unless given.

    Raises:
        ValueError: `a` without leaky_relu.

    Source: torch.nn.init.kaiming_uniform_; He et al. 2015, arXiv:1502.01852.
    """
    return noise(_kaiming_std(fans, mode, nonlinearity, a), "uniform")


@register()
def kaiming_normal(
    fans: Fans,
    *,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    a: float | None = None,
) -> Drawn:
    """N(0, gain² / fan), not truncated.

    Example:
        >>> kaiming_normal(Fans((64, 32, 3, 3)), mode="fan_out").std
        0.05892556509887897

    Source: torch.nn.init.kaiming_normal_; He et al. 2015, arXiv:1502.01852.
    """
    return noise(_kaiming_std(fans, mode, nonlinearity, a), "normal")


def _kaiming_std(fans: Fans, mode: Mode, nonlinearity: Nonlinearity, a: float | None) -> float:
    if nonlinearity == "leaky_relu":
        gain = math.sqrt(2.0 / (1 + (a or 0.0) ** 2))
    elif a is not None:
        raise ValueError(f"a is the slope of leaky_relu and says nothing for {nonlinearity}")
    else:
        gain = GAINS[nonlinearity]
    return gain / math.sqrt(fan_of(fans, mode))


@register()
def variance_scaling(
    fans: Fans,
    *,
    scale: Annotated[float, Gt(0)] = 1.0,
    mode: Mode = "fan_in",
    distribution: Literal["truncated_normal", "normal", "uniform"] = "truncated_normal",
    correction: Literal["exact", "tf_contrib", "none"] = "exact",
) -> Drawn:
    """Zero-mean noise of variance `scale / n`, where `n` is the fan that `mode` names.

    Args:
        fans: fan_in and fan_out of the slot, in elements.
        scale: variance factor, dimensionless, positive; 2 suits ReLU layers.
        mode: which fan, or which mean of both.
        distribution: the truncated one is cut at two standard deviations.
        correction: how a truncated one makes up for its cut: `exact` gives the variance, `tf_contrib`
            multiplies the variance before the cut by 1.3, `none` does nothing.

    Raises:
        ValueError: a correction for a distribution that is not truncated.

    Example:
        >>> variance_scaling(Fans((512, 256)), scale=2.0, distribution="normal").std
        0.08838834764831845

    Source: jax.nn.initializers.variance_scaling; tf.contrib.layers.variance_scaling_initializer.
    """
    std = math.sqrt(scale / fan_of(fans, mode))
    if distribution != "truncated_normal":
        if correction != "exact":
            raise ValueError(f"correction is for truncated_normal and says nothing for {distribution}")
        return noise(std, distribution)
    before = {"exact": std / TRUNCATION_SHRINK, "tf_contrib": std * math.sqrt(1.3), "none": std}[correction]
    return TruncatedNormal(0.0, before, -2 * before, 2 * before)


@register()
def lecun_normal(fans: Fans) -> Drawn:
    """Truncated noise of variance 1 / fan_in.

    Source: jax.nn.initializers.lecun_normal; LeCun et al. 1998, Efficient BackProp.
    """
    return variance_scaling(fans)


@register()
def lecun_uniform(fans: Fans) -> Drawn:
    """U(±√(3 / fan_in)).

    Source: jax.nn.initializers.lecun_uniform; LeCun et al. 1998, Efficient BackProp.
    """
    return variance_scaling(fans, distribution="uniform")


@register()
def fan_uniform(fans: Fans, *, gain: Gain = 1.0, mode: Mode = "fan_in", of: Reference = WEIGHT) -> Uniform:
    """U(±gain / √fan).

    Args:
        fans: of the slot, or of the tensor `of` refers to where the slot has fewer than two dimensions.
        gain: a number, or the name of a nonlinearity.
        mode: which fan.
        of: the tensor whose fan a bias takes.

    Example:
        >>> fan_uniform(Fans((10, 16))).high
        0.25

    Source: torch.nn.Linear.reset_parameters.
    """
    bound = abs(gain_of(gain)) / math.sqrt(fan_of(fans, mode))
    return Uniform(-bound, bound)


@register(bare=("p",))
def prior_bias(
    fans: Fans,
    *,
    p: Annotated[float, Gt(0), Lt(1)] | Literal["uniform"] = 0.01,
    link: Literal["logit", "log"] = "logit",
) -> Constant:
    """The bias at which a classifier predicts probability p: log(p / (1-p)), or log p.

    Args:
        fans: size(0) of the slot is the number of classes.
        p: probability, or `uniform` for 1 / size(0).
        link: `logit` for sigmoid outputs, `log` for softmax outputs.

    Raises:
        ValueError: `uniform` with logit and one class, or on a tensor without dimensions.

    Example:
        >>> round(prior_bias(Fans((80,))).value, 5)
        -4.59512

    Source: Lin et al. 2017, arXiv:1708.02002, section 4.1; timm vision_transformer init_weights('jax_nlhb').
    """
    if p == "uniform":
        if not fans.shape:
            raise ValueError("p=uniform needs a dimension to count classes along")
        probability = 1 / fans.shape[0]
        if link == "logit" and probability == 1:
            raise ValueError("p=uniform over one class is certainty, whose logit is infinite")
    else:
        probability = float(p)
    # torchvision's order of operations: the same double
    return Constant(math.log(probability) if link == "log" else -math.log((1 - probability) / probability))


@register(bare=("gain",), any_shape=False)
def orthogonal(fans: Fans, *, gain: Gain = 1.0) -> Orthogonal:
    """`gain` times a random matrix of orthonormal rows or columns; further dimensions count as columns.

    Args:
        fans: the shape is used, of at least two dimensions.
        gain: a number, or the name of a nonlinearity.

    Raises:
        ValueError: fewer than two dimensions.

    Example:
        >>> orthogonal(Fans((64, 16, 2, 2)), gain=2.0).std
        0.25

    Source: torch.nn.init.orthogonal_; Saxe et al. 2014, arXiv:1312.6120.
    """
    if len(fans.shape) < 2:
        raise ValueError("an orthogonal tensor has at least two dimensions")
    return Orthogonal(gain_of(gain), fans.shape[0], math.prod(fans.shape[1:]))


@register(bare=("gain",), any_shape=False)
def delta_orthogonal(fans: Fans, *, gain: Gain = 1.0) -> DeltaOrthogonal:
    """A convolution that is `gain` times an orthogonal matrix at the centre of its kernel and zero elsewhere.

    Args:
        fans: the shape is used: (out, in, *kernel) with one to three kernel dimensions and out >= in.
        gain: a number, or the name of a nonlinearity.

    Raises:
        ValueError: another shape.

    Source: jax.nn.initializers.delta_orthogonal; Xiao et al. 2018, arXiv:1806.05393.
    """
    if not 3 <= len(fans.shape) <= 5:
        raise ValueError("a delta-orthogonal tensor has three to five dimensions")
    rows, columns, *kernel = fans.shape
    if rows < columns:
        raise ValueError(f"it needs at least as many output channels as input channels, not {rows} for {columns}")
    return DeltaOrthogonal(gain_of(gain), rows, columns, math.prod(kernel))


@register(any_shape=False)
def dirac(fans: Fans, *, groups: Annotated[int, Ge(1)] = 1) -> Dirac:
    """A convolution that passes its input on: ones at the centre of the kernel, channel by channel.

    Args:
        fans: the shape is used, of three to five dimensions.
        groups: of output channels, each beginning with the first input channel.

    Raises:
        ValueError: another number of dimensions, or output channels that the groups do not divide.

    Source: torch.nn.init.dirac_.
    """
    if not 3 <= len(fans.shape) <= 5:
        raise ValueError("a dirac tensor has three to five dimensions")
    if fans.shape[0] % groups:
        raise ValueError(f"{groups} groups do not divide {fans.shape[0]} output channels")
    return Dirac(1.0, groups, fans.shape)


@register(any_shape=False)
def eye(fans: Fans) -> Eye:
    """Ones on the diagonal of a matrix, zeros elsewhere.

    Raises:
        ValueError: not two dimensions.

    Source: torch.nn.init.eye_.
    """
    if len(fans.shape) != 2:
        raise ValueError("an identity matrix has two dimensions")
    return Eye(1.0, fans.shape[0], fans.shape[1])


@register(bare=("sparsity",))
def sparse(fans: Fans, *, sparsity: Annotated[float, Ge(0), Le(1)], std: Std = 0.01) -> Sparse:
    """N(0, std²) with a share of zeros in every column, rounded up to whole elements.

    Args:
        fans: the shape is used, of two dimensions.
        sparsity: share of zeros in a column, 0 to 1.
        std: of the elements that are not zero.

    Raises:
        ValueError: not two dimensions.

    Source: torch.nn.init.sparse_; Martens 2010, Deep learning via Hessian-free optimization.
    """
    if len(fans.shape) != 2:
        raise ValueError("a sparse matrix has two dimensions")
    return Sparse(float(std), float(sparsity), fans.shape[0])


@register(any_shape=False)
def sincos(
    fans: Fans,
    *,
    grid: Literal[1, 2] = 1,
    skip: Annotated[int, Ge(0)] = 0,
    base: Annotated[float, Gt(0)] = 10000.0,
) -> SinCos:
    """A table of sines and cosines of positions, one row a position.

    Args:
        fans: the shape is used: (rows, columns), with leading dimensions of size 1.
        grid: 1 for a sequence, 2 for a square grid of patches, row by row.
        skip: leading rows that are zero, such as a class token's.
        base: of the frequencies.

    Raises:
        ValueError: another shape; rows that are no square; columns that do not divide into sines and cosines.

    Example:
        >>> sincos(Fans((1, 197, 768)), grid=2, skip=1).rows
        197

    Source: Vaswani et al. 2017, arXiv:1706.03762; facebookresearch/mae util/pos_embed.py:20-56.
    """
    *leading, rows, columns = (1, 1, *fans.shape) if len(fans.shape) == 1 else (1, *fans.shape)
    if len(fans.shape) < 2 or math.prod(leading) != 1:
        raise ValueError("a position table has two dimensions, and before them only dimensions of size 1")
    if columns % (2 * grid):
        raise ValueError(f"its rows need a multiple of {2 * grid} columns for sines and cosines, not {columns}")
    if skip > rows or (grid == 2 and math.isqrt(rows - skip) ** 2 != rows - skip):
        raise ValueError(f"{rows} rows less {skip} skipped are no {'square grid' if grid == 2 else 'sequence'}")
    return SinCos(1.0, grid, skip, float(base), rows, columns)


@register()
def default(fans: Fans) -> Default:
    """What construction draws, read from the module's own reset.

    Source: `reset_parameters` and `_reset_parameters` of the owner and its ancestors.
    """
    return Default()


@register(modified=False)
def keep(fans: Fans, *, otherwise: Literal["error", "default"] = "error") -> Keep:
    """The values as constructed; `keep default` gives a tensor on meta its default."""
    return Keep(otherwise)
