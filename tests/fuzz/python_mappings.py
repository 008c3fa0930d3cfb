"""Recipes as Python objects: mappings of presets and short forms, with odd values and odd keys put into them."""

from __future__ import annotations

import datetime
import enum
import json
from collections import OrderedDict, UserDict, UserString, deque
from collections.abc import Iterator, Mapping
from dataclasses import make_dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from fuzzing import well_said
from preset_pool import INITS, NUMBERS, RULES, SELECTORS, SHORT, SIGNS, WORDS
from recipe_texts import plans, reads_back

import initplug
from initplug.errors import RecipeError
from initplug.language.numbers import Written


class Word(str):
    __slots__ = ()


class Count(int):
    pass


class Real(float):
    pass


class Mode(enum.Enum):
    fan_in = "fan_in"
    one = 1


class Texts(str, enum.Enum):
    fan_out = "fan_out"


class Counts(enum.IntEnum):
    two = 2


class Broken(Mapping[str, Any]):
    """A mapping whose keys cannot be listed."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("no item")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no keys")

    def __len__(self) -> int:
        return 3

    def __repr__(self) -> str:
        return "Broken()"


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


def _circle() -> dict[str, Any]:
    circle: dict[str, Any] = {"fn": "normal"}
    circle["std"] = circle
    return circle


def _deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value] if depth % 2 else {"a": value}
    return value


ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e-320, 10**30, -(10**400), 2**63, 2**64, 1e308, 1 << 20, float("nan"),
    float("inf"), "", " ", "*", "\ud800", "x" * 2000, b"x", bytearray(b"x"), ..., NotImplemented, np.float32(2),
    np.float64(2), np.int64(2), np.uint8(2), np.float16(2), np.longdouble(2), np.bool_(1), np.nan, np.float32("nan"),
    np.datetime64("2026-01-01"), np.str_("*.bias"), np.array(0.5), np.array(1), np.array("*"), np.array([1.0, 2.0]),
    np.array(["*", "a"]), torch.tensor(1), torch.tensor(0.5), torch.ones(2), Count(1), Real(1), Fraction(1),
    Decimal(1), complex(1), Word("*.bias"), UserString("*.bias"), Path("*.bias"), Mode.fan_in, Mode.one,
    Texts.fan_out, Counts.two, datetime.date(2026, 1, 1), range(3), slice(3), len, dict, ("*", "a"), {"*", "a"},
    frozenset("*a"), MappingProxyType({"fn": "normal"}), OrderedDict(fn="normal"), UserDict(fn="normal"),
    deque(["*", "a"]), object(), Broken(), Unprintable(), [[]], {}, [], _circle(), _deep(20), _deep(33), _deep(400),
    make_dataclass("Plain", [("fn", str)])("normal"), make_dataclass("Class", [("match", str), ("init", int)]),
]  # fmt: skip
"""Values of which few are plain, and some have no text, no end or no length."""

KEYS: list[Any] = [
    0, 1, -1, 1.5, None, True, (), ("a",), b"x", "", " ", "a.b", "\ud800", 10**400, "x" * 500, "\n", "\x1b[31m",
    np.str_("match"), np.int64(3), Word("init"), Texts.fan_out, Counts.two, Mode.one, frozenset(), float("nan"),
    object(), Unprintable(),
]  # fmt: skip


def made(random: Random) -> Any:
    """A mapping that is a recipe, or nearly."""
    data: dict[Any, Any] = {"rules": {}}
    for key in ("unmatched", "unused", "name", "frozen"):
        if random.random() < 0.15:
            data[key] = random.choice(WORDS)
    for index in range(random.randrange(4)):
        if random.random() < 0.5:
            name, rule = random.choice(RULES)
            data["rules"][name] = _copied(rule)
        else:
            name = random.choice((random.choice(SELECTORS), f"r{index}"))
            init = random.choice((random.choice(SHORT), _copied(random.choice(INITS)), random.choice(SHORT)))
            data["rules"][name] = init if random.random() < 0.5 else {"match": random.choice(SELECTORS), "init": init}
    for _ in range(random.choice((0, 1, 1, 1, 2, 4))):
        data = _mutated(random, data)
    return data


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return [*map(_copied, value)] if isinstance(value, list) else value


def _mutated(random: Random, data: Any) -> Any:
    """The data with one value, or one key, at any depth that is another; odd ones oftener than not."""
    if type(data) is dict and data and random.random() < 0.8:
        key = random.choice([*data])
        choice = random.random()
        if choice < 0.12:
            other = random.choice(KEYS) if random.random() < 0.5 else random.choice(WORDS)
            return {other if old is key else old: value for old, value in data.items()}
        if choice < 0.18:
            return {old: value for old, value in data.items() if old is not key}
        if choice < 0.26:
            return {**data, random.choice(WORDS): _value(random)}
        return {old: _mutated(random, value) if old is key else value for old, value in data.items()}
    if type(data) is list and data and random.random() < 0.7:
        place = random.randrange(len(data))
        return [_mutated(random, part) if index == place else part for index, part in enumerate(data)]
    return _value(random)


def _value(random: Random) -> Any:
    choice = random.random()
    if choice < 0.6:
        return random.choice(ODD)
    words = random.choice((WORDS, SHORT, NUMBERS, SELECTORS, SIGNS))
    return random.choice(words) if choice < 0.9 else [random.choice(words)]


def checked(data: Any) -> bool:
    """Only RecipeError comes out; what is read holds plain values alone, and reads back as itself."""
    try:
        recipe = initplug.load(data)
    except RecipeError as error:
        well_said(error)
        assert error.findings, "a RecipeError without findings"
        return False
    json.dumps(recipe.plain(), allow_nan=False)
    _exact(recipe.plain())
    reads_back(recipe)
    plans(recipe)
    return True


def _exact(value: Any) -> None:
    """Raise unless all values are exactly of the types that JSON has, or numbers that keep their text."""
    if isinstance(value, dict):
        for key, part in value.items():
            assert type(key) is str, f"a key is a {type(key).__name__}"
            _exact(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _exact(part)
    else:
        assert value is None or type(value) in (str, int, float, bool, Written), f"a value is a {type(value).__name__}"
