"""What is said of how presets fit a model: counts are the plan's, the order is deterministic, nothing is made up."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import initplug
from initplug.errors import PlanError
from initplug.language.preset_list import presets
from initplug.planning.draft import plan
from initplug.studies.suggest import Fits, _cites, suggest


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
    refused = 0
    for fit in fits:
        if fit.preset in ("keep", "torch_default"):  # which leave what no other says as it is
            assert (fit.unmatched, fit.misfits) == ((), ())
            continue
        recipe = initplug.load(fit.preset, ["unused=ignore"])
        try:
            planned, wrong = plan(model, recipe), set()
        except PlanError as error:
            # Of a rule that does not select what it expects, the finding has the name, and here it selects nothing.
            planned = error.plan or plan(Net(), "resnext")
            wrong = {finding.path for finding in error.findings} & numel.keys()
            refused += 1
        covered = [row for row in planned if row.rule is not None and row.name not in wrong]
        assert (fit.slots, fit.of_slots) == (len(covered), len(numel))
        assert (fit.numel, fit.of_numel) == (sum(numel[row.name] for row in covered), sum(numel.values()))
        assert (fit.unmatched, fit.unused) == (planned.unmatched, planned.unused)
        assert set(fit.misfits) == wrong - set(planned.unmatched)
        assert fit.complete == (not wrong)
    assert 0 < refused < len(fits) - 2 or build is Odd
    assert refused == len(fits) - 2 or build is not Odd


def test_what_is_kept_is_not_covered() -> None:
    fits = {fit.preset: fit for fit in suggest(nn.ModuleList([Net(), Odd()]))}
    assert (fits["keep"].slots, fits["keep"].complete) == (0, False)
    assert fits["torch_default"].slots == fits["torch_default_strict"].slots == 6
    assert not fits["torch_default"].complete


def test_what_a_half_applied_rule_gives_is_a_misfit() -> None:
    model = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2)  # writes three times in each layer
    (fit,) = [fit for fit in suggest(model) if fit.preset == "prenorm_transformer"]
    writing = ("self_attn.out_proj", "multihead_attn.out_proj", "linear2")
    assert set(fit.misfits) == {f"layers.{layer}.{name}.weight" for layer in (0, 1) for name in writing}
    assert not fit.complete


def test_the_order_is_that_of_the_scores_and_always_the_same() -> None:
    first, second = suggest(Net()), suggest(Net())
    assert first == second
    assert all(one.score >= other.score for one, other in itertools.pairwise(first))


def test_what_fits_everything_comes_after_what_says_more() -> None:
    names = [fit.preset for fit in suggest(Net()) if fit.complete and not fit.unused]
    assert len(names) > 5
    assert names[-2:] == ["torch_default", "torch_default_strict"]


def test_a_class_that_bears_the_name_of_an_architecture_is_known_by_it() -> None:
    assert suggest(Net()).known == 0
    fits = suggest(PatchedResNet())
    assert fits[0].preset == "torchvision_resnet"
    assert fits[0].evidence == ("name PatchedResNet",)
    assert (
        fits.conclusion
        == "torchvision_resnet fits PatchedResNet best, by its name PatchedResNet; every parameter has a rule"
    )


def test_what_no_preset_is_for_is_said() -> None:
    count = sum(fit.complete for fit in suggest(Net()))
    assert suggest(Net()).conclusion == (
        f"no preset is known to be for Net; {count} can be applied, none because of what it is"
    )
    assert suggest(Odd()).conclusion == "no preset fits Odd: write a recipe of its own"
    half = nn.ModuleList([Net(), Odd()])
    assert suggest(half).conclusion.startswith("no preset fits ModuleList: ")
    assert suggest(half).conclusion.endswith(" comes nearest and leaves 2 of 8 parameters")
    assert suggest(nn.ReLU()).conclusion == "ReLU has no parameters: every preset fits"


def test_the_table_is_short_and_ends_in_the_conclusion() -> None:
    fits = suggest(PatchedResNet())
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


def test_no_value_is_read_and_no_generator_moved() -> None:
    with torch.device("meta"):
        model = Net()
    state = torch.get_rng_state()
    assert [fit.preset for fit in suggest(model)] == [fit.preset for fit in suggest(Net().requires_grad_(False))]
    suggest(model)
    assert all(tensor.is_meta for tensor in model.parameters())
    torch.manual_seed(3)
    before = torch.get_rng_state()
    suggest(model)
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(state)


def test_a_wrapped_model_is_known_by_its_own_class() -> None:
    assert suggest(nn.DataParallel(PatchedResNet())) == suggest(PatchedResNet())


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
