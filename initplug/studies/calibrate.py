"""Calibration by data: layer by layer, in the order of the forward, a weight's draw is scaled until its output fits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from initplug.columns import coded
from initplug.errors import (
    ApplyError,
    Finding,
    InitplugWarning,
    ProbeError,
    did_you_mean,
    headed,
    shortened,
    warn,
)
from initplug.filling.apply import apply, settings_of
from initplug.filling.backups import backed_up, restored_on_failure
from initplug.filling.replicas import NO_REPLICAS, replicated
from initplug.filling.select import Fitted, fitted
from initplug.filling.sharding import is_sharded
from initplug.filling.sources import sources_of
from initplug.filling.work import Progress, Settings, Work
from initplug.language.faults import shown
from initplug.language.loading import load
from initplug.planning.plan import Plan
from initplug.planning.slots import Slots
from initplug.planning.wrappers import unwrapped
from initplug.schemes.compositions import Copy, Drawn, Load
from initplug.studies.calibrating.calibration import Calibration, counted
from initplug.studies.calibrating.course import Course
from initplug.studies.calibrating.factored import factored
from initplug.studies.calibrating.layers import layers_of
from initplug.studies.calibrating.scaling import Goal
from initplug.studies.probing.inputs import Inputs, check_names, inputs_of
from initplug.values import is_whole, plain

METHODS = ("lsuv",)


def calibrate(
    model: nn.Module,
    recipe: Any,
    inputs: Any,
    *,
    seed: int,
    method: str = "lsuv",
    target: float = 1.0,
    tolerance: float = 0.05,
    rounds: int = 10,
    skip: str | Iterable[str] = (),
    threads: int | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Initialise a model in place, with factors that bring the output of every layer to one standard deviation.

    The recipe is applied. Then the inputs go through the model once, and each layer, when its turn comes, has its
    weight drawn again times target / std, until its output fits; what comes after it sees that output already. Further
    passes look whether all still fits. `calibration.recipe` is the recipe with those factors: applied under the same
    seed it gives the same weights to the bit, also to a model that is sharded.

    A layer is a module with a `weight` of two or more dimensions that is drawn: linear layers, convolutions, and those
    of other libraries. Left as the recipe gives them, and named, are weights that are copied, loaded, kept, frozen or
    0; norms, and embeddings, whose output has the std of their weight; weights that their module's output does not
    follow; modules that the forward does not call. A tied weight is scaled once, where it multiplies. Biases stay.

    The forward runs in evaluation mode without gradients. Buffers, gradients, training modes and generators are as
    before; after a failure all else is, too.

    Args:
        model: any module that is not sharded. What it has on meta gets memory on the CPU first.
        recipe: a Recipe, or anything that `load` takes.
        inputs: of the forward: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.
        seed: 0 to 2^64 - 1.
        method: `lsuv`, layer-sequential unit variance; its orthogonal weights are the recipe's to say.
        target: the standard deviation of outputs.
        tolerance: relative to the target, between 0 and 1.
        rounds: how often a weight is drawn again at most.
        skip: selectors of weights that are left, such as those at the end of residual branches.
        threads: that draw, which changes nothing; as many as torch uses, up to 8, by default.
        progress: called with the number of layers done and of all layers.

    Raises:
        RecipeError: the recipe cannot be read.
        PlanError: the recipe does not fit the model.
        ApplyError: arguments that cannot be, a sharded or lazy model, a forward that fails, an output that holds NaN
            or infinities, by the name of its layer. Everything is as it was.

    Example:
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))
        >>> rules = {"rules": {"*.weight": "orthogonal", "*.bias": 0}}
        >>> calibration = calibrate(model, rules, 5 * torch.ones(1, 64).cumsum(1).sin(), seed=0)
        >>> [(row.name, row.outcome, abs(row.std - 1) < 0.05) for row in calibration]
        [('0.weight', 'scaled', True), ('2.weight', 'scaled', True)]
        >>> applied = apply(model, calibration.recipe, seed=0)

    Source: Mishkin and Matas 2016, arXiv:1511.06422.
    """
    seed, threads = plain(seed), plain(threads)
    goal = _checked(seed, method, plain(target), plain(tolerance), plain(rounds))
    settings = settings_of(seed, threads, False, False, progress)
    given = _given(model, inputs)
    recipe = load(recipe.recipe if isinstance(recipe, Plan) else recipe)
    if isinstance(model, nn.Module):
        _refuse_shared(model)
    with _silent():
        found = fitted(model, recipe, "")
    _refuse_sharded(found.slots)
    layers_of(found, skip, goal)  # which refuses what selects nothing
    with restored_on_failure() as backups:
        written = found.plan.shares.where(lambda share: isinstance(share.distribution, Drawn | Copy | Load))
        backups.append(backed_up(found.tree, found.slots, written, torch.device("cpu")))
        apply(model, recipe, seed=seed, threads=threads, measure=False)
        with _silent():
            fresh = fitted(model, found.plan, "")  # what was on meta has other tensors now
            layers, left = layers_of(fresh, skip, goal)
            passes = Course(_work(fresh, settings), layers, progress).run(model, given, goal.rounds)
            rows = [layer.scaling() for layer in sorted(layers, key=lambda layer: layer.order or len(layers) + 1)]
            result = factored(found.plan, {row.name: row.factor for row in rows if row.factor != 1})
            audit = apply(model, result, seed=seed, threads=threads)
        calibration = Calibration(type(unwrapped(model)).__name__, result, (*rows, *left), goal, seed, passes, audit)
        _warn_of_misses(calibration)
    return calibration


def _warn_of_misses(calibration: Calibration) -> None:
    """Warn where nothing was scaled, and of outputs that no factor brought near enough."""
    if len(calibration.left()) == len(calibration):
        warn("\n".join(["no weight was scaled", *shortened([f"  {row}" for row in calibration])]))
    problems, goal = calibration.problems(), calibration.goal
    if problems:
        have = "has" if len(problems) == 1 else "have"
        head = f"{counted(len(problems), 'layer')} {have} no output of std {goal.target:g} ± {goal.tolerance:.3g}"
        warn("\n".join([head, *shortened([f"  {row}" for row in problems])]))


def _checked(seed: Any, method: Any, target: Any, tolerance: Any, rounds: Any) -> Goal:
    """Return the goal of a call, its arguments checked."""
    if method not in METHODS:
        hint = did_you_mean(method, METHODS) if isinstance(method, str) else None
        raise ApplyError(f"method={shown(method)} is none: {hint or ', '.join(METHODS)}")
    if seed is None:
        raise ApplyError("seed=None: a weight that is drawn again must be the same draw, so calibrating takes a seed")
    if not _is_number(target) or not 0 < target < math.inf:
        raise ApplyError(f"target={shown(target)}: the standard deviation of outputs is a positive number")
    if not _is_number(tolerance) or not 0 < tolerance < 1:
        raise ApplyError(f"tolerance={shown(tolerance)}: it is relative to the target, a number between 0 and 1")
    if not is_whole(rounds) or rounds < 1:
        raise ApplyError(f"rounds={shown(rounds)}: a weight is drawn again a whole number of times, at least once")
    return Goal(float(target), float(tolerance), rounds)


def _given(model: Any, inputs: Any) -> Inputs:
    """Return the inputs of a forward, refused here where it would not take them."""
    try:
        given = inputs_of(inputs)
        if isinstance(model, nn.Module):
            check_names(unwrapped(model), given)
    except ProbeError as error:
        raise ApplyError(str(error), error.findings) from None
    return given


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


UNSHARDED = "calibrate the model before it is sharded, and apply calibration.recipe to the sharded one"


def _refuse_shared(model: nn.Module) -> None:
    """Refuse a model that other ranks have replicas of: each would find factors of its own."""
    if replicated(model) != NO_REPLICAS:
        raise ApplyError(
            "ranks share this model (DistributedDataParallel) and each would find other factors: "
            "calibrate it on one rank before it is wrapped, and apply calibration.recipe on all"
        )


def _refuse_sharded(slots: Slots) -> None:
    """Refuse a model of which ranks hold parts."""
    held = [name for name, tensor in zip(slots.names, slots.tensors, strict=True) if is_sharded(tensor)]
    held += [slots[row].name for row in slots.computed if any(map(is_sharded, slots[row].stored))]
    if held:
        findings = [Finding(name, "it is a DTensor") for name in held]
        head = f"{len(held)} of {len(slots)} tensors are sharded"
        raise ApplyError(f"{headed(head, findings)}\n{UNSHARDED}", findings)
    lazy = [slot.name for slot in slots if slot.lazy]
    if lazy:
        findings = [Finding(name, "it waits for a first batch to learn its shape") for name in lazy]
        head = f"{len(lazy)} of {len(slots)} tensors are lazy"
        raise ApplyError(f"{headed(head, findings)}\nRun the model on the inputs once, then calibrate it.", findings)


@contextmanager
def _silent() -> Iterator[None]:
    """Leave warnings to the first apply."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InitplugWarning)
        yield


def _work(found: Fitted, settings: Settings) -> Work:
    """Return what drawing single slots of an applied model again takes."""
    settings = settings._replace(progress=None)
    statuses: Any = coded(["initialized"] * len(found.plan))
    sources, lost = sources_of(found.plan, found.tree, found.slots)
    return Work(found.plan, found.tree, found.slots, statuses, {}, settings, NO_REPLICAS, sources, lost)
