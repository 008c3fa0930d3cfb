"""The Hydra application of the examples as its users run it: one run, overrides, experiments, a sweep, a picture."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from commands import invoke
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

import initplug

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONFIGS = ROOT / "configs"
PICTURE = ROOT / "examples" / "guide" / "losses.svg"
RECIPES, DEPTHS = ("torch_default", "resnext", "wrn"), (20, 56)
CHANCE = math.log(8)  # the loss of what cannot tell 8 classes apart


class Result(NamedTuple):
    audit: dict[str, Any]
    losses: list[float]

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in self.audit["rows"] if name in (row["name"], *row["aliases"]))


def run_example(script: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # One thread: more of them wait for each other where the tests run beside other tests.
    # Old versions of torch leave a folder to be removed at exit.
    filters = ["-W", "error", "-W", "ignore:Implicitly cleaning up:ResourceWarning"]
    command = [sys.executable, *filters, str(ROOT / "examples" / script), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, env=environment)


def train(folder: Path, *words: str) -> None:
    done = run_example("train.py", *words, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def result(folder: Path) -> Result:
    with (folder / "loss.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    return Result(json.loads((folder / "audit.json").read_text()), losses)


def one_run(folder: Path, *words: str) -> Result:
    train(folder, "hydra.run.dir=run", *words)
    return result(folder / "run")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    train(folder, "-m", f"init={','.join(RECIPES)}", "model.depth=20,56")
    (found,) = folder.glob("multirun/*/*")
    return found


@pytest.fixture(scope="module")
def results(sweep: Path) -> dict[tuple[str, int], Result]:
    jobs = [(recipe, depth) for recipe in RECIPES for depth in DEPTHS]
    return {job: result(sweep / str(number)) for number, job in enumerate(jobs)}


def test_every_run_of_the_sweep_leaves_an_audit_without_problems_and_a_loss_for_every_step(
    results: dict[tuple[str, int], Result],
) -> None:
    for (recipe, depth), (audit, losses) in results.items():
        assert (audit["recipe"], audit["seed"]) == (recipe, 0)
        assert audit["summary"]["slots"] == len(audit["rows"]) == 2 * depth + 2
        assert audit["summary"]["status"] == {"initialized": 2 * depth + 2}
        assert audit["summary"]["verdict"] == {"ok": 2 * depth + 2}
        assert len(losses) == 40
        assert all(map(math.isfinite, losses))
    assert len({result.audit["digest"] for result in results.values()}) == len(RECIPES)


def test_the_recipes_of_the_sweep_reached_the_weights(results: dict[tuple[str, int], Result]) -> None:
    # The first convolution of the second stage: 16 channels to 32.
    expected = {"torch_default": (1 / (3 * 144)) ** 0.5, "resnext": (2 / 288) ** 0.5, "wrn": (2 / 144) ** 0.5}
    rules = {"torch_default": "all", "resnext": "conv", "wrn": "conv"}
    for (recipe, depth), each in results.items():
        row = each.row(f"blocks.{(depth - 2) // 6}.conv1.weight")
        assert row["rule"] == rules[recipe]
        assert row["measured_std"] == pytest.approx(expected[recipe], rel=0.05)


def test_a_plain_net_learns_with_the_papers_recipes_and_not_with_torchs_default(
    results: dict[tuple[str, int], Result],
) -> None:
    final = {recipe: sum(results[recipe, 20].losses[-5:]) / 5 for recipe in RECIPES}
    assert final["torch_default"] == pytest.approx(CHANCE, abs=0.05)
    assert max(final["resnext"], final["wrn"]) < CHANCE - 0.1
    # Every recipe and depth has a net of its own, and so a first loss of its own.
    assert len({each.losses[0] for each in results.values()}) == len(results)


def test_a_probe_before_training_tells_and_changes_nothing(
    results: dict[tuple[str, int], Result], tmp_path: Path
) -> None:
    probed = one_run(tmp_path, "init=torch_default", "model.depth=20", "steps=2", "probe=true")
    assert probed.losses == results["torch_default", 20].losses[:2]
    assert "gradients vanish towards the input" in (tmp_path / "run" / "probe.html").read_text()
    assert "gradients vanish towards the input" in (tmp_path / "run" / "train.log").read_text()


def test_the_picture_of_the_probe_is_that_of_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = re.search(r"^initplug (probe [^`]*?) --report", README, re.MULTILINE)
    assert command is not None
    monkeypatch.chdir(ROOT / "examples")
    words = command[1].replace("\\\n", " ").split()
    invoke(*words, "--report", str(tmp_path / "probe.svg"), status=0)
    drawn, shown = ((folder / "probe.svg").read_text() for folder in (tmp_path, PICTURE.parent))
    for ours, theirs in zip(points(drawn), points(shown), strict=True):
        # Other machines round otherwise, and a dashed line at the end is rounding alone.
        assert ours == pytest.approx(theirs, abs=1.5)


def points(svg: str) -> list[list[float]]:
    """The coordinates of the lines that are not dashed."""
    lines = re.findall(r'<polyline stroke="[^"]*" points="([^"]*)"', svg)
    return [[float(number) for number in re.split("[ ,]", line)] for line in lines]


def test_the_same_command_gives_the_same_weights_and_first_loss(
    results: dict[tuple[str, int], Result], tmp_path: Path
) -> None:
    again, other = (one_run(tmp_path, "init=wrn", "steps=1", f"seed={seed}") for seed in (0, 1))
    assert again.audit["rows"] == results["wrn", 20].audit["rows"]
    assert again.losses[0] == pytest.approx(results["wrn", 20].losses[0], rel=1e-5)
    assert other.audit["seed"] == 1
    assert other.row("conv.weight")["measured_std"] != again.row("conv.weight")["measured_std"]


def test_overrides_of_a_preset_reach_the_weights(tmp_path: Path) -> None:
    words = ["init=resnext", "init.rules.conv.init.mode=fan_in", "init.rules.bias=null", "init.unmatched=keep"]
    each = one_run(tmp_path, *words, "+init.rules.head={match: fc.*, init: zeros}", "steps=1")
    assert each.row("blocks.3.conv1.weight")["measured_std"] == pytest.approx((2 / 144) ** 0.5, rel=0.05)
    assert each.row("conv.bias")["status"] == "kept"
    assert (each.row("fc.weight")["rule"], each.row("fc.weight")["measured_std"]) == ("head", 0)
    assert each.losses == [pytest.approx(CHANCE, rel=1e-6)]


@pytest.mark.parametrize(
    ("experiment", "recipe", "slots", "name", "rule", "std"),
    [
        ("residual", "zero_branch", 114, "blocks.26.conv2.weight", "branch_end", 0),
        ("densenet", "densenet", 119, "fc.weight", "classifier", 0),
        ("gpt", "small_gpt", 52, "transformer.h.3.mlp.c_proj.weight", "residual", 0.02 / 8**0.5),
    ],
)
def test_an_experiment_chooses_model_and_recipe(
    experiment: str, recipe: str, slots: int, name: str, rule: str, std: float, tmp_path: Path
) -> None:
    each = one_run(tmp_path, f"experiment={experiment}", "steps=2")
    assert (each.audit["recipe"], each.audit["summary"]["slots"]) == (recipe, slots)
    assert each.row(name)["rule"] == rule
    assert each.row(name)["measured_std"] == pytest.approx(std, rel=0.02)
    assert each.audit["summary"]["verdict"] == {"ok": slots}
    assert len(each.losses) == 2


def test_every_experiment_is_run() -> None:
    assert {path.stem for path in (CONFIGS / "experiment").glob("*.yaml")} == {"residual", "densenet", "gpt"}


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


def composed(*words: str) -> DictConfig:
    return compose("config", list(words))


@pytest.mark.usefixtures("configs")
@pytest.mark.parametrize("model", sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml")))
def test_every_model_of_the_configs_is_built_planned_and_fed(model: str) -> None:
    config = composed(f"model={model}", "init=torch_default", f"data={'sums' if model == 'gpt' else 'gratings'}")
    net = instantiate(config.model)
    assert {each.rule for each in initplug.plan(net, config.init)} == {"all"}
    inputs, targets = next(instantiate(config.data, batch=2, seed=0))
    classes = config.data.vocabulary if model == "gpt" else config.data.classes
    with torch.no_grad():
        assert net(inputs).shape == (*targets.shape, classes)


@pytest.mark.usefixtures("configs")
def test_the_output_layer_of_the_gpt_is_tied_to_its_embedding() -> None:
    config = composed("experiment=gpt")
    row = initplug.plan(instantiate(config.model), config.init)["lm_head.weight"]
    assert (row.name, row.rule, row.std) == ("transformer.wte.weight", "weight", 0.02)


@pytest.mark.usefixtures("configs")
@pytest.mark.parametrize(
    ("model", "recipe", "low", "high"),
    [
        ("plain", "torch_default", 0, 1e-6),  # nothing of the image comes through 54 layers that shrink it
        ("plain", "wrn", 1e-5, 10),
        ("residual", "torch_default", 0.01, 10),
        ("residual", "wrn", 100, math.inf),  # every one of 27 branches doubles the variance
        ("residual", "zero_branch", 0.01, 10),
    ],
)
def test_what_comes_out_of_a_deep_net_varies_with_the_image_as_the_picture_tells(
    model: str, recipe: str, low: float, high: float
) -> None:
    config = composed(f"model={model}", "model.depth=56", f"init={recipe}")
    net = instantiate(config.model)
    initplug.apply(net, config.init, seed=config.seed)
    images, _ = next(instantiate(config.data, seed=config.seed))
    with torch.no_grad():
        assert low <= net(images).std(dim=0).mean() < high


@pytest.mark.usefixtures("configs")
@pytest.mark.parametrize("path", sorted((CONFIGS / "init").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_that_extends_a_preset_is_the_same_to_hydra_and_to_load(path: Path) -> None:
    by_hydra, by_file = initplug.load(composed(f"init={path.stem}").init), initplug.load(path)
    assert by_hydra.name == path.stem
    assert by_hydra.digest == by_file.digest
    assert list(by_hydra.rules) == list(by_file.rules)


def test_recipes_of_the_application_are_compared_before_any_training() -> None:
    words = ["plan", "--config-dir", "../configs", "--config-name", "config", "init=torch_default,wrn"]
    assert " ".join(words) in " ".join((ROOT / "README.md").read_text().split())
    command = [sys.executable, "-m", "initplug", *words]
    done = subprocess.run(command, cwd=ROOT / "examples", capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    # Of the 42 slots both leave the norm of the images and the classifier's weight at torch's default.
    assert done.stdout.splitlines()[-1] == "39 of 42 slots differ"


def test_no_config_sets_a_search_path() -> None:
    texts = [path.read_text() for path in CONFIGS.rglob("*.yaml")]
    assert len(texts) > 10
    assert not any("searchpath" in text for text in texts)


def test_the_sweep_is_drawn_with_a_panel_for_every_depth_and_a_curve_for_every_recipe(
    sweep: Path, tmp_path: Path
) -> None:
    done = run_example("compare.py", str(sweep), "--out", "losses.svg", cwd=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "6 runs -> losses.svg\n")
    drawn = (tmp_path / "losses.svg").read_text()
    texts = re.findall(r">(.*)</text>", drawn)
    assert [text for text in texts if "=" in text] == ["model.depth=20", "model.depth=56"]
    assert [text for text in texts if text in RECIPES] == list(RECIPES)

    done = run_example("compare.py", str(sweep), "--out", "again.svg", cwd=tmp_path)
    assert (tmp_path / "again.svg").read_text() == drawn


def test_overrides_of_a_recipe_are_curves_of_their_own_and_seeds_are_not(tmp_path: Path) -> None:
    swept = ["init=resnext", "init.rules.conv.init.mode=fan_in,fan_out", "seed=0,1"]
    train(tmp_path, "-m", "hydra.sweep.dir=sweep", *swept, "+init.rules.head={match: fc.*, init: 0}", "steps=2")
    done = run_example("compare.py", "sweep", "--out", "losses.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = (tmp_path / "losses.svg").read_text()
    for mode in ("fan_in", "fan_out"):
        name = f"resnext rules.conv.init.mode={mode} +rules.head={{match:fc.*,init:0}}"
        assert drawn.count(f">{name}</text>") == 1
    assert "seed" not in drawn


def test_a_folder_without_runs_is_a_usage_error(tmp_path: Path) -> None:
    done = run_example("compare.py", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: no run with losses in {tmp_path}\n")
    assert not (tmp_path / "losses.svg").exists()


def test_the_picture_of_the_readme_is_there_and_small() -> None:
    assert PICTURE.relative_to(ROOT).as_posix() in (ROOT / "README.md").read_text()
    assert PICTURE.stat().st_size < 80_000
