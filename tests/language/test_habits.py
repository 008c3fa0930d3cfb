"""What people write out of other habits, and what messages offer: it loads, and has the distribution that was meant.

The formulas are those of the documentation or the code of each library, written down here anew; none is ours.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import pytest
from recipe_errors import recipe_error, rule_error

import initplug
from initplug.language.habits import selector_meant, spaced
from initplug.language.idioms import LIBRARIES, UNSAID, meanings, word_meant
from initplug.language.matcher import Matcher
from initplug.language.selectors import parse
from initplug.schemes.calls import distribution_of
from initplug.schemes.fans import Fans
from initplug.schemes.initializers import REGISTRY

SHAPE = (24, 10, 3, 3)
IN, OUT = 90, 216
AVERAGE = (IN + OUT) / 2


class Formula(NamedTuple):
    """The moments, bounds and kurtosis of one element."""

    mean: float
    std: float
    low: float
    high: float
    kurtosis: float


def normal(std: float, mean: float = 0.0) -> Formula:
    return Formula(mean, std, -math.inf, math.inf, 3.0)


def uniform(low: float, high: float) -> Formula:
    return Formula((low + high) / 2, (high - low) / math.sqrt(12), low, high, 1.8)


def bounded(bound: float) -> Formula:
    return uniform(-bound, bound)


def cut(sigma: float, reach: float = 2.0) -> Formula:
    """A normal draw that is drawn again beyond so many of its standard deviations: by its closed form."""
    density = math.exp(-(reach**2) / 2) / math.sqrt(2 * math.pi)
    inside = math.erf(reach / math.sqrt(2))
    variance = 1 - 2 * reach * density / inside
    fourth = 3 - 2 * (reach**3 + 3 * reach) * density / inside
    return Formula(0.0, sigma * math.sqrt(variance), -reach * sigma, reach * sigma, fourth / variance**2)


def corrected(std: float) -> Formula:
    """A normal draw, cut at twice its deviation, that has this deviation after the cut."""
    return cut(std / 0.87962566103423978)


def constant(value: float) -> Formula:
    return Formula(value, 0.0, value, value, 0.0)


ZERO, ONE = constant(0.0), constant(1.0)

FORMULAS: dict[str, dict[str, Formula | str]] = {
    # A text names the initializer of what is no noise, or of what the name alone does not say.
    "torch": {
        "uniform_": uniform(0, 1),
        "normal_": normal(1),
        "constant_": "constant",
        "ones_": ONE,
        "zeros_": ZERO,
        "eye_": "eye",
        "dirac_": "dirac",
        "xavier_uniform_": bounded(math.sqrt(6 / (IN + OUT))),
        "xavier_normal_": normal(math.sqrt(2 / (IN + OUT))),
        "kaiming_uniform_": bounded(math.sqrt(2) * math.sqrt(3 / IN)),
        "kaiming_normal_": normal(math.sqrt(2 / IN)),
        "trunc_normal_": cut(1.0),  # std 1 between -2 and 2
        "orthogonal_": "orthogonal",
        "sparse_": "sparse",
        "fill_": "constant",
        "zero_": ZERO,
        "rand": uniform(0, 1),
        "randn": normal(1),
        "reset_parameters": "default",
    },
    "Keras": {
        **dict.fromkeys(("zeros", "Zeros", "zeros_initializer"), ZERO),
        **dict.fromkeys(("ones", "Ones", "ones_initializer"), ONE),
        **dict.fromkeys(("constant", "Constant", "constant_initializer"), "constant"),
        **dict.fromkeys(("random_normal", "RandomNormal"), normal(0.05)),
        **dict.fromkeys(("random_uniform", "RandomUniform"), uniform(-0.05, 0.05)),
        **dict.fromkeys(("truncated_normal", "TruncatedNormal"), cut(0.05)),
        **dict.fromkeys(("variance_scaling", "VarianceScaling"), corrected(math.sqrt(1 / IN))),
        **dict.fromkeys(
            ("glorot_normal", "GlorotNormal", "glorot_normal_initializer"), corrected(math.sqrt(2 / (IN + OUT)))
        ),
        **dict.fromkeys(
            ("glorot_uniform", "GlorotUniform", "glorot_uniform_initializer", "xavier_initializer"),
            bounded(math.sqrt(6 / (IN + OUT))),
        ),
        **dict.fromkeys(("he_normal", "HeNormal"), corrected(math.sqrt(2 / IN))),
        **dict.fromkeys(("he_uniform", "HeUniform"), bounded(math.sqrt(6 / IN))),
        **dict.fromkeys(("lecun_normal", "LecunNormal"), corrected(math.sqrt(1 / IN))),
        **dict.fromkeys(
            ("lecun_uniform", "LecunUniform", "uniform_unit_scaling_initializer"), bounded(math.sqrt(3 / IN))
        ),
        **dict.fromkeys(("orthogonal", "Orthogonal", "OrthogonalInitializer", "orthogonal_initializer"), "orthogonal"),
        **dict.fromkeys(("identity", "Identity", "IdentityInitializer"), "eye"),
        "variance_scaling_initializer": cut(math.sqrt(1.3 * 2 / IN)),
        "truncated_normal_initializer": cut(1.0),
    },
    "JAX": {
        **dict.fromkeys(("zeros", "zeros_init"), ZERO),
        **dict.fromkeys(("ones", "ones_init"), ONE),
        "constant": "constant",
        "normal": normal(0.01),
        "uniform": uniform(0, 0.01),
        "truncated_normal": cut(0.01),
        "variance_scaling": "variance_scaling",
        **dict.fromkeys(("glorot_normal", "xavier_normal"), corrected(math.sqrt(1 / AVERAGE))),
        **dict.fromkeys(("glorot_uniform", "xavier_uniform"), bounded(math.sqrt(3 / AVERAGE))),
        **dict.fromkeys(("he_normal", "kaiming_normal"), corrected(math.sqrt(2 / IN))),
        **dict.fromkeys(("he_uniform", "kaiming_uniform"), bounded(math.sqrt(3 * 2 / IN))),
        "lecun_normal": corrected(math.sqrt(1 / IN)),
        "lecun_uniform": bounded(math.sqrt(3 / IN)),
        "orthogonal": "orthogonal",
        "delta_orthogonal": "delta_orthogonal",
    },
    "Caffe": {
        **dict.fromkeys(("constant", "ConstantFiller"), "constant"),
        **dict.fromkeys(("uniform", "UniformFiller"), uniform(0, 1)),
        **dict.fromkeys(("gaussian", "GaussianFiller"), normal(1)),
        **dict.fromkeys(("xavier", "XavierFiller"), bounded(math.sqrt(3 / IN))),
        **dict.fromkeys(("msra", "MSRAFiller"), normal(math.sqrt(2 / IN))),
    },
    "Caffe2": {
        **dict.fromkeys(("XavierFill", "c2_xavier_fill"), bounded(math.sqrt(3 / IN))),
        **dict.fromkeys(("MSRAFill", "c2_msra_fill"), normal(math.sqrt(2 / OUT))),
        "GaussianFill": normal(1),
        "ConstantFill": "constant",
    },
    "mmengine": {
        **dict.fromkeys(("Constant", "ConstantInit", "constant_init"), "constant"),
        **dict.fromkeys(("Xavier", "XavierInit", "xavier_init"), normal(math.sqrt(2 / (IN + OUT)))),
        **dict.fromkeys(("Normal", "NormalInit", "normal_init"), normal(1)),
        **dict.fromkeys(("TruncNormal", "TruncNormalInit", "trunc_normal_init"), cut(1.0)),
        **dict.fromkeys(("Uniform", "UniformInit", "uniform_init"), uniform(0, 1)),
        **dict.fromkeys(("Kaiming", "KaimingInit", "kaiming_init"), normal(math.sqrt(2 / OUT))),
        **dict.fromkeys(("Caffe2Xavier", "Caffe2XavierInit", "caffe2_xavier_init"), bounded(math.sqrt(3 / IN))),
        **dict.fromkeys(("Pretrained", "PretrainedInit"), "load"),
        "bias_init_with_prob": constant(-math.log((1 - 0.01) / 0.01)),
    },
    "Lasagne": {
        "Constant": "constant",
        "Normal": normal(0.01),
        "Uniform": uniform(-0.01, 0.01),
        "Glorot": "xavier_uniform",
        "GlorotNormal": normal(math.sqrt(2 / (IN + OUT))),
        "GlorotUniform": bounded(math.sqrt(3) * math.sqrt(2 / (IN + OUT))),
        "He": "kaiming_uniform",
        "HeNormal": normal(math.sqrt(1 / IN)),
        "HeUniform": bounded(math.sqrt(3) * math.sqrt(1 / IN)),
        "Orthogonal": "orthogonal",
        "Sparse": "sparse",
    },
    "MXNet": {
        "Zero": ZERO,
        "One": ONE,
        "Constant": "constant",
        "Normal": normal(0.01),
        "Uniform": uniform(-0.07, 0.07),
        "Xavier": bounded(math.sqrt(3 / AVERAGE)),
        "MSRAPrelu": normal(math.sqrt(2 / (1 + 0.25**2) / AVERAGE)),
    },
    "timm": {
        "trunc_normal_": cut(1.0),
        "trunc_normal_tf_": cut(1.0),
        "lecun_normal_": corrected(math.sqrt(1 / IN)),
        "variance_scaling_": corrected(math.sqrt(1 / IN)),
    },
}


def formula_of(init: Any) -> Formula:
    """The law of an initializer as a recipe has it, for a convolution."""
    rule = initplug.load({"rules": {"w*": init}}).rules["w*"]
    assert rule is not None
    drawn = distribution_of(rule.init.initializer, Fans(SHAPE), SHAPE, rule.init.arguments)
    law = drawn.law  # type: ignore[union-attr]  # it is asked of noise and constants alone
    return Formula(law.mean, law.std, law.low, law.high, law.kurtosis if law.std else 0.0)


def assert_is(init: Any, expected: Formula) -> None:
    assert formula_of(init) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def told(source: str, whose: str) -> str:
    """What a message says to write, for a library where it tells of several."""
    hint = source.rpartition("(write ")[2].removesuffix(")").partition("; ")[0]
    for part in hint.split(", "):
        here, _, owners = part.partition(" for ")
        if owners and whose in owners.removesuffix("'s").split(" and "):
            return here
    return hint.partition(", ")[0]


ROWS = [(library.name, name) for library in LIBRARIES for name in library.names]


@pytest.mark.parametrize(("library", "name"), ROWS, ids=[f"{library} {name}" for library, name in ROWS])
def test_a_name_of_another_library_is_answered_with_its_distribution(library: str, name: str) -> None:
    expected = FORMULAS[library][name]
    packages = next(each.packages for each in LIBRARIES if each.name == library)
    if name in REGISTRY:
        here = told(rule_error(f"{'.'.join(packages)}.{name}"), library)
    else:
        here = told(rule_error(name), library)
        assert here == told(rule_error(f"{'.'.join(packages)}.{name}"), library)
        assert here == told(rule_error({"fn": name}), library)
    if isinstance(expected, str):
        assert here.split()[0] == expected
    else:
        assert_is(here, expected)


def test_every_name_of_the_table_has_a_formula_and_every_library_a_source() -> None:
    assert {library.name: [*library.names] for library in LIBRARIES}.keys() == FORMULAS.keys()
    for library in LIBRARIES:
        assert library.names.keys() == FORMULAS[library.name].keys()
        assert library.source.startswith("https://")
    assert len(ROWS) > 100


def test_two_libraries_that_mean_different_things_are_both_told() -> None:
    assert rule_error("HeNormal").endswith(
        "(write variance_scaling scale=2 for Keras's, kaiming_normal nonlinearity=linear for Lasagne's; "
        "with gain='relu' kaiming_normal alone)"
    )
    assert rule_error("xavier").endswith("(write lecun_uniform for Caffe's, else xavier_uniform or xavier_normal)")
    assert told(rule_error("lasagne.init.HeNormal"), "Lasagne") == "kaiming_normal nonlinearity=linear"


@pytest.mark.parametrize("name", UNSAID)
def test_a_name_that_says_too_little_is_answered_with_what_there_is(name: str) -> None:
    assert all(word in rule_error(name) for word in UNSAID[name].split(" or "))


# Names that no table has, beside ours: none is offered whose distribution is another.
UNKNOWN = ["half_normal", "log_normal", "skewed_uniform", "lambda", "small_normal", "my_uniform", "normal_times_two",
           "orthogonal_like", "exp_uniform", "zeros_and_ones", "mylib.init.foo", "nn.Linear"]  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_no_other_distribution_is_offered_for_a_name_that_is_near(name: str) -> None:
    message = rule_error(name)
    assert "did you mean" not in message and "write" not in message and "known: " in message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("kaimng_normal", "kaiming_normal"),
        ("kaiming_unifrom", "kaiming_uniform"),
        ("xavier_norm", "xavier_normal"),
        ("XavierNormal", "xavier_normal"),
        ("xavieruniform", "xavier_uniform"),
        ("nomal", "normal"),
        ("ortho", "orthogonal"),
        ("trunc_norm", "trunc_normal"),
        ("TruncNormals", "trunc_normal"),
        ("constnat", "constant"),
        ("Lecun_Normal", "lecun_normal"),
    ],
)
def test_a_misspelt_name_of_ours_is_found(name: str, meant: str) -> None:
    assert meant in rule_error(name)


def test_a_misspelt_name_of_others_is_answered_as_they_mean_it() -> None:
    assert "variance_scaling scale=2" in rule_error("he_norml")
    assert "write xavier_uniform, Keras's and JAX's glorot_uniform" in rule_error("glorut_uniform")


class Habit(NamedTuple):
    """A way of writing an initializer, what the message has, what it offers, and the law that this has."""

    written: Any
    has: str
    here: Any = None
    law: Formula | None = None


HABITS = [
    # calls
    Habit("normal(0, 0.02)", "write normal mean=0 std=0.02", "normal mean=0 std=0.02", normal(0.02)),
    Habit("normal_(std=0.02)", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit("normal(0.02)", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit(
        "nn.init.normal_(m.weight, 0.1, 0.02)",
        "write normal mean=0.1 std=0.02",
        "normal mean=0.1 std=0.02",
        normal(0.02, 0.1),
    ),
    Habit("torch.nn.init.normal_(self.fc.weight, std=.02)", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit("torch.nn.init.zeros_(m.bias)", "write zeros", "zeros", ZERO),
    Habit("init.constant_(m.bias, 0.5)", "write constant 0.5", "constant 0.5", constant(0.5)),
    Habit("nn.init.uniform_(w, -0.1, 0.1)", "write uniform -0.1 0.1", "uniform -0.1 0.1", bounded(0.1)),
    Habit("nn.init.uniform_(w, a=-0.1, b=0.1)", "write uniform -0.1 0.1", "uniform -0.1 0.1", bounded(0.1)),
    Habit("uniform(-0.1, 0.1)", "write uniform -0.1 0.1", "uniform -0.1 0.1", bounded(0.1)),
    Habit(
        "kaiming_normal_(mode='fan_out')",
        "write kaiming_normal fan_out",
        "kaiming_normal fan_out",
        normal(math.sqrt(2 / OUT)),
    ),
    Habit(
        "kaiming_normal_(m.weight, mode='fan_out', nonlinearity='relu')",
        "write kaiming_normal fan_out relu",
        "kaiming_normal fan_out relu",
        normal(math.sqrt(2 / OUT)),
    ),
    Habit(
        "kaiming_uniform_(w, a=math.sqrt(5))",
        "write kaiming_uniform a=sqrt(5)",
        "kaiming_uniform a=sqrt(5)",
        bounded(1 / math.sqrt(IN)),
    ),
    Habit(
        "kaiming_uniform_ a=math.sqrt(5)",
        "write kaiming_uniform a=sqrt(5)",
        "kaiming_uniform a=sqrt(5)",
        bounded(1 / math.sqrt(IN)),
    ),
    Habit(
        "xavier_uniform_(w, gain=0.5)",
        "write xavier_uniform 0.5",
        "xavier_uniform 0.5",
        bounded(0.5 * math.sqrt(6 / (IN + OUT))),
    ),
    Habit(
        "trunc_normal_(std=.02, a=-0.04, b=0.04)",
        "write trunc_normal std=0.02 low=-0.04 high=0.04",
        "trunc_normal std=0.02 low=-0.04 high=0.04",
        cut(0.02),
    ),
    Habit(
        "trunc_normal_(w, 0., .5)",
        "write trunc_normal std=0.5 low=-2 high=2",
        "trunc_normal std=0.5 low=-2 high=2",
        cut(0.5, 4.0),
    ),
    Habit("orthogonal_(gain=sqrt(2))", "write orthogonal sqrt(2)", "orthogonal sqrt(2)"),
    Habit("tf.keras.initializers.RandomNormal(stddev=0.02)", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit(
        "keras.initializers.RandomUniform(minval=-0.1, maxval=0.1)",
        "write uniform -0.1 0.1",
        "uniform -0.1 0.1",
        bounded(0.1),
    ),
    Habit(
        "keras.initializers.TruncatedNormal(mean=0., stddev=0.1)",
        "write trunc_normal std=0.1",
        "trunc_normal std=0.1",
        cut(0.1),
    ),
    Habit(
        "VarianceScaling(2.0, 'fan_out', 'truncated_normal')",
        "write variance_scaling scale=2.0 fan_out",
        "variance_scaling scale=2.0 fan_out",
        corrected(math.sqrt(2 / OUT)),
    ),
    Habit("he_normal()", "write variance_scaling scale=2", "variance_scaling scale=2", corrected(math.sqrt(2 / IN))),
    Habit("HeNormal(seed=3)", "variance_scaling scale=2 for Keras's"),
    Habit("jax.nn.initializers.normal(0.02)", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit(
        "jax.nn.initializers.truncated_normal(stddev=0.02)",
        "write trunc_normal std=0.02",
        "trunc_normal std=0.02",
        cut(0.02),
    ),
    Habit(
        "jax.nn.initializers.he_normal()",
        "write variance_scaling scale=2",
        "variance_scaling scale=2",
        corrected(math.sqrt(2 / IN)),
    ),
    Habit(
        "nn.initializers.xavier_uniform()", "write xavier_uniform", "xavier_uniform", bounded(math.sqrt(6 / (IN + OUT)))
    ),
    Habit("lasagne.init.Normal(0.1)", "write normal std=0.1", "normal std=0.1", normal(0.1)),
    Habit("mx.init.Normal(sigma=0.02)", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit("normal(foo=3)", "arguments follow with spaces"),
    Habit("foo(3)", "unknown initializer 'foo' (known: "),
    Habit("0.02 * torch.randn(3, 4)", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit("0.02*randn", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    # signs between arguments
    Habit("normal, std=0.02", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit("normal, 0, 0.02", "write normal mean=0 std=0.02", "normal mean=0 std=0.02", normal(0.02)),
    Habit("normal mean=0, std=0.02", "write normal mean=0 std=0.02", "normal std=0.02", normal(0.02)),
    Habit("uniform -0.1, 0.1", "write uniform -0.1 0.1", "uniform -0.1 0.1", bounded(0.1)),
    Habit("normal std: 0.02", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit("normal: 0, 0.02", "write normal mean=0 std=0.02", "normal std=0.02", normal(0.02)),
    Habit(
        "kaiming_normal, fan_out", "write kaiming_normal fan_out", "kaiming_normal fan_out", normal(math.sqrt(2 / OUT))
    ),
    Habit(
        "kaiming_normal, fan_out, relu",
        "write kaiming_normal fan_out relu",
        "kaiming_normal fan_out relu",
        normal(math.sqrt(2 / OUT)),
    ),
    Habit("normal std='0.02'", "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit('normal std="0.02"', "write normal std=0.02", "normal std=0.02", normal(0.02)),
    Habit(
        "kaiming_normal mode='fan_out'",
        "write kaiming_normal fan_out",
        "kaiming_normal fan_out",
        normal(math.sqrt(2 / OUT)),
    ),
    # numbers that stand alone
    Habit("normal 0.02", "write std=0.02"),
    Habit("normal 0 0.02", "write mean=0 std=0.02", "normal mean=0 std=0.02", normal(0.02)),
    Habit("trunc_normal 0.02", "write std=0.02"),
    Habit("trunc_normal 0 0.02", "write mean=0 std=0.02", "trunc_normal mean=0 std=0.02", cut(0.02)),
    Habit(
        "trunc_normal 0 0.5 -2 2",
        "write mean=0 std=0.5 low=-2 high=2",
        "trunc_normal mean=0 std=0.5 low=-2 high=2",
        cut(0.5, 4.0),
    ),
    Habit("'0.02'", "remove the quotes"),
    Habit({"fn": "normal", "std": "0.02"}, "remove the quotes"),
    Habit({"fn": "normal", "std": "1e-4"}, "remove the quotes"),
    # arguments by other names
    Habit("normal stddev=0.02", "write std, Keras's stddev"),
    Habit("normal sigma=0.02", "write std, MXNet's sigma"),
    Habit("normal loc=0 scale=0.02", "write std, NumPy's scale"),
    Habit("uniform minval=-1 maxval=1", "write low, Keras's minval"),
    Habit("uniform a=0 b=1", "write high, torch's b"),
    Habit("constant val=1", "write value, torch's val"),
    Habit("kaiming_normal negative_slope=0.2", "write a, torch's negative_slope"),
    Habit("xavier_uniform nonlinearity=relu", "write gain, torch's nonlinearity"),
    Habit("prior_bias prior_prob=0.01", "write p, mmengine's prior_prob"),
    Habit("normal seed=3", "a seed is given to apply"),
    Habit("normal std=1 generator=g", "a seed is given to apply"),
    Habit("kaiming_normal bias=0", "a bias has a rule of its own: *.bias: 0"),
    Habit("kaiming_normal layer=Conv2d", "types are selected: match: <Conv2d>.weight"),
    Habit({"fn": "normal", "dtype": "float32"}, "a parameter keeps the dtype that it has"),
    # values by other names
    Habit("kaiming_normal FAN_OUT", "write fan_out", "kaiming_normal fan_out", normal(math.sqrt(2 / OUT))),
    Habit("kaiming_normal fan-out", "write fan_out", "kaiming_normal fan_out", normal(math.sqrt(2 / OUT))),
    Habit("kaiming_normal ReLU", "write relu", "kaiming_normal relu", normal(math.sqrt(2 / IN))),
    Habit("kaiming_normal nn.LeakyReLU", "write leaky_relu", "kaiming_normal leaky_relu", normal(math.sqrt(2 / IN))),
    Habit("kaiming_normal swish", "write silu"),
    Habit(
        "xavier_uniform gain=Tanh", "write tanh", "xavier_uniform gain=tanh", bounded(5 / 3 * math.sqrt(6 / (IN + OUT)))
    ),
    Habit(
        "xavier_uniform gain=calculate_gain('relu')",
        "write relu",
        "xavier_uniform gain=relu",
        bounded(math.sqrt(2) * math.sqrt(6 / (IN + OUT))),
    ),
    Habit(
        "xavier_uniform gain=nn.init.calculate_gain('tanh')",
        "write tanh",
        "xavier_uniform gain=tanh",
        bounded(5 / 3 * math.sqrt(6 / (IN + OUT))),
    ),
    Habit("variance_scaling untruncated_normal", "write normal", "variance_scaling normal", normal(math.sqrt(1 / IN))),
    Habit(
        "variance_scaling mode=FAN_AVG", "write fan_avg", "variance_scaling fan_avg", corrected(math.sqrt(1 / AVERAGE))
    ),
    Habit(
        "variance_scaling mode=average", "write fan_avg", "variance_scaling fan_avg", corrected(math.sqrt(1 / AVERAGE))
    ),
    Habit(
        "kaiming_normal fan_avg",
        "variance_scaling takes fan_avg",
        "variance_scaling scale=2 fan_avg normal",
        normal(math.sqrt(2 / AVERAGE)),
    ),
    Habit(
        {"fn": "kaiming_uniform", "mode": "fan_avg"},
        "variance_scaling takes fan_avg",
        "variance_scaling scale=2 fan_avg distribution=uniform",
        bounded(math.sqrt(6 / AVERAGE)),
    ),
    # mappings
    Habit(
        {"type": "Normal", "std": 0.01}, "write {fn: normal, std: 0.01}", {"fn": "normal", "std": 0.01}, normal(0.01)
    ),
    Habit(
        {"type": "Kaiming", "layer": "Conv2d"},
        "{match: <Conv2d>.weight, init: {fn: kaiming_normal, mode: fan_out, nonlinearity: relu}}",
        {"fn": "kaiming_normal", "mode": "fan_out", "nonlinearity": "relu"},
        normal(math.sqrt(2 / OUT)),
    ),
    Habit(
        {"type": "Xavier", "layer": ["Conv2d", "Linear"]},
        "{match: <Conv2d|Linear>.weight, init: xavier_normal}",
        "xavier_normal",
        normal(math.sqrt(2 / (IN + OUT))),
    ),
    Habit(
        {"type": "Constant", "val": 1, "layer": "BatchNorm2d"},
        "{match: <BatchNorm2d>.weight, init: constant 1}",
        1,
        ONE,
    ),
    Habit(
        {"type": "TruncNormal", "std": 0.5, "bias": 0},
        "write {fn: trunc_normal, low: -2, high: 2, std: 0.5}; a bias has a rule of its own",
        {"fn": "trunc_normal", "low": -2, "high": 2, "std": 0.5},
        cut(0.5, 4.0),
    ),
    Habit(
        {"type": "Caffe2Xavier"},
        "write {fn: kaiming_uniform, a: 1}",
        {"fn": "kaiming_uniform", "a": 1},
        bounded(math.sqrt(3 / IN)),
    ),
    Habit({"type": "Pretrained", "checkpoint": "a.pth"}, "load path=…"),
    Habit({"type": "xavier"}, "lecun_uniform for Caffe's"),
    Habit(
        {"_target_": "torch.nn.init.normal_", "std": 0.02},
        "write {fn: normal, std: 0.02}",
        {"fn": "normal", "std": 0.02},
        normal(0.02),
    ),
    Habit(
        {"_target_": "torch.nn.init.normal_", "mean": 0.1, "_partial_": True},
        "write {fn: normal, mean: 0.1}",
        {"fn": "normal", "mean": 0.1},
        normal(1.0, 0.1),
    ),
    Habit(
        {"_target_": "torch.nn.init.kaiming_normal_", "mode": "fan_out"},
        "write {fn: kaiming_normal, mode: fan_out}",
        {"fn": "kaiming_normal", "mode": "fan_out"},
        normal(math.sqrt(2 / OUT)),
    ),
    Habit(
        {"_target_": "torch.nn.init.trunc_normal_", "std": 0.5},
        "write {fn: trunc_normal, low: -2, high: 2, std: 0.5}",
        {"fn": "trunc_normal", "low": -2, "high": 2, "std": 0.5},
        cut(0.5, 4.0),
    ),
    Habit({"_target_": "torch.nn.init.zeros_"}, "write zeros", "zeros", ZERO),
    Habit(
        {"_target_": "torch.nn.init.uniform_", "_args_": [-0.1, 0.1]},
        "write {fn: uniform, low: -0.1, high: 0.1}",
        {"fn": "uniform", "low": -0.1, "high": 0.1},
        bounded(0.1),
    ),
    Habit({"_target_": "mine.make"}, "write fn instead of _target_"),
    Habit(
        {"fn": "torch.nn.init.normal_", "mean": 0.1},
        "write {fn: normal, mean: 0.1}",
        {"fn": "normal", "mean": 0.1},
        normal(1.0, 0.1),
    ),
    Habit(
        {"fn": "kaiming_normal_", "mode": "fan_out"},
        "write {fn: kaiming_normal, mode: fan_out}",
        {"fn": "kaiming_normal", "mode": "fan_out"},
        normal(math.sqrt(2 / OUT)),
    ),
    Habit(
        {"class_name": "HeNormal", "config": {"seed": 1}},
        "write {fn: variance_scaling, scale: 2}",
        {"fn": "variance_scaling", "scale": 2},
        corrected(math.sqrt(2 / IN)),
    ),
    Habit(
        {"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.1}},
        "write {fn: normal, std: 0.1, mean: 0.0}",
        {"fn": "normal", "std": 0.1},
        normal(0.1),
    ),
    Habit(
        {"name": "normal", "std": 0.02}, "write {fn: normal, std: 0.02}", {"fn": "normal", "std": 0.02}, normal(0.02)
    ),
    Habit({"normal": {"std": 0.02}}, "write {fn: normal, std: 0.02}", {"fn": "normal", "std": 0.02}, normal(0.02)),
    Habit(
        {"he_normal": {}},
        "write {fn: variance_scaling, scale: 2}",
        {"fn": "variance_scaling", "scale": 2},
        corrected(math.sqrt(2 / IN)),
    ),
    Habit({"fn:normal": None}, "a space follows the colon: {fn: normal}"),
    Habit({"fn": "kaiming_normal fan_out"}, "fn holds the name alone"),
    # lists
    Habit(["normal", 0, 0.02], "write normal mean=0 std=0.02", "normal mean=0 std=0.02", normal(0.02)),
    Habit(["uniform", -0.1, 0.1], "write uniform -0.1 0.1", "uniform -0.1 0.1", bounded(0.1)),
    Habit(["kaiming_normal"], "write kaiming_normal", "kaiming_normal", normal(math.sqrt(2 / IN))),
    Habit(["a", 1], "got a list"),
]


@pytest.mark.parametrize("habit", HABITS, ids=[repr(habit.written)[:60] for habit in HABITS])
def test_a_habit_is_answered(habit: Habit) -> None:
    message = rule_error(habit.written)
    assert habit.has in message
    if habit.here is not None and habit.law is not None:
        assert_is(habit.here, habit.law)
    elif habit.here is not None:
        initplug.load({"rules": {"w*": habit.here}})


def test_what_a_hint_writes_as_a_text_is_what_was_compared() -> None:
    shown = [habit for habit in HABITS if isinstance(habit.here, str) and habit.has == f"write {habit.here}"]
    assert len(shown) > 25
    for habit in shown:
        said = re.search(r"\(write ([^;()]*(?:\([^()]*\))?[^;()]*)\)$", rule_error(habit.written))
        assert said is not None, habit.written
        if habit.law is not None:
            assert_is(said[1], habit.law)


# Selectors: what a regular expression finds is what the glob takes.

NAMES = ["conv1.weight", "conv1.bias", "conv2.weight", "bn1.weight", "bn1.bias", "fc.weight", "fc.bias",
         "layer1.0.conv1.weight", "layer1.0.bn1.bias", "layer1.1.conv2.weight", "layers.0.mlp.up_proj.weight",
         "layers.11.mlp.down_proj.weight", "layers.0.attn.q_proj.weight", "layers.0.attn.k_proj.bias",
         "blocks.0.norm.weight", "blocks.12.norm.bias"]  # fmt: skip

EXPRESSIONS = [
    (r".*\.bias", "*.bias"),
    (r".*\.bias$", "*.bias"),
    (r"^.*\.bias$", "*.bias"),
    (r"\.bias$", "bias"),
    (r".*bias", "*bias"),
    (r"^conv[0-9]+\.weight$", "^conv[0-9]*.weight"),
    (r"^conv\d+\.weight", "^conv[0-9]*.weight"),
    (r"conv\d\.weight", "conv[0-9].weight"),
    (r"^layer1\..*\.weight$", "^layer1.**.weight"),
    (r"layers\.\d+\.mlp\.(up|down)_proj\.weight", "layers.[0-9]*.mlp.(up|down)_proj.weight"),
    (r"(?:q|k)_proj\.(weight|bias)", "(q|k)_proj.(weight|bias)"),
    (r"^blocks\.[0-9]+\.norm", "^blocks.[0-9]*.norm"),
    (r"^blocks\.[^.]+\.norm\.bias$", "^blocks.*.norm.bias"),
    (r"^fc[.]bias$", "^fc.bias"),
    (r"re:.*\.bias", "*.bias"),
    (r"conv.*weight$", "conv*.**.*weight"),
    (r"^layers\..+weight$", "^layers.**.*weight"),
]


def taken(selector: str) -> list[str]:
    """The names that a selector takes, by types of nothing."""
    matcher = Matcher([parse(selector)])
    found = []
    for name in NAMES:
        state = matcher.root(None)
        for step in name.split("."):
            state = matcher.step(state, step, None)
        if state.hits:
            found.append(name)
    return found


@pytest.mark.parametrize(("expression", "glob"), EXPRESSIONS)
def test_a_regular_expression_is_answered_with_the_glob_that_takes_the_same(expression: str, glob: str) -> None:
    meant = selector_meant(expression)
    assert meant is not None and meant.selectors == (glob,)
    found = [name for name in NAMES if re.search(expression.removeprefix("re:"), name)]
    assert found
    assert taken(glob) == found


SELECTORS = [
    ("Conv2d", "<Conv2d>"),
    ("Conv2d.weight", "<Conv2d>.weight"),
    ("nn.Conv2d", "<Conv2d>"),
    ("torch.nn.Conv2d.weight", "<Conv2d>.weight"),
    ("isinstance(m, nn.Conv2d)", "<Conv2d>"),
    ("isinstance(m, (nn.Conv2d, nn.Linear))", "<Conv2d|Linear>"),
    ("type(m) == nn.Linear", "<Linear>"),
    ("[Conv2d].weight", "<Conv2d>.weight"),
    ("<Conv2d.weight", "<Conv2d>.weight"),
    ("Conv2d>.weight", "<Conv2d>.weight"),
    ("<Conv2d, Linear>.weight", "<Conv2d|Linear>.weight"),
    ("<Conv2d|Linear>weight", "<Conv2d|Linear>.weight"),
    ("<nn.Conv2d>.weight", "<Conv2d>.weight"),
    ("conv1,conv2", "(conv1|conv2)"),
    ("conv1.weight, conv2.weight", "(conv1|conv2).weight"),
    ("conv1.weight | conv2.weight", "(conv1|conv2).weight"),
    ("conv|bn", "(conv|bn)"),
    ("conv.{weight,bias}", "conv.(weight|bias)"),
    ("blocks[0]", "blocks.0"),
    ("blocks[0].norm.weight", "blocks.0.norm.weight"),
    ("blocks[-1]", "blocks.-1"),
    ("blocks[:2]", "blocks.[0-1]"),
    ("blocks[1:4].weight", "blocks.[1-3].weight"),
    ("blocks[:]", "blocks.*"),
    ("!*.bias", "*.bias"),
    ("not *.bias", "*.bias"),
    ("~*.bias", "*.bias"),
    ("'*.bias'", "*.bias"),
    (" *.bias", "*.bias"),
    ("layers/0/kernel", "layers.0.weight"),
    ("encoder->fc", "encoder.fc"),
    ("encoder/bn/gamma", "encoder.bn.weight"),
    ("fc.kernel", "fc.weight"),
    ("self.fc", "fc"),
    ("model.fc.weight", "fc.weight"),
    ("_orig_mod.fc", "fc"),
    ("**bias", "*bias"),
    ("conv**", "conv*"),
]


@pytest.mark.parametrize(("written", "here"), SELECTORS)
def test_a_selector_of_another_habit_is_answered(written: str, here: str) -> None:
    meant = selector_meant(written)
    assert meant is not None and meant.selectors == (here,)
    parse(here)


def test_selectors_with_nothing_in_common_are_a_list() -> None:
    meant = selector_meant("conv1.weight, fc.bias")
    assert meant is not None and meant.hint.endswith(": [conv1.weight, fc.bias]")


@pytest.mark.parametrize(
    "selector",
    ["*.bias", "conv*.weight", "<Conv2d>.weight", "layer1.**.bias", "^fc.weight", "(wq|wk).weight", "h.*.attn",
     "<_ConvNd>.weight", "conv*<Conv2d>.weight", "blocks.-1", "*norm*", "conv[12].weight", "**.scale", "*.gamma"],
)  # fmt: skip
def test_a_good_selector_means_itself(selector: str) -> None:
    meant = selector_meant(selector)
    assert meant is None or (selector, meant.selectors) == ("conv[12].weight", ("conv.12.weight",))


@pytest.mark.parametrize("selector", [written for written, _ in SELECTORS] + [written for written, _ in EXPRESSIONS])
def test_a_selector_that_cannot_be_read_comes_with_what_was_meant(selector: str) -> None:
    meant = selector_meant(selector)
    assert meant is not None
    try:
        parse(selector)
    except ValueError:
        message = recipe_error({"rules": {"x": {"match": selector, "init": 0}}})
        assert f"({meant.hint})" in message


# Recipes as texts.

TEXTS = [
    ("rules:\n  *.bias:0\n", "a space follows the colon: *.bias: 0"),
    ("rules:\n  *.bias:0\n  a*: 1\n", "in line 2 a space follows the colon: *.bias: 0"),
    ("rules:\n  a*: 1\n  *.bias:0\n", "in line 3 a space follows the colon: *.bias: 0"),
    ("rules:\n  *.bias = 0\n", "a space follows the colon: *.bias: 0"),
    ("rules:\n  *.bias=0\n", "a space follows the colon: *.bias: 0"),
    ("rules:\n  x: {match: a*, init:0}\n", "a space follows the colon: init: 0"),
    ("rules:\n  x: {match:a*, init: 0}\n", "a space follows the colon: match: a*"),
    ("rules:\n  a*: {fn:normal}\n", "a space follows the colon: {fn: normal}"),
    ("rules:\n  - match: a*\n    init: 0\n", "each rule has a name: {conv: {match: conv*, init: …}}"),
    ("*.bias: 0\n", "rules stand below the key rules"),
    ("rules:\n  Conv2d: kaiming_normal\n", "<Conv2d>.weight: kaiming_normal by type"),
    ("rules:\n  bias: zeros\n", "*.bias: zeros by name"),
    ("rules:\n  weight: ones\n", "*.weight: ones by name"),
    ("rules:\n  conv: {type: Kaiming, layer: Conv2d}\n", "write {match: <Conv2d>.weight, init: {fn: kaiming_normal"),
    ("rules:\n  x: {pattern: a*, init: 0}\n", "write match instead of pattern"),
    ("rules:\n  x: {regex: a*, init: 0}\n", "write match instead of regex"),
    ("rules:\n  x: {match: a*, fn: normal}\n", "write init instead of fn"),
    ("rules:\n  x: {match: a*, initializer: normal}\n", "write init instead of initializer"),
    ("rules:\n  x: {match: a*, init: 0, skip: b}\n", "write except instead of skip"),
    ("rules:\n  x: {match: a*, init: 0, requires_grad: true}\n", "write trainable instead of requires_grad"),
    ("rules: {}\nunmatched: ignore\n", "write keep"),
    ("rules: {}\nunmatched: raise\n", "write error"),
    ("rules: {}\nunused: silent\n", "write ignore"),
]


@pytest.mark.parametrize(("text", "has"), TEXTS)
def test_a_text_of_another_habit_is_answered(text: str, has: str) -> None:
    assert has in recipe_error(text)


@pytest.mark.parametrize(
    ("line", "here"),
    [("*.bias:0", "*.bias: 0"), ("*.bias = 0", "*.bias: 0"), ("a: b", None), ("conv", None), ("http://x", "http: //x")],
)
def test_a_line_without_a_space_is_told_from_others(line: str, here: str | None) -> None:
    assert spaced(line) == here


# Presets.


@pytest.mark.parametrize(
    ("word", "first"),
    [
        ("gpt2", "transformers_gpt2"),
        ("bert", "transformers_modernbert"),
        ("llama", "torchtitan_llama"),
        ("vit", "timm_vit"),
        ("ViT", "timm_vit"),
        ("resnet", "timm_resnet"),
        ("resnet50", "timm_resnet"),
        ("gpt", "nanogpt"),
        ("t5", "transformers_t5"),
        ("roberta", "transformers_base"),
        ("mistral", "transformers_base"),
        ("diffusion", "guided_diffusion"),
        ("gan", "dcgan"),
    ],
)
def test_a_preset_that_there_is_not_is_answered_with_those_for_such_models(word: str, first: str) -> None:
    message = recipe_error(word)
    assert f"there is no preset and no file called '{word}' (presets for it: " in message
    for name in re.findall(r"[\w]+", message.partition("presets for it: ")[2].partition(", …")[0]):
        initplug.load(name)
    assert first in message


def test_a_preset_is_offered_for_a_misspelt_name_alone() -> None:
    assert recipe_error("resnxt").endswith("(did you mean resnext?)")
    assert recipe_error("rnn").endswith("(`initplug presets` lists what there is)")
    assert recipe_error("kaiming_normal").endswith(
        "(it is an initializer, which a rule of a recipe gives: conv*: kaiming_normal)"
    )
    assert "presets for it: transformers_gpt2" in recipe_error("defaults: [gpt2]\nrules: {}\n")


def test_words_of_others_are_ours_only_where_an_argument_has_them() -> None:
    assert word_meant("swish", ["relu", "silu"]) == "silu"
    assert word_meant("swish", ["relu"]) is None
    assert word_meant("fan_sum", ["fan_in", "fan_out"]) is None


def test_a_hundred_and_fifty_habits_are_answered() -> None:
    habits = [*(repr(habit.written) for habit in HABITS), *(one for one, _ in (*EXPRESSIONS, *SELECTORS, *TEXTS))]
    assert len({*habits}) >= 150


def test_a_name_in_an_unknown_package_is_of_no_library() -> None:
    assert meanings("mylib.HeNormal") == []
    assert "known: " in rule_error("mylib.HeNormal")
    assert rule_error("mylib.normal").endswith("(write normal)")
