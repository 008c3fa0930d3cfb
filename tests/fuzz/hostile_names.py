"""Names of modules, parameters, classes, rules and recipes that mean something to what they are written in.

Each output is read by a reader of its own: JSON, CSV, Markdown, HTML, YAML, the text of a terminal.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from html.parser import HTMLParser
from random import Random
from typing import Any

import torch
import yaml
from torch import nn

import initplug
from initplug.auditing.compare import changes, comparison

PIECES = [
    "'", '"', "\n", "\r", "\r\n", "\t", "\x00", "\x1b[31m", "\x1b]0;x\x07", "\x7f", "\x9b31m", "\x85", "\u2028",
    "\u2029", "\u202e", "\u200b", "\u200f", "\ufeff", "\ud800", "\udfff", "e\u0301", "é", "名前", "\U0001f642",
    "\U000e0041", "\xad", "\xa0", "<b>", "</script>", "<script>alert(1)</script>", "<!--", "-->", "]]>", "&amp;",
    "&lt;", "&#0;", "<img src=x onerror=y>", "=cmd|' /C calc'!A0", "=1+1", "+1", "-1", "@SUM(1)", "%0A", "|", "||",
    "\\|", "\\", "`", "```", "**", "_", "[x](y)", "![x](y)", ",", ";", ":", ": ", "#", " #", "- ", "? ", "* ", "&a",
    "*a", "!x", "{", "}", "[", "]", "${x}", "???", "null", "true", "~", "1e3", "{{data}}", "{{", "}}", "%s", "{0}",
    "{name}", "[bold]", "[/bold]", "[red]x[/]", ":smile:", "$(x)", "`x`", "\\n", "\\x1b", "\\u0041", "0", "007",
    "weight", "self", "__proto__", "constructor", "a b", " ", "  lead", "trail ", "x" * 300, "é" * 200, "A", "if",
]  # fmt: skip
PLAIN = [*"abcde", "conv", "fc", "w1", "layer", "0", "12"]


def _name(random: Random) -> str:
    return "".join(
        random.choice(PIECES if random.random() < 0.75 else PLAIN) for _ in range(random.choice((1, 1, 2, 3)))
    )


def made(random: Random) -> dict[str, Any]:
    """Names of each kind."""
    return {
        "modules": [_name(random) for _ in range(random.randrange(3))],
        "parameters": [_name(random) for _ in range(random.randrange(1, 4))],
        "class": _name(random),
        "rule": _name(random),
        "recipe": _name(random),
        "about": _name(random),
        "width": random.choice((20, 40, 80, 200)),
        "every": random.random() < 0.5,
        "wrong": random.choice(("unmatched", "unfit", "only", "circle")),
    }


def _registered(module: nn.Module, names: list[str], add: Any) -> None:
    for name in names:
        name = name.replace(".", "_")
        if name and not hasattr(module, name):
            add(name)


def model_of(spec: dict[str, Any]) -> nn.Module:
    """A model whose modules, parameters and class have these names."""
    name = spec["class"].replace("\x00", "") or "x"  # the only character that no class's name may hold
    try:
        cls: Any = type(name, (nn.Module,), {})
    except UnicodeEncodeError:  # nor half a character
        cls = type(name.encode(errors="replace").decode(), (nn.Module,), {})
    model: nn.Module = cls()

    def parameter(name: str) -> None:
        model.register_parameter(name, nn.Parameter(torch.zeros(2, 2)))

    def module(name: str) -> None:
        inner = cls()
        _registered(inner, spec["parameters"], lambda key: inner.register_parameter(key, nn.Parameter(torch.zeros(3))))
        model.add_module(name, inner)

    _registered(model, spec["parameters"], parameter)
    _registered(model, spec["modules"], module)
    return model


def checked(spec: dict[str, Any]) -> bool:
    """Read back every output of a plan, an audit, a recipe and an error: it shows names and no more."""
    model = model_of(spec)
    names = [name for name, _ in model.named_parameters()]
    rule = {"match": "*", "init": "normal std=0.5"}
    data = {
        "name": spec["recipe"],
        "about": spec["about"],
        "rules": {spec["rule"]: rule, "last": {**rule, "optional": True}},
    }
    try:
        recipe = initplug.load(data)
    except initplug.RecipeError as error:
        harmless(str(error))
        recipe = initplug.load({"rules": {"r": rule}})
    else:
        told = yaml.safe_load(recipe.to_yaml())
        assert told["name"] == spec["recipe"] and [*told["rules"]] == [spec["rule"], "last"], told
        assert initplug.load(recipe.to_yaml()) == recipe
    if not names:
        return False
    plan = initplug.plan(model, recipe)
    halved = any("\ud800" <= sign <= "\udfff" for name in names for sign in name)  # such names have no stream
    audit = initplug.apply(model, plan, seed=None if halved else 0, histograms=True)
    for table in (plan, audit):
        harmless(table.to_text(width=spec["width"], every=spec["every"]))
        harmless(repr(table))
        found = json.loads(table.to_json())
        assert [row["name"] for row in found["rows"]] == names
    harmless(comparison(changes(audit.to_dict(), {"rows": []}), spec["recipe"], every=spec["every"]))
    _csv(audit.to_csv(), names)
    _markdown(audit.to_markdown(), names)
    _page(audit.to_html(), names, recipe)
    _fragment(audit._repr_html_())
    _errors(spec, model, names)
    return True


def shown(text: str) -> str:
    """A name as outputs show it: what cannot be printed as an escape."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def harmless(text: str) -> None:
    """Raise if a text holds what a terminal obeys, or what turns the order of others."""
    odd = [sign for sign in text if sign != "\n" and unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert not odd, f"{odd[:3]!r} in {text[:200]!r}"


NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?")


def _csv(text: str, names: list[str]) -> None:
    rows = [*csv.reader(io.StringIO(text, newline=""))]
    assert len(rows) == len(names) + 1 and {len(row) for row in rows} == {len(rows[0])}
    found = [row[rows[0].index("name")] for row in rows[1:]]
    assert [name.removeprefix("'") for name in found] == [shown(name).removeprefix("'") for name in names]
    formulas = [cell for row in rows for cell in row if cell.lstrip().startswith(("=", "+", "-", "@"))]
    assert all(NUMBER.fullmatch(cell) for cell in formulas), "a cell is a formula"
    harmless(text.replace("\r\n", "\n"))


def _markdown(text: str, names: list[str]) -> None:
    harmless(text)
    lines = [line for line in text.split("\n") if line]
    cells = [re.split(r"(?<!\\)\|", line) for line in lines]
    assert len(lines) == len(names) + 2 and {len(row) for row in cells} == {len(cells[0])}, text
    for row, name in zip(cells[2:], names, strict=True):
        found = re.fullmatch(r" (`+)( ?)(.*?)\2\1 ", row[1].replace("\\|", "|"), re.DOTALL)
        assert found is not None and found[3].strip() == shown(name).strip(), (row[1], name)
        assert found[1] not in re.findall("`+", found[3])


class _Reader(HTMLParser):
    """Tags in order, and texts by the tag that holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.keys: set[str] = set()
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.keys |= {key for key, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.tags[-1] if self.tags else "", []).append(data)


def _read(text: str) -> _Reader:
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader


def _page(text: str, names: list[str], recipe: initplug.Recipe) -> None:
    reader = _read(text)
    assert {*reader.tags} <= TAGS and reader.tags.count("script") == 2, "a name has made a tag"
    assert not any(key.startswith("on") for key in reader.keys), "a name has made an attribute"
    data = next(json.loads(part) for part in reader.texts["script"] if part.lstrip().startswith("{"))
    assert data["names"] == names
    assert data["rules"] == [*recipe.rules]
    harmless(reader.texts["title"][0])


def _fragment(text: str) -> None:
    reader = _read(text)
    assert {*reader.tags} <= {"table", "thead", "tbody", "tr", "th", "td", "p"}, "a name has made a tag"
    harmless(text)


TAGS = {
    *("html", "head", "meta", "link", "title", "style", "body", "noscript", "script", "main", "header", "section"),
    *("footer", "div", "span", "p", "pre", "code", "b", "i", "small", "bdi", "a", "h1", "h2", "ul", "ol", "li"),
    *("form", "label", "input", "button", "figure", "details", "summary"),
    *("table", "thead", "tbody", "tr", "th", "td", "svg", "g", "path", "rect", "desc"),
}


def _errors(spec: dict[str, Any], model: nn.Module, names: list[str]) -> None:
    """An error about these names is a text that a terminal can be given."""
    try:
        match spec["wrong"]:
            case "unmatched":
                initplug.plan(model, {"rules": {"zzz*": {"match": "zzz", "init": 0, "optional": True}}})
            case "unfit":
                initplug.plan(model, {"rules": {"*": "dirac"}})
            case "only":
                initplug.apply(model, {"rules": {"*": 0}}, only=[f"{names[0]}zzz"])
            case _:
                initplug.plan(model, {"rules": {"*": "copy ^zzz"}})
    except initplug.InitplugError as error:
        harmless(str(error))
