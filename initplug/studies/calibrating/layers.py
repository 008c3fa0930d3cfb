"""Layers: modules with a weight that multiplies, whose output can be heard; and the weights that are none of one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from initplug.errors import ApplyError, did_you_mean
from initplug.filling.select import Fitted
from initplug.language.faults import shown
from initplug.language.matcher import Matcher
from initplug.language.recipe import Rule
from initplug.language.selectors import Selector, SelectorError, parse
from initplug.planning.assignment import ADAPTER, FROZEN, UNMATCHED, Share
from initplug.planning.matching import hits_of, states_of
from initplug.planning.references import EMBEDDINGS
from initplug.planning.slots import Node, Slot, Tree
from initplug.planning.wrappers import public_type
from initplug.schemes.compositions import Drawn
from initplug.schemes.distributions import Constant
from initplug.studies.calibrating.calibration import Scaling, counted
from initplug.studies.calibrating.passes import Spread
from initplug.studies.calibrating.scaling import Goal, Outcome, Search
from initplug.values import plain


@dataclass(slots=True, eq=False)
class Layer:
    """A weight and the modules that multiply by it, with what has been heard of them.

    Args:
        row: of the weight in the plan.
        slot: the weight.
        rule: that draws it.
        modules: by their names, one for each place of the weight that multiplies.
        search: for its factor.
        place: the name of the module that was heard first.
        order: the place of that in the forward, from 1; 0 where none was heard.
        calls: of its modules in the last pass.
        before: the first that was heard.
        last: what was heard last.
        silent: whether its modules were called and gave nothing that can be measured.
        reason: why it is left as the recipe gives it.
    """

    row: int
    slot: Slot
    rule: str
    modules: dict[str, nn.Module]
    search: Search
    place: str | None = None
    order: int = 0
    calls: int = 0
    before: Spread | None = None
    last: Spread | None = None
    silent: bool = False
    reason: str | None = None

    @property
    def module_type(self) -> str:
        """Class of the module that was heard, or of the first that may be."""
        module = self.modules[self.place if self.place is not None else next(iter(self.modules))]
        cls: type = type(module)
        return public_type(cls).__name__

    def hear(self, spread: Spread, place: str, order: int) -> None:
        """Take note of an output, and of the module that gave it if it is the first."""
        if self.before is None:
            self.before, self.place, self.order = spread, place, order
        self.last = spread

    def next_factor(self) -> float | None:
        """Return the factor to draw with next, after what was heard last; None where the weight stays as it is."""
        if self.last is None or self.reason is not None:
            return None
        if self.last.constant:
            self.reason = "its output is constant"
            return None if self.search.factor == 1 else 1.0
        found = self.search.following(self.last.std)
        self.reason = self.search.reason
        return found

    def scaling(self) -> Scaling:
        """Return what was done to it, as a row."""
        reason, search = self.reason, self.search
        if not self.order:
            reason = "its output holds no floats" if self.silent else "the forward does not call its module"
        std = None if self.last is None else self.last.std
        outcome: Outcome = "left" if reason is not None else "fits" if search.factor == 1 else "scaled"
        if reason is None and std is not None and not search.goal.reached(std):
            outcome, reason = "off", f"not within reach after {counted(search.rounds, 'round')}"
        return Scaling(
            name=self.slot.name,
            aliases=self.slot.aliases,
            module=self.place,
            module_type=self.module_type,
            shape=tuple(self.slot.kin.shape),
            rule=self.rule,
            outcome=outcome,
            factor=search.factor,
            rounds=search.rounds,
            before=None if self.before is None else self.before.std,
            std=std,
            mean=None if self.last is None else self.last.mean,
            calls=self.calls,
            reason=reason,
        )


def layers_of(found: Fitted, skip: str | Iterable[str], goal: Goal) -> tuple[list[Layer], list[Scaling]]:
    """Return the layers of a planned model, and a row for every other parameter of two or more dimensions.

    Args:
        found: the model and its plan.
        skip: selectors of weights that are left.
        goal: of their outputs.
    """
    plan, tree, slots = found.plan, found.tree, found.slots
    skipped = _skipped(found, skip)
    layers: list[Layer] = []
    left: list[Scaling] = []
    for row, share in enumerate(plan.shares):
        if share.kind != "parameter" or len(share.shape) < 2:
            continue
        slot = slots[row]
        nodes = [tree.nodes[node] for _, key, node in slot.places if key == "weight"]
        reason = _reason(share, plan.recipe.rules.get(share.rule or "")) or skipped.get(row)
        multiplying = [node for node in nodes if _unscaled(node) is None]
        if reason is None and not multiplying:
            reason = _unscaled(nodes[0]) if nodes else f"no output of {share.module_type} is linear in it"
        if reason is None:
            # A module at several places is listened to once.
            givers = {id(node.module): node for node in reversed([*map(partial(_giver, tree), multiplying)])}
            modules = {node.name: node.module for node in reversed([*givers.values()])}
            layers.append(Layer(row, slot, share.rule or "", modules, Search(goal, looped=bool(slot.others))))
            continue
        left.append(
            Scaling(
                *(slot.name, slot.aliases, None, share.module_type, share.shape, share.rule, "left"),
                *(1.0, 0, None, None, None, 0, reason),
            )
        )
    return layers, left


def _reason(share: Share, rule: Rule | None) -> str | None:
    """Return why a weight is left whatever its module does; None where it is drawn, and may be drawn times a factor."""
    known = {UNMATCHED: "no rule takes it", FROZEN: "it is frozen", ADAPTER: "it is an adapter's"}
    if share.reason in known:
        return known[share.reason]
    if rule is None or rule.init.fn in ("copy", "load", "keep") or not isinstance(share.distribution, Drawn):
        return f"rule {share.rule!r} is {'keep' if rule is None or share.reason == 'keep' else rule.init.fn}"
    if not share.numel:
        return "it has no elements"
    if isinstance(share.distribution, Constant) and share.distribution.value == 0:
        return f"rule {share.rule!r} makes it 0"
    if not rule.init.parts and not rule.init.initializer.modified:
        return f"{rule.init.fn} takes no factor"
    return None


def _unscaled(node: Node) -> str | None:
    """Return why the output of a module with a weight is not to be scaled; None where it is."""
    if issubclass(node.cls, EMBEDDINGS):
        return "a lookup has the std of its weight"
    if any("norm" in cls.__name__.lower() for cls in node.cls.__mro__):
        return "it is a norm's"
    return None


def _giver(tree: Tree, node: Node) -> Node:
    """Return the module that gives what another multiplies: attention takes the weight of its projection as its own."""
    parent = tree.nodes[node.parent] if node.parent >= 0 else node
    return parent if node.key == "out_proj" and issubclass(parent.cls, nn.MultiheadAttention) else node


def _skipped(found: Fitted, skip: str | Iterable[str]) -> dict[int, str]:
    """Return the rows that are to be left, and that they are.

    Raises:
        ApplyError: a selector that is none, or that selects nothing.
    """
    texts = [skip] if isinstance(skip, str) else [plain(text) for text in skip]
    selectors = [_selector(text) for text in texts]
    if not selectors:
        return {}
    matcher = Matcher(selectors)
    states = states_of(found.tree, matcher)
    hits = {row: hit for row, slot in enumerate(found.slots) if (hit := hits_of(slot, states, matcher))}
    idle = {*range(len(selectors))}.difference(*hits.values())
    if idle:
        text = texts[min(idle)]
        hint = did_you_mean(text, found.plan.names)
        raise ApplyError(f"skip={text!r} selects nothing" + (f" ({hint})" if hint else ""))
    return dict.fromkeys(hits, "it is to be skipped")


def _selector(text: Any) -> Selector:
    if not isinstance(text, str):
        raise ApplyError(f"skip= holds selectors, not {shown(text)}")
    try:
        return parse(text)
    except SelectorError as error:
        raise ApplyError(f"skip={text!r}: bad selector: {error} (column {error.offset + 1})") from None
