"""The parts of presets: rules, selectors, initializers, words; and what stands in no preset."""

from __future__ import annotations

from random import Random
from typing import Any

import yaml

from initplug.language.preset_list import PRESETS

TEXTS = [path.read_text(encoding="utf-8") for path in sorted(PRESETS.glob("*.yaml"))]
DATA: list[dict[str, Any]] = [yaml.safe_load(text) for text in TEXTS]
RULES: list[tuple[str, Any]] = [(name, rule) for data in DATA for name, rule in data["rules"].items()]
RULES += 20 * [
    ("counted", {"match": "*.weight", "init": {"fn": "normal", "factor": {"count": "<Linear>", "times": 2}}}),
    (
        "placed",
        {"match": "*.weight", "init": {"fn": "uniform", "low": 0, "high": 1, "factor": {"place": "*", "power": 2}}},
    ),
    ("asked", {"match": "<Linear>", "init": {"fn": "normal", "std": 1, "factor": [2, {"attr": "in_features"}]}}),
    ("parted", {"match": "*", "ndim": 2, "init": {"split": [0, "normal std=0.1", {"fn": "eye"}], "dim": 0}}),
]
"""Those of presets, and some that the model of the tests fits."""

SELECTORS: list[str] = sorted(
    {
        text
        for _, rule in RULES
        if isinstance(rule, dict)
        for key in ("match", "except")
        for text in ([rule[key]] if isinstance(rule.get(key), str) else rule.get(key, []))
    }
)

INITS: list[Any] = [rule["init"] if isinstance(rule, dict) and "init" in rule else rule for _, rule in RULES]

SHORT = [
    "0", "1", "zeros", "ones", "keep", "default", "keep default", "constant 0.5", "normal std=0.02", "normal", "eye",
    "kaiming_normal fan_out", "kaiming_uniform a=2.23606797749979", "xavier_uniform gain=relu", "xavier_normal 0.5",
    "uniform -0.1 0.1", "trunc_normal std=0.02 low=-2 high=2", "lecun_normal", "orthogonal 2", "dirac groups=2",
    "sparse 0.5", "variance_scaling scale=2 mode=fan_avg distribution=uniform", "fan_uniform", "prior_bias 0.01",
    "prior_bias uniform log", "fan_uniform of=weight", "copy ..weight", "copy source=^0.weight", "load x.safetensors",
    "sincos grid=2 skip=1", "normal std=0.02 flat", "normal std=0.02 fans=effective", "xavier_uniform split=3 dim=-1",
    "normal batch_dims=1", "delta_orthogonal", "default otherwise=keep", "log_uniform 0.001 0.1", "bilinear",
    "arange", "sqrt(2)", "1/32", "normal std=1/sqrt(768)", "-1/2", "normal std=sqrt(2)", "null", "''", "uniform",
    "split [0, 1]", "default keep", "sincos interleaved", "arange start=1 log", "arange step=-0.5 dim=0",
    "xavier_uniform split=3 sizes=[2, 1, 1]", "kaiming_normal fans={in: 0, out: 1}", "load x.pt previous",
    "xavier_normal conv_transpose2d", "dirac effective", "normal sizes=[1, 2]", "normal fans={in: 0}",
]  # fmt: skip

WORDS = [
    "name", "about", "source", "unmatched", "unused", "frozen", "rules", "defaults", "match", "except", "exclude",
    "init", "kind", "ndim", "optional", "trainable", "expect", "fn", "mode", "nonlinearity", "std", "mean", "low",
    "high", "gain", "scale", "factor", "split", "dim", "sizes", "fans", "batch_dims", "count", "place", "attr",
    "times", "power", "a", "value", "p", "link", "of", "path", "key", "prefix", "otherwise", "cutoff", "groups",
    "error", "keep", "warn", "ignore", "write", "any", "parameter", "buffer", "fan_in", "fan_out", "fan_avg", "relu",
    "leaky_relu", "tanh", "torch", "effective", "flat", "per", "family", "deviations", "proven_on", "_self_", "true",
]  # fmt: skip

NUMBERS = [
    "0", "-0", "-0.0", "1", "-1", "2", "1e-3", "1e400", "-1e400", "1e-400", "5e-324", "1.7976931348623157e308",
    "0x10", "010", "1_000", ".5", "-.5", "+1", "1.", "1e5", "1e+5", ".inf", "-.inf", ".nan", "inf", "nan", "12:30",
    "0b1", "0o7", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616",
    "1" * 400, "9" * 5000, "sqrt(2)", "1/0", "1/3", "sqrt(-1)", "sqrt(0)", "1/sqrt(0)", "--1", "1//2", "2**3", "1e",
    "e1", "0.1.2", "1e1000000000", "yes", "no", "on", "off", "true", "null", "~", "2026-01-01", "100000000",
    "1e100000000", "4294967296",
]  # fmt: skip

SIGNS = [
    "&a ", "*a", "*", "**", "!!python/object:os.system ", "!x ", "%YAML 1.2\n", "---\n", "...\n", "? ", "|", ">",
    "|\n  ", "${x}", "${oc.env:HOME}", "???", "<<: ", "\t", "\x00", "\ufeff", "\u2028", "\x85", "\ud800", "\x1b[31m",
    "\U0001f642", "'", '"', "''", '""', "#", " #", ": ", ":", "- ", "-", "{", "}", "[", "]", ",", "\\", '"\\x41"',
    '"\\UFFFFFFFF"', "@", "`", "\n", "\r", "\r\n", "\n\n", " ", "  ", "^", "<", ">", "(", ")", "(a|b)", "<Conv2d>",
    "[a-", "[!a]", "-1", ".", "..", "=", "\u202e", "e\u0301", "\xa0", "\u200b", "é", "名", "x" * 300,
]  # fmt: skip


def mutated(random: Random, text: str) -> str:
    """A text with one thing changed."""
    place = random.randrange(len(text) + 1)
    choice = random.randrange(12)
    if choice == 0:
        return text[:place] + random.choice(SIGNS) + text[place:]
    if choice == 1:
        return text[:place] + text[place + random.choice((1, 1, 2, 5, 20)) :]
    if choice == 2:
        return text[:place]
    if choice == 3:
        return text[:place] + chr(random.choice((random.randrange(128), random.randrange(0x3000)))) + text[place + 1 :]
    if choice in (4, 5, 6):
        return _word_replaced(random, text, random.choice((NUMBERS, WORDS, SHORT, SIGNS, SELECTORS)))
    lines = text.split("\n")
    line = random.randrange(len(lines))
    if choice == 7:
        lines.insert(random.randrange(len(lines) + 1), lines[line])
    elif choice == 8:
        lines[line] = random.choice(("  ", " ", "\t", "- ", "? ")) + lines[line]
    elif choice == 9:
        lines[line] = lines[line][1:]
    elif choice == 10:
        other = random.randrange(len(lines))
        lines[line], lines[other] = lines[other], lines[line]
    else:
        piece = text[place : place + random.choice((1, 2, 8))]
        return text[:place] + piece * random.choice((2, 3, 40, 400)) + text[place:]
    return "\n".join(lines)


def _word_replaced(random: Random, text: str, words: list[str]) -> str:
    starts = [0, *(place + 1 for place, sign in enumerate(text) if sign in " :,{}[]=.\n")]
    start = random.choice(starts)
    end = next((place for place in range(start, len(text)) if text[place] in " :,{}[]=.\n"), len(text))
    return text[:start] + random.choice(words) + text[end:]
