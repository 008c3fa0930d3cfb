"""Override strings in Hydra's notation, applied to a recipe before it is validated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from initplug.errors import NAME, VALUE, Finding, RecipeError, brief, cut, did_you_mean, first_line, near, shortened
from initplug.language.faults import shown
from initplug.language.init import not_taken
from initplug.language.layers import Composed, forget_places, overruled
from initplug.language.messages import known_keys
from initplug.language.numbers import formula
from initplug.language.recipe import RULE_KEYS, SETTINGS, Recipe
from initplug.language.selectors import SELECTOR_CHARACTERS
from initplug.language.yaml import MAX_DEPTH, MAX_PARTS, Place, Steps, has_surrogate


def override(composed: Composed, overrides: Sequence[str]) -> None:
    """Apply overrides in place: `key=value`, `+key=value`, `++key=value`, `~key`.

    Keys that a recipe always has, `unmatched`, `unused` and `frozen`, can be set without `+`.

    Raises:
        RecipeError: located at `override: …`.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    parser = OverridesParser.create()
    _refuse_many(overrides, size_of(composed.data))
    config = OmegaConf.create({**{key: Recipe.model_fields[key].default for key in SETTINGS}, **composed.data})
    OmegaConf.set_struct(config, True)
    for text in overrides:
        _refuse_large(text)
        try:
            parsed = parser.parse_override(text)
        except ValueError:  # Python reads no int of thousands of digits
            raise _override_error(text, "a number in it has too many digits") from None
        except HydraException as error:
            hint = _odd_key(text, config) or _as_text(text)
            reason = f"not in Hydra's notation, key=value: {first_line(error)}"
            raise _override_error(text, reason, hint, syntax=True) from None
        except Exception as error:
            hint = None if __debug__ else "it reads mappings and functions in assertions, which python -O leaves out"
            raise _override_error(text, f"Hydra cannot read it: {brief(error)}", hint, syntax=True) from None
        _check(parsed, text)
        _apply(parsed, text, config, composed)
    data = OmegaConf.to_container(config)
    assert isinstance(data, dict)  # it was made from a dict
    composed.data = {str(key): value for key, value in data.items()}


MAX_OVERRIDES = 200
MAX_LENGTH = 2048
MAX_TOGETHER = 8 * MAX_LENGTH
"""The most overrides, and the most characters that one and all of them may have: reading lists takes Hydra the
square of their lengths."""

MAX_COST = 20 * MAX_PARTS
"""The most keys and values of a recipe, times overrides, to go through: OmegaConf may copy all for each."""


def _refuse_many(overrides: Sequence[str], parts: int) -> None:
    characters = sum(map(len, overrides))
    most = min(MAX_OVERRIDES, MAX_COST // max(parts, 1))
    if len(overrides) > most or characters > MAX_TOGETHER:
        message = f"{len(overrides)} overrides of {characters:,} characters are too many"
        bounds = f"at most {most} of {MAX_TOGETHER:,} are read for a recipe of {parts:,} keys and values"
        raise RecipeError.of([Finding("", message, hint=f"{bounds}: write them into a recipe file")])


def size_of(data: Any) -> int:
    """Return how many keys and values plain data have."""
    if isinstance(data, dict):
        return 1 + sum(1 + size_of(value) for value in data.values())
    return 1 + sum(map(size_of, data)) if isinstance(data, list) else 1


def _refuse_large(text: str) -> None:
    """Refuse what would take Hydra's reader minutes, or more depth than Python has."""
    if len(text) > MAX_LENGTH:
        raise _override_error(text, f"an override has at most {MAX_LENGTH:,} characters", "write a recipe file")
    if has_surrogate(text):
        raise _override_error(text, "it holds half a character (a surrogate)")
    depth = 0
    for sign in re.findall(r"[(\[{}\])]", text):
        depth += 1 if sign in "([{" else -1
        if depth > MAX_DEPTH:
            raise _override_error(text, f"nested deeper than {MAX_DEPTH}")
    if text.partition("=")[0].count(".") > MAX_DEPTH:
        raise _override_error(text, f"its key has more than {MAX_DEPTH} steps")


def _as_text(text: str) -> str | None:
    """Return the hint for a number in a form that Hydra takes for a call."""
    key, _, value = text.partition("=")
    return f"quote the number: {key}='\"{value}\"'" if isinstance(formula(value), float) else None


SAYABLE = re.compile(r"[\w.*?-]+")
"""Names that Hydra's notation can say, in braces, where a rule is called as it selects."""


def _odd_key(text: str, config: Any) -> str | None:
    """Return the hint for a key with signs that Hydra's notation has no place for."""
    if not any(sign in text.partition("=")[0] for sign in "*<>[]("):
        return None
    found = re.fullmatch(rf"\+*rules\.({SAYABLE.pattern}?)(\.init)?=(.*)", text, re.DOTALL)
    hint = "keys hold no * and no dots of their own: name the rule"
    if found is None:
        return hint
    said, new = cut(found[3], NAME), "" if found[1] in _rule_names(config) else "+"
    return f"{hint}, or write '{new}rules={{{found[1]}: {f'{{init: {said}}}' if found[2] else said}}}'"


def _override_error(text: str, message: str, hint: str | None = None, *, syntax: bool = False) -> RecipeError:
    return RecipeError.of([Finding("", message, _override_place(text).file, hint=hint)], usage=syntax)


def _override_place(text: str) -> Place:
    """Return what messages call an override."""
    return Place(f"override: {cut(text, NAME)}")


def _check(parsed: Any, text: str) -> None:
    """Refuse what Hydra's notation can say and a single recipe cannot mean."""
    if not parsed.key_or_group:
        raise _override_error(text, "it names no key", syntax=True)
    if parsed.is_sweep_override():
        raise _override_error(
            text, "a sweep stands for many recipes", "sweep with Hydra, or give one value", syntax=True
        )
    if parsed.package is not None or "@" in parsed.key_or_group or "/" in parsed.key_or_group:
        raise _override_error(text, "config groups belong to a Hydra application", syntax=True)
    if "${" in text:
        raise _override_error(text, "an interpolation cannot be resolved here", "compose the recipe with Hydra")


def _apply(parsed: Any, text: str, config: Any, composed: Composed) -> None:
    from omegaconf import open_dict
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

    key, value = parsed.key_or_group, parsed.value()
    shown_key = cut(key, NAME)
    path = _steps(key, config)
    if path[0] == "defaults":
        raise _override_error(text, "defaults are merged before overrides", "list them in a recipe file")
    if value == "???":
        raise _override_error(text, "??? stands for a value that is still missing")
    _check_parents(path, text, config)
    try:
        exists = _exists(path, config)
        present = _selected(path, config)
        if parsed.is_delete():
            if not exists:
                hint = _braced(path, text, config) or _meant(path, config, "~") or _unknown_rule(path, config)
                raise _override_error(text, f"{shown_key} does not exist, so it cannot be deleted", hint)
            if value is not None and value != _container_of(present):
                found = shown(_container_of(present))
                raise _override_error(text, f"{shown_key} is {found}, not {shown(value)}, so it is not deleted")
            if _is_position(path[-1]):
                raise _override_error(
                    text, "a list is replaced as a whole", f"write {'.'.join(map(str, path[:-1]))}=[…]"
                )
            with open_dict(config):
                del _node(path[:-1], config)[path[-1]]
            return
        if parsed.is_add() and exists and present is not None and not isinstance(value, dict | list):
            alone = _is_rule(path) and value is not None and not _selects(str(path[1]))
            said = text[1:].replace(key, f"{key}.init", 1) if alone else text[1:]
            raise _override_error(text, f"{shown_key} is there already", f"leave out the +: {cut(said, NAME)}")
        adds = parsed.is_add() or parsed.is_force_add()
        if not exists:
            braced = _braced(path, text, config)
            if braced is not None or not adds:
                hint = braced or _meant(path, config) or _addable(path, text, value, config)
                raise _override_error(text, f"there is no {shown_key} to override", hint)
            if _is_rule(path) and not isinstance(value, dict | None):
                raise _override_error(
                    text, f"{shown(path[1])} is no rule and no selector", _new_rule(path, text, config)
                )
        before = _container_of(present)
        new = next((path[:length] for length in range(1, len(path) + 1) if not _exists(path[:length], config)), path)
        _update(path, value, config, force_add=adds)
    except (ConfigAttributeError, ConfigKeyError) as error:
        add = f"++{cut(text, NAME)}"
        hint = f"to add keys to what is there, write {add}; to replace the whole, give a text such as 'constant 1'"
        raise _override_error(text, first_line(error), hint) from None
    except OmegaConfBaseException as error:
        raise _override_error(text, first_line(error)) from None
    _note_override(composed, new if len(new) < len(path) else path, before, value, _override_place(text))
    _overrule(path, value, config, composed)


def _overrule(path: Steps, value: Any, config: Any, composed: Composed) -> None:
    """Put exceptions that are given in the place of those that the rule had under their other name."""
    from omegaconf import open_dict

    said = value
    for step in reversed(path):
        said = {step: said}
    rules = said.get("rules")
    for name, rule in rules.items() if isinstance(rules, dict) else ():
        for other in overruled(rule, ("rules", name)) if isinstance(rule, dict) else ():
            if other in (config.rules[name] or ()):
                with open_dict(config):
                    del config.rules[name][other]
                forget_places(composed, ("rules", name, other))


def _check_parents(path: Steps, text: str, config: Any) -> None:
    """Refuse a key below an initializer that is a text: it would silently replace the text."""
    from omegaconf import DictConfig

    node: Any = config
    for length, step in enumerate(path[:-1], 1):
        if not isinstance(node, DictConfig) or step not in node:
            return
        node = node[step]
        if isinstance(node, str | int | float):
            above = cut(".".join(map(str, path[:length])), NAME)
            raise _override_error(
                text,
                f"{above} is {shown(node)}, which has no key {shown(path[length])}",
                f"replace the whole: '{above}=\"…\"'",
            )


def _steps(key: str, config: Any) -> Steps:
    """Return the steps of a key, of which one may be the dotted name of a rule: as long a one as there is."""
    path: Steps = tuple(key.split("."))
    if path[0] != "rules" or len(path) < 3 or _exists(path, config):
        return path
    names = _rule_names(config)
    joined = ((".".join(map(str, path[1:end])), end) for end in range(len(path), 2, -1))
    name, end = next((pair for pair in joined if pair[0] in names), ("", 0))
    return ("rules", name, *path[end:]) if end else path


def _selected(path: Steps, config: Any) -> Any:
    """Return what Hydra finds at a key; None where there is nothing."""
    from omegaconf import OmegaConf

    dotted = len(path) > 1 and "." in str(path[1])
    if dotted and len(path) == 2:
        return config.rules[path[1]]
    below = _node(path[:2], config) if dotted else config
    if below is None:
        return None
    return OmegaConf.select(below, ".".join(map(str, path[2:] if dotted else path)), throw_on_missing=False)


def _update(path: Steps, value: Any, config: Any, *, force_add: bool) -> None:
    """Set a value as Hydra does, which takes the dots of a rule's name for steps."""
    from omegaconf import OmegaConf

    dotted = len(path) > 1 and "." in str(path[1])
    if dotted and (len(path) == 2 or _node(path[:2], config) is None):
        for step in reversed(path[1:]):
            value = {step: value}
        OmegaConf.update(config, "rules", value, merge=True, force_add=force_add)
    elif dotted:
        rule = _node(path[:2], config)
        OmegaConf.update(rule, ".".join(map(str, path[2:])), value, merge=True, force_add=force_add)
    else:
        OmegaConf.update(config, ".".join(map(str, path)), value, merge=True, force_add=force_add)


def _selects(name: str) -> bool:
    """Return whether the name of a rule is its selector."""
    return not SELECTOR_CHARACTERS.isdisjoint(name)


def _is_position(step: str | int) -> bool:
    """Return whether a step of a key counts in a list."""
    return re.fullmatch(r"[0-9]{1,9}", str(step)) is not None


def _exists(path: Steps, config: Any) -> bool:
    from omegaconf import DictConfig, ListConfig

    node = config
    for step in path:
        if isinstance(node, DictConfig) and step in node:
            node = node._get_node(step)
        elif isinstance(node, ListConfig) and _is_position(step) and int(step) < len(node):
            node = node._get_node(int(step))
        else:
            return False
    return True


def _node(path: Steps, config: Any) -> Any:
    """Return what stands at a key that exists."""
    for step in path:
        config = config[int(step) if type(config).__name__ == "ListConfig" else step]
    return config


def _braced(path: Steps, text: str, config: Any) -> str | None:
    """Return the hint for a key in which the name of a rule holds dots, which Hydra's notation says in braces alone."""
    if path[0] != "rules" or len(path) < 3 or _exists(path[:2], config):
        return None
    names = {name for name in map(str, config.get("rules") or ()) if "." in name and SAYABLE.fullmatch(name)}
    end = next((end for end in range(len(path), 2, -1) if ".".join(map(str, path[1:end])) in names), None)
    if end is None and path[2] in RULE_KEYS:
        return None
    if end is None and not text.startswith("+"):
        match = near(".".join(map(str, path[1:])), names)
        if match is not None or _meant(path, config):
            said = "null" if text.startswith("~") else "…"
            return match and f"did you mean 'rules={{{match}: {said}}}'?"
    known, end = end is not None, end or next((at for at, step in enumerate(path) if step in RULE_KEYS), len(path))
    said = "null" if text.startswith("~") else cut(text.partition("=")[2], NAME)
    for step in reversed(path[end:]):
        said = f"{{{step}: {said}}}"
    name = cut(".".join(map(str, path[1:end])), NAME)
    return f"a name that holds dots stands in braces: '{'' if known else '+'}rules={{{name}: {said}}}'"


def _is_rule(path: Steps) -> bool:
    """Return whether a key is that of a rule."""
    return len(path) == 2 and path[0] == "rules"


def _rule_names(config: Any) -> list[str]:
    """Return the names of the rules there are."""
    from omegaconf import OmegaConf

    rules = config.get("rules")
    return [*map(str, rules)] if OmegaConf.is_dict(rules) else []


def _unknown_rule(path: Steps, config: Any) -> str | None:
    """Return the hint for a rule that is not there, whose name is like that of none: those that are."""
    names = _rule_names(config)
    if path[0] != "rules" or len(path) < 2 or path[1] in names:
        return None
    return f"its rules are {', '.join(shortened([cut(name, VALUE) for name in names]))}" if names else "it has no rules"


def _new_rule(path: Steps, text: str, config: Any) -> str:
    """Return the hint for a new rule that is given no selector: the rule that was meant, or how to give it one."""
    name, said = cut(str(path[1]), NAME), cut(text.partition("=")[2], NAME)
    match = near(str(path[1]), (known for known in _rule_names(config) if re.fullmatch(r"[\w-]+", known)))
    meant = "" if match is None else f"did you mean rules.{match}.init={said}? "
    new = f"'+rules={{{name}.**: {said}}}' by name, '+rules.{name}={{match: …, init: {said}}}' by any selector"
    return f"{meant}to add a rule, write {new}"


def _addable(path: Steps, text: str, value: Any, config: Any) -> str:
    """Return the hint for a key that is not there: how to add it, or what can be there."""
    add = f"to add it, write +{cut(text, NAME)}"
    settings = [key for key in known_keys(()) if key != "defaults"]
    keys = [*known_keys(("rules", "")), "exclude"]
    if path[0] not in settings:
        return did_you_mean(str(path[0]), settings) or f"known: {', '.join(settings)}"
    if path[0] != "rules" or len(path) < 2:
        return add
    unknown = _unknown_rule(path, config)
    if unknown is not None:
        if _is_rule(path):
            if value is None:
                return unknown
            return add if isinstance(value, dict) else f"{unknown}; {_new_rule(path, text, config)}"
        return f"{unknown}; to add one, write +rules.{cut(str(path[1]), NAME)}={{match: …, init: …}}"
    rule = config.rules[path[1]]
    if rule is None:
        return f"the rule is null: write rules.{path[1]}={{match: …, init: …}}"
    if len(path) > 2 and path[2] not in keys:
        return did_you_mean(str(path[2]), keys) or f"a rule has {', '.join(keys)}"
    if len(path) > 3 and path[2] == "init":
        return not_taken(str(rule.init.get("fn")), str(path[3])) or add
    return add


def _meant(path: Steps, config: Any, sign: str = "") -> str | None:
    """Return the hint for a key of which one step is misspelt."""
    from omegaconf import DictConfig

    node = config
    for length, step in enumerate(path):
        if not isinstance(node, DictConfig):
            return None
        if step not in node:
            match = near(str(step), (name for name in map(str, node) if SAYABLE.fullmatch(name)))
            if match is None:
                return None
            if not re.fullmatch(r"[\w-]+", match):
                said = "null" if sign else "…"
                return f"did you mean '{'.'.join(map(str, path[:length]))}={{{match}: {said}}}'?"
            return f"did you mean {sign}{'.'.join(map(str, (*path[:length], match, *path[length + 1 :])))}?"
        node = node[step]
    return None


def _container_of(value: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _note_override(composed: Composed, path: Steps, before: Any, value: Any, place: Place) -> None:
    """Note that everything at and below an overridden key now stands on the command line."""
    steps: Steps = tuple(int(step) if _is_position(step) else step for step in path)
    if _is_rule(steps) and isinstance(before, dict) and not isinstance(value, dict):
        composed.flattened.add(str(steps[1]))
    if steps[-1:] == ("fn",) and before not in (None, value):
        composed.replaced[steps[:-1]] = before
    if isinstance(value, dict) and isinstance(before, dict):
        for key, part in value.items():
            _note_override(composed, (*path, key), before.get(key), part, place)
        return
    if isinstance(before, dict | list):  # nothing is below anything else
        forget_places(composed, steps)
    composed.values[steps] = composed.keys[steps] = place
