"""The registry of initializers: a name, a function, and what its signature says of its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NewType, TypeVar, get_args, get_origin, get_type_hints

Reference = NewType("Reference", str)
"""A dotted path from the owner of a slot to another attribute: `weight`, `..q.weight`, `^shared.weight`."""


@dataclass(frozen=True)
class Parameter:
    """One keyword argument of an initializer: its name, its annotation and its default."""

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether recipes must give it."""
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
        function: `(fans, *, …) -> distribution`.
        bare: arguments that bare numbers in a string fill, in order.
        modified: whether recipes may add `fans:` and `factor:`.
        any_shape: whether every shape with fans will do, so that arguments that contradict each other are found
            without a tensor.
    """

    name: str
    function: Callable[..., Any]
    bare: tuple[str, ...] = ()
    modified: bool = True
    any_shape: bool = True
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the documentation."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


REGISTRY: dict[str, Initializer] = {}
F = TypeVar("F", bound=Callable[..., Any])


def register(*, bare: tuple[str, ...] = (), modified: bool = True, any_shape: bool = True) -> Callable[[F], F]:
    """Enter a function into the registry under its name; a taken name raises ValueError."""

    def enter(function: F) -> F:
        key = function.__name__
        if key in REGISTRY:
            raise ValueError(f"there is already an initializer called {key!r}")
        hints = get_type_hints(function, include_extras=True)
        parameters = {
            argument.name: Parameter(argument.name, hints[argument.name], argument.default)
            for argument in inspect.signature(function).parameters.values()
            if argument.kind is inspect.Parameter.KEYWORD_ONLY
        }
        REGISTRY[key] = Initializer(key, function, bare, modified, any_shape, parameters)
        return function

    return enter


@cache
def words_of(annotation: Any) -> tuple[str, ...]:
    """The string literals inside an annotation.

    Example:
        >>> words_of(float | Literal["relu", "tanh"])
        ('relu', 'tanh')
    """
    if get_origin(annotation) is Literal:
        return tuple(word for word in get_args(annotation) if isinstance(word, str))
    return tuple(word for part in get_args(annotation) for word in words_of(part))
