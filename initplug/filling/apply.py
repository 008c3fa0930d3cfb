"""The one door to a model's values: `apply` writes a plan and measures it, `audit` measures a model as it stands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from initplug.auditing import Audit, Moments, Status, Verdict, is_dense, judged
from initplug.auditing import measure as measured_moments
from initplug.errors import ROWS, ApplyError, Finding, did_you_mean, shortened, warn
from initplug.filling.generator import draw
from initplug.filling.writing import (
    arrived,
    assign,
    blank,
    padding,
    reads_back,
    refusal,
    rehearsed,
    value_of,
)
from initplug.language.loading import load
from initplug.language.selectors import Matcher, SelectorError, parse
from initplug.planning.evaluation import Share, UnfitError, check_dtype
from initplug.planning.matching import hits_of, states_of
from initplug.planning.plan import Plan, planned, tree_for
from initplug.planning.slots import Slot, Tree, padding_row, walk
from initplug.schemes.distributions import Drawn, Keep, Stacked
from initplug.schemes.structures import Structured

Progress = Callable[[int, int], None]


def apply(
    model: nn.Module,
    recipe: Any,
    *,
    seed: int | None = None,
    only: str | Iterable[str] | None = None,
    prefix: str = "",
    measure: bool = True,
    progress: Progress | None = None,
) -> Audit:
    """Initialise a model in place.

    Slots are filled from torch's global generator in `named_parameters()` order, buffers last, a tied tensor once:
    bit for bit what a hand-written loop over torch.nn.init gives. Everything is checked before the first write.

    Args:
        model: any module with its tensors on a device.
        recipe: a Plan, a Recipe, or anything that `load` takes.
        seed: must be None: torch's global generator.
        only: a selector, or names; everything else keeps its values.
        prefix: the canonical name of `model` in the whole model that recipe and plan are about.
        measure: whether the audit measures what was written.
        progress: called with the number of slots done and of all slots.

    Raises:
        RecipeError: the recipe cannot be read.
        PlanError: the recipe does not fit the model.
        ApplyError: a plan of another model, or tensors that cannot be written; after the first write it says what
            had been written.

    Example:
        >>> audit = apply(nn.Linear(64, 64), {"rules": {"*.weight": "xavier_uniform", "*.bias": 0}})
        >>> audit["weight"].status, audit["weight"].verdict
        ('initialized', 'ok')
    """
    if seed is not None:
        raise ApplyError(
            f"seed={seed!r}: named streams come with the next release; "
            "until then call torch.manual_seed and leave seed out"
        )
    plan, tree, slots = _planned(model, recipe, prefix)
    chosen = _chosen(only, model, tree, slots, prefix)
    statuses = [_status(share, index in chosen) for index, share in enumerate(plan.shares)]
    _refuse(plan, slots, statuses, chosen)
    _warn_of_shared_memory(slots, statuses)
    statuses = _write(plan, tree, slots, statuses, progress)
    return _audited(plan, slots, statuses, measure=measure)


def audit(model: nn.Module, recipe: Any, *, prefix: str = "") -> Audit:
    """Measure a model as it stands against what a recipe plans for it; nothing is written.

    Args:
        model: any module with its tensors on a device.
        recipe: a Plan, a Recipe, or anything that `load` takes.
        prefix: the canonical name of `model` in the whole model that recipe and plan are about.

    Raises:
        RecipeError: the recipe cannot be read.
        PlanError: the recipe does not fit the model.
        ApplyError: a plan of another model, or tensors without values.

    Example:
        >>> audit(nn.LayerNorm(8), {"rules": {"*.weight": 1, "*.bias": 1}})["bias"].verdict
        'differs'
    """
    plan, _, slots = _planned(model, recipe, prefix)
    statuses: list[Status] = ["lazy" if share.lazy else "read" if share.numel else "empty" for share in plan.shares]
    on_meta = [slot.name for slot, status in zip(slots, statuses, strict=True) if status == "read" and slot.on_meta]
    if on_meta:
        findings = [Finding(name, "it is on meta and holds no values") for name in on_meta]
        raise ApplyError(_told(f"{len(on_meta)} slots are on meta and hold no values", findings), findings)
    projecting = {
        index
        for index, (slot, share) in enumerate(zip(slots, plan.shares, strict=True))
        if slot.computed is not None
        and isinstance(share.distribution, Drawn)
        and rehearsed(slot, _filler(share)) is False
    }
    return _audited(plan, slots, statuses, projecting)


def _planned(model: nn.Module, recipe: Any, prefix: str) -> tuple[Plan, Tree, list[Slot]]:
    """The plan of the model's slots, with the slots in its order."""
    if isinstance(recipe, Plan):
        return _fitted(model, recipe, prefix)
    recipe = load(recipe)
    tree = tree_for(model, recipe, prefix)
    plan = planned(tree, recipe, prefix)
    slots = {slot.name: slot for slot in tree.slots}
    return plan, tree, [slots[name] for name in plan.names]


def _fitted(model: nn.Module, whole: Plan, prefix: str) -> tuple[Plan, Tree, list[Slot]]:
    """A plan, made earlier or of a larger model, cut to the slots of this one."""
    if whole.findings:
        head = f"the plan is unfinished: it was made with {len(whole.findings)} findings"
        raise ApplyError(_told(head, whole.findings), whole.findings)
    tree = walk(model, prefix)
    positions: dict[int, Slot] = {}
    shares: list[Share] = []
    findings: list[Finding] = []
    for slot in tree.slots:
        position, problem = _position(slot, whole)
        if problem is not None:
            hint = did_you_mean(slot.name, whole.names) if slot.name not in whole and len(findings) < ROWS else None
            findings.append(Finding(slot.name, problem, hint=hint))
        elif position is not None:
            share = whole.shares[position]
            problem = "the plan ties it to another slot" if position in positions else _misfit(slot, share)
            if problem is not None:
                findings.append(Finding(slot.name, problem))
            positions[position] = slot
            shares.append(_of_this_model(share, tree, slot))
    if findings:
        raise ApplyError(_told("the plan is of another model", findings), findings)
    return whole.part(list(positions), shares), tree, list(positions.values())


def _position(slot: Slot, plan: Plan) -> tuple[int | None, str | None]:
    """Where a plan has a slot, or why it does not fit; neither for a buffer that the plan leaves out."""
    found = {plan.index_of(name) if name in plan else None for name, _, _ in slot.places}
    if len(found) > 1:
        return None, f"it is tied to {slot.aliases[0]}, which the plan does not say"
    (position,) = found
    missing = position is None and slot.kind == "parameter"
    return position, "the plan has no such slot" if missing else None


def _misfit(slot: Slot, share: Share) -> str | None:
    """What keeps a planned distribution from going to a tensor."""
    shape = () if slot.lazy else tuple(slot.tensor.shape)
    if shape != share.shape:
        return f"its shape is {shape}, the plan's {share.shape}"
    if isinstance(share.distribution, Drawn):
        try:
            check_dtype(share.distribution, slot.tensor.dtype, str(share.init))
        except UnfitError as reason:
            return str(reason)
    return None


def _of_this_model(share: Share, tree: Tree, slot: Slot) -> Share:
    """What a plan says of a slot, with what is this model's own."""
    row = padding_row(tree, slot) if isinstance(share.distribution, Drawn) else None
    dtype = str(slot.tensor.dtype).removeprefix("torch.")
    return replace(share, padding_row=row, dtype=dtype, trainable=slot.tensor.requires_grad)


def _chosen(
    only: str | Iterable[str] | None, model: nn.Module, tree: Tree, slots: Sequence[Slot], prefix: str
) -> set[int]:
    """The positions of the slots that `only` names or selects."""
    if only is None:
        return set(range(len(slots)))
    if isinstance(only, str):
        return _selected(only, tree, slots, prefix)
    if not isinstance(only, Iterable):
        raise ApplyError(f"only= is a selector or names, not {only!r}")
    names = list(only)
    positions = {name: index for index, slot in enumerate(slots) for name, _, _ in slot.places}
    # `missing_keys` of a load_state_dict are torch's names, with wrappers and what computed tensors are stored as; they
    # hold buffers too, which a recipe need not speak of.
    holders = {id(tensor): index for index, slot in enumerate(slots) for tensor in slot.stored}
    stored = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    start = prefix and f"{prefix}."
    raw = {start + name: holders[id(tensor)] for name, tensor in stored.items() if id(tensor) in holders}
    positions = raw | positions
    known = {*positions, *(start + name for name in stored)}
    unknown = [str(name) for name in names if not isinstance(name, str) or name not in known]
    if unknown:
        hints = [did_you_mean(name, known) if index < ROWS else None for index, name in enumerate(unknown)]
        findings = [
            Finding(name, "the model has no such tensor", hint=hint) for name, hint in zip(unknown, hints, strict=True)
        ]
        raise ApplyError(_told(f"only= names {len(unknown)} tensors that the model does not have", findings), findings)
    return {positions[name] for name in names if name in positions}


def _selected(text: str, tree: Tree, slots: Sequence[Slot], prefix: str) -> set[int]:
    try:
        matcher = Matcher([parse(text)])
    except SelectorError as error:
        raise ApplyError(f"only={text!r}: bad selector: {error} (column {error.offset + 1})") from None
    states = states_of(tree, matcher, prefix)
    chosen = {index for index, slot in enumerate(slots) if hits_of(slot, states, matcher)}
    if not chosen:
        hint = did_you_mean(text, (slot.name for slot in slots))
        raise ApplyError(f"only={text!r} selects nothing" + (f" ({hint})" if hint else ""))
    return chosen


def _status(share: Share, chosen: bool) -> Status:
    """What applying does to a slot."""
    if share.lazy:
        return "lazy"
    if not chosen or share.rule is None or isinstance(share.distribution, Keep):
        return "kept"
    return "initialized" if share.numel else "empty"


def _refuse(plan: Plan, slots: Sequence[Slot], statuses: Sequence[Status], chosen: set[int]) -> None:
    """Raise for every slot that is to be written and cannot be."""
    findings = [
        Finding(slot.name, reason)
        for slot, status in zip(slots, statuses, strict=True)
        if status == "initialized" and (reason := refusal(slot)) is not None
    ]
    if not findings:
        findings += _rehearse(plan, slots, statuses)
    findings += [
        Finding(
            slot.name, "`keep` has nothing to keep: it is on meta", hint="`keep default` draws what construction draws"
        )
        for index, (slot, share) in enumerate(zip(slots, plan.shares, strict=True))
        if index in chosen and isinstance(share.distribution, Keep) and slot.on_meta
    ]
    if findings:
        raise ApplyError(_told(f"{len(findings)} of {len(slots)} slots cannot be written", findings), findings)


def _rehearse(plan: Plan, slots: Sequence[Slot], statuses: Sequence[Status]) -> list[Finding]:
    """What keeps computed slots from being written, found on copies."""
    findings = []
    for slot, share, status in zip(slots, plan.shares, statuses, strict=True):
        if status == "initialized" and slot.computed is not None:
            outcome = rehearsed(slot, _filler(share))
            if isinstance(outcome, str):
                findings.append(Finding(slot.name, outcome))
    return findings


def _warn_of_shared_memory(slots: Sequence[Slot], statuses: Sequence[Status]) -> None:
    """Warn of different tensors that share elements in memory: what is written last stays in both.

    Tensors share one if they begin at one address, or if both are dense and their stretches of memory overlap.
    """
    stretches = sorted(
        (slot.tensor.data_ptr(), is_dense(slot.tensor), slot.tensor.nbytes, slot.name)
        for slot, status in zip(slots, statuses, strict=True)
        if status == "initialized" and slot.computed is None
    )
    end, widest, previous = 0, "", (-1, "")
    for start, dense, length, name in stretches:
        other = previous[1] if start == previous[0] else widest if dense and start < end else None
        if other is not None:
            warn(f"{other} and {name} are different tensors in the same memory: the last write stays in both")
        previous = (start, name)
        if dense and start + length > end:
            end, widest = start + length, name


def _told(head: str, findings: Sequence[Finding]) -> str:
    return "\n".join([head, *(f"  {row}" for row in shortened([str(finding) for finding in findings]))])


def _write(
    plan: Plan, tree: Tree, slots: Sequence[Slot], statuses: Sequence[Status], progress: Progress | None
) -> list[Status]:
    """Fill every slot that is to be initialised, in order; a failure says how far it came.

    Returns:
        The statuses, with `projected` where an owner computes something else than it was given.
    """
    written: list[str] = []
    total = statuses.count("initialized")
    after = list(statuses)
    with torch.no_grad():
        for index, (slot, share) in enumerate(zip(slots, plan.shares, strict=True)):
            if statuses[index] != "initialized":
                continue
            try:
                value = slot.tensor if slot.computed is None else blank(slot)
                _filler(share)(value)
                if slot.computed is not None:
                    assign(slot.computed, value.clone())
                if not arrived(tree, slot):
                    raise RuntimeError("the owner no longer holds the tensor that was written")
                if not reads_back(slot, value):
                    after[index] = "projected"
            except Exception as error:
                raise _interrupted(slot.name, error, written, total) from error
            written.append(slot.name)
            if progress is not None:
                progress(len(written), total)
    return after


def _filler(share: Share) -> Callable[[torch.Tensor], None]:
    """What gives a tensor the values that its share plans."""
    distribution = share.distribution
    assert isinstance(distribution, Drawn)  # what `initialized` means

    def fill(tensor: torch.Tensor) -> None:
        draw(distribution, tensor)
        for part in padding(tensor, share.padding_row, distribution):
            part.zero_()

    return fill


def _interrupted(name: str, error: Exception, written: Sequence[str], total: int) -> ApplyError:
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    head = f"writing stopped at {name}: {reason}\n{len(written)} of {total} slots had been written"
    rows = [f"  {row}" for row in shortened(list(written))]
    return ApplyError("\n".join([head + (":" if rows else ""), *rows]), [Finding(name, reason)])


def _audited(
    plan: Plan,
    slots: Sequence[Slot],
    statuses: Sequence[Status],
    projecting: Collection[int] = (),
    *,
    measure: bool = True,
) -> Audit:
    """The audit of what the slots hold; slots that are projected do not hold what was drawn."""
    moments: list[Moments | None] = []
    verdicts: list[Verdict] = []
    for index, (slot, share, status) in enumerate(zip(slots, plan.shares, statuses, strict=True)):
        measured: Moments | None = None
        verdict: Verdict = "untestable"
        if measure and not share.lazy and share.numel and not slot.on_meta:
            value = value_of(slot)
            measured = _measured(value, share)
            if status in ("initialized", "read") and measured is not None and index not in projecting:
                verdict = _verdict(value, share, measured)
        moments.append(measured)
        verdicts.append(verdict)
    return Audit(plan, moments, statuses, verdicts)


def _measured(tensor: torch.Tensor, share: Share) -> Moments | None:
    if tensor.layout != torch.strided:
        return None
    try:
        return measured_moments(tensor, share.padding_row)
    except (NotImplementedError, RuntimeError, TypeError):  # packed dtypes that torch stores and cannot compute with
        return None


def _verdict(tensor: torch.Tensor, share: Share, measured: Moments | None) -> Verdict:
    """What the values of a tensor say of its distribution: part by part, and of its padding row."""
    row = share.padding_row
    if any(part.count_nonzero() for part in padding(tensor, row, share.distribution)):
        return "differs"
    if row is not None and isinstance(share.distribution, Stacked | Structured):
        return "untestable"  # without the row they are not what they were planned to be
    if not isinstance(share.distribution, Stacked):
        return judged(share.distribution, measured, tensor.dtype)
    parts = share.distribution.parts
    pieces = zip(parts, tensor.detach().chunk(len(parts), share.distribution.dim), strict=True)
    verdicts = {
        judged(part, measured_moments(piece), tensor.dtype) for part, piece in pieces if not isinstance(part, Keep)
    }
    return next(verdict for verdict in ("differs", "untestable", "ok") if verdict in verdicts)
