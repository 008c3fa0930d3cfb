"""The command `probe`: what signals and gradients do in a model, under recipes side by side, at several sizes."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from initplug.cli.hydra_config import CommandWords, composed, enter_composition
from initplug.cli.models import Failure, Model, build_model, import_model, user_code
from initplug.cli.options import (
    ALL_OPTION,
    CONFIG_HELP,
    INPUT_OPTION,
    MODEL_HELP,
    STRICT_OPTION,
    WIDE_OPTION,
    inputs_from,
    recipe_from,
    with_config,
)
from initplug.cli.terminal import colored, reported

if TYPE_CHECKING:
    from initplug.language.recipe import Recipe
    from initplug.studies.probing.comparison import Probe


class _Job(NamedTuple):
    """A model that is probed under recipes.

    Args:
        value: that was varied; None where nothing was.
        model: what builds it.
        recipes: by the names of their traces.
    """

    value: str | None
    model: Model
    recipes: dict[str, Recipe]


@click.command(epilog=f"{MODEL_HELP} {CONFIG_HELP}")
@with_config("MODEL RECIPE")
@INPUT_OPTION
@click.option("--against", multiple=True, metavar="RECIPE", help="Probe these too: repeated, or joined by commas.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the named streams.")
@click.option("--vary", metavar="KEY=V,V", help="Build the model with each of these: model.width=64,128,256.")
@click.option("--loss", metavar="CALLABLE", help="package.module:callable that makes a scalar of what forward gives.")
@click.option("--eval", "evaluating", is_flag=True, help="Probe in evaluation mode, without dropout.")
@click.option("--json", "as_json", is_flag=True, help="Print the probe as JSON.")
@click.option("--exit-code", "ends", is_flag=True, help="End in status 1 where RECIPE has an alarm.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write it to this .html, .svg, .png, .json, .csv or .md file."
)
@ALL_OPTION
@WIDE_OPTION
@STRICT_OPTION
def probe(
    given: CommandWords,
    inputs: tuple[str, ...],
    against: tuple[str, ...],
    seed: int,
    vary: str | None,
    loss: str | None,
    evaluating: bool,
    as_json: bool,
    ends: bool,
    report: Path | None,
    every: bool,
    wide: bool,
    strict: bool,
) -> None:
    """Say what signals and gradients do in a model: one forward and one backward pass under a recipe, layer by layer.

    Verdicts say in words what is wrong and the way out: a signal that dies or explodes, gradients that vanish, dead
    and saturated units, branches that drown the stream, one-hot attention, a first loss far from ln(classes).

    With --against std is drawn against depth, a line for each recipe; with --vary how it goes with width or depth. With
    --config-name a sweep, such as init=torch_default,wrn model.depth=20,56, does both.
    """
    from initplug.studies.probing.comparison import SUFFIXES, beside
    from initplug.tables.files import check_path
    from initplug.tables.text import UNBOUNDED

    key, values = _varied(vary)
    if report is not None:
        check_path(report, SUFFIXES)
    made = inputs_from(inputs, 0)
    others = {text: recipe_from(text) for words in against for text in words.split(",")}
    with ExitStack() as stack:
        jobs = _jobs(given, stack, key, values, others)
        ending = None if loss is None else import_model(loss, "--loss").constructor
        with reported(strict):
            result = beside([(job.value, _probed(job, made, seed, ending, evaluating)) for job in jobs], key)
            if report is not None:
                result.save(report)
            width = UNBOUNDED if wide else None
            text = result.to_json() if as_json else result.to_text(width=width, color=colored(), every=every)
            click.echo(text, nl=not as_json)
    if ends and result.problems():
        sys.exit(1)


def _probed(job: _Job, inputs: Any, seed: int, loss: Any, evaluating: bool) -> Probe:
    built = build_model(job.model, meta=False)
    import initplug

    if evaluating:
        built.eval()
    with user_code():
        return initplug.probe(built, inputs, loss=loss, recipes=job.recipes, seed=seed)


def _varied(text: str | None) -> tuple[str | None, list[str]]:
    """Return the key of the model that is varied, and its values."""
    if text is None:
        return None, []
    key, equals, values = text.partition("=")
    found = [value for value in values.split(",") if value]
    if not equals or not key.removeprefix("model.").replace(".", "_").isidentifier() or len(found) < 2:
        raise Failure(f"--vary {text!r}: expected an argument of the model and its values, model.width=64,128,256", 2)
    if len({*found}) < len(found):
        raise Failure(f"--vary {text!r}: a value is there twice", 2)
    return key, found


def _jobs(
    given: CommandWords, stack: ExitStack, key: str | None, values: list[str], others: dict[str, Recipe]
) -> Iterator[_Job]:
    """Yield what is to be probed, in order."""
    if given.config is None:
        (model, recipe), overrides = given.split(["MODEL", "RECIPE"])
        target = import_model(model)
        first = recipe_from(recipe, overrides)
        recipes = {_trace_name(first.name or recipe, overrides): first, **others}
        if key is None:
            yield _Job(None, target, recipes)
        for size in values:
            yield _Job(size, _with_argument(target, str(key), size), recipes)
        return
    words = (*given.words, *([f"{key}={','.join(values)}"] if key is not None else []))
    seen = set()
    for composition in stack.enter_context(composed(given._replace(words=words), sweep=True)):
        enter_composition(composition)
        value: str | None = None
        sizes = []
        for word in composition.swept:
            name, _, what = word.partition("=")
            if name == key:
                value = what
            elif name.lstrip("+") != "init":
                sizes.append(word)
        recipe_node, tail = composition.recipe(), "".join(f" {word}" for word in sizes)
        more = {} if (value, tail) in seen else {f"{name}{tail}": other for name, other in others.items()}
        seen.add((value, tail))
        yield _Job(value, composition.model(), {f"{recipe_node.name or 'init'}{tail}": recipe_node, **more})


LONG = 50
"""Characters of a trace's name from which on overrides are counted."""


def _trace_name(recipe: str, overrides: Sequence[str]) -> str:
    name = " ".join([recipe, *overrides])
    return name if len(name) <= LONG or not overrides else f"{recipe} with {len(overrides)} overrides"


def _with_argument(target: Model, key: str, value: str) -> Model:
    """Return a MODEL with another argument."""
    try:
        literal = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        literal = value
    return target._replace(keywords={**target.keywords, key.removeprefix("model."): literal})
