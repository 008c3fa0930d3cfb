"""`initplug probe`: what it prints and writes, what it takes, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ROOT, invoke
from safetensors.torch import save_file

DEEP = f"{ROOT}/examples/models/deep.py:DeepNet(depth=20,width=16,residual=False,classes=10)"
GPT = f"{ROOT}/examples/models/gpt.py:GPT(vocabulary=11,context=16,width=32,heads=2,layers=2)"
SMALL = ("--input", "4x3x16x16")

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.fc, self.out = nn.Linear(4, width), nn.Linear(width, 2)
    def forward(self, x, scale=None):
        print("noise of the model")
        return self.out(self.fc(x).relu())

class Broken(Net):
    def forward(self, x):
        return self.out(x)

def batch():
    return torch.ones(3, 4) * torch.arange(3).view(3, 1)

def total(output):
    return output.sum()
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probed_nets.py").write_text(MODELS)
    return f"{tmp_path}/probed_nets.py"


def test_recipes_are_drawn_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page = tmp_path / "picture.svg"
    done = invoke("probe", DEEP, "wrn", "--against", "torch_default,resnext", *SMALL, "--report", str(page), status=0)
    lines = done.stdout.splitlines()
    assert lines[0] == "against depth, 9 blocks: blocks.0 → blocks.8"
    assert [line.split()[0] for line in lines[2:5]] == ["wrn", "torch_default", "resnext"]
    assert max(map(len, lines)) <= 100
    assert lines[-1] == "DeepNet: inputs 4×3×16×16 float32; alarms: wrn none, torch_default 2, resnext none"
    assert page.read_text().count("<polyline") == 9


def test_alarms_end_in_status_1_where_that_is_asked_for() -> None:
    invoke("probe", DEEP, "torch_default", *SMALL, status=0)
    done = invoke("probe", DEEP, "torch_default", *SMALL, "--exit-code", status=1)
    assert "gradients vanish towards the input" in done.stdout
    invoke("probe", DEEP, "wrn", *SMALL, "--against", "torch_default", "--exit-code", status=0)


def test_overrides_name_the_trace(models: str) -> None:
    done = invoke(
        "probe", f"{models}:Net", "keep", "rules.all.init='normal std=2'", "--input", "9x4", "--json", status=0
    )
    (trace,) = json.loads(done.stdout)["traces"]
    assert trace["name"] == "keep rules.all.init='normal std=2'"
    assert trace["layers"][0]["std"] > 2
    assert "noise of the model" in done.stderr


def test_tokens_and_names(models: str) -> None:
    done = invoke("probe", GPT, "small_init", "--input", "2x16:int64<11>", "--json", status=0)
    assert json.loads(done.stdout)["inputs"] == "2×16 int64"
    named = invoke("probe", f"{models}:Net", "keep", "--input", "x=9x4", "--json", status=0)
    assert json.loads(named.stdout)["inputs"] == "x=9×4 float32"


def test_inputs_from_files_and_callables(models: str, tmp_path: Path) -> None:
    batch = torch.ones(3, 4) * torch.arange(3).view(3, 1)
    torch.save(batch, tmp_path / "batch.pt")
    np.save(tmp_path / "batch.npy", batch.numpy())
    save_file({"x": batch}, tmp_path / "batch.safetensors")
    told = [
        invoke("probe", f"{models}:Net", "torch_default", "--input", given, "--json", status=0).stdout
        for given in ("batch.pt", "batch.npy", "batch.safetensors", "probed_nets:batch", "x=batch.pt")
    ]
    layers = [json.loads(text)["traces"][0]["layers"] for text in told]
    assert all(one == layers[0] for one in layers)


def test_a_loss_of_ones_own(models: str) -> None:
    done = invoke("probe", f"{models}:Net", "keep", "--input", "9x4", "--loss", "probed_nets:total", "--json", status=0)
    trace = json.loads(done.stdout)["traces"][0]
    assert trace["start"] == "loss" and trace["layers"][-1]["gradient"] == 0, "of a sum it is 1 everywhere"


def test_widths_are_varied_in_one_command(models: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    mup = ("rules.all.match='<Linear>.weight'", "rules.all.init=kaiming_normal", "+rules.b={match: '*.bias', init: 0}")
    grown = ("+rules.out={match: out.weight, init: 'normal std=0.5'}",)
    arguments = (f"{models}:Net", "keep", *mup, *grown, "--vary", "model.width=64,256,1024", "--input", "64x4")
    done = invoke("probe", *arguments, status=0)
    assert "keep with 4 overrides: 1 of 3 layers change with model.width: std goes with model.width^0." in done.stdout
    assert " out " in done.stdout and "steady" in done.stdout
    data = json.loads(invoke("probe", *arguments, "--json", status=0).stdout)
    assert data["varied"]["values"] == ["64", "256", "1024"]
    assert [trace["layers"][0]["shape"][1] for trace in data["traces"]] == [64, 256, 1024]


def test_a_sweep_of_a_config_is_probed() -> None:
    config = ("--config-dir", f"{ROOT}/configs", "--config-name", "config")
    examples = pytest.MonkeyPatch()
    examples.chdir(ROOT / "examples")
    with examples.context():
        done = invoke("probe", *config, "init=torch_default,wrn", "model.depth=8", *SMALL, "--json", status=0)
        varied = invoke("probe", *config, "init=wrn", "--vary", "model.depth=8,14", *SMALL, "--json", status=0)
    examples.undo()
    assert [trace["name"] for trace in json.loads(done.stdout)["traces"]] == ["torch_default", "wrn"]
    assert json.loads(varied.stdout)["varied"] == {
        "key": "model.depth",
        "values": ["8", "14"],
        "recipes": ["wrn", "wrn"],
    }


def test_evaluation_mode_is_an_option(models: str) -> None:
    done = invoke("probe", "torch.nn:Dropout(0.5)", "keep", "--input", "4x4", status=1)
    assert "ProbeError: keep: nothing that forward gave needs a gradient" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--input", "8y3"), 2, "input '8y3': expected one of 8x3x32x32"),
        (("--input", "8x3:int64"), 2, "whole numbers need a bound"),
        (("--input", "missing.npy"), 2, "there is no file missing.npy"),
        (("--input", "probed_nets:nothing"), 2, "input 'probed_nets:nothing': probed_nets has no 'nothing'"),
        (
            ("--input", "9x4", "--loss", "probed_nets:nothing"),
            2,
            "--loss 'probed_nets:nothing': probed_nets has no",
        ),
        (("--input", "9x4", "--vary", "width"), 2, "--vary 'width': expected an argument of the model and its values"),
        (("--input", "9x4", "--vary", "width=2,2"), 2, "a value is there twice"),
        (("--input", "9x4", "--vary", "wdth=2,3"), 1, "unexpected keyword argument 'wdth'"),
        (("--input", "9x4", "--against", "wrm"), 2, "no preset and no file called 'wrm'"),
        (("--input", "9x4", "--report", "a.gif"), 1, "unknown suffix '.gif'"),
        (("--input", "z=9x4"), 1, "forward of Net takes no 'z' (it takes x, scale)"),
        (("--input", "9x5"), 1, "forward of fc (Linear) raised RuntimeError"),
        ((), 2, "Missing option '--input'"),
    ],
)
def test_what_is_wrong_is_told_in_lines(models: str, arguments: tuple[str, ...], status: int, said: str) -> None:
    done = invoke("probe", f"{models}:Net", "keep", *arguments, status=status)
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_help_says_what_it_does() -> None:
    text = " ".join(invoke("probe", "--help", status=0).stdout.split())
    for word in ("--against", "--vary", "model.width=64,128,256", "2x128:int64<50257", "gradients that vanish"):
        assert word in text
