"""The one door to a model's values: `apply` writes a plan and measures it, `audit` measures a model as it stands."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from initplug.auditing.audit import Audit, Status, to_write
from initplug.collectives import NO_FACTS, Circle, agree_on
from initplug.columns import Coded
from initplug.errors import ApplyError, brief
from initplug.filling.agreement import facts_of
from initplug.filling.backups import Backup, backed_up, restored_on_failure
from initplug.filling.checks import (
    beyond_streams,
    refuse,
    refuse_unreadable,
    unnamed,
    unplaced,
    unreachable,
    unread_shards,
    unseeded,
    unshaped,
    unsourced,
)
from initplug.filling.clones import Clone, clones, warn_of_parted
from initplug.filling.copies import redraw_across_ranks, redraw_from_elsewhere
from initplug.filling.former import warn_of_set_values
from initplug.filling.materialize import check_complete, device_of, materialize, missing
from initplug.filling.measure import audited
from initplug.filling.only import Chosen, warn_of_parts, warn_of_unruled
from initplug.filling.overlaps import overlapping, overwritten
from initplug.filling.owners import rehearsed
from initplug.filling.recomputation import judged_exactly
from initplug.filling.replicas import NO_REPLICAS, Replicas, replicated
from initplug.filling.select import fitted
from initplug.filling.sharding import circle_of, reshard
from initplug.filling.sources import sources_of
from initplug.filling.torch_draws import filler
from initplug.filling.words import SEEDS
from initplug.filling.work import Progress, Settings, Work
from initplug.filling.write import write
from initplug.kernels import KernelError, chosen
from initplug.language.faults import shown
from initplug.planning.assignment import Share
from initplug.planning.objections import warn_of_frozen, warn_of_lazy
from initplug.planning.plan import Plan
from initplug.planning.remarks import warn_of_unread
from initplug.schemes.compositions import Drawn, Keep
from initplug.values import is_whole, plain


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep values from depending on autocast or on a default device that holds none, and time on other memory.

    What is made here stays, and there is much of it: the collector of cycles would look through the whole process for
    nothing, which takes longer than filling thousands of small tensors.
    """
    with ExitStack() as stack:
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())  # Ctrl-C may fall between a block and its end
        if gc.isenabled():
            gc.disable()
            stack.callback(gc.enable)
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type == "meta":
            stack.enter_context(torch.device("cpu"))
        yield


MOST_THREADS = 8
"""How many threads draw unless more are asked for: each has a few MB of memory of its own."""


def apply(
    model: nn.Module,
    recipe: Any,
    *,
    seed: int | None = None,
    only: str | Iterable[str] | None = None,
    prefix: str = "",
    device: torch.device | str | int | None = None,
    threads: int | None = None,
    measure: bool = True,
    histograms: bool = False,
    progress: Progress | None = None,
    group: Any = None,
    check: bool = True,
    atomic: bool = False,
) -> Audit:
    """Initialise a model in place.

    With a seed every value depends on the seed, the tensor's name and the place in it alone, and no global generator is
    read or moved. Without one slots are filled from torch's global generator in `named_parameters()` order, buffers
    last, a tied tensor once: bit for bit what a hand-written loop over torch.nn.init gives. Everything is checked
    before the first write.

    Of sharded tensors (DTensor: `fully_shard`, `parallelize_module`) every rank writes what it holds, bit for bit its
    part of the model that one process would initialise. All ranks call it, those of a DistributedDataParallel too; they
    compare what they plan of what they share before anything is written, and hear of each other's errors.

    Args:
        model: any module. What it has on meta gets memory first, one tensor for all places of each; all else stays.
        recipe: a Plan, a Recipe, or anything that `load` takes.
        seed: 0 to 2^64 - 1; None for torch's global generator.
        only: a selector, or names; everything else keeps its values, or stays on meta.
        prefix: the canonical name of `model` in the whole model that recipe and plan are about.
        device: where tensors that are on meta get their memory; None is the CPU.
        threads: that draw under a seed and measure, which changes nothing; as many as torch uses, up to 8, by default.
        measure: whether the audit measures what was written.
        histograms: whether it counts the values too, which takes a second reading; its page draws them.
        progress: called with the number of slots done and of all slots.
        group: process group whose ranks compare; by default all ranks of the meshes of the model's DTensors
            and of its DistributedDataParallel wrappers.
        check: whether ranks compare at all. Without it plain tensors that are marked as parts (`tensor_model_parallel`)
            are written, too, and replicas without a seed.
        atomic: whether a failure after the first write, Ctrl-C and other ranks' failures included, leaves everything as
            it was: values, ties, memory, what is on meta and torch's generators. It takes a copy of what is going to be
            written first; what is on meta costs none.

    Raises:
        RecipeError: the recipe cannot be read.
        PlanError: the recipe does not fit the model.
        ApplyError: a plan of another model, or tensors that cannot be written; after the first write it says what
            had been written, or with `atomic` that everything is as it was. Another rank failed, or plans something
            else.

    Example:
        >>> audit = apply(nn.Linear(64, 64), {"rules": {"*.weight": "xavier_uniform", "*.bias": 0}}, seed=0)
        >>> audit["weight"].status, audit["weight"].verdict
        ('initialized', 'ok')
    """
    if isinstance(model, nn.Module):
        reshard(model)
    replicas = replicated(model) if isinstance(model, nn.Module) else NO_REPLICAS
    circle = _circle_of_call(model, group, replicas) if check else Circle()

    def written(backups: list[Backup]) -> tuple[Audit, list[Clone]]:
        """Return the audit, and what were copies before; drop all else that was made on the way."""
        work = agree_on(
            lambda: _prepare(
                model,
                recipe,
                settings_of(seed, threads, measure, histograms, progress),
                only=plain(only),
                prefix=plain(prefix),
                device=plain(device),
                replicas=replicas,
                check=check,
                atomic=atomic,
            ),
            circle,
            lambda work: facts_of(work, {"seed": seed, "atomic": atomic}, plain=group is not None),
            "before anything was written",
        )
        backups += filter(None, [work.backup])
        alike: list[Clone] = []
        found = agree_on(
            lambda: _write_and_measure(work, alike), circle, lambda _: NO_FACTS, "while values were written"
        )
        return found, alike

    with restored_on_failure() as backups, _undisturbed():
        found, alike = written(backups)
        warn_of_parted(alike)
    return found


def _circle_of_call(model: Any, group: Any, replicas: Replicas) -> Circle:
    """Return the ranks that apply to a model together."""
    if group is not None:
        return Circle.of(group)
    return circle_of(model, replicas) if isinstance(model, nn.Module) else Circle()


def _prepare(
    model: nn.Module,
    recipe: Any,
    settings: Settings,
    *,
    only: str | Iterable[str] | None,
    prefix: str,
    device: Any,
    replicas: Replicas,
    check: bool,
    atomic: bool,
) -> Work:
    """Plan and check; nothing is written."""
    where = device_of(device)
    plan, tree, slots, buffers, chosen = fitted(model, recipe, prefix, only)
    statuses, reasons = _chosen_of(plan.shares.each(_applied), chosen)
    work = Work(plan, tree, slots, statuses, reasons, settings, replicas, *sources_of(plan, tree, slots))
    if work.lost and only is None and settings.seed is not None:
        redraw_from_elsewhere(work)
    if work.sources:
        redraw_across_ranks(work)
    work = replace(work, on_meta=missing(work, buffers, chosen.rows, where, whole=only is None))
    findings = [*work.on_meta.findings, *unsourced(work), *unshaped(work), *unreachable(work)]
    findings += unread_shards(work, chosen.rows)
    if check:
        findings += unplaced(work)
    if settings.seed is None:
        findings += unseeded(work, replicas if check else NO_REPLICAS)
    else:
        findings += [*unnamed(work), *beyond_streams(work)]
    refuse(work, findings)
    _warn_of_left(chosen, plan, restored=bool(work.on_meta.buffers), writing=True)
    warn_of_frozen(plan, slots, chosen.rows)
    warn_of_unread(plan, slots, chosen.rows)
    warn_of_set_values(work)
    return replace(work, backup=backed_up(tree, slots, to_write(statuses), where)) if atomic else work


def _write_and_measure(work: Work, alike: list[Clone]) -> Audit:
    """Write what has been checked, and measure it; modules that were alike before are added to a list."""
    alike += clones(work)
    materialize(work.tree, work.on_meta)
    shared = overlapping(work)
    record = write(work)
    check_complete(work.tree, work.on_meta)
    work = replace(work, statuses=work.statuses.replaced(dict.fromkeys(record.projected, "projected")))
    try:
        return audited(work, record.measured, overwritten(work, shared))
    except Exception as error:
        if isinstance(error, Warning):
            raise
        said = f"all {record.total} slots have been written, but could not be measured: {brief(error)}"
        raise ApplyError(said) from error


def audit(
    model: nn.Module,
    recipe: Any,
    *,
    seed: int | None = None,
    only: str | Iterable[str] | None = None,
    prefix: str = "",
    threads: int | None = None,
    progress: Progress | None = None,
    histograms: bool = False,
) -> Audit:
    """Measure a model as it stands against what a recipe plans for it; nothing is written.

    With a seed, what it gives is computed again, chunk by chunk, and compared to the bit: the verdict is `exact` or
    `differs`. Without one it is moments, extremes and what repeats itself that are looked at.

    Args:
        model: any module with its tensors on a device; of sharded ones each rank looks at what it holds.
        recipe: a Plan, a Recipe, or anything that `load` takes.
        seed: that the model was initialised with, 0 to 2^64 - 1; None where it is unknown, or none was used.
        only: a selector, or names; everything else is `kept`, and looked through for NaN and infinities alone.
        prefix: the canonical name of `model` in the whole model that recipe and plan are about.
        threads: how many measure and compute, which changes nothing; by default as many as torch uses, up to 8.
        progress: called with the number of slots compared under a seed and of all that are.
        histograms: whether the audit counts the values too; its page draws them.

    Raises:
        RecipeError: the recipe cannot be read.
        PlanError: the recipe does not fit the model.
        ApplyError: a plan of another model, or tensors without values.

    Example:
        >>> audit(nn.LayerNorm(8), {"rules": {"*.weight": 1, "*.bias": 1}})["bias"].verdict
        'differs'
        >>> layer, rules = nn.Linear(64, 64), {"*.weight": "xavier_uniform", "*.bias": 0}
        >>> applied = apply(layer, {"rules": rules}, seed=0)
        >>> audit(layer, {"rules": rules}, seed=0)["weight"].verdict
        'exact'
    """
    settings = settings_of(seed, threads, True, histograms, progress)
    with _undisturbed():
        plan, tree, slots, _, chosen = fitted(model, recipe, plain(prefix), only)
        warn_of_lazy(plan)
        statuses, reasons = _chosen_of(plan.shares.each(_as_it_stands), chosen)
        work = Work(plan, tree, slots, statuses, reasons, settings, replicated(model), *sources_of(plan, tree, slots))
        refuse_unreadable(work)
        projecting = {
            row
            for row in slots.computed
            if isinstance(plan.shares[row].distribution, Drawn)
            and rehearsed(slots[row], filler(plan.shares[row])) is False
        }
        _warn_of_left(chosen, plan, writing=False)
        warn_of_frozen(plan, slots, chosen.rows)
        warn_of_unread(plan, slots, chosen.rows)
        work = replace(work, projecting=projecting)
        return audited(work, settled={} if settings.seed is None else judged_exactly(work))


def settings_of(seed: Any, threads: Any, measure: bool, histograms: bool, progress: Progress | None) -> Settings:
    """Return the settings of a call, checked and plain."""
    try:
        chosen()
    except KernelError as error:
        raise ApplyError(str(error)) from None
    seed, threads = plain(seed), plain(threads)
    if seed is not None and not (is_whole(seed) and 0 <= seed < SEEDS):
        raise ApplyError(
            f"seed={_spelled_value(seed)}: a seed is a whole number from 0 to 2^64 - 1, or None for torch's generator"
        )
    if threads is not None and not (is_whole(threads) and threads >= 1):
        raise ApplyError(f"threads={_spelled_value(threads)}: a number of threads is a whole number of at least 1")
    if progress is not None and not callable(progress):
        raise ApplyError(f"progress={shown(progress)}: it is called with the number of slots done and of all slots")
    return Settings(seed, threads or min(torch.get_num_threads(), MOST_THREADS), measure, histograms, progress)


def _spelled_value(value: Any) -> str:
    """Return an argument as its caller spells it."""
    return str(value) if isinstance(value, bool) else shown(value)


def _chosen_of(every: Coded[Status], chosen: Chosen) -> tuple[Coded[Status], Mapping[int, str]]:
    """Return the status of each slot, which is `kept` where `only` leaves it out, and why."""
    if isinstance(chosen.rows, range):
        return every, {}
    left = [row for row in range(len(every)) if row not in chosen.rows]
    reasons = {row: reason for row in left if (reason := chosen.reason(row)) is not None}
    kept: dict[int, Status] = {row: "kept" for row in left if every[row] != "lazy"}
    return every.replaced(kept), reasons


def _warn_of_left(chosen: Chosen, plan: Plan, *, restored: bool = False, writing: bool) -> None:
    """Warn of what is named in `only` and left alone all the same."""
    warn_of_parts(
        chosen, {*plan.shares.where(lambda share: _applied(share) == "initialized").tolist()}, writing=writing
    )
    if not restored:
        warn_of_unruled(chosen, plan)


def _as_it_stands(share: Share) -> Status:
    """Return what measuring a model as it stands finds of a slot."""
    return "lazy" if share.lazy else "read" if share.numel else "empty"


def _applied(share: Share) -> Status:
    """Return what applying does to a slot that is chosen."""
    if share.lazy:
        return "lazy"
    if share.rule is None or isinstance(share.distribution, Keep):
        return "kept"
    return "initialized" if share.numel else "empty"
