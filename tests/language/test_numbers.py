"""Numbers that are written as quotients and square roots: their values, their texts, and what is none of them."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import initplug
from initplug.cli.commands import commands
from initplug.language.numbers import Written, formula

VALUES = [
    ("1/32", 1 / 32),
    ("-1/2", -0.5),
    ("+1/4", 0.25),
    ("sqrt(2)", math.sqrt(2)),
    ("-sqrt(0.5)", -math.sqrt(0.5)),
    ("1/sqrt(768)", 1 / math.sqrt(768)),
    ("sqrt(2)/sqrt(3)", math.sqrt(2) / math.sqrt(3)),
    ("2.5/.5", 5.0),
    ("0/3", 0.0),
]
NONE = [
    "1e-3/2",
    "sqrt(1e3)",
    "sqrt(sqrt(2))",
    "1/2/3",
    "--1/2",
    "1/-2",
    "sqrt(-1)",
    "sqrt()",
    "2*sqrt(2)",
    "1 / 2",
    "sqrt2",
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_a_form_has_the_value_of_its_double(text: str, value: float) -> None:
    found = formula(text)
    assert found == value
    assert str(found) == repr(found) == text
    assert type(float(found)) is float
    for again in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert (again, str(again)) == (value, text)


@pytest.mark.parametrize("text", ["1", "-0.5", "1e-4", ".5", *NONE])
def test_other_texts_are_no_forms(text: str) -> None:
    assert formula(text) is text


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.booleans(), st.booleans(), st.sampled_from(["", "-", "+"]))
def test_any_quotient_of_whole_numbers_and_roots(top: int, bottom: int, one: bool, other: bool, sign: str) -> None:
    text = f"{sign}{f'sqrt({top})' if one else top}/{f'sqrt({bottom})' if other else bottom}"
    value = (math.sqrt(top) if one else top) / (math.sqrt(bottom) if other else bottom)
    assert formula(text) == (-value if sign == "-" else value)


FORMS: list[tuple[Any, Any]] = [
    ("1/32", 1 / 32),
    ("constant sqrt(2)", math.sqrt(2)),
    ("normal std=1/sqrt(768)", {"fn": "normal", "std": 1 / math.sqrt(768)}),
    ("uniform -1/2 1/2", {"fn": "uniform", "low": -0.5, "high": 0.5}),
    ("orthogonal sqrt(2)", {"fn": "orthogonal", "gain": math.sqrt(2)}),
    ({"fn": "xavier_uniform", "gain": "1/sqrt(2)"}, {"fn": "xavier_uniform", "gain": 1 / math.sqrt(2)}),
    ({"fn": "trunc_normal", "cutoff": "5/2"}, {"fn": "trunc_normal", "cutoff": 2.5}),
    ({"fn": "prior_bias", "p": "1/80"}, {"fn": "prior_bias", "p": 1 / 80}),
    ({"fn": "normal", "factor": "1/sqrt(2)"}, {"fn": "normal", "factor": 1 / math.sqrt(2)}),
    (
        {"fn": "normal", "factor": [{"count": "*", "times": "1/2", "power": "-1/4"}, "sqrt(3)"]},
        {"fn": "normal", "factor": [{"count": "*", "times": 0.5, "power": -0.25}, math.sqrt(3)]},
    ),
    ({"split": ["1/2", "normal std=1/3"]}, {"split": [0.5, {"fn": "normal", "std": 1 / 3}]}),
]


@pytest.mark.parametrize(("form", "number"), FORMS, ids=[str(form) for form, _ in FORMS])
def test_wherever_a_number_is_expected_its_form_does_the_same(form: Any, number: Any) -> None:
    written, plain = initplug.load({"rules": {"*": form}}), initplug.load({"rules": {"*": number}})
    assert written == plain
    assert written.digest == plain.digest


@pytest.mark.parametrize(("form", "number"), FORMS, ids=[str(form) for form, _ in FORMS])
def test_a_form_and_its_number_are_planned_alike(form: Any, number: Any) -> None:
    model = pytest.importorskip("torch").nn.Linear(4, 4)
    one, other = (initplug.load({"rules": {"*.weight": init, "*.bias": 0}}) for init in (form, number))
    first, second = initplug.plan(model, one)["weight"], initplug.plan(model, other)["weight"]
    assert first.distribution == second.distribution
    assert first.to_dict() | {"init": None} == second.to_dict() | {"init": None}


@pytest.mark.parametrize(("form", "_number"), FORMS, ids=[str(form) for form, _ in FORMS])
def test_the_text_is_kept_and_read_back(form: Any, _number: Any) -> None:
    recipe = initplug.load({"rules": {"*": form}})
    again = initplug.load(recipe.to_yaml())
    assert again == recipe
    assert again.to_yaml() == recipe.to_yaml()
    texts = [
        word for word in str(form).replace("'", " ").replace("=", " ").split() if isinstance(formula(word), Written)
    ]
    for text in texts:
        assert text.rstrip(",]}") in recipe.to_yaml()


def test_show_prints_what_was_written_also_through_overrides(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("rules:\n  '*.weight': {fn: normal, std: 1/sqrt(768)}\n  '*.bias': 1/32\n  '*.scale': 1\n")
    shown = CliRunner().invoke(commands, ["show", str(file), "unused=error"])
    assert "std: 1/sqrt(768)" in shown.output
    assert "init: 1/32" in shown.output
    loaded = initplug.load(initplug.load(file), ["unused=error"])
    assert "std: 1/sqrt(768)" in loaded.to_yaml()
    assert loaded.rules["*.weight"] is not None
    assert loaded.rules["*.weight"].init.text == "normal std=1/sqrt(768)"


MESSAGES = [
    ("rules:\n  a*: {fn: normal, std: 1/0}\n", "std: 1/0 is not a number of at least 0 (numbers are finite)"),
    ("rules:\n  a*: {fn: normal, std: 0/0}\n", "std: 0/0 is not a number of at least 0 (numbers are finite)"),
    ("rules:\n  a*: {fn: normal, std: -1/2}\n", "std: -1/2 is not a number of at least 0"),
    (
        "rules:\n  a*: {fn: normal, std: 2*sqrt(2)}\n",
        "std: '2*sqrt(2)' is not a number of at least 0 (a number may be written 1/32, sqrt(2), -1/sqrt(768))",
    ),
    (
        "rules:\n  a*: {fn: normal, std: 1 / 2}\n",
        "std: '1 / 2' is not a number of at least 0 (a number may be written 1/32, sqrt(2), -1/sqrt(768))",
    ),
    ("rules:\n  a*: {fn: dirac, groups: 4/2}\n", "groups: '4/2' is not a whole number of at least 1"),
    ("rules:\n  a*: dirac groups=4/2\n", "groups: 4/2 is not a whole number of at least 1"),
    ("rules:\n  a*: normal 1/2\n", "normal takes no bare number: write std=1/2"),
]


@pytest.mark.parametrize(("text", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_what_is_no_number_is_told(text: str, message: str) -> None:
    with pytest.raises(initplug.RecipeError) as error:
        initplug.load(text)
    assert message in str(error.value)


@pytest.mark.parametrize("value", ["sqrt(2)", "1/sqrt(2)", "-sqrt(3)/2"])
def test_hydra_is_told_a_form_with_parentheses_in_quotes(value: str) -> None:
    with pytest.raises(initplug.RecipeError) as error:
        initplug.load("resnext", ["+rules.x={match: a, init: 0}", f"rules.x.init={value}"])
    assert f"(quote the number: rules.x.init='\"{value}\"')" in str(error.value)
    recipe = initplug.load("resnext", ["+rules.x={match: a, init: 0}", f'rules.x.init="{value}"'])
    assert recipe.rules["x"] is not None
    assert recipe.rules["x"].init.text == f"constant {value}"
    assert initplug.load("resnext", ["+rules.x={match: a, init: 1/32}"]).rules["x"] is not None
