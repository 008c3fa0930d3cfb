"""MODEL texts of the command line: what they name is imported, called with literals and planned, in this process."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from random import Random
from typing import Any

from click.testing import CliRunner
from preset_pool import NUMBERS, SIGNS, mutated

from initplug.cli.commands import commands
from initplug.cli.models import Failure, import_model
from initplug.errors import InitplugWarning

WHERE = [
    "odd_models", "odd_models", "odd_models", "odd_models", "torch.nn", "torch.nn", "torch",
    "torch.nn.modules.linear", "nowhere", "torch.nowhere", "odd_models.inner", "tests/fuzz/odd_models.py",
    "odd_models.py", "./odd_models.py", "no.py", ".py", "/", "", " ", "torch..nn", ".torch", "odd models",
    "torch.nn:Linear", "json", "collections.abc", "importing_raises", "importing_exits", "importing_is_no_python",
    "../fuzz/odd_models.py",
]  # fmt: skip
NAMES = [
    "Linear", "Conv2d", "Sequential", "ReLU", "Module", "Identity", "LazyLinear", "LayerNorm", "init",
    "Linear.forward", "net", "Net", "raising", "exiting", "interrupting", "printing", "warning", "number", "nothing",
    "text", "instance", "recursing", "raising_oddly", "base_raising", "Unprintable", "lying", "getter.odd",
    "getter.exits", "getter.inner", "unprintable_error", "generator", "wants", "wants_keywords", "Metaclassed",
    "tensor", "Halved", "__doc__", "__dict__", "lazy", "empty", "frozen", "cyclic", "needs_values", "classless",
    "__class__", "net.__call__", "", "1", "a-b", "Lineer",
]  # fmt: skip
LITERALS = [
    "1", "2", "3", "-1", "0", "True", "None", "'x'", '"y"', "b'z'", "(1, 2)", "[3]", "{4: 5}", "{1}", "1.5", "2j",
    "...", "bias=False", "bias=True", "in_features=2", "width=3", "width='x'", "out_features=4", "x=1, x=2", "**{}",
    "*[]", "*(1,)", "f'x'", "lambda: 1", "len", "1 + 1", "1j + 2", "-(-1)", "not 1", "a.b", "'\\d'", "'\\x00'",
    "[1 for a in b]", "1 if 1 else 2", "__import__('os')", "print(1)", "1, 2", "3, 4", "2, 2, 1", "a=b", "()",
    "'" + "x" * 3000 + "'", "b=1_000", "0x10", "None=1", "(" * 90, "(" * 250 + ")" * 250, "[" * 300, "9" * 4400,
    "1e400", "'\ud800'", "-" * 3000 + "1", "{[]: 1}", "{{}}", "9 ** 9 ** 9",
]  # fmt: skip


def made(random: Random) -> list[str]:
    """A text, and sometimes the options of a command that it is given to."""
    where, name = random.choice(WHERE), random.choice(NAMES)
    text = f"{where}:{name}"
    choice = random.random()
    if choice < 0.7:
        literals = (*LITERALS, *NUMBERS)
        text += f"({', '.join(random.choice(literals) for _ in range(random.choice((0, 0, 1, 2, 2, 3))))})"
    if random.random() < 0.25:
        text = mutated(random, text)
    if random.random() < 0.03:
        text = random.choice(SIGNS) + text
    if random.random() > 0.15:
        return [text]
    commands = (
        ["plan", text, "keep"],
        ["plan", text, "torch_default", "--json"],
        ["plan", text, "resnext", "--strict"],
    )
    return random.choice((*commands, ["presets", "--for", text], ["plan", text, "keep", "--all", "--wide"]))


RUNNER = CliRunner()

FOLDER = tempfile.TemporaryDirectory(prefix="initplug-fuzz-")
"""Where modules lie that cannot be imported; pytest would find them here."""

for _name, _text in {
    "importing_raises": "raise RuntimeError('broken\\non import')\n",
    "importing_exits": "import sys\nsys.exit('gone')\n",
    "importing_is_no_python": "def (:\n",
}.items():
    (Path(FOLDER.name) / f"{_name}.py").write_text(_text)
sys.path.append(FOLDER.name)


def checked(words: list[str]) -> bool:
    """Import or plan what is named: it ends in one message and a status, and nothing but ours is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if len(words) == 1:
            taken = _named(words[0])
        else:
            result: Any = RUNNER.invoke(commands, words)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            assert result.exit_code in (0, 1, 2), result.exit_code
            assert "Traceback" not in result.output, result.output
            assert not result.stderr.startswith("unexpected "), result.stderr
            if result.exit_code:
                assert result.stderr.strip(), "a failure says nothing"
            if result.exit_code == 2:
                assert not result.stdout, "output beside an error of usage"
            taken = result.exit_code == 0
    others = [str(each.message) for each in caught if not issubclass(each.category, InitplugWarning | UserWarning)]
    assert not others, others
    return taken


def _named(text: str) -> bool:
    try:
        import_model(text)
    except Failure as failure:
        assert failure.message.strip() and len(failure.message) < 20_000
        assert failure.exit_code == 2
        return False
    return True
