"""Plan and apply on models of seven libraries: every parameter accounted for, nothing lost, everything still runs.

A recipe that knows no name of any model goes by type and number of dimensions. `torch_default` is compared with closed
forms of what the resets of torch/nn/modules draw, written here from their sources with nothing of initplug's.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
import torch
from nets import filled
from scipy import stats
from third_party import LIBRARIES, SLOW, THIRD_PARTY, ThirdParty
from torch import Tensor, nn

import initplug

pytestmark = pytest.mark.filterwarnings("ignore:.* one value throughout")  # models are erased by one

SEED = 0
FILL = 7.0  # nothing here draws it, so an element that nobody wrote cannot pass for one
FORMULA = 1e-12  # relative: both sides compute one square root in double precision


def parametrize(names: Iterable[str]) -> pytest.MarkDecorator:
    """A test for each of these models; slow ones are left to `make conformance`."""
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=[pytest.mark.large] * (name in SLOW)) for name in names]
    )


MODELS = parametrize(THIRD_PARTY)


def test_seven_libraries_are_among_them_and_the_preset_says_how_many_models() -> None:
    assert set(LIBRARIES) == {"transformers", "torchvision", "timm", "pytorchcv", "diffusers", "monai", "smp"}
    assert min(len(cases) for cases in LIBRARIES.values()) >= 6
    assert len(THIRD_PARTY) == sum(len(cases) for cases in LIBRARIES.values()) >= 45
    assert f"{len(THIRD_PARTY)} models of transformers" in str(initplug.load("torch_default").proven_on)


# A recipe without names ---------------------------------------------------------------------------------------

NAMELESS = {
    "frozen": "write",  # as a few libraries construct their tables and codebooks
    "unused": "ignore",
    "rules": {
        "vectors": {"match": "*", "init": 0},
        "tensors": {"match": "*", "ndim": ">=2", "init": {"fn": "normal", "std": 0.02}},
        "weights": {"match": "<_ConvNd|Linear>.weight", "init": {"fn": "kaiming_normal", "mode": "fan_in"}},
        "scales": {"match": "<*Norm*>.weight", "init": 1},
    },
}

EVERYTHING = {"defaults": ["torch_default_strict"], "frozen": "write"}
"""What construction draws, also of what it freezes."""

Places = dict[str, list[tuple[str, nn.Module, str]]]
"""First name of a parameter -> name, owner and attribute of every place that holds it."""


def places_of(model: nn.Module) -> Places:
    """Every parameter once, with all its places, in the order of `named_parameters()`."""
    groups: dict[int, list[tuple[str, nn.Module, str]]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for leaf, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{path}.{leaf}" if path else leaf
            groups.setdefault(id(parameter), []).append((name, module, leaf))
    return {group[0][0]: group for group in groups.values()}


def classes(module: nn.Module) -> list[str]:
    """Names of a module's class and of its bases."""
    return [base.__name__ for base in type(module).__mro__]


def nameless(tensor: Tensor, places: list[tuple[str, nn.Module, str]]) -> tuple[str, float, float]:
    """Rule, mean and std that `NAMELESS` means, from what the owners are; a tie counts by any of its places."""
    owners = [classes(module) for _, module, leaf in places if leaf == "weight"]
    if any("Norm" in name for names in owners for name in names):
        return "scales", 1.0, 0.0
    if any(name in ("_ConvNd", "Linear") for names in owners for name in names):
        return "weights", 0.0, math.sqrt(2 / tensor[0].numel())
    return ("tensors", 0.0, 0.02) if tensor.dim() >= 2 else ("vectors", 0.0, 0.0)


class Snapshot:
    """What filling parameters must not change in a model."""

    def __init__(self, model: nn.Module) -> None:
        self.keys = list(model.state_dict())
        self.parameters = dict(model.named_parameters(remove_duplicate=False))
        self.buffers = {name: tensor.clone() for name, tensor in model.named_buffers(remove_duplicate=False)}

    def assert_unchanged(self, model: nn.Module) -> None:
        """The same keys, the very parameters, tied as they were, and buffers of the same bits."""
        assert list(model.state_dict()) == self.keys
        parameters = dict(model.named_parameters(remove_duplicate=False))
        assert list(parameters) == list(self.parameters)
        assert [name for name, held in parameters.items() if held is not self.parameters[name]] == []
        buffers = dict(model.named_buffers(remove_duplicate=False))
        assert list(buffers) == list(self.buffers)
        assert [name for name, held in buffers.items() if not torch.equal(held, self.buffers[name])] == []


def tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a model returns."""
    if isinstance(output, Tensor) and output.is_floating_point():
        yield output
    elif isinstance(output, Mapping):
        yield from tensors(list(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from tensors(part)


def assert_runs(case: ThirdParty, model: nn.Module) -> None:
    """The model takes an example and gives finite numbers."""
    torch.manual_seed(SEED)
    with torch.no_grad():
        results = list(tensors(case.run(model.eval())))
    assert results
    assert all(bool(torch.isfinite(result).all()) for result in results)


@MODELS
def test_recipe_without_names_fills_every_parameter_and_nothing_else(name: str) -> None:
    torch.manual_seed(SEED)
    model = filled(THIRD_PARTY[name].build(), FILL)
    before, places = Snapshot(model), places_of(model)

    plan = initplug.plan(model, NAMELESS)
    groups = [[name for name, _, _ in group] for group in places.values()]
    assert [[row.name, *row.aliases] for row in plan] == groups
    assert sorted(name for group in groups for name in group) == sorted(before.parameters)
    for row in plan:
        rule, mean, std = nameless(model.get_parameter(row.name), places[row.name])
        assert (row.rule, row.mean) == (rule, mean), row.name
        assert row.std is not None
        assert math.isclose(row.std, std, rel_tol=FORMULA), row.name

    audit = initplug.apply(model, plan)
    assert {row.status for row in audit} == {"initialized"}
    assert {row.verdict for row in audit} == {"ok"}
    assert audit.problems() == []
    assert [name for name, held in model.named_parameters() if (held == FILL).any()] == []
    before.assert_unchanged(model)
    assert_runs(THIRD_PARTY[name], model)


# torch_default -----------------------------------------------------------------------------------------------

Law = tuple[float, float, float | None, float | None]
"""Mean, std, lowest and highest value."""


def uniform(bound: float) -> Law:
    """U(-bound, bound)."""
    return 0.0, bound / math.sqrt(3), -bound, bound


def constant(value: float) -> Law:
    """One value."""
    return value, 0.0, value, value


def normal(std: float) -> Law:
    """N(0, std)."""
    return 0.0, std, None, None


def truncated(std: float) -> Law:
    """N(0, std) in ±2, as timm's trunc_normal_ draws it unless told otherwise."""
    law = stats.truncnorm(-2 / std, 2 / std, scale=std)
    return 0.0, float(law.std()), -2.0, 2.0


def fan_in(weight: Tensor) -> Law:
    """Kaiming's uniform rule with a = √5, and that of the bias beside it."""
    return uniform(1 / math.sqrt(weight[0].numel()))


def of_recurrent(module: nn.RNNBase) -> dict[str, Law]:
    """Every matrix and bias of a recurrent layer alike."""
    return dict.fromkeys(dict(module.named_parameters()), uniform(1 / math.sqrt(module.hidden_size)))


def of_attention(module: nn.MultiheadAttention) -> dict[str, Law]:
    """Xavier's rule, the packed projections counted as one matrix; zero biases, that of the child `out_proj` too."""
    laws = {"in_proj_bias": constant(0), "out_proj.bias": constant(0)}
    for leaf, tensor in module.named_parameters(recurse=False):
        if leaf.endswith("weight"):
            laws[leaf] = uniform(math.sqrt(6 / sum(tensor.shape)))
    return laws


def of_scaled_convolution(module: nn.Conv2d) -> dict[str, Law]:
    """timm/layers/std_conv.py: a convolution's own reset, and a gain that begins at what its constructor was told."""
    gain = module.gain_init
    assert isinstance(gain, int | float)
    return {**dict.fromkeys(("weight", "bias"), fan_in(module.weight)), "gain": constant(gain)}


RESETS: dict[str, Callable[[Any], Mapping[str, Law | None]]] = {
    "torch.nn.modules.linear.Linear": lambda module: dict.fromkeys(("weight", "bias"), fan_in(module.weight)),
    "torch.nn.modules.conv._ConvNd": lambda module: dict.fromkeys(("weight", "bias"), fan_in(module.weight)),
    "torch.nn.modules.sparse.Embedding": lambda module: {"weight": normal(1)},
    "torch.nn.modules.batchnorm._NormBase": lambda module: {"weight": constant(1), "bias": constant(0)},
    "torch.nn.modules.normalization.LayerNorm": lambda module: {"weight": constant(1), "bias": constant(0)},
    "torch.nn.modules.normalization.GroupNorm": lambda module: {"weight": constant(1), "bias": constant(0)},
    "torch.nn.modules.normalization.RMSNorm": lambda module: {"weight": constant(1)},
    "torch.nn.modules.activation.PReLU": lambda module: {"weight": constant(0.25)},
    "torch.nn.modules.rnn.RNNBase": of_recurrent,
    "torch.nn.modules.activation.MultiheadAttention": of_attention,
    # resets that timm gives its own modules
    "timm.layers.std_conv.ScaledStdConv2d": of_scaled_convolution,
    "timm.models.beit.Attention": lambda module: dict.fromkeys(
        ("q_bias", "v_bias", "relative_position_bias_table"), constant(0)
    ),
    "timm.models.beit.Block": lambda module: dict.fromkeys(("gamma_1", "gamma_2"), constant(module.init_values)),
    "timm.models.swin_transformer.WindowAttention": lambda module: {"relative_position_bias_table": truncated(0.02)},
    "timm.models.swin_transformer.SwinTransformerBlock": lambda module: {},  # it fills buffers only
    "timm.layers.bottleneck_attn.PosEmbedRel": lambda module: dict.fromkeys(
        ("height_rel", "width_rel"), normal(module.scale)
    ),
    "timm.layers.bottleneck_attn.BottleneckAttn": lambda module: {
        "qkv.weight": truncated(module.qkv.weight.shape[1] ** -0.5),
        **dict.fromkeys(("pos_embed.height_rel", "pos_embed.width_rel"), truncated(module.scale)),
    },
}
"""What the reset that a class defines leaves, by name below the module, for every such class among the models."""


def resetting(module: nn.Module) -> str | None:
    """The class, a module's own or a base, that defines its `reset_parameters` or `_reset_parameters`."""
    for base in type(module).__mro__:
        if "reset_parameters" in vars(base) or "_reset_parameters" in vars(base):
            return f"{base.__module__}.{base.__qualname__}"
    return None


def constructed(model: nn.Module) -> dict[str, Law | None]:
    """First name -> law, None where no reset writes; a module's reset comes after those of the modules inside it."""
    laws: dict[str, Law | None] = {}
    for path, module in reversed(list(model.named_modules())):
        base = resetting(module)
        if base is not None:
            laws |= {f"{path}.{leaf}" if path else leaf: law for leaf, law in RESETS[base](module).items()}
    return {name: laws.get(name) for name, _ in model.named_parameters()}


def refused(model: nn.Module) -> list[str]:
    """The parameters that `torch_default_strict` has no distribution for."""
    try:
        initplug.plan(model, EVERYTHING)
    except initplug.PlanError as error:
        return [finding.path for finding in error.findings]
    return []


def owner_of(model: nn.Module, name: str) -> nn.Module:
    """The module that holds a parameter."""
    return model.get_submodule(name.rpartition(".")[0])


def close(found: float | None, expected: float | None) -> bool:
    """Equal to the rounding of one formula."""
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=FORMULA)


@MODELS
def test_torch_default_plans_what_construction_draws_and_names_the_rest(name: str) -> None:
    torch.manual_seed(SEED)
    model = THIRD_PARTY[name].build()
    laws = constructed(model)
    left = refused(model)
    assert left == [slot for slot, law in laws.items() if law is None]
    of_torch = [slot for slot in left if type(owner_of(model, slot)).__module__.startswith("torch.nn")]
    assert of_torch == []

    recipe: Any = EVERYTHING
    if left:
        rule = {"match": [f"^{slot}" for slot in left], "init": "keep"}
        recipe = {"defaults": ["torch_default_strict"], "frozen": "write", "rules": {"left": rule}}
    plan = initplug.plan(model, recipe)
    assert [row.name for row in plan] == list(laws)
    assert [row.name for row in plan if row.init == "keep"] == left
    for row in plan:
        law = laws[row.name]
        if law is not None:
            found = (row.mean, row.std, row.low, row.high)
            assert all(close(*pair) for pair in zip(found, law, strict=True)), (row.name, found, law)

    before = Snapshot(model)
    kept = {slot: model.get_parameter(slot).clone() for slot in left}
    for slot, parameter in model.named_parameters():
        if slot not in kept:
            nn.init.constant_(parameter, FILL)
    audit = initplug.apply(model, plan)
    assert [row.name for row in audit if row.status == "kept"] == left
    assert {row.status for row in audit} <= {"initialized", "kept"}
    assert {row.verdict for row in audit if row.status == "initialized"} == {"ok"}
    assert audit.problems() == []
    assert [slot for slot, value in kept.items() if not torch.equal(model.get_parameter(slot), value)] == []
    assert [slot for slot, held in model.named_parameters() if slot not in kept and (held == FILL).any()] == []
    before.assert_unchanged(model)
    assert_runs(THIRD_PARTY[name], model)


# Values as constructed ---------------------------------------------------------------------------------------

PLAIN = [name for name, case in THIRD_PARTY.items() if case.plain]


@parametrize(PLAIN)
def test_values_of_models_that_draw_nothing_again_are_torch_defaults(name: str) -> None:
    torch.manual_seed(SEED)
    model = THIRD_PARTY[name].build()
    audit = initplug.audit(model, EVERYTHING)
    assert {row.status for row in audit} == {"read"}
    assert {row.verdict for row in audit} == {"ok"}
    assert audit.problems() == []


# what each library's own code draws or zeroes after torch has
AGAIN: dict[str, Callable[[str, nn.Module], bool]] = {
    "torchvision-densenet": lambda name, owner: isinstance(owner, nn.Conv2d) or name == "classifier.bias",
    "diffusers-controlnet": lambda name, _: name.startswith(
        ("controlnet_down_blocks.", "controlnet_mid_block.", "controlnet_cond_embedding.conv_out.")
    ),
    "diffusers-vq": lambda name, _: name == "quantize.embedding.weight",
}


@parametrize(AGAIN)
def test_values_that_a_library_writes_again_are_told_apart(name: str) -> None:
    torch.manual_seed(SEED)
    model = THIRD_PARTY[name].build()
    audit = initplug.audit(model, "torch_default")
    again = [slot for slot, _ in model.named_parameters() if AGAIN[name](slot, owner_of(model, slot))]
    assert again
    assert [row.name for row in audit.problems()] == again
    assert {row.verdict for row in audit} == {"ok", "differs"}
