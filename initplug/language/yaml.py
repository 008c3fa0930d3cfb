"""Recipe text -> plain data with positions.

One reader for every recipe text: PyYAML's own layers with the alias syntax taken out, so that `*.bias: 0` needs no
quotes, and with the table of scalars that OmegaConf uses, so that a file means the same here and under Hydra.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from initplug.errors import Finding, RecipeError
from initplug.language.faults import shown
from initplug.language.habits import unspaced_line
from initplug.language.numbers import Written

MAX_CHARACTERS = 1 << 18
MAX_PARTS = 20_000
MAX_DEPTH = 32
"""Bounds of a recipe: what keeps to them is read within seconds, and no recipe that a person writes comes near."""

TAG = "tag:yaml.org,2002:"

Steps = tuple[str | int, ...]
"""A path into data: keys and positions."""


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a value in a text.

    Args:
        file: file, `<text>`, or `override: …`.
        line: 1-based; None where there is no text.
        column: 1-based, of the first character of the content (behind an opening quote).
        literal: the content stands in the text as it is, so that an offset into it is an offset into the line.
    """

    file: str
    line: int | None = None
    column: int | None = None
    literal: bool = False

    @property
    def text(self) -> str | None:
        """It as `file:line:column`, as far as it is known; None where not even a file or an override is.

        Example:
            >>> Place("mine.yaml", 3, 13).text, Place("override: rules.a=null").text, Place("<mapping>").text
            ('mine.yaml:3:13', 'override: rules.a=null', None)
        """
        if self.line is None and self.file.startswith("<"):
            return None
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def shifted(self, offset: int) -> Place:
        """Return the place of the character `offset` further on, where that can be told."""
        if not self.literal or self.column is None:
            return self
        return Place(self.file, self.line, self.column + offset, True)


@dataclass(slots=True)
class Document:
    """A text that was read: its data, where each key and value stands, and its unquoted stars.

    Args:
        data: the plain data; keys are texts.
        values: places of values, by path.
        keys: places of keys, by path.
        stars: places of unquoted scalars that begin with `*`.
    """

    data: Any
    values: dict[Steps, Place] = field(default_factory=dict)
    keys: dict[Steps, Place] = field(default_factory=dict)
    stars: list[Place] = field(default_factory=list)


def read(text: str, file: str) -> Document:
    r"""Read a recipe text.

    Args:
        text: at most 262,144 characters and 20,000 keys and values, nested at most 32 deep.
        file: what messages call it.

    Raises:
        RecipeError: at the first thing that cannot be read.

    Example:
        >>> read("rules:\n  *.bias: 0\n", "r.yaml").data
        {'rules': {'*.bias': 0}}
    """
    if len(text) > MAX_CHARACTERS:
        raise unreadable(file, f"the text has more than {MAX_CHARACTERS:,} characters", hint=SMALLER)
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        document = Document(None)
        if root is not None:
            document.data = _Walk(loader, file, document).value(root, ())
    except _FaultError as fault:
        raise unreadable(file, fault.message, fault.mark, fault.hint) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = yaml.Mark(file, 0, before.count("\n"), len(before) - before.rfind("\n") - 1, None, 0)
        raise unreadable(file, f"not YAML: the character {chr(error.character)!r}", mark) from None
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        raise unreadable(file, _not_yaml(error), place, _hint_of(error, text, place)) from None
    except (ValueError, OverflowError):
        raise unreadable(file, "not YAML: an escape such as \\UFFFFFFFF names no character") from None
    return document


SMALLER = "a selector stands for many names: *.bias, <Conv2d>.weight"
"""The hint for a recipe that is too large."""


def has_surrogate(text: str) -> bool:
    """Return whether a text holds half a character, which no file can."""
    return not text.isascii() and SURROGATE.search(text) is not None


SURROGATE = re.compile("[\ud800-\udfff]")


def unreadable(file: str, message: str, mark: Any = None, hint: str | None = None) -> RecipeError:
    """Return the error for a text that cannot be read at all."""
    line, column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
    return RecipeError.of([Finding("", message, file, line, column, hint)])


def _inside_flow(error: yaml.MarkedYAMLError) -> bool:
    return "flow" in f"{error.context} {error.problem}"


def _hint_of(error: yaml.MarkedYAMLError, text: str, mark: yaml.Mark | None) -> str | None:
    """Return the way out of a text that is not YAML: quotes, or a space after a colon."""
    if _inside_flow(error):
        return "in flow style, {…} and […], quote the selector"
    found = unspaced_line(text, mark.line + 1) if mark is not None and "block" not in f"{error.context}" else None
    return found and f"in line {found[0]} a space follows the colon: {found[1]}"


def _not_yaml(error: yaml.MarkedYAMLError) -> str:
    parts = [error.context or "", error.problem or ""]
    return "not YAML: " + ", ".join(part for part in parts if part)


class _FaultError(Exception):
    def __init__(self, message: str, mark: yaml.Mark, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.mark, self.hint = message, mark, hint


class _Scanner(Reader, Scanner):
    """Anchors, aliases, tags and directives do not exist; `*` is an ordinary character."""

    def fetch_alias(self) -> None:
        self.fetch_plain()

    def fetch_anchor(self) -> None:
        raise _FaultError("recipes have no anchors", self.get_mark(), "quote a text that begins with '&'")

    def fetch_tag(self) -> None:
        raise _FaultError("recipes have no tags", self.get_mark(), "quote a text that begins with '!'")

    def fetch_directive(self) -> None:
        raise _FaultError("recipes have no directives", self.get_mark(), "quote a text that begins with '%'")


class _Composer(Parser, Composer):
    depth = 0
    parts = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.parts += 1
        if self.parts > MAX_PARTS:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's stubs
            raise _FaultError(f"the text has more than {MAX_PARTS:,} keys and values", mark, SMALLER)
        if self.depth > MAX_DEPTH:
            raise _FaultError(f"nested deeper than {MAX_DEPTH}", self.peek_event().start_mark)  # type: ignore[no-untyped-call]  # PyYAML's stubs
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Resolver(BaseResolver):
    """OmegaConf's table of plain scalars, less the spellings that readers disagree on."""


_Resolver.add_implicit_resolver(f"{TAG}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))
_Resolver.add_implicit_resolver(f"{TAG}null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Resolver.add_implicit_resolver(f"{TAG}int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z"), list("-+0123456789"))
_Resolver.add_implicit_resolver(
    f"{TAG}float",
    re.compile(
        r"(?:[-+]?[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?)\Z"
    ),
    list("-+0123456789."),
)

AMBIGUOUS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"(?i:yes|no|on|off)"),
        "some readers take it for a truth value: write true or false, or quote the text",
    ),
    (re.compile(r"[-+]?0[xX][0-9a-fA-F_]+"), "write the number in decimal, or quote the text"),
    (re.compile(r"[-+]?0[bB][01_]+"), "write the number in decimal, or quote the text"),
    (
        re.compile(r"[-+]?0[oO]?[0-9_]+"),
        "some readers take it for octal: write the number in decimal, or quote the text",
    ),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"),
        "some readers take it for base 60: quote the text",
    ),
    (re.compile(r"[-+]\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"), "write a digit before the point"),
    (re.compile(r"\.[0-9][0-9_]*[eE][0-9]+"), "write a digit before the point"),
    (re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"), "numbers are finite"),
)
"""Plain scalars that are errors, with the way out."""


class _Dumper(yaml.SafeDumper):
    """Quotes what this reader would not take for a text, beside what other readers would not."""


for _first, _known in _Resolver.yaml_implicit_resolvers.items():
    for _tag, _pattern in _known:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])
for _pattern, _ in AMBIGUOUS:
    _Dumper.add_implicit_resolver(f"{TAG}float", re.compile(f"(?:{_pattern.pattern})\\Z"), list("-+.0123456789yYnNoO"))


BREAKS = frozenset("\x85\u2028\u2029\ufeff")
"""Characters that readers of YAML take for line breaks, or leave out, unless they are escaped."""


def _represented(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(f"{TAG}str", text, style=None if BREAKS.isdisjoint(text) else '"')


_Dumper.add_representer(str, _represented)
_Dumper.add_representer(Written, lambda dumper, number: dumper.represent_str(number.text))


def written(data: Any) -> str:
    """Return plain data as a YAML text that this reader, Hydra and others read alike.

    Example:
        >>> print(written({"*.bias": "1e-3"}), end="")
        '*.bias': '1e-3'
    """
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Loader(_Scanner, _Composer, SafeConstructor, _Resolver):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        BaseResolver.__init__(self)


@dataclass(frozen=True, slots=True)
class _Walk:
    """The nodes of one text on their way to data, positions kept."""

    loader: _Loader
    file: str
    document: Document

    def value(self, node: yaml.Node, path: Steps) -> Any:
        self.document.values[path] = self.place(node)
        if isinstance(node, yaml.MappingNode):
            return dict(self.items(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(part, (*path, index)) for index, part in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)  # there are three kinds of nodes
        return self.scalar(node)

    def items(self, node: yaml.MappingNode, path: Steps) -> Iterator[tuple[str, Any]]:
        for key_node, value_node in node.value:
            key = self.key(key_node)
            here = (*path, key)
            if here in self.document.keys:
                first = self.document.keys[here]
                raise _FaultError(f"duplicate key {shown(key)}", key_node.start_mark, f"first at line {first.line}")
            self.document.keys[here] = self.place(key_node)
            yield key, self.value(value_node, here)

    def key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise _FaultError("a key must be a text", node.start_mark, "in flow style, {…} and […], quote the selector")
        value = self.scalar(node)
        if isinstance(value, str) or node.tag == f"{TAG}int":
            return str(node.value)
        kind = {bool: "a truth value", float: "a number"}.get(type(value), "null")
        raise _FaultError(f"the key {shown(node.value)} reads as {kind}", node.start_mark, "quote it")

    def scalar(self, node: yaml.ScalarNode) -> Any:
        if (node.style is None and node.tag == f"{TAG}str") or node.tag == f"{TAG}int":
            for pattern, way_out in AMBIGUOUS:
                if node.style is None and pattern.fullmatch(node.value):
                    raise _FaultError(f"readers disagree on {shown(node.value)}", node.start_mark, way_out)
        if node.style is None and node.value.startswith("*"):
            self.document.stars.append(self.place(node))
        if node.tag in (f"{TAG}float", f"{TAG}int"):
            value = float(node.value.replace("_", ""))
            if math.isinf(value):
                raise _FaultError("the number is too large", node.start_mark, "numbers are finite")
            return value if node.tag == f"{TAG}float" else int(node.value.replace("_", ""))
        if has_surrogate(node.value):
            raise _FaultError("half a character (a surrogate)", node.start_mark)
        return self.loader.construct_object(node)

    def place(self, node: yaml.Node) -> Place:
        start, end = node.start_mark, node.end_mark
        literal = quoted = False
        if isinstance(node, yaml.ScalarNode) and start.line == end.line:
            quoted = node.style in ("'", '"')
            literal = quoted or node.style is None
        column = start.column + 1 + quoted
        return Place(self.file, start.line + 1, column, literal)
