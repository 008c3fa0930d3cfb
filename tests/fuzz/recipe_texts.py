"""Recipes as texts: rules of presets and short forms, written in any style of YAML, then mutated."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import yaml
from fuzzing import well_said
from preset_pool import DATA, RULES, SELECTORS, SHORT, TEXTS, mutated
from torch import nn

import initplug
from initplug.errors import RecipeError
from initplug.language.numbers import Written

DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
READER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MODEL = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 4))
NAMES = [name for name, _ in MODEL.named_parameters()]


def made(random: Random) -> str:
    """A text that is a recipe, or nearly."""
    if random.random() < 0.01:
        text = random.choice(TEXTS)
    elif random.random() < 0.5:
        text = _short(random)
    else:
        text = _long(random)
    for _ in range(random.choice((0, 0, 0, 1, 1, 1, 2, 3))):
        text = mutated(random, text)
    if random.random() < 0.02:
        text = text.replace("\n", random.choice(("\r\n", "\r", "\x85", "\u2028")))
    return text + "\n"


def _short(random: Random) -> str:
    lines = [random.choice(("", "unmatched: keep\n", "unused: ignore\n", "name: x\n", "defaults: [keep]\n")) + "rules:"]
    for _ in range(random.randrange(5)):
        selector = random.choice(SELECTORS)
        if random.random() < 0.3:
            selector = random.choice((f"'{selector}'", f'"{selector}"'))
        lines.append(f"  {selector}: {random.choice(SHORT)}")
    return "\n".join(lines)


def _long(random: Random) -> str:
    data: dict[str, Any] = {}
    if random.random() < 0.3:
        whole = random.choice(DATA)
        data = {key: whole[key] for key in random.sample(sorted(whole), 2) if key != "rules"}
    data["rules"] = dict(random.sample(RULES, random.randrange(4)))
    style = random.choice((None, False, True))
    return str(yaml.dump(data, Dumper=DUMPER, default_flow_style=style, sort_keys=False, allow_unicode=True)).rstrip()


def checked(text: str) -> bool:
    """Only RecipeError comes out; what is read is written and read back as the same, and can be planned."""
    try:
        recipe = initplug.load(text)
    except RecipeError as error:
        well_said(error)
        assert error.findings, "a RecipeError without findings"
        return False
    reads_back(recipe)
    plans(recipe)
    return True


def reads_back(recipe: initplug.Recipe) -> None:
    """Written as YAML, a recipe is read back as itself: by this reader and by another."""
    text = recipe.to_yaml()
    again = initplug.load(text)
    assert again == recipe and again.to_yaml() == text
    assert again.digest == recipe.digest
    assert _told(yaml.load(text, Loader=READER)) == _told(recipe.plain())


def _told(value: Any) -> Any:
    """Plain data that differs where values or their types do."""
    if isinstance(value, dict):
        return [(key, _told(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [*map(_told, value)]
    value = str(value) if isinstance(value, Written) else value  # a plain text to other readers
    return type(value).__name__, repr(value)


def plans(recipe: initplug.Recipe) -> None:
    """A plan of it has every parameter once, or is refused."""
    try:
        plan = initplug.plan(MODEL, recipe)
    except initplug.PlanError as error:
        well_said(error)
        if error.plan is None:
            return
        plan = error.plan
    assert Counter(row.name for row in plan if row.kind == "parameter") == Counter(NAMES)
    assert [row.name for row in plan if row.rule is None] == list(plan.unmatched)
