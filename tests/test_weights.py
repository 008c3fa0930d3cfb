"""Weights in files: every kind of tensor is right or refused by name, and a file that does not fit changes nothing."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from nets import copied_state
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import register_parametrization

from initplug.cli import commands as cli
from initplug.cli.models import Failure
from initplug.cli.weights import load_weights, save_weights
from initplug.errors import visible
from initplug.planning.dtypes import CODES
from initplug.torch_versions import dtype_named


def with_buffers(**tensors: Tensor) -> nn.Module:
    module = nn.Module()
    for name, tensor in tensors.items():
        module.register_buffer(name, tensor)
    return module


def failure_of(work: Any, *arguments: Any) -> str:
    with pytest.raises(Failure) as caught:
        work(*arguments)
    assert "\n" not in caught.value.message or "not the model's weights\n" in caught.value.message
    return caught.value.message


# Writing ----------------------------------------------------------------------------------------------------


def values(dtype: torch.dtype) -> Tensor:
    return torch.arange(24).to(torch.uint8).view(2, 3, 4).to(dtype)


MADE: dict[str, Callable[[], dict[str, Tensor]]] = {
    "one of each dtype": lambda: {f"of_{word}": values(dtype) for word in CODES if (dtype := dtype_named(word))},
    "transposed": lambda: {"w": values(torch.float32).transpose(0, 2)},
    "channels last": lambda: {"w": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)},
    "expanded": lambda: {"w": torch.ones(1).expand(5), "scalar": torch.ones(()).expand(2, 2)},
    "every second": lambda: {"w": torch.arange(10.0)[1::2], "backwards": torch.arange(10.0).flip(0)},
    "parts of one memory": lambda: dict(enumerate_names(torch.arange(12.0))),
    "conjugated": lambda: {"w": torch.randn(3, dtype=torch.complex64).conj()},
    "negated": lambda: {"w": torch.randn(3, dtype=torch.complex64).conj().imag},
    "empty": lambda: {"none": torch.zeros(0), "rows": torch.zeros(0, 3), "columns": torch.zeros(3, 0)},
    "scalars": lambda: {"w": torch.tensor(3.0), "flag": torch.tensor(True)},
    "nothing": dict,
    "odd names": lambda: {name: torch.ones(2) for name in ('é"\\', "\n\x01\x7f", "名🙂", "\u2028", "a" * 3000)},
    "more than a window": lambda: {"rows": torch.arange(float(3 << 20)).view(3, -1), "w": torch.arange(float(3 << 20))},
    "more than a window, not contiguous": lambda: {"w": torch.arange(float(3 << 20)).view(-1, 3).t()},
}  # fmt: skip


def enumerate_names(whole: Tensor) -> list[tuple[str, Tensor]]:
    return [("whole", whole), ("view", whole.view(3, 4)), ("part", whole[2:7]), ("turned", whole.view(3, 4).t())]


@pytest.mark.parametrize("kind", MADE)
def test_a_file_is_to_the_byte_what_safetensors_writes(tmp_path: Path, kind: str) -> None:
    tensors: dict[str, Tensor] = MADE[kind]()
    module = nn.Module()
    for name, tensor in tensors.items():
        module.register_buffer(name, tensor)
    save_weights(module, tmp_path / "w.safetensors")
    plain = {name: tensor.resolve_conj().resolve_neg().contiguous().clone() for name, tensor in tensors.items()}
    assert (tmp_path / "w.safetensors").read_bytes() == save(plain, metadata={"format": "pt"})


def test_nothing_of_the_model_changes(tmp_path: Path) -> None:
    model = nn.Conv2d(4, 4, 3)
    model.weight.data = model.weight.data.contiguous(memory_format=torch.channels_last)
    weight, pointer, strides = model.weight, model.weight.data_ptr(), model.weight.stride()
    save_weights(model, tmp_path / "w.safetensors")
    assert (model.weight is weight, weight.data_ptr(), weight.stride()) == (True, pointer, strides)
    assert weight.requires_grad and weight.grad_fn is None


def test_tied_tensors_are_written_once_under_their_first_name(tmp_path: Path) -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    model["b"].weight = model["a"].weight
    save_weights(model, tmp_path / "w.safetensors")
    assert load_file(tmp_path / "w.safetensors").keys() == {"a.weight"}
    text = (tmp_path / "w.safetensors").read_bytes()
    assert json.loads(text[8 : 8 + int.from_bytes(text[:8], "little")])["__metadata__"] == {"format": "pt"}


def test_parametrized_tensors_are_written_as_what_they_are_made_of(tmp_path: Path) -> None:
    class Symmetric(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight + weight.t()

    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3))
    register_parametrization(model[1], "weight", Symmetric())
    save_weights(model, tmp_path / "w.safetensors")
    written = load_file(tmp_path / "w.safetensors")
    assert written.keys() == model.state_dict().keys()
    assert all(written[name].equal(tensor) for name, tensor in model.state_dict().items())
    before = copied_state(model)
    for tensor in model.state_dict().values():
        tensor.zero_()
    load_weights(model, tmp_path / "w.safetensors")
    assert all(before[name].equal(tensor) for name, tensor in model.state_dict().items())


class Twice(Tensor):
    """A tensor whose values are in another one."""

    first: Tensor

    @staticmethod
    def __new__(cls: Any, first: Tensor) -> Any:
        made = Tensor._make_wrapper_subclass(cls, first.shape, dtype=first.dtype)
        made.first = first
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["first"], None

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch passes them by place
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return cls(func(*(each.first if isinstance(each, Twice) else each for each in args), **(kwargs or {})))


REFUSED = [
    ("complex128", lambda: torch.zeros(2, dtype=torch.complex128), "its dtype is complex128, which the format lacks"),
    ("quantized", lambda: torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8), "its dtype is qint8, which"),
    ("sparse", lambda: torch.eye(3).to_sparse(), "it is sparse_coo, not dense"),
    ("nested", lambda: torch.nested.nested_tensor([torch.zeros(2)], layout=torch.jagged), "it is nested, not dense"),
    ("meta", lambda: torch.zeros(2, device="meta"), "it is on meta, where there are no values"),
    ("wrapper", lambda: Twice(torch.zeros(2)), "it is a Twice, whose values are in other tensors"),
    ("__metadata__", lambda: torch.zeros(2), "the format keeps this name for itself"),
    ("half\ud800", lambda: torch.zeros(2), "its name holds half a character (a surrogate)"),
]


@pytest.mark.parametrize(("name", "made", "reason"), REFUSED, ids=[ascii(name) for name, _, _ in REFUSED])
@pytest.mark.filterwarnings("ignore:.*(quantize|Sparse|nested).*")
def test_what_the_format_has_no_place_for_is_refused_by_name(tmp_path: Path, name: str, made: Any, reason: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("old")
    model = with_buffers(first=torch.zeros(2), **{name: made()})
    assert failure_of(save_weights, model, path).startswith(f"{path}: {visible(name)} cannot be saved: {reason}")
    assert path.read_text() == "old"


def test_what_cannot_be_saved_is_told_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef net():\n    net = nn.Linear(2, 2)\n"
        "    net.register_buffer('table', torch.zeros(2, dtype=torch.complex128))\n    return net\n"
    )
    (tmp_path / "zero.yaml").write_text("rules:\n  '*': 0\n")
    command = ["apply", "odd.py:net", "zero.yaml", "--out", "w.safetensors", "--report", "r.json"]
    done = CliRunner().invoke(cli.commands, command)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "w.safetensors: table cannot be saved: its dtype is complex128, which the format lacks\n"
    assert not (tmp_path / "r.json").exists()


# Reading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in MADE if kind not in ("expanded", "parts of one memory")])
def test_what_was_written_is_read_back(tmp_path: Path, kind: str) -> None:
    module = nn.Module()
    for name, tensor in MADE[kind]().items():
        module.register_buffer(name, tensor.clone())
    before = copied_state(module)
    save_weights(module, tmp_path / "w.safetensors")
    for tensor in module.state_dict().values():
        tensor.copy_(torch.zeros(()))
    load_weights(module, tmp_path / "w.safetensors")
    for name, tensor in module.state_dict().items():
        assert seen(tensor).equal(seen(before[name])), name


def seen(tensor: Tensor) -> Tensor:
    """The bytes of a tensor: not all dtypes can be compared."""
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def test_a_state_that_the_model_makes_anew_is_taken_back_by_the_model(tmp_path: Path) -> None:
    class Turned(nn.Module):
        """Keeps its weight turned, as some kernels want it, and tells nobody."""

        def __init__(self) -> None:
            super().__init__()
            self.kept = nn.Parameter(torch.zeros(3, 2))

        def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
            destination[f"{prefix}weight"] = self.kept.detach().t().clone()

        def _load_from_state_dict(self, state_dict: Any, prefix: str, *_: Any) -> None:
            with torch.no_grad():
                self.kept.copy_(state_dict[f"{prefix}weight"].t())

    model = Turned()
    weight = torch.arange(6.0).view(2, 3)
    save_file({"weight": weight}, tmp_path / "w.safetensors")
    load_weights(model, tmp_path / "w.safetensors")
    assert model.kept.equal(weight.t())


def test_lazy_modules_get_their_shapes_from_the_file(tmp_path: Path) -> None:
    save_file(nn.Linear(5, 3).state_dict(), tmp_path / "w.safetensors")
    model = nn.LazyLinear(3)
    load_weights(model, tmp_path / "w.safetensors")
    assert model.weight.shape == (3, 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weight": torch.zeros(3, 2)}, "  missing: bias"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "extra": torch.zeros(1)}, "  unknown: extra"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(3)}, "  weight: 2×3 in the file, 3×2 in the model"),
        ({"weight": torch.zeros(1, 2), "bias": torch.zeros(3)}, "  weight: 1×2 in the file, 3×2 in the model"),
        (
            {"weight": torch.zeros(3, 2, dtype=torch.complex64), "bias": torch.zeros(3)},
            "  weight is complex64, which cannot be cast to float32",
        ),
    ],
)
def test_weights_of_another_model_are_refused_and_nothing_is_read(
    tmp_path: Path, given: dict[str, Tensor], message: str
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(given, path)
    model = nn.Linear(2, 3)
    before = copied_state(model)
    assert failure_of(load_weights, model, path) == f"{path}: these are not the model's weights\n{message}"
    assert all(before[name].equal(tensor) for name, tensor in model.state_dict().items())


class TiedAndViewed(nn.Module):
    """A layer under two names, and a view of it under a third."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.head = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
        self.head.weight = self.emb.weight
        self.head.register_buffer("view", self.emb.weight.detach())


@pytest.mark.parametrize("other", ["head.weight", "head.view"])
def test_a_file_that_unties_what_is_tied_is_refused_and_nothing_is_read(tmp_path: Path, other: str) -> None:
    path, model = tmp_path / "w.safetensors", TiedAndViewed()
    same = {name: torch.ones(4, 3) for name in ("emb.weight", "head.weight", "head.view")}
    save_file({**same, other: torch.arange(12.0).view(4, 3)}, path)
    before = model.emb.weight.clone()
    assert failure_of(load_weights, model, path) == (
        f"{path}: these are not the model's weights\n"
        f"  {other}: other values in the file than emb.weight, which it is tied to in the model"
    )
    assert model.emb.weight.equal(before)
    save_file(same, path)
    load_weights(model, path)
    assert (model.emb.weight == 1).all()


def header(text: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


JUNK = {
    "empty": b"",
    "short": b"\x08\0\0",
    "no header": struct.pack("<Q", 100),
    "endless header": struct.pack("<Q", 1 << 62) + b"{}",
    "no JSON": header("weights"),
    "no mapping": header("[1, 2]"),
    "no dtype": header('{"a": {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)),
    "beyond the end": header('{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}', bytes(4)),
    "more than it says": header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', bytes(99)),
    "backwards": header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', bytes(4)),
    "huge shape": header('{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4]}}'),
    "a pickle": b"\x80\x04\x95" + bytes(200),
    "a zip": b"PK\x03\x04" + bytes(200),
    "text": b"rules:\n  '*': 0\n" * 100,
    "not UTF-8": struct.pack("<Q", 8) + b"\xff" * 8,
}  # fmt: skip


@pytest.mark.parametrize("kind", JUNK)
def test_junk_is_answered_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(JUNK[kind])
    assert re.fullmatch(
        rf"{re.escape(str(path))}( is no safetensors file)?: .*", failure_of(load_weights, nn.Linear(2, 2), path)
    )


def test_packed_numbers_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(header('{"w": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}', bytes(2)))
    message = "the dtype of w, F4, is none that can be cast"
    assert (
        failure_of(load_weights, with_buffers(w=torch.zeros(4)), path)
        == f"{path}: these are not the model's weights\n  {message}"
    )


@pytest.mark.parametrize("option", ["--weights", "--against"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere: there is no such file"),
        (".", ".: it is no regular file"),
        ("/dev/zero", "/dev/zero: it is no regular file"),
        ("file/below", "file/below: there is no such file"),
        ("x" * 256, f"{'x' * 256}: cannot be read: File name too long"),
    ],
)
def test_what_is_no_file_is_refused_before_the_model_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    done = CliRunner().invoke(cli.commands, ["audit", "torch.nn:Linear(2, 2)", "torch_default", option, name])
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"{message}\n")
