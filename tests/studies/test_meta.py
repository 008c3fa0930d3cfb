"""What is recorded on meta, without values and memory for large tensors, is what is recorded for real."""

from __future__ import annotations

import json
import math
import os
import random
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import invoke
from test_watching import COMPUTED, READ, Tied, row_of, states, vars_of
from torch import Tensor, nn

import initplug
from initplug.schemes.compositions import Stacked
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.structures.orthogonal import Orthogonal
from initplug.schemes.structures.sincos import SinCos
from initplug.studies.drafting.agreement import alike
from initplug.studies.lock import hold_to_lock, save_lock
from initplug.studies.recording import construction, meta
from initplug.studies.recording.construction import watched
from initplug.studies.recording.forms import Computed, Outcome, Unwritten
from initplug.studies.recording.memory import available_memory


@pytest.fixture
def all_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without values for tensors of a single element, too."""
    monkeypatch.setattr(meta, "DRAWN", 1)
    monkeypatch.setattr(meta, "FIXED", 1)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which a model may take 100 kB."""
    monkeypatch.setattr(construction, "available_memory", lambda: 2e5)


class Made(nn.Module):
    def __init__(self, make: Callable[[], Tensor]) -> None:
        super().__init__()
        self.w = nn.Parameter(make())


def on_meta(make: Callable[[], Tensor]) -> Outcome:
    found = watched(lambda: Made(make), meta=True)
    assert found.meta, found.why
    return found.rows[0].outcome


WITHOUT_VALUES = Computed("a table of fixed values, which are not known on meta")

SIZED = {"those that are far out"}
"""Tensors whose size depends on values: their code runs for real."""

ELSEWHERE = "computed: drawn outside torch, or in another thread"

UNKNOWN = {"gates", "linspace", "times of pi", "numbers along the first"}
"""Tables that no formula is known of but by their values; of more than two million elements they have none."""

ASKED = {"by rejection in place", "those that are near enough"}
"""Made by code that asks for values, and so for real."""

PLACES = {"rows by a mask", "rows copied", "a mask filled", "scattered"}
"""Written at places that are values of a tensor; of more than two million elements there are none."""


@pytest.mark.usefixtures("all_on_meta")
@pytest.mark.parametrize("name", READ)
def test_what_is_written_is_read_without_any_value(name: str) -> None:
    make, expected = READ[name]
    if name in ASKED:
        found = watched(lambda: Made(make), meta=True)
        assert not found.meta
        assert "on meta its code raises" in str(found.why)
        return
    outcome = on_meta(make)
    if name in PLACES:
        assert str(outcome).endswith("at places that are not known')")
    elif name in UNKNOWN:
        assert outcome in (WITHOUT_VALUES, row_of(make).outcome)
    elif isinstance(expected, Normal | Uniform | TruncatedNormal):
        assert type(outcome) is type(expected)
        assert vars_of(outcome) == pytest.approx(vars_of(expected), rel=1e-9, abs=1e-12)
    else:
        assert repr(outcome) == repr(row_of(make).outcome)


@pytest.mark.usefixtures("all_on_meta")
@pytest.mark.parametrize("name", COMPUTED)
def test_what_has_no_closed_form_is_computed_on_meta(name: str) -> None:
    make, reason = COMPUTED[name]
    found = watched(lambda: Made(make), meta=True)
    assert found.meta is (name not in SIZED)
    assert found.rows[0].outcome == Computed(reason)


class Big(nn.Module):
    """A model of 73 billion elements with whatever makes that take memory."""

    def __init__(self, width: int = 16384, depth: int = 24) -> None:
        super().__init__()
        self.wte = nn.Embedding(128256, width, padding_idx=3)
        nn.init.normal_(self.wte.weight, std=0.02)
        with torch.no_grad():
            self.wte.weight[3].zero_()
        self.blocks = nn.ModuleList(BigBlock(width, depth) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, 128256, bias=False)
        self.head.weight = self.wte.weight


class BigBlock(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        for part, gain in zip(self.qkv.weight.chunk(3), (1.0, 1.0, 0.5), strict=True):
            nn.init.xavier_uniform_(part, gain=gain)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        nn.init.trunc_normal_(self.up.weight, std=0.02)
        self.up.weight.data.mul_(0.5)
        nn.init.normal_(self.down.weight, std=0.02 / math.sqrt(2 * depth))
        nn.init.orthogonal_(self.down.weight)
        nn.init.zeros_(self.down.bias)


def test_a_model_of_seventy_billion_elements_takes_some_megabytes() -> None:
    initplug.record(lambda: Big(1024, 1), meta=True)  # what is imported once
    tracemalloc.start()
    try:
        recording = initplug.record(Big, meta=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert recording.summary["numel"] > 7e10
    assert recording.problems() == []
    assert peak < 3e7
    assert recording["wte.weight"].aliases == ("head.weight",)
    assert recording["wte.weight"].outcome == Normal(0.0, 0.02)
    assert recording["blocks.9.up.weight"].outcome == TruncatedNormal(0.0, 0.01, -1.0, 1.0)
    assert recording["blocks.9.down.weight"].outcome == Orthogonal(1.0, 16384, 65536)
    qkv = recording["blocks.9.qkv.weight"].distribution
    assert isinstance(qkv, Stacked)
    bound = math.sqrt(6 / 32768)
    assert [part.high for part in qkv.parts] == pytest.approx([bound, bound, bound / 2])  # type: ignore[union-attr]
    small = initplug.record(lambda: Big(64, 24), meta=False)
    assert [type(row.outcome) for row in recording] == [type(row.outcome) for row in small]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: torch.zeros(300, 300), Constant(0.0)),
        (lambda: torch.ones(300, 300) / 4, Constant(0.25)),
        (lambda: torch.full((300, 300), 0.5), Constant(0.5)),
        (lambda: torch.randn(300, 300), Normal(0.0, 1.0)),
        (lambda: torch.empty(300, 300), Unwritten()),
    ],
)
def test_nothing_large_takes_memory(make: Callable[[], Tensor], expected: Outcome) -> None:
    found = watched(lambda: Made(make), meta=True)
    assert found.tree.slots[0].tensor.is_meta
    assert found.rows[0].outcome == expected


def test_small_tensors_are_real() -> None:
    found = watched(lambda: nn.Linear(200, 200), meta=True)
    assert not any(slot.tensor.is_meta for slot in found.tree.slots)


def sines() -> nn.Embedding:
    table = nn.Embedding(400, 512)
    values = SinCos(1.0, 1, 0, 10000.0, 400, 512).values().astype(np.float32)
    table.weight.data[:, :300] = torch.from_numpy(values[:, :300])
    table.weight.data[:, 300:] = torch.from_numpy(values[:, 300:])
    return table


def test_tables_that_are_copied_in_are_recognised() -> None:
    (row,) = watched(sines, meta=True).rows
    assert row.outcome == SinCos(1.0, 1, 0, 10000.0, 400, 512)
    model = watched(sines, meta=True).tree.nodes[0].module
    assert model.weight.is_meta


@pytest.mark.usefixtures("all_on_meta")
def test_tables_whose_values_are_gone_say_so() -> None:
    assert on_meta(lambda: torch.linspace(0, 1, 7).sqrt()) == WITHOUT_VALUES


def test_numbers_of_other_generators_are_told_on_meta() -> None:
    def build() -> nn.Module:
        layer = nn.Linear(300, 300)
        layer.weight.data.copy_(torch.from_numpy(np.random.randn(300, 300)))
        layer.bias.data.copy_(torch.tensor([random.random() for _ in range(300)]))
        return layer

    before = states()
    recording = initplug.record(build, meta=True)
    assert recording.meta
    assert {problem.reason for problem in recording.problems()} == {ELSEWHERE}
    assert states() == before


@pytest.mark.usefixtures("all_on_meta")
@pytest.mark.parametrize(("before", "value"), [(True, 1.0), (False, 0.0)])
def test_ties_are_kept(before: bool, value: float) -> None:
    (row,) = watched(lambda: Tied(before), meta=True).rows
    assert (row.name, row.aliases, row.outcome) == ("a.weight", ("b.weight",), Constant(value))


def encoder(changed: bool) -> nn.Module:
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3)
    if changed:
        net.layers[0].linear1.weight.data.mul_(2)
        nn.init.normal_(net.layers[1].linear2.weight)
    return net


@pytest.mark.usefixtures("all_on_meta")
@pytest.mark.parametrize("changed", [False, True])
def test_copies_are_known_by_what_they_were_copied_from(changed: bool) -> None:
    real, without = (initplug.record(lambda: encoder(changed), meta=on) for on in (False, True))
    assert without.meta
    assert [row.twin for row in without] == [row.twin for row in real]
    assert without.recipe == real.recipe


def test_a_padding_row_that_is_drawn_over_is_found_on_meta() -> None:
    def build() -> nn.Module:
        table = nn.Embedding(2000, 64, padding_idx=1)
        nn.init.normal_(table.weight, std=0.02)
        return nn.ModuleList([table, nn.Embedding(2000, 64, padding_idx=1)])

    real, without = (initplug.record(build, meta=on).problems() for on in (False, True))
    assert without == real
    said = "its code draws the row that is meant for padding, too, which every recipe zeroes: padding row 1 is not 0"
    assert without[0].reason == said


# The code is not told -------------------------------------------------------------------------------------------------


def test_code_is_told_that_tensors_are_on_the_cpu() -> None:
    told = []

    def build() -> nn.Module:
        layer = nn.Linear(300, 300)
        told.extend([layer.weight.is_meta, layer.weight.device.type, torch.zeros(3, device=layer.weight.device).sum()])
        if not layer.weight.is_meta:
            nn.init.zeros_(layer.weight)
        return layer

    recording = initplug.record(build, meta=True)
    assert told == [False, "cpu", 0]
    assert recording["weight"].outcome == Constant(0.0)


def test_small_tensors_have_their_values() -> None:
    def build() -> nn.Module:
        rates = [rate.item() for rate in torch.linspace(0, 0.1, 12)]
        return nn.ModuleList(nn.Linear(300, 300 if rate < 0.05 else 200) for rate in rates)

    recording = initplug.record(build, meta=True)
    assert recording.meta
    assert recording.problems() == []


@pytest.mark.parametrize("within", [lambda: torch.device("meta"), initplug.deferred], ids=["device", "deferred"])
def test_what_code_builds_on_meta_itself_is_recorded_there(within: Callable[[], Any]) -> None:
    def build() -> nn.Module:
        with within():
            layer = nn.Linear(4, 4)
            nn.init.trunc_normal_(layer.weight)  # which returns at once
            return layer

    with pytest.warns(initplug.InitplugWarning, match="^recorded on meta: its own code builds it there$"):
        recording = initplug.record(build)
    assert recording["weight"].outcome == TruncatedNormal(0.0, 1.0, -2.0, 2.0)
    assert recording.problems() == []


def test_a_model_that_is_there_on_meta_is_written() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300))
    recording = initplug.record(lambda: model.apply(lambda part: zero(part)), meta=True)
    assert recording["1.weight"].outcome == Constant(0.0)
    assert initplug.plan(model, recording.recipe)["1.bias"].init == "keep"


def zero(part: nn.Module) -> None:
    if isinstance(part, nn.Linear):
        nn.init.zeros_(part.weight)


# Values are needed ----------------------------------------------------------------------------------------------------


def needs_values() -> nn.Module:
    layer = nn.Linear(300, 300)
    nn.init.normal_(layer.weight, std=2.0)
    layer.weight.data.mul_(0.5 if layer.weight.std().item() > 1 else 1.0)
    return layer


LINE = needs_values.__code__.co_firstlineno + 3
NEEDED = (
    "on meta its code raises RuntimeError: Tensor.item() cannot be called on meta tensors "
    f"(tests/studies/test_meta.py:{LINE})"
)


def test_code_that_needs_values_runs_for_real_and_that_is_said() -> None:
    with pytest.warns(initplug.InitplugWarning) as caught:
        recording = initplug.record(needs_values, meta=True)
    assert [str(warning.message) for warning in caught] == [f"recorded for real: {NEEDED}"]
    assert not recording.meta
    assert vars_of(recording["weight"].outcome) == pytest.approx([0.0, 1.0])


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("on", [True, None])
def test_code_that_needs_values_and_more_memory_than_there_is_is_refused(on: bool | None) -> None:
    with pytest.raises(initplug.InitplugError) as caught:
        initplug.record(needs_values, meta=on)
    assert str(caught.value) == f"{NEEDED}, and for real it takes more than 0.0001 GB, half of what is free"


@pytest.mark.usefixtures("little_memory")
def test_a_model_that_would_not_fit_is_recorded_on_meta() -> None:
    ran = []

    def build() -> nn.Module:
        ran.append("begun")
        layer = nn.Linear(300, 300)
        ran.append("built")
        return layer

    with pytest.warns(initplug.InitplugWarning) as caught:
        recording = initplug.record(build)
    (warning,) = [str(warning.message) for warning in caught]
    assert warning == "recorded on meta: for real it takes more than 0.0001 GB, half of what is free"
    assert recording.headline() == "Linear: 90,300 elements; 1 rule gives 2 of 2 parameters what the code does; on meta"
    assert ran == ["begun", "begun", "built"]
    assert not initplug.record(lambda: nn.Linear(3, 3)).meta
    assert not initplug.record(build, meta=False).meta


@pytest.mark.usefixtures("little_memory")
def test_memory_that_is_given_back_is_not_counted() -> None:
    def build() -> nn.Module:
        for _ in range(10):
            nn.Linear(100, 100)
        return nn.Linear(100, 100)

    assert not initplug.record(build).meta


def test_memory_that_is_refused_is_not_asked_for() -> None:
    with pytest.warns(initplug.InitplugWarning, match="recorded on meta: for real it takes more memory than there is"):
        recording = initplug.record(lambda: nn.Linear(1 << 24, 1 << 24))
    assert recording.summary["numel"] == (1 << 48) + (1 << 24)


def test_memory_that_is_free_is_some() -> None:
    assert available_memory() > 1e6


# What is wrong --------------------------------------------------------------------------------------------------------


def empty() -> nn.Module:
    return nn.ParameterDict(
        {
            "small": nn.Parameter(torch.empty(3)),
            "part": nn.Parameter(half()),
            "large": nn.Parameter(torch.empty(300, 300)),
        }
    )


def half() -> Tensor:
    tensor = torch.empty(300, 300)
    tensor[:150].normal_()
    return tensor


@pytest.mark.parametrize("on", [False, True])
def test_memory_that_nobody_wrote_is_told_in_both_ways(on: bool) -> None:
    recording = initplug.record(empty, meta=on)
    assert recording.meta is on
    assert isinstance(recording["large"].outcome, Unwritten)
    first, second, third = recording.problems()
    assert [first.name, second.name, third.name] == ["large", "small", "part"]
    assert first.reason == second.reason == "memory that is never written"
    assert third.reason == "computed: a part of it is never written"
    assert "memory that is never written" in str(recording)


def late() -> nn.Module:
    nn.Linear(300, 300)
    raise LookupError("no such size")


def with_arguments(width: int) -> nn.Module:
    return nn.Linear(width, width)


def elsewhere() -> nn.Module:
    return nn.Linear(300, 300, device="cuda")


WRONG: list[tuple[Any, type[Exception], str]] = [
    (late, LookupError, "no such size"),
    (lambda: 3, initplug.InitplugError, "the function returned a int, not a torch.nn.Module"),
    (with_arguments, TypeError, r"with_arguments\(\) missing 1 required positional argument: 'width'"),
    (lambda: torch.jit.script(nn.Linear(2, 2)), initplug.InitplugError, "the model is a TorchScript module"),
]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("on", [False, True, None])
@pytest.mark.parametrize(("build", "error", "message"), WRONG)
def test_what_is_no_constructor_fails_as_it_does_for_real(
    build: Any, error: type[Exception], message: str, on: bool | None
) -> None:
    before = states()
    with pytest.raises(error, match=message):
        initplug.record(build, meta=on)
    assert states() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
@pytest.mark.parametrize("on", [False, True, None])
def test_a_device_that_is_not_there_is_told_by_torch(on: bool | None) -> None:
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
        initplug.record(elsewhere, meta=on)


def compiled() -> nn.Module:
    return torch.compile(nn.Linear(300, 300), backend="eager")  # type: ignore[return-value]  # an optimized module


def forking() -> nn.Module:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return nn.Linear(300, 300)


@pytest.mark.parametrize("on", [False, True])
def test_what_another_thread_draws_is_told_not_to_be_seen(on: bool) -> None:
    def build() -> nn.Module:
        built: list[nn.Module] = []
        thread = threading.Thread(target=lambda: built.append(nn.Linear(8, 8)))
        thread.start()
        thread.join()
        return built[0]

    reasons = {problem.reason for problem in initplug.record(build, meta=on).problems()}
    assert reasons == {ELSEWHERE}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("build", [compiled, forking])
def test_what_compiles_or_forks_is_recorded(build: Callable[[], nn.Module], on: bool) -> None:
    recording = initplug.record(build, meta=on)
    assert recording.problems() == []
    assert [row.name for row in recording] == ["weight", "bias"]


# Commands and locks ---------------------------------------------------------------------------------------------------

NETS = """
import torch
from torch import nn


def plain():
    return nn.Linear(300, 300)


def valued():
    layer = nn.Linear(300, 300)
    layer.scale = layer.weight.max().item()
    return layer


def empty():
    layer = plain()
    layer.token = nn.Parameter(torch.empty(400, 400))
    return layer
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    name = f"nets_{abs(hash(tmp_path))}.py"
    Path(name).write_text(NETS)
    return name


def test_the_command_records_on_meta(nets: str) -> None:
    real, without = (invoke("record", f"{nets}:plain", *given, status=0) for given in ([], ["--meta"]))
    assert without.stdout == real.stdout
    assert without.stderr.splitlines()[-1] == f"{real.stderr.splitlines()[-1]}; on meta"
    assert json.loads(invoke("record", f"{nets}:plain", "--meta", "--json", status=0).stdout)["meta"] is True
    assert json.loads(invoke("record", f"{nets}:plain", "--real", "--json", status=0).stdout)["meta"] is False


def test_the_command_says_where_values_are_needed(nets: str) -> None:
    result = invoke("record", f"{nets}:valued", "--meta", status=0)
    told = "on meta its code raises RuntimeError: Tensor.item() cannot be called on meta tensors"
    assert f"warning: recorded for real: {told} ({nets}:12)" in result.stderr.splitlines()


@pytest.mark.parametrize("way", ["--meta", "--real"])
def test_the_command_ends_in_status_1_where_memory_is_never_written(nets: str, way: str) -> None:
    result = invoke("record", f"{nets}:empty", way, status=1)
    *_, told, headline = result.stderr.splitlines()
    assert told == f"token: memory that is never written ({nets}:18)"
    assert headline.removesuffix("; on meta").endswith("2 of 3 parameters what the code does; 1 is never written")
    table = invoke("record", f"{nets}:empty", way, "--table", status=1).stdout
    assert "memory that is never written" in table


@pytest.mark.usefixtures("little_memory")
def test_the_command_refuses_what_does_not_fit(nets: str) -> None:
    result = invoke("record", f"{nets}:valued", status=1)
    assert "for real it takes more than 0.0001 GB, half of what is free" in result.stderr.splitlines()[-1]
    assert invoke("record", f"{nets}:plain", status=0).stderr.startswith("warning: recorded on meta: ")


def test_a_lock_of_a_recording_on_meta_is_held_on_meta(tmp_path: Path, nets: str) -> None:
    path = tmp_path / "init.lock.json"
    invoke("record", f"{nets}:plain", "--meta", "--lock", str(path), status=0)
    assert json.loads(path.read_text())["meta"] is True
    invoke("diff", f"{nets}:plain", "--lock", str(path), "--exit-code", status=0)
    built = []

    def build() -> nn.Module:
        layer = nn.Linear(300, 300)
        built.append(layer)
        return layer

    assert not hold_to_lock(build, path)
    assert built[0].weight.is_meta
    save_lock(initplug.record(build, meta=False), path)
    assert not hold_to_lock(build, path)
    assert not built[-1].weight.is_meta


@pytest.mark.parametrize("on", [False, True])
def test_both_ways_give_one_recipe(on: bool) -> None:
    def build() -> nn.Module:
        net = nn.Sequential(nn.Conv2d(64, 300, 3), nn.BatchNorm2d(300), nn.GRU(300, 300), nn.Linear(300, 300))
        nn.init.kaiming_normal_(net[0].weight, mode="fan_out")  # type: ignore[arg-type]  # a tensor
        return net

    recording = initplug.record(build, meta=on)
    assert recording.meta is on
    assert recording.problems() == []
    assert recording.recipe == initplug.record(build, meta=not on).recipe
    assert alike(recording["0.weight"].distribution, Normal(0.0, math.sqrt(2 / 2700)))
