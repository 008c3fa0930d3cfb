"""Values of models of others tell what drew them, at another width, too; what is told with confidence is right."""

from __future__ import annotations

import pytest
import torch
from families import Case
from inferences import found
from test_recordings import Build, bert, gpt2, resnet, timm_vit

import initplug
from initplug.studies.drafting.agreement import agrees
from initplug.studies.inferring.inference import HIGH


@pytest.mark.parametrize("build", [resnet, timm_vit, gpt2], ids=lambda build: build.__name__)
def test_a_recipe_inferred_at_one_size_is_right_for_another(build: Build) -> None:
    torch.manual_seed(0)
    inference = initplug.infer(build(96, 3))
    assert inference.problems() == []
    model, other = build(64, 5), initplug.record(lambda: build(64, 5), check=False)
    plan = initplug.plan(model, inference.recipe)
    sure = {str(row.rule) for row in inference if row.confidence >= HIGH}
    rows = [row for row in other if plan[row.name].rule in sure]
    assert len(rows) > len(other) / 2
    assert {row.name: row.outcome for row in rows if not agrees(plan[row.name].distribution, row)} == {}


@pytest.mark.parametrize("build", [resnet, bert], ids=lambda build: build.__name__)
def test_no_formula_is_wrong_and_sure(build: Build) -> None:
    one = found(Case(build.__name__, lambda: build(48, 2), "distribution"))
    assert (one.error, one.wrong) == ("", [])
    assert one.counts["formula"] > 0.8 * one.counts["drawn"] > 0
    assert one.counts["fixed, right"] == one.counts["fixed"]
