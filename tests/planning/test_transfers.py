"""Copies and loads as they are planned: what they come down to, what is refused, and with which words."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Tied, holding
from recipes import QUIET, rules
from refusals import plan_error
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_parts import PACKED

import initplug
from initplug.planning import copies as transfers
from initplug.planning.copies import castable, depths, settled
from initplug.schemes.compositions import Copy, Keep, Load, Planned
from initplug.schemes.distributions import Constant, Normal


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)


class Moco(nn.Module):
    """A momentum encoder: keys begin as a copy of the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_q, self.encoder_k = self.encoder(), self.encoder()

    def encoder(self) -> nn.Module:
        encoder = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        encoder.add_module("layers", nn.ModuleList([Attention(), Attention()]))
        return encoder


def reason(model: nn.Module, recipe: Any, **options: Any) -> str:
    """Of the one finding that there is, without the rule."""
    lines = plan_error(model, recipe, **options).splitlines()
    assert lines[0] == "1 initializer does not fit"
    assert len(lines) == 2
    return lines[1].strip().rpartition("; rule ")[0]


def sources(plan: initplug.Plan) -> dict[str, str]:
    return {row.name: row.distribution.source for row in plan if isinstance(row.distribution, Copy)}


# --------------------------------------------------------------------------------------- copies


def test_a_momentum_encoder_copies_by_name() -> None:
    plan = initplug.plan(Moco(), "rules:\n  encoder_q.*: default\n  encoder_k.*: copy source=^encoder_q\n", prefix="")
    assert sources(plan) == {
        row.name: row.name.replace("encoder_k", "encoder_q") for row in plan if row.name.startswith("encoder_k")
    }
    assert len(sources(plan)) == 8


def test_a_copy_expects_what_its_source_draws() -> None:
    plan = initplug.plan(Moco(), "rules:\n  encoder_q.*: default\n  encoder_k.*: copy source=^encoder_q\n")
    for row in plan:
        twin = plan[row.name.replace("encoder_k", "encoder_q")]
        assert (row.mean, row.std, row.low, row.high) == (twin.mean, twin.std, twin.low, twin.high)
    assert plan["encoder_k.0.weight"].high == pytest.approx(0.5)
    assert plan["encoder_k.1.weight"].mean == 1.0


def test_a_relative_source_is_read_from_the_owner() -> None:
    plan = initplug.plan(Moco(), {**QUIET, "rules": {"k.weight": "copy source=..q.weight"}})
    assert sources(plan) == {
        f"encoder_{side}.layers.{place}.k.weight": f"encoder_{side}.layers.{place}.q.weight"
        for side in "qk"
        for place in (0, 1)
    }


def test_a_module_as_source_means_the_longest_end_of_the_name() -> None:
    model = nn.Module()
    model.a, model.b = nn.Module(), nn.Linear(2, 2)
    model.a.b, model.a.weight = nn.Linear(2, 2), nn.Parameter(torch.zeros(2, 2))
    plan = initplug.plan(model, {**QUIET, "rules": {"^b.weight": "copy source=^a"}})
    assert sources(plan) == {"b.weight": "a.b.weight"}
    del model.a.b
    plan = initplug.plan(model, {**QUIET, "rules": {"^b.weight": "copy source=^a"}})
    assert sources(plan) == {"b.weight": "a.weight"}


def test_a_source_is_known_by_every_name_and_told_by_the_canonical_one() -> None:
    plan = initplug.plan(
        Tied(), {"rules": {"*": "normal std=2", "other": {"match": "other", "init": "copy source=^head"}}}
    )
    assert sources(plan) == {"other.weight": "emb.weight"}
    assert plan["other.weight"].std == 2.0


def test_buffers_are_copied_from_buffers() -> None:
    rule = {"match": "encoder_k", "init": "copy source=^encoder_q", "kind": "buffer", "ndim": 1}
    plan = initplug.plan(Moco(), {**QUIET, "rules": {"stats": rule}})
    assert sources(plan) == {f"encoder_k.1.running_{name}": f"encoder_q.1.running_{name}" for name in ("mean", "var")}


def test_a_parameter_may_be_copied_from_a_buffer() -> None:
    plan = initplug.plan(nn.BatchNorm1d(3), {**QUIET, "rules": {"*.weight": "copy source=running_var"}})
    assert sources(plan) == {"weight": "running_var"}
    assert (plan["weight"].mean, "running_var" in plan) == (None, False)


def test_a_plan_with_a_copy_is_data() -> None:
    plan = initplug.plan(Attention(), {"rules": {"q.*": "normal", "k.*": "copy source=..q.weight"}})
    row = json.loads(plan.to_json())["rows"][1]
    assert row["init"] == "copy source=..q.weight"
    assert row["distribution"] == "copy(q.weight)"
    assert (row["mean"], row["std"], row["low"], row["fan_in"]) == (0.0, 1.0, None, 4)
    assert pickle.loads(pickle.dumps(plan["k.weight"])) == plan["k.weight"]


def test_a_copy_of_a_copy_expects_what_the_first_draws() -> None:
    zero = torch.zeros(3)
    model = holding(a=zero, b=zero.clone(), c=zero.clone(), d=zero.clone())
    plan = initplug.plan(model, rules(d="uniform -1 1", a="copy source=b", b="copy source=c", c="copy source=d"))
    assert {name: plan[name].high for name in "abcd"} == dict.fromkeys("abcd", 1.0)
    kept = initplug.plan(model, rules(d="keep", a="copy source=b", b="copy source=c", c="copy source=d"))
    assert {name: kept[name].high for name in "abcd"} == dict.fromkeys("abcd")


@given(links=st.lists(st.integers(-1, 11), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_every_copy_ends_where_its_chain_does_and_every_circle_is_told_once(links: list[int]) -> None:
    planned: dict[str, Planned | None] = {
        str(index): Constant(float(index)) if link < 0 else Copy(str(link)) for index, link in enumerate(links)
    }

    def follow(index: int) -> int | None:
        """The end of a chain; None for one that runs in a circle."""
        for _ in range(len(links) + 1):
            if index >= len(links) or links[index] < 0:
                return index
            index = links[index]
        return None

    copies, circles = settled(planned)
    ends = {name: follow(int(name)) for name, made in planned.items() if isinstance(made, Copy)}
    assert copies == {
        name: Copy(str(links[int(name)]), Constant(float(end)))
        for name, end in ends.items()
        if end is not None and end < len(links)
    }
    # As many circles as there are sets of slots that reach themselves.
    reached = [frozenset(_orbit(links, index)) for index in range(len(links)) if index in _orbit(links, index)]
    assert len(circles) == len(set(reached))
    assert all(any(int(name) in orbit for orbit in reached) for name in circles)
    if not circles:
        found = depths(planned)
        assert all(found[name] == found.get(str(links[int(name)]), 0) + 1 for name in ends)


def _orbit(links: list[int], index: int) -> set[int]:
    seen: set[int] = set()
    while 0 <= index < len(links) and links[index] >= 0 and links[index] not in seen:
        index = links[index]
        seen.add(index)
    return seen


def test_a_circle_is_shown() -> None:
    zero = torch.zeros(3)
    model = holding(a=zero, b=zero.clone(), c=zero.clone(), d=zero.clone())
    recipe = rules(a="copy source=b", b="copy source=c", c="copy source=^b", d="copy source=a")
    assert reason(model, recipe) == "b (3,): copy: copies in a circle: b <- c <- b"


def test_a_tensor_is_no_source_of_its_own() -> None:
    model = nn.Linear(2, 2)
    assert reason(model, {**QUIET, "rules": {"*.weight": "copy source=weight"}}) == (
        "weight (2, 2): copy: a tensor cannot be its own source: weight <- weight"
    )


def test_nor_under_another_name() -> None:
    assert reason(Tied(), {**QUIET, "rules": {"emb": {"match": "emb", "init": "copy source=^head"}}}) == (
        "emb.weight (4, 3): copy: a tensor cannot be its own source: emb.weight <- head.weight, which is tied to it"
    )


def test_a_circle_through_a_tie_is_one() -> None:
    recipe = {"rules": {"emb.weight": "copy source=^other", "other.weight": "copy source=^head"}}
    assert reason(Tied(), recipe) == (
        "emb.weight (4, 3): copy: copies in a circle: emb.weight <- other.weight <- emb.weight"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("..p.weight", "there is no p.weight, which '..p.weight' refers to (did you mean q.weight?)"),
        ("^stages", "there is no stages, which '^stages' refers to"),
        ("...q.weight", "'...q.weight' climbs above the model"),
        ("..act", "there is no tensor below act whose name is an end of k.weight"),
        ("..wide.weight", "the shape of wide.weight is (5, 4)"),
        ("..lazy.weight", "its source lazy.weight waits for a first batch to learn its shape"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_source_that_is_none_has_its_message(source: str, expected: str) -> None:
    model = Attention()
    model.act, model.wide, model.lazy = nn.ReLU(), nn.Linear(4, 5), nn.LazyLinear(4)
    recipe = {**QUIET, "rules": {"k.weight": f"copy source={source}"}}
    assert reason(model, recipe) == f"k.weight (4, 4): copy: {expected}"


@pytest.mark.parametrize("source", ["^encoder_q", "...encoder_q"])
def test_a_source_outside_the_part_is_refused(source: str) -> None:
    recipe = {**QUIET, "rules": {"encoder_k.0.weight": f"copy source={source}"}}
    assert reason(Moco().encoder_k, recipe, prefix="encoder_k") == (
        f"encoder_k.0.weight (3, 4): copy: {source!r} lies outside the part 'encoder_k': plan the whole (meta) model"
    )


def test_a_source_inside_the_part_is_found() -> None:
    recipe = {**QUIET, "rules": {"1.k.weight": "copy source=^encoder_k.layers.0", "1.q.weight": "copy source=...0"}}
    assert sources(initplug.plan(Moco().encoder_k, recipe, prefix="encoder_k")) == {
        "encoder_k.layers.1.k.weight": "encoder_k.layers.0.k.weight",
        "encoder_k.layers.1.q.weight": "encoder_k.layers.0.q.weight",
    }


def test_the_root_of_a_part_may_be_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    model.weight = nn.Parameter(torch.zeros(2, 2))
    recipe = {**QUIET, "rules": {"0.weight": "copy source=^enc.dec.weight"}}
    assert sources(initplug.plan(model, recipe, prefix="enc.dec")) == {"enc.dec.0.weight": "enc.dec.weight"}
    recipe = {**QUIET, "rules": {"0.weight": "copy source=^enc.dec"}}
    assert "its own source: enc.dec.0.weight <- enc.dec.0.weight" in reason(model, recipe, prefix="enc.dec")


DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64]


@pytest.mark.parametrize("target", DTYPES, ids=str)
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_casts_that_cut_nothing_off_are_planned(source: torch.dtype, target: torch.dtype) -> None:
    real, whole = DTYPES[:3], DTYPES[3:6]
    refused = (source in real and target in whole) or (source.is_complex and not target.is_complex)
    model = holding(a=torch.zeros(3, dtype=source), b=torch.zeros(3, dtype=target))
    recipe = rules(b="copy source=a")
    if not refused:
        assert sources(initplug.plan(model, recipe)) == {"b": "a"}
        return
    names = [str(dtype).removeprefix("torch.") for dtype in (source, target)]
    assert reason(model, recipe) == f"b (3,): copy: a is {names[0]}, which cannot be cast to {names[1]}"


@PACKED
def test_packed_dtypes_are_cast_to_themselves_alone() -> None:
    assert castable(torch.float4_e2m1fn_x2, torch.float4_e2m1fn_x2)
    assert not castable(torch.float4_e2m1fn_x2, torch.float32)
    assert castable(torch.float8_e4m3fn, torch.float32)
    assert castable(torch.float32, torch.float8_e5m2)


def test_an_empty_copy_is_no_copy() -> None:
    plan = initplug.plan(holding(a=torch.zeros(0, 3)), {"rules": {"a*": "copy source=nothing"}})
    assert plan["a"].distribution is None


def test_a_kept_source_tells_nothing() -> None:
    plan = initplug.plan(Attention(), {"rules": {"q.*": "keep", "k.*": "copy source=..q.weight"}})
    assert plan["k.weight"].distribution == Copy("q.weight")
    assert (plan["k.weight"].mean, plan["k.weight"].std) == (None, None)
    assert isinstance(plan["q.weight"].distribution, Keep)


# --------------------------------------------------------------------------------------- files


def saved(path: Path, **named: Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name.replace("__", "."): tensor for name, tensor in named.items()}, path)
    return path


def loads(plan: initplug.Plan) -> dict[str, Load]:
    return {row.name: row.distribution for row in plan if isinstance(row.distribution, Load)}


def load_of(path: Path, **more: str) -> dict[str, Any]:
    return {"rules": {"*": {"fn": "load", "path": str(path), **more}}}


def test_a_load_finds_the_tensor_of_the_same_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", q__weight=torch.zeros(4, 4), k__weight=torch.zeros(4, 4))
    plan = initplug.plan(Attention(), load_of(path))
    assert loads(plan) == {name: Load(str(path), name) for name in ("q.weight", "k.weight")}
    row = json.loads(plan.to_json())["rows"][0]
    assert row["init"] == f"load path={path}"
    assert row["distribution"] == f"load({path}, key=q.weight)"
    assert (row["mean"], row["std"], row["low"], row["high"]) == (None, None, None, None)


def test_a_model_on_meta_is_planned(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", q__weight=torch.zeros(4, 4), k__weight=torch.zeros(4, 4))
    with torch.device("meta"):
        assert len(loads(initplug.plan(Attention(), load_of(path)))) == 2


def test_a_key_names_the_tensor(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", **{"0": torch.zeros(4, 4)})
    plan = initplug.plan(Attention(), f"rules:\n  a.*: 0\n  '*.weight': load path={path} key=0\nunused: ignore\n")
    assert {load.key for load in loads(plan).values()} == {"0"}


def test_a_prefix_stands_before_the_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", model__q__weight=torch.zeros(4, 4), model__k__weight=torch.zeros(4, 4))
    plan = initplug.plan(Attention(), load_of(path, prefix="model."))
    assert [load.key for load in loads(plan).values()] == ["model.q.weight", "model.k.weight"]


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_tied_tensor_is_found_by_an_alias(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file({f"{prefix}head.weight": torch.zeros(4, 3), f"{prefix}other.weight": torch.zeros(4, 3)}, path)
    plan = initplug.plan(Tied(), load_of(path, **({"prefix": prefix} if prefix else {})))
    assert loads(plan)["emb.weight"].key == f"{prefix}head.weight"


@pytest.mark.parametrize("shape", [(), (1,), (7, 3), (2, 9, 2)])
def test_names_of_a_tied_tensor_hold_the_same_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr(transfers, "WINDOW", 8)
    monkeypatch.setattr(transfers, "WINDOWS", 2)
    path, count = tmp_path / "w.safetensors", math.prod(shape)
    values = torch.arange(float(count)).view(shape)
    model = nn.Module()
    model.a = nn.Parameter(torch.zeros(shape))
    model.b = model.c = model.a
    for place in (None, *range(count)):
        other = values.clone()
        if place is not None:
            other.view(-1)[place] = -1
        save_file({"p.a": values, "p.b": values.clone(), "p.c": other}, path)
        if place is None:
            assert loads(initplug.plan(model, load_of(path, prefix="p."))) == {"a": Load(str(path), "p.a")}
        else:
            assert reason(model, load_of(path, prefix="p.")) == (
                f"a {shape}: load: {path} has other values for 'p.c' than for 'p.a', which are one tensor here; untie "
                "them, or name one with key="
            )
            assert loads(initplug.plan(model, load_of(path, key="p.c"))) == {"a": Load(str(path), "p.c")}


def two_names() -> Tied:
    model = Tied()
    del model.other
    return model


def test_names_of_a_tied_tensor_may_differ_in_what_a_cast_takes_away(tmp_path: Path) -> None:
    path, model = tmp_path / "w.safetensors", two_names()
    wide = torch.full((4, 3), 1.0, dtype=torch.float64)
    save_file({"emb.weight": wide, "head.weight": (wide * (1 + 2**-40))}, path)
    assert loads(initplug.plan(model, load_of(path)))["emb.weight"].key == "emb.weight"
    save_file({"emb.weight": wide, "head.weight": wide.bfloat16()}, path)
    assert loads(initplug.plan(model, load_of(path)))["emb.weight"].key == "emb.weight"
    save_file({"emb.weight": wide, "head.weight": torch.ones(3, 4)}, path)
    assert reason(model, load_of(path)) == f"emb.weight (4, 3): load: the shape of 'head.weight' in {path} is (3, 4)"
    nan = wide.float() * math.nan
    save_file({"emb.weight": nan, "head.weight": nan.clone()}, path)
    assert loads(initplug.plan(model, load_of(path)))["emb.weight"].key == "emb.weight"


def test_values_are_read_only_where_a_file_has_several_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, model = tmp_path / "w.safetensors", two_names()
    read: list[str] = []

    def watched(_: Path, first: str, other: str, __: tuple[int, ...]) -> Iterator[Any]:
        read.extend((first, other))
        yield from ()

    monkeypatch.setattr(transfers, "_side_by_side", watched)
    save_file({"head.weight": torch.ones(4, 3)}, path)
    initplug.plan(model, load_of(path))
    assert not read
    save_file({"emb.weight": torch.ones(4, 3), "head.weight": torch.ones(4, 3)}, path)
    initplug.plan(model, load_of(path))
    assert read == ["emb.weight", "head.weight"]


def test_names_in_a_file_are_those_of_the_whole_model(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", enc__q__weight=torch.zeros(4, 4), enc__k__weight=torch.zeros(4, 4))
    plan = initplug.plan(Attention(), load_of(path), prefix="enc")
    assert [load.key for load in loads(plan).values()] == ["enc.q.weight", "enc.k.weight"]


def test_what_is_no_safetensors_file_has_its_message(tmp_path: Path) -> None:
    model = holding(a=torch.zeros(3))
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\x00" * 4)
    assert reason(model, load_of(tmp_path / "none")) == f"a (3,): load: there is no file {tmp_path}/none"
    assert reason(model, load_of(tmp_path)) == f"a (3,): load: {tmp_path} is a folder"
    endless = tmp_path / ("x" * 300)
    assert reason(model, load_of(endless)) == f"a (3,): load: {endless} cannot be read: File name too long"
    assert reason(model, load_of(bad)).startswith(f"a (3,): load: {bad} is no safetensors file: ")
    assert reason(model, load_of(tmp_path / "a\0b")).endswith("a\\x00b")
    os.mkfifo(tmp_path / "pipe")
    assert reason(model, load_of(tmp_path / "pipe")).startswith("a (3,): load: ")


# Files of torch.save.


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "W.PT"])
def test_a_file_of_torch_save_is_loaded(tmp_path: Path, name: str) -> None:
    values = {"a": torch.randn(6, 4).t(), "b": torch.randn(3).bfloat16(), "c": torch.tensor(2.0)}
    torch.save({**values, "epoch": 3, "sizes": [4, 6]}, tmp_path / name)
    model = holding(a=torch.zeros(4, 6), b=torch.zeros(3), c=torch.zeros(()))
    for seed in (None, 0):
        audit = initplug.apply(model, load_of(tmp_path / name), seed=seed)
        assert {row.verdict for row in audit} == {"ok"}
        for key, value in values.items():
            assert torch.equal(model.get_parameter(key), value.float())
    with torch.no_grad():
        model.get_parameter("a")[3, 5] += 1
    assert initplug.audit(model, load_of(tmp_path / name))["a"].verdict == "differs"


def test_names_in_nested_mappings_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": {"a": torch.ones(3)}, "optimizer": {"state": {0: {"a": torch.zeros(3)}}}}, path)
    model = holding(a=torch.zeros(3))
    assert reason(model, load_of(path)) == f"a (3,): load: {path} has no 'a' (it has model.a: write prefix=model.)"
    initplug.apply(model, load_of(path, prefix="model."))
    assert model.get_parameter("a").tolist() == [1, 1, 1]


def test_a_file_of_torch_save_is_mapped_and_not_read_when_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = tmp_path / "w.pt", list[dict[str, Any]]()
    torch.save({"a": torch.ones(3)}, path)
    original = torch.load

    def load(*args: Any, **options: Any) -> Any:
        asked.append(options)
        return original(*args, **options)

    monkeypatch.setattr(torch, "load", load)
    initplug.plan(holding(a=torch.zeros(3)), load_of(path))
    assert asked == [{"map_location": "cpu", "weights_only": True, "mmap": True}]


class Code:
    """What a pickle may run."""

    def __reduce__(self) -> Any:
        return (os.mkdir, ("ran",))


def test_a_file_that_could_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pt"
    torch.save({"a": torch.ones(3), "b": Code()}, path)
    assert reason(holding(a=torch.zeros(3)), load_of(path)) == (
        f"a (3,): load: {path} holds more than tensors and plain data (posix.mkdir), which could run code: "
        "save its state_dict alone"
    )
    assert not (tmp_path / "ran").exists()


def test_what_torch_save_does_not_write_has_its_message(tmp_path: Path) -> None:
    model, path = holding(a=torch.zeros(3)), tmp_path / "w.pt"
    told = f"a (3,): load: {path} is no file that torch.save writes since 1.6: save it again"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert reason(model, load_of(path)) == told
    path.write_bytes(b"PK" * 40)
    assert reason(model, load_of(path)).startswith(f"a (3,): load: {path} ")
    path.write_bytes(b"")
    assert reason(model, load_of(path)).startswith(f"a (3,): load: {path} ")
    assert reason(model, load_of(tmp_path / "none.pt")) == f"a (3,): load: there is no file {tmp_path}/none.pt"


# What a file lacks and the rule before gives.


def recipe_after(path: Path, **rules: Any) -> dict[str, Any]:
    body = {"match": "*", "init": {"fn": "load", "path": str(path), "missing": "previous"}}
    return {"rules": {**rules, "body": body}}


def test_what_a_file_lacks_falls_to_the_rule_before(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", a=torch.ones(3), b=torch.ones(2))
    model = holding(a=torch.zeros(3), b=torch.zeros(4), c=torch.zeros(5))
    recipe = recipe_after(path, every={"match": "*", "init": 2}, c={"match": "c", "init": 3})
    plan = initplug.plan(model, recipe)
    assert [(row.name, row.rule, row.selector, row.shadowed) for row in plan] == [
        ("a", "body", "*", ("every",)),
        ("b", "every", "*", ()),
        ("c", "c", "c", ("every",)),
    ]
    assert [row.note for row in plan] == [
        None,
        f"the shape of 'b' in {path} is (2,); rule 'body' leaves it",
        f"{path} has no 'c'; rule 'body' leaves it",
    ]
    assert [str(note) for note in plan.notes if "leaves it" in note.message] == [
        f"rule 'every': the shape of 'b' in {path} is (2,); rule 'body' leaves it",
        f"rule 'c': {path} has no 'c'; rule 'body' leaves it",
    ]
    audit = initplug.apply(model, plan)
    assert [model.get_parameter(name).tolist() for name in "abc"] == [[1] * 3, [2] * 4, [3] * 5]
    assert not audit.problems()


def test_the_rule_before_may_be_a_file_too(tmp_path: Path) -> None:
    first = saved(tmp_path / "first.safetensors", a=torch.ones(3))
    second = saved(tmp_path / "second.safetensors", b=torch.ones(4))
    other = {"match": "*", "init": f"load path={first} previous"}
    recipe = recipe_after(second, every={"match": "*", "init": 2}, other=other)
    model = holding(a=torch.zeros(3), b=torch.zeros(4), c=torch.zeros(5))
    plan = initplug.plan(model, recipe)
    assert [row.rule for row in plan] == ["other", "body", "every"]
    assert plan["c"].note == (f"{second} has no 'c'; rule 'body' leaves it; {first} has no 'c'; rule 'other' leaves it")


def test_without_a_rule_before_it_is_an_error_or_kept(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", a=torch.ones(3))
    model = holding(a=torch.zeros(3), c=torch.zeros(5))
    assert reason(model, recipe_after(path)) == f"c (5,): load: {path} has no 'c', and no earlier rule takes it"
    plan = initplug.plan(model, {**recipe_after(path), "unmatched": "keep"})
    assert (plan["c"].rule, plan["c"].reason) == (None, "no rule")


def test_what_a_file_lacks_of_a_frozen_parameter_stays(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", a=torch.ones(3))
    model = holding(a=torch.zeros(3), c=torch.zeros(5)).requires_grad_(False)
    with pytest.warns(initplug.InitplugWarning, match="leave 1 frozen parameter alone"):
        plan = initplug.plan(model, recipe_after(path, every={"match": "*", "init": 2}))
    assert (plan["c"].rule, plan["c"].reason) == (None, "frozen")


def test_a_cast_that_cuts_off_is_no_lack(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", a=torch.ones(3, dtype=torch.complex64))
    recipe = recipe_after(path, every={"match": "*", "init": 2})
    assert "cannot be cast to float32" in reason(holding(a=torch.zeros(3)), recipe)


def test_a_tensor_that_is_not_in_the_file_has_a_neighbour(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", model__weight=torch.zeros(3))
    model = holding(weight=torch.zeros(3))
    assert reason(model, load_of(path)) == (f"weight (3,): load: {path} has no 'weight' (did you mean model.weight?)")
    assert reason(model, load_of(path, prefix="modl.")) == (
        f"weight (3,): load: {path} has no 'modl.weight' (did you mean model.weight?)"
    )


@pytest.mark.parametrize("init", ["load path={path}", "copy source=^encodr"])
def test_what_is_wrong_everywhere_is_searched_for_as_often_as_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str
) -> None:
    searched: list[str] = []
    monkeypatch.setattr(transfers, "did_you_mean", lambda word, known: searched.append(word))
    path = saved(tmp_path / "w.safetensors", **{f"encoder__{index}__kernel": torch.zeros(1) for index in range(50)})
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(50)))
    with pytest.raises(initplug.PlanError) as caught:
        initplug.plan(model, {"rules": {"*": init.format(path=path)}})
    assert len(caught.value.findings) == 100
    assert str(caught.value).splitlines()[-1] == "… and 90 more"
    assert len(searched) == 10


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", a=torch.zeros(3, 1))
    assert reason(holding(a=torch.zeros(3)), load_of(path)) == (f"a (3,): load: the shape of 'a' in {path} is (3, 1)")


@pytest.mark.parametrize(
    ("stored", "wanted"), [(torch.float32, torch.int64), (torch.bfloat16, torch.bool), (torch.complex64, torch.float32)]
)
def test_a_cast_that_cuts_off_is_refused(tmp_path: Path, stored: torch.dtype, wanted: torch.dtype) -> None:
    path = saved(tmp_path / "w.safetensors", a=torch.zeros(3, dtype=stored))
    names = [str(dtype).removeprefix("torch.") for dtype in (stored, wanted)]
    assert reason(holding(a=torch.zeros(3, dtype=wanted)), load_of(path)) == (
        f"a (3,): load: 'a' in {path} is {names[0]}, which cannot be cast to {names[1]}"
    )


@PACKED
def test_a_dtype_that_packs_numbers_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", a=torch.zeros(3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2))
    # Such a file counts its numbers one by one.
    assert reason(holding(a=torch.zeros(6)), load_of(path)) == (
        f"a (6,): load: the dtype of 'a' in {path}, F4, is none that can be cast"
    )


def test_a_finding_stands_at_its_rule(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("rules:\n  '*': 0\n  a*: load path=none.safetensors\n")
    assert plan_error(holding(a=torch.zeros(3)), recipe).splitlines()[1] == (
        f"  a (3,): load: there is no file {tmp_path}/none.safetensors; rule 'a*' ({recipe}:3)"
    )


# --------------------------------------------------------------------------------------- where a path starts


def paths(source: Any, **options: Any) -> list[str]:
    plan = initplug.plan(holding(a=torch.zeros(3)), initplug.load(source, **options))
    return [load.path for load in loads(plan).values()]


SPELLINGS = [
    "rules:\n  a*: load path=w.safetensors\n",
    "rules:\n  a*: {fn: load, path: w.safetensors}\n",
    "rules:\n  a*: {init: load path=w.safetensors}\n",
    "rules:\n  x: {match: a, init: load path=w.safetensors}\n",
    "rules:\n  x: {match: a, init: {fn: load, path: w.safetensors}}\n",
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_relative_path_starts_at_the_recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = saved(tmp_path / "recipes" / "w.safetensors", a=torch.ones(3))
    (tmp_path / "recipes" / "r.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert paths(tmp_path / "recipes" / "r.yaml") == [str(path)]
    recipe = initplug.load("recipes/r.yaml")
    monkeypatch.chdir("/")
    assert paths(recipe) == [str(path)]
    assert paths(pickle.loads(pickle.dumps(recipe))) == [str(path)]


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_file_that_defaults_include_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = saved(tmp_path / "base" / "w.safetensors", a=torch.ones(3))
    (tmp_path / "base" / "r.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    defaults = {"defaults": ["base/r.yaml"], "rules": {}}
    (tmp_path / "top.yaml").write_text(json.dumps(defaults))
    assert paths("top.yaml") == [str(path)]
    assert paths(defaults) == [str(path)]
    assert paths(json.dumps(defaults) + "\n") == [str(path)]


MERGED = "defaults: [base/r.yaml]\nrules:\n  x: {init: %s}\n"


@pytest.mark.parametrize(
    "given", ["{path: v.safetensors}", "{fn: load, path: v.safetensors}", "load path=v.safetensors"]
)
def test_a_path_that_is_merged_over_starts_at_the_file_on_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    saved(tmp_path / "base" / "v.safetensors", a=torch.ones(3))
    path = saved(tmp_path / "v.safetensors", a=torch.ones(3))
    (tmp_path / "base" / "r.yaml").write_text(SPELLINGS[-1])
    (tmp_path / "top.yaml").write_text(MERGED % given)
    monkeypatch.chdir("/")
    assert paths(tmp_path / "top.yaml") == [str(path)]
    monkeypatch.chdir(tmp_path)
    assert paths(MERGED % given) == [str(path)]


def test_a_mapping_over_a_file_starts_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "base" / "v.safetensors", a=torch.ones(3))
    path = saved(tmp_path / "v.safetensors", a=torch.ones(3))
    (tmp_path / "base" / "r.yaml").write_text(SPELLINGS[-1])
    monkeypatch.chdir(tmp_path)
    merged = {"defaults": ["base/r.yaml"], "rules": {"x": {"init": {"path": "v.safetensors"}}}}
    assert paths(merged) == [str(path)]


def test_what_is_merged_beside_the_path_leaves_it_where_it_was(tmp_path: Path) -> None:
    path = saved(tmp_path / "base" / "w.safetensors", b=torch.ones(3))
    (tmp_path / "base" / "r.yaml").write_text(SPELLINGS[-1])
    (tmp_path / "top.yaml").write_text(MERGED % "{key: b}")
    assert paths(tmp_path / "top.yaml") == [str(path)]


@pytest.mark.parametrize(
    "override",
    [
        "rules.x.init.path=v.safetensors",
        "rules.x.init='load path=v.safetensors'",
        "++rules.x={match: a, init: {fn: load, path: v.safetensors}}",
    ],
)
def test_a_path_in_an_override_starts_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    saved(tmp_path / "base" / "v.safetensors", a=torch.ones(3))
    path = saved(tmp_path / "v.safetensors", a=torch.ones(3))
    recipe = tmp_path / "base" / "r.yaml"
    recipe.write_text(SPELLINGS[-1])
    monkeypatch.chdir(tmp_path)
    assert paths("base/r.yaml", overrides=[override]) == [str(path)]
    assert paths(initplug.load(recipe), overrides=[override]) == [str(path)]


def test_a_path_beside_an_override_starts_at_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "base" / "w.safetensors", b=torch.ones(3))
    recipe = tmp_path / "base" / "r.yaml"
    recipe.write_text(SPELLINGS[-1])
    monkeypatch.chdir(tmp_path)
    for source in (recipe, initplug.load(recipe)):
        assert paths(source, overrides=["+rules.x.init.key=b"]) == [str(path)]


def test_texts_and_mappings_start_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omegaconf import OmegaConf

    path = saved(tmp_path / "w.safetensors", a=torch.ones(3))
    monkeypatch.chdir(tmp_path)
    mapping = {"rules": {"a*": "load path=w.safetensors"}}
    assert paths(SPELLINGS[0]) == paths(mapping) == paths(OmegaConf.create(mapping)) == [str(path)]


def test_a_recipe_is_as_portable_as_it_is_written(tmp_path: Path) -> None:
    recipes = []
    for folder in ("one", "two"):
        saved(tmp_path / folder / "w.safetensors", a=torch.ones(3))
        (tmp_path / folder / "r.yaml").write_text(SPELLINGS[-1])
        recipes.append(initplug.load(tmp_path / folder / "r.yaml"))
    assert recipes[0] == recipes[1]
    assert recipes[0].digest == recipes[1].digest
    assert str(tmp_path) not in recipes[0].to_yaml()
    shutil.rmtree(tmp_path / "two")
    assert paths(recipes[0]) == [str(tmp_path / "one" / "w.safetensors")]
    assert "there is no file" in plan_error(holding(a=torch.zeros(3)), recipes[1])


def test_the_distribution_of_a_source_is_not_of_the_copy() -> None:
    plan = initplug.plan(Attention(), {"rules": {"q.*": "normal std=3", "k.*": "copy source=..q.weight"}})
    assert plan["k.weight"].distribution == Copy("q.weight", Normal(0, 3))
