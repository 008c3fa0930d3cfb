"""`resnext` against the procedure it stands for, and on the ResNeXts of three model libraries.

The procedure is that of prlz77/ResNeXt.pytorch models/model.py:97-106: Kaiming's normal for the classifier, then one
walk over `state_dict()` that goes by substrings of the key. `prlz77` is that procedure; the formulas that the
plans are compared with are computed from shapes and modules here, with nothing of initplug's.
"""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from libraries import load_example, pytorchcv_model, timm_model, torchvision_model
from nets import copied_state, filled
from procedures import prlz77
from recipes import verdicts
from torch import Tensor, nn

import initplug

pytestmark = pytest.mark.filterwarnings("ignore:.* one value throughout")  # models are erased by one

SEED = 20170711
FILL = 7.0  # no recipe here gives it, so a slot that nobody wrote cannot pass for equal
FORMULA = 1e-12  # relative: both sides compute one square root in double precision

CLASSIFIER = "classifier.weight"

resnext29: Callable[..., nn.Module] = load_example("resnext").resnext29


def test_two_passes_in_the_sources_order_give_its_95_tensors_bit_for_bit() -> None:
    theirs, ours = filled(resnext29(), FILL), filled(resnext29(), FILL)
    rest = [name for name, _ in ours.named_parameters() if name != CLASSIFIER]

    torch.manual_seed(SEED)
    prlz77(theirs)
    state_of_theirs = torch.random.get_rng_state()

    torch.manual_seed(SEED)
    first = initplug.apply(ours, "resnext", only=CLASSIFIER)
    second = initplug.apply(ours, "resnext", only=rest)

    assert [row.name for row in first if row.status == "initialized"] == [CLASSIFIER]
    assert [row.name for row in second if row.status == "initialized"] == rest
    reference, result = dict(theirs.named_parameters()), dict(ours.named_parameters())
    assert list(reference) == list(result)
    assert len(result) == 95
    assert [name for name in result if torch.equal(result[name], reference[name])] == list(reference)
    assert not [name for name in result if (result[name] == FILL).any()]
    assert torch.equal(torch.random.get_rng_state(), state_of_theirs)


def test_passes_leave_the_buffers_alone() -> None:
    model = resnext29(cardinality=2, base_width=4)
    for buffer in model.buffers():
        buffer.fill_(3)
    audit = initplug.apply(model, "resnext")
    assert all(bool((buffer == 3).all()) for buffer in model.buffers())
    assert {row.kind for row in audit} == {"parameter"}


def test_one_pass_differs_from_the_source_in_the_order_of_the_draws_only() -> None:
    """The two passes above matter: one pass draws the classifier last, and the convolutions from the seed on."""
    theirs, ours = resnext29(cardinality=2, base_width=4), resnext29(cardinality=2, base_width=4)
    torch.manual_seed(SEED)
    prlz77(theirs)
    torch.manual_seed(SEED)
    initplug.apply(ours, "resnext")
    reference = dict(theirs.named_parameters())
    differing = [name for name, tensor in ours.named_parameters() if not torch.equal(tensor, reference[name])]
    assert differing == [name for name in reference if "conv" in name or name == CLASSIFIER]


def by_the_sources_names(model: nn.Module) -> dict[str, tuple[str, float, float]]:
    """Name -> (rule, mean, std) as `prlz77` decides: by substring, with the fans of `torch.nn.init`."""
    table: dict[str, tuple[str, float, float]] = {}
    for name, tensor in model.named_parameters():
        if name.endswith("bias"):
            table[name] = ("bias", 0.0, 0.0)
        elif "bn" in name:
            table[name] = ("bn", 1.0, 0.0)
        elif "conv" in name:
            table[name] = ("conv", 0.0, math.sqrt(2 / (tensor.shape[0] * tensor.shape[2] * tensor.shape[3])))
        else:
            table[name] = ("classifier", 0.0, math.sqrt(2 / tensor.shape[1]))
    return table


def by_type(model: nn.Module) -> dict[str, tuple[str, float, float]]:
    """Name -> (rule, mean, std) from what each module says of itself, for models of any naming."""
    table: dict[str, tuple[str, float, float]] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for leaf, _ in module.named_parameters(recurse=False):
            name = prefix + leaf
            if leaf == "bias":
                table[name] = ("bias", 0.0, 0.0)
            elif isinstance(module, nn.BatchNorm2d):
                table[name] = ("bn", 1.0, 0.0)
            elif isinstance(module, nn.Conv2d):
                height, width = module.kernel_size
                table[name] = ("conv", 0.0, math.sqrt(2 / (height * width * module.out_channels)))
            elif isinstance(module, nn.Linear):
                table[name] = ("classifier", 0.0, math.sqrt(2 / module.in_features))
    return table


def assert_plan_follows(plan: initplug.Plan, table: dict[str, tuple[str, float, float]]) -> None:
    """Every slot has the rule, the family, the mean and the std that the formulas give."""
    assert not plan.unmatched
    assert not plan.unused
    assert [assignment.name for assignment in plan] == list(table)
    for assignment in plan:
        rule, mean, std = table[assignment.name]
        found = assignment.distribution
        assert assignment.rule == rule, assignment.name
        if std:
            assert isinstance(found, initplug.Normal), assignment.name
            assert found.mean == mean, assignment.name
            assert math.isclose(found.std, std, rel_tol=FORMULA), assignment.name
        else:
            assert isinstance(found, initplug.Constant), assignment.name
            assert (found.mean, found.std) == (mean, 0), assignment.name
        assert (assignment.mean, assignment.std) == (found.mean, found.std), assignment.name


def test_plan_gives_every_slot_the_rule_and_formula_of_the_source() -> None:
    model = resnext29()
    table = by_the_sources_names(model)
    assert len(table) == 95
    counts = {rule: sum(row[0] == rule for row in table.values()) for rule, _, _ in table.values()}
    # 1 stem + 9 blocks x 3 + 3 shortcuts; the classifier's bias comes on top of the norms'
    assert counts == {"conv": 31, "bn": 31, "bias": 32, "classifier": 1}
    assert table == by_type(model)
    assert_plan_follows(initplug.plan(model, "resnext"), table)


@pytest.mark.parametrize(("cardinality", "base_width"), [(16, 64), (32, 4), (2, 4)])
def test_plan_follows_the_formulas_for_other_widths(cardinality: int, base_width: int) -> None:
    model = resnext29(cardinality=cardinality, base_width=base_width, classes=100)
    assert_plan_follows(initplug.plan(model, "resnext"), by_the_sources_names(model))


THIRD_PARTY = [
    # constructor, name, side of the smallest image that exercises every stage
    (torchvision_model, "resnext50_32x4d", 64),
    (torchvision_model, "resnext101_32x8d", 64),
    (timm_model, "resnext50_32x4d", 64),
    (pytorchcv_model, "resnext29_32x4d_cifar10", 32),
    (pytorchcv_model, "resnext50_32x4d", 224),  # pools by a fixed 7x7 window
]


def third_party_ids() -> Iterator[str]:
    """`torchvision-resnext50_32x4d` and the like."""
    for constructor, name, _ in THIRD_PARTY:
        yield f"{constructor.__name__.removesuffix('_model')}-{name}"


@pytest.mark.parametrize(("constructor", "name", "side"), THIRD_PARTY, ids=third_party_ids())
def test_third_party_resnexts_get_the_recipe_whole(
    constructor: Callable[[str], nn.Module], name: str, side: int
) -> None:
    model = filled(constructor(name), FILL)
    plan = initplug.plan(model, "resnext")
    assert_plan_follows(plan, by_type(model))

    torch.manual_seed(SEED)
    audit = initplug.apply(model, plan)
    assert [row.name for row in audit] == [parameter for parameter, _ in model.named_parameters()]
    assert {row.status for row in audit} == {"initialized"}
    assert {row.verdict for row in audit} == {"ok"}
    assert not audit.problems()

    with torch.no_grad():
        logits: Tensor = model.train()(torch.randn(2, 3, side, side))
    assert bool(torch.isfinite(logits).all())


def test_audit_tells_torchs_defaults_from_the_recipe() -> None:
    """Negative control: norms agree with torch's construction, nothing drawn does."""
    torch.manual_seed(SEED)
    model = resnext29()
    before = copied_state(model)
    audit = initplug.audit(model, "resnext")
    differing = [row.name for row in audit if row.verdict == "differs"]
    assert differing == [name for name in before if "conv" in name or name.startswith("classifier")]
    assert {row.verdict for row in audit} == {"ok", "differs"}
    assert {row.status for row in audit} == {"read"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_audit_tells_fan_in_from_fan_out() -> None:
    """Negative control closer by: the same family with the other fan."""
    model = resnext29(cardinality=2, base_width=4)
    torch.manual_seed(SEED)
    initplug.apply(model, initplug.load("resnext", overrides=["rules.conv.init.mode=fan_in"]))
    found = verdicts(initplug.audit(model, "resnext"))
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            same = module.in_channels // module.groups == module.out_channels
            assert found.pop(f"{path}.weight") == ("ok" if same else "differs"), path
    assert set(found.values()) == {"ok"}
