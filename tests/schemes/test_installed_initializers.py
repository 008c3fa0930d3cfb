"""Initializers of installed packages: found by their entry points, and what is told of those that cannot be used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import command
from recipe_errors import rule_error

import initplug
from initplug.language.schema import schema
from initplug.schemes.entry_points import ENTRY_POINT_GROUP, all_names, entries

SPIRAL = """
    import numpy as np
    import initplug

    print("loading spiral")

    def halves(fans, *, share: float = 0.5):
        "A share of one."
        return initplug.Constant(share)

    @initplug.initializer(kind="whole", bare=("turns",))
    def spiral(shape, draw, *, turns: int = 1):
        "Angles."
        return np.float32(turns) * draw.uniform("angle")

    @initplug.initializer
    def renamed(fans):
        return initplug.Constant(1.0)

    number = 3
"""
BROKEN = "raise RuntimeError('no licence\\nsecond line')\n"
LEAVING = "raise SystemExit(3)\n"

Install = Callable[..., None]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


@pytest.fixture
def install(site: Path) -> Install:
    def written(package: str, module: str, **points: str) -> None:
        """What an installer leaves of a package of one module."""
        (site / f"{package}.py").write_text(textwrap.dedent(module))
        info = site / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"[{ENTRY_POINT_GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))

    return written


@pytest.fixture
def here(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The packages are those of this process."""
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(site)
    entries.cache_clear()
    yield
    entries.cache_clear()
    for name in {"spiralling", "breaking", "leaving", "other"} - modules:
        sys.modules.pop(name, None)


def reason(init: object) -> str:
    return rule_error(init).removeprefix("<mapping>: rules['w*']: ")


RECIPE = "rules:\n  weight*: spiral 2\n  bias*: halves share=0.25\n"


def test_the_commands_know_what_is_installed(site: Path, install: Install, tmp_path: Path) -> None:
    install("spiralling", SPIRAL, spiral="spiralling:spiral", halves="spiralling:halves")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = command(tmp_path, "check", "recipe.yaml", path=site)
    assert (done.stdout, done.stderr, done.returncode) == ("recipe.yaml: ok, 2 rules\n", "loading spiral\n", 0)
    done = command(tmp_path, "plan", "torch.nn:Linear(8, 4)", "recipe.yaml", "--json", path=site)
    weight, bias = json.loads(done.stdout)["rows"]
    assert (weight["init"], weight["distribution"], weight["std"]) == ("spiral 2", "spiral(turns=2)", None)
    assert (bias["init"], bias["mean"]) == ("halves share=0.25", 0.25)
    done = command(tmp_path, "apply", "torch.nn:Linear(8, 4)", "recipe.yaml", "--report", "audit.json", path=site)
    assert done.returncode == 0, done.stderr
    weight, bias = json.loads((tmp_path / "audit.json").read_text())["rows"]
    assert 0 <= weight["measured_min"] < 1 < weight["measured_max"] < 2
    assert (weight["verdict"], bias["verdict"]) == ("untestable", "ok")
    done = command(tmp_path, "schema", path=site)
    texts = json.loads(done.stdout)["$defs"]["text"]["anyOf"][0]["pattern"]
    assert re.match(texts, "spiral 2") and re.match(texts, "halves share=0.25")


def test_the_file_of_a_model_may_have_initializers(site: Path, tmp_path: Path) -> None:
    text = """
        import initplug
        from torch import nn

        @initplug.initializer
        def thirds(fans):
            return initplug.Constant(1 / 3)

        def net():
            return nn.Linear(8, 4)
    """
    (tmp_path / "net.py").write_text(textwrap.dedent(text))
    (tmp_path / "recipe.yaml").write_text("rules:\n  '*': thirds\n")
    done = command(tmp_path, "plan", "net.py:net", "recipe.yaml", "--json", path=site)
    assert done.returncode == 0, done.stderr
    assert [row["mean"] for row in json.loads(done.stdout)["rows"]] == [1 / 3, 1 / 3]


def test_the_command_ends_in_one_line_where_a_package_is_broken(site: Path, install: Install, tmp_path: Path) -> None:
    install("breaking", BROKEN, spiral="breaking:spiral")
    (tmp_path / "recipe.yaml").write_text("rules:\n  weight*: spiral 2\n")
    done = command(tmp_path, "check", "recipe.yaml", path=site)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr == (
        "recipe.yaml:2:12: rules['weight*']: breaking 1.0 (entry point spiral = breaking:spiral) cannot be loaded: "
        "RuntimeError: no licence (mend or remove that package)\n"
    )


@pytest.mark.usefixtures("here")
def test_names_are_listed_and_nothing_is_loaded_before_its_use(install: Install) -> None:
    install("spiralling", SPIRAL, spiral="spiralling:spiral", halves="spiralling:halves")
    assert {"spiral", "halves"} <= set(all_names())
    assert reason("spirl") == "unknown initializer 'spirl' (did you mean spiral?)"
    assert ", sparse, spiral, " in reason("xyz")
    assert "spiralling" not in sys.modules
    assert initplug.load({"rules": {"w*": "halves"}}).rules
    assert "spiralling" in sys.modules


@pytest.mark.usefixtures("here")
def test_a_module_that_was_imported_before_is_no_clash(install: Install) -> None:
    install("spiralling", SPIRAL, spiral="spiralling:spiral")
    __import__("spiralling")
    assert str(initplug.load({"rules": {"w*": "spiral 3"}}).rules["w*"].init.text) == "spiral 3"  # type: ignore[union-attr]  # the rule is there


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("module", "value", "told"),
    [
        (BROKEN, "other:spiral", "cannot be loaded: RuntimeError: no licence"),
        (LEAVING, "other:spiral", "cannot be loaded: SystemExit: 3"),
        (SPIRAL, "other:spirl", "cannot be loaded: AttributeError: module 'other' has no attribute 'spirl'"),
        (SPIRAL, "elsewhere:spiral", "cannot be loaded: ModuleNotFoundError: No module named 'elsewhere'"),
        (SPIRAL, "other:renamed", "is called 'spiral', its function 'renamed'"),
    ],
)
def test_what_cannot_be_loaded_is_told(install: Install, module: str, value: str, told: str) -> None:
    install("other", module, spiral=value)
    expected = f"other 1.0 (entry point spiral = {value}) {told} (mend or remove that package)"
    assert reason("spiral") == expected
    assert reason({"fn": "spiral"}) == f"<mapping>: rules['w*'].fn: {expected}"
    assert initplug.load({"rules": {"w*": "zeros"}}).rules


@pytest.mark.usefixtures("here")
def test_a_package_that_was_mended_is_loaded_again(
    install: Install, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the file may be mended within a tick of its clock
    half = "import initplug\n\n@initplug.initializer\ndef late(fans):\n    return initplug.Constant(1.0)\n"
    install("other", half + "raise RuntimeError('no licence')\n", late="other:late")
    assert "cannot be loaded: RuntimeError: no licence" in reason("late")
    (site / "other.py").write_text("# mended\n" + half)
    assert initplug.load({"rules": {"w*": "late"}}).rules


@pytest.mark.usefixtures("here")
def test_what_is_no_function_is_told(install: Install) -> None:
    install("other", SPIRAL, number="other:number", nothing="other")
    assert reason("number") == (
        "other 1.0 (entry point number = other:number): an initializer is a function, not 3 "
        "(mend or remove that package)"
    )
    assert "an initializer is a function, not <module 'other'" in reason("nothing")


@pytest.mark.usefixtures("here")
def test_a_name_that_two_packages_claim_is_told(install: Install) -> None:
    install("spiralling", SPIRAL, spiral="spiralling:spiral")
    install("other", SPIRAL, spiral="other:spiral")
    told = reason("spiral")
    assert "spiralling 1.0 (entry point spiral = spiralling:spiral)" in told
    assert "other 1.0 (entry point spiral = other:spiral)" in told
    assert told.endswith(" both claim the initializer 'spiral' (mend or remove that package)")
    assert not {"spiralling", "other"} & sys.modules.keys()


@pytest.mark.usefixtures("here")
def test_a_built_in_name_that_a_package_claims_is_told(install: Install) -> None:
    install("other", SPIRAL, normal="other:halves")
    assert reason("normal std=2") == (
        "other 1.0 (entry point normal = other:halves) claims the initializer 'normal', which initplug has itself "
        "(mend or remove that package)"
    )
    assert initplug.load({"rules": {"w*": "uniform 0 1"}}).rules


@pytest.mark.usefixtures("here")
def test_a_name_that_a_loaded_function_has_is_told(install: Install) -> None:
    @initplug.initializer
    def spiral(fans: initplug.Fans) -> initplug.Constant:
        return initplug.Constant(1.0)

    install("other", "def spiral(fans):\n    ...\n", spiral="other:spiral")
    assert reason("spiral") == (
        "other 1.0 (entry point spiral = other:spiral): there is already an initializer called 'spiral' "
        f"({__name__}) (mend or remove that package)"
    )


@pytest.mark.usefixtures("here")
def test_the_schema_has_what_cannot_be_loaded_by_name(install: Install) -> None:
    install("breaking", BROKEN, spiral="breaking:spiral")
    install("spiralling", SPIRAL, halves="spiralling:halves")
    known = schema()["$defs"]
    assert known["initializer-spiral"]["properties"].keys() == {"fn"}
    share = known["initializer-halves"]["properties"]["share"]
    assert share["default"] == 0.5 and {"type": "number"} in share["anyOf"]


def test_a_package_that_pip_installs_is_found(tmp_path: Path) -> None:
    files = {
        "thirds.py": "import initplug\n\ndef third(fans):\n    return initplug.Constant(1 / 3)\n",
        "thirds-2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: thirds\nVersion: 2.0\n",
        "thirds-2.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "thirds-2.0.dist-info/entry_points.txt": f"[{ENTRY_POINT_GROUP}]\nthird = thirds:third\n",
    }
    record = "thirds-2.0.dist-info/RECORD"
    with zipfile.ZipFile(tmp_path / "thirds-2.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(record, "".join(f"{name},,\n" for name in (*files, record)))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-cache-dir"]
    line = [*pip, "--target", str(tmp_path / "site"), str(tmp_path / "thirds-2.0-py3-none-any.whl")]
    subprocess.run(line, check=True, timeout=120, capture_output=True)
    (tmp_path / "recipe.yaml").write_text("rules:\n  '*': third\n")
    done = command(tmp_path, "plan", "torch.nn:Linear(8, 4)", "recipe.yaml", "--json", path=tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert [row["mean"] for row in json.loads(done.stdout)["rows"]] == [1 / 3, 1 / 3]
