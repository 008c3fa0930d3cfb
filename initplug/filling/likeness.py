"""The values of a model beside many plans of it: tensors are measured once, and every plan is judged against that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from torch import Tensor

from initplug.auditing.moments import Moments
from initplug.auditing.verdicts import Verdict
from initplug.columns import Coded
from initplug.filling.measure import judged_value
from initplug.filling.owners import needs_others, value_of
from initplug.filling.scrutiny import beside_bounds, measured_of
from initplug.filling.writable import untouchable
from initplug.planning.assignment import Share
from initplug.planning.slots import Slot, Slots
from initplug.schemes.compositions import Planned


class _Asked(NamedTuple):
    """A slot, and what a plan says of it: all that a verdict goes by."""

    name: str
    distribution: Planned | None
    padding_row: int | None


@dataclass(frozen=True, slots=True)
class Held:
    """The values of a model, as far as they are known by now; added to.

    Args:
        moments: of slots, by name and padding row; None where nothing can be read.
        verdicts: on what plans have said of them.
    """

    moments: dict[tuple[str, int | None], Moments | None] = field(default_factory=dict)
    verdicts: dict[_Asked, Verdict] = field(default_factory=dict)

    @property
    def varied(self) -> int:
        """The number of slots whose elements are not all equal."""
        return len({name for (name, _), found in self.moments.items() if found is not None and found.std > 0})


def likeness(held: Held, slots: Slots, names: Sequence[str], shares: Coded[Share]) -> list[Verdict]:
    """Return of every slot of a plan whether it looks as planned, by its moments and extremes; nothing is written.

    The verdicts are those of an audit, each slot by itself: repetition, order, twins and sums over many tensors are
    not looked at. What is on meta, lazy, elsewhere or not readable is untestable.

    Args:
        held: what is known of the model's values.
        slots: of the plan.
        names: of them.
        shares: what is planned of each.
    """
    found: list[Verdict] = []
    for row, (name, share) in enumerate(zip(names, shares, strict=True)):
        asked = _Asked(name, share.distribution, share.padding_row)
        verdict = held.verdicts.get(asked)
        if verdict is None:
            verdict = held.verdicts[asked] = _judged(held, slots[row], share)
        found.append(verdict)
    return found


def _judged(held: Held, slot: Slot, share: Share) -> Verdict:
    key = (slot.name, share.padding_row)
    if key not in held.moments:
        value = _readable(slot, share)
        held.moments[key] = None if value is None else measured_of(value, share)
    moments = held.moments[key]
    if moments is None or share.distribution is None:
        return "untestable"
    value = value_of(slot)
    judged = judged_value(value, share, moments, None, exact=slot.computed is None)
    if judged.verdict == "differs":
        again = partial(measured_of, value, share)
        _, beside = beside_bounds(share.distribution, moments, value.dtype, again)
        judged = judged if beside is None else beside
    return judged.verdict


def _readable(slot: Slot, share: Share) -> Tensor | None:
    """Return the values of a slot; None where there are none, or none to be read here."""
    if share.lazy or not share.numel or slot.on_meta or needs_others(slot):
        return None
    if slot.computed is None and untouchable(slot.tensor) is not None:
        return None
    return value_of(slot)
