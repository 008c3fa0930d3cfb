"""An initializer for one shape -> its distribution: split into parts, stacked, and multiplied by factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from initplug.language.init import Init
from initplug.schemes.calls import MisfitError, distribution_of
from initplug.schemes.distributions import Batched, Copy, Drawn, Keep, Load, Planned, Single, Stacked
from initplug.schemes.fans import PLAIN_LAYOUT, Fans, Layout, fans_of
from initplug.schemes.structures.base import Structured


class Context(NamedTuple):
    """The data that a distribution depends on beyond shape and layout.

    Args:
        source: the owner's reset, the fans of another tensor, or where the values come from.
        factor: what multiplies and what divides the result.
        parts: of the parts of a split.
    """

    source: Drawn | Copy | Load | Fans | None = None
    factor: tuple[float, float] | None = None
    parts: tuple[Context, ...] = ()


NO_CONTEXT = Context()


def distribution_for(
    init: Init, shape: tuple[int, ...], whole: tuple[int, ...], layout: Layout, context: Context
) -> tuple[Planned, Fans]:
    """Return what an initializer comes down to for a part of a tensor of shape `whole`, with the fans of one part."""
    if init.parts:
        piece = _split(shape, len(init.parts), init.dim)
        pairs = [
            distribution_for(part, piece, whole, layout, inner)
            for part, inner in zip(init.parts, context.parts, strict=True)
        ]
        # A kept part is no draw, also where `keep default` draws.
        factored = [
            made if part.fn == "keep" else factored_by(context.factor, made, init)
            for (made, _), part in zip(pairs, init.parts, strict=True)
        ]
        return _stacked(factored, init.dim), pairs[0][1]
    piece = _split(shape, init.split, init.dim)
    if init.batch_dims and init.batch_dims >= len(piece):
        raise MisfitError(f"{init.fn}: {init.batch_dims} batch dimensions leave nothing of {len(piece)}")
    fans = fans_of(piece[init.batch_dims :], PLAIN_LAYOUT if init.batch_dims else layout, init.fans)
    source = context.source
    if isinstance(source, Structured) and piece[init.batch_dims :] != whole:
        raise MisfitError(f"{init.fn}: the reset draws the tensor as a whole, so its parts have no default")
    one: Planned
    if isinstance(source, Drawn | Copy | Load):
        one = source
    else:
        made = distribution_of(init.initializer, source or fans, fans.shape, init.arguments)
        one = _batched(made, init.batch_dims, len(fans.shape))
    stack = _stacked([one] * init.split, init.dim) if init.split > 1 else one
    return factored_by(context.factor, stack, init), fans


def factored_by(factor: tuple[float, float] | None, made: Planned, init: Init) -> Planned:
    """Return what an initializer comes down to, times a factor and over a divisor.

    Raises:
        MisfitError: nothing of it is left, or it is beyond what numbers hold.
    """
    if factor is None or not isinstance(made, Drawn):
        return made
    try:
        product = made.times(*factor)
        if factor[0] and _draw_vanishes(made, product):
            raise OverflowError("what it gives is too small for a double")
        return product
    except (ValueError, ArithmeticError) as error:
        raise MisfitError(f"{init.fn}: factor: {error}") from None


def _draw_vanishes(before: Drawn, after: Drawn) -> bool:
    """Return whether a draw that varies, or is not 0, has become 0 by rounding."""
    if isinstance(before, Stacked) and isinstance(after, Stacked):
        return any(_draw_vanishes(*pair) for pair in zip(before.drawn, after.drawn, strict=True))
    return after.std == 0 and after.mean == 0 and (before.std, before.mean) != (0, 0)


def _split(shape: tuple[int, ...], count: int, dim: int) -> tuple[int, ...]:
    """Return the shape of one of `count` equal parts along a dimension."""
    if count == 1:
        return shape
    if not -len(shape) <= dim < len(shape):
        raise MisfitError(f"split: there is no dimension {dim}")
    place = dim % len(shape)
    if shape[place] % count:
        raise MisfitError(f"split: {count} parts do not divide the {shape[place]} elements of dimension {dim}")
    return (*shape[:place], shape[place] // count, *shape[place + 1 :])


def _batched(made: Planned, dims: int, ndim: int) -> Planned:
    """Return what fills a stack along `dims` leading dimensions with tensors of `ndim` dimensions."""
    match made:
        case Stacked(parts, dim) if dims:
            inner = tuple(_batched(part, dims, ndim) for part in parts)
            return Stacked(cast("tuple[Single | Batched | Keep, ...]", inner), dim % ndim + dims)
        case Batched(part, further) if dims:
            return Batched(part, further + dims)
        case _ if dims and isinstance(made, Structured):
            return Batched(made, dims)
    return made


def _stacked(parts: Sequence[Planned], dim: int) -> Planned:
    if any(isinstance(part, Stacked) for part in parts):
        raise MisfitError("split: a part that is split again has no distribution of its own")
    if all(isinstance(part, Keep) for part in parts):
        return Keep()
    return Stacked(cast("tuple[Single | Batched | Keep, ...]", tuple(parts)), dim)
