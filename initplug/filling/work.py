"""The record of a run of `apply` or `audit`: a model, what is planned of it, and what is done with each slot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from initplug.auditing.audit import Status
from initplug.columns import Coded
from initplug.errors import Finding
from initplug.filling.backups import Backup
from initplug.filling.replicas import Replicas
from initplug.filling.sources import ValueSource
from initplug.planning.meta_buffers import Restoration
from initplug.planning.plan import Plan
from initplug.planning.slots import Slot, Slots, Tree

Progress = Callable[[int, int], None]


class Settings(NamedTuple):
    """The settings of a run.

    Args:
        seed: of named streams; None for torch's global generator.
        threads: that draw from streams, or measure, at a time.
        measure: whether the audit measures what is drawn.
        histograms: whether it counts the values, too.
        progress: called with the number of slots done and of all slots.
    """

    seed: int | None
    threads: int
    measure: bool
    histograms: bool
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class Missing:
    """The tensors that a model has on meta, and what is to become of them.

    Args:
        slots: that are on meta and going to be written.
        buffers: on meta and without a rule, to be restored.
        findings: what would stay on meta, or come off it without its values.
        whole: whether nothing may stay on meta.
        device: where they get their memory.
    """

    slots: Sequence[Slot]
    buffers: Sequence[Restoration]
    findings: Sequence[Finding]
    whole: bool
    device: torch.device

    @property
    def tensors(self) -> dict[int, Tensor]:
        """The tensors that need memory, by their ids."""
        slots = (*self.slots, *(buffer.slot for buffer in self.buffers))
        return {id(tensor): tensor for slot in slots for tensor in slot.stored if tensor.is_meta}


NOTHING_MISSING = Missing((), (), (), whole=False, device=torch.device("cpu"))


@dataclass(frozen=True, slots=True)
class Work:
    """All that a run carries once it knows what is to be done.

    Args:
        plan: of the slots.
        tree: the walked model.
        slots: in the plan's order.
        statuses: what becomes of each, or what it is read as.
        reasons: why slots are left alone, beyond what the plan says.
        settings: of the run.
        replicas: that ranks keep of plain tensors.
        sources: of the slots that are copied or loaded.
        lost: why others of them have no source.
        projecting: rows of slots whose owners compute something else than they are given.
        on_meta: what has no memory yet.
        backup: of all that writing may change, where that is to be undone on failure.
    """

    plan: Plan
    tree: Tree
    slots: Slots
    statuses: Coded[Status]
    reasons: Mapping[int, str]
    settings: Settings
    replicas: Replicas
    sources: dict[int, ValueSource]
    lost: dict[int, str]
    projecting: Collection[int] = ()
    on_meta: Missing = NOTHING_MISSING
    backup: Backup | None = None
