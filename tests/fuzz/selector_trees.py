"""Selectors against a brute-force matcher, on random trees of modules with ties, shared modules, gaps and buffers."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from brute_matching import Place, Selector, places_of, selected, written
from torch import nn

import initplug

RULES = 16
"""How many selectors are tried on one tree."""


class Alpha(nn.Module):
    pass


class Beta(nn.Module):
    pass


class BetaGamma(Beta):
    pass


class Gamma(BetaGamma, Alpha):
    pass


class Stack(nn.Sequential):
    pass


CLASSES = {cls.__name__: cls for cls in (Alpha, Beta, BetaGamma, Gamma, Stack, nn.ModuleList)}
NAMES = ["a", "b", "ab", "abc", "conv", "conv1", "conv10", "bn", "0", "1", "2", "10", "w", "weight", "A", "a_b"]
TYPES = [
    "Alpha",
    "Beta",
    "BetaGamma",
    "Gamma",
    "Stack",
    "Sequential",
    "Module",
    "ModuleList",
    "object",
    "alpha",
    "Nope",
]
PACKAGES = ["", "", "", __name__, "torch.nn", "torch", "torch.nn.modules.container", "tor", f"{__name__}.x"]
SETS = ["ab", "abc", "01", "0123456789", "wW", "a", "c1", "bcdefgh"]

Spec = tuple[dict[str, Any], list[dict[str, Any]], dict[str, str]]
"""A tree, the rules that are tried on it, and the settings of their recipe, as plain data."""


# Trees -------------------------------------------------------------------------------------------------------


def _tree(random: Random, depth: int) -> dict[str, Any]:
    """A module as data: its class, and what it holds by name: a module, a tensor, or what was made before."""
    held: dict[str, Any] = {}
    for name in random.sample(NAMES, random.randrange(1, 5)):
        choice = random.random()
        if depth and choice < 0.5:
            held[name] = _tree(random, depth - 1)
        elif choice < 0.57:
            held[name] = ["shared", random.randrange(8)]
        elif choice < 0.65:
            held[name] = ["tied", random.randrange(8)]
        elif choice < 0.7:
            held[name] = ["no module"]
        elif choice < 0.73:
            held[name] = ["no tensor"]
        else:
            kind = random.choice(("parameter", "parameter", "parameter", "frozen", "buffer"))
            held[name] = [kind, random.randrange(1, 4)]
    return {"class": random.choice([*CLASSES]), "held": held}


def grown(tree: dict[str, Any]) -> nn.Module:
    """The module that a tree describes."""
    finished: list[nn.Module] = []
    tensors: list[nn.Parameter] = []

    def grow(tree: dict[str, Any]) -> nn.Module:
        module: nn.Module = CLASSES[tree["class"]]()
        for name, one in tree["held"].items():
            match one:
                case dict():
                    module.add_module(name, grow(one))
                case ["shared", which] if finished:
                    module.add_module(name, finished[which % len(finished)])
                case ["tied", which] if tensors:
                    module.register_parameter(name, tensors[which % len(tensors)])
                case ["no module"]:
                    module.add_module(name, None)
                case ["no tensor"]:
                    module.register_parameter(name, None)
                case ["buffer", ndim]:
                    module.register_buffer(name, torch.ones((1,) * ndim))
                case [kind, size]:
                    tensors.append(nn.Parameter(torch.ones((1,) * (size % 3 + 1)), requires_grad=kind != "frozen"))
                    module.register_parameter(name, tensors[-1])
        finished.append(module)
        return module

    return grow(tree)


# Selectors ---------------------------------------------------------------------------------------------------


def _token(random: Random) -> list[Any]:
    choice = random.random()
    if choice < 0.4:
        return ["text", random.choice(("a", "b", "c", "conv", "0", "1", "w", "_", "eight", "A"))]
    if choice < 0.6:
        return ["star"]
    if choice < 0.7:
        return ["any"]
    if choice < 0.85:
        return ["set", random.choice(SETS), random.random() < 0.4]
    return ["either", [_plain(random) for _ in range(random.randrange(1, 4))]]


def _plain(random: Random) -> list[Any]:
    """A glob without alternatives; two stars in a row would be another segment."""
    if random.random() < 0.5:
        return [["text", random.choice(NAMES)]]
    return [random.choice((["star"], ["text", "a"], ["any"])), ["text", random.choice("ab01c")]]


def _glob(random: Random) -> list[Any]:
    if random.random() < 0.45:
        return [["text", random.choice(NAMES)]]
    glob: list[Any] = []
    for _ in range(random.randrange(1, 4)):
        token = _token(random)
        if _starry(glob[-1:]) and _starry([token]):
            continue
        glob.append(token)
    return glob


def _starry(tokens: list[Any]) -> bool:
    """Return whether these may end or begin with a star once alternatives are written out."""
    return any(kind in ("star", "either") for kind, *_ in tokens)


def _types(random: Random) -> list[Any]:
    return [[random.choice(PACKAGES), _type(random)] for _ in range(random.choice((1, 1, 2)))]


def _type(random: Random) -> list[Any]:
    name = random.choice(TYPES)
    choice = random.random()
    if choice < 0.6:
        return [["text", name]]
    if choice < 0.75:
        return [["text", name[:2]], ["star"]]
    if choice < 0.9:
        return [["star"], ["text", name[-3:]]]
    return [["any"], ["text", name[1:]]]


def _segment(random: Random) -> dict[str, Any]:
    choice = random.random()
    if choice < 0.5:
        return {"name": _glob(random)}
    if choice < 0.62:
        return {"depth": True}
    if choice < 0.72:
        place: dict[str, Any] = {"place": -random.randrange(1, 4)}
        return {**place, "types": _types(random)} if random.random() < 0.2 else place
    if choice < 0.88:
        return {"types": _types(random)}
    return {"name": _glob(random), "types": _types(random)}


def _selector(random: Random) -> Selector:
    segments = [_segment(random) for _ in range(random.choice((1, 1, 2, 2, 3, 4)))]
    selector = {"anchored": random.random() < 0.2, "segments": segments}
    # In a mapping as in Hydra, `???` stands for a value that is still missing.
    return selector if written(selector) != "???" else _selector(random)


def _rule(random: Random) -> dict[str, Any]:
    rule: dict[str, Any] = {"match": [_selector(random)]}
    if random.random() < 0.1:
        rule["match"].append(_selector(random))
    if random.random() < 0.2:
        rule["except"] = [_selector(random)]
    if random.random() < 0.1:
        rule["kind"] = "buffer"
    elif random.random() < 0.2:
        rule["trainable"] = random.choice((True, False, "any"))
    if random.random() < 0.1:
        rule["ndim"] = random.choice((1, [1, 3], ">=2", "<2", "!=1"))
    return rule


def made(random: Random) -> Spec:
    """A tree, and as many rules as selectors are to be tried on it."""
    settings = {"frozen": random.choice(("keep", "write")), "unused": random.choice(("ignore", "ignore", "warn"))}
    return _tree(random, 3), [_rule(random) for _ in range(RULES)], settings


# Check -------------------------------------------------------------------------------------------------------


def checked(spec: Spec) -> bool:
    """Compare what every rule takes with what it takes by brute force; the last of them wins."""
    tree, rules, settings = spec
    model = grown(tree)
    said = {f"r{index}": _said(rule) for index, rule in enumerate(rules)}
    plan = _planned(model, initplug.load({"unmatched": "keep", **settings, "rules": said}))
    places = [*places_of(model)]
    tensors: dict[int, list[int]] = {}
    for index, place in enumerate(places):
        tensors.setdefault(id(place.tensor), []).append(index)
    frozen = settings.get("frozen", "keep")
    taken = [taken_by(rule, places, [*tensors.values()], frozen) for rule in rules]
    rows = {row.name: row for row in plan}
    for own in tensors.values():
        names, kind = [places[index].name for index in own], places[own[0]].kind
        row = next((rows.pop(name) for name in names if name in rows), None)
        taking = [name for name, hits in zip(said, taken, strict=True) if own[0] in hits]
        if row is None:
            assert kind == "buffer" and not taking, f"{names[0]} has no row, and {taking} take it"
            continue
        assert {row.name, *row.aliases} == {*names}, f"{row.name} is also {row.aliases}, by brute force {names}"
        found = [*row.shadowed, *([] if row.rule is None else [row.rule])]
        assert found == taking, f"{row.name} is taken by {found}, by brute force by {taking}"
    assert not rows, f"rows of no tensor: {[*rows]}"
    return any(taken)


def _planned(model: nn.Module, recipe: initplug.Recipe) -> initplug.Plan:
    """The plan, also where all that is there to write is frozen, which is refused."""
    try:
        return initplug.plan(model, recipe)
    except initplug.PlanError as error:
        assert "nothing else is there to write" in str(error)
        found: initplug.Plan = error.plan
        return found


def taken_by(rule: dict[str, Any], places: list[Place], tensors: list[list[int]], frozen: str) -> set[int]:
    """The tensors that a rule takes, by their first places: any of the names of a tensor counts."""
    trainable = rule.get("trainable", True if frozen == "keep" else "any")
    wanted = {index for selector in rule["match"] for index in selected(selector, places)}
    unwanted = {index for selector in rule.get("except", []) for index in selected(selector, places)}
    return {
        own[0]
        for own in tensors
        if places[own[0]].kind == rule.get("kind", "parameter")
        and counts(rule.get("ndim"), places[own[0]].tensor.dim())
        and (places[own[0]].kind == "buffer" or trainable in ("any", places[own[0]].tensor.requires_grad))
        and wanted.intersection(own)
        and not unwanted.intersection(own)
    }


def counts(wanted: Any, ndim: int) -> bool:
    """Return whether a number of dimensions is one that is wanted."""
    if wanted is None:
        return True
    if isinstance(wanted, list):
        return ndim in wanted
    return {"1": ndim == 1, ">=2": ndim >= 2, "<2": ndim < 2, "!=1": ndim != 1}[str(wanted)]


def _said(rule: dict[str, Any]) -> dict[str, Any]:
    """The rule as a recipe holds it."""
    selectors: dict[str, Any] = {key: [*map(written, rule[key])] for key in ("match", "except") if key in rule}
    return {**rule, **selectors, "init": 0}
