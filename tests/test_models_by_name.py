"""MODEL on the command line: what it names, files called like modules, odd literals, and code that raises anything."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

import initplug
from initplug.auditing.moments import array_of
from initplug.cli import commands as cli
from initplug.cli.models import build_model, import_model

ROOT = Path(initplug.__file__).parents[1]
NET = "from torch import nn\n\n\ndef net(*given, **named):\n    return nn.Linear(2, 2)\n"


@pytest.fixture(autouse=True)
def imports() -> Iterator[None]:
    """What a test imports, and where from, is forgotten after it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and not file.startswith(sys.prefix) and not file.startswith(str(ROOT / "initplug")):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(model: str) -> Result:
    return CliRunner().invoke(cli.commands, ["plan", model, "torch_default"])


def line_of_refusal(model: str, status: int) -> str:
    """The one line that a MODEL is refused with."""
    done = plan(model)
    assert (done.exit_code, done.stdout) == (status, ""), done.output
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("\n")
    return done.stderr[:-1]


# Files that are called like modules -------------------------------------------------------------------------

USES = """\
import html, json, typing
import numpy, rich, torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        assert json.loads("[1]") == [1] and html.escape("<") == "&lt;"
        assert typing.get_type_hints(Net.__init__) == {}
        self.weight = nn.Parameter(torch.from_numpy(numpy.zeros((2, 2), "float32")))


def net():
    return Net()
"""


@pytest.mark.parametrize("name", ["sub/json", "sub/torch", "torch", "html", "rich", "numpy"])
def test_a_file_called_like_a_module_does_not_take_its_place(folder: Path, name: str) -> None:
    (folder / "sub").mkdir()
    (folder / f"{name}.py").write_text(USES)
    (folder / "zero.yaml").write_text("rules:\n  '*': 0\n")
    (folder / "bin").mkdir()
    (folder / "bin" / "run.py").write_text("from initplug.__main__ import main\nmain()\n")  # as an installed script is
    done = subprocess.run(
        [sys.executable, folder / "bin" / "run.py", "plan", f"{name}.py:net", "zero.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2].split()[0] == "weight"


TYPED = """\
from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import ClassVar, get_type_hints

from torch import nn


@dataclass
class Widths:
    first: int = 2
    common: ClassVar[int] = 3


class Net(nn.Module):
    def __init__(self, widths: Widths | None = None) -> None:
        super().__init__()
        assert get_type_hints(Widths)["first"] is int
        assert pickle.loads(pickle.dumps(Widths(5))) == Widths(5)
        self.widths = Widths()
        self.linear = nn.Linear(self.widths.first, 2)
"""


@pytest.mark.parametrize("name", ["net", "json", "sub/typing", "sub/my-net", "sub/net.v2", "sub/__init__", "sub/1"])
def test_classes_of_a_file_can_be_pickled_and_asked_for_their_types(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "net", raising=False)  # files of other tests are called so, too
    (folder / "sub").mkdir()
    (folder / f"{name}.py").write_text(TYPED)
    before = dict(sys.modules)
    model = build_model(import_model(f"{name}.py:Net"), meta=False)
    assert pickle.loads(pickle.dumps(model)).widths == model.widths
    assert typing.get_type_hints(type(model).__init__)["return"] is type(None)
    assert all(sys.modules[known] is module for known, module in before.items())
    assert type(model).__module__ == ("net" if name == "net" else sys.modules[type(model).__module__].__name__)


def test_a_file_with_a_name_of_its_own_is_what_its_neighbours_import(folder: Path) -> None:
    (folder / "mine.py").write_text("from torch import nn\nclass Base(nn.Linear): pass\nfrom neighbour import Net\n")
    (folder / "neighbour.py").write_text("import mine\nclass Net(mine.Base): pass\n")
    constructor = import_model("mine.py:Net").constructor
    assert constructor.__mro__[1] is sys.modules["mine"].Base


def test_files_beside_a_file_are_imported(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "torch.py").write_text("from beside import width\n" + NET)
    (folder / "sub" / "beside.py").write_text("import torch\nwidth = torch.nn.Linear\n")
    assert plan("sub/torch.py:net").exit_code == 0
    assert sys.modules["torch"] is torch
    assert sys.path[0] == str(folder)  # the current directory comes first


def test_a_package_beside_a_file_of_its_name_is_not_taken_for_it(folder: Path) -> None:
    (folder / "net").mkdir()
    (folder / "net" / "__init__.py").write_text("")
    (folder / "net.py").write_text(NET)
    assert plan("net.py:net").exit_code == 0


def test_two_files_of_one_name_are_two_modules(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "net.py").write_text(f"def net(): return {name!r}\n")
    assert [import_model(f"{name}/net.py:net").constructor() for name in ("a", "b")] == ["a", "b"]


# Literals ---------------------------------------------------------------------------------------------------

ODD = [
    "({[1]: 2})", "({[]})", "(1)+m(2)", "(x())(1)", "(1)(2)", "(1).net(2)", "(**{'a': 1})", "(*[1])", "(a=1, a=2)",
    "(1 for x in [])", "(f'{1}')", "(lambda: 1)", "(x := 1)", "(2**8)", "(1 if 1 else 2)", "(net)", "(__import__('a'))",
    "(1", "(1))", "(1)\n(2)", "()()", "(" * 50 + ")" * 50 + ")", "(" * 5000 + ")" * 5000, "(" + "-" * 100_000 + "1)",
    "([" * 200 + "])" * 200, "(" + "9" * 10_000 + ")", "(\0)", "(\ud800)", "(1 # )", "('\\N{nothing}')", "(a.b=1)",
    "(1=2)", "(,)", "(print)", "(yield)", "(await x)", "(...,, 1)", "({**{}})",
]  # fmt: skip


@pytest.mark.parametrize("call", ODD, ids=[ascii(call)[:40] for call in ODD])
def test_what_is_no_call_with_literals_is_refused(folder: Path, call: str) -> None:
    (folder / "m.py").write_text(NET)
    line = line_of_refusal(f"m:net{call}", 2)
    assert line.startswith(("MODEL 'm:net(", 'MODEL "m:net(')) and len(line) < 1000
    assert line.endswith((": arguments are literals, such as (num_classes=10)", "path/to/file.py:callable"))


@pytest.mark.parametrize(
    ("call", "given"),
    [
        ("()", ((), {})),
        ("(1, -2.5, 1+2j, 'a', b'b', None, True, ...)", ((1, -2.5, 1 + 2j, "a", b"b", None, True, ...), {})),
        ("([1, (2, {3: {4}})], k={'a': [5]})", (([1, (2, {3: {4}})],), {"k": {"a": [5]}})),
        ("(  # a remark\n 1)", ((1,), {})),
        ("('a)(:b', set())", (("a)(:b", set()), {})),
        (r"('\d')", (("\\d",), {})),
    ],
)
def test_literals_arrive_as_they_are_written(folder: Path, call: str, given: object) -> None:
    (folder / "m.py").write_text(NET)
    found = import_model(f"m:net{call}")
    assert (tuple(found.arguments), found.keywords) == given


@pytest.mark.parametrize(
    "target", ["", ":", "m:", ":net", "m", "m:1", "m:net-work", "m:net()x", "\0:net", "..:net", ".m:net", "m\0:net"]
)
def test_what_names_nothing_is_refused(folder: Path, target: str) -> None:
    (folder / "m.py").write_text(NET)
    assert line_of_refusal(target, 2).startswith("MODEL '")


@pytest.mark.parametrize("size", [1000, 60_000])
def test_long_texts_are_refused_soon(folder: Path, size: int) -> None:
    """In a time that grows with the text: were it squares, the long one would take minutes."""
    for text in ("m:a(" * size, "m:a(" * size + ")", "m:" * size, ":" * size, "m:net(" + "1," * size + "x)"):
        assert len(line_of_refusal(text, 2)) < 2000


# Code that raises -------------------------------------------------------------------------------------------

RAISING = """\
import sys
from torch import nn


class Base(BaseException):
    pass


class Silent(Exception):
    def __str__(self):
        raise SystemExit(3)


class Loud(Exception):
    def __str__(self):
        return "\\n\\n" + "loud " * 100_000 + "\\x1b[31m"


def deep(depth=0):
    return deep(depth + 1)


class Getting:
    def __get__(self, *_):
        raise Base("no value")


class Holder:
    got = Getting()

    @property
    def made(self):
        raise Silent

    def __getattr__(self, name):
        raise Loud

    def __dir__(self):
        raise Base("no list")


class Listless:
    def __dir__(self):
        raise Base("no list")


class Classless:
    @property
    def __class__(self):
        raise Base("no class")

    def __call__(self):
        return self


class Odd(nn.Linear):
    def __getattribute__(self, name):
        if name == "_parameters" and "bias" in vars(self).get(name, ()):
            raise Base("no names")
        return super().__getattribute__(name)

    def __init__(self):
        super().__init__(2, 2)


class Resetting(nn.Linear):
    def reset_parameters(self):
        raise Base("no reset")


holder, listless, classless = Holder(), Listless(), Classless()
number = 3


def raising(error):
    kinds = {"base": Base("below Exception"), "silent": Silent(), "loud": Loud(), "exit": SystemExit(5)}
    raise {**kinds, "exits": SystemExit("gone"), "generator": GeneratorExit("left"), "memory": MemoryError()}[error]


def __getattr__(name):
    if name == "exits":
        sys.exit(4)
    raise AttributeError(name)
"""


@pytest.fixture
def raising(folder: Path) -> None:
    (folder / "raising.py").write_text(RAISING)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("('base')", "raised Base: below Exception"),
        ("('silent')", "raised Silent"),
        ("('loud')", "raised Loud: loud loud"),
        ("('exit')", "raised SystemExit: 5"),
        ("('exits')", "raised SystemExit: gone"),
        ("('memory')", "raised MemoryError"),
        ("('unknown')", "raised KeyError: 'unknown'"),
        ("()", "raised TypeError: raising() missing 1 required positional argument: 'error'"),
    ],
)
def test_whatever_a_constructor_raises_is_a_line(raising: None, call: str, said: str) -> None:
    line = line_of_refusal(f"raising.py:raising{call}", 1)
    assert line.startswith(f"MODEL {f'raising.py:raising{call}'!r} {said}") and len(line) < 4000
    assert line.isprintable()


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("deep", 1, "raised RecursionError: maximum recursion depth exceeded"),
        ("classless", 1, "raised Base: no class"),
        ("number", 2, ": number is a int, not a callable"),
        ("exits", 2, "cannot be imported: SystemExit: 4"),
        ("holder.got", 2, "cannot be imported: Base: no value"),
        ("holder.made", 2, "cannot be imported: Silent"),
        ("holder.other", 2, "cannot be imported: Loud: loud"),
        ("listless.other", 2, "cannot be imported: Base: no list"),
        ("nothing", 2, ": raising.py has no 'nothing'"),
        ("raisin", 2, ": raising.py has no 'raisin' (did you mean raising?)"),
        ("Resetting.__wrapped__", 2, ": raising.py has no '__wrapped__'"),
    ],
)
def test_whatever_a_name_leads_to_is_a_line(raising: None, name: str, status: int, said: str) -> None:
    separator = "" if said.startswith(":") else " "
    assert line_of_refusal(f"raising.py:{name}", status).startswith(f"MODEL 'raising.py:{name}'{separator}{said}")


@pytest.mark.parametrize("text", ["raise BaseException('no')", "import sys; sys.exit(9)", "raise GeneratorExit", "0/0"])
def test_whatever_an_import_raises_is_a_line(folder: Path, text: str) -> None:
    (folder / "bad.py").write_text(f"{text}\n")
    before = set(sys.modules)
    for target in ("bad.py:net", "bad:net"):
        assert line_of_refusal(target, 2).startswith(f"MODEL {target!r} cannot be imported: ")
    assert "bad" not in set(sys.modules) - before


def test_what_a_model_raises_later_is_a_line_with_its_place(raising: None, folder: Path) -> None:
    place = RAISING[: RAISING.index("no names")].count("\n") + 1
    line = f"the model's own code raised Base: no names ({folder / 'raising.py'}:{place})"
    assert line_of_refusal("raising.py:Odd()", 1) == line


def test_a_keyboard_interrupt_is_one_word(folder: Path) -> None:
    (folder / "stopped.py").write_text("def net(): raise KeyboardInterrupt\n")
    done = plan("stopped.py:net")
    assert (done.exit_code, done.stdout, done.stderr.strip()) == (1, "", "Aborted!")


@pytest.mark.parametrize("value", [None, 3, (torch.zeros(2),)])
def test_a_parametrization_that_gives_no_tensor_is_refused_by_name(value: object) -> None:
    class Odd(nn.Module):
        def forward(self, _: torch.Tensor) -> object:
            return value

        def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
            return weight

    model = nn.Linear(2, 2)
    register_parametrization(model, "weight", Odd(), unsafe=True)
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(model, {"rules": {"*": 0}})
    assert str(caught.value) == (
        "the shape of weight cannot be told without values: its parametrization says "
        f"'it gives {type(value).__name__} and no tensor'"
    )


def test_a_wrapper_around_nothing_is_a_module_without_tensors() -> None:
    wrapper: Any = nn.DataParallel(nn.Linear(2, 2))
    wrapper.module = None
    model = nn.Sequential(wrapper, nn.Linear(2, 2))
    assert [row.name for row in initplug.plan(model, {"rules": {"*": 0}})] == ["1.weight", "1.bias"]


# Without assertions -----------------------------------------------------------------------------------------

BAD = """
import contextlib, io, json, pathlib, sys
sys.path[:0] = ["language", "support", "."]
from click.testing import CliRunner
from test_messages import BAD_OVERRIDES, BAD_TEXTS
from test_models_by_name import NET, ODD, RAISING
import initplug
from initplug.cli import commands as cli

told = []
recipes = [(text, ()) for text, _ in BAD_TEXTS]
recipes += [("resnext", (each,)) for each, _ in BAD_OVERRIDES if "choice(" not in each]
for recipe, overrides in recipes:
    try:
        initplug.load(recipe, overrides)
        told.append("taken")
    except initplug.InitplugError as error:
        told.append(str(error))
here = pathlib.Path(sys.argv[1])
(here / "m.py").write_text(NET)
(here / "raising.py").write_text(RAISING)
models = [f"{here}/m.py:net{call}" for call in ODD]
models += [f"{here}/raising.py:{name}" for name in ("deep", "classless", "exits", "holder.made", "Odd()", "number")]
for model in models:
    done = CliRunner().invoke(cli.commands, ["plan", model, "torch_default"])
    told.append([ascii(model), done.exit_code, done.stdout, done.stderr])
print(json.dumps([sys.flags.optimize, told]))
"""


def test_python_without_assertions_says_the_same(tmp_path: Path) -> None:
    def told(*flags: str) -> tuple[int, list[object]]:
        done = subprocess.run(
            [sys.executable, *flags, "-c", BAD, tmp_path],
            cwd=ROOT / "tests",
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        optimized, told = json.loads(done.stdout)
        return optimized, told

    (without, plain), (with_, optimized) = told(), told("-O")
    assert (without, with_) == (0, 1)
    assert optimized == plain
    assert len(plain) > 100 and "taken" not in plain


def test_overrides_that_hydra_reads_by_assertions_alone_are_refused_without_them() -> None:
    code = "import initplug\ntry: initplug.load('resnext', ['+rules.x={match: fc, init: 0}'])\n"
    code += "except initplug.RecipeError as error: print(error)\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.startswith("override: +rules.x={match: fc, init: 0}: Hydra cannot read it: ")
    assert "(it reads mappings and functions in assertions, which python -O leaves out)" in done.stdout


def test_what_this_package_raises_is_not_blamed_on_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "net.py").write_text(NET)

    def ours(*_: Any, **__: Any) -> Any:
        return array_of(torch.zeros(2, dtype=torch.complex64).conj())

    monkeypatch.setattr(initplug, "plan", ours)
    line = line_of_refusal("net.py:net()", 1)
    assert line.startswith("unexpected ValueError: a conjugated or negated tensor is not what its memory holds (")
    assert "moments.py:" in line
