"""The one door to a model's values: `apply` writes a plan and measures it, `audit` measures a model as it stands."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from initplug.auditing import Audit, Status
from initplug.errors import ApplyError, Finding, listed
from initplug.filling.counting import count
from initplug.filling.execution import Progress, Settings, write
from initplug.filling.fitting import chosen_by, fitted
from initplug.filling.generator import filler
from initplug.filling.materialize import check_complete, device_of, materialize, missing, without_rule
from initplug.filling.refusing import refuse, unnamed, warn_of_shared_memory
from initplug.filling.repetition import repetition
from initplug.filling.streams import SEEDS
from initplug.filling.transferring import Source, compared, sources_of, unsourced
from initplug.filling.writing import padding, rehearsed, value_of
from initplug.judging import NOT_FINITE, OK, UNTESTABLE, Judgement, judge_of, judgement
from initplug.moments import Moments
from initplug.moments import measure as measured_moments
from initplug.planning.evaluation import Share
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot
from initplug.schemes.distributions import Copy, Drawn, Keep, Load, Stacked, text
from initplug.schemes.structures import Structured


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Values do not depend on autocast, nor on a default device that holds none; time not on what else is in memory.

    What is made here stays, and there is much of it: the collector of cycles would look through the whole process for
    nothing, which takes longer than filling thousands of small tensors.
    """
    with ExitStack() as stack:
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
) -> Audit:
    """Initialise a model in place.

    With a seed every value depends on the seed, the tensor's name and the place in it alone, and no global generator is
    read or moved. Without one slots are filled from torch's global generator in `named_parameters()` order, buffers
    last, a tied tensor once: bit for bit what a hand-written loop over torch.nn.init gives. Everything is checked
    before the first write.

    Args:
        model: any module. What it has on meta gets memory first, one tensor for all places of each; all else stays.
        recipe: a Plan, a Recipe, or anything that `load` takes.
        seed: 0 to 2^64 - 1; None for torch's global generator.
        only: a selector, or names; everything else keeps its values, or stays on meta.
        prefix: the canonical name of `model` in the whole model that recipe and plan are about.
        device: where tensors that are on meta get their memory; None is the CPU.
        threads: how many draw under a seed, which changes no value; as many as torch uses, up to 8, by default.
        measure: whether the audit measures what was written.
        histograms: whether it counts the values too, which takes a second reading; its page draws them.
        progress: called with the number of slots done and of all slots.

    Raises:
        RecipeError: the recipe cannot be read.
        PlanError: the recipe does not fit the model.
        ApplyError: a plan of another model, or tensors that cannot be written; after the first write it says what
            had been written.

    Example:
        >>> audit = apply(nn.Linear(64, 64), {"rules": {"*.weight": "xavier_uniform", "*.bias": 0}}, seed=0)
        >>> audit["weight"].status, audit["weight"].verdict
        ('initialized', 'ok')
    """
    settings = _settings(seed, threads, measure, progress)
    where = device_of(device)
    with _undisturbed():
        plan, tree, slots = fitted(model, recipe, prefix)
        buffers = without_rule(plan, tree)
        chosen = chosen_by(only, model, tree, [*slots, *(buffer.slot for buffer in buffers)], prefix)
        statuses = [_status(share, index in chosen) for index, share in enumerate(plan.shares)]
        sources, lost = sources_of(plan, tree, slots)
        on_meta = missing(plan, tree, slots, statuses, buffers, chosen, whole=only is None)
        findings = [*on_meta.findings, *unsourced(slots, statuses, sources, lost)]
        refuse(plan, slots, statuses, sources, findings + (unnamed(slots, statuses) if seed is not None else []))
        materialize(tree, on_meta, where)
        warn_of_shared_memory(slots, statuses)
        record = write(plan, tree, slots, statuses, sources, settings)
        check_complete(tree, on_meta)
        reading = _Reading(measure, histograms)
        return _audited(plan, slots, record.statuses, sources, reading, moments=record.moments, seed=seed)


def audit(model: nn.Module, recipe: Any, *, prefix: str = "", histograms: bool = False) -> Audit:
    """Measure a model as it stands against what a recipe plans for it; nothing is written.

    Args:
        model: any module with its tensors on a device.
        recipe: a Plan, a Recipe, or anything that `load` takes.
        prefix: the canonical name of `model` in the whole model that recipe and plan are about.
        histograms: whether the audit counts the values too; its page draws them.

    Raises:
        RecipeError: the recipe cannot be read.
        PlanError: the recipe does not fit the model.
        ApplyError: a plan of another model, or tensors without values.

    Example:
        >>> audit(nn.LayerNorm(8), {"rules": {"*.weight": 1, "*.bias": 1}})["bias"].verdict
        'differs'
    """
    with _undisturbed():
        plan, tree, slots = fitted(model, recipe, prefix)
        statuses: list[Status] = ["lazy" if share.lazy else "read" if share.numel else "empty" for share in plan.shares]
        on_meta = [slot.name for slot, status in zip(slots, statuses, strict=True) if status == "read" and slot.on_meta]
        if on_meta:
            findings = [Finding(name, "it is on meta and holds no values") for name in on_meta]
            raise ApplyError(listed(f"{len(on_meta)} slots are on meta and hold no values", findings), findings)
        sources, lost = sources_of(plan, tree, slots)
        # A copy whose source lies outside this part of the model cannot be tested; a file could have been there.
        files = [index for index in lost if isinstance(plan.shares[index].distribution, Load)]
        if files:
            findings = [Finding(slots[index].name, lost[index]) for index in files]
            head = f"{len(files)} of {len(slots)} slots cannot be compared with their file"
            raise ApplyError(listed(head, findings), findings)
        projecting = {
            index
            for index, (slot, share) in enumerate(zip(slots, plan.shares, strict=True))
            if slot.computed is not None
            and isinstance(share.distribution, Drawn)
            and rehearsed(slot, filler(share)) is False
        }
        return _audited(plan, slots, statuses, sources, _Reading(True, histograms), projecting=projecting)


def _settings(seed: Any, threads: Any, measure: bool, progress: Progress | None) -> Settings:
    """The settings of a call, checked."""
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < SEEDS):
        raise ApplyError(f"seed={seed!r}: a seed is a whole number from 0 to 2^64 - 1, or None for torch's generator")
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise ApplyError(f"threads={threads!r}: a number of threads is a whole number of at least 1")
    if progress is not None and not callable(progress):
        raise ApplyError(f"progress={progress!r}: it is called with the number of slots done and of all slots")
    return Settings(seed, threads or min(torch.get_num_threads(), MOST_THREADS), measure, progress)


def _status(share: Share, chosen: bool) -> Status:
    """What applying does to a slot."""
    if share.lazy:
        return "lazy"
    if not chosen or share.rule is None or isinstance(share.distribution, Keep):
        return "kept"
    return "initialized" if share.numel else "empty"


class _Reading(NamedTuple):
    """What an audit reads of the values.

    Args:
        measure: moments, of the slots that were not measured as they were drawn.
        histograms: counts.
    """

    measure: bool
    histograms: bool


def _audited(
    plan: Plan,
    slots: Sequence[Slot],
    statuses: Sequence[Status],
    sources: Mapping[int, Source],
    reading: _Reading,
    *,
    projecting: Collection[int] = (),
    moments: Mapping[int, Moments] = MappingProxyType({}),
    seed: int | None = None,
) -> Audit:
    """The audit of what the slots hold.

    Args:
        plan: of the slots.
        slots: in its order.
        statuses: of the slots.
        sources: of the slots that are copied or loaded.
        reading: what is read of them.
        projecting: places of slots whose owners compute something else than they are given.
        moments: of the slots that were measured as they were drawn.
        seed: of the draw.
    """
    found: list[Moments | None] = []
    judgements: list[Judgement] = []
    judges: dict[int, Callable[[Moments], Judgement]] = {}
    for index, (slot, share, status) in enumerate(zip(slots, plan.shares, statuses, strict=True)):
        measured: Moments | None = None
        judged = UNTESTABLE
        if index in moments:
            measured = moments[index]
            judge = judges.get(id(share))
            if judge is None:
                judge = judges[id(share)] = judge_of(share.distribution, measured.numel, slot.tensor.dtype)
            judged = judge(measured)
        elif reading.measure and not share.lazy and share.numel and not slot.on_meta:
            value = value_of(slot)
            measured = _measured(value, share)
            if status in ("initialized", "read") and index not in projecting:
                judged = _judged(value, share, measured, sources.get(index), exact=slot.computed is None)
                if status == "read" and judged.verdict != "untestable" and measured is not None and measured.std:
                    judged = _looked_through(value, share, judged)
        found.append(measured)
        judgements.append(judged)
    problems = {index: judged.problem for index, judged in enumerate(judgements) if judged.problem is not None}
    verdicts = [judged.verdict for judged in judgements]
    histograms = count(plan, slots, found) if reading.histograms else None
    return Audit(plan, found, statuses, verdicts, seed, problems, histograms)


def _measured(tensor: torch.Tensor, share: Share) -> Moments | None:
    if tensor.layout != torch.strided:
        return None
    try:
        return measured_moments(tensor, share.padding_row)
    except (NotImplementedError, RuntimeError, TypeError):  # packed dtypes that torch stores and cannot compute with
        return None


def _judged(
    tensor: torch.Tensor, share: Share, measured: Moments | None, source: Source | None, *, exact: bool
) -> Judgement:
    """What the values of a tensor say of its distribution: part by part, and of its padding row; or of its source."""
    if isinstance(share.distribution, Copy | Load):
        verdict = "untestable" if source is None else compared(source, tensor)
        return Judgement(verdict, f"not what {text(share.distribution)} gives" if verdict == "differs" else None)
    if measured is None:
        return UNTESTABLE
    row = share.padding_row
    if any(part.count_nonzero() for part in padding(tensor, row, share.distribution)):
        return Judgement("differs", f"padding row {row} is not 0")
    if row is not None and isinstance(share.distribution, Stacked | Structured):
        if not all(math.isfinite(value) for value in measured):
            return Judgement("differs", NOT_FINITE)
        return UNTESTABLE  # without the row they are not what they were planned to be
    if not isinstance(share.distribution, Stacked):
        return judgement(share.distribution, measured, tensor.dtype, exact=exact)
    parts = share.distribution.parts
    pieces = tensor.detach().chunk(len(parts), share.distribution.dim)
    judgements = {
        place: judgement(part, measured_moments(piece), tensor.dtype, exact=exact)
        for place, (part, piece) in enumerate(zip(parts, pieces, strict=True), 1)
        if not isinstance(part, Keep)
    }
    for place, judged in judgements.items():
        if judged.verdict == "differs":
            return Judgement("differs", f"part {place} of {len(parts)}: {judged.problem}")
    return UNTESTABLE if UNTESTABLE in judgements.values() else OK


def _looked_through(tensor: torch.Tensor, share: Share, judged: Judgement) -> Judgement:
    """The judgement with what repeats itself in the tensor."""
    repeated = repetition(tensor, share.distribution, share.padding_row)
    if repeated is None:
        return judged
    return Judgement("differs", "; ".join(filter(None, (judged.problem, repeated))))
