"""What a recipe may cost: hostile input is read within seconds or refused, with a RecipeError and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import unwatched
from omegaconf import OmegaConf
from torch import nn

import initplug
from initplug.language.matcher import Matcher
from initplug.language.selectors import parse
from initplug.language.yaml import MAX_CHARACTERS, MAX_PARTS

LIMIT = 3
"""Seconds of the processor that reading may take, whatever is read."""

MEGABYTE = 1 << 20


@pytest.mark.parametrize("size", [1 << 20, MAX_CHARACTERS - 4000], ids=["a megabyte", "what is read"])
def test_texts_of_much_of_one_thing_are_read_or_refused_within_seconds(size: int) -> None:
    """The limit is on the processor's time of a process, which a busy machine does not change."""
    command = [sys.executable, str(Path(__file__).with_name("hostile_texts.py")), str(size), str(LIMIT)]
    ended = subprocess.run(command, capture_output=True, text=True, env=unwatched(), check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert {shape: told for shape, told in found.items() if told not in ("read", "refused")} == {}
    assert len(found) > 30
    assert ("read" in found.values()) == (size < MAX_CHARACTERS)


def test_mappings_and_configs_are_bounded_as_texts_are() -> None:
    many = {"rules": {f"a{index}*": 0 for index in range(100_000)}}
    long = {"rules": {}, "name": "x" * (MAX_CHARACTERS + 1)}
    for source in (many, OmegaConf.create({"rules": {f"a{index}*": 0 for index in range(MAX_PARTS)}})):
        with pytest.raises(initplug.RecipeError, match=f"more than {MAX_PARTS:,} keys and values"):
            initplug.load(source)
    with pytest.raises(initplug.RecipeError, match=f"more than {MAX_CHARACTERS:,} characters"):
        initplug.load(long)


def test_what_is_shared_in_a_mapping_counts_as_often_as_it_stands_there() -> None:
    parts: list[Any] = [0]
    for _ in range(20):
        parts = [parts] * 10
    with pytest.raises(initplug.RecipeError, match=f"more than {MAX_PARTS:,} keys and values"):
        initplug.load({"rules": {"a*": {"split": parts}}})


def test_a_config_that_refers_to_itself_or_nests_too_deep_is_no_recipe() -> None:
    nested: Any = 0
    for _ in range(60):
        nested = {"a": nested}
    for source in ({"rules": nested}, {"rules": {"a*": "${rules}"}}):
        with pytest.raises(initplug.RecipeError):
            initplug.load(OmegaConf.create(source))


def test_files_that_a_recipe_is_merged_from_are_bounded_together(tmp_path: Path) -> None:
    for index in range(3):
        lines = "".join(f"- text {index}\n" for index in range(9000))
        (tmp_path / f"{index}.yaml").write_text(f"rules: {{}}\nsource:\n{lines}")
    (tmp_path / "all.yaml").write_text("defaults: ['0', '1', '2']\nrules: {}\n")
    with pytest.raises(initplug.RecipeError, match="with what it is merged with it has"):
        initplug.load(tmp_path / "all.yaml")


def test_a_chain_of_files_is_bounded(tmp_path: Path) -> None:
    for index in range(300):
        (tmp_path / f"r{index}.yaml").write_text(f"defaults: [r{index + 1}]\nrules: {{}}\n")
    (tmp_path / "r300.yaml").write_text("rules: {}\n")
    with pytest.raises(initplug.RecipeError, match="merged from at most 64 recipes"):
        initplug.load(tmp_path / "r0.yaml")
    assert initplug.load(tmp_path / "r250.yaml").rules == {}


OVERRIDES = [
    *("rules.conv.init=" + opening * 300 for opening in ("[", "{a:", "str(", "{", "(")),
    *("rules.conv.init=" + opening * 300 + "1" + closing * 300 for opening, closing in ("[]", ("{a:", "}"), "()")),
    "rules.conv.match=[" + ",".join(["a"] * 30_000) + "]",
    "rules.conv.init=" + "1" * 2000,
    "rules.conv.init=" + "1" * 5000,
    "rules." + "a." * 1500 + "b=1",
    "rules.conv.match.²=1",
    "+rules.conv.match.99999999999999999999=1",
    "rules.conv.init=\udcff",
    "rules.conv.init=1e999",
    "+rules.x={1_0: fc, init: 0}",
    "+rules.x={1.5: fc, init: 0}",
]


@pytest.mark.parametrize("override", OVERRIDES, ids=[repr(override)[:40] for override in OVERRIDES])
def test_an_override_is_refused_before_hydra_needs_minutes_or_python_its_depth(override: str) -> None:
    with pytest.raises(initplug.RecipeError) as error:
        initplug.load("resnext", [override])
    assert all(line.isprintable() and len(line) < 1200 for line in str(error.value).split("\n"))


def test_overrides_are_bounded_together() -> None:
    with pytest.raises(initplug.RecipeError, match="201 overrides of"):
        initplug.load("resnext", ["unused=error"] * 201)
    with pytest.raises(initplug.RecipeError, match="write them into a recipe file"):
        initplug.load("resnext", ["name=" + "x" * 2000] * 9)
    large = {"rules": {f"a{index}*": 0 for index in range(9000)}}
    with pytest.raises(
        initplug.RecipeError, match="at most 22 of 16,384 are read for a recipe of 18,003 keys and values"
    ):
        initplug.load(large, ["rules={}"] * 23)


# Selectors.


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module("a" * 3000, nn.Linear(2, 2))


@pytest.mark.parametrize(
    "selector",
    [
        "*a" * 2000 + "b",
        "*" + "a*" * 2000 + "b",
        "[a-z]*" * 600 + "b",
        "(a*|b*)(a*|c*)(a*|d*)(a*|e*)(a*|f*)b",
        "?" * 3000,
        "**." * 1300 + "b",
        "*." * 1900 + "b",
        "<" + "*a" * 2000 + ">",
        "blocks.-99999999999",
        ".".join(["a"] * 1000),
    ],
    ids=lambda selector: selector[:12],
)
def test_a_selector_of_any_kind_is_matched_or_refused_at_once(selector: str) -> None:
    """A glob that went back and forth would take longer than the world has stood on a name of 3,000 letters."""
    model = nn.Sequential(Deep(), *(nn.Linear(2, 2) for _ in range(20)))
    for match in (selector, [selector, "*"]):
        found = initplug.load({"unused": "ignore", "unmatched": "keep", "rules": {"a": {"match": match, "init": 0}}})
        initplug.plan(model, found)


def test_any_number_of_segments_twice_is_any_number() -> None:
    texts = ["a.**.**.**.b", "a.**.b"]
    assert parse(texts[0]).segments == parse(texts[1]).segments
    matcher = Matcher([parse(text) for text in texts])
    state = matcher.root(object)
    for name in "axyb":
        state = matcher.step(state, name, None)
    assert state.hits == (0, 1)


def test_a_name_after_many_stars_is_found() -> None:
    name = "ab" * 200
    matcher = Matcher([parse("*a*b" * 100), parse("*a*b" * 250)])
    assert matcher.step(matcher.root(object), name, None).hits == (0,)


def test_a_factor_with_a_large_power_neither_hangs_nor_passes() -> None:
    for factor in (
        {"count": "<Linear>", "times": 3, "power": 100_000_000},
        {"count": "<Linear>", "times": 3, "power": 2**63},
        {"count": "<Linear>", "times": 3, "power": -(2**63)},
        {"count": "<Linear>", "times": 2**64 - 1, "power": 17},
        {"count": "<Linear>", "times": 1e300, "power": 2},
        [1e-300, 1e-300],
    ):
        recipe = {"rules": {"*": {"fn": "normal", "factor": factor}}}
        with pytest.raises(initplug.PlanError, match="beyond what numbers hold"):
            initplug.plan(nn.Linear(4, 4), recipe)


@pytest.mark.parametrize(("times", "power"), [(2, 1000), (3, 40), (7, -3), (2**64 - 1, 2), (1, 10**18)])
def test_powers_of_whole_numbers_are_exact(times: int, power: int) -> None:
    from fractions import Fraction

    exact = float(Fraction(times) ** power) if power < 10**6 else 1.0
    recipe = {
        "rules": {"*": {"fn": "constant", "value": 1.0, "factor": {"count": "*", "times": times, "power": power}}}
    }
    assert initplug.plan(nn.Linear(4, 4, dtype=torch.float64), recipe)["weight"].mean == exact
