"""How the cost of `initplug.plan` grows with the number of rules: 100,000 parameters, 10 rules against 1,000.

    python tests/benchmarks/matching.py [--json FILE]

The claim under test is that all selectors of a recipe are matched in one walk of the module tree, so that 990 literal
rules on top of 10 cost at most as much again. Beside it stand recipes heavy in globs and types, and the loop that
regex-based initializers run (`re.search` of every pattern over every name, the last match wins; it finds rules and
plans nothing). Every other row is the whole `plan` of a loaded recipe; what loading and the first plan take stands
beside it. Rounds are interleaved, so that a busy machine slows all rows alike, and the middle one of three counts.
Exit status 1 where the claim does not hold.
"""

import argparse
import gc
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import initplug

BLOCKS = 12_500
PARAMETERS_PER_BLOCK = 8
PARAMETERS = BLOCKS * PARAMETERS_PER_BLOCK
WIDTH = 8
GENERAL_RULES = 10
SPECIFIC_RULES = 990
ROUNDS = 3
LIMIT = 2.0  # times of 1,000 rules to 10 that the claim allows
SPACING = BLOCKS // SPECIFIC_RULES  # specific rules name every twelfth block, so that they reach over the whole model
TYPED_SHARE = 10  # one literal rule in ten has a type segment
SLOW_LOOP_NAMES = 5_000  # names that the loop over 1,000 patterns is timed on, before it is scaled to all


class Block(nn.Module):
    """Eight parameters: two linear layers and a norm with biases, and two loose scales."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.gamma = nn.Parameter(torch.empty(WIDTH))
        self.scale = nn.Parameter(torch.empty(WIDTH))


class Tower(nn.Module):
    """`BLOCKS` blocks in a list called `blocks`."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))


# selector, the regular expression of the same meaning on this model's names, initializer
Rule = tuple[str, str, Any]

GENERAL: list[Rule] = [
    ("<Linear>.weight", r"\.(attn|mlp)\.weight$", "xavier_uniform"),
    ("<LayerNorm>.weight", r"\.norm\.weight$", 1),
    ("*.bias", r"(^|\.)[^.]*\.bias$", 0),
    ("mlp.weight", r"(^|\.)mlp\.weight$", "kaiming_normal fan_in relu"),
    ("attn*.weight", r"(^|\.)attn[^.]*\.weight$", "normal std=0.02"),
    ("*gamma", r"(^|\.)[^.]*gamma$", 1e-6),
    ("<Block>.scale", r"(^|\.)blocks\.\d+\.scale$", 1),
    ("(mlp|attn).bias", r"(^|\.)(mlp|attn)\.bias$", 0),
    ("^blocks.0.**.bias", r"^blocks\.0\..*\.bias$", 0),
    ("blocks.1?.norm.weight", r"(^|\.)blocks\.1[^.]\.norm\.weight$", 1),
]


def literal(place: int, block: int) -> Rule:
    """A path of one parameter, floating on the left; a type stands for or beside a name in one rule of ten."""
    pattern = rf"(^|\.)blocks\.{block}\.attn\.weight$"
    if place % TYPED_SHARE:
        return f"blocks.{block}.attn.weight", pattern, "normal std=0.01"
    if place % (2 * TYPED_SHARE):
        return f"blocks.{block}.attn<Linear>.weight", pattern, "normal std=0.01"
    return f"blocks.{block}.<LayerNorm>.weight", rf"(^|\.)blocks\.{block}\.norm\.weight$", 1


def missing_glob(place: int, _block: int) -> Rule:
    """A glob that names a layer this model does not have, as a recipe for many models would."""
    return f"*attn_{place}*.weight", rf"(^|\.)[^.]*attn_{place}[^.]*\.weight$", "normal std=0.01"


def suffix_glob(place: int, _block: int) -> Rule:
    """A glob inside the middle of a path; it fits all blocks whose number ends in these digits."""
    return f"blocks.*{place}.norm.*", rf"(^|\.)blocks\.[^.]*{place}\.norm\.[^.]*$", 1


def mixed_glob(place: int, block: int) -> Rule:
    """Five shapes of globs in turn: stars, question marks, classes, alternatives, any depth."""
    return (
        (f"*attn{place}_*.weight", rf"(^|\.)[^.]*attn{place}_[^.]*\.weight$", "normal std=0.01"),
        (f"blocks.*{place}?.norm.*", rf"(^|\.)blocks\.[^.]*{place}[^.]\.norm\.[^.]*$", 1),
        (f"block?.{block}.[am]*.bias", rf"(^|\.)block[^.]\.{block}\.[am][^.]*\.bias$", 0),
        (f"blocks.{block}.(attn|mlp).w*", rf"(^|\.)blocks\.{block}\.(attn|mlp)\.w[^.]*$", "normal std=0.01"),
        (f"^blocks.**.{block}.**.g*", rf"^blocks\.(.*\.)?{block}\.(.*\.)?g[^.]*$", 1),
    )[place % 5]


def typed(place: int, block: int) -> Rule:
    """A type on every segment but the number, in five shapes."""
    return (
        (f"<ModuleList>.{block}.<Linear>.weight", rf"blocks\.{block}\.(attn|mlp)\.weight$", "normal std=0.01"),
        (f"{block}<Block>.<LayerNorm>.weight", rf"(^|\.){block}\.norm\.weight$", 1),
        (f"<Tower>.**.{block}.attn<Lin*>.bias", rf"(^|\.){block}\.attn\.bias$", 0),
        (f"?*{place}<Block>.*<Linear|Bilinear>.bias", rf"(^|\.)[^.]+{place}\.(attn|mlp)\.bias$", 0),
        (f"<Block>.*{place}*<*Norm>.weight", rf"(^|\.)blocks\.[^.]*\.[^.]*{place}[^.]*\.weight$", 1),
    )[place % 5]


def rules_of(specific: Callable[[int, int], Rule] | None) -> list[Rule]:
    """The general rules, and `SPECIFIC_RULES` more after them."""
    if specific is None:
        return GENERAL
    return GENERAL + [specific(place, place * SPACING) for place in range(SPECIFIC_RULES)]


def recipe_of(rules: list[Rule]) -> Any:
    """The loaded recipe. Rules are named, as the general ones' order must survive whatever their selectors are."""
    named = {f"rule_{place}": {"match": selector, "init": init} for place, (selector, _, init) in enumerate(rules)}
    return initplug.load({"unmatched": "keep", "unused": "ignore", "rules": named})


def loop_over_patterns(patterns: list[re.Pattern[str]], names: list[str]) -> dict[str, int]:
    """The peer: every pattern over every name, the last match wins. It finds rules and computes nothing of them."""
    winners: dict[str, int] = {}
    for place, pattern in enumerate(patterns):
        for name in names:
            if pattern.search(name):
                winners[name] = place
    return winners


class Case(NamedTuple):
    """One row of the table."""

    label: str
    rules: int
    run: Callable[[], object]
    scale: float = 1.0  # what a time is multiplied by, where a part stands for the whole
    load: float | None = None  # seconds that loading the recipe took
    first: float | None = None  # seconds of the first plan, before any pattern was cached


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one run, with the last one's garbage out of the way."""
    gc.collect()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def check_same_winners(model: nn.Module, names: list[str], rules: list[Rule]) -> None:
    """The peer answers the same question: its winners on `names` are the plan's."""
    plan = initplug.plan(model, recipe_of(rules))
    winners = loop_over_patterns([re.compile(pattern) for _, pattern, _ in rules], names)
    for name in names:
        theirs = f"rule_{winners[name]}" if name in winners else None
        assert plan[name].rule == theirs, f"{name}: {plan[name].rule} by initplug, {theirs} by its pattern"


def build_cases(model: nn.Module, names: list[str]) -> list[Case]:
    """The rows. What loading and the first plan take beside them is no part of the comparison."""
    kinds: dict[str, Callable[[int, int], Rule] | None] = {
        "general rules": None,
        "+ 990 literal paths, one in ten typed": literal,
        "+ 990 globs that match nothing": missing_glob,
        "+ 990 globs inside a path": suffix_glob,
        "+ 990 globs of five shapes": mixed_glob,
        "+ 990 typed selectors": typed,
    }
    part = names[:: len(names) // SLOW_LOOP_NAMES][:SLOW_LOOP_NAMES]
    initplug.plan(Block(), recipe_of(GENERAL))  # pays for imports
    cases: list[Case] = []
    for label, specific in kinds.items():
        rules = rules_of(specific)
        start = time.perf_counter()
        recipe = recipe_of(rules)
        loading = time.perf_counter() - start
        run = partial(initplug.plan, model, recipe)
        cases.append(Case(label, len(rules), run, load=loading, first=seconds(run)))
        check_same_winners(model, part[::10], rules)
    few = [re.compile(pattern) for _, pattern, _ in rules_of(None)]
    many = [re.compile(pattern) for _, pattern, _ in rules_of(literal)]
    cases.append(Case("re loop, general rules", len(few), partial(loop_over_patterns, few, names)))
    scaled = f"re loop, + 990 literal paths ({len(part):,} names, scaled)"
    cases.append(Case(scaled, len(many), partial(loop_over_patterns, many, part), scale=len(names) / len(part)))
    return cases


def measure(cases: list[Case]) -> list[list[float]]:
    """Seconds by case and round."""
    runs: list[list[float]] = [[] for _ in cases]
    for _ in range(ROUNDS):
        for case, times in zip(cases, runs, strict=True):
            times.append(case.scale * seconds(case.run))
    return runs


def print_table(rows: list[dict[str, Any]]) -> None:
    """Aligned columns; ratios are to the first row."""
    wide = max(len(row["case"]) for row in rows)
    head = f"{'rules':>5}  {'load s':>7}  {'first s':>7}  {'median s':>8}  {'ratio':>7}  {'min..max s':>12}"
    print(f"{'case':<{wide}}  {head}")
    for row in rows:
        load, first = (f"{row[key]:7.2f}" if row[key] is not None else f"{'':>7}" for key in ("load", "first"))
        spread = f"{min(row['runs']):.2f}..{max(row['runs']):.2f}"
        middle = f"{row['median']:8.2f}  {row['ratio']:6.2f}x"
        print(f"{row['case']:<{wide}}  {row['rules']:>5,}  {load}  {first}  {middle}  {spread:>12}")


def main() -> int:
    """Build, measure, print; 1 where 1,000 rules take more than `LIMIT` times as long as 10."""
    parser = argparse.ArgumentParser(description="Time of initplug.plan by number of rules.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run's time there, too")
    arguments = parser.parse_args()

    with torch.device("meta"):
        model = Tower()
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == PARAMETERS
    cases = build_cases(model, names)
    runs = measure(cases)

    medians = [statistics.median(times) for times in runs]
    rows = [
        {
            "case": case.label,
            "rules": case.rules,
            "median": median,
            "ratio": median / medians[0],
            "runs": times,
            "scale": case.scale,
            "load": case.load,
            "first": case.first,
        }
        for case, times, median in zip(cases, runs, medians, strict=True)
    ]
    ratio = medians[1] / medians[0]
    holds = ratio <= LIMIT
    print(f"initplug.plan on {PARAMETERS:,} parameters, middle of {ROUNDS} interleaved runs, ratios to the first row")
    print_table(rows)
    print(f"1,000 rules : 10 rules = {ratio:.2f}, {'within' if holds else 'NOT within'} {LIMIT}")
    print(f"the re loop, likewise: {medians[-1] / medians[-2]:.1f}")
    if arguments.json:
        versions = {"torch": torch.__version__, "python": platform.python_version()}
        report = {"parameters": PARAMETERS, "versions": versions, "ratio": ratio, "limit": LIMIT, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
