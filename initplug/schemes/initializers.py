"""Initializers: a name, arguments and fans come down to a distribution.

Every scaled scheme is a one-line specialisation of `noise`, whose standard deviation is the scheme.
Functions take `fans` first and keyword arguments with annotations, which the registry reads.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from initplug.schemes import log_uniform as log_uniform  # registers its own, as do the others
from initplug.schemes.compositions import Copy, Default, Drawn, Keep, Load
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.fans import Fans
from initplug.schemes.gains import GAINS, Gain, Nonlinearity, gain_of
from initplug.schemes.registry import REGISTRY as REGISTRY  # filled by the time it is imported from here
from initplug.schemes.registry import Reference
from initplug.schemes.registry import initializer as initializer  # taken from here, the names above are taken first
from initplug.schemes.structures import arange as arange
from initplug.schemes.structures import bilinear as bilinear
from initplug.schemes.structures import identity as identity
from initplug.schemes.structures import orthogonal as orthogonal
from initplug.schemes.structures import sincos as sincos
from initplug.schemes.structures import sparse as sparse
from initplug.schemes.uniform_log import UniformLog

Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
WEIGHT = Reference("weight")
TRUNCATION_SHRINK = 0.87962566103423978
"""Standard deviation of a standard normal cut at ±2."""


Std = Annotated[float, Ge(0)]


def fan_of(fans: Fans, mode: Mode) -> float:
    """Return the fan that `mode` names; the averages are arithmetic and geometric.

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
    """Return zero-mean noise of this standard deviation: N(0, std²) or U(±√3·std)."""
    if distribution == "normal":
        return Normal(0.0, std)
    bound = math.sqrt(3.0) * std
    return Uniform(-bound, bound)


@initializer(any_shape=True)
def zeros(fans: Fans) -> Constant:
    """Every element 0."""
    return Constant(0.0)


@initializer(any_shape=True)
def ones(fans: Fans) -> Constant:
    """Every element 1."""
    return Constant(1.0)


@initializer(bare=("value",), any_shape=True)
def constant(fans: Fans, *, value: int | float) -> Constant:
    """Every element `value`.

    Args:
        fans: not used.
        value: in units of the tensor.

    Example:
        >>> constant(Fans((3,)), value=0.5)
        Constant(value=0.5)
    """
    return Constant(value)


@initializer(any_shape=True)
def normal(fans: Fans, *, mean: float = 0.0, std: Std = 1.0) -> Normal:
    """N(mean, std²).

    Args:
        fans: not used.
        mean: in units of the tensor.
        std: in units of the tensor, not negative.

    Source: torch.nn.init.normal_.
    """
    return Normal(float(mean), float(std))


@initializer(bare=("low", "high"), any_shape=True)
def uniform(
    fans: Fans, *, low: float, high: float, link: Literal["none", "log"] = "none"
) -> Uniform | UniformLog | Constant:
    """U(low, high), or its logarithm.

    `uniform 1 16 log` are the decay rates of Mamba-2 and of gated delta nets, as their logarithms.

    Args:
        fans: not used.
        low: least of what is drawn; not negative for logarithms.
        high: most of what is drawn, at least `low`.
        link: `none`, or `log`, ln x.

    Raises:
        ValueError: `low` exceeds `high`, or logarithms of numbers that are not positive.

    Example:
        >>> round(uniform(Fans((8,)), low=1, high=16, link="log").mean, 4), round(16 * math.log(16) / 15 - 1, 4)
        (1.9574, 1.9574)

    Source: torch.nn.init.uniform_; state-spaces/mamba mamba_ssm/modules/mamba2.py; Yang et al. 2024, arXiv:2412.06464.
    """
    if link == "log":
        return Constant(math.log(low)) if low == high > 0 else UniformLog(float(low), float(high))
    return Uniform(float(low), float(high))


@initializer(any_shape=True)
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


@initializer(bare=("gain",), any_shape=True)
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


@initializer(bare=("gain",), any_shape=True)
def xavier_normal(fans: Fans, *, gain: Gain = 1.0) -> Drawn:
    """N(0, gain²·2 / (fan_in + fan_out)).

    Args:
        fans: both fans are used.
        gain: a number, or the name of a nonlinearity.

    Source: torch.nn.init.xavier_normal_; Glorot and Bengio 2010.
    """
    return noise(_xavier_std(fans, gain), "normal")


def _xavier_std(fans: Fans, gain: Gain) -> float:
    # The order of operations is torch's: the same double, hence the same bits.
    return gain_of(gain) * math.sqrt(2.0 / float(fans.fan_in + fans.fan_out))


@initializer(any_shape=True)
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


@initializer(any_shape=True)
def kaiming_normal(
    fans: Fans,
    *,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    a: float | None = None,
) -> Drawn:
    """N(0, gain² / fan), not truncated.

    Args:
        fans: the fan that `mode` names is used.
        mode: `fan_in` keeps the variance of activations, `fan_out` that of gradients.
        nonlinearity: names the gain; `leaky_relu` with slope 0, the default, has the gain of relu.
        a: slope of leaky_relu, 0 unless given.

    Raises:
        ValueError: `a` without leaky_relu.

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


@initializer(any_shape=True)
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


@initializer(any_shape=True)
def lecun_normal(fans: Fans) -> Drawn:
    """Truncated noise of variance 1 / fan_in.

    Source: jax.nn.initializers.lecun_normal; LeCun et al. 1998, Efficient BackProp.
    """
    return variance_scaling(fans)


@initializer(any_shape=True)
def lecun_uniform(fans: Fans) -> Drawn:
    """U(±√(3 / fan_in)).

    Source: jax.nn.initializers.lecun_uniform; LeCun et al. 1998, Efficient BackProp.
    """
    return variance_scaling(fans, distribution="uniform")


@initializer(any_shape=True)
def fan_uniform(fans: Fans, *, gain: Gain = 1.0, mode: Mode = "fan_in", of: Reference = WEIGHT) -> Uniform:
    """U(±gain / √fan).

    Args:
        fans: of the slot, or of the tensor `of` refers to where the slot has fewer than two dimensions.
        gain: a number, or the name of a nonlinearity.
        mode: which fan.
        of: the tensor whose fan a bias takes; where that is 0, the bound is.

    Example:
        >>> fan_uniform(Fans((10, 16))).high
        0.25

    Source: torch.nn.Linear.reset_parameters.
    """
    fan = fan_of(fans, mode)
    bound = abs(gain_of(gain)) / math.sqrt(fan) if fan else 0.0  # as torch has it for a layer without inputs
    return Uniform(-bound, bound)


@initializer(bare=("p",), any_shape=True)
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


@initializer(any_shape=True)
def default(fans: Fans, *, otherwise: Literal["error", "keep"] = "error") -> Default:
    """Return what the resets of construction draw; what a constructor does after them is not seen.

    Args:
        fans: not used.
        otherwise: of what no reset writes, or none that can be read: `error`, or `keep` as constructed.

    Source: `reset_parameters` and `_reset_parameters` of the owner and its ancestors.
    """
    return Default(otherwise)


@initializer(modified=False, any_shape=True)
def keep(fans: Fans, *, otherwise: Literal["error", "default"] = "error") -> Keep:
    """The values as constructed; `keep default` gives a tensor on meta its default."""
    return Keep(otherwise)


WITHOUT_AXES = ("orthogonal", "delta_orthogonal", "dirac", "eye")
"""Initializers to which the dimensions of a tensor mean what they do, however its fans are counted."""

BY_CHANNEL = ("dirac", "bilinear")
"""Initializers that go by the channels and groups of a convolution."""

TRANSFERS = ("copy", "load")
"""Initializers that give a tensor as a whole the values that something else has."""


@initializer(modified=False, any_shape=True)
def copy(fans: Fans, *, source: Reference) -> Copy:
    """The values of another parameter of the same shape, cast to the dtype.

    Args:
        fans: not used.
        source: the other parameter, or a module: then the parameter below it whose name is the longest end of the
            slot's own.

    Example:
        >>> copy(Fans((2, 2)), source=Reference("..q.weight"))
        Copy(source='..q.weight', drawn=None)

    Source: He et al. 2020, arXiv:1911.05722, whose key encoder begins as a copy of the query encoder.
    """
    return Copy(source)


@initializer(modified=False, any_shape=True)
def load(
    fans: Fans,
    *,
    path: str,
    key: str | None = None,
    prefix: str | None = None,
    missing: Literal["error", "previous"] = "error",
) -> Load:
    """The values that a file of weights holds, cast to the dtype.

    A file that ends in `.pt` or `.pth` is read by torch.load, tensors and plain data alone; every other is one of
    safetensors. Names in nested mappings are joined by dots.

    Args:
        fans: not used.
        path: of the file; a relative one starts at the recipe file.
        key: the name in the file; otherwise the slot's canonical name, or one of its aliases.
        prefix: what the file puts before the slot's name.
        missing: of what the file lacks, or holds in another shape: `error`, or `previous`, what the rule before gives.

    Raises:
        ValueError: no path, or a key with a prefix.

    Source: https://huggingface.co/docs/safetensors
    """
    if not path:
        raise ValueError("path is empty")
    if key is not None and prefix is not None:
        raise ValueError(
            "key is the whole name in the file, and prefix what stands before the slot's: give one of them"
        )
    return Load(path, key or "")  # without a key, it is the slot that says which
