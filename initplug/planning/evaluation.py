"""Winning initializers x tensors: what each comes down to, slots that are alike evaluated once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch

from initplug.language.init import Init
from initplug.language.recipe import Recipe, Rule
from initplug.planning.matching import Matching, Winner
from initplug.planning.replay import Replay
from initplug.planning.slots import Kind, Slot, Tree, layout_of, padding_row, referred
from initplug.schemes.distributions import Constant, Default, Drawn, Keep, Normal, Planned
from initplug.schemes.fans import PLAIN, FanError, Fans, fans_of


@dataclass(frozen=True, slots=True)
class Share:
    """What slots that are alike have in common: everything but their names."""

    kind: Kind
    module_type: str
    shape: tuple[int, ...]
    dtype: str
    numel: int
    trainable: bool
    rule: str | None
    selector: str | None
    location: str | None
    shadowed: tuple[str, ...]
    init: str | None
    distribution: Planned | None
    fan_in: int | None
    fan_out: int | None
    padding_row: int | None = None
    lazy: bool = False


class Miss(NamedTuple):
    """An initializer that does not fit the tensor it would go to."""

    name: str
    shape: tuple[int, ...]
    winner: Winner
    location: str | None
    reason: str


class UnfitError(Exception):
    """An initializer that does not fit a tensor; the text says why."""


class Evaluation:
    """What the winning initializers come down to; slots that are alike are evaluated once."""

    def __init__(self, tree: Tree, recipe: Recipe, rules: Mapping[str, Rule]) -> None:
        self._tree = tree
        self._recipe = recipe
        self._rules = rules
        self._replay = Replay()
        self._known: dict[Any, Share] = {}
        self._texts = {name: rule.init.text for name, rule in rules.items()}

    def shares(self, matching: Matching) -> tuple[list[Share | None], list[Miss]]:
        """A share per slot (None for a buffer that no rule takes), and what does not fit."""
        shares: list[Share | None] = []
        misses: list[Miss] = []
        for slot, winner in zip(self._tree.slots, matching.winners, strict=True):
            if winner is None and slot.kind == "buffer":
                shares.append(None)
                continue
            try:
                shares.append(self._share(slot, winner))
            except UnfitError as reason:
                share = self._made(slot, winner, None, None)
                shares.append(share)
                assert winner is not None  # only a rule's initializer can fail to fit
                misses.append(Miss(slot.name, share.shape, winner, self._recipe.location(winner.rule), str(reason)))
        return shares, misses

    def _share(self, slot: Slot, winner: Winner | None) -> Share:
        if slot.lazy or winner is None:
            return self._made(slot, winner, None, None)
        tensor, init = slot.tensor, self._rules[winner.rule].init
        owner = self._tree.owner(slot)
        layout = layout_of(owner, slot.key) if init.fans == "effective" else PLAIN
        row = padding_row(self._tree, slot)
        surroundings = self._surroundings(slot, init)
        key = (winner, type(owner), tensor.shape, tensor.dtype, tensor.requires_grad, layout, row, surroundings)
        share = self._known.get(key)
        if share is None:
            fans = fans_of(tensor.shape, layout, init.fans)
            distribution = None
            if tensor.numel():
                distribution = self._distribution(init, fans, surroundings)
                check_dtype(distribution, tensor.dtype, init.fn)
            share = self._known[key] = self._made(slot, winner, distribution, fans.pair, row)
        return share

    def _surroundings(self, slot: Slot, init: Init) -> Drawn | Fans | None:
        """What a distribution depends on beyond the tensor itself: other tensors, the owner's reset."""
        if slot.tensor.numel() == 0:
            return None
        replayed = init.fn == "default" or (
            init.fn == "keep" and init.arguments.get("otherwise") == "default" and slot.tensor.is_meta
        )
        if replayed:
            return self._default(slot)
        if "of" in init.initializer.parameters and (slot.tensor.ndim < 2 or "of" in init.arguments):
            reference = init.arguments.get("of", init.initializer.parameters["of"].default)
            try:
                source, layout = referred(self._tree, slot, reference)
            except LookupError as error:
                raise UnfitError(f"{init.fn} takes the fan of another tensor, and {error.args[0]}") from None
            return fans_of(source.shape, layout, init.fans)
        return None

    @staticmethod
    def _distribution(init: Init, fans: Fans, surroundings: Drawn | Fans | None) -> Planned:
        if surroundings is not None and not isinstance(surroundings, Fans):
            return surroundings
        try:
            made = init.initializer.function(surroundings or fans, **init.arguments)
        except FanError as error:
            raise UnfitError(f"{init.fn}: {error}") from None
        except (ValueError, ArithmeticError) as error:
            raise UnfitError(f"{init.fn} does not fit: {error}") from None
        assert not isinstance(made, Default)
        return cast(Planned, made)

    def _default(self, slot: Slot) -> Drawn:
        """What the resets of the owner and its ancestors leave, innermost first, the last write counting."""
        outcome: Drawn | str | None = None
        for index in self._tree.ancestors(slot.node):
            node = self._tree.nodes[index]
            relative = slot.name[len(node.name) + 1 :] if node.name else slot.name
            outcome = self._replay.of(node.module).get(relative, outcome)
        if outcome is None:
            kind = type(self._tree.owner(slot)).__name__
            raise UnfitError(
                f"default: no reset of {kind} or of a module around it writes it; `keep` leaves it as it is"
            )
        if isinstance(outcome, str):
            raise UnfitError(f"default: {outcome}; `keep` leaves it as it is")
        return outcome

    def _made(
        self,
        slot: Slot,
        winner: Winner | None,
        distribution: Planned | None,
        fans: tuple[int, int] | None,
        row: int | None = None,
    ) -> Share:
        tensor = slot.tensor
        padded = row is not None and isinstance(distribution, Drawn)
        return Share(
            kind=slot.kind,
            module_type=type(self._tree.owner(slot)).__name__,
            shape=() if slot.lazy else tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            numel=0 if slot.lazy else tensor.numel(),
            trainable=tensor.requires_grad,
            rule=winner.rule if winner else None,
            selector=winner.selector if winner else None,
            location=self._recipe.location(winner.rule) if winner else None,
            shadowed=winner.shadowed if winner else (),
            init=self._texts[winner.rule] if winner else None,
            distribution=distribution,
            fan_in=fans[0] if fans else None,
            fan_out=fans[1] if fans else None,
            padding_row=row if padded else None,
            lazy=slot.lazy,
        )


DRAWN_DTYPES = frozenset(
    {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex32, torch.complex64, torch.complex128}
)
"""Dtypes that torch draws random numbers in; shorter floats are stored, not drawn."""


def check_dtype(distribution: Planned, dtype: torch.dtype, fn: str) -> None:
    """Refuse what a dtype cannot hold or torch cannot draw in it.

    Raises:
        UnfitError: saying what does not fit.
    """
    if isinstance(distribution, Keep):
        return
    name = str(dtype).removeprefix("torch.")
    if not isinstance(distribution, Constant):
        if dtype not in DRAWN_DTYPES:
            raise UnfitError(f"{fn}: {name} tensors take constants only")
        if dtype.is_complex and not isinstance(distribution, Normal):
            raise UnfitError(f"{fn}: complex tensors take constants and normal only")
    try:
        low, high = _range(dtype)
    except TypeError:
        raise UnfitError(f"{fn}: {name} tensors cannot be filled") from None
    for value in _reach(distribution):
        if not low <= value <= high:
            raise UnfitError(
                f"{fn}: {_exact(value)} does not fit {name}, which ends at {_exact(high if value > 0 else low)}"
            )
        if not (dtype.is_floating_point or dtype.is_complex) and value != int(value):
            raise UnfitError(f"{fn}: {value:g} is no {name}")


def _exact(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _range(dtype: torch.dtype) -> tuple[float, float]:
    """The smallest and largest number that a dtype holds."""
    if dtype == torch.bool:
        return 0, 1
    limits = torch.finfo(dtype) if dtype.is_floating_point or dtype.is_complex else torch.iinfo(dtype)
    return limits.min, limits.max


def _reach(distribution: Drawn) -> tuple[float, float]:
    """Where the elements lie: the bounds, or six standard deviations where those are wider."""
    if isinstance(distribution, Constant):
        return distribution.value, distribution.value
    near, far = distribution.mean - 6 * distribution.std, distribution.mean + 6 * distribution.std
    return max(distribution.low, near), min(distribution.high, far)
