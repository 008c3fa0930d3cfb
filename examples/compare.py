"""Draw the losses of a sweep of `train.py`: a curve for each recipe, a panel for each other combination of overrides.

    python examples/train.py -m init=torch_default,resnext,wrn model.depth=20,56
    python examples/compare.py multirun/2026-01-31/12-00-00 --out losses.svg

Overrides below `init.` count as recipes of their own; runs that differ by `seed` alone share a colour.
"""

import argparse
import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import OmegaConf

COLOURS = ("#8a8f98", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
WINDOW = 20  # a point of a curve is the mean over this part, 1/20, of the run
POINTS = 100  # of a curve, so that the file stays small
HEADROOM = 1.35  # height of a panel, in losses that runs begin with
STYLE: dict[Any, Any] = {  # matplotlib would have its own 300 literals for keys
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b0b5bd",
    "axes.grid": True,
    "grid.color": "#eceef1",
    "axes.axisbelow": True,
    "axes.labelcolor": "#40454d",
    "xtick.color": "#40454d",
    "ytick.color": "#40454d",
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "initplug",  # for names inside that do not change
}


class Run(NamedTuple):
    """One run of a sweep: the recipe's name with its overrides, the other overrides, and the loss step by step."""

    recipe: str
    task: str
    losses: list[float]


def read(folder: Path) -> Run:
    """Read what Hydra and `train.py` left in the folder of a run."""
    settings = OmegaConf.load(folder / ".hydra" / "hydra.yaml")
    overrides: list[str] = list(settings.hydra.overrides.task)
    changed = [override for override in overrides if override.lstrip("+~").startswith("init.")]
    named = (*changed, "init=", "seed=", "steps=")
    others = [override for override in overrides if not override.startswith(named)]
    with (folder / "loss.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    recipe = " ".join(
        [settings.hydra.runtime.choices.init, *(override.replace("init.", "", 1) for override in changed)]
    )
    return Run(recipe, "  ".join(others), losses)


def smooth(losses: Sequence[float]) -> tuple[list[int], list[float]]:
    """Give steps and the mean losses around them."""
    reach = max(1, len(losses) // WINDOW) // 2
    steps = list(range(0, len(losses), max(1, len(losses) // POINTS)))
    near = [losses[max(0, step - reach) : step + reach + 1] for step in steps]
    return steps, [sum(part) / len(part) for part in near]


def draw(runs: Sequence[Run]) -> Figure:
    """Draw the runs, panels and recipes in the order in which the sweep ran."""
    tasks, recipes = list(dict.fromkeys(run.task for run in runs)), list(dict.fromkeys(run.recipe for run in runs))
    columns = math.ceil(math.sqrt(len(tasks)))
    rows = math.ceil(len(tasks) / columns)
    figure = Figure(figsize=(1 + 3.6 * columns, 0.8 + 2.4 * rows), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    # Where a run blows up it leaves at the top instead of pressing the others flat.
    first = sorted(run.losses[0] for run in runs)
    panels[0].set_ylim(0, HEADROOM * first[len(first) // 4])
    for panel, task in zip(panels, tasks, strict=False):
        panel.set_title(task)
        for run in runs:
            if run.task == task:
                place = recipes.index(run.recipe)
                panel.plot(*smooth(run.losses), color=COLOURS[place % len(COLOURS)], linewidth=2, label=run.recipe)
    for spare in panels[len(tasks) :]:
        spare.remove()
    lines = {str(line.get_label()): line for panel in panels[: len(tasks)] for line in panel.get_lines()}
    handles, beside = [lines[recipe] for recipe in recipes], min(2 * columns, len(recipes))
    figure.legend(handles, recipes, loc="outside upper center", ncols=beside, frameon=False)
    figure.supxlabel("step", fontsize=10, color="#40454d")
    figure.supylabel("loss", fontsize=10, color="#40454d")
    return figure


def main() -> None:
    """Read the folder that the command line names and draw it."""
    parser = argparse.ArgumentParser(description="Draw the losses of a sweep of train.py.")
    parser.add_argument("folder", type=Path, nargs="+", help="of a sweep, such as multirun/2026-01-31/12-00-00")
    parser.add_argument("--out", type=Path, default=Path("losses.svg"), help="the picture: .svg, .png or .pdf")
    arguments = parser.parse_args()
    found = {path.parent for folder in arguments.folder for path in folder.glob("*/loss.csv")}
    # Hydra numbers the runs of a sweep: 2 comes before 10.
    in_order = sorted(found, key=lambda run: (run.parent, int(run.name) if run.name.isdigit() else 0, run.name))
    runs = [run for run in map(read, in_order) if run.losses]
    if not runs:
        parser.error(f"no run with losses in {', '.join(map(str, arguments.folder))}")
    with mpl.rc_context(STYLE):
        undated = {"Date": None} if arguments.out.suffix == ".svg" else None  # the same runs give the same file
        draw(runs).savefig(arguments.out, dpi=150, metadata=undated)
    print(f"{len(runs)} runs -> {arguments.out}")


if __name__ == "__main__":
    main()
