"""`probe`: what signals and gradients do on their way through a model, under one recipe or several."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from initplug.errors import ApplyError, InitplugError, ProbeError, brief
from initplug.filling.apply import apply
from initplug.language.loading import load
from initplug.language.recipe import Recipe
from initplug.planning.wrappers import unwrapped
from initplug.studies.probing.comparison import Probe
from initplug.studies.probing.inputs import Inputs, check_names, inputs_of
from initplug.studies.probing.traces import Trace
from initplug.studies.probing.tracing import traced, walked

AS_IT_STANDS = "as it stands"
"""The name of the trace of a model that no recipe was applied to."""


def probe(
    model: nn.Module,
    inputs: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    recipes: Any = None,
    seed: int | None = None,
) -> Probe:
    """Say what signals and gradients do on their way through a model, in one forward and one backward pass.

    Of every layer: mean and std of what it gives, how much of that differs between inputs, the shares of zeros, of dead
    and of saturated units, the std of the gradient that comes back, and the ratios from layer to layer. Numbers are
    measured on the way; no activation is kept. The model is as it was afterwards, also after an exception: values,
    buffers, gradients, modes, hooks, attributes, generators. It runs in the mode that it is in, compiled models as they
    were written.

    Args:
        model: any module that has values; with `recipes` it may be on meta.
        inputs: of its forward: a mapping of keyword ones, a tuple of positional ones, or the only one.
        loss: makes a scalar of what the model gives, from which the backward pass starts. Without one it starts from
            the loss that the model gives itself, or from unit normals, which are the same each time.
        recipes: a recipe, several, or a mapping of names to recipes, each whatever `load` takes; a trace for each, on
            one copy of the model at a time. Without them the model is probed as it stands.
        seed: of the recipes.

    Raises:
        ProbeError: the inputs do not fit, forward raised (with the layer, and in `trace` what had been measured),
            nothing needs a gradient, or tensors are lazy, sharded or on meta.
        RecipeError: a recipe cannot be read.
        PlanError: a recipe does not fit the model.

    Example:
        >>> net = nn.Sequential(*(module for _ in range(40) for module in (nn.Linear(64, 64), nn.ReLU())))
        >>> recipes = {name: {"*.weight": f"{name}_normal", "*.bias": 0} for name in ("xavier", "kaiming")}
        >>> recipes = {name: {"rules": rules} for name, rules in recipes.items()}
        >>> found = probe(net, torch.randn(32, 64), recipes=recipes, seed=0)
        >>> [verdict.kind for verdict in found.problems()]
        ['signal dies', 'gradient vanishes']
        >>> [verdict.kind for verdict in found.judgements["kaiming"] if verdict.alarm]
        []
    """
    if loss is not None and not callable(loss):
        raise ProbeError(f"loss is a function of what the model gives, not a {type(loss).__name__}")
    if recipes is None and seed is not None:
        raise ProbeError("seed= is that of recipes=: without them the model is probed as it stands")
    if recipes is not None and seed is None:
        raise ProbeError("recipes= needs seed=, under which each of them is applied")
    named = None if recipes is None else _named(recipes)
    walked(model, values=named is None)
    given = inputs_of(inputs)
    inner = unwrapped(model)
    check_names(inner, given)
    if named is None:
        return Probe(type(inner).__name__, given.text, None, (traced(model, given, loss=loss, name=AS_IT_STANDS),))
    with torch.inference_mode(False):  # copies are to be trained
        traces = [_applied(inner, name, recipe, seed, given, loss) for name, recipe in named.items()]
    return Probe(type(inner).__name__, given.text, seed, tuple(traces))


def _named(recipes: Any) -> dict[str, Recipe]:
    """Return recipes by the names of their traces."""
    if isinstance(recipes, Mapping) and not ({"rules", "defaults"} & recipes.keys()):
        if not recipes:
            raise ProbeError("recipes= names none")
        return {str(name): load(recipe) for name, recipe in recipes.items()}
    listed = list(recipes) if isinstance(recipes, list | tuple) else [recipes]
    if not listed:
        raise ProbeError("recipes= names none")
    found: dict[str, Recipe] = {}
    for name, recipe in _loaded(listed):
        count = 2
        unique = name
        while unique in found:
            unique, count = f"{name} ({count})", count + 1
        found[unique] = recipe
    return found


def _loaded(recipes: Sequence[Any]) -> Iterator[tuple[str, Recipe]]:
    for place, one in enumerate(recipes, 1):
        recipe = load(one)
        given = one if isinstance(one, str) and "\n" not in one else None
        yield recipe.name or given or f"recipe {place}", recipe


def _applied(
    model: nn.Module, name: str, recipe: Recipe, seed: int | None, inputs: Inputs, loss: Callable[[Any], Any] | None
) -> Trace:
    """Return the trace of a copy of the model that a recipe was applied to."""
    try:
        with torch.no_grad():
            ours = copy.deepcopy(model)
    except Exception as error:
        raise ProbeError(
            f"{type(model).__name__} cannot be copied ({brief(error)}): apply one recipe and probe without recipes="
        ) from None
    try:
        apply(ours, recipe, seed=seed, measure=False)
    except ApplyError as error:
        raise ApplyError(f"{name}: {error}", error.findings) from None
    try:
        trace: Trace = traced(ours, inputs, loss=loss, name=name)
    except ProbeError as error:
        raise ProbeError(f"{name}: {error}", error.findings, error.trace) from error.__cause__
    except InitplugError as error:
        raise ProbeError(f"{name}: {error}") from None
    return trace
