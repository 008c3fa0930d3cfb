"""Selectors and recipes as habit writes them: regular expressions, code, notations of others, and what is meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from initplug.errors import NAME
from initplug.language.selectors import SelectorError, parse


class Meant(NamedTuple):
    """The meaning of a selector that is written as elsewhere.

    Args:
        selectors: as they are written here.
        why: in a few words.
    """

    selectors: tuple[str, ...]
    why: str

    @property
    def hint(self) -> str:
        """The hint that offers it."""
        said = self.selectors[0] if len(self.selectors) == 1 else f"[{', '.join(self.selectors)}]"
        return f"{self.why}: {said}"


def selector_meant(text: str) -> Meant | None:
    """Return what a selector was meant to be that is written out of another habit; None where none is known.

    Example:
        >>> selector_meant("^conv[0-9]+[.]weight$").selectors, selector_meant("nn.Conv2d").selectors
        (('^conv[0-9]*.weight',), ('<Conv2d>',))
        >>> selector_meant("blocks[-1].fc").hint
        'a child is a step of its own: blocks.-1.fc'
    """
    for habit, why in HABITS if len(text) <= NAME else ():
        found = habit(text)
        selectors = found if isinstance(found, tuple) else (found or "",)
        if selectors != (text,) and all(map(_is_selector, selectors)):
            return Meant(selectors, why)
    return None


def _is_selector(text: str) -> bool:
    try:
        parse(text)
    except SelectorError:
        return False
    return True


# One habit each ---------------------------------------------------------------------------------------------

CLASS = r"[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*"
"""The name of a class: capitals and small letters, a capital first."""

PATH = r"(?:[a-z_]\w*\.)*"
"""The modules before the name of a class: `torch.nn.`, `nn.`"""


def _checked(text: str) -> str | None:
    """Return the types that code asks for: `isinstance(m, nn.Conv2d)`, `type(m) == nn.Linear`."""
    if not re.match(r"(?:isinstance|type|issubclass)\s*\(", text):
        return None
    names = re.findall(rf"\b({CLASS})\b", text)
    return f"<{'|'.join(dict.fromkeys(names))}>" if names else None


def _typed(text: str) -> str | None:
    """Return a type in angle brackets: `nn.Conv2d`, `Conv2d.weight`, `[Conv2d].weight`, `<nn.Conv2d>`."""
    found = re.fullmatch(rf"(\^?)[\[<{{]?(?:{PATH})({CLASS})[\]>}}]?(?=\.|$)(.*)", text)
    if found is None:
        return None
    return f"{found[1]}<{found[2]}>{found[3]}"


def _bracketed(text: str) -> str | None:
    """Return types with both brackets and their dot: `<Conv2d.weight`, `<Conv2d, Linear>.weight`, `<Conv2d>weight`."""
    if "<" not in text and ">" not in text:
        return None
    text = re.sub(r"\s*[,;]\s*", "|", text) if re.search(r"<[^>]*,[^>]*>", text) else text
    text = re.sub(rf"^<({CLASS})\.", r"<\1>.", text)
    text = re.sub(rf"^({CLASS})>", r"<\1>", text)
    return re.sub(r">(?=[a-z_*])", ">.", text)


def _quoted(text: str) -> str | None:
    """Return a selector without quotes of its own, or white space around it."""
    return text.strip().strip("'\"`").strip()


def _negated(text: str) -> str | None:
    """Return what is negated: `!*.bias`, `not *.bias`, `~*.bias`."""
    found = re.fullmatch(r"(?:!|~|not\s+)(.+)", text)
    return found and found[1]


def _indexed(text: str) -> str | None:
    """Return indices as steps: `blocks[0].fc`, `blocks[-1]`, `blocks[:2]`."""
    return re.sub(r"(?<=\w)\[(-?[0-9]+|[0-9]?:[0-9]?|)\](?=\.|$)", lambda found: f".{_places(found[1])}", text)


def _places(index: str) -> str:
    """Return the places that an index or a slice stands for, of one digit each."""
    first, sliced, end = index.partition(":")
    if not sliced or not end:
        return first if first and not sliced else "*"
    last = int(end) - 1
    return str(last) if last == int(first or 0) else f"[{first or 0}-{last}]"


def _slashed(text: str) -> str | None:
    """Return a path as a dotted name: `encoder/layers/0/kernel`, `encoder->fc`, `encoder::fc`."""
    dotted = re.sub(r"/|->|::", ".", text.strip("/")) if re.search(r"/|->|::", text) else None
    head, dot, last = (dotted or "").rpartition(".")
    return dotted and f"{head}{dot}{OF_FLAX.get(last, last)}"


def _renamed(text: str) -> str | None:
    """Return what torch calls `*.kernel`; gammas, betas and scales are names of modules of torch, too."""
    return f"{text.removesuffix('kernel')}weight" if re.search(r"(?:^|\.)kernel$", text) else None


OF_FLAX = {**dict.fromkeys(("kernel", "gamma", "scale", "embedding", "embeddings"), "weight"), "beta": "bias"}
"""Parameters as Keras and Flax call them, in paths."""


def _listed(text: str) -> str | tuple[str, ...] | None:
    """Return alternatives, or selectors of a list: `conv1,conv2`, `conv.{weight,bias}`, `conv|bn`."""
    braces = re.sub(r"\{([^{}]*)\}", lambda found: "(" + re.sub(r"\s*,\s*", "|", found[1]) + ")", text)
    if braces != text:
        return braces
    parts = [part for part in re.split(r"\s*[,;|]\s*", text) if part]
    if len(parts) < 2 or re.search(r"[(<\[]", text):
        return None
    heads, tails = zip(*(part.partition(".")[::2] for part in parts), strict=True)
    if len({*tails}) > 1:
        return tuple(parts)
    return f"({'|'.join(heads)})" + (f".{tails[0]}" if tails[0] else "")


def _prefixed(text: str) -> str | None:
    """Return a name without what holds the model: `self.fc`, `model.fc`, `module.fc`, `_orig_mod.fc`."""
    found = re.fullmatch(r"\^?(?:self|model|module|net|_orig_mod|_fsdp_wrapped_module|state_dict|params)\.(.+)", text)
    return found and found[1]


def _starred(text: str) -> str | None:
    """Return one star for two inside a segment: `**bias`, `conv**`."""
    return re.sub(r"\*\*+(?=[^.*])|(?<=[^.*])\*\*+", "*", text) if "**" in text else None


EXPRESSION = re.compile(r"\\|\$$|\.\*(?![.*])|\.\+|[\])\w]\+|\(\?|\[\^|\[\.\]|^\^?\.\*|^re:|\{[0-9,]+\}")
"""Signs of a regular expression that a selector has no use for."""

TOKEN = re.compile(
    r"\\[dD]\+|\\[dD]\*|\\w[+*]|\\d|\\w|\[\^\.\][+*]|\[0-9\][+*]|\.[*+]\??|\\\.|\[\.\]|\[[^\]]*\][+*]?|\(\?:|."
)
"""A step of a regular expression."""

AS_GLOB: Mapping[str, str] = {
    r"\d+": "[0-9]*",
    r"\d*": "*",
    r"\w+": "*",
    r"\w*": "*",
    r"\d": "[0-9]",
    r"\w": "?",
    "[^.]+": "*",
    "[^.]*": "*",
    "[0-9]+": "[0-9]*",
    "[0-9]*": "*",
    r"\.": ".",
    "[.]": ".",
    "(?:": "(",
}
"""Steps of a regular expression as a glob has them."""


def _matched(text: str) -> str | None:
    r"""Return a regular expression as a glob: `.*\.bias`, `^conv\d+\.weight$`, `(?:q|k)_proj.*weight`."""
    if not EXPRESSION.search(text):
        return None
    text = text.removeprefix("re:")
    anchored = text.startswith("^") and not text.startswith(("^.*", "^.+"))
    steps = TOKEN.findall(text.removeprefix("^").removesuffix("$").removesuffix("\\b"))
    glob = ""
    for place, step in enumerate(steps):
        if step[0] == "." and len(step) > 1:
            glob += _any(glob, steps[place + 1 :])
        else:
            glob += AS_GLOB.get(step, step.rstrip("+") if step.startswith("[") else "" if step in "\\+?" else step)
    return ("^" if anchored else "") + glob.strip(".")


def _any(before: str, after: list[str]) -> str:
    """Return any characters of a regular expression as a glob: inside a segment, or as segments."""
    if not after:
        return "*" if before and not before.endswith(".") else "**"
    dotted, begun = after[0] in (r"\.", "[.]"), not before or before.endswith(".")
    if not before:
        return "*"
    if begun:
        return "**" if dotted else "**.*"
    return "*.**" if dotted else "*.**.*"


HABITS: tuple[tuple[Callable[[str], str | tuple[str, ...] | None], str], ...] = (
    (_checked, "a type stands in angle brackets"),
    (_matched, "selectors are globs, not regular expressions"),
    (_typed, "a type stands in angle brackets"),
    (_bracketed, "types stand in angle brackets, | between them"),
    (_negated, "what is left out stands under except"),
    (_quoted, "it stands for itself, without quotes or spaces around it"),
    (_indexed, "a child is a step of its own"),
    (_slashed, "names are dotted"),
    (_listed, "alternatives stand in parentheses, selectors in a list"),
    (_renamed, "torch calls it otherwise"),
    (_prefixed, "names begin below the model"),
    (_starred, "one star stands for characters"),
)
"""Readings that are tried in turn, and why they are written otherwise."""


# Recipes ----------------------------------------------------------------------------------------------------


def spaced(text: str) -> str | None:
    """Return a line as it is written with a space after its colon; None where that is not what it lacks.

    Example:
        >>> spaced("*.bias:0"), spaced("*.bias = 0"), spaced("conv")
        ('*.bias: 0', '*.bias: 0', None)
    """
    line = text.partition("\n")[0].strip()
    found = re.fullmatch(r"([^\s:={}\[\],'\"]+)(?::(?=\S)| ?= ?)(\S.*)", line) if len(line) <= NAME else None
    return found and f"{found[1]}: {found[2]}"


def unspaced_line(text: str, before: int) -> tuple[int, str] | None:
    r"""Return the nearest line, up to a number, that lacks the space after its colon, and how it is written.

    Example:
        >>> unspaced_line("rules:\n  *.bias:0\n  a*: 1\n", 3)
        (2, '*.bias: 0')
    """
    lines = text.split("\n")[:before]
    for number in range(len(lines), max(len(lines) - 3, 0), -1):
        meant = spaced(lines[number - 1])
        if meant is not None:
            return number, meant
    return None


RULE_WORDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("pattern", "regex", "select", "selector", "target", "modules", "params", "names", "layer", "layers"), "match"
    ),
    **dict.fromkeys(
        ("fn", "func", "initializer", "init_fn", "init_cfg", "weight_init", "value", "type", "method"), "init"
    ),
    **dict.fromkeys(("skip", "ignore", "exclude_modules", "without"), "except"),
    **dict.fromkeys(("requires_grad", "frozen"), "trainable"),
    **dict.fromkeys(("dim", "dims", "rank"), "ndim"),
}
"""Keys of rules as others call them."""

SETTING_WORDS: Mapping[str, str] = {
    "raise": "error",
    "strict": "error",
    "fail": "error",
    "leave": "keep",
    "skip": "keep",
    "ignore": "keep",
    "none": "ignore",
    "silent": "ignore",
    "warning": "warn",
}
"""Values of settings as others call them."""
