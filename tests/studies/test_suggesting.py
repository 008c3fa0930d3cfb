"""What is said of how presets fit a model: counts are the plan's, the order is deterministic, nothing is made up."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import initplug
from initplug.auditing.moments import Moments
from initplug.errors import PlanError
from initplug.filling.scrutiny import measured_of
from initplug.language.preset_list import presets
from initplug.planning.assignment import Share
from initplug.planning.draft import plan
from initplug.studies.kinship import _cites
from initplug.studies.suggest import Fits, suggest


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 10)


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(3, 3))
        self.vector = nn.Parameter(torch.empty(3))


class PatchedResNet(Net):
    pass


@pytest.mark.parametrize("build", [Net, Odd, PatchedResNet])
def test_counts_are_those_of_the_plan_or_of_what_could_be_planned(build: type[nn.Module]) -> None:
    model = build()
    numel = {name: tensor.numel() for name, tensor in model.named_parameters()}
    fits = suggest(model)
    assert sorted(fit.preset for fit in fits) == presets()
    refused, keeping = 0, 2
    for fit in fits:
        if fit.preset in ("keep", "torch_default"):  # which leave what no other says as it is
            assert (fit.unmatched, fit.misfits) == ((), ())
            continue
        recipe = initplug.load(fit.preset, ["unused=ignore"])
        try:
            planned, wrong = plan(model, recipe), set()
        except PlanError as error:
            planned, wrong = error.plan or plan(Net(), "resnext"), {finding.path for finding in error.findings}
            refused += 1
        covered = [row for row in planned if row.rule is not None and row.name not in wrong]
        assert (fit.slots, fit.of_slots) == (len(covered), len(numel))
        assert (fit.numel, fit.of_numel) == (sum(numel[row.name] for row in covered), sum(numel.values()))
        assert (fit.unmatched, fit.unused) == (planned.unmatched, planned.unused)
        assert set(fit.misfits) == wrong.intersection(numel) - set(planned.unmatched)
        assert set(fit.unmet) == {name for name in wrong - numel.keys() if name in recipe.rules}
        assert fit.complete == (not wrong and not planned.unmatched)
        keeping += recipe.unmatched == "keep"
    assert 0 < refused < len(fits) - 2 or build is Odd
    assert refused == len(fits) - keeping or build is not Odd


def test_what_is_kept_is_not_covered() -> None:
    fits = {fit.preset: fit for fit in suggest(nn.ModuleList([Net(), Odd()]))}
    assert (fits["keep"].slots, fits["keep"].complete) == (0, False)
    assert fits["torch_default"].slots == fits["torch_default_strict"].slots == 6
    assert not fits["torch_default"].complete


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


@pytest.mark.parametrize("build", [Net, lambda: on_meta(Net)])
def test_the_order_is_that_of_values_and_scores_and_always_the_same(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    first = suggest(build())
    torch.manual_seed(1)
    assert first == suggest(build())
    for one, other in itertools.pairwise(first):
        if one.alike is None:
            assert one.score >= other.score
        else:
            assert other.alike is not None
            assert one.alike >= other.alike


def test_what_fits_everything_comes_after_what_says_more() -> None:
    names = [fit.preset for fit in suggest(on_meta(Net)) if fit.complete and not fit.unused]
    assert len(names) > 5
    assert names[-2:] == ["torch_default", "torch_default_strict"]


def test_a_class_that_bears_the_name_of_an_architecture_is_known_by_it() -> None:
    assert suggest(on_meta(Net)).known == 0
    fits = suggest(on_meta(PatchedResNet))
    assert fits[0].preset == "torchvision_resnet"
    assert fits[0].evidence == ("name PatchedResNet",)
    assert (
        fits.conclusion
        == "torchvision_resnet fits PatchedResNet best, by its name PatchedResNet; every parameter has a rule"
    )


def test_what_no_preset_is_for_is_said() -> None:
    bare = on_meta(Net)
    count = sum(fit.complete for fit in suggest(bare))
    assert suggest(bare).conclusion == (
        f"no preset is known to be for Net; {count} can be applied, none because of what it is"
    )
    assert suggest(Odd()).conclusion == "no preset fits Odd: write a recipe of its own"
    half = on_meta(lambda: nn.ModuleList([Net(), Odd()]))
    assert suggest(half).conclusion.startswith("no preset fits ModuleList: ")
    assert suggest(half).conclusion.endswith(" comes nearest and leaves 2 of 8 parameters")
    assert suggest(nn.ReLU()).conclusion == "ReLU has no parameters: every preset fits"


def test_the_table_is_short_and_ends_in_the_conclusion() -> None:
    fits = suggest(on_meta(PatchedResNet))
    lines = fits.to_text(width=150).splitlines()
    assert len(lines) == 2 + 10 + 2
    row = "torchvision_resnet convolutional networks 6/6 100 % – – – name PatchedResNet"
    assert " ".join(lines[2].split()) == row
    assert lines[-2] == f"… and {len(presets()) - 10} more"
    assert lines[-1] == fits.conclusion
    assert all(len(line) <= 80 for line in fits.to_text(width=80, limit=3).splitlines()[:5])


def test_what_lacks_a_parameter_is_never_all_of_it() -> None:
    large = nn.ModuleList([nn.Linear(2000, 2000), Odd()])
    (row,) = [fit for fit in suggest(large) if fit.preset == "torch_default"]
    assert (row.to_dict()["parameters"], row.to_dict()["elements"]) == ("2/4", "99.9 %")


@pytest.mark.parametrize("build", [Net, lambda: on_meta(Net)])
def test_no_value_is_written_and_no_generator_moved(build: Callable[[], nn.Module]) -> None:
    model = build()
    held = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    versions = [tensor._version for tensor in model.parameters()]
    before = torch.get_rng_state()
    frozen = copy.deepcopy(model).requires_grad_(False)
    assert [fit.preset for fit in suggest(model)] == [fit.preset for fit in suggest(frozen)]
    assert torch.equal(torch.get_rng_state(), before)
    assert [tensor._version for tensor in model.parameters()] == versions
    for name, tensor in model.state_dict().items():
        assert tensor.is_meta == held[name].is_meta
        assert tensor.is_meta or torch.equal(tensor, held[name])


def test_a_wrapped_model_is_known_by_its_own_class() -> None:
    model = PatchedResNet()
    assert suggest(nn.DataParallel(model)) == suggest(model)


def test_what_is_no_model_is_a_plan_error() -> None:
    with pytest.raises(PlanError, match=r"a model is a torch\.nn\.Module, not a int"):
        suggest(3)  # type: ignore[arg-type]  # the mistake under test


def test_the_public_name_is_this_function() -> None:
    assert initplug.suggest is suggest
    assert isinstance(initplug.suggest(Net()), Fits)


def test_files_are_told_apart_by_their_whole_path() -> None:
    vision = "pytorch/vision v0.28.0 torchvision/models/resnet.py:208-213, models/mobilenetv3.py:198-208 (backbone)"
    assert _cites(vision, "torchvision.models.resnet")
    assert _cites(vision, "torchvision.models.mobilenetv3")
    assert not _cites(vision, "torchvision.models.densenet")
    assert not _cites(vision, "torchvision.models.quantization.resnet")
    assert not _cites(vision, "timm.models.resnet")
    assert not _cites(vision, "resnet")
    assert not _cites("prlz77/ResNeXt.pytorch models/model.py:97-106", "model")
    assert not _cites("prlz77/ResNeXt.pytorch models/model.py:97-106", "mine.models.model")
    hub = "huggingface/transformers v5.0 src/transformers/models/gpt2/modeling_gpt2.py:40-60"
    assert _cites(hub, "transformers.models.gpt2.modeling_gpt2")
    assert not _cites(hub, "transformers.modeling_utils")
    folder = "pytorch/vision v0.28.0 torchvision/models/segmentation: the heads have no initialization of their own"
    assert _cites(folder, "torchvision.models.segmentation.fcn")
    assert not _cites(folder, "torchvision.models.resnet")


# Values.


class BasicBlock(nn.Module):
    def __init__(self, planes: int, width: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv1 = nn.Conv2d(planes, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.convShortcut = nn.Conv2d(planes, width, 1, bias=False)


class WideResNet(nn.Module):
    """A Wide ResNet as xternalz/WideResNet-pytorch has it: He et al. over outputs, the classifier as torch has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1, self.block2 = BasicBlock(16, 64), BasicBlock(64, 128)
        self.bn1 = nn.BatchNorm2d(128)
        self.fc = nn.Linear(128, 100)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                module.weight.data.normal_(0, math.sqrt(2.0 / fan))
            elif isinstance(module, nn.Linear):
                module.bias.data.zero_()


class ShuffleNetV2(nn.Module):
    """A ShuffleNetV2 of somebody's own, as torch constructs it; its name is like that of other architectures."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 24, 1, bias=False), nn.BatchNorm2d(24)
        self.stage = nn.Sequential(nn.Conv2d(24, 24, 3, groups=24, bias=False), nn.BatchNorm2d(24))
        self.linear = nn.Linear(24, 100)


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(dim, 3 * dim), "c_proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(dim, 4 * dim), "c_proj": nn.Linear(4 * dim, dim)})


class GPT(nn.Module):
    """A language model as karpathy/nanoGPT initialises it."""

    def __init__(self, layers: int = 6, dim: int = 96) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(500, dim), nn.Embedding(64, dim)
        self.h = nn.ModuleList(Block(dim) for _ in range(layers))
        self.ln_f = nn.LayerNorm(dim)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, 0.0, 0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * layers))


@pytest.mark.parametrize("build", [WideResNet, ShuffleNetV2, GPT, Net])
def test_the_preset_that_a_model_was_drawn_by_comes_first(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = build()
    fits = suggest(model)
    audit = initplug.audit(model, fits[0].preset)
    assert {row.verdict for row in audit} == {"ok"}
    assert (fits.valued, fits[0].alike, fits[0].unlike) == (True, len(audit), ())
    assert fits.conclusion.startswith(f"{fits[0].preset} fits {build.__name__} best")
    assert f"; all {len(audit)} parameters look so" in fits.conclusion


@pytest.mark.parametrize("build", [WideResNet, ShuffleNetV2])
def test_a_preset_that_a_name_alone_speaks_for_does_not_come_before_it(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = build()
    misled = suggest(on_meta(build))[0].preset
    audit = initplug.audit(model, initplug.load(misled, ["unused=ignore"]))
    assert any(row.verdict == "differs" for row in audit)
    fits = suggest(model)
    assert fits[0].preset != misled
    assert misled not in fits.conclusion


@pytest.mark.parametrize("build", [WideResNet, GPT])
def test_what_looks_so_is_what_an_audit_says(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = build()
    compared = 0
    for fit in suggest(model):
        if fit.complete and not fit.unused:
            audit = initplug.audit(model, initplug.load(fit.preset, ["unused=ignore", "frozen=write"]))
            # What differs in a pool, and in no tensor by itself, looks so.
            unlike = [row.name for row in audit if row.verdict == "differs" and row.reason != "pooled"]
            assert fit.unlike == tuple(unlike), fit.preset
            assert fit.alike == sum(row.verdict == "ok" or row.reason == "pooled" for row in audit), fit.preset
            compared += 1
    assert compared > 1


def test_a_preset_whose_rules_do_not_select_what_they_expect_fits_nothing() -> None:
    torch.manual_seed(0)
    model = GPT()
    for block in model.h:
        del block.get_submodule("attn").c_proj
    (row,) = [fit for fit in suggest(model) if fit.preset == "nanogpt"]
    if row.unmet:
        assert not row.complete
        assert [*row.lacks] == ["rule 'residual' does not select what it expects"]
        with pytest.raises(PlanError, match="rule 'residual'"):
            plan(model, "nanogpt")


def test_what_does_not_look_so_is_named() -> None:
    torch.manual_seed(0)
    model = GPT()
    nn.init.uniform_(model.wpe.weight)
    fits = suggest(model)
    assert fits[0].unlike == ("wpe.weight",)
    assert fits.conclusion.endswith(f"; {len([*model.parameters()]) - 1} of 76 look so; wpe.weight does not")
    assert fits.conclusion.startswith(f"{fits[0].preset} comes nearest to GPT")
    for name, parameter in model.named_parameters():
        if name.endswith("c_attn.weight"):
            nn.init.uniform_(parameter)
    assert "; wpe.weight, h.0.attn.c_attn.weight, h.1.attn.c_attn.weight and 4 more do not" in suggest(model).conclusion


def test_a_trained_model_is_known_by_what_it_is() -> None:
    model = PatchedResNet()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter)).mul_(3)
    fits = suggest(model)
    assert not fits.valued
    assert fits[0].preset == suggest(on_meta(PatchedResNet))[0].preset == "torchvision_resnet"
    assert fits[0].alike is not None
    assert fits.conclusion == (
        "torchvision_resnet is nearest to PatchedResNet, by its name PatchedResNet; every parameter has a rule; "
        f"{fits[0].alike} of 6 look so: it was trained, or drawn otherwise"
    )


def test_a_part_on_meta_is_not_looked_at() -> None:
    torch.manual_seed(0)
    model = GPT()
    model.wpe.to("meta")
    fits = suggest(model)
    assert fits[0].unlike == ()
    assert fits[0].alike == len([*model.parameters()]) - 1
    assert all(fit.alike is None for fit in suggest(on_meta(Net)))
    assert "look so" not in str(suggest(on_meta(Net)))


def test_tensors_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def counted(value: torch.Tensor, share: Share, without: tuple[float, ...] = ()) -> Moments | None:
        measured.append(id(value))
        return measured_of(value, share, without)

    monkeypatch.setattr("initplug.filling.likeness.measured_of", counted)
    model = WideResNet()
    suggest(model)
    assert sorted(measured) == sorted(id(parameter) for parameter in model.parameters())


def test_computed_and_tied_parameters_are_looked_at_as_they_are_read() -> None:
    torch.manual_seed(0)
    first, second, third = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
    nn.utils.parametrizations.orthogonal(first)
    nn.init.normal_(second.weight, 0, 0.02)
    third.weight = second.weight
    model = nn.Sequential(first, second, third)
    (row,) = [fit for fit in suggest(model) if fit.preset == "torch_default"]
    assert row.unlike == ("0.weight", "1.weight")
    assert row.alike == 3
