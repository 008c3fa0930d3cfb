"""Copied and loaded values: bits, order, what is refused before the first write, and what audits say of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import command
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Tied, holding
from recipes import QUIET, rules, verdicts
from refusals import apply_error
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import initplug
from initplug.filling import copies, sources
from initplug.filling.copies import WINDOW_BYTES, windows


class Moco(nn.Module):
    """He et al. 2020: the key encoder begins as a copy of the query encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_q, self.encoder_k = self.encoder(), self.encoder()

    def encoder(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))


def loading(path: Path, **more: str) -> dict[str, Any]:
    return {**QUIET, "rules": {"*": {"fn": "load", "path": str(path), **more}}}


# --------------------------------------------------------------------------------------- copies

MOCO = "rules:\n  encoder_k.*: copy source=^encoder_q\n  encoder_q.*: default\n"


def test_a_momentum_encoder_has_the_bits_of_a_hand_written_loop() -> None:
    model, by_hand = Moco(), Moco()
    torch.manual_seed(0)
    audit = initplug.apply(model, MOCO)
    torch.manual_seed(0)
    for layer in by_hand.encoder_q.modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            layer.reset_parameters()
    for query, key in zip(by_hand.encoder_q.parameters(), by_hand.encoder_k.parameters(), strict=True):
        key.data.copy_(query.data)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True))
    assert audit.problems() == []
    assert {(row.status, row.verdict) for row in audit} == {("initialized", "ok")}
    row = audit["encoder_k.3.weight"]
    assert row.measured_std == audit["encoder_q.3.weight"].measured_std
    assert abs(row.measured_std / row.std - 1) < 0.5  # type: ignore[operator]  # a copy of a draw has both


def test_copies_consume_no_random_numbers() -> None:
    model = holding(a=torch.zeros(5), b=torch.zeros(5), c=torch.zeros(5))
    torch.manual_seed(0)
    initplug.apply(model, rules(a="copy source=b", b="normal", c="normal"))
    after = torch.rand(1)
    torch.manual_seed(0)
    first, second = torch.randn(5), torch.randn(5)
    assert [
        torch.equal(model.get_parameter(name), value) for name, value in zip("abc", (first, first, second), strict=True)
    ]
    assert torch.equal(model.get_parameter("a"), first)
    assert torch.equal(model.get_parameter("c"), second)
    assert torch.equal(after, torch.rand(1))


@given(data=st.data(), count=st.integers(2, 12))
@settings(max_examples=60, deadline=None)
def test_chains_of_copies_all_hold_what_their_first_source_does(data: st.DataObject, count: int) -> None:
    """Every slot but those that are drawn or kept copies one that comes earlier in a random order."""
    order = data.draw(st.permutations(range(count)))
    inits: dict[str, Any] = {}
    roots: dict[int, int] = {}
    for position, index in enumerate(order):
        link = data.draw(st.integers(-1, position - 1))
        drawn = data.draw(st.sampled_from(["normal", "uniform -1 1", "keep"]))
        inits[f"p{index}"] = drawn if link < 0 else f"copy source=p{order[link]}"
        roots[index] = index if link < 0 else roots[order[link]]
    model = holding(**{f"p{index}": torch.full((3,), float(index)) for index in range(count)})
    audit = initplug.apply(model, rules(**{name: inits[name] for name in data.draw(st.permutations(sorted(inits)))}))
    for index, root in roots.items():
        assert torch.equal(model.get_parameter(f"p{index}"), model.get_parameter(f"p{root}"))
        if inits[f"p{root}"] == "keep":
            assert model.get_parameter(f"p{index}").tolist() == [float(root)] * 3
    assert {row.verdict for row in audit if row.init is not None and row.init.startswith("copy")} <= {"ok"}


def test_a_long_chain_is_no_recursion() -> None:
    count = 3000
    model = holding(**{f"p{index}": torch.zeros(2) for index in range(count)})
    recipe = {"rules": {f"^p{index}": f"copy source=p{index + 1}" for index in range(count - 1)}}
    recipe["rules"][f"^p{count - 1}"] = "normal"
    audit = initplug.apply(model, recipe)
    assert torch.equal(model.get_parameter("p0"), model.get_parameter(f"p{count - 1}"))
    assert audit["p0"].std == 1.0
    assert model.get_parameter("p0").abs().min() > 0


def test_a_kept_source_is_copied_as_it_stands() -> None:
    model = holding(a=torch.zeros(3), b=torch.tensor([1.0, 2.0, 3.0]))
    audit = initplug.apply(model, rules(a="copy source=b"))
    assert model.get_parameter("a").tolist() == [1, 2, 3]
    assert [(row.status, row.verdict) for row in audit] == [("initialized", "ok"), ("kept", "untestable")]


def test_a_source_that_is_not_selected_is_copied_as_it_stands() -> None:
    model = holding(a=torch.zeros(3), b=torch.tensor([1.0, 2.0, 3.0]))
    audit = initplug.apply(model, rules(a="copy source=b", b="normal"), only="a")
    assert model.get_parameter("a").tolist() == model.get_parameter("b").tolist() == [1, 2, 3]
    assert [(row.status, row.verdict) for row in audit] == [("initialized", "ok"), ("kept", "untestable")]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float8_e4m3fn),
        (torch.float64, torch.float16),
        (torch.float8_e5m2, torch.float32),
        (torch.int64, torch.float32),
        (torch.bool, torch.int64),
        (torch.int64, torch.uint16),
        (torch.float32, torch.complex64),
        (torch.complex64, torch.complex128),
        (torch.complex64, torch.complex64),
    ],
    ids=str,
)
def test_a_shorter_dtype_gets_the_cast(source: torch.dtype, target: torch.dtype, tmp_path: Path) -> None:
    values = (torch.arange(24).reshape(4, 6) / (1 if not source.is_floating_point else 7)).to(source)
    model = holding(a=torch.zeros(4, 6, dtype=target), b=values)
    assert initplug.apply(model, rules(a="copy source=b"))["a"].verdict == "ok"
    assert torch.equal(model.get_parameter("a").view(torch.uint8), values.to(target).view(torch.uint8))
    save_file({"a": values}, tmp_path / "w.safetensors")
    other = holding(a=torch.zeros(4, 6, dtype=target))
    assert initplug.apply(other, loading(tmp_path / "w.safetensors"))["a"].verdict == "ok"
    assert torch.equal(other.get_parameter("a").view(torch.uint8), values.to(target).view(torch.uint8))


def test_a_view_of_another_layout_is_filled() -> None:
    model = holding(
        a=torch.zeros(3, 5).t(), b=torch.arange(15.0).reshape(5, 3), c=torch.zeros(5, 3)[:, :1].expand(5, 3)
    )
    assert initplug.apply(model, rules(a="copy source=b"))["a"].verdict == "ok"
    assert torch.equal(model.get_parameter("a"), model.get_parameter("b"))
    assert initplug.apply(model, rules(a="copy source=c"))["a"].verdict == "ok"
    assert model.get_parameter("a").eq(0).all()


def test_a_padding_row_holds_what_the_source_has_in_it(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(4, 3), nn.Embedding(4, 3, padding_idx=1))
    audit = initplug.apply(model, {"rules": {"0.*": "normal", "1.*": "copy source=^0"}})
    first, second = model.parameters()
    assert torch.equal(first, second)
    assert second[1].abs().min() > 0
    assert (audit["1.weight"].verdict, audit["1.weight"].measured_count) == ("ok", 12)
    save_file({"1.weight": torch.ones(4, 3)}, tmp_path / "w.safetensors")
    initplug.apply(model, {**QUIET, "rules": {"1.*": f"load path={tmp_path}/w.safetensors"}})
    assert second.eq(1).all()


def test_a_tied_tensor_is_copied_once_for_all_its_names() -> None:
    model = Tied()
    audit = initplug.apply(model, {"rules": {"*": "normal", "head.*": "copy source=^other"}})
    assert model.head.weight is model.emb.weight
    assert torch.equal(model.emb.weight, model.other.weight)
    assert audit["head.weight"].verdict == "ok"


def test_buffers_follow_as_parameters_do() -> None:
    model = Moco()
    model.get_buffer("encoder_q.1.running_mean").fill_(3)
    rule = {"match": "encoder_k", "init": "copy source=^encoder_q", "kind": "buffer"}
    audit = initplug.apply(model, {**QUIET, "rules": {"stats": rule}})
    assert model.get_buffer("encoder_k.1.running_mean").eq(3).all()
    assert audit["encoder_k.1.num_batches_tracked"].verdict == "ok"


def test_a_parameter_takes_the_values_of_a_buffer() -> None:
    model = nn.BatchNorm1d(3)
    model.get_buffer("running_var").fill_(7)
    assert initplug.apply(model, {**QUIET, "rules": {"*.weight": "copy source=running_var"}})["weight"].verdict == "ok"
    assert model.weight.eq(7).all()


def test_progress_counts_copies() -> None:
    seen: list[tuple[int, int]] = []
    model = holding(a=torch.zeros(3), b=torch.zeros(3))
    initplug.apply(model, rules(a="copy source=b", b=1), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_nothing_is_compared_without_measuring() -> None:
    model = holding(a=torch.zeros(3), b=torch.zeros(3))
    audit = initplug.apply(model, rules(a="copy source=b", b=1), measure=False)
    assert verdicts(audit) == {"a": "untestable", "b": "untestable"}


# --------------------------------------------------------------------------------------- what audits say


def test_an_audit_compares_a_copy_with_its_source_exactly() -> None:
    model = holding(a=torch.arange(6.0), b=torch.arange(6.0))
    recipe = rules(a="copy source=b")
    assert initplug.audit(model, recipe)["a"].verdict == "ok"
    with torch.no_grad():
        model.get_parameter("b")[3] = math.nextafter(3.0, 4.0)
    assert initplug.audit(model, recipe)["a"].verdict == "ok"  # the same float32
    with torch.no_grad():
        model.get_parameter("b")[3] += 1e-6
    audit = initplug.audit(model, recipe)
    assert (audit["a"].status, audit["a"].verdict) == ("read", "differs")
    assert [row.name for row in audit.problems()] == ["a"]


def test_an_audit_compares_with_the_file_exactly(tmp_path: Path) -> None:
    save_file({"a": torch.arange(6.0)}, tmp_path / "w.safetensors")
    model = holding(a=torch.arange(6.0))
    assert initplug.audit(model, loading(tmp_path / "w.safetensors"))["a"].verdict == "ok"
    with torch.no_grad():
        model.get_parameter("a")[5] += 1e-6
    assert initplug.audit(model, loading(tmp_path / "w.safetensors"))["a"].verdict == "differs"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e5m2, torch.complex64], ids=str)
def test_values_that_are_not_finite_differ(tmp_path: Path, bad: float, dtype: torch.dtype) -> None:
    values = torch.tensor([1.0, bad]).to(dtype)
    save_file({"a": values, "b": values.clone()}, tmp_path / "w.safetensors")
    model = holding(a=torch.zeros(2, dtype=dtype), b=torch.zeros(2, dtype=dtype))
    assert verdicts(initplug.apply(model, loading(tmp_path / "w.safetensors"))) == {"a": "differs", "b": "differs"}
    assert initplug.apply(model, rules(a="copy source=b"))["a"].verdict == "differs"


def test_a_value_beyond_the_dtype_differs(tmp_path: Path) -> None:
    save_file({"a": torch.tensor([1e6])}, tmp_path / "w.safetensors")
    model = holding(a=torch.zeros(1, dtype=torch.float16))
    assert initplug.apply(model, loading(tmp_path / "w.safetensors"))["a"].verdict == "differs"


def test_an_audit_finds_the_difference_in_the_last_window() -> None:
    size = WINDOW_BYTES // 4 * 3
    model = holding(a=torch.zeros(size), b=torch.zeros(size))
    with torch.no_grad():
        model.get_parameter("a")[-1] = 1
    assert initplug.audit(model, rules(a="copy source=b"))["a"].verdict == "differs"


# --------------------------------------------------------------------------------------- files


@given(shape=st.lists(st.integers(1, 9), max_size=4), itemsize=st.sampled_from([1, 2, 8]), limit=st.integers(8, 64))
@settings(max_examples=200, deadline=None)
def test_windows_cover_every_element_once_and_hold_to_their_limit(shape: list[int], itemsize: int, limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "WINDOW_BYTES", limit)
        seen = torch.zeros(shape)
        for window in windows(tuple(shape), itemsize):
            assert seen[window].numel() * itemsize <= limit
            seen[window] += 1
    assert seen.eq(1).all()


class Recorded:
    """What safetensors opened, with a note of every slice that is read."""

    def __init__(self, file: Any, sizes: list[int]) -> None:
        self.file, self.sizes = file, sizes

    def get_slice(self, key: str) -> Any:
        outer, part = self, self.file.get_slice(key)

        class Slice:
            get_shape, get_dtype = part.get_shape, part.get_dtype

            def __getitem__(self, window: Any) -> Tensor:
                values: Tensor = part[window]
                outer.sizes.append(values.numel() * values.element_size())
                return values

        return Slice()

    def get_tensor(self, key: str) -> Tensor:
        raise AssertionError("a whole tensor is read")


@pytest.mark.parametrize("shape", [(1 << 24,), (4096, 4096), (1, 2, 1 << 23), (3, 5 << 20)], ids=str)
def test_a_large_tensor_is_read_by_slices_of_a_few_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    values = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)
    save_file({"a": values}, tmp_path / "w.safetensors")
    sizes: list[int] = []
    opened: list[str] = []

    def recorded(path: Path) -> Recorded:
        opened.append(str(path))
        return Recorded(safe_open(path, framework="pt"), sizes)

    monkeypatch.setattr(sources, "open_weights", recorded)
    model = holding(a=torch.zeros(shape, dtype=torch.bfloat16))
    audit = initplug.apply(model, loading(tmp_path / "w.safetensors"))
    assert audit["a"].verdict == "ok"
    assert torch.equal(model.get_parameter("a"), values.bfloat16())
    assert max(sizes) <= 4 << 20
    assert sum(sizes) == 2 * values.numel() * 4  # once to fill, once to compare
    assert opened == [str(tmp_path / "w.safetensors")]


def test_a_state_dict_is_loaded_with_its_buffers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = Moco()
    source.encoder_q(torch.randn(4, 2, 3, 3))
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load = {"fn": "load", "path": str(tmp_path / "w.safetensors")}
    model = Moco()
    both = {"parameters": {"match": "*", "init": load}, "buffers": {"match": "*", "init": load, "kind": "buffer"}}
    audit = initplug.apply(model, {"rules": both})
    assert {row.verdict for row in audit} == {"ok"}
    assert audit.summary["slots"] == len(source.state_dict())
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.get_buffer("encoder_q.1.num_batches_tracked").item() == 1


def test_a_scalar_is_loaded(tmp_path: Path) -> None:
    save_file({"a": torch.tensor(3.0)}, tmp_path / "w.safetensors")
    model = holding(a=torch.tensor(0.0))
    assert initplug.apply(model, loading(tmp_path / "w.safetensors"))["a"].verdict == "ok"
    assert model.get_parameter("a").item() == 3


def test_a_copy_of_a_loaded_tensor_holds_what_the_file_does(tmp_path: Path) -> None:
    save_file({"b": torch.arange(3.0)}, tmp_path / "w.safetensors")
    model = holding(a=torch.zeros(3), b=torch.zeros(3))
    audit = initplug.apply(model, rules(a="copy source=b", b=f"load path={tmp_path}/w.safetensors"))
    assert model.get_parameter("a").tolist() == [0, 1, 2]
    assert verdicts(audit) == {"a": "ok", "b": "ok"}


def changed(path: Path, change: str) -> None:
    if change == "gone":
        path.unlink()
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    else:
        values = {
            "key": {"b": torch.zeros(3)},
            "shape": {"a": torch.zeros(4)},
            "dtype": {"a": torch.zeros(3, dtype=torch.complex64)},
        }
        save_file(values[change], path)


CHANGES = {
    "gone": "there is no file {path} any more",
    "cut": "{path} has changed: ",
    "key": "{path} has changed: ",
    "shape": "the shape of 'a' in {path} is (4,)",
    "dtype": "'a' in {path} is complex64, which cannot be cast to float32",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_after_the_plan_is_refused_before_the_first_write(tmp_path: Path, change: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    model = holding(a=torch.ones(3), c=torch.ones(3))
    plan = initplug.plan(model, rules(a=f"load path={path}", c=2))
    changed(path, change)
    lines = apply_error(model, plan).splitlines()
    assert lines[0] == "1 of 2 slots cannot be written"
    assert lines[1].startswith(f"  a: {CHANGES[change].format(path=path)}")
    with pytest.raises(initplug.ApplyError, match="1 of 2 slots cannot be compared with their file"):
        initplug.audit(model, plan)
    audit = initplug.apply(model, plan, only="c")
    assert [row.status for row in audit] == ["kept", "initialized"]


# --------------------------------------------------------------------------------------- what is refused


def test_a_source_on_meta_that_nothing_fills_is_refused() -> None:
    model = holding(a=torch.ones(3), b=torch.ones(3, device="meta"), c=torch.ones(3))
    recipe = rules(a="copy source=b", c=2)
    first, source, copied = apply_error(model, recipe).splitlines()
    assert first == "2 of 3 slots cannot be written"
    assert source.startswith("  b: no rule takes it, and there is nothing to keep: it is on meta (")
    assert source.endswith("such as `^b: 1`)")
    assert copied == "  a: its source b is on meta and holds no values"
    assert initplug.apply(model, recipe, only="c")["a"].status == "kept"


def test_a_sparse_source_is_refused() -> None:
    model = holding(a=torch.ones(3), b=torch.ones(3).to_sparse())
    assert (
        apply_error(model, rules(a="copy source=b")).splitlines()[1]
        == "  a: its source b cannot be read: its layout is sparse_coo"
    )


def test_a_part_whose_source_lies_outside_is_refused() -> None:
    plan = initplug.plan(Moco(), MOCO)
    stage = Moco().encoder_k
    lines = apply_error(stage, plan, prefix="encoder_k").splitlines()
    assert lines[0] == "5 of 5 slots cannot be written"
    assert lines[1] == "  encoder_k.0.weight: its source encoder_q.0.weight is not in this model"


def test_a_part_draws_what_it_copies_from_outside_under_a_seed() -> None:
    whole, stage = Moco(), Moco().encoder_k
    plan = initplug.plan(whole, MOCO)
    initplug.apply(whole, plan, seed=3)
    drawn = initplug.apply(stage, plan, seed=3, prefix="encoder_k")
    assert drawn.problems() == []
    for found, expected in zip(stage.parameters(), whole.encoder_k.parameters(), strict=True):
        assert torch.equal(found, expected)
    # With `only=` nobody knows what the others keep.
    with pytest.raises(initplug.ApplyError, match="is not in this model"):
        initplug.apply(stage, plan, seed=3, prefix="encoder_k", only="*")


def test_an_audit_of_such_a_part_cannot_test_its_copies() -> None:
    plan = initplug.plan(Moco(), MOCO)
    audit = initplug.audit(Moco().encoder_k, plan, prefix="encoder_k")
    assert {(row.status, row.verdict) for row in audit} == {("read", "untestable")}


def test_a_part_with_its_sources_takes_the_plan_of_the_whole() -> None:
    whole = nn.Sequential(Moco(), Moco())
    plan = initplug.plan(
        whole, {"rules": {"*": "default", "encoder_k": {"match": "encoder_k", "init": "copy source=^1.encoder_q"}}}
    )
    stage = Moco()
    audit = initplug.apply(stage, plan, prefix="1")
    assert audit.problems() == []
    assert torch.equal(stage.get_parameter("encoder_q.3.weight"), stage.get_parameter("encoder_k.3.weight"))


def test_a_part_may_know_the_source_by_an_alias_alone() -> None:
    whole = Tied()
    whole.dec = nn.ModuleDict({"head": whole.head, "copy": nn.Embedding(4, 3)})
    del whole.head
    plan = initplug.plan(whole, {"rules": {"*": "normal", "dec.copy.*": "copy source=^emb"}})
    stage = nn.ModuleDict({"head": nn.Linear(3, 4, bias=False), "copy": nn.Embedding(4, 3)})
    audit = initplug.apply(stage, plan, prefix="dec")
    assert torch.equal(*stage.parameters())
    assert audit.problems() == []


def test_a_reused_plan_asks_again_what_can_be_cast() -> None:
    plan = initplug.plan(holding(a=torch.zeros(3), b=torch.zeros(3)), rules(a="copy source=b"))
    model = holding(a=torch.zeros(3, dtype=torch.int64), b=torch.zeros(3))
    assert apply_error(model, plan).splitlines()[1] == "  a: b is float32, which cannot be cast to int64"


def test_a_failure_while_copying_says_what_was_written() -> None:
    shared = torch.zeros(4)
    model = holding(a=torch.zeros(2), b=shared[:3], c=shared[1:])
    with pytest.raises(initplug.ApplyError, match=r"writing stopped at c: RuntimeError(.|\n)*1 of 2 slots"):
        initplug.apply(model, rules(a=1, c="copy source=b"))


# --------------------------------------------------------------------------------------- command line

MODEL = """\
from torch import nn


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("round_trip")
    (folder / "model.py").write_text(MODEL)
    (folder / "recipes").mkdir()
    (folder / "recipes" / "load.yaml").write_text(
        "rules:\n  all: {match: '*', init: {fn: load, path: ../first.safetensors}}\n"
    )
    done = command(folder, "apply", "model.py:net", "torch_default", "--out", "first.safetensors")
    assert done.returncode == 0, done.stderr
    return folder


def test_what_apply_saves_a_recipe_loads_bit_for_bit(folder: Path) -> None:
    done = command(folder, "apply", "model.py:net", "recipes/load.yaml", "--out", "second.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = (load_file(folder / f"{name}.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    done = command(folder, "audit", "model.py:net", "recipes/load.yaml", "--weights", "first.safetensors")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_model_on_meta_is_planned_on_the_command_line(folder: Path) -> None:
    done = command(folder, "plan", "model.py:net", "recipes/load.yaml", "rules.all.init.path=first.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert "load path=first.safetensors" in done.stdout


def test_a_missing_file_is_a_line_on_the_command_line(folder: Path) -> None:
    done = command(folder, "apply", "model.py:net", "recipes/load.yaml", "rules.all.init.path=nope.safetensors")
    assert done.returncode == 1
    assert f"load: there is no file {folder}/nope.safetensors; rule 'all'" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_weights_are_not_what_the_recipe_says(folder: Path) -> None:
    done = command(folder, "audit", "model.py:net", "recipes/load.yaml")
    assert done.returncode == 1
    assert "slots are not what the recipe says" in done.stderr
