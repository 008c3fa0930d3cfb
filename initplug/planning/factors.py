"""Factors of a slot as numbers: what the model counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from initplug.language.factor import Factor
from initplug.language.matcher import Matcher
from initplug.language.selectors import parse
from initplug.planning.expected import closest_module
from initplug.planning.matching import states_of
from initplug.planning.references import attribute
from initplug.planning.slots import Slot, Tree


class Places(NamedTuple):
    """The modules that a selector selects.

    Args:
        number: how many there are.
        around: of every node of the tree the 1-based place of the innermost of them around it; 0 where there is none.
        closest: where there are none, the name of one that may be meant.
    """

    number: int
    around: Sequence[int]
    closest: str | None


def multiplier(tree: Tree, slot: Slot, factors: Sequence[Factor], places: dict[str, Places]) -> tuple[float, float]:
    """Return the product of factors as (factor, divisor); the default power, an inverse root, goes to the divisor.

    Args:
        tree: the walked whole model.
        slot: whose factors they are.
        factors: as the recipe says them.
        places: what each selector selects, added to.

    Raises:
        ArithmeticError: the product is beyond what numbers hold.
        LookupError: a selector that selects no module or none around the slot, an attribute that is no number, or a
            count that the power cannot be taken of.
    """
    product, divisor = 1.0, 1.0
    for factor in factors:
        if factor.counted is None:
            product *= factor.number
            continue
        base = factor.times * _count(tree, slot, factor, places)
        if base <= 0:
            raise LookupError(f"{factor.text} is a power of {base:g}")
        if factor.power == -0.5:
            divisor *= math.sqrt(base)
        else:
            product *= _power(base, factor.power)
    vanished = product == 0 and all(factor.number for factor in factors)
    if vanished or not (math.isfinite(product) and math.isfinite(divisor)):
        raise OverflowError("the product of the factors is no finite number, or vanishes")
    return product, divisor


def _power(base: float, power: float) -> float:
    """Return a power as a double, of whole numbers exactly where it can be one.

    Raises:
        OverflowError: it is larger.
    """
    # Python's own power of whole numbers has all digits of the result, which may be millions.
    if isinstance(base, int) and isinstance(power, int) and (base.bit_length() - 1) * power > MOST_BITS:
        raise OverflowError(f"{base} to the power of {power}")
    return float(base**power)


MOST_BITS = 1024
"""Binary digits of a whole number beyond which no double is as large."""


def _count(tree: Tree, slot: Slot, factor: Factor, places: dict[str, Places]) -> float:
    if factor.counted == "attr":
        return attribute(tree, slot, factor.of)
    if factor.of not in places:
        places[factor.of] = _numbered_modules(tree, factor.of)
    number, around, closest = places[factor.of]
    if not number:
        hint = f" (did you mean {closest}?)" if closest else ""
        raise LookupError(f"{factor.of} selects no module{hint}")
    if factor.counted == "count":
        return number
    if not around[slot.node]:
        raise LookupError(f"{factor.of} selects no module around it")
    return around[slot.node]


def _numbered_modules(tree: Tree, selector: str) -> Places:
    """Return the modules that match a selector, a shared one at its first place."""
    states, nodes = states_of(tree, Matcher([parse(selector)])), tree.nodes
    places: dict[int, int] = {}
    for row in states.where(lambda state: state.here).tolist():
        places.setdefault(id(nodes[row].module), len(places) + 1)
    around: list[int] = []
    for _, _, module, _, parent, *_ in nodes:
        around.append(places.get(id(module)) or (around[parent] if parent >= 0 else 0))
    return Places(len(places), around, None if places else closest_module(tree, parse(selector)))
