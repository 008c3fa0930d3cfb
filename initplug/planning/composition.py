"""An initializer for one shape -> its distribution: split into parts, stacked, and multiplied by factors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from initplug.language.init import Init
from initplug.schemes.calls import MisfitError, distribution_of
from initplug.schemes.compositions import Batched, Copy, Drawn, Keep, Load, Planned, Single, Stacked
from initplug.schemes.fans import PLAIN_LAYOUT, AxisError, Fans, Layout, fans_of
from initplug.schemes.structures.base import Structured


class Context(NamedTuple):
    """The data that a distribution depends on beyond shape and layout.

    Args:
        source: the owner's reset, the fans of another tensor, or where the values come from.
        factor: what multiplies and what divides the result.
        parts: of the parts of a split.
    """

    source: Drawn | Copy | Load | Keep | Fans | None = None
    factor: tuple[float, float] | None = None
    parts: tuple[Context, ...] = ()


NO_CONTEXT = Context()


Pair = tuple[int | None, int | None]
"""fan_in and fan_out; None where there is none, or where parts have different ones."""


def distribution_for(
    init: Init, shape: tuple[int, ...], whole: tuple[int, ...], layout: Layout, context: Context
) -> tuple[Planned, Pair]:
    """Return what an initializer comes down to for a part of a tensor of shape `whole`, with the fans of all parts."""
    if init.parts:
        pieces, sizes = _split(shape, len(init.parts), init)
        made = [
            distribution_for(part, piece, whole, layout, inner)
            for part, piece, inner in zip(init.parts, pieces, context.parts, strict=True)
        ]
        # A kept part is no draw, also where `keep default` draws.
        factored = [
            one if part.fn == "keep" else factored_by(context.factor, one, init)
            for (one, _), part in zip(made, init.parts, strict=True)
        ]
        return _stacked(factored, init.dim, sizes), _shared(fans for _, fans in made)
    if init.split == 1:
        one, fans = _single(init, shape, whole, layout, context)
        return factored_by(context.factor, one, init), fans
    pieces, sizes = _split(shape, init.split, init)
    known = {piece: _single(init, piece, whole, layout, context) for piece in dict.fromkeys(pieces)}
    stacked = _stacked([known[piece][0] for piece in pieces], init.dim, sizes)
    return factored_by(context.factor, stacked, init), _shared(fans for _, fans in known.values())


def _single(
    init: Init, piece: tuple[int, ...], whole: tuple[int, ...], layout: Layout, context: Context
) -> tuple[Planned, Pair]:
    """Return what an initializer without parts comes down to, with its fans."""
    if init.batch_dims and init.batch_dims >= len(piece):
        raise MisfitError(f"{init.fn}: {init.batch_dims} batch dimensions leave nothing of {len(piece)}")
    layout = PLAIN_LAYOUT if init.batch_dims else layout
    fans = fans_for(init, piece[init.batch_dims :], layout)
    source = context.source
    if isinstance(source, Structured) and piece[init.batch_dims :] != whole:
        raise MisfitError(f"{init.fn}: the reset draws the tensor as a whole, so its parts have no default")
    if isinstance(source, Drawn | Copy | Load | Keep):
        return source, fans.pair or (None, None)
    made = distribution_of(init.initializer, source or fans, fans.shape, _arguments(init, fans.shape, layout))
    return _batched(made, init.batch_dims, len(fans.shape)), fans.pair or (None, None)


def fans_for(init: Init, shape: tuple[int, ...], layout: Layout) -> Fans:
    """Return the fans of a tensor as an initializer says that they are counted.

    Raises:
        MisfitError: along axes that the tensor does not have.
    """
    try:
        return fans_of(shape, layout, init.fans)
    except AxisError as error:
        raise MisfitError(f"{init.fn}: fans: {error}") from None


def _arguments(init: Init, shape: tuple[int, ...], layout: Layout) -> Mapping[str, Any]:
    """Return the arguments of an initializer, with the groups that a convolution has where it counts them.

    Raises:
        MisfitError: it passes channels on group by group, and nobody says how many groups; or there are others.
    """
    if init.fn == "bilinear" and layout.convolution and shape[0] != shape[1] * layout.groups:
        into, out = (shape[0], shape[1] * layout.groups)[:: 1 if layout.transposed else -1]
        raise MisfitError(f"bilinear: each channel is interpolated by itself, and {into} go to {out}")
    if init.fn != "dirac" or layout.groups == 1 or "groups" in init.arguments:
        return init.arguments
    if init.fans != "effective":
        way = f"write `dirac groups={layout.groups}` or `dirac effective`"
        raise MisfitError(f"dirac: the convolution has {layout.groups} groups, and one group would mix them; {way}")
    return {**init.arguments, "groups": layout.groups}


def _shared(pairs: Iterable[Pair]) -> Pair:
    """Return the fans that all parts have."""
    into, out = (set(side) for side in zip(*pairs, strict=True))
    return into.pop() if len(into) == 1 else None, out.pop() if len(out) == 1 else None


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


def _split(shape: tuple[int, ...], count: int, init: Init) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """Return the shapes of the parts along a dimension, and the sizes that those reach that have some of their own."""
    dim = init.dim
    if not -len(shape) <= dim < len(shape):
        raise MisfitError(f"split: there is no dimension {dim}")
    place = dim % len(shape)
    elements = shape[place]
    if init.sizes:
        total = sum(init.sizes)
        if elements % total:
            told = f"sizes {', '.join(map(str, init.sizes))} are {total} in all, which does not divide"
            raise MisfitError(f"split: {told} the {elements} elements of dimension {dim}")
        sizes = tuple(size * (elements // total) for size in init.sizes)
    elif elements % count:
        raise MisfitError(f"split: {count} parts do not divide the {elements} elements of dimension {dim}")
    else:
        sizes = (elements // count,) * count
    return [(*shape[:place], size, *shape[place + 1 :]) for size in sizes], sizes if init.sizes else ()


def _batched(made: Planned, dims: int, ndim: int) -> Planned:
    """Return what fills a stack along `dims` leading dimensions with tensors of `ndim` dimensions."""
    match made:
        case Stacked(parts, dim, sizes) if dims:
            inner = tuple(_batched(part, dims, ndim) for part in parts)
            return Stacked(cast("tuple[Single | Batched | Keep, ...]", inner), dim % ndim + dims, sizes)
        case Batched(part, further) if dims:
            return Batched(part, further + dims)
        case _ if dims and isinstance(made, Structured):
            return Batched(made, dims)
    return made


def _stacked(parts: Sequence[Planned], dim: int, sizes: tuple[int, ...]) -> Planned:
    if any(isinstance(part, Stacked) for part in parts):
        raise MisfitError("split: a part that is split again has no distribution of its own")
    kept = [part for part in parts if isinstance(part, Keep)]
    if len(kept) == len(parts):
        return next((part for part in kept if part.because is not None), Keep())
    return Stacked(cast("tuple[Single | Batched | Keep, ...]", tuple(parts)), dim, sizes)
