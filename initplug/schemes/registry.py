"""The registry of initializers: a name, a function, and what its signature says of its arguments."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from annotated_types import Ge, Gt, Le, Lt

from initplug.errors import did_you_mean
from initplug.values import plain

Reference = NewType("Reference", str)
"""A dotted path from the owner of a slot to another attribute: `weight`, `..q.weight`, `^shared.weight`."""

InitializerKind = Literal["distribution", "whole"]
"""The result of a function: what every element of a tensor is drawn from, or the elements themselves."""


@dataclass(frozen=True)
class Parameter:
    """One keyword argument of an initializer: its name, its annotation and its default."""

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        """Return whether recipes must give it."""
        return self.default is inspect.Parameter.empty

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a bare word in a string binds to this argument by."""
        return words_of(self.annotation)


@dataclass(frozen=True)
class Initializer:
    """A registered initializer.

    Args:
        name: how recipes call it.
        function: `(fans, *, …) -> distribution`, or `(shape, draw, *, …) -> array`.
        kind: which of the two.
        bare: arguments that bare numbers in a string fill, in order.
        modified: whether recipes may add `fans:` and `factor:`.
        any_shape: whether every shape with fans will do, so that arguments that contradict each other are found
            without a tensor.
    """

    name: str
    function: Callable[..., Any]
    kind: InitializerKind = "distribution"
    bare: tuple[str, ...] = ()
    modified: bool = True
    any_shape: bool = False
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the documentation."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def built_in(self) -> bool:
        """Return whether it is one of this package."""
        return self.home.partition(".")[0] == "initplug"

    @property
    def home(self) -> str:
        """The module that has it."""
        return str(getattr(self.function, "__module__", None))


REGISTRY: dict[str, Initializer] = {}
F = TypeVar("F", bound=Callable[..., Any])


@overload
def initializer(function: F, /) -> F: ...


@overload
def initializer(
    *, kind: InitializerKind = "distribution", bare: Sequence[str] = (), modified: bool = True, any_shape: bool = False
) -> Callable[[F], F]: ...


def initializer(
    function: Callable[..., Any] | None = None,
    /,
    *,
    kind: InitializerKind = "distribution",
    bare: Sequence[str] = (),
    modified: bool = True,
    any_shape: bool = False,
) -> Any:
    """Make a function an initializer that recipes call by its name; the function itself is returned.

    `(fans, *, …) -> distribution` says what every element of a tensor is drawn from: a pure function of the fans and of
    keyword arguments, which recipes give and their annotations check. With `kind="whole"` it is
    `(shape, draw, *, …) -> float32 array` and gives the elements themselves; its only randomness are
    `draw.normal(tag)` and `draw.uniform(tag)`, arrays of that shape.

    Args:
        function: keyword arguments are annotated with int, float, bool, str, Literal, Annotated with bounds,
            Reference, or a union of these and None.
        kind: `distribution` or `whole`.
        bare: arguments that bare numbers in a text fill, in order.
        modified: whether recipes may add `fans`, `factor`, `split`, `sizes`, `dim` and `batch_dims`.
        any_shape: whether it may be called with the fans of a 2 x 2 matrix when a recipe is read, so that arguments
            that contradict each other are found without a model.

    Raises:
        ValueError: a taken name, or a signature that recipes cannot speak to.

    Example:
        >>> from initplug.schemes.distributions import Normal
        >>> @initializer(bare=("depth",))
        ... def shrinking(fans: Fans, *, depth: int = 1) -> Normal:
        ...     return Normal(0.0, 1 / (depth * fans.fan_in))
        >>> REGISTRY.pop("shrinking").parameters["depth"].default
        1
    """
    if isinstance(bare, str):
        raise ValueError(f"bare holds the names of arguments, such as ({bare!r},), not the text {bare!r}")

    def enter(function: F) -> F:
        name = getattr(function, "__name__", repr(function))
        register(function, name, kind=kind, bare=tuple(bare), modified=modified, any_shape=any_shape)
        return function

    return enter if function is None else enter(function)


def register(
    function: Callable[..., Any],
    name: str,
    *,
    kind: InitializerKind = "distribution",
    bare: tuple[str, ...] = (),
    modified: bool = True,
    any_shape: bool = False,
) -> Initializer:
    """Enter a function into the registry under a name; see `initializer`."""
    if not callable(function) or isinstance(function, type):
        raise ValueError(f"an initializer is a function, not {function!r}")
    if kind not in get_args(InitializerKind):
        raise ValueError(f"initializer {name!r}: kind is one of {', '.join(get_args(InitializerKind))}, not {kind!r}")
    if any_shape and kind == "whole":
        raise ValueError(f"initializer {name!r}: any_shape is for functions of fans, not for whole tensors")
    _check_name(name)
    held = REGISTRY.get(name)
    if held is not None and not _is_redefined(held.function, function):
        raise ValueError(f"there is already an initializer called {name!r} ({held.home})")
    parameters = _read_parameters(function, name, kind)
    for argument in bare:
        if argument not in parameters:
            hint = did_you_mean(str(argument), parameters) or f"it takes {', '.join(parameters) or 'none'}"
            raise ValueError(f"initializer {name!r}: bare names {argument!r}, which is no argument ({hint})")
        if not {int, float} & set(kinds_of(parameters[argument].annotation)):
            raise ValueError(f"initializer {name!r}: bare names {argument!r}, which takes no number")
        if bare.count(argument) > 1:
            raise ValueError(f"initializer {name!r}: bare names {argument!r} twice")
    entered = REGISTRY[name] = Initializer(name, function, kind, bare, modified, any_shape, parameters)
    return entered


# What recipes can speak to ----------------------------------------------------------------------------------

INITIALIZER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names that every form of a recipe can spell."""

OTHERWISE_READ = frozenset({"split", "null", "true", "false", "yes", "no", "on", "off", "inf", "nan"})
"""Names that recipes read as something else."""

RESERVED = frozenset(
    {"fn", "fans", "split", "sizes", "dim", "batch_dims", "factor"}
    | {"match", "except", "exclude", "init", "kind", "trainable", "expect"}
)
"""Keys beside the arguments of an initializer, and keys that make a mapping a rule."""

EXEMPT = frozenset({("arange", "dim")})
"""Arguments of our own that have the name of such a key, and go before it."""

FIRST = {"distribution": ("fans",), "whole": ("shape", "draw")}
"""Positional arguments of each kind of function."""


def _check_name(name: str) -> None:
    if not INITIALIZER_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name an initializer: recipes spell letters, digits and _, a letter or _ first"
        )
    if name.lower() in OTHERWISE_READ:
        raise ValueError(f"{name!r} cannot name an initializer: recipes read it as something else")


def _is_redefined(held: Any, function: Any) -> bool:
    """Return whether a function is the one that is held, run again: a module that is reloaded, a cell of a notebook."""
    if held is function:
        return True
    home, again = ((getattr(one, "__module__", None), getattr(one, "__qualname__", None)) for one in (held, function))
    if hasattr(sys, "ps1") and home == again:  # whoever types corrects what was typed before
        return True
    code, other = (getattr(one, "__code__", None) for one in (held, function))
    if code is None or other is None or "<locals>" in str(again[1]) or code.co_filename.startswith("<"):
        return False
    return bool((code.co_filename, code.co_firstlineno) == (other.co_filename, other.co_firstlineno))


def _read_parameters(function: Callable[..., Any], name: str, kind: InitializerKind) -> dict[str, Parameter]:
    """Return the keyword arguments of a function; raises where recipes could not give them."""
    form = "(fans, *, …)" if kind == "distribution" else "(shape, draw, *, …)"
    try:
        arguments = list(inspect.signature(function).parameters.values())
    except Exception as error:  # annotations are code of others
        raise ValueError(f"initializer {name!r}: its signature cannot be read: {error}") from None
    first = tuple(one.name for one in arguments if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD))
    starred = [f"{'*' * (1 + (one.kind is one.VAR_KEYWORD))}{one.name}" for one in arguments if _is_starred(one)]
    if starred:
        raise ValueError(f"initializer {name!r} takes {starred[0]}: it takes {form}, every argument by its name")
    if first != FIRST[kind]:
        way_out = _way_out(first, kind)
        raise ValueError(f"initializer {name!r} takes ({', '.join(first)}) by position: it takes {form}{way_out}")
    own = [one for one in arguments if one.kind is one.KEYWORD_ONLY]
    hints = _annotations_of(function, name, own)
    return {one.name: _read_parameter(name, kind, one, hints.get(one.name)) for one in own}


def _is_starred(argument: inspect.Parameter) -> bool:
    return argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)


def _way_out(first: tuple[str, ...], kind: InitializerKind) -> str:
    if kind == "distribution" and first == FIRST["whole"]:
        return '; with kind="whole" it takes (shape, draw, *, …)'
    further = first[len(FIRST[kind]) :]
    return f"; write * before {further[0]}" if first[: len(FIRST[kind])] == FIRST[kind] and further else ""


def _annotations_of(function: Callable[..., Any], name: str, arguments: Sequence[inspect.Parameter]) -> dict[str, Any]:
    """Return the annotations of the arguments that recipes give; the others may be known to type checkers alone."""
    annotations = {one.name: one.annotation for one in arguments if one.annotation is not one.empty}
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return get_type_hints(SimpleNamespace(__annotations__=annotations), scope, include_extras=True)
    except Exception as error:  # likewise
        raise ValueError(f"initializer {name!r}: its annotations cannot be read: {error}") from None


def _read_parameter(name: str, kind: InitializerKind, argument: inspect.Parameter, annotation: Any) -> Parameter:
    what, default = f"initializer {name!r}: argument {argument.name!r}", plain(argument.default)
    if not INITIALIZER_NAME.fullmatch(argument.name):
        raise ValueError(f"{what} cannot be spelled in recipes: letters, digits and _")
    if argument.name in RESERVED and (name, argument.name) not in EXEMPT:
        raise ValueError(f"{what} has the name of a key that recipes use themselves ({', '.join(sorted(RESERVED))})")
    if annotation is None:
        raise ValueError(f"{what} has no annotation, by which recipes are checked")
    wrong = _unknown(annotation)
    if wrong is not None:
        raise ValueError(
            f"{what} is annotated with {_annotation_text(wrong)}, by which recipes cannot be checked; "
            "they can by int, float, bool, str, Literal, Annotated with bounds, Reference, and unions of these and None"
        )
    for word in words_of(annotation):
        if re.search(r"[\s=]", word) or not word or re.match(r"[-+.]?[0-9]", word):
            raise ValueError(
                f"{what} has the word {word!r}, which no text can spell alone: no spaces, no =, no numbers"
            )
    if default is not argument.empty and not isinstance(default, bool | int | float | str | NoneType):
        raise ValueError(f"{what} has the default {default!r}: recipes hold numbers, texts, true, false and null")
    if isinstance(default, float) and not math.isfinite(default):
        raise ValueError(f"{what} has the default {default!r}: numbers of recipes are finite")
    if default is not argument.empty and not _takes(annotation, default):
        raise ValueError(f"{what} has the default {default!r}, which its annotation does not take")
    if argument.name == "of" and (annotation is not Reference or default is None or kind == "whole"):
        told = "has no fans to take" if kind == "whole" else "is a Reference, the tensor whose fans the function gets"
        raise ValueError(f"{what} {told}")
    return Parameter(argument.name, annotation, default)


def _unknown(annotation: Any) -> Any:
    """Return the part of an annotation that recipes cannot be checked against; None if there is none."""
    parts = list(union_parts(annotation))
    if not parts:
        return annotation
    if Reference in parts and len(parts) > 1:
        return annotation
    for part in parts:
        if get_origin(part) is Literal:
            known = all(isinstance(word, str | int) for word in get_args(part))
        elif get_origin(part) is Annotated:
            base, *limits = get_args(part)
            known = base in (int, float) and all(isinstance(limit, Gt | Ge | Lt | Le) for limit in limits)
        else:
            known = part in (int, float, bool, str, Reference)
        if not known:
            return part
    return None


def _takes(annotation: Any, value: Any) -> bool:
    """Return whether a value is of an annotation's types, bounds left aside."""
    if value is None:
        return NoneType in get_args(annotation)
    kind = next(kind for kind in (bool, int, float, str) if isinstance(value, kind))
    return any(
        any(value == word and type(word) is kind for word in get_args(part))
        if get_origin(part) is Literal
        else kind in (kinds := set(kinds_of(part))) or (kind is int and float in kinds)
        for part in union_parts(annotation)
    )


def _annotation_text(annotation: Any) -> str:
    plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__ if plain else str(annotation).removeprefix("typing.")


# Annotations ------------------------------------------------------------------------------------------------


def union_parts(annotation: Any) -> Iterator[Any]:
    """Yield the parts of a union, less None."""
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from union_parts(part)
    elif annotation is not NoneType:
        yield annotation


def kinds_of(annotation: Any) -> Iterator[type]:
    """Yield the plain types of the values that an annotation accepts.

    Example:
        >>> sorted(kind.__name__ for kind in kinds_of(Annotated[float, Gt(0)] | Literal["relu", 3]))
        ['float', 'int', 'str']
    """
    for part in union_parts(annotation):
        if get_origin(part) is Literal:
            yield from {type(word) for word in get_args(part)}
        else:
            base = get_args(part)[0] if get_origin(part) is Annotated else part
            yield str if base is Reference else base


@cache
def words_of(annotation: Any) -> tuple[str, ...]:
    """Return the string literals inside an annotation.

    Example:
        >>> words_of(float | Literal["relu", "tanh"])
        ('relu', 'tanh')
    """
    if get_origin(annotation) is Literal:
        return tuple(word for word in get_args(annotation) if isinstance(word, str))
    return tuple(word for part in get_args(annotation) for word in words_of(part))
