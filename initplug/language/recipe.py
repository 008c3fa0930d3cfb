"""Recipes as data: `Recipe` and `Rule`, validated strictly, and the short forms that stand for them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence, Set
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from initplug.errors import VALUE, cut, did_you_mean, visible
from initplug.language.expectation import Expectation, read_expectation
from initplug.language.faults import fault, kind_of, shown
from initplug.language.habits import CLASS, RULE_WORDS, selector_meant, spaced
from initplug.language.init import Init, read_init, written_here
from initplug.language.selectors import SELECTOR_CHARACTERS, Selector, SelectorError, parse
from initplug.language.yaml import Place, written
from initplug.schemes.initializers import TRANSFERS
from initplug.values import is_whole

RULE_KEYS = frozenset({"match", "except", "exclude", "init", "kind", "trainable", "expect"})
"""A mapping below `rules` that holds one of these is a rule; any other is an initializer."""

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


# Rules ------------------------------------------------------------------------------------------------------


def _read_selectors(value: Any) -> tuple[str, ...]:
    """Return one selector or a list of them, each parsed."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence):
        hint = "quote the selector" if isinstance(value, int | float) else None
        raise fault(f"expected a selector or a list of selectors, got {kind_of(value)}", hint=hint)
    if not texts:
        raise fault("expected at least one selector, the list is empty")
    problems = []
    for index, text in enumerate(texts):
        location = () if isinstance(value, str) else (index,)
        if not isinstance(text, str):
            error = fault(f"expected a selector, got {kind_of(text)}", hint="quote the selector")
            problems.append(InitErrorDetails(type=error, loc=location, input=text))
            continue
        try:
            parse(text)
        except SelectorError as cause:
            meant = selector_meant(text)
            error = fault(f"bad selector {shown(text)}: {cause}", hint=meant and meant.hint, offset=cause.offset)
            problems.append(InitErrorDetails(type=error, loc=location, input=text))
    if problems:
        raise ValidationError.from_exception_data("Selector", problems)
    return tuple(texts)


COMPARISON = re.compile(r"(>=|<=|==|!=|>|<)?\s*([0-9]{1,3})")


def _read_ndim(value: Any) -> Any:
    if isinstance(value, str) and COMPARISON.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1000:
        return value
    if isinstance(value, list | tuple) and value and not any(isinstance(part, list | tuple) for part in value):
        return tuple(_read_ndim(part) for part in value)
    raise fault(f"{shown(value)} is not a number of dimensions", hint="write 2, [2, 4] or '>=2'")


def _read_trainable(value: Any) -> bool | Literal["any"] | None:
    if value is None or isinstance(value, bool):
        return value
    if value == "any":
        return "any"
    hint = "remove the quotes" if value in ("true", "false") else did_you_mean(str(value), ("true", "false", "any"))
    raise fault(f"{shown(value)} is not one of true, false, any", hint=hint)


Selectors = Annotated[tuple[str, ...], PlainValidator(_read_selectors, json_schema_input_type=str | list[str])]
InitField = Annotated[Init, PlainValidator(read_init, json_schema_input_type=Any)]
Ndim = Annotated[Any, BeforeValidator(_read_ndim)]
Trainable = Annotated[
    bool | Literal["any"] | None,
    PlainValidator(_read_trainable, json_schema_input_type=bool | Literal["any"] | None),
]
ExpectField = Annotated[Expectation | None, PlainValidator(read_expectation, json_schema_input_type=Any)]

EXCEPTIONS = ("except", "exclude")
"""The keys of what a rule leaves out: two names of one thing, as no field of a dataclass is called `except`."""

BOTH, ONE = "except and exclude are two names of one key", "keep one of them, or set one to null"


def _check_exceptions(rule: Any) -> Any:
    """Return a rule with one of the two keys at most; one that is null is not given."""
    if not isinstance(rule, Mapping) or "exclude" not in rule:
        return rule
    if rule["exclude"] is None:
        return {key: value for key, value in rule.items() if key != "exclude"}
    if rule.get("except") is not None:
        problem = InitErrorDetails(type=fault(BOTH, hint=ONE), loc=("exclude",), input=rule["exclude"])
        raise ValidationError.from_exception_data("Rule", [problem])
    return {key: value for key, value in rule.items() if key != "except"}


class _Told(BaseModel):
    """Data of which a shell completes our own names, and none of pydantic's."""

    def __dir__(self) -> list[str]:
        home = __name__.partition(".")[0]
        ours = {name for cls in type(self).__mro__ if cls.__module__.partition(".")[0] == home for name in vars(cls)}
        known = {*ours, *type(self).model_fields}
        return [name for name in super().__dir__() if name in known and not name.startswith(("_", "model_"))]


class Rule(_Told):
    """A selector, the initializer for what it selects, and what narrows it.

    Args:
        match: selectors, of which one must select the slot.
        except_: selectors, of which none may select any alias of the slot (the key is `except`, or `exclude`).
        init: the initializer.
        kind: whether parameters or buffers are meant.
        trainable: whether it takes parameters that require a gradient, those that do not, or any; None for what its
            recipe says of frozen ones.
        ndim: numbers of dimensions that a slot may have.
        optional: never reported as unused.
        expect: how many slots the rule shall select below each module of a kind.
    """

    model_config = STRICT

    match: Selectors
    except_: Selectors = Field(default=(), alias="except", validation_alias=AliasChoices(*EXCEPTIONS))
    init: InitField
    kind: Literal["parameter", "buffer"] = "parameter"
    trainable: Trainable = None
    ndim: Ndim = None
    optional: bool = False
    expect: ExpectField = None

    @model_validator(mode="before")
    @classmethod
    def _long_form(cls, data: Any) -> Any:
        data = _expand(data.name, data.value) if isinstance(data, _Named) else data
        return _check_exceptions(_given(data, cls, {"init"}))

    @field_validator("trainable")
    @classmethod
    def _check_parameters(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("kind") == "buffer":
            raise fault("buffers never require a gradient", hint="it goes with parameters: remove it, or kind")
        return value

    @property
    def selectors(self) -> tuple[Selector, ...]:
        """The parsed selectors of `match`."""
        return tuple(parse(text) for text in self.match)

    @property
    def exceptions(self) -> tuple[Selector, ...]:
        """The parsed selectors of `except`."""
        return tuple(parse(text) for text in self.except_)

    def takes_ndim(self, ndim: int) -> bool:
        """Return whether a slot with that many dimensions is meant.

        Example:
            >>> Rule.model_validate({"match": "*", "init": 0, "ndim": ">=2"}).takes_ndim(1)
            False
        """
        return self.ndim is None or any(_compares(ndim, part) for part in _as_tuple(self.ndim))

    @property
    def draws(self) -> bool:
        """Return whether it gives values of its own, and no others' nor those that are there."""
        return self.init.fn not in TRANSFERS and self.init.text != "keep"

    def plain(self) -> dict[str, Any]:
        """Return the rule as a recipe file holds it."""
        data: dict[str, Any] = {"match": _one_or_list(self.match)}
        if self.except_:
            data["except"] = _one_or_list(self.except_)
        data["init"] = self.init.plain()
        if self.kind != "parameter":
            data["kind"] = self.kind
        if self.trainable is not None:
            data["trainable"] = self.trainable
        if self.ndim is not None:
            data["ndim"] = list(self.ndim) if isinstance(self.ndim, tuple) else self.ndim
        if self.optional:
            data["optional"] = True
        if self.expect is not None:
            data["expect"] = self.expect.plain()
        return data


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _one_or_list(texts: tuple[str, ...]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else list(texts)


def _compares(ndim: int, wanted: int | str) -> bool:
    if isinstance(wanted, int):
        return ndim == wanted
    found = COMPARISON.fullmatch(wanted)
    assert found is not None  # validated when the rule was read
    sign, bound = found[1] or "==", int(found[2])
    return {
        ">=": ndim >= bound,
        "<=": ndim <= bound,
        ">": ndim > bound,
        "<": ndim < bound,
        "==": ndim == bound,
        "!=": ndim != bound,
    }[sign]


class _Named(NamedTuple):
    """A value below `rules` on its way to a `Rule`, with the key that may be its selector."""

    name: str
    value: Any

    def __repr__(self) -> str:
        return f"{self.name}: {self.value!r}"


def _given(data: Any, model: type[BaseModel], demanded: Set[str]) -> Any:
    """Return a mapping without the keys of a model that are null, which are not given; those that it needs keep it."""
    if not isinstance(data, Mapping):
        return data
    known = {field.alias or name for name, field in model.model_fields.items()} - demanded
    return {key: value for key, value in data.items() if value is not None or key not in known}


def _named_rules(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: rule if rule is None or isinstance(rule, Rule) else _Named(key, rule) for key, rule in value.items()}


def _expand(name: str, value: Any) -> Any:
    """Return a rule in its long form: a key without `match` is itself the selector."""
    if isinstance(value, Mapping) and value.get("match") is not None:
        return value
    is_rule = isinstance(value, Mapping) and not RULE_KEYS.isdisjoint(value)
    if SELECTOR_CHARACTERS.isdisjoint(name):
        if is_rule:
            meant = next((key for key in value if key != "match" and _is_match(str(key))), None)
            glued = next((line for key in value if (line := spaced(str(key))) and line.startswith("match: ")), None)
            hint = f"add match:, or name the rule by its selector, {cut(name, VALUE)}.**"
            hint = f"write match instead of {meant}" if meant else hint
            hint = f"a space follows the colon: {cut(glued, VALUE)}" if glued else hint
            raise fault(f"rule {shown(name)} has no match", hint=hint, unknown=None if meant or glued else name)
        init = cut(str(value), VALUE) if isinstance(value, str | float) or is_whole(value) else "…"
        told, name = shown(name), cut(name, VALUE)
        if isinstance(value, Mapping) and "layer" in value and (said := written_here(value)) is not None:
            raise fault(f"{told} is no selector", hint=said)
        by_name = f"*.{name}" if name in ("weight", "bias") else f"{name}.**"
        by_type = f"<{name}>.weight" if re.fullmatch(CLASS, name) else "<…>"
        raise fault(
            f"{told} is no selector",
            hint="a rule without match is named by its selector, which holds one of . * ? [ ( < ^: "
            f"{by_name}: {init} by name, {by_type}: {init} by type",
            instead=init,
            unknown=name,
        )
    return {**value, "match": name} if is_rule else {"match": name, "init": value}


def _is_match(key: str) -> bool:
    """Return whether a key is what others call the selector of a rule."""
    return key.lower() == "match" or RULE_WORDS.get(key) == "match"


# Recipes ----------------------------------------------------------------------------------------------------

Texts = str | list[str]

SETTINGS = ("unmatched", "unused", "frozen")
"""The keys of a recipe beside its rules and descriptions."""


OVERRIDDEN = re.compile(r"(?s)(?:override|command line): .*")
"""Places of what overrides say: together they are one layer."""


class Recipe(_Told):
    """An ordered mapping of named rules, with a few settings. The last rule that matches wins.

    Args:
        name: what plans and audits call it.
        about: one line on what it gives.
        source: where it comes from: repository, file and lines, paper.
        family: the architectures it is for.
        deviations: what it does not reproduce.
        proven_on: the models it was compared on.
        unmatched: whether a parameter that no rule matches is an error or keeps its values.
        unused: what a rule that selects nothing is.
        frozen: whether rules that draw, and do not say which parameters they take, leave those alone that require no
            gradient.
        rules: by name; None for a disabled one.
    """

    model_config = STRICT

    name: str | None = None
    about: Texts | None = None
    source: Texts | None = None
    family: Texts | None = None
    deviations: Texts | None = None
    proven_on: Texts | None = None
    unmatched: Literal["error", "keep"] = "error"
    unused: Literal["warn", "error", "ignore"] = "warn"
    frozen: Literal["keep", "write"] = "keep"
    rules: Annotated[dict[str, Rule | None], BeforeValidator(_named_rules)]

    def __str__(self) -> str:
        return self.to_yaml().rstrip("\n")

    def _repr_html_(self) -> str:
        return f"<pre>{escape(''.join(sign if sign == chr(10) else visible(sign) for sign in self.to_yaml()))}</pre>"

    @model_validator(mode="before")
    @classmethod
    def _settings(cls, data: Any) -> Any:
        return _given(data, cls, {"rules"})

    _locations: dict[str, str] = PrivateAttr(default_factory=dict)
    _files: dict[str, Path] = PrivateAttr(default_factory=dict)
    _origin: str | None = PrivateAttr(default=None)
    _places: dict[str, Place] = PrivateAttr(default_factory=dict)
    _initializers: dict[str, Place] = PrivateAttr(default_factory=dict)
    _entries: dict[tuple[str, str, int], Place] = PrivateAttr(default_factory=dict)
    _shipped: frozenset[str] = PrivateAttr(default=frozenset())
    _excepting: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of what the recipe does: rules in order and settings, not its descriptions."""
        plain = self.plain()
        meaning = {key: plain[key] for key in (*SETTINGS, "rules")}
        return hashlib.sha256(json.dumps(meaning, ensure_ascii=False).encode()).hexdigest()

    @property
    def origin(self) -> str:
        """The file it was read from, or what stands for one in messages."""
        return self._origin or self.name or "the recipe"

    def takes(self, rule: Rule, trainable: bool) -> bool:
        """Return whether a rule is for parameters that require a gradient, or for those that do not.

        Example:
            >>> rules = {"*.a": 0, "*.b": "keep", "*.c": {"trainable": False, "init": 0}}
            >>> recipe = Recipe.model_validate({"rules": rules})
            >>> [recipe.takes(rule, False) for rule in recipe.rules.values()]
            [False, True, True]
        """
        meant = rule.trainable
        if meant is None:
            meant = "any" if self.frozen == "write" or not rule.draws else True
        return meant in ("any", trainable)

    def location(self, rule: str) -> str | None:
        """Return `file:line` of a rule, where known."""
        return self._locations.get(rule)

    def giver(self, rule: str) -> str | None:
        """Return `file:line` of what gives a rule its initializer: the rule, unless another file or override does."""
        place = self._initializers.get(rule)
        if place is None:
            return self.location(rule)
        return place.file if place.line is None else f"{place.file}:{place.line}"

    def layer(self, rule: str) -> str | None:
        """Return the file that a rule was first given in, or what stands for one; None where that is not known."""
        place = self._places.get(rule)
        return None if place is None else OVERRIDDEN.sub("override", place.file)

    def place(self, rule: str, key: str | None = None, index: int = 0) -> Place | None:
        """Return the place of a rule, or of one of the selectors of its `match` or `except`; None if none is known."""
        return self._places.get(rule) if key is None else self._entries.get((rule, key, index))

    def word(self, rule: str, key: str) -> str:
        """Return the word that the recipe has for a key of a rule: `exclude` may stand for `except`."""
        return self._excepting.get(rule, key) if key == "except" else key

    def is_shipped(self, place: Place) -> bool:
        """Return whether what stands at a place is said by a preset, and not by who uses it."""
        return place.file in self._shipped

    def folder(self, rule: str) -> Path:
        """Return where a relative path of a rule starts: at the file it stands in, else at the current directory."""
        file = self._files.get(rule)
        return Path.cwd() if file is None else file.parent

    def plain(self) -> dict[str, Any]:
        """Return the recipe as plain data in its canonical form; `load` reads it back."""
        data = {key: getattr(self, key) for key in ("name", "about", "source", "family", "deviations", "proven_on")}
        return {
            **{key: value for key, value in data.items() if value is not None},
            **{key: getattr(self, key) for key in SETTINGS},
            "rules": {name: rule and rule.plain() for name, rule in self.rules.items()},
        }

    def to_yaml(self) -> str:
        """Return the recipe as a YAML text that initplug, Hydra and any other reader take.

        Example:
            >>> print(Recipe.model_validate({"rules": {"*.bias": 0}}).to_yaml())
            unmatched: error
            unused: warn
            frozen: keep
            rules:
              '*.bias':
                match: '*.bias'
                init: 0
            <BLANKLINE>
        """
        return written(self.plain())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.plain() == other.plain()

    __hash__ = None  # type: ignore[assignment]  # holds a mapping, as any dict-bearing model
