"""Imports run one way, names stay what they are, and what needs no torch loads none."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import initplug
from initplug.language.loading import load
from initplug.language.preset_list import PRESETS, presets
from initplug.schemes.laws import Distribution

PACKAGE = Path(initplug.__file__).parent
TESTS = PACKAGE.parent / "tests"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

BELOW_AUDITING = {
    *("errors", "values", "columns", "torch_versions", "regions", "collectives", "kernels"),
    *("schemes", "language", "tables", "planning"),
}
BELOW_STUDIES = {*BELOW_AUDITING, "auditing", "filling"}
BELOW: dict[str, set[str]] = {
    "_version": set(),
    "errors": set(),
    "values": set(),
    "columns": set(),
    "torch_versions": set(),
    "regions": set(),
    "collectives": {"errors"},
    "kernels": set(),
    "presets": set(),
    "hydra_plugin": set(),
    "schemes": {"errors", "values", "kernels"},
    "language": {"errors", "values", "schemes"},
    "tables": {"errors", "values"},
    "reporting": {"errors", "schemes", "language", "tables"},
    "planning": {"errors", "values", "columns", "torch_versions", "schemes", "language", "tables", "reporting"},
    "auditing": {"_version", "reporting", *BELOW_AUDITING},
    "filling": {"auditing", "kernels", *BELOW_AUDITING},
    "lightning": {"errors", "tables", "auditing", "filling"},
    "studies": {"_version", "reporting", *BELOW_STUDIES},
    "cli": {"_version", "studies", *BELOW_STUDIES},
    "__init__": {"_version", "studies", *BELOW_STUDIES},
    "testing": {"studies"},
    "__main__": {"cli"},
}
"""What each step may import beside itself."""

ORDERS = {
    "auditing": ["moments", "histograms", "extremes", "verdicts", "pools", "repetition", "ranks", "compare", "audit"],
    "studies/recording": [
        *("writes", "operators", "memory", "recognition", "forms", "meta", "conditions", "placements", "watching"),
        *("parts", "maps", "origins", "rows", "construction", "recording"),
    ],
    "studies/drafting": ["agreement", "spelling", "depths", "scales", "formulas", "induction", "naming"],
    "studies/inferring": [
        *("samples", "inference", "round_numbers", "plausibility", "certainties", "hypotheses", "weighing"),
    ],
    "studies/calibrating": ["passes", "scaling", "factored", "calibration", "layers", "course"],
    "studies/probing": [
        *("statistics", "traces", "kept", "inputs", "passage", "assembly", "tracing", "verdicts", "pictures"),
        "comparison",
    ],
    "cli": ["models", "terminal", "weights", "hydra_config", "options", "sweeps", "studies", "probing", "commands"],
}
"""Folders in which a module imports those before it alone."""

NO_TORCH = (
    *("errors", "values", "columns", "kernels", "schemes", "language", "tables"),
    *("reporting", "presets", "hydra_plugin", "cli"),
)

INSIDE_FUNCTIONS = Path("kernels/cuda.py")
"""A module that takes torch's tensors and imports torch inside functions alone, as those of `cli` do."""

WITH_TORCH = {"initplug.cli.weights"}
"""Modules of these steps that the others import inside functions."""


def step_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imported(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            yield str(node.module)


def test_every_step_has_a_place() -> None:
    assert {step_of(module) for module in MODULES} == BELOW.keys()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_run_one_way(module: Path) -> None:
    step = step_of(module)
    for name in imported(module):
        top, _, rest = name.partition(".")
        if top == "initplug" and rest:
            assert rest.split(".")[0] in BELOW[step] | {step}, f"{module} imports {name}"
        if top == "torch" and step not in ("cli", "__init__") and module != INSIDE_FUNCTIONS:
            assert step not in NO_TORCH, f"{module} imports {name}"


@pytest.mark.parametrize("folder", ORDERS)
def test_modules_of_a_folder_stand_in_an_order(folder: str) -> None:
    order = ORDERS[folder]
    assert {path.stem for path in (PACKAGE / folder).glob("*.py")} == {*order, "__init__"}
    for place, module in enumerate(order):
        for name in imported(Path(folder) / f"{module}.py"):
            start = f"initplug.{folder.replace('/', '.')}."
            within = name.removeprefix(start).split(".")[0]
            assert not name.startswith(start) or within in order[:place], f"{module} imports {name}"


def rows_of_the_map() -> list[list[str]]:
    """Behaviour, rooms and tests, as CONTRIBUTING.md has them."""
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text().split("## Where things are")[1].split("\n## ")[0]
    return [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")][2:]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([\w/]+)`", cell)


def test_the_map_names_every_room_once() -> None:
    rooms = [name for _, cell, _ in rows_of_the_map() for name in quoted(cell)]
    modules = {path.with_suffix("").as_posix() for path in MODULES if path.stem != "__init__"}
    assert sorted(rooms) == sorted(modules)


def test_the_map_names_every_file_of_tests() -> None:
    assert all(quoted(tests) for _, _, tests in rows_of_the_map())
    named = {name for _, _, tests in rows_of_the_map() for name in quoted(tests)}
    folders = {name for name in named if name.endswith("/")}
    assert all((TESTS / folder).is_dir() for folder in folders)
    files = {path.relative_to(TESTS).with_suffix("").as_posix() for path in TESTS.rglob("test_*.py")}
    assert named - folders == {file for file in files if not file.startswith((*folders,))}


@pytest.mark.parametrize(("behaviour", "rooms", "tests"), rows_of_the_map(), ids=lambda cell: cell.strip())
def test_the_tests_of_a_room_speak_of_what_it_does(behaviour: str, rooms: str, tests: str) -> None:
    # Words may be inflected: their first letters say enough.
    stems = {word[:5].lower() for word in re.findall(r"[A-Za-z]{4,}", behaviour + rooms)}
    for name in quoted(tests):
        if not name.endswith("/"):
            text = name + (TESTS / f"{name}.py").read_text().lower()
            assert any(stem in text for stem in stems), f"{name} says nothing of {behaviour.strip()}"


PUBLIC = [
    "ApplyError",
    "Assignment",
    "Audit",
    "Calibration",
    "Constant",
    "Fans",
    "Finding",
    "Inference",
    "InitplugError",
    "InitplugWarning",
    "Normal",
    "Orthogonal",
    "Plan",
    "PlanError",
    "Probe",
    "ProbeError",
    "Recipe",
    "RecipeError",
    "Recording",
    "Rule",
    "Stacked",
    "TruncatedNormal",
    "Uniform",
    "apply",
    "audit",
    "calibrate",
    "deferred",
    "diff",
    "infer",
    "initializer",
    "load",
    "plan",
    "preset_names",
    "probe",
    "record",
    "suggest",
]


def test_public_names_are_pinned() -> None:
    assert sorted(initplug.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(initplug))


def test_no_submodule_takes_a_public_name() -> None:
    names = [module.name for module in pkgutil.walk_packages([str(PACKAGE)], "initplug.")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    assert not {name.split(".")[1] for name in names} & set(PUBLIC)
    studies = ("diff", "suggest", "record", "infer", "probe", "calibrate")
    for name in ("load", "plan", "apply", "audit", "deferred", *studies):
        assert callable(getattr(initplug, name))
        assert getattr(initplug, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'initplug' has no attribute 'aply'"):
        # Reading the name is what is tested. Were the type checker not to miss it, this comment would be its error.
        initplug.aply  # type: ignore[attr-defined]  # noqa: B018


def test_completion_shows_our_names_of_recipes_alone() -> None:
    from pydantic import BaseModel

    recipe = load("resnext")
    rule = recipe.rules["conv"]
    assert not {*dir(recipe), *dir(rule)} & {*dir(BaseModel)}
    assert {"rules", "to_yaml", "digest"} <= {*dir(recipe)} and {"match", "init", "expect"} <= {*dir(rule)}


def test_what_stands_beside_training_needs_no_import_of_its_own() -> None:
    loaded_by("import initplug; initplug.lightning.Initialize, initplug.testing.assert_initialization")
    assert {"lightning", "testing"} <= {*dir(initplug)}
    assert not {name for name in dir(initplug) if not name.startswith("__")} - {*PUBLIC, "lightning", "testing"}


def test_presets_are_named_by_pattern_and_family() -> None:
    assert initplug.preset_names() == presets()
    assert initplug.preset_names("wrn*") == [name for name in presets() if name.startswith("wrn")]
    found = initplug.preset_names("resnet", family="CONVOLUTIONAL")
    assert "torchvision_resnet" in found and all("resnet" in name for name in found)
    assert initplug.preset_names("[") == initplug.preset_names(family="poetry") == []
    with pytest.raises(initplug.InitplugError, match="pattern=3: it is a text"):
        initplug.preset_names(3)  # type: ignore[arg-type]


def public_methods(cls: type) -> Iterator[tuple[str, object]]:
    """The methods and properties of a class that this package has written."""
    for name in dir(cls):
        held = inspect.getattr_static(cls, name)
        function = held.fget if isinstance(held, property) else getattr(held, "__func__", held)
        if not name.startswith("_") and getattr(function, "__module__", "").startswith("initplug."):
            yield name, held


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_say_what_they_are(name: str) -> None:
    public = getattr(initplug, name)
    assert inspect.getdoc(public)
    if inspect.isfunction(public):
        assert ">>> " in str(public.__doc__), f"{name} has no example that is run"
        return
    for method, held in public_methods(public):
        # `Distribution` says of all distributions what their moments and bounds are.
        assert inspect.getdoc(held) or hasattr(Distribution, method), f"{name}.{method}"


def loaded_by(code: str) -> set[str]:
    """The packages that a piece of code has loaded in a fresh interpreter."""
    program = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    return set(done.stdout.split())


def test_importing_loads_neither_torch_nor_hydra() -> None:
    assert not loaded_by("import initplug, initplug.presets") & {"torch", "hydra", "omegaconf", "pydantic", "numpy"}


@pytest.mark.parametrize("step", NO_TORCH)
def test_the_steps_before_planning_load_no_torch(step: str) -> None:
    names = [module.name for module in pkgutil.walk_packages([str(PACKAGE)], "initplug.")]
    mine = [name for name in names if name.split(".")[1] == step and name not in WITH_TORCH]
    assert "torch" not in loaded_by(f"import {', '.join(mine)}")


def test_loading_with_overrides_needs_no_torch() -> None:
    code = "import initplug; initplug.load('resnext', ['rules.conv.init.mode=fan_in']).to_yaml()"
    assert "torch" not in loaded_by(code)


# Presets.


@pytest.mark.parametrize("name", presets())
def test_a_preset_tells_where_it_comes_from(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name == Path(PRESETS / f"{name}.yaml").stem
    for key in ("about", "source", "family", "deviations", "proven_on"):
        assert getattr(recipe, key), f"{name} has no {key}"
    assert isinstance(recipe.about, str) and len(recipe.about) <= 120, "about is one line of a list"
    assert recipe.model_fields_set >= {"unmatched", "unused", "frozen"}, "what users override is spelled out"


@pytest.mark.parametrize("name", presets())
def test_a_preset_reads_the_same_under_other_readers(name: str) -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.load(PRESETS / f"{name}.yaml")
    assert load(config) == load(name)
