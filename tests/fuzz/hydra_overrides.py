"""Overrides in Hydra's notation: keys of a recipe, values by Hydra's grammar, then mutated."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzzing import well_said
from preset_pool import NUMBERS, SELECTORS, SHORT, SIGNS, WORDS, mutated
from recipe_texts import reads_back

import initplug
from initplug.errors import RecipeError

BASE: dict[str, Any] = {
    "name": "base",
    "unmatched": "keep",
    "rules": {
        "conv": {"match": ["<_ConvNd>.weight", "conv*"], "init": {"fn": "kaiming_normal", "mode": "fan_out"}},
        "bn": {"match": "<_BatchNorm>.weight", "except": ["^0"], "init": 1, "optional": True},
        "res": {"match": "*.w", "init": {"fn": "normal", "std": 0.02, "factor": {"count": "<Block>", "times": 2}}},
        "off": None,
        "bias": {"match": "*.bias", "init": "normal std=0.02"},
    },
}


def _paths(data: Any, above: str = "") -> list[str]:
    if not isinstance(data, dict):
        return [above]
    return [above, *(path for key, part in data.items() for path in _paths(part, f"{above}.{key}" if above else key))]


PATHS = [path for path in _paths(BASE) if path]
FUNCTIONS = (
    "int",
    "float",
    "str",
    "bool",
    "choice",
    "range",
    "interval",
    "shuffle",
    "sort",
    "tag",
    "glob",
    "extend_list",
)
SOUND = [
    "rules.conv.init.mode=fan_in", "rules.conv.init=0", "rules.conv.init='normal std=0.02'", "rules.bn.init=2.5",
    "~rules.bias", "rules.bias=null", "rules.off={match: x, init: 0}",
    "+rules.new={match: '*.w', init: {fn: normal, std: 0.1}}", "unmatched=error", "unused=ignore", "name=other",
    "+rules.conv.ndim=2", "rules.res.init.factor.times=3", "++about=[a, b]", "rules.conv.match=[a, b]",
    "rules.conv.match='*.weight'", "rules.bn.optional=false", "+rules.conv.except=^fc", "rules.res.init.std=1e-3",
    "rules.res.init.std=int(3)", "~rules.conv.init.mode", "~unmatched", "+rules.x.match=y",
    "rules.conv.init={fn:xavier_uniform,gain:2}", "++rules.conv.init.nonlinearity=relu", "rules.bn.except=[]",
    "name=null",
]  # fmt: skip


def made(random: Random) -> list[str]:
    """One override, seldom several."""
    return [_override(random) for _ in range(random.choice((1, 1, 1, 1, 2, 3)))]


def _override(random: Random) -> str:
    if random.random() < 0.5:
        text = random.choice(SOUND)
        return mutated(random, text) if random.random() < 0.3 else text
    key = random.choice(PATHS)
    choice = random.random()
    if choice < 0.15:
        key += f".{random.choice(WORDS)}"
    elif choice < 0.25:
        key = f"rules.{random.choice((*WORDS, 'new'))}"
    elif choice < 0.3:
        odd = (f"{key}@pkg", f"a/b@{key}", f"{key}.0", f"rules.conv.match.{random.randrange(3)}")
        key = random.choice((*SELECTORS, *SIGNS, *odd))
    sign = random.choice(("", "", "", "+", "++", "~"))
    text = f"{sign}{key}" if sign == "~" and random.random() < 0.7 else f"{sign}{key}={_value(random, 2)}"
    return mutated(random, text) if random.random() < 0.2 else text


def _value(random: Random, depth: int) -> str:
    choice = random.randrange(12 if depth else 6)
    if choice < 2:
        return random.choice(random.choice((NUMBERS, WORDS, SHORT, SELECTORS)))[:600]
    if choice == 2:
        return random.choice(
            ("null", "true", "False", "???", "", " ", "a b", "a\\,b", "${x}", "${oc.env:X}", "nan", "-inf")
        )
    if choice == 3:
        quote = random.choice("'\"")
        return f"{quote}{random.choice(random.choice((SHORT, SELECTORS, SIGNS)))}{quote}"
    if choice == 4:
        return random.choice(SIGNS)
    if choice == 5:
        return f"{random.choice(FUNCTIONS)}({random.choice(NUMBERS)[:600]})"
    if random.random() < 0.002:
        depth = random.choice((20, 60, 300))
        return "[" * depth + "]" * random.choice((depth, depth - 1))
    inner = [_value(random, depth - 1) for _ in range(random.randrange(3))]
    if choice < 9:
        return "{" + ",".join(f"{random.choice((*WORDS, *SELECTORS[:20]))}:{part}" for part in inner) + "}"
    if choice < 11:
        return f"[{', '.join(inner)}]"
    return f"{random.choice(FUNCTIONS)}({','.join(inner)})"


def checked(overrides: list[str]) -> bool:
    """Only RecipeError comes out, and the mapping that was given stays as it was; what is read reads back."""
    before = repr(BASE)
    try:
        recipe = initplug.load(BASE, overrides)
    except RecipeError as error:
        well_said(error)
        assert error.findings, "a RecipeError without findings"
        return False
    finally:
        assert repr(BASE) == before, "the mapping that was given has changed"
    reads_back(recipe)
    return True
