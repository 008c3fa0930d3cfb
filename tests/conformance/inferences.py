"""How often values alone tell what drew them: models of the preset library inferred, beside what was recorded of them.

    python tests/conformance/inferences.py                # a table of libraries, and every formula that is wrong
    python tests/conformance/inferences.py timm --large   # of models whose name begins so, large ones too
    python tests/conformance/inferences.py --write        # into the guide

A formula is right if it plans what the recorded recipe plans for the parameter, at its shape and at another.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from families import Case, all_families
from torch import nn

import initplug
from initplug.language.init import Init, read_init
from initplug.planning.composition import NO_CONTEXT, distribution_for
from initplug.planning.references import layout_of
from initplug.schemes.calls import MisfitError
from initplug.schemes.compositions import Drawn
from initplug.studies.drafting.agreement import alike
from initplug.studies.inferring.inference import HIGH, LOW, InferredRow
from initplug.studies.recording.rows import Row

GUIDE = Path(__file__).parents[2] / "examples" / "guide" / "infer.md"
BEGIN, END = "<!-- inferred -->\n", "<!-- end -->"

LINEAR = (nn.Linear, nn.modules.conv._ConvNd)
WRONG = {"wrong", "fixed, wrong"}
NUMBERS = {"normal", "uniform", "trunc_normal", "constant", "zeros", "ones"}
FAN_UNIFORM = read_init("fan_uniform")


@dataclass
class Found:
    """What was inferred of a model.

    Args:
        case: the model.
        counts: of its drawn parameters by what became of them, and of its constants and tables.
        wrong: what is wrong with a high confidence.
        missed: draws whose formula is not found.
        error: why there is nothing of all that.
        step_0: the chance that it is at step 0.
        seconds: of CPU time that inferring took.
    """

    case: Case
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    error: str = ""
    step_0: float = 1.0
    seconds: float = 0.0


def cases(prefix: str, large: bool) -> list[Case]:
    """The models of the preset library, each once."""
    known: dict[str, Case] = {}
    for family in all_families():
        for case in family.cases:
            if case.model.startswith(prefix) and (large or not case.large):
                known.setdefault(case.model, case)
    return [*known.values()]


def found(case: Case) -> Found:
    one = Found(case)
    try:
        recording = initplug.record(case.build, check=False)
        torch.manual_seed(1)
        model = case.build()
        start = time.process_time()
        inference = initplug.infer(model)
    except Exception as error:
        one.error = f"{type(error).__name__}: {error}"[:200]
        return one
    one.seconds, one.step_0 = time.process_time() - start, inference.step_0
    plans = [planned_inits(model, each) for each in (recording, inference)]
    owners = {name: owner_of(model, name) for name in plans[0]}
    for row in recording:
        kind, line = judged(
            row, inference[row.name], plans[0].get(row.name), plans[1].get(row.name), owners.get(row.name)
        )
        one.counts.update(kind)
        one.wrong += [line] if WRONG.intersection(kind) else []
        one.missed += [line] if "drawn" in kind and "formula" not in kind else []
    return one


def planned_inits(model: nn.Module, recording: initplug.Recording) -> dict[str, Init]:
    """The initializers of a recipe's rules, by parameter."""
    plan = initplug.plan(model, recording.recipe.model_copy(update={"frozen": "write", "unused": "ignore"}))
    rules = recording.recipe.rules
    return {row.name: rule.init for row in plan if row.rule is not None and (rule := rules[row.rule]) is not None}


def owner_of(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0].replace(".parametrizations", "").partition(".original")[0])


def judged(
    recorded: Row, inferred: InferredRow, meant: Init | None, init: Init | None, owner: nn.Module | None
) -> tuple[list[str], str]:
    """What became of a parameter, and both sides of it in words."""
    if not recorded.numel:
        return [], ""
    truth, told = recorded.distribution, inferred.distribution
    high, low = inferred.confidence >= HIGH, inferred.confidence < LOW
    sides = inferred.formula or inferred.reason or (told.text if told is not None else ""), meant.text if meant else ""
    held = truth.text if truth is not None else recorded.reason
    line = f"{recorded.name} {[*recorded.shape]}: {sides[0]} ({inferred.confidence:.2f}), recorded {sides[1]}: {held}"
    if truth is None:
        return ["no closed form", *(["no closed form, but known"] if high and told is not None else [])], line
    same = told is not None and alike(told, truth)
    if not truth.generated:
        return ["fixed", *(["fixed, right"] if same else ["fixed, wrong"] if high else [])], line
    kinds = ["drawn"]
    if told is not None and (same or type(told) is type(truth)):
        kinds.append("family")
    if same:
        kinds.append("distribution")
    right = same and inferred.formula is not None and same_formula(recorded, meant, init, owner)
    if right:
        kinds.append("formula")
    kinds += ["known"] if high else ["undecided"] if low else []
    wrong = high and not right and inferred.formula is not None
    return [*kinds, *(["wrong"] if wrong else [])], line


def same_formula(row: Row, meant: Init | None, init: Init | None, owner: nn.Module | None) -> bool:
    """Whether two initializers say the same of a parameter, at another shape, too."""
    if meant is None or init is None:
        return False
    if meant.text == init.text or row.twin is not None:
        return True
    if meant.parts and len(meant.parts) == len(init.parts):
        return all(each.fn in NUMBERS for each in (*meant.parts, *init.parts))  # which are the same at this shape
    if "default" in (meant.text, init.text) and {"normal", "normal std=1"} & {meant.text, init.text}:
        return isinstance(owner, nn.Embedding)
    if isinstance(owner, LINEAR) and isinstance(row.distribution, initplug.Uniform):  # which is what resets draw
        meant, init = (FAN_UNIFORM if each.text == "default" else each for each in (meant, init))
    if owner is None or "default" in (meant.text, init.text):
        return False
    if len(row.shape) < 2:
        return {meant.fn, init.fn} <= NUMBERS
    layout = layout_of(owner, row.name.rpartition(".")[2])
    wide = tuple(size * factor for size, factor in zip(row.shape, (3, 5, 1, 1, 1), strict=False))
    if layout.groups > 1:
        wide = (row.shape[0] * 3, *row.shape[1:])
    try:
        one, other = (distribution_for(each, wide, wide, layout, NO_CONTEXT)[0] for each in (meant, init))
    except (MisfitError, AttributeError, LookupError, ValueError):  # factors are of a place in a model
        return False
    return isinstance(one, Drawn) and isinstance(other, Drawn) and alike(one, other)


def summary(results: Sequence[Found]) -> list[str]:
    """Rows of a table, by library and of all."""
    groups: dict[str, list[Found]] = defaultdict(list)
    for one in results:
        if not one.error:
            rewritten = one.case.model.endswith("rewritten")
            groups["procedures of papers, rewritten" if rewritten else one.case.model.split()[0]].append(one)
    rows = [
        "| models of | models | drawn | family | distribution | formula | undecided | wrong, but sure | fixed, right |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, group in [*sorted(groups.items()), ("all", [one for one in results if not one.error])]:
        counts: Counter[str] = sum((one.counts for one in group), Counter())
        drawn = max(counts["drawn"], 1)
        shares = [f"{100 * counts[key] / drawn:.1f} %" for key in ("family", "distribution", "formula", "undecided")]
        wrong = f"{100 * counts['wrong'] / drawn:.2f} %"
        fixed = f"{100 * counts['fixed, right'] / max(counts['fixed'], 1):.2f} %"
        rows.append(f"| {name} | {len(group)} | {counts['drawn']} | {' | '.join(shares)} | {wrong} | {fixed} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prefix", nargs="?", default="")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--missed", action="store_true", help="print every draw whose formula is not found")
    parser.add_argument("--write", action="store_true", help="write the table into the guide")
    given = parser.parse_args()
    results = []
    for case in cases(given.prefix, given.large):
        one = found(case)
        if one.error.startswith("ModuleNotFoundError"):  # its library is not installed here
            print(f"{case.model}: {one.error}", flush=True)
            continue
        results.append(one)
        for line in one.missed if given.missed else ():
            print(f"{case.model}: missed {line}", flush=True)
        for line in one.wrong[:4]:
            print(f"{case.model}: WRONG {line}", flush=True)
        told = one.error or ", ".join(f"{count} {kind}" for kind, count in one.counts.items())
        print(f"{case.model}: {told}; at step 0 {one.step_0:.3f}; {one.seconds:.2f} s", flush=True)
    table = "\n".join(summary(results))
    print(table)
    if given.write:
        before, _, rest = GUIDE.read_text().partition(BEGIN)
        GUIDE.write_text(f"{before}{BEGIN}{table}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main()
