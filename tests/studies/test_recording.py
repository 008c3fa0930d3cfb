"""A recording is a recipe that does what the code does: under other seeds, at other widths, checked by itself."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import invoke
from torch import nn

import initplug
from initplug.language.preset_list import presets
from initplug.planning.draft import drafted
from initplug.planning.slots import Tree
from initplug.schemes.compositions import Copy, Keep
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.studies import suggest
from initplug.studies.drafting.agreement import agrees, alike


class Block(nn.Module):
    def __init__(self, width: int, place: int, depth: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.out = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(1e-5 * torch.ones(width))
        nn.init.normal_(self.up.weight, std=0.02)
        nn.init.normal_(self.out.weight, std=0.02 / math.sqrt(2 * depth))
        nn.init.zeros_(self.up.bias)
        nn.init.zeros_(self.out.bias)
        self.late = nn.Linear(width, width, bias=False)
        self.late.weight.data.normal_(0, 0.02 / math.sqrt(place + 1))


class Net(nn.Module):
    """A net with a depth factor, a place factor, scales, a table, a part, a tie and a head of its own."""

    def __init__(self, width: int = 8, depth: int = 3) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.wte = nn.Embedding(11, width, padding_idx=0)
        self.stem = nn.Conv2d(3, width, 3)
        nn.init.kaiming_normal_(self.stem.weight, mode="fan_out", nonlinearity="relu")
        self.blocks = nn.ModuleList(Block(width, place, depth) for place in range(depth))
        self.gate = nn.Linear(width, 4 * width)
        with torch.no_grad():
            self.gate.bias.zero_()
            self.gate.bias[width : 2 * width].fill_(1)
        self.head = nn.Linear(width, 11, bias=False)
        self.head.weight = self.wte.weight
        self.fixed = nn.Parameter(torch.eye(width), requires_grad=False)
        self.frozen = nn.Parameter(torch.rand(width), requires_grad=False)
        nn.init.uniform_(self.wte.weight, -0.1, 0.1)
        self.wte.weight.data[0].zero_()


def held(recording: initplug.Recording) -> dict[str, Any]:
    return {row.name: row.outcome for row in recording}


def planned_as_recorded(model: nn.Module, recipe: initplug.Recipe, recording: initplug.Recording) -> list[str]:
    """The parameters of which a plan is not what was recorded."""
    plan = initplug.plan(model, recipe)
    return [row.name for row in recording if not agrees(plan[row.name].distribution, row)]


def test_a_recipe_gives_what_the_code_does() -> None:
    recording = initplug.record(Net)
    assert recording.problems() == []
    assert planned_as_recorded(Net(), initplug.load(recording.yaml), recording) == []
    assert recording.headline().endswith("rules give 32 of 32 parameters what the code does")


def test_a_recipe_of_one_width_and_depth_is_right_for_another() -> None:
    recipe = initplug.record(Net).recipe
    assert planned_as_recorded(Net(12, 5), recipe, initplug.record(lambda: Net(12, 5))) == []


def test_the_values_are_drawn_as_recorded() -> None:
    model = Net(32)
    recording = initplug.record(lambda: Net(32))
    audit = initplug.apply(model, recording.recipe, seed=0)
    assert audit.problems() == []
    assert model.frozen.min() >= 0
    assert torch.equal(model.fixed, torch.eye(32))


def test_the_rules_are_those_that_a_person_would_write() -> None:
    rules = initplug.record(Net).recipe.plain()["rules"]
    assert rules["rest"] == {"match": "*", "init": "default"} or rules["rest"]["match"] == "*"
    inits = [rule["init"] for rule in rules.values()]
    assert {"fn": "normal", "std": 0.02, "factor": {"count": "<Block>", "times": 2}} in inits
    assert {"fn": "normal", "std": 0.02, "factor": {"place": "<Block>"}} in inits
    assert {"fn": "kaiming_normal", "mode": "fan_out", "nonlinearity": "relu"} in inits
    assert {"split": [0, 1, 0, 0]} in inits
    assert len(rules) <= 12


def test_comments_tell_how_many_parameters_and_which_line() -> None:
    yaml = initplug.record(Net).yaml
    line = next(
        number
        for number, text in enumerate(Path(__file__).read_text().splitlines(), 1)
        if "kaiming_normal_(self" in text
    )
    comment, name = re.search(r"  # (.*)\n  (\w+):\n    match: <Conv2d>.weight", yaml).groups()  # type: ignore[union-attr]
    assert name == "conv"
    assert comment.startswith("1 parameter; ")
    assert comment.endswith(f"{Path(__file__).name}:{line}")


class Scaled(nn.Module):
    """Numbers alone, of which only the fans tell the formula."""

    def __init__(self, sizes: tuple[int, ...], std: Callable[[int, int], float]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes))
        for layer in self.parameters():
            layer.data.normal_(0, std(layer.shape[1], layer.shape[0]))


@pytest.mark.parametrize(
    ("std", "init"),
    [
        (lambda i, o: math.sqrt(2 / i), "kaiming_normal"),
        (lambda i, o: math.sqrt(2 / o), {"fn": "kaiming_normal", "mode": "fan_out"}),
        (lambda i, o: math.sqrt(2 / (i + o)), "xavier_normal"),
        (lambda i, o: math.sqrt(0.37 / i), "variance_scaling scale=0.37 fan_in normal"),
        (lambda i, o: 0.02, {"fn": "normal", "std": 0.02}),
        (lambda i, o: 1 / math.sqrt(7), {"fn": "normal", "std": "1/sqrt(7)"}),
    ],
)  # fmt: skip
def test_numbers_become_formulas_where_the_fans_tell_them(std: Callable[[int, int], float], init: Any) -> None:
    recipe = initplug.record(lambda: Scaled((6, 10, 14, 22), std)).recipe
    (rule,) = [rule for rule in recipe.plain()["rules"].values() if rule["init"] != "default"]
    expected = initplug.load({"rules": {"*": {"init": init}}}).plain()["rules"]["*"]["init"]
    assert rule["init"] == expected
    assert planned_as_recorded(Scaled((5, 9, 3), std), recipe, initplug.record(lambda: Scaled((5, 9, 3), std))) == []


class Fused(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 10 * width)
        self.proj.bias.data[:width].zero_()
        self.proj.bias.data[width:].normal_()


def test_parts_of_several_sizes_keep_their_proportion() -> None:
    recording = initplug.record(lambda: Fused(4))
    split = {"split": [0, "normal"], "sizes": [1, 9]}
    assert split in [rule["init"] for rule in recording.recipe.plain()["rules"].values()]
    assert recording.problems() == []
    assert planned_as_recorded(Fused(6), recording.recipe, initplug.record(lambda: Fused(6))) == []


def test_clones_become_copies() -> None:
    def build() -> nn.Module:
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3)

    recording = initplug.record(build)
    assert recording["layers.2.linear1.weight"].twin == "layers.0.linear1.weight"
    rule = recording.recipe.plain()["rules"]["copies"]
    assert rule == {"match": "^layers.*", "except": "^layers.0", "init": {"fn": "copy", "source": "^layers.0"}}
    assert isinstance(initplug.plan(build(), recording.recipe)["layers.2.linear1.weight"].distribution, Copy)
    assert recording.problems() == []
    assert "12 parameters are copies of others, drawn once" in "\n".join(recording.told())


def test_a_padding_row_that_is_drawn_over_is_found() -> None:
    def build() -> nn.Module:
        table = nn.Embedding(5, 4, padding_idx=1)
        nn.init.normal_(table.weight, std=0.02)
        return table

    (problem,) = initplug.record(build).problems()
    assert problem.reason == (
        "its code draws the row that is meant for padding, too, which every recipe zeroes: padding row 1 is not 0"
    )


class Hidden(nn.Module):
    def __init__(self, write: Callable[[nn.Linear], object]) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 64)
        write(self.fc)


def test_what_cannot_be_seen_is_found_by_the_values() -> None:
    def write(layer: nn.Linear) -> None:
        layer.weight.data.numpy()[:] = 0.25

    (problem,) = initplug.record(lambda: Hidden(write)).problems()
    assert problem.name == "fc.weight"
    assert problem.reason.startswith("its values are not what its code was seen to write: ")


def test_without_a_check_nothing_is_compared() -> None:
    recording = initplug.record(lambda: nn.Linear(2, 2), check=False)
    assert recording.nearest is None
    assert recording.headline() == "Linear: 6 elements; 1 rule gives 2 of 2 parameters what the code does; not checked"


def test_memory_that_nobody_wrote_is_told_first() -> None:
    def build() -> nn.Module:
        return nn.ParameterDict({"a": nn.Parameter(torch.randn(3) * torch.rand(3)), "b": nn.Parameter(torch.empty(3))})

    recording = initplug.record(build)
    first, second = recording.problems()
    assert (first.name, first.reason) == ("b", "memory that is never written")
    assert (second.name, second.reason) == ("a", "computed: mul (of two draws)")
    assert isinstance(initplug.plan(build(), recording.recipe)["a"].distribution, Keep)
    assert recording.headline().endswith("gives 0 of 2 parameters what the code does; 1 is never written")


def test_what_other_generators_draw_is_kept() -> None:
    def build() -> nn.Module:
        return nn.ParameterDict(
            {
                "a": nn.Parameter(torch.from_numpy(np.random.randn(4))),
                "b": nn.Parameter(torch.tensor([random.random(), 1.0])),
            }
        )

    state = torch.get_rng_state()
    assert {problem.reason for problem in initplug.record(build).problems()} == {
        "computed: drawn outside torch, or in another thread"
    }
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_is_there_is_written_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    calls = []

    def write(part: nn.Module) -> None:
        calls.append(part)
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)

    recording = initplug.record(lambda: model.apply(write))
    assert len(calls) == 3
    assert recording.problems() == []
    assert recording.recipe.plain()["rules"]["linear"] == {"match": "<Linear>.weight", "init": "xavier_uniform"}
    assert initplug.plan(model, recording.recipe)["0.bias"].init == "keep"


def test_a_preset_that_says_the_same_is_named() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    recording = initplug.record(build)
    assert recording.nearest is not None
    assert recording.nearest.differs == ()
    assert initplug.plan(build(), recording.nearest.preset).unmatched == ()
    assert recording.told()[0] == f"this is {recording.nearest.preset}"


def test_of_presets_that_say_the_same_only_those_are_planned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[object] = []

    def counted(tree: Tree, recipe: initplug.Recipe, **given: Any) -> Any:
        again.append(recipe)
        return drafted(tree, recipe, **given)

    monkeypatch.setattr(suggest, "drafted", counted)
    recording = initplug.record(lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    assert recording.nearest is not None
    assert 1 < len(again) < len(presets()) / 2
    assert recording.nearest.preset == initplug.suggest(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))[0].preset


def test_adapters_are_given_what_they_are_drawn_from() -> None:
    def build() -> nn.Module:
        return nn.ModuleList(Adapted() for _ in range(3))

    recording = initplug.record(build)
    assert recording.problems() == []
    selectors = [rule["match"] for rule in recording.recipe.plain()["rules"].values()]
    assert selectors[0] == "*"
    assert sorted(selectors[1:]) == ["^*.lora_A.first.weight", "^*.lora_B.first.weight"]


class Adapted(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 4)
        self.lora_A = nn.ModuleDict({"first": nn.Linear(4, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"first": nn.Linear(2, 4, bias=False)})
        nn.init.zeros_(self.lora_B["first"].weight)  # type: ignore[arg-type]  # torch's stubs


def test_a_recording_is_data() -> None:
    recording = initplug.record(lambda: nn.Linear(4, 2))
    data = json.loads(recording.to_json())
    assert data["summary"] == {"parameters": 2, "numel": 10, "given": 2, "rules": 1}
    assert [row["name"] for row in data["rows"]] == ["weight", "bias"]
    assert data["rows"][0]["distribution"] == "uniform(-0.5, 0.5)"
    assert data["rows"][0]["places"] == [f"{__file__}:{test_a_recording_is_data.__code__.co_firstlineno + 1}"]
    assert initplug.load(data["recipe"]) == recording.recipe
    assert len(recording) == 2
    assert [row.name for row in recording] == ["weight", "bias"]
    with pytest.raises(KeyError, match=re.escape("the recording has no parameter 'wieght' (did you mean weight?)")):
        recording["wieght"]


def test_a_table_shows_what_each_holds_and_where_it_is_from() -> None:
    table = initplug.record(lambda: nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))).to_text(width=200)
    line = test_a_table_shows_what_each_holds_and_where_it_is_from.__code__.co_firstlineno + 1
    heading, _, weights, biases, last = table.splitlines()
    assert heading.split() == ["parameter", "shape", "holds", "written", "at"]
    assert weights.split() == ["0-2.weight", "4×4", "uniform(-0.5,", "0.5)", f"tests/studies/test_recording.py:{line}"]
    assert biases.split()[0] == "0-2.bias"
    assert last == "Sequential: 60 elements; 1 rule gives 6 of 6 parameters what the code does"


def empty() -> nn.Module:
    return nn.Identity()


def test_a_model_without_parameters_has_no_rows() -> None:
    recording = initplug.record(empty)
    assert (len(recording), recording.problems()) == (0, [])
    assert recording.headline() == "Identity: 0 elements; 0 rules give 0 of 0 parameters what the code does"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            nn.Linear(2, 2),
            "record takes a function that builds a model, not a Linear: record(lambda: Net()), or "
            "record(lambda: model.apply(fn)) for what a function writes to a model that is there",
        ),
        (
            3,
            "record takes a function that builds a model, not a int: record(lambda: Net()), or "
            "record(lambda: model.apply(fn)) for what a function writes to a model that is there",
        ),
        (lambda: 3, "the function returned a int, not a torch.nn.Module"),
        (lambda: None, "the function returned a NoneType, not a torch.nn.Module"),
    ],
)
def test_what_is_no_constructor_is_refused(build: Any, message: str) -> None:
    with pytest.raises(initplug.InitplugError) as caught:
        initplug.record(build)
    assert str(caught.value) == message


def test_what_a_constructor_raises_is_raised_and_no_generator_moved() -> None:
    def build() -> nn.Module:
        torch.randn(3)
        raise LookupError("no such size")

    state = torch.get_rng_state()
    with pytest.raises(LookupError, match="no such size"):
        initplug.record(build)
    assert torch.equal(torch.get_rng_state(), state)


ALIKE: list[tuple[Any, Any, bool]] = [
    (Normal(0.0, 0.02), Normal(0.0, 0.02 * (1 + 1e-9)), True),
    (Normal(0.0, 0.02), Normal(0.0, 0.0201), False),
    (Normal(0.0, 0.02), Normal(1e-3, 0.02), False),
    (Normal(0.0, 0.02), TruncatedNormal(0.0, 0.02, -2.0, 2.0), True),
    (Normal(0.0, 0.02), TruncatedNormal(0.0, 0.02, -0.04, 0.04), False),
    (Uniform(1.0, 1.0), Constant(1.0), True),
    (Constant(0.0), Constant(1e-12), False),
    (Uniform(-1.0, 1.0), Normal(0.0, 1.0), False),
]


@pytest.mark.parametrize(("one", "other", "same"), ALIKE)
def test_distributions_are_alike_but_for_rounding(one: Any, other: Any, same: bool) -> None:
    assert alike(one, other) == alike(other, one) == same


def test_the_mode_of_autograd_and_of_dtypes_is_no_matter() -> None:
    def build() -> nn.Module:
        layer = nn.Linear(4, 4, dtype=torch.bfloat16)
        nn.init.trunc_normal_(layer.weight, std=0.02)
        return layer.half()

    with torch.no_grad():
        recording = initplug.record(build)
    assert recording["weight"].distribution == TruncatedNormal(0.0, 0.02, -2.0, 2.0)
    assert recording.problems() == []


def test_the_guide_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    guide = (Path(__file__).parents[2] / "examples" / "guide" / "record.md").read_text()
    code, printed = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", guide, re.DOTALL).groups()  # type: ignore[union-attr]
    exec(compile(code, "record.md", "exec"), {})
    assert capsys.readouterr().out == printed


# The command ----------------------------------------------------------------------------------------------------------

NETS = """
import torch
from torch import nn


class Whole(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        print("building")
        self.fc = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.fc.weight)


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(3) * torch.rand(3))


def raises():
    raise LookupError("no such size")


def three():
    return 3


built = nn.Linear(2, 2)
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    name = f"nets_{abs(hash(tmp_path))}"
    Path(f"{name}.py").write_text(NETS)
    return f"{name}.py"


def test_the_command_prints_a_recipe_and_says_the_rest_elsewhere(nets: str) -> None:
    result = invoke("record", f"{nets}:Whole(width=4)", status=0)
    recipe = initplug.load(result.stdout)
    assert recipe.plain()["rules"]["linear"]["init"] == "xavier_uniform"
    assert f"  # 1 parameter; {nets}:11\n  linear:\n" in result.stdout
    assert result.stderr.splitlines()[0] == "building"
    assert result.stderr.splitlines()[-1] == "Whole: 20 elements; 2 rules give 2 of 2 parameters what the code does"


def test_the_command_ends_in_status_1_where_the_recipe_does_not_give_all(nets: str) -> None:
    result = invoke("record", f"{nets}:Part", status=1)
    assert initplug.load(result.stdout).plain()["rules"]["as_constructed"]["init"] == "keep"
    told = [
        f"scale: computed: mul (of two draws) ({nets}:17)",
        "Part: 3 elements; 1 rule gives 0 of 1 parameters what the code does",
    ]
    assert result.stderr.splitlines()[-2:] == told


def test_the_command_prints_rows(nets: str) -> None:
    rows = json.loads(invoke("record", f"{nets}:Whole", "--json", status=0).stdout)["rows"]
    assert [row["name"] for row in rows] == ["fc.weight", "fc.bias"]
    assert "xavier" not in (table := invoke("record", f"{nets}:Whole", "--table", status=0).stdout)
    assert f"{nets}:11" in table


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("raises", 1, "raised LookupError: no such size"),
        ("three", 1, "gave a int, not a torch.nn.Module"),
        (
            "Whole(1, 2)",
            1,
            "raised TypeError: Whole.__init__() takes from 1 to 2 positional arguments but 3 were given",
        ),
        ("built", 2, "is built already: name what builds it"),
        ("other", 2, "has no 'other'"),
    ],
)
@pytest.mark.parametrize("ways", [(), ("--meta",), ("--real",)], ids=str)
def test_the_command_says_in_a_line_what_is_wrong(
    nets: str, target: str, status: int, message: str, ways: tuple[str, ...]
) -> None:
    result = invoke("record", f"{nets}:{target}", *ways, status=status)
    assert message in result.stderr.splitlines()[-1]
    assert result.stdout == ""
