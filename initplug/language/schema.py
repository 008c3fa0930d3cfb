"""The recipe language as JSON Schema, for editors."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import TypeAdapter

from initplug.language.arguments import SIDES
from initplug.language.expectation import KEYS, MAX_TIMES
from initplug.language.factor import FactorKind
from initplug.language.numbers import FORM
from initplug.language.recipe import EXCEPTIONS, Recipe, Rule
from initplug.schemes.entry_points import EntryError, all_names, find
from initplug.schemes.fans import FanRule
from initplug.schemes.initializers import WITHOUT_AXES
from initplug.schemes.registry import Reference, kinds_of

DRAFT = "https://json-schema.org/draft/2020-12/schema"


LATER = {"type": "string", "pattern": r"\$\{|^\?\?\?$", "description": "resolved by Hydra"}
"""The stand-in for a value in the config of an application: an interpolation, or one that is still missing."""

NOT_GIVEN = {"type": "null", "description": "not given"}
"""The null that a setting, or a key of a rule, may be instead of a value."""

SIZES = {
    "anyOf": [
        {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2},
        {"$ref": "#/$defs/later"},
    ],
    "description": "of the parts along the dimension, or their proportion",
}

AXES = {
    "type": "object",
    "properties": {
        side: {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]}
        for side in SIDES
    },
    "required": [*SIDES],
    "additionalProperties": False,
    "description": "the dimensions of inputs and of outputs",
}

FORMS = {"$ref": "#/$defs/form"}
NUMBERS = [{"type": "number"}, FORMS]
"""Numbers, and the texts that stand for some."""


def schema() -> dict[str, Any]:
    """Return a schema that accepts recipe files: named and short rules, all forms of `init`, and `defaults`.

    A file with `defaults` may say a part of a rule or an initializer, since it is merged with others. Selector syntax,
    arguments that contradict each other, and what `${…}` and `???` stand for are the validator's alone.

    Example:
        >>> sorted(schema()["$defs"])[:2]
        ['factor', 'factors']
    """
    settings = {
        name: _later(_of(field.annotation), NOT_GIVEN) | {"default": field.default}
        for name, field in Recipe.model_fields.items()
        if name != "rules"
    }
    return {
        "$schema": DRAFT,
        "title": "initplug recipe",
        "type": "object",
        "properties": {
            "defaults": {"type": "array", "items": {"type": "string"}, "description": "recipes to merge first"},
            **settings,
            "rules": {"type": "object", "description": "rules by name or selector; the last that matches a slot wins"},
        },
        "if": {"required": ["defaults"]},
        "then": {"properties": {"rules": _rules_schema("part-of-")}},
        "else": {"properties": {"rules": _rules_schema()}, "required": ["rules"]},
        "additionalProperties": False,
        "$defs": {
            **_definitions(),
            **_definitions("part-of-"),
            **{f"initializer-{name}": _initializer_schema(name) for name in all_names()},
            "text": _later({"type": "string", "pattern": rf"^\s*({'|'.join(all_names())})(\s+\S+)*\s*$"}),
            "selectors": {
                "anyOf": [
                    {"type": "string", "minLength": 1},
                    {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
                ]
            },
            "later": LATER,
            "form": {"type": "string", "pattern": f"^{FORM}$", "description": "such as 1/32, sqrt(2), -1/sqrt(768)"},
        },
    }


def _definitions(part: str = "") -> dict[str, Any]:
    """Return the schemas of what a rule consists of; with a prefix, as a file may say it that is merged with others."""
    split = {
        "type": "object",
        "description": "a list of initializers, one for each of as many parts",
        "properties": {
            "split": {"type": "array", "items": {"$ref": "#/$defs/init"}, "minItems": 2},
            "sizes": SIZES,
            "dim": _later({"type": "integer", "default": 0}),
            "factor": {"$ref": f"#/$defs/{part}factors"},
        },
        "required": ["split"],
        "additionalProperties": False,
    }
    return {
        f"{part}rule": _rule_schema(part),
        f"{part}init": {"anyOf": [*NUMBERS, {"$ref": "#/$defs/text"}, {"$ref": f"#/$defs/{part}initializer"}]},
        f"{part}initializer": {
            "anyOf": [*(_used(name, part) for name in all_names()), split, UNNAMED, *([_nameless()] if part else [])]
        },
        f"{part}factors": {
            "anyOf": [
                {"$ref": f"#/$defs/{part}factor"},
                {"type": "array", "items": {"$ref": "#/$defs/factor"}, "minItems": 1},
                {"$ref": "#/$defs/later"},
            ]
        },
        f"{part}factor": {
            "anyOf": [
                *NUMBERS,
                {
                    "type": "object",
                    "properties": {
                        **{kind: {"type": "string", "minLength": 1} for kind in get_args(FactorKind)},
                        "times": _later({"type": "number", "default": 1}, FORMS),
                        "power": _later({"type": "number", "default": -0.5}, FORMS),
                    },
                    **({} if part else {"oneOf": [{"required": [kind]} for kind in get_args(FactorKind)]}),
                    "additionalProperties": False,
                },
            ]
        },
    }


UNNAMED = {"type": "object", "properties": {"fn": {"$ref": "#/$defs/later"}}, "required": ["fn"]}
"""An initializer that an application names."""


def _rules_schema(part: str = "") -> dict[str, Any]:
    known = [{"type": "null"}, {"$ref": f"#/$defs/{part}rule"}, {"$ref": f"#/$defs/{part}init"}]
    return {"additionalProperties": {"anyOf": known}}


def _later(known: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """Return the schema, or a text that an application resolves, or one of others."""
    return {"anyOf": [known, {"$ref": "#/$defs/later"}, *others]}


def _nameless() -> dict[str, Any]:
    """Return arguments without the initializer that they belong to, which another file names."""
    accepted: dict[str, list[dict[str, Any]]] = {}
    for initializer in map(_initializer_schema, all_names()):
        for name, known in initializer.get("properties", {}).items():
            if name != "fn" and known not in accepted.setdefault(name, []):
                accepted[name].append(known)
    properties = {name: {"anyOf": known} for name, known in accepted.items()}
    return {"type": "object", "properties": properties, "not": {"required": ["fn"]}, "additionalProperties": False}


def _of(annotation: Any) -> dict[str, Any]:
    return TypeAdapter(annotation).json_schema()


def _rule_schema(part: str) -> dict[str, Any]:
    count = {"type": "integer", "minimum": 0}
    comparison = {"type": "string", "pattern": r"^(>=|<=|==|!=|>|<)?\s*[0-9]+$"}
    ndim = {"anyOf": [count, comparison]}
    return {
        "type": "object",
        "properties": {
            "match": {"anyOf": [{"$ref": "#/$defs/selectors"}, NOT_GIVEN]},
            "except": {"anyOf": [{"$ref": "#/$defs/selectors"}, NOT_GIVEN]},
            "exclude": {"anyOf": [{"$ref": "#/$defs/selectors"}, NOT_GIVEN]},
            "init": {"$ref": f"#/$defs/{part}init"},
            "kind": _later(_of(Rule.model_fields["kind"].annotation), NOT_GIVEN),
            "trainable": _later(_of(Rule.model_fields["trainable"].annotation), NOT_GIVEN),
            "ndim": _later({"anyOf": [count, comparison, {"type": "array", "items": ndim, "minItems": 1}]}, NOT_GIVEN),
            "optional": _later({"type": "boolean"}, NOT_GIVEN),
            "expect": _later(_expectation(part), NOT_GIVEN),
        },
        **({} if part else {"required": ["init"]}),
        "not": {"required": list(EXCEPTIONS), "properties": {key: {"not": {"type": "null"}} for key in EXCEPTIONS}},
        "additionalProperties": False,
    }


def _expectation(part: str) -> dict[str, Any]:
    times = {"type": "integer", "minimum": 0, "maximum": MAX_TIMES}
    return {
        "type": "object",
        "properties": {"per": {"type": "string", "minLength": 1}, "times": _later(times)},
        **({} if part else {"required": list(KEYS)}),
        "additionalProperties": False,
    }


def _initializer_schema(name: str) -> dict[str, Any]:
    """Return the schema of an initializer, of which a part may be missing.

    Of one that cannot be loaded the name is known and no argument.
    """
    try:
        initializer = find(name)
    except EntryError as error:
        return {"type": "object", "properties": {"fn": {"const": name, "description": str(error)}}, "required": ["fn"]}
    assert initializer is not None  # its name is known
    properties: dict[str, Any] = {"fn": {"const": name, "description": initializer.summary}}
    for argument, parameter in initializer.parameters.items():
        forms = [FORMS] if float in kinds_of(parameter.annotation) else []
        known = _of(str if parameter.annotation is Reference else parameter.annotation)
        properties[argument] = _later(known, *forms)
        if not parameter.required:
            properties[argument]["default"] = parameter.default
    if initializer.modified:
        properties["factor"] = {"$ref": "#/$defs/part-of-factors"}
        properties["split"] = _later({"type": "integer", "minimum": 2})
        properties["sizes"] = SIZES
        properties.setdefault("dim", _later({"type": "integer", "default": 0}))
        properties["batch_dims"] = _later({"type": "integer", "minimum": 1})
        axes = [] if name in WITHOUT_AXES else [AXES]
        properties["fans"] = _later({"enum": list(get_args(FanRule)), "default": "torch"}, *axes)
    return {"type": "object", "properties": properties, "required": ["fn"], "additionalProperties": False}


def _used(name: str, part: str) -> dict[str, Any]:
    """Return an initializer where all of it must be there, unless it is a part."""
    known: dict[str, Any] = {"$ref": f"#/$defs/initializer-{name}"}
    try:
        initializer = find(name)
    except EntryError:
        return known
    assert initializer is not None  # its name is known
    required = [argument for argument, parameter in initializer.parameters.items() if parameter.required]
    if required and not part:
        known["required"] = required
    if initializer.modified and not part:
        known["properties"] = {"factor": {"$ref": "#/$defs/factors"}}
    return known
