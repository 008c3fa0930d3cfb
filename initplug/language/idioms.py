"""Names of other libraries, and what gives the same here: one table, each library with its source.

A name stands for a distribution. What is offered for it has that distribution, to the bounds of truncation; where two
libraries mean different things by one name, both are told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Library:
    """A library and its names of initializers.

    Args:
        name: of the library.
        source: where its names and formulas are documented.
        packages: parts of dotted names that tell of it.
        names: its names, each with the initializer that is the same here and, after a semicolon, what else to know.
        order: the arguments that it takes by position, by initializers of ours.
    """

    name: str
    source: str
    packages: tuple[str, ...]
    names: Mapping[str, str]
    order: Mapping[str, tuple[str, ...]]


BY_TORCH = {
    "normal": ("mean", "std"),
    "trunc_normal": ("mean", "std", "low", "high"),
    "uniform": ("low", "high"),
    "constant": ("value",),
    "xavier_uniform": ("gain",),
    "xavier_normal": ("gain",),
    "kaiming_uniform": ("a", "mode", "nonlinearity"),
    "kaiming_normal": ("a", "mode", "nonlinearity"),
    "orthogonal": ("gain",),
    "sparse": ("sparsity", "std"),
    "dirac": ("groups",),
}

TORCH = Library(
    name="torch",
    source="https://docs.pytorch.org/docs/stable/nn.init.html",
    packages=("torch", "nn", "init"),
    names={
        "uniform_": "uniform 0 1",
        "normal_": "normal",
        "constant_": "constant value=…",
        "ones_": "ones",
        "zeros_": "zeros",
        "eye_": "eye",
        "dirac_": "dirac",
        "xavier_uniform_": "xavier_uniform",
        "xavier_normal_": "xavier_normal",
        "kaiming_uniform_": "kaiming_uniform",
        "kaiming_normal_": "kaiming_normal",
        "trunc_normal_": "trunc_normal low=-2 high=2; its bounds are absolute, trunc_normal alone cuts at 2 std",
        "orthogonal_": "orthogonal",
        "sparse_": "sparse sparsity=…",
        "fill_": "constant value=…",
        "zero_": "zeros",
        "rand": "uniform 0 1",
        "randn": "normal",
        "reset_parameters": "default",
    },
    order=BY_TORCH,
)

KERAS = Library(
    name="Keras",
    source="https://keras.io/api/layers/initializers/",
    packages=("keras", "tf", "tensorflow", "compat", "initializers"),
    names={
        "zeros": "zeros",
        "Zeros": "zeros",
        "ones": "ones",
        "Ones": "ones",
        "constant": "constant value=…",
        "Constant": "constant value=…",
        "random_normal": "normal std=0.05",
        "RandomNormal": "normal std=0.05",
        "random_uniform": "uniform -0.05 0.05",
        "RandomUniform": "uniform -0.05 0.05",
        "truncated_normal": "trunc_normal std=0.05",
        "TruncatedNormal": "trunc_normal std=0.05",
        "variance_scaling": "variance_scaling",
        "VarianceScaling": "variance_scaling",
        "glorot_normal": "variance_scaling mode=fan_avg",
        "GlorotNormal": "variance_scaling mode=fan_avg",
        "glorot_uniform": "xavier_uniform",
        "GlorotUniform": "xavier_uniform",
        "he_normal": "variance_scaling scale=2",
        "HeNormal": "variance_scaling scale=2",
        "he_uniform": "kaiming_uniform",
        "HeUniform": "kaiming_uniform",
        "lecun_normal": "lecun_normal",
        "LecunNormal": "lecun_normal",
        "lecun_uniform": "lecun_uniform",
        "LecunUniform": "lecun_uniform",
        "orthogonal": "orthogonal",
        "Orthogonal": "orthogonal",
        "OrthogonalInitializer": "orthogonal",
        "identity": "eye",
        "Identity": "eye",
        "IdentityInitializer": "eye",
        # tf.compat.v1 and tf.contrib, whose defaults are others
        "glorot_uniform_initializer": "xavier_uniform",
        "glorot_normal_initializer": "variance_scaling mode=fan_avg",
        "xavier_initializer": "xavier_uniform",
        "variance_scaling_initializer": "variance_scaling scale=2 correction=tf_contrib",
        "truncated_normal_initializer": "trunc_normal",
        "uniform_unit_scaling_initializer": "lecun_uniform",
        "zeros_initializer": "zeros",
        "ones_initializer": "ones",
        "constant_initializer": "constant value=…",
        "orthogonal_initializer": "orthogonal",
    },
    order={
        "normal": ("mean", "std"),
        "uniform": ("low", "high"),
        "trunc_normal": ("mean", "std"),
        "constant": ("value",),
        "variance_scaling": ("scale", "mode", "distribution"),
        "orthogonal": ("gain",),
    },
)

JAX = Library(
    name="JAX",
    source="https://docs.jax.dev/en/latest/jax.nn.initializers.html",
    packages=("jax", "jnn", "flax", "linen", "nnx", "nn", "initializers"),
    names={
        "zeros": "zeros",
        "zeros_init": "zeros",
        "ones": "ones",
        "ones_init": "ones",
        "constant": "constant value=…",
        "normal": "normal std=0.01",
        "uniform": "uniform 0 0.01",
        "truncated_normal": "trunc_normal std=0.01",
        "variance_scaling": "variance_scaling",
        "glorot_normal": "variance_scaling mode=fan_avg",
        "xavier_normal": "variance_scaling mode=fan_avg",
        "glorot_uniform": "xavier_uniform",
        "xavier_uniform": "xavier_uniform",
        "he_normal": "variance_scaling scale=2",
        "kaiming_normal": "variance_scaling scale=2",
        "he_uniform": "kaiming_uniform",
        "kaiming_uniform": "kaiming_uniform",
        "lecun_normal": "lecun_normal",
        "lecun_uniform": "lecun_uniform",
        "orthogonal": "orthogonal",
        "delta_orthogonal": "delta_orthogonal",
    },
    order={
        "normal": ("std",),
        "trunc_normal": ("std",),
        "constant": ("value",),
        "variance_scaling": ("scale", "mode", "distribution"),
        "orthogonal": ("gain",),
        "delta_orthogonal": ("gain",),
    },
)

CAFFE = Library(
    name="Caffe",
    source="https://github.com/BVLC/caffe/blob/master/include/caffe/filler.hpp",
    packages=("caffe", "filler"),
    names={
        "constant": "constant value=…",
        "uniform": "uniform 0 1",
        "gaussian": "normal",
        "xavier": "lecun_uniform",
        "msra": "kaiming_normal",
        "ConstantFiller": "constant value=…",
        "GaussianFiller": "normal",
        "XavierFiller": "lecun_uniform",
        "MSRAFiller": "kaiming_normal",
        "UniformFiller": "uniform 0 1",
    },
    order={},
)

CAFFE2 = Library(
    name="Caffe2",
    source="https://github.com/facebookresearch/fvcore/blob/main/fvcore/nn/weight_init.py",
    packages=("caffe2", "fvcore", "weight_init"),
    names={
        "XavierFill": "lecun_uniform",
        "MSRAFill": "kaiming_normal mode=fan_out",
        "GaussianFill": "normal",
        "ConstantFill": "constant value=…",
        "c2_xavier_fill": "lecun_uniform",
        "c2_msra_fill": "kaiming_normal mode=fan_out nonlinearity=relu",
    },
    order={},
)

MMENGINE = Library(
    name="mmengine",
    source="https://mmengine.readthedocs.io/en/latest/advanced_tutorials/initialize.html",
    packages=("mmengine", "mmcv", "model", "weight_init"),
    names={
        **dict.fromkeys(("Constant", "ConstantInit", "constant_init"), "constant value=…"),
        **dict.fromkeys(("Xavier", "XavierInit", "xavier_init"), "xavier_normal"),
        **dict.fromkeys(("Normal", "NormalInit", "normal_init"), "normal"),
        **dict.fromkeys(
            ("TruncNormal", "TruncNormalInit", "trunc_normal_init"),
            "trunc_normal low=-2 high=2; its bounds are absolute, trunc_normal alone cuts at 2 std",
        ),
        **dict.fromkeys(("Uniform", "UniformInit", "uniform_init"), "uniform 0 1"),
        **dict.fromkeys(("Kaiming", "KaimingInit", "kaiming_init"), "kaiming_normal mode=fan_out nonlinearity=relu"),
        **dict.fromkeys(("Caffe2Xavier", "Caffe2XavierInit", "caffe2_xavier_init"), "kaiming_uniform a=1"),
        **dict.fromkeys(("Pretrained", "PretrainedInit"), "load path=…"),
        "bias_init_with_prob": "prior_bias",
    },
    order={},
)

LASAGNE = Library(
    name="Lasagne",
    source="https://lasagne.readthedocs.io/en/latest/modules/init.html",
    packages=("lasagne", "init"),
    names={
        "Constant": "constant value=…",
        "Normal": "normal std=0.01",
        "Uniform": "uniform -0.01 0.01",
        "Glorot": "xavier_uniform or xavier_normal",
        "GlorotNormal": "xavier_normal",
        "GlorotUniform": "xavier_uniform",
        "He": "kaiming_uniform linear or kaiming_normal linear",
        "HeNormal": "kaiming_normal nonlinearity=linear; with gain='relu' kaiming_normal alone",
        "HeUniform": "kaiming_uniform nonlinearity=linear; with gain='relu' kaiming_uniform alone",
        "Orthogonal": "orthogonal",
        "Sparse": "sparse sparsity=0.9; sparsity counts zeros here, there what is not zero",
    },
    order={"normal": ("std", "mean"), "constant": ("value",), "orthogonal": ("gain",)},
)

MXNET = Library(
    name="MXNet",
    source="https://mxnet.apache.org/versions/1.9.1/api/python/docs/api/initializer/index.html",
    packages=("mxnet", "mx", "gluon", "init", "initializer"),
    names={
        "Zero": "zeros",
        "One": "ones",
        "Constant": "constant value=…",
        "Normal": "normal std=0.01",
        "Uniform": "uniform -0.07 0.07",
        "Xavier": "xavier_uniform",
        "MSRAPrelu": "variance_scaling scale=32/17 mode=fan_avg distribution=normal",
    },
    order={"normal": ("std",), "constant": ("value",)},
)

TIMM = Library(
    name="timm",
    source="https://github.com/huggingface/pytorch-image-models/blob/main/timm/layers/weight_init.py",
    packages=("timm", "layers", "weight_init"),
    names={
        "trunc_normal_": "trunc_normal low=-2 high=2; its bounds are absolute, trunc_normal alone cuts at 2 std",
        "trunc_normal_tf_": "trunc_normal",
        "lecun_normal_": "lecun_normal",
        "variance_scaling_": "variance_scaling",
    },
    order={"trunc_normal": ("mean", "std")},
)

LIBRARIES = (TORCH, KERAS, JAX, CAFFE, CAFFE2, MMENGINE, LASAGNE, MXNET, TIMM)

UNSAID = {
    "xavier": "xavier_uniform or xavier_normal",
    "kaiming": "kaiming_normal or kaiming_uniform",
    "he": "kaiming_normal or kaiming_uniform; Keras's he_normal is variance_scaling scale=2",
    "glorot": "xavier_normal or xavier_uniform; Keras's glorot_normal is variance_scaling mode=fan_avg",
    "lecun": "lecun_normal or lecun_uniform",
    "truncated": "trunc_normal",
    "none": "keep; a rule is disabled by setting it to null",
}
"""Names that say too little, of no library."""


class Meaning(NamedTuple):
    """The meaning that a name has in a library.

    Args:
        library: whose name it is; None for a word of nobody's.
        here: the initializer that is the same, as a recipe writes it; `…` stands for what the name does not say.
        note: what else there is to know.
    """

    library: Library | None
    here: str
    note: str = ""


def meanings(name: str) -> list[Meaning]:
    """Return what a name means elsewhere: as it is spelled, else with other capitals and underscores.

    Example:
        >>> [(found.library.name, found.here) for found in meanings("HeNormal")]
        [('Keras', 'variance_scaling scale=2'), ('Lasagne', 'kaiming_normal nonlinearity=linear')]
        >>> [found.here for found in meanings("keras.initializers.HeNormal")]
        ['variance_scaling scale=2']
    """
    *packages, last = name.split(".")
    libraries = _libraries_of(packages)
    if packages and not libraries:
        return []
    for table, key in ((_by_name(), last), (_by_likeness(), _likened(last))):
        found = [one for one in table.get(key, ()) if not packages or one.library in libraries]
        if found:
            return found
    return []


def foreign_names() -> list[str]:
    """Return every name of the table."""
    return [*_by_name()]


def _libraries_of(packages: Iterable[str]) -> list[Library]:
    """Return the libraries that the most parts of a dotted name tell of."""
    parts = {*packages}
    counts = {library.name: len(parts.intersection(library.packages)) for library in LIBRARIES}
    most = max(counts.values())
    return [library for library in LIBRARIES if most and counts[library.name] == most]


def _likened(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


@cache
def _by_name() -> dict[str, list[Meaning]]:
    table: dict[str, list[Meaning]] = {}
    for library in LIBRARIES:
        for name, said in library.names.items():
            here, _, note = said.partition("; ")
            table.setdefault(name, []).append(Meaning(library, here, note))
    for name, said in UNSAID.items():
        here, _, note = said.partition("; ")
        table.setdefault(name, []).append(Meaning(None, here, note))
    return table


@cache
def _by_likeness() -> dict[str, list[Meaning]]:
    table: dict[str, list[Meaning]] = {}
    for name, found in _by_name().items():
        known = table.setdefault(_likened(name), [])
        known += [one for one in found if one not in known]
    return table


# Arguments and words ----------------------------------------------------------------------------------------

ARGUMENTS = {
    "a": ("torch", ("low",)),
    "b": ("torch", ("high",)),
    "val": ("torch", ("value",)),
    "stddev": ("Keras", ("std",)),
    "minval": ("Keras", ("low",)),
    "maxval": ("Keras", ("high",)),
    "sigma": ("MXNet", ("std",)),
    "sd": ("R", ("std",)),
    "loc": ("NumPy", ("mean",)),
    "scale": ("NumPy", ("std",)),
    "mu": ("MXNet", ("mean",)),
    "min": ("Caffe", ("low",)),
    "max": ("Caffe", ("high",)),
    "negative_slope": ("torch", ("a",)),
    "slope": ("MXNet", ("a",)),
    "prior_prob": ("mmengine", ("p",)),
    "bias_prob": ("mmengine", ("p",)),
    "variance_norm": ("Caffe", ("mode",)),
    "factor_type": ("MXNet", ("mode",)),
    "rnd_type": ("MXNet", ("distribution",)),
    "nonlinearity": ("torch", ("gain",)),
    "cutoff_factor": ("timm", ("cutoff",)),
}
"""Arguments of others: whose, and what they are called here, where an initializer has that."""

ELSEWHERE = {
    "seed": "a seed is given to apply, not to an initializer",
    "generator": "a seed is given to apply, not to an initializer",
    "dtype": "a parameter keeps the dtype that it has",
    "bias": "a bias has a rule of its own: *.bias: 0",
    "layer": "types are selected: match: <Conv2d>.weight",
    "override": "what is written otherwise has a rule of its own, after this one",
    "tensor": "the tensor is selected: match: conv1.weight",
    "_partial_": "a recipe is data and calls nothing: leave it out",
    "_args_": "arguments are given by name",
    "_convert_": "a recipe is data and calls nothing: leave it out",
    "_recursive_": "a recipe is data and calls nothing: leave it out",
}
"""Arguments of others that no initializer has here, and where that is said."""

WORDS = {
    "untruncatednormal": "normal",
    "truncated": "truncated_normal",
    "truncnormal": "truncated_normal",
    "gaussian": "normal",
    "swish": "silu",
    "hswish": "hardswish",
    "identity": "linear",
    "none": "linear",
    "lrelu": "leaky_relu",
    "rectify": "relu",
    "fanaverage": "fan_avg",
    "average": "fan_avg",
    "avg": "fan_avg",
    "in": "fan_in",
    "out": "fan_out",
}
"""Values of arguments as others spell them, without capitals and underscores."""


def word_meant(word: str, known: Iterable[str]) -> str | None:
    """Return the word of ours that a value of another library's argument is.

    Example:
        >>> word_meant("nn.LeakyReLU", ["relu", "leaky_relu"]), word_meant("FAN_AVG", ["fan_in", "fan_avg"])
        ('leaky_relu', 'fan_avg')
    """
    called = re.fullmatch(r"(?:[\w.]*\.)?calculate_gain\(['\"](\w+)['\"]\)", word)
    bare = _likened((called[1] if called else word).rpartition(".")[2].removesuffix("()"))
    likened = {_likened(one): one for one in known}
    meant = WORDS.get(bare)
    return likened.get(bare) or (meant if meant in likened.values() else None)
