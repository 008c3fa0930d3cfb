"""The recipe language as JSON Schema, for editors."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import TypeAdapter

from initplug.language.factor import Counted
from initplug.language.recipe import Recipe, Rule
from initplug.schemes.fans import FanRule
from initplug.schemes.installed import EntryError, all_names, find
from initplug.schemes.registry import Initializer, Reference

DRAFT = "https://json-schema.org/draft/2020-12/schema"


PARTS = {
    "type": "object",
    "properties": {
        "split": {"type": "array", "items": {"$ref": "#/$defs/init"}, "minItems": 2},
        "dim": {"type": "integer", "default": 0},
        "factor": {"$ref": "#/$defs/factors"},
    },
    "required": ["split"],
    "additionalProperties": False,
}
"""A list of initializers, one for each of as many equal parts."""


def schema() -> dict[str, Any]:
    """A schema that accepts recipe files: named and short rules, all forms of `init`, and `defaults`.

    Selector syntax and arguments that contradict each other are the validator's alone.

    Example:
        >>> sorted(schema()["$defs"])[:2]
        ['factor', 'factors']
    """
    settings = {
        name: _of(field.annotation) | {"default": field.default}
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
            "rules": {
                "type": "object",
                "description": "rules by name or selector; of all that match a slot, the last wins",
                "additionalProperties": {
                    "anyOf": [{"type": "null"}, {"$ref": "#/$defs/rule"}, {"$ref": "#/$defs/init"}]
                },
            },
        },
        "anyOf": [{"required": ["rules"]}, {"required": ["defaults"]}],
        "additionalProperties": False,
        "$defs": {
            "rule": _rule(),
            "init": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/text"}, {"$ref": "#/$defs/initializer"}]},
            "text": {"type": "string", "pattern": rf"^\s*({'|'.join(all_names())})(\s+\S+)*\s*$"},
            "initializer": {"oneOf": [*(_named(name) for name in all_names()), PARTS]},
            "factors": {
                "anyOf": [
                    {"$ref": "#/$defs/factor"},
                    {"type": "array", "items": {"$ref": "#/$defs/factor"}, "minItems": 1},
                ]
            },
            "factor": {
                "anyOf": [
                    {"type": "number"},
                    {
                        "type": "object",
                        "properties": {
                            **{kind: {"type": "string", "minLength": 1} for kind in get_args(Counted)},
                            "times": {"type": "number", "default": 1},
                            "power": {"type": "number", "default": -0.5},
                        },
                        "oneOf": [{"required": [kind]} for kind in get_args(Counted)],
                        "additionalProperties": False,
                    },
                ]
            },
            "selectors": {
                "anyOf": [
                    {"type": "string", "minLength": 1},
                    {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
                ]
            },
        },
    }


def _of(annotation: Any) -> dict[str, Any]:
    return TypeAdapter(annotation).json_schema()


def _rule() -> dict[str, Any]:
    count = {"type": "integer", "minimum": 0}
    comparison = {"type": "string", "pattern": r"^(>=|<=|==|!=|>|<)?\s*[0-9]+$"}
    ndim = {"anyOf": [count, comparison]}
    return {
        "type": "object",
        "properties": {
            "match": {"$ref": "#/$defs/selectors"},
            "except": {"$ref": "#/$defs/selectors"},
            "init": {"$ref": "#/$defs/init"},
            "kind": _of(Rule.model_fields["kind"].annotation),
            "ndim": {"anyOf": [count, comparison, {"type": "array", "items": ndim, "minItems": 1}, {"type": "null"}]},
            "optional": {"type": "boolean"},
        },
        "required": ["init"],
        "additionalProperties": False,
    }


def _named(name: str) -> dict[str, Any]:
    """The schema of an initializer; of one that cannot be loaded the name is known and no argument."""
    try:
        initializer = find(name)
    except EntryError as error:
        return {"type": "object", "properties": {"fn": {"const": name, "description": str(error)}}, "required": ["fn"]}
    assert initializer is not None  # its name is known
    return _initializer(initializer)


def _initializer(initializer: Initializer) -> dict[str, Any]:
    properties: dict[str, Any] = {"fn": {"const": initializer.name, "description": initializer.summary}}
    for name, parameter in initializer.parameters.items():
        properties[name] = _of(str if parameter.annotation is Reference else parameter.annotation)
        if not parameter.required:
            properties[name]["default"] = parameter.default
    if initializer.modified:
        properties["factor"] = {"$ref": "#/$defs/factors"}
        properties["split"] = {"type": "integer", "minimum": 2}
        properties["dim"] = {"type": "integer", "default": 0}
        properties["batch_dims"] = {"type": "integer", "minimum": 1}
        properties["fans"] = {"enum": list(get_args(FanRule)), "default": "torch"}
    required = [name for name, parameter in initializer.parameters.items() if parameter.required]
    return {"type": "object", "properties": properties, "required": ["fn", *required], "additionalProperties": False}
