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
        known: their 1-based places, by their ids.
        closest: where there are none, the name of one that may be meant.
    """

    known: dict[int, int]
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
    known, closest = places[factor.of]
    if not known:
        hint = f" (did you mean {closest}?)" if closest else ""
        raise LookupError(f"{factor.of} selects no module{hint}")
    if factor.counted == "count":
        return len(known)
    for node in tree.ancestors(slot.node):
        place = known.get(id(tree.nodes[node].module))
        if place is not None:
            return place
    raise LookupError(f"{factor.of} selects no module around it")


def _numbered_modules(tree: Tree, selector: str) -> Places:
    """Return the modules that match a selector, a shared one at its first place."""
    matcher = Matcher([parse(selector)])
    places: dict[int, int] = {}
    for node, state in zip(tree.nodes, states_of(tree, matcher), strict=True):
        if state.here:
            places.setdefault(id(node.module), len(places) + 1)
    return Places(places, None if places else closest_module(tree, parse(selector)))
