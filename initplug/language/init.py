"""`Init`: an initializer with its arguments, from a number, a text or a mapping, validated strictly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from initplug.errors import VALUE, RecipeError, brief, cut, did_you_mean
from initplug.language.arguments import (
    MODIFIERS,
    argument_error,
    is_accepted,
    modifier,
    number,
    number_if_meant,
    value_spelled,
)
from initplug.language.factor import Factor, read_factors
from initplug.language.faults import NUMBER, fault, kind_of, shown
from initplug.language.hints import argument_hint, arguments_of_word, mapping_hint, number_refused, words_by_argument
from initplug.language.numbers import Written, formula
from initplug.language.yaml import read
from initplug.schemes.calls import error_text
from initplug.schemes.entry_points import EntryError, all_names, find
from initplug.schemes.fans import Axes, FanRule, Fans
from initplug.schemes.initializers import TRANSFERS, WITHOUT_AXES
from initplug.schemes.registry import (
    REGISTRY,
    Initializer,
    kinds_of,
)


@dataclass(frozen=True, slots=True)
class Init:
    """An initializer with the arguments that the recipe gives it.

    Example:
        >>> read_init("kaiming_normal fan_out").arguments
        {'mode': 'fan_out'}
    """

    fn: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fans: FanRule | Axes = "torch"
    factors: tuple[Factor, ...] = ()
    split: int = 1
    parts: tuple[Init, ...] = ()
    sizes: tuple[int, ...] = ()
    dim: int = 0
    batch_dims: int = 0

    @property
    def initializer(self) -> Initializer:
        """The registered function behind the name."""
        found = REGISTRY.get(self.fn) or find(self.fn)
        if found is None:
            raise RecipeError(f"there is no initializer {self.fn!r} in this process: import the module that has it")
        return found

    @property
    def modifiers(self) -> dict[str, Any]:
        """The modifiers of the initializer, as a recipe file says them; defaults are left out."""
        data: dict[str, Any] = {}
        if self.fans != "torch":
            data["fans"] = self.fans.plain() if isinstance(self.fans, Axes) else self.fans
        if self.split > 1 or self.parts:
            data["split"] = [part.plain() for part in self.parts] or self.split
            if self.sizes:
                data["sizes"] = [*self.sizes]
            if self.dim:
                data["dim"] = self.dim
        if self.batch_dims:
            data["batch_dims"] = self.batch_dims
        if self.factors:
            factors = [factor.plain() for factor in self.factors]
            data["factor"] = factors[0] if len(factors) == 1 else factors
        return data

    @property
    def text(self) -> str:
        """The canonical one-line form: arguments at their defaults are left out, words stand alone.

        Example:
            >>> read_init({"fn": "trunc_normal", "std": 0.02, "mean": 0.0}).text
            'trunc_normal std=0.02'
        """
        if self.parts:
            words = [f"split [{', '.join(part.text for part in self.parts)}]"]
        else:
            words = [self.fn, *self._argument_words()]
        for name, value in self.modifiers.items():
            if name == "fans":
                word = isinstance(value, str) and arguments_of_word(self.initializer, value) == ["fans"]
                spelled = self.fans.text if isinstance(self.fans, Axes) else value
                words.append(value if word else f"fans={spelled}")
            elif name == "factor":
                words.extend(f"factor={factor.text}" for factor in self.factors)
            elif not (name == "split" and self.parts):
                words.append(f"{name}={value}")
        return " ".join(words)

    def _argument_words(self) -> Iterator[str]:
        given: dict[str, Any] = {}
        for name, parameter in self.initializer.parameters.items():
            value = self.arguments.get(name, parameter.default)
            if name in self.arguments and not (value == parameter.default and type(value) is type(parameter.default)):
                given[name] = value
        # A number stands alone where those do that are read before it.
        alone = list(takewhile(lambda name: type(given.get(name)) in (int, float, Written), self.initializer.bare))
        yield from (str(given.pop(name)) for name in alone)
        for name, value in given.items():
            spelled = shown(value) if isinstance(value, bool | None) else str(value)
            by_word = isinstance(value, str) and arguments_of_word(self.initializer, value) == [name]
            yield spelled if by_word else f"{name}={spelled}"

    def plain(self) -> str | int | float | dict[str, Any]:
        """Return the form that a recipe file holds: a number, a name, or a mapping."""
        if self.parts:
            return self.modifiers
        if not self.modifiers:
            if self.fn == "constant":
                return self.arguments["value"]  # type: ignore[no-any-return]  # validated as a number
            if not self.arguments:
                return self.fn
        return {"fn": self.fn, **self.arguments, **self.modifiers}


def read_init(value: Any) -> Init:
    """Return an initializer from a number, a string or a mapping.

    Raises:
        ValidationError: with one error per wrong argument.
        PydanticCustomError: the initializer itself cannot be made out.
    """
    if isinstance(value, Init):
        return value
    if isinstance(value, bool) or value is None:
        raise fault(f"{shown(value)} is no initializer", hint="a rule is disabled by setting the rule itself to null")
    if isinstance(value, str):
        value = formula(value)
    if isinstance(value, int | float):
        return _validate_arguments("constant", {"value": value})
    if isinstance(value, str):
        return _validate_arguments(*_read_text(value))
    if not isinstance(value, Mapping):
        raise fault(f"expected an initializer (a number, a text or a mapping with fn), got {kind_of(value)}")
    if isinstance(value.get("split"), list | tuple):
        return _read_split(value)
    if "fn" not in value:
        raise fault("an initializer given as a mapping needs the key fn", hint=mapping_hint(value))
    fn = value["fn"]
    try:
        _find_initializer(fn)
    except PydanticCustomError as wrong:
        problem = InitErrorDetails(type=wrong, loc=("fn",), input=fn)
        raise ValidationError.from_exception_data("Init", [problem]) from None
    return _validate_arguments(fn, {key: argument for key, argument in value.items() if key != "fn"})


def _read_split(value: Mapping[str, Any]) -> Init:
    """Read a list of initializers, one for each of as many equal parts."""
    problems: list[InitErrorDetails] = []
    parts = [_read_part(index, part, problems) for index, part in enumerate(value["split"])]
    if len(value["split"]) < 2:
        problems.append(InitErrorDetails(type=fault("a split has at least two parts"), loc=("split",), input=None))
    known = ("split", "sizes", "dim", "factor")
    for key in value:
        if key not in known:
            hint = did_you_mean(key, known) or f"each part has its own; beside split stand {', '.join(known[1:])}"
            error = fault(f"a list of parts takes no {cut(key, VALUE)}", hint=hint)
            problems.append(InitErrorDetails(type=error, loc=(key,), input=value[key]))
    given = {key: value[key] for key in known[1:] if key in value}
    modifiers = _take_modifiers({**given, "split": len(parts) or 2}, problems)
    if problems:
        raise ValidationError.from_exception_data("Init", problems)
    return Init("split", parts=tuple(parts), **modifiers)


def _read_part(index: int, value: Any, problems: list[InitErrorDetails]) -> Init:
    try:
        part = read_init(value)
        if part.fn in TRANSFERS:
            raise fault(f"{part.fn} fills a whole tensor and is no part of a split", hint="give it a rule of its own")
        return part
    except ValidationError as wrong:
        problems.extend(_relocated_errors(("split", index), wrong))
    except PydanticCustomError as wrong:
        problems.append(InitErrorDetails(type=wrong, loc=("split", index), input=value))
    return Init("zeros")


def _take_modifiers(given: dict[str, Any], problems: list[InitErrorDetails]) -> dict[str, Any]:
    """Take the modifiers out of given arguments and return them; what is wrong with them goes to `problems`."""
    modifiers: dict[str, Any] = {}
    if "factor" in given:
        try:
            modifiers["factors"] = read_factors(given.pop("factor"))
        except ValidationError as wrong:
            problems.extend(_relocated_errors(("factor",), wrong))
    for name, told in SPLIT_ALONE.items():
        if name in given and "split" not in given:
            error = fault(f"{name} says {told}, and nothing is split", hint="write split: N beside it")
            problems.append(InitErrorDetails(type=error, loc=(name,), input=given.pop(name)))
    for name in MODIFIERS:
        if name not in given or name == "factor":
            continue
        try:
            modifiers[name] = modifier(name, given.pop(name))
        except ValidationError as wrong:
            problems.extend(_relocated_errors((), wrong))
    sizes, count = modifiers.get("sizes"), modifiers.get("split")
    if sizes is not None and count is not None and len(sizes) != count:
        error = fault(
            f"{len(sizes)} size{'s' * (len(sizes) > 1)} for {count} parts", hint="sizes has one for each part"
        )
        problems.append(InitErrorDetails(type=error, loc=("sizes",), input=sizes))
    return modifiers


SPLIT_ALONE = {"dim": "where to split", "sizes": "how large parts are"}
"""Modifiers that go with `split`, and what they say."""


def _find_initializer(name: Any, offset: int = 0) -> Initializer:
    """Return the initializer of this name; raises a fault where there is none, or where a package's cannot be used."""
    if not isinstance(name, str):
        raise fault(f"fn holds the name of an initializer, not {kind_of(name)}")
    try:
        found = find(name)
    except EntryError as error:
        raise fault(str(error), hint="mend or remove that package", offset=offset) from None
    if found is not None:
        return found
    names = all_names()
    if NUMBER.fullmatch(name):
        raise fault(f"{shown(name)} is a text, not a number", hint="remove the quotes", offset=offset)
    if " " in name.strip() and name.split()[0] in names:
        raise fault("fn holds the name alone", hint="write the arguments as keys, or the whole as one text under init")
    hint = did_you_mean(name, names) or "known: " + ", ".join(names)
    raise fault(f"unknown initializer {shown(name)}", hint=hint, offset=offset)


def _read_text(text: str) -> tuple[str, dict[str, Any]]:
    """Return `fn word key=value number …` as name and arguments."""
    tokens = [(found.start(), found[0]) for found in re.finditer(TOKEN, text)]
    if not tokens:
        raise fault("an initializer cannot be empty")
    fn = tokens[0][1]
    initializer = _find_initializer(fn, tokens[0][0])
    free = list(initializer.bare)
    arguments: dict[str, Any] = {}
    value: Any
    for offset, token in tokens[1:]:
        if "=" in token:
            name, _, given = token.partition("=")
            parameter = initializer.parameters.get(name)
            value = _modifier_spelled(name, given) if parameter is None else value_spelled(parameter.annotation, given)
            if given == "":
                raise fault(f"{cut(name, VALUE)}= has no value", offset=offset)
        elif not isinstance(value := number(token), str):
            if not free:
                raise fault(number_refused(initializer, token), offset=offset)
            name = free.pop(0)
        else:
            name, value = _bind(initializer, token, offset), token
        if name in arguments:
            raise fault(f"{cut(name, VALUE)} is given twice", offset=offset)
        free = [other for other in free if other != name]
        arguments[name] = value
    return fn, arguments


TOKEN = r"sizes=\[[^\]]*\]|fans=\{[^}]*\}|\S+"
"""A word of a text: brackets hold spaces."""


def _modifier_spelled(name: str, given: str) -> Any:
    """Return the value that a text spells for a modifier: lists and mappings are spelled as in a file."""
    if name in ("sizes", "fans") and given[:1] in ("[", "{"):
        try:
            return read(given, name).data
        except RecipeError:
            return given
    return number(given)


def _bind(initializer: Initializer, word: str, offset: int) -> str:
    """Return the argument that lists the word among its words."""
    takers = arguments_of_word(initializer, word)
    if len(takers) == 1:
        return takers[0]
    if takers:
        raise fault(f"{word!r} is a word of {' and '.join(takers)}", hint=f"write {takers[0]}={word}", offset=offset)
    words = words_by_argument(initializer)
    every = [known for group in words.values() for known in group]
    if word in initializer.parameters:
        raise fault(f"{word} needs a value: write {word}=…", offset=offset)
    taken = "; ".join(f"{name}: {', '.join(known)}" for name, known in words.items())
    needed = [name for name, parameter in initializer.parameters.items() if parameter.required]
    wordless = f"write {needed[0]}={cut(word, VALUE)}" if needed else "it takes no words"
    free = any(str in kinds_of(initializer.parameters[name].annotation) for name in needed)
    hint = did_you_mean(word, every) or (f"its words are {taken}" if taken and not free else wordless)
    raise fault(f"{shown(word)} is no word of {initializer.name}", hint=hint, offset=offset)


def _validate_arguments(fn: str, arguments: Mapping[str, Any]) -> Init:
    """Validate arguments against the function's annotations, then the function's own checks."""
    initializer = _find_initializer(fn)
    problems: list[InitErrorDetails] = []
    given = {name: number_if_meant(initializer.parameters.get(name), value) for name, value in arguments.items()}
    # An argument may have the name of a modifier, which then is the argument's.
    own = {name: given.pop(name) for name in MODIFIERS if name in initializer.parameters and name in given}
    for name in own if "split" in given else ():
        error = fault(f"{name} may be {fn}'s or that of split", hint="write split with a list, and dim beside it")
        problems.append(InitErrorDetails(type=error, loc=(name,), input=own[name]))
    modifiers = _take_modifiers(given, problems) if initializer.modified else {}
    given.update(own)
    whole = "" if given.keys() <= initializer.parameters.keys() else _whole(initializer, given)
    for name, value in given.items():
        parameter = initializer.parameters.get(name)
        if parameter is None:
            error = fault(f"{fn} takes no {cut(name, VALUE)}", hint=argument_hint(initializer, name), leftover=whole)
            problems.append(InitErrorDetails(type=error, loc=(name,), input=value))
        elif not is_accepted(parameter.annotation, value):
            problems.append(argument_error(name, value, parameter.annotation))
    problems.extend(
        InitErrorDetails(type=fault(f"{fn} needs {name}", hint=f"write {fn} {name}=…"), input=None)
        for name in _missing(initializer, given)
    )
    if isinstance(modifiers.get("fans"), Axes) and fn in WITHOUT_AXES:
        error = fault(f"{fn} has no fans to count along axes", hint="remove fans")
        problems.append(InitErrorDetails(type=error, loc=("fans",), input=modifiers["fans"]))
    if problems:
        raise ValidationError.from_exception_data("Init", problems)
    if initializer.any_shape:
        try:
            # Arguments that contradict each other are the function's own to find.
            initializer.function(Fans((2, 2)), **given)
        except (ValueError, ArithmeticError) as error:
            raise fault(f"{fn}: {error_text(error)}") from None
        except (Exception, SystemExit) as error:  # the function may be code of others
            raise fault(f"{fn} failed: {brief(error)}") from None
    return Init(fn, given, **modifiers)


def _relocated_errors(place: tuple[str | int, ...], error: ValidationError) -> Iterator[InitErrorDetails]:
    """Yield the errors of a part, located below the place that holds it."""
    for detail in error.errors(include_url=False):
        context = {name: detail["ctx"][name] for name in ("message", "hint", "offset", "leftover")}
        yield InitErrorDetails(type=fault(**context), loc=(*place, *detail["loc"]), input=detail["input"])


def _missing(initializer: Initializer, given: Mapping[str, Any]) -> list[str]:
    return [name for name, known in initializer.parameters.items() if known.required and name not in given]


def _whole(initializer: Initializer, given: Mapping[str, Any]) -> str:
    """Return the one-line text of an initializer with those of its arguments that are its own."""
    known = initializer.parameters
    own = {name: value for name, value in given.items() if name in known and is_accepted(known[name].annotation, value)}
    words = [Init(initializer.name, own).text, *(f"{name}=…" for name in _missing(initializer, own))]
    return " ".join(words)


def not_taken(fn: str, argument: str) -> str | None:
    """Return the way out where an initializer takes no such argument; None where it does, or is not known.

    Example:
        >>> not_taken("normal", "sdt"), not_taken("normal", "std")
        ('did you mean std?', None)
    """
    try:
        initializer = _find_initializer(fn)
    except PydanticCustomError:
        return None
    known = argument in initializer.parameters or (initializer.modified and argument in MODIFIERS)
    return None if known else argument_hint(initializer, argument)
