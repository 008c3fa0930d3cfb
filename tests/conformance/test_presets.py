"""Every preset against models that we did not write: see families.py for the models, checking.py for the tests."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator

import pytest
from checking import compared, differing, samples_of
from families import Case, Family, all_families
from presets_table import SEED, beside, cells, is_generated, proven_on, table_rows
from recording import recorded
from torch import nn

import initplug
from initplug.language.preset_list import presets
from initplug.schemes.compositions import Keep

CONSTRUCTIONS = 4  # further ones, for samples of small parameters
MANY = 30_000_000  # elements, of which one more construction is enough, as of large models

FAMILIES = all_families()
CASES = [(family, case) for family in FAMILIES for case in family.cases]
PARAMETERS = [
    pytest.param(
        family, case, id=f"{family.preset}-{case.model}".replace(" ", "-"), marks=[pytest.mark.large] * case.large
    )
    for family, case in CASES
]


@pytest.fixture(autouse=True)
def _their_warnings() -> Iterator[None]:
    """Libraries warn of themselves; ours are errors still."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", initplug.InitplugWarning)
        yield


def planned(model: nn.Module, preset: initplug.Recipe) -> list[initplug.Assignment]:
    """What a preset of another family says of the parameters that it knows."""
    recipe = preset.model_copy(update={"frozen": "write", "unmatched": "keep", "unused": "ignore"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", initplug.InitplugWarning)  # of what it leaves as constructed
        try:
            plan = initplug.plan(model, recipe)
        except initplug.PlanError as error:
            plan = error.plan
    return [row for row in plan or () if row.distribution is not None and not isinstance(row.distribution, Keep)]


@pytest.mark.parametrize(("family", "case"), PARAMETERS)
def test_a_preset_is_what_the_models_own_code_draws(family: Family, case: Case) -> None:
    if not case.is_here:
        pytest.skip(f"{case.package} is not installed; `make presets-coverage` installs it")
    original = recorded(case.build, SEED)
    recipe = case.recipe(family.preset)
    plan = initplug.plan(original.model, recipe)  # complete, and without a warning
    assert [row.name for row in plan] == list(original.values)

    further = 1 if case.large or sum(row.numel for row in plan) > MANY else CONSTRUCTIONS
    samples = samples_of(case.build, original, range(SEED + 1, SEED + 1 + further))
    assert differing(plan, samples) == {}
    if family.neighbour is not None:
        told_apart = differing(planned(original.model, initplug.load(family.neighbour)), samples)
        assert told_apart, f"{family.neighbour} is not told apart"

    outcome = compared(original, recipe)
    assert outcome.mode == case.mode
    assert cells(family, case, outcome) in [row[:4] for row in table_rows()]


HANDFUL = ("torchvision_resnet", "timm_vit", "transformers_gpt2", "mamba", "monai", "small_init")
"""Presets of which one model is recorded on every run; all are by `make presets-table`."""


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.preset in HANDFUL], ids=lambda one: one.preset)
def test_a_recording_of_a_model_is_what_the_preset_plans(family: Family) -> None:
    case = next(case for case in family.cases if case.is_here and not case.large)
    told = beside(case, family.preset)
    assert told == "same"
    assert [f"`{family.preset}`", case.model, told] in [[*row[:2], row[-1]] for row in table_rows()]
    assert family.neighbour is None or beside(case, family.neighbour) != "same"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.preset)
def test_the_models_of_a_family_use_every_rule(family: Family) -> None:
    unused = set(initplug.load(family.preset).rules)
    if not all(case.is_here for case in family.cases):
        pytest.skip("some of its models are of packages that are not installed")
    for case in sorted(family.cases, key=lambda case: case.large):
        unused -= {row.rule for row in initplug.plan(case.build(), case.recipe(family.preset))}
        if not unused:
            break
    assert unused == set()


def test_the_table_of_the_guide_has_a_row_for_every_preset_and_model() -> None:
    assert [row[:2] for row in table_rows()] == [[f"`{family.preset}`", case.model] for family, case in CASES]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.preset)
def test_a_preset_names_the_models_that_it_is_proven_on(family: Family) -> None:
    entries = initplug.load(family.preset).proven_on
    assert isinstance(entries, list)
    assert [entry for entry in entries if is_generated(entry)] == proven_on(family.preset, table_rows())


def test_every_preset_is_compared() -> None:
    compared = Counter(family.preset for family in FAMILIES)
    assert set(compared.values()) == {1}
    assert sorted([*compared, "keep"]) == presets()  # which draws nothing that could be compared
