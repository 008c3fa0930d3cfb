"""An audit under a seed computes every value once more, and says of each tensor whether it holds it to the bit."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import copied_state
from numpy.typing import NDArray
from recipes import verdicts
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import initplug
from initplug.filling.streams import DRAWN_AT_A_TIME
from initplug.torch_versions import can_fill


class Net(nn.Module):
    """Tensors of every kind: large, small, in parts, padded, whole, copied, computed, complex, in another layout."""

    def __init__(self) -> None:
        super().__init__()
        self.large = nn.Linear(700, 600)
        self.small = nn.Linear(16, 8)
        self.table = nn.Embedding(50, 16, padding_idx=3)
        self.lstm = nn.LSTM(8, 8)
        self.square = nn.Linear(8, 8)
        self.stack = nn.Parameter(torch.zeros(3, 6, 6))
        self.sparse = nn.Linear(8, 20)
        self.copy = nn.Linear(16, 8)
        self.computed = parametrizations.weight_norm(nn.Linear(8, 8))
        self.norm = nn.LayerNorm(8)
        image: Any = nn.Conv2d(64, 64, 3)
        self.image = image.to(memory_format=torch.channels_last)
        self.wave = nn.Parameter(torch.zeros(4, 3, dtype=torch.complex64))
        self.count = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)


RULES: dict[str, Any] = {
    "*.weight": "normal std=0.02",
    "*.bias": "uniform -0.1 0.1",
    "gates": {"match": "<LSTM>.*", "init": {"split": ["normal", 1, "keep", "uniform -1 1"]}},
    "square.weight": "orthogonal",
    "^stack": "orthogonal",
    "stack": {"match": "^stack", "init": {"fn": "orthogonal", "batch_dims": 1}},
    "sparse.weight": "sparse 0.5",
    "copy": {"match": "copy.weight", "init": {"fn": "copy", "source": "^small.weight"}},
    "norm.weight": 1,
    "norm.bias": 0.1,
    "image.weight": {"fn": "trunc_normal", "std": 0.02, "factor": 0.5},
    "^wave": "normal std=0.1",
    "^count": 7,
}
RECIPE = {"frozen": "write", "rules": RULES}
SEED = 5


def drawn_net(dtype: torch.dtype = torch.float32) -> Any:
    model = Net()
    for name, module in model.named_children():
        if name != "wave":
            module.to(dtype)
    initplug.apply(model, RECIPE, seed=SEED)
    return model


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_what_a_seed_gave_is_exact(dtype: torch.dtype, threads: int) -> None:
    audit = initplug.audit(drawn_net(dtype), RECIPE, seed=SEED, threads=threads)
    assert set(verdicts(audit).values()) == {"exact"}
    assert audit.summary["verdict"] == {"exact": len(audit)}
    assert audit.seed == SEED
    assert audit.problems() == []


def test_nothing_is_written_and_no_generator_moves() -> None:
    model = drawn_net()
    before = copied_state(model)
    state, numpys = torch.random.get_rng_state(), np.random.get_state(legacy=False)
    initplug.audit(model, RECIPE, seed=SEED + 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert str(np.random.get_state(legacy=False)) == str(numpys)


# One element, anywhere.

PLACES: dict[str, Callable[[Net], Tensor]] = {
    "large.weight": lambda model: model.large.weight,
    "large.bias": lambda model: model.large.bias,
    "small.weight": lambda model: model.small.weight,
    "table.weight": lambda model: model.table.weight,
    "square.weight": lambda model: model.square.weight,
    "stack": lambda model: model.stack,
    "sparse.weight": lambda model: model.sparse.weight,
    "copy.weight": lambda model: model.copy.weight,
    "norm.bias": lambda model: model.norm.bias,
    "image.weight": lambda model: model.image.weight,
    "count": lambda model: model.count,
}


@pytest.mark.parametrize("name", PLACES)
def test_one_element_that_is_off_by_one_bit_is_found_and_placed(name: str) -> None:
    model = drawn_net()
    tensor = PLACES[name](model)
    with torch.no_grad():
        place = tuple(size - 1 for size in tensor.shape)
        value = tensor[place].item()
        off = value + 1 if tensor.dtype == torch.int64 else np.nextafter(np.float32(value), np.float32(9)).item()
        tensor[place] = off
    (row,) = initplug.audit(model, RECIPE, seed=SEED).problems()
    assert (row.name, row.verdict, row.reason) == (name, "differs", None)
    at = ", ".join(map(str, place))
    source = "the plan" if name in ("norm.bias", "count") else "seed 5"
    assert row.problem is not None
    head = f"1 of {tensor.numel():,} elements is not that of {source}, at [{at}]: "
    assert row.problem.startswith(head)
    found, expected = map(float, row.problem.removeprefix(head).split(", not "))
    assert (np.float32(found), np.float32(expected)) == (np.float32(off), np.float32(value))


def test_a_part_that_is_kept_is_not_compared_and_the_others_are() -> None:
    model = drawn_net()
    with torch.no_grad():
        model.lstm.weight_ih_l0[17] = 3.0  # the third part, which is kept
        model.lstm.weight_hh_l0[9, 2] = 1.5  # the second, which is 1
    audit = initplug.audit(model, RECIPE, seed=SEED)
    assert audit["lstm.weight_ih_l0"].verdict == "exact"
    assert audit["lstm.weight_hh_l0"].problem == "1 of 192 elements is not that of seed 5, at [9, 2]: 1.5, not 1"


def test_a_padding_row_is_compared_with_zero() -> None:
    model = drawn_net()
    with torch.no_grad():
        model.table.weight[3, 4] = 1.0
    (row,) = initplug.audit(model, RECIPE, seed=SEED).problems()
    assert row.problem == "1 of 800 elements is not that of seed 5, at [3, 4]: 1, not 0"


def test_many_elements_are_counted_over_chunks_and_the_first_of_them_is_told() -> None:
    model = nn.Linear(1024, 3 * DRAWN_AT_A_TIME // 1024 + 1, bias=False)
    recipe = {"rules": {"*": "normal"}}
    initplug.apply(model, recipe, seed=0)
    with torch.no_grad():
        flat = model.weight.view(-1)
        flat[[100, DRAWN_AT_A_TIME + 5, 3 * DRAWN_AT_A_TIME]] += 1
        flat[2 * DRAWN_AT_A_TIME] = math.nan
    for threads in (1, 3):
        (row,) = initplug.audit(model, recipe, seed=0, threads=threads).problems()
        assert row.problem is not None
        assert row.problem.startswith("4 of 787,456 elements are not those of seed 0, the first at [0, 100]: ")
        assert row.problem.endswith("; off by nan at most")


# What is off everywhere.


def test_another_seed_is_asked_for_where_every_drawn_tensor_differs() -> None:
    audit = initplug.audit(drawn_net(), RECIPE, seed=SEED + 1)
    found = verdicts(audit)
    assert {name for name, verdict in found.items() if verdict == "exact"} == {"norm.weight", "norm.bias", "count"}
    assert set(found.values()) == {"exact", "differs"}
    assert {row.reason for row in audit.problems()} == {"another seed?"}
    assert all(str(row.problem).endswith("; all drawn tensors differ: another seed?") for row in audit.problems())


def test_another_seed_is_not_asked_for_where_one_drawn_tensor_is_as_it_was() -> None:
    model = drawn_net()
    other = drawn_net()
    initplug.apply(other, RECIPE, seed=SEED + 1)
    other.small.load_state_dict(model.small.state_dict())
    audit = initplug.audit(other, RECIPE, seed=SEED)
    assert audit["small.weight"].verdict == "exact"
    assert {row.reason for row in audit.problems()} == {None}


@pytest.mark.parametrize(("narrow", "word"), [(torch.bfloat16, "bfloat16"), (torch.float16, "float16")])
@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
def test_values_that_went_through_a_narrower_dtype_are_told_so(
    wide: torch.dtype, narrow: torch.dtype, word: str
) -> None:
    model: Any = nn.ModuleDict({"large": nn.Linear(700, 600), "small": nn.Linear(8, 8), "norm": nn.LayerNorm(8)}).to(
        wide
    )
    recipe = {"rules": {"*.weight": "normal std=0.02", "*.bias": 0.1, "norm.weight": 1}}
    initplug.apply(model, recipe, seed=SEED)
    model.to(narrow).to(wide)
    audit = initplug.audit(model, recipe, seed=SEED)
    assert audit["norm.weight"].verdict == "exact"  # 1 is the same in all of them
    for row in audit:
        if row.name != "norm.weight":
            source = "the plan" if row.name.endswith("bias") else "seed 5"
            assert (row.verdict, row.reason) == ("differs", f"rounded to {word}")
            assert row.problem == f"elements are those of {source} rounded to {word}"
    with torch.no_grad():
        model["large"].weight[0, 0] = 1.0
    told = initplug.audit(model, recipe, seed=SEED)["large.weight"]
    assert told.reason is None, "which not all of it is"


def test_a_model_that_is_cast_after_it_was_drawn_is_exact_in_its_new_dtype() -> None:
    model = nn.Linear(64, 64)
    recipe = {"rules": {"*.weight": "normal", "*.bias": 0}}
    initplug.apply(model, recipe, seed=0)
    assert set(verdicts(initplug.audit(model.bfloat16(), recipe, seed=0)).values()) == {"exact"}


# Custom and whole schemes, which moments cannot judge.


@pytest.fixture(autouse=True)
def registered() -> None:
    """The initializer, for the time of a test."""
    initplug.initializer(kind="whole")(staircase)


def staircase(shape: tuple[int, ...], draw: Any, *, height: float = 1.0) -> NDArray[np.float32]:
    """Cumulative sums of normals."""
    return np.cumsum(draw.normal("steps"), axis=-1, dtype=np.float32) * np.float32(height)


def test_custom_schemes_are_settled() -> None:
    model: Any = nn.ModuleList([nn.Linear(16, 16, bias=False), nn.Linear(16, 8, bias=False)])
    recipe = {"rules": {"*": {"fn": "staircase", "height": 0.5}}}
    initplug.apply(model, recipe, seed=0)
    assert verdicts(initplug.audit(model, recipe)) == {"0.weight": "untestable", "1.weight": "untestable"}
    assert verdicts(initplug.audit(model, recipe, seed=0)) == {"0.weight": "exact", "1.weight": "exact"}
    with torch.no_grad():
        model[1].weight[0, 0] += 1
    assert verdicts(initplug.audit(model, recipe, seed=0)) == {"0.weight": "exact", "1.weight": "differs"}


def test_a_scheme_that_fails_is_named() -> None:
    @initplug.initializer(kind="whole")
    def fails_in_an_audit(shape: tuple[int, ...], draw: Any) -> NDArray[np.float32]:
        """Raises."""
        raise RuntimeError("no table")

    with pytest.raises(initplug.ApplyError, match=r"(?s)values cannot be computed again\n  weight.*no table"):
        initplug.audit(nn.Linear(4, 4), {"rules": {"*.weight": "fails_in_an_audit", "*.bias": 0}}, seed=0)


# Copies, files, kept and computed tensors.


def test_a_copy_of_a_draw_is_compared_with_the_draw_and_not_with_what_its_source_holds_now() -> None:
    model = drawn_net()
    with torch.no_grad():
        model.small.weight.zero_()
    audit = initplug.audit(model, RECIPE, seed=SEED)
    assert audit["copy.weight"].verdict == "exact"
    assert audit["small.weight"].verdict == "differs"
    with torch.no_grad():
        model.copy.weight.zero_()  # as its source now is
    assert initplug.audit(model, RECIPE, seed=SEED)["copy.weight"].verdict == "differs"


def test_a_copy_is_cast_as_its_source_was() -> None:
    model: Any = nn.ModuleDict({"a": nn.Linear(64, 64, bias=False).bfloat16(), "b": nn.Linear(64, 64, bias=False)})
    recipe = {"rules": {"a.*": "normal", "b.*": {"match": "b.*", "init": {"fn": "copy", "source": "^a.weight"}}}}
    initplug.apply(model, recipe, seed=0)
    assert verdicts(initplug.audit(model, recipe, seed=0)) == {"a.weight": "exact", "b.weight": "exact"}


def test_files_are_compared_and_kept_values_stay_untestable(tmp_path: Path) -> None:
    save_file({"weight": torch.randn(8, 8)}, tmp_path / "w.safetensors")
    model: Any = nn.ModuleDict({"loaded": nn.Linear(8, 8, bias=False), "kept": nn.Linear(8, 8, bias=False)})
    init = {"fn": "load", "path": str(tmp_path / "w.safetensors"), "key": "weight"}
    recipe = {"rules": {"loaded.*": {"match": "loaded.*", "init": init}, "kept.*": "keep"}}
    initplug.apply(model, recipe, seed=0)
    assert verdicts(initplug.audit(model, recipe, seed=0)) == {"loaded.weight": "exact", "kept.weight": "untestable"}
    with torch.no_grad():
        model["loaded"].weight[0, 0] += 1
    assert verdicts(initplug.audit(model, recipe, seed=0))["loaded.weight"] == "differs"


def test_computed_tensors_are_compared_by_what_their_owners_make_of_a_draw() -> None:
    class Halved(nn.Module):
        """Half of what was given."""

        def forward(self, value: Tensor) -> Tensor:
            return value / 2

        def right_inverse(self, value: Tensor) -> Tensor:
            return value

    model: Any = nn.ModuleDict({"normed": parametrizations.weight_norm(nn.Linear(8, 8)), "halved": nn.Linear(8, 8)})
    nn.utils.parametrize.register_parametrization(model["halved"], "weight", Halved())
    recipe = {"rules": {"*.weight": "normal", "*.bias": 0}}
    initplug.apply(model, recipe, seed=0)
    found = verdicts(initplug.audit(model, recipe, seed=0))
    assert (found["normed.weight"], found["halved.weight"]) == ("exact", "untestable")
    with torch.no_grad():
        model["normed"].parametrizations.weight.original1[0] *= 2  # a direction, whose length is normed away
        assert initplug.audit(model, recipe, seed=0)["normed.weight"].verdict in ("exact", "ok")
        model["normed"].parametrizations.weight.original1[0, 0] += 1
    assert initplug.audit(model, recipe, seed=0)["normed.weight"].verdict == "differs"


# The other arguments.


def test_only_what_is_chosen_is_compared() -> None:
    model = drawn_net()
    with torch.no_grad():
        model.small.weight.zero_()
        model.large.weight[0, 0] = math.nan
    audit = initplug.audit(model, RECIPE, seed=SEED, only="square.*")
    assert audit.summary["status"] == {"kept": len(audit) - 2, "read": 2}
    assert (audit["square.weight"].verdict, audit["square.bias"].verdict) == ("exact", "exact")
    assert (audit["small.weight"].verdict, audit["small.weight"].reason) == ("untestable", "not in only")
    assert audit["large.weight"].problem == "NaN or infinite elements"
    named = initplug.audit(model, RECIPE, only=["small.weight"])
    assert [row.name for row in named.problems()] == ["large.weight", "small.weight"]


def test_progress_is_told_of_every_slot_that_is_compared() -> None:
    told: list[tuple[int, int]] = []
    initplug.audit(drawn_net(), RECIPE, seed=SEED, threads=2, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == [*range(1, len(told) + 1)]
    assert {total for _, total in told} == {len(told)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"seed": True}, "seed=True"),
        ({"threads": 0}, "threads=0"),
        ({"progress": 3}, "progress=3"),
    ],
)
def test_arguments_are_checked_as_those_of_apply(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(initplug.ApplyError, match=f"^{words}: "):
        initplug.audit(nn.Linear(2, 2), {"rules": {"*": 0}}, **arguments)


def test_no_more_threads_than_asked_for_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    from initplug.filling import exact as exactness

    seen: set[int] = set()
    plain = exactness._difference

    def watched(*arguments: Any) -> Any:
        seen.add(threading.get_ident())
        return plain(*arguments)

    monkeypatch.setattr(exactness, "_difference", watched)
    model: Any = nn.ModuleList(nn.Linear(1024, 1024).bfloat16() for _ in range(4))
    recipe = {"rules": {"*": "normal"}}
    initplug.apply(model, recipe, seed=0)
    initplug.audit(model, recipe, seed=0, threads=1)
    assert seen == {threading.get_ident()}


def test_a_name_without_a_stream_is_untestable() -> None:
    model = nn.Module()
    model.register_parameter("half\ud800", nn.Parameter(torch.randn(8, 8)))
    assert verdicts(initplug.audit(model, {"rules": {"*": "normal"}}, seed=0)) == {"half\ud800": "ok"}


def test_lazy_layers_have_nothing_to_compare() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LazyLinear(3))
    recipe = {"unmatched": "keep", "rules": {"^0": "normal"}}
    initplug.apply(model, recipe, seed=0, only="^0")
    audit = initplug.audit(model, recipe, seed=0)
    assert [(row.status, row.verdict) for row in audit] == 2 * [("read", "exact")] + 2 * [("lazy", "untestable")]


def test_odd_dtypes_and_shapes() -> None:
    model: Any = nn.Module()
    for name, tensor in {
        "wave": torch.zeros(4, 3, dtype=torch.complex64),
        "echo": torch.zeros(4, 3, dtype=torch.complex64),
        "count": torch.zeros(3, dtype=torch.int32),
        "mask": torch.zeros(3, dtype=torch.bool),
        "short": torch.zeros(3).to(torch.float8_e4m3fn if can_fill(torch.float8_e4m3fn) else torch.bfloat16),
        "one": torch.zeros(()),
        "none": torch.zeros(0, 3),
    }.items():
        model.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
    copy = {"match": "echo", "init": {"fn": "copy", "source": "^wave"}}
    rules = {
        "^wave": "normal",
        "echo": copy,
        "^count": 3,
        "^mask": 1,
        "^short": 0.3125,
        "^one": "normal",
        "^none": "normal",
    }
    recipe = {"frozen": "write", "rules": rules}
    initplug.apply(model, recipe, seed=0)
    found = verdicts(initplug.audit(model, recipe, seed=0))
    assert found.pop("none") == "untestable"
    assert set(found.values()) == {"exact"}
    with torch.no_grad():
        model.echo[1, 1] = 5
        model.count[1] = 4
        model.mask[0] = False
        model.short[2] = 1.0
        model.one.fill_(3)
    problems = {row.name: str(row.problem) for row in initplug.audit(model, recipe, seed=0).problems()}
    assert problems.pop("echo").startswith(
        "2 of 24 real and imaginary parts are not those of seed 0, the first at [1, 1]: 5"
    )
    assert problems.pop("one").startswith("its element is not that of seed 0: 3, not 0.")
    assert problems == {
        "count": "1 of 3 elements is not that of the plan, at [1]: 4, not 3",
        "mask": "1 of 3 elements is not that of the plan, at [0]: 0, not 1",
        "short": "1 of 3 elements is not that of the plan, at [2]: 1, not 0.3125",
    }
