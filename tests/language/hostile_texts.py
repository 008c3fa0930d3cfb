"""Recipe texts that are much of one thing, each read by a process with a limit on its processor's time.

Started as `python hostile_texts.py SIZE LIMIT` it prints, for every shape, how its reading ended.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable

import initplug


def filled(unit: str, size: int) -> str:
    return unit * (size // len(unit))


def rules(line: Callable[[int], str], count: int) -> str:
    return "rules:\n" + "".join(f"  {line(index)}\n" for index in range(count))


def quoted(selector: str) -> str:
    return f'? "{selector}"\n  : 0'


# Each as a megabyte, and once more as much of it as is read.
SHAPES: dict[str, Callable[[int], str]] = {
    "rules": lambda size: rules(lambda index: f"a{index}*: kaiming_normal fan_out", size // 40),
    "long rules": lambda size: rules(lambda index: f"r{index}: {{match: a{index}, init: {{fn: eye}}}}", size // 44),
    "a list": lambda size: "[" + filled("0,", size) + "]",
    "a block list": lambda size: filled("- 0\n", size),
    "a mapping": lambda size: "{" + "".join(f"{index}: 0," for index in range(size // 9)) + "}",
    "descriptions": lambda size: "rules: {}\nsource:\n" + filled("- x\n", size),
    "one word": lambda size: "rules: {}\nname: " + filled("x", size),
    "words": lambda size: "rules: {}\nname: " + filled("x y ", size),
    "escapes": lambda size: 'rules: {}\nname: "' + filled("\\u0041", size) + '"',
    "lines": lambda size: filled("\n", size),
    "comments": lambda size: filled("# x\n", size),
    "block text": lambda size: "name: |\n" + filled("  x\n", size),
    "digits": lambda size: "rules: {'a*': " + filled("1", size) + "}",
    "brackets": lambda size: filled("[", size),
    "dashes": lambda size: filled("- ", size),
    "questions": lambda size: filled("? ", size),
    "arguments": lambda size: "rules:\n  'a*': normal " + filled("std=1 ", size),
    "words of an initializer": lambda size: "rules:\n  'a*': normal " + filled("std ", size),
    "unknown arguments": lambda size: (
        "rules:\n  a*: {fn: kaiming_normal" + "".join(f", mod{index}: 1" for index in range(size // 12)) + "}"
    ),
    "unknown initializers": lambda size: rules(lambda index: f"a{index}*: kaiming_norm{index}", size // 30),
    "unknown keys": lambda size: "".join(f"rule{index}: 1\n" for index in range(size // 12)) + "rules: {}",
    "a long unknown word": lambda size: f"rules:\n  'a*': normal {filled('fan_in', size)}",
    "stars": lambda size: rules(lambda index: quoted("*a" * 2000 + str(index)), size // 4016),
    "segments": lambda size: rules(lambda index: quoted("a." * 2000 + str(index)), size // 4016),
    "open classes": lambda size: rules(lambda index: quoted("[" * 4000 + str(index)), size // 4016),
    "open alternatives": lambda size: rules(lambda index: quoted("(a|" * 1300 + str(index)), size // 3916),
    "alternatives": lambda size: rules(lambda index: quoted("(a|b)" * 10 + f"*{index}"), size // 66),
    "numbers": lambda size: f"rules:\n  'a*': {{fn: normal, factor: [{filled('1,', size)}]}}",
    "counts": lambda size: f"rules:\n  'a*': {{fn: normal, factor: [{filled('{count: a},', size)}]}}",
    "parts": lambda size: f"rules:\n  'a*': {{split: [{filled('0,', size)}]}}",
    "bad parts": lambda size: f"rules:\n  'a*': {{split: [{filled('x,', size)}]}}",
    "interpolations": lambda size: f"source: [{filled('${a},', size)}]",
}


def read(text: str, limit: int) -> str:
    """Return `read`, `refused` or what else came of a text in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        try:
            initplug.load(text + "\n")
            told = "read"
        except initplug.RecipeError as error:
            told = "refused" if len(str(error)) < 20_000 else f"a message of {len(str(error)):,} characters"
        except BaseException:
            told = traceback.format_exc(limit=-3)
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    told = os.read(reading, 1 << 16).decode()
    os.close(reading)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else told


if __name__ == "__main__":
    size, limit = map(int, sys.argv[1:])
    initplug.load("resnext")  # what is imported is
    json.dump({shape: read(text(size), limit) for shape, text in SHAPES.items()}, sys.stdout)
