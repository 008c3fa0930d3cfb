"""Measure which models some preset reproduces, slot by slot, and write the table of examples/guide/coverage.md.

Every model of `coverage_models.py` is constructed as its own code does it, twice, and every preset is planned on it.
A preset reproduces the model if every parameter that is not frozen has a distribution that explains its values, by the
tests of `checking.py`. What falls short is listed: the nearest preset and the parameters that it does not explain.

    python tests/conformance/coverage_table.py                      all models (half an hour)
    python tests/conformance/coverage_table.py timm transformers    these libraries
    python tests/conformance/coverage_table.py transformers:Mamba   models whose names hold this

Results are kept in build/coverage, and the table is written from them. `make presets-coverage` installs the libraries
that the project's own tests do not need, those of requirements-coverage.txt, into a folder of their own.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from checking import ALARM, TESTS, Sample, fault_of, sampled, without
from coverage_models import PICKS, Pick
from libraries import ROOT
from torch import nn

import initplug
from initplug.language.loading import load
from initplug.language.preset_list import presets
from initplug.planning.draft import drafted
from initplug.planning.resets import Replays
from initplug.planning.slots import Tree
from initplug.planning.walk import walk
from initplug.schemes.compositions import Keep

RESULTS = ROOT / "build" / "coverage"
GUIDE = ROOT / "examples" / "guide" / "coverage.md"
BEGIN, END = "<!-- written by `make presets-coverage` -->\n", "<!-- until here -->\n"
SEED = 20261129
SHOWN = 3


LAX = {"unmatched": "keep", "unused": "ignore", "frozen": "keep"}
"""What a preset leaves has no distribution, and is counted as such."""


def presets_by_name() -> dict[str, initplug.Recipe]:
    """Every preset, laxly."""
    return {name: load(name).model_copy(update=LAX) for name in presets()}


def with_options(pick: Pick) -> dict[str, initplug.Recipe]:
    """The preset with the options that a model asks for."""
    if not pick.options:
        return {}
    name, *overrides = pick.options
    return {" ".join(pick.options): load(name, overrides=overrides).model_copy(update=LAX)}


@dataclass(frozen=True)
class Built:
    """A model as its own code leaves it, and what is known of it whatever the preset.

    Args:
        samples: of its parameters.
        tree: the model, walked.
        replays: what torch.nn's own resets draw.
        verdicts: by parameter and distribution, what the sample has against it.
    """

    samples: dict[str, Sample]
    tree: Tree
    replays: Replays
    verdicts: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def fault(self, row: initplug.Assignment, threshold: float) -> str | None:
        """What a parameter's sample has against a distribution, judged once."""
        key = (row.name, str(row.distribution))
        if key not in self.verdicts:
            self.verdicts[key] = fault_of(row.distribution, self.samples[row.name], threshold) if row.numel else None
        return self.verdicts[key]


def unexplained(built: Built, recipe: initplug.Recipe, most: int) -> dict[str, str]:
    """The parameters that are to be trained and whose values a preset does not explain, and why; more than `most` of
    them are not looked for."""
    plan, _, misses = drafted(built.tree, recipe, replays=built.replays)
    wrong = {plan.names[row] for row in misses}
    faults: dict[str, str] = {}
    explained = []
    for row in plan:
        if row.distribution is not None and not isinstance(row.distribution, Keep) and row.name not in wrong:
            explained.append(row)
        elif row.numel and (row.trainable or row.rule is not None):
            faults[row.name] = f"{row.rule}: no distribution" if row.rule else "no rule"
    threshold = ALARM / (TESTS * max(1, len(built.samples)))
    for row in explained:
        if len(faults) > most:
            break
        fault = built.fault(row, threshold)
        if fault is not None:
            faults[row.name] = f"{row.rule}: {fault}"
    return faults


def seeded(pick: Pick, seed: int) -> nn.Module:
    """A model, constructed under a seed."""
    torch.manual_seed(seed)
    return pick.build().eval()


def samples_of(trees: list[Tree]) -> dict[str, Sample]:
    """Samples of every parameter over some constructions, under the names that rules go by, padding rows left out."""
    samples = {}
    for slot in trees[0].slots:
        owner, _, attribute = slot.name.rpartition(".")
        modules = [tree.nodes[0].module.get_submodule(owner) for tree in trees]
        tensors = [getattr(module, attribute).detach() for module in modules]
        row = getattr(modules[0], "padding_idx", None)
        samples[slot.name] = sampled(tensors if row is None else [without(row, tensor) for tensor in tensors])
    return samples


def measured(pick: Pick, recipes: dict[str, initplug.Recipe]) -> dict[str, Any]:
    """What the presets explain of a model."""
    start = time.perf_counter()
    models = [seeded(pick, SEED), seeded(pick, SEED + 1)]
    trees = [walk(model, buffers=False) for model in models]
    built = Built(samples_of(trees), trees[0], Replays(trees[0]))
    exact, nearest, missing = [], "", dict.fromkeys(built.samples, "no preset")
    for name, recipe in {**with_options(pick), **recipes}.items():
        faults = unexplained(built, recipe, len(missing))
        if not faults:
            exact.append(name)
        if len(faults) < len(missing):
            nearest, missing = name, faults
    return {
        "parameters": len(built.samples),
        "presets": exact,
        "nearest": nearest,
        "missing": missing,
        "seconds": round(time.perf_counter() - start, 1),
    }


def wanted(words: list[str]) -> list[Pick]:
    """The models that the command line asks for."""
    if not words:
        return PICKS
    return [
        pick
        for pick in PICKS
        for library, _, part in [word.partition(":") for word in words]
        if pick.library == library and part.lower() in pick.name.lower()
    ]


def file_of(pick: Pick) -> Path:
    """Where the result of a model is kept."""
    return RESULTS / f"{pick.library}:{pick.name}.json".replace("/", "_")


def kept_results() -> dict[Pick, dict[str, Any]]:
    """The results that there are, in the order of the models."""
    return {pick: json.loads(file_of(pick).read_text()) for pick in PICKS if file_of(pick).exists()}


def lines_of(rows: dict[Pick, dict[str, Any]]) -> Iterable[str]:
    """The table: totals by library, then what no preset reproduces and why, then what one does."""
    libraries = list(dict.fromkeys(pick.library for pick in PICKS))
    yield "| library | models | reproduced |"
    yield "| --- | --- | --- |"
    for library in libraries:
        mine = [row for pick, row in rows.items() if pick.library == library]
        yield f"| {library} | {len(mine)} | {sum(bool(row['presets']) for row in mine)} |"
    yield f"| all | {len(rows)} | {sum(bool(row['presets']) for row in rows.values())} |"
    yield from (
        "",
        "| not reproduced | nearest preset | parameters that it misses | why |",
        "| --- | --- | --- | --- |",
    )
    for pick, row in rows.items():
        if not row["presets"]:
            why = pick.why or ", ".join(f"`{name}`" for name in [*row["missing"]][:SHOWN])
            missed = f"{len(row['missing'])} of {row['parameters']}"
            yield f"| {pick.library} {pick.name} | `{row['nearest']}` | {missed} | {why} |"
    yield from ("", "| reproduced | parameters | by |", "| --- | --- | --- |")
    for pick, row in rows.items():
        if row["presets"]:
            yield f"| {pick.library} {pick.name} | {row['parameters']} | {said_of(pick, row['presets'])} |"


def said_of(pick: Pick, names: list[str]) -> str:
    """The presets that reproduce a model, those of its library first, and how many others do."""
    ranked = sorted(
        names, key=lambda name: (" " not in name, not name.startswith(pick.library.replace("-", "_")), name)
    )
    shown = ranked[:2] if ranked[0].startswith(pick.library) else ranked[:3]
    more = len(ranked) - len(shown)
    return ", ".join(f"`{name}`" for name in shown) + (f" and {more} more" if more else "")


def main() -> None:
    """Measure the models that are asked for."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    recipes = presets_by_name()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for pick in wanted(sys.argv[1:]):
        try:
            result = measured(pick, recipes)
        except ImportError as error:
            print(f"{pick.library}:{pick.name}", f"left as it was: {error}", flush=True)  # noqa: T201  # how far it is
            continue
        file_of(pick).write_text(json.dumps(result, indent=1))
        said = ", ".join(result["presets"]) or f"none; {result['nearest']} lacks {len(result['missing'])}"
        print(f"{pick.library}:{pick.name}", f"{result['seconds']} s", said, flush=True)  # noqa: T201  # likewise
    before, _, rest = GUIDE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    GUIDE.write_text(before + BEGIN + "".join(f"{line}\n" for line in lines_of(kept_results())) + END + after)


if __name__ == "__main__":
    main()
