"""`torch_default` against construction: what torch.nn draws for itself, drawn again.

Where a constructor draws each tensor once, in the order of `named_parameters()`, the recipe gives its very bits under
the same seed. Where it draws a tensor twice, copies a layer or draws a child's before its own, the bits cannot agree
and the planned distributions are compared with many constructions instead.
"""

import math
from collections.abc import Callable

import pytest
import torch
from libraries import load_example
from torch import Tensor, nn

import initplug

SEED = 0
FILL = 7.0  # no module here is constructed with it to 8, so a slot that nobody wrote cannot pass for equal
FORMULA = 1e-12  # relative: both sides compute one square root in double precision
CONSTRUCTIONS = 24  # samples of every slot
STANDARD_ERRORS = 6  # what a mean or a std may be off by, as the audit's own verdict
TAIL = 30  # U(-b, b) leaves (1 - TAIL/n)b to b empty of |x| with probability under e^-TAIL

resnext29: Callable[..., nn.Module] = load_example("resnext").resnext29


class LanguageModel(nn.Module):
    """Embedding, LSTM and decoder, registered in the order in which they are built."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(101, 16, padding_idx=3)
        self.rnn = nn.LSTM(16, 24, num_layers=2, bidirectional=True, proj_size=12)
        self.decoder = nn.Linear(24, 101)


def cnn() -> nn.Module:
    """Convolutions with and without bias, plain, grouped and transposed, norms with and without scale, a head."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.PReLU(),
        nn.Conv2d(16, 32, 3, groups=4, bias=False),
        nn.GroupNorm(4, 32),
        nn.ConvTranspose2d(32, 16, 2),
        nn.BatchNorm2d(16, affine=False),
        nn.InstanceNorm2d(16, affine=True),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


# every constructor draws in the order of named_parameters(), each tensor once
IN_ORDER: dict[str, Callable[[], nn.Module]] = {
    "cnn": cnn,
    "lstm language model": LanguageModel,
    "linear": lambda: nn.Linear(5, 7),
    "linear without bias": lambda: nn.Linear(5, 7, bias=False),
    "embedding": lambda: nn.Embedding(50, 8),
    "embedding with padding": lambda: nn.Embedding(50, 8, padding_idx=-1),
    "embedding bag": lambda: nn.EmbeddingBag(50, 8, padding_idx=0),
    "conv1d": lambda: nn.Conv1d(4, 6, 3, groups=2),
    "conv3d": lambda: nn.Conv3d(2, 4, 3),
    "conv_transpose1d": lambda: nn.ConvTranspose1d(4, 6, 3),
    "conv_transpose3d": lambda: nn.ConvTranspose3d(4, 6, 2, groups=2),
    "bilinear": lambda: nn.Bilinear(4, 5, 6),
    "gru": lambda: nn.GRU(6, 10, num_layers=2),
    "rnn without bias": lambda: nn.RNN(6, 10, bias=False),
    "cells": lambda: nn.ModuleList([nn.RNNCell(6, 10), nn.LSTMCell(6, 10), nn.GRUCell(6, 10)]),
    "batch norms": lambda: nn.ModuleList([nn.BatchNorm1d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4)]),
    "instance norms": lambda: nn.ModuleList([nn.InstanceNorm1d(4, affine=True), nn.InstanceNorm3d(4, affine=True)]),
    "layer norms": lambda: nn.ModuleList([nn.LayerNorm(8), nn.RMSNorm(8), nn.LayerNorm(8, bias=False)]),
    "adaptive softmax": lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 100, [10, 50], head_bias=True),
}


def erase(model: nn.Module) -> None:
    for place, parameter in enumerate(model.parameters(), 2):  # each its own, or modules would be copies of each other
        parameter.data.copy_(torch.linspace(FILL, FILL + 1 - 1 / place, parameter.numel()).view_as(parameter))


def assert_bits_of_construction(build: Callable[[], nn.Module]) -> None:
    """`torch_default` gives what `build` gives under the same seed, and leaves the generator where it does."""
    torch.manual_seed(SEED)
    reference = build()
    state = torch.random.get_rng_state()
    model = build()
    erase(model)

    torch.manual_seed(SEED)
    audit = initplug.apply(model, "torch_default")

    expected, result = dict(reference.named_parameters()), dict(model.named_parameters())
    assert list(result) == list(expected) == [row.name for row in audit]
    assert [name for name in result if not torch.equal(result[name], expected[name])] == []
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {row.status for row in audit} == {"initialized"}
    assert not audit.problems()


@pytest.mark.parametrize("build", IN_ORDER.values(), ids=IN_ORDER)
def test_bits_of_construction_where_it_draws_in_order(build: Callable[[], nn.Module]) -> None:
    assert_bits_of_construction(build)


def test_bits_of_construction_of_resnext29() -> None:
    assert_bits_of_construction(resnext29)
    assert_bits_of_construction(lambda: resnext29(cardinality=2, base_width=4))


def test_padding_rows_are_zero() -> None:
    model = nn.Embedding(50, 8, padding_idx=3)
    erase(model)
    initplug.apply(model, "torch_default")
    assert not model.weight[3].any()
    assert bool(model.weight[torch.arange(50) != 3].all())


def attention() -> nn.Module:
    """Packed projections: drawn after the child `out_proj`, which `named_parameters()` lists last."""
    return nn.MultiheadAttention(24, 2)


def attention_of_unequal_widths() -> nn.Module:
    """Separate projections, and the two rows that are appended to keys and values."""
    return nn.MultiheadAttention(24, 2, kdim=12, vdim=18, add_bias_kv=True)


def encoder() -> nn.Module:
    """Copies of one layer, so that construction repeats its values; the recipe draws every layer for itself."""
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(24, 2, 48), 2, enable_nested_tensor=False)


def transformer() -> nn.Module:
    """Copies of layers, then a second draw over every matrix by the outermost module's own reset."""
    return nn.Transformer(24, 2, 1, 1, 48, batch_first=True)


Law = tuple[type, float]  # the distribution and its one number: a bound, a std or a value


def xavier(tensor: Tensor) -> float:
    """The std of Xavier's rule by the fans of `torch.nn.init`: sizes 1 and 0, times the receptive field."""
    return math.sqrt(2 / (tensor[0].numel() + tensor.numel() / tensor.shape[1]))


def default_of_one(module: nn.Module) -> dict[str, Law]:
    """Name below `module` -> law, by the `reset_parameters` of torch/nn/modules of that one module."""
    if isinstance(module, nn.Linear):  # kaiming_uniform_(a=sqrt(5)) is U(+-1/sqrt(in)), and so is the bias
        bound = 1 / math.sqrt(module.in_features)
        return {"weight": (initplug.Uniform, bound), "bias": (initplug.Uniform, bound)}
    if isinstance(module, nn.LayerNorm):
        return {"weight": (initplug.Constant, 1.0), "bias": (initplug.Constant, 0.0)}
    table: dict[str, Law] = {}
    if isinstance(module, nn.MultiheadAttention):
        for leaf, tensor in module.named_parameters(recurse=False):
            if leaf.endswith("_weight"):  # the packed matrix counts as one
                table[leaf] = (initplug.Uniform, math.sqrt(3) * xavier(tensor))
            elif leaf in ("bias_k", "bias_v"):
                table[leaf] = (initplug.Normal, xavier(tensor))
        table |= {"in_proj_bias": (initplug.Constant, 0.0), "out_proj.bias": (initplug.Constant, 0.0)}
    if isinstance(module, nn.Transformer):
        matrices = {name: tensor for name, tensor in module.named_parameters() if tensor.dim() > 1}
        table = {name: (initplug.Uniform, math.sqrt(3) * xavier(tensor)) for name, tensor in matrices.items()}
    return table


def default_of(model: nn.Module) -> dict[str, Law]:
    """Name -> law. Children come before the modules that own them, whose reset has the last word."""
    table: dict[str, Law] = {}
    for path, module in reversed(list(model.named_modules())):
        prefix = f"{path}." if path else ""
        table |= {prefix + leaf: law for leaf, law in default_of_one(module).items()}
    return {name: table[name] for name, _ in model.named_parameters()}


OUT_OF_ORDER = [attention, attention_of_unequal_widths, encoder, transformer]


@pytest.mark.parametrize("build", OUT_OF_ORDER, ids=lambda build: build.__name__)
def test_plan_follows_torchs_formulas_where_construction_draws_twice(build: Callable[[], nn.Module]) -> None:
    model = build()
    plan, table = initplug.plan(model, "torch_default"), default_of(model)
    assert [assignment.name for assignment in plan] == list(table)
    assert len({assignment.rule for assignment in plan}) == 1
    for name, (family, number) in table.items():
        found = plan[name].distribution
        assert isinstance(found, family), name
        if isinstance(found, initplug.Uniform):
            assert math.isclose(found.high, number, rel_tol=FORMULA), name
            assert found.low == -found.high, name
        else:
            assert isinstance(found, initplug.Normal | initplug.Constant), name
            moment = found.std if isinstance(found, initplug.Normal) else found.mean
            assert math.isclose(moment, number, rel_tol=FORMULA), name


BASES = {nn.RNNBase, nn.RNNCellBase}  # what nobody builds by itself


def test_every_layer_of_torch_nn_is_among_them() -> None:
    """Layers with a reset of their own; lazy ones have no tensors to fill until they are called."""
    layers = {
        layer
        for name, layer in vars(nn).items()
        if isinstance(layer, type) and not name.startswith("Lazy")
        if hasattr(layer, "reset_parameters") or hasattr(layer, "_reset_parameters")
    }
    built = {type(module) for build in [*IN_ORDER.values(), *OUT_OF_ORDER] for module in build().modules()}
    assert len(layers) > 30
    assert layers - BASES - built == set()


def sample(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Every slot's values over `CONSTRUCTIONS` constructions, flat, in double precision."""
    models = [dict(build().named_parameters()) for _ in range(CONSTRUCTIONS)]
    return {name: torch.cat([model[name].detach().flatten() for model in models]).double() for name in models[0]}


def assert_follows(name: str, values: Tensor, row: initplug.Assignment) -> None:
    """The sample has the planned mean, std and support, to `STANDARD_ERRORS`."""
    count = values.numel()
    mean, std = row.mean, row.std
    assert mean is not None, name
    assert std is not None, name
    if std == 0:
        assert bool((values == torch.tensor(mean, dtype=torch.float32).double()).all()), name
        return
    kurtosis = 1.8 if isinstance(row.distribution, initplug.Uniform) else 3.0  # of a uniform, 9/5; of a normal, 3
    error_of_std = std * math.sqrt((kurtosis - 1) / (4 * count))  # delta method on the sample variance
    assert abs(values.mean().item() - mean) < STANDARD_ERRORS * std / math.sqrt(count), name
    assert abs(values.std(correction=0).item() - std) < STANDARD_ERRORS * error_of_std, name
    if isinstance(row.distribution, initplug.Uniform):
        low, high = row.distribution.low, row.distribution.high
        reach = high * (1 - TAIL / count)
        assert low * (1 + 1e-6) <= values.min().item(), name  # torch rounds the bounds to float32
        assert values.max().item() <= high * (1 + 1e-6), name
        assert values.abs().max().item() > reach, name


@pytest.mark.parametrize("build", [*OUT_OF_ORDER, cnn, LanguageModel], ids=lambda build: build.__name__)
def test_plan_is_the_distribution_of_construction(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(SEED)
    plan = initplug.plan(build(), "torch_default")
    values = sample(build)
    assert [assignment.name for assignment in plan] == list(values)
    for name, tensor in values.items():
        drawn = tensor[tensor != 0] if name == "encoder.weight" else tensor  # test_padding_rows_are_zero has the rest
        assert_follows(name, drawn, plan[name])


@pytest.mark.parametrize("build", OUT_OF_ORDER, ids=lambda build: build.__name__)
def test_audit_passes_on_models_as_constructed_and_as_applied(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(SEED)
    model = build()
    reasons = [str(row.reason) for row in initplug.audit(model, "torch_default").problems()]
    # Construction copies the layers of an encoder: the second differs from what independent draws give.
    assert bool(reasons) == (build is encoder) and all(reason.startswith("twin of layers.0.") for reason in reasons)
    erase(model)
    audit = initplug.apply(model, "torch_default")
    assert {row.verdict for row in audit} == {"ok"}
    assert {row.status for row in audit} == {"initialized"}


def test_encoder_layers_are_drawn_independently() -> None:
    """Construction copies one layer; a distribution per slot says nothing of such copies, and draws each."""
    model = encoder()
    first, second = (model.get_parameter(f"layers.{index}.linear1.weight") for index in range(2))
    assert torch.equal(first, second)
    initplug.apply(model, "torch_default")
    assert not torch.equal(first, second)


def test_torchvisions_resnet_is_not_as_torch_constructs_it() -> None:
    """Negative control: torchvision redraws its convolutions, and nothing else."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(SEED)
    model: nn.Module = models.resnet50(weights=None)
    audit = initplug.audit(model, "torch_default")
    convolutions = [f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 53
    assert [row.name for row in audit if row.verdict == "differs"] == convolutions
    assert {row.verdict for row in audit} == {"ok", "differs"}


def test_a_tensor_that_no_reset_writes_is_named_before_any_write() -> None:
    model = nn.Linear(4, 4)
    model.register_parameter("scale", nn.Parameter(torch.full((4,), FILL)))
    before = model.weight.clone()
    with pytest.raises(initplug.PlanError, match=r"scale[\s\S]*keep"):
        initplug.apply(model, "torch_default_strict")
    assert torch.equal(model.weight, before)
