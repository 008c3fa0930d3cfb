"""Inputs in words: shapes, dtypes, bounds, files, callables, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from initplug.errors import InitplugError
from initplug.studies.inputs import DrawnInput, arguments_of, make_inputs, parse_input


def made(*texts: str, seed: int = 0) -> Any:
    return make_inputs([parse_input(text) for text in texts], seed, call=lambda target: f"<{target}>")


@pytest.mark.parametrize(
    ("text", "name", "what"),
    [
        ("8x3x32x32", None, DrawnInput((8, 3, 32, 32))),
        ("7", None, DrawnInput((7,))),
        ("2x128:int64<50257", None, DrawnInput((2, 128), "int64", 50257)),
        ("mask=2x128:bool", "mask", DrawnInput((2, 128), "bool")),
        ("2x3:bfloat16", None, DrawnInput((2, 3), "bfloat16")),
        ("x=batch.pt", "x", Path("batch.pt")),
        ("some/where:odd.npy", None, Path("some/where:odd.npy")),
        ("my.data:batch", None, "my.data:batch"),
        ("x=data.py:batch(size=4)", "x", "data.py:batch(size=4)"),
        ("data.py:batch(size=4)", None, "data.py:batch(size=4)"),
    ],
)
def test_each_form_is_read(text: str, name: str | None, what: object) -> None:
    assert (parse_input(text).name, parse_input(text).what) == (name, what)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8*3", "input '8*3': expected one of 8x3x32x32, 2x128:int64<50257, batch.pt, package.module:callable"),
        ("", "input '': expected one of"),
        ("x=", "input 'x=': expected one of"),
        ("2x3:flot32", "flot32 is no dtype of inputs (did you mean float32?)"),
        ("2x0", "a size is at least 1"),
        ("2x3:int64", "whole numbers need a bound: '2x3:int64<1000' draws 0 to 999"),
        ("2x3<7", "only whole numbers have a bound: 2x3:int64<7"),
        ("2x3:int8<200", "the bound of int8 is from 1 to 128"),
        ("2x3:int64<0", "the bound of int64 is from 1 to 16777216"),
        ("2x3:int64<x", "expected one of"),
    ],
)
def test_what_is_no_input_is_told_with_a_way_out(text: str, said: str) -> None:
    with pytest.raises(InitplugError) as caught:
        parse_input(text)
    assert said in str(caught.value)


def test_floats_are_unit_normals_of_a_named_stream() -> None:
    drawn = made("100x100")
    assert isinstance(drawn, torch.Tensor) and drawn.shape == (100, 100)
    assert abs(drawn.mean()) < 0.05 and abs(drawn.std() - 1) < 0.03
    assert torch.equal(drawn, made("100x100")) and not torch.equal(drawn, made("100x100", seed=1))
    assert torch.equal(made("100x100:bfloat16"), drawn.bfloat16())
    named = made("a=100x100", "b=100x100")
    assert isinstance(named, dict) and not torch.equal(named["a"], named["b"])


def test_whole_numbers_are_as_likely_as_each_other() -> None:
    drawn = made("10000:int64<7")
    assert isinstance(drawn, torch.Tensor) and drawn.dtype == torch.int64
    counts = torch.bincount(drawn, minlength=7)
    assert len(counts) == 7 and (counts - 10000 / 7).abs().max() < 200
    mask = made("10000:bool")
    assert isinstance(mask, torch.Tensor) and mask.dtype == torch.bool and abs(mask.float().mean() - 0.5) < 0.03


def test_no_generator_is_moved() -> None:
    before = torch.get_rng_state()
    made("2x3", "4:int32<5")
    assert torch.equal(before, torch.get_rng_state())


def test_files_give_what_they_hold(tmp_path: Path) -> None:
    one, two = torch.arange(6.0).reshape(2, 3), torch.ones(2, dtype=torch.int64)
    np.save(tmp_path / "one.npy", one.numpy())
    torch.save({"x": one, "y": two}, tmp_path / "both.pt")
    torch.save((one, two), tmp_path / "pair.pth")
    save_file({"x": one, "y": two}, tmp_path / "both.safetensors")
    save_file({"z": one}, tmp_path / "single.safetensors")
    assert torch.equal(made(f"{tmp_path}/one.npy"), one)
    for file in ("both.pt", "both.safetensors"):
        held = made(f"{tmp_path}/{file}")
        assert isinstance(held, dict) and torch.equal(held["x"], one) and torch.equal(held["y"], two)
    pair = made(f"{tmp_path}/pair.pth")
    assert isinstance(pair, tuple) and torch.equal(pair[1], two)
    both = made(f"y={tmp_path}/both.safetensors", f"other={tmp_path}/single.safetensors")
    assert isinstance(both, dict) and torch.equal(both["y"], two) and torch.equal(both["other"], one)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1), "y": torch.ones(1)}, tmp_path / "both.safetensors")
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InitplugError, match=r"there is no file .*none\.pt"):
        made(f"{tmp_path}/none.pt")
    for file in ("bad.npy", "bad.pt", "bad.safetensors"):
        with pytest.raises(InitplugError, match="it cannot be read: "):
            made(f"{tmp_path}/{file}")
    with pytest.raises(InitplugError, match=r"the file holds no tensor z \(but others\)"):
        made(f"z={tmp_path}/both.safetensors")


def test_several_inputs_are_all_named_or_none() -> None:
    assert made("a=m:f", "b=m:g") == {"a": "<m:f>", "b": "<m:g>"}
    assert made("m:f", "m:g") == ("<m:f>", "<m:g>") and made("m:f") == "<m:f>"
    with pytest.raises(InitplugError, match="input '2x3': either all inputs have a name"):
        made("a=m:f", "2x3")
    with pytest.raises(InitplugError, match="a is given twice"):
        made("a=m:f", "a=m:g")


def test_mappings_are_keywords_and_tuples_places() -> None:
    tensor = torch.ones(2)
    assert arguments_of(tensor)[0][0] is tensor
    assert arguments_of((tensor, 3)) == ((tensor, 3), {}) and arguments_of({"x": 1}) == ((), {"x": 1})
    with pytest.raises(InitplugError, match="a mapping holds keyword arguments, and 3 is no name"):
        arguments_of({3: tensor})
