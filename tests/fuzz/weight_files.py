"""Files for `load`: safetensors whose header is cut, lies or says nothing sensible, and junk of other formats."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from fuzzing import well_said
from preset_pool import mutated
from torch import nn

import initplug

FOLDER = tempfile.TemporaryDirectory(prefix="initplug-fuzz-")
SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "C64": 8,
}
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1", "C64": "<c8"}
NUMBERS: list[Any] = [
    0, 1, -1, 2, 3, 4, 8, 24, 1 << 31, 1 << 32, 1 << 62, 1 << 63, 1 << 64, 10**30, -(1 << 63), 0.5, 1e400, None, "4",
    [], True,
]  # fmt: skip

Spec = tuple[Any, ...]
"""How a file is made: a header's text, its length (None for the true one), the data, and what is cut off."""


def made(random: Random) -> Spec:
    """A file, as `(header, length, data, cut)`, or `(bytes, )` of another format."""
    if random.random() < 0.05:
        return (random.choice(JUNK),)
    header: dict[str, Any] = {}
    offset = 0
    for name in random.sample(("w", "b", "weight", "bias", "0.weight"), random.randrange(1, 5)):
        shape = random.choice(([3, 2], [3], [2, 3], [], [0], [6], [3, 2, 1]))
        if random.random() < 0.8:
            shape = {"w": [3, 2], "weight": [3, 2], "0.weight": [3, 2]}.get(name, [3])
        dtype = random.choice([*SIZES] if random.random() < 0.4 else ("F32", "F32", "BF16", "F64"))
        size = int(np.prod(shape)) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    data = random.randbytes(offset)
    if random.random() < 0.1:
        header["__metadata__"] = random.choice(({"format": "pt"}, {"a": 1}, [], None, {"a": "\ud800"}, "x"))
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        _lie(random, header)
    text = json.dumps(header)
    if random.random() < 0.15:
        text = mutated(random, text)
    if random.random() < 0.05:  # a key that stands twice
        text = text.replace('"bias"', '"weight"').replace('"b"', '"w"')
    if random.random() < 0.2:
        text += " " * random.randrange(9)
    length = None
    if random.random() < 0.08:
        length = random.choice(
            (0, 1, 7, len(text) - 1, len(text) + 1, 1 << 20, 100_000_001, (1 << 63) - 1, (1 << 64) - 1)
        )
    cut = random.choice((1, 4, len(data), len(data) + 3, len(data) + len(text) + 4)) if random.random() < 0.1 else 0
    if random.random() < 0.05:
        data += random.randbytes(random.choice((1, 8, 100)))
    return text, length, data, cut


def _lie(random: Random, header: dict[str, Any]) -> None:
    name = random.choice([*header])
    entry = header[name]
    if not isinstance(entry, dict) or "shape" not in entry:
        return
    choice = random.randrange(9)
    if choice == 0:
        entry["data_offsets"] = [random.choice(NUMBERS), random.choice(NUMBERS)]
    elif choice == 1:
        entry["shape"] = random.choice(
            ([random.choice(NUMBERS)], [random.choice(NUMBERS), 2], None, 3, [1] * 40, [0, 1 << 62])
        )
    elif choice == 2:
        entry["dtype"] = random.choice(
            ("F32", "BF16", "f32", "F4", "F99", "", None, 3, "BOOL", "C64", "F8_E8M0", "F6_E2M3", "U64")
        )
    elif choice == 3:
        del entry[random.choice([*entry])]
    elif choice == 4:
        entry["extra"] = 1
    elif choice == 5:
        header[name] = random.choice((None, [], 3, {}, "x"))
    elif choice == 6:
        entry["data_offsets"] = [*reversed(entry.get("data_offsets", [0, 4]))]
    elif choice == 7:
        header[random.choice(("", "\x1b[31m", "w\n", "é", "x" * 300, "__metadata__"))] = header.pop(name)
    else:
        entry["shape"] = [*reversed(entry["shape"])] if isinstance(entry.get("shape"), list) else [3]


JUNK = [
    b"", b"\x00", b"\x00" * 8, b"\x00" * 100, b"\xff" * 8, b"\xff" * 100, b"PK\x03\x04" + b"\x00" * 30, b"{}",
    b"\x02\x00\x00\x00\x00\x00\x00\x00{}", b"\x80\x02}q\x00.", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}",
    b"GGUF" + b"\x00" * 20, b"\x89HDF\r\n\x1a\n" + b"\x00" * 20, b"rules:\n  '*': 0\n",
    b"\x04\x00\x00\x00\x00\x00\x00\x00null", b"\x02\x00\x00\x00\x00\x00\x00\x00[]",
    b"\x01\x00\x00\x00\x00\x00\x00\x00{",
]  # fmt: skip


def content_of(spec: Spec) -> bytes:
    """The bytes that a description of a file stands for."""
    if len(spec) == 1:
        return bytes(spec[0])
    text, length, data, cut = spec
    header = text.encode(errors="surrogatepass")
    content = struct.pack("<Q", len(header) if length is None else max(length, 0)) + header + data
    return bytes(content[: len(content) - cut] if cut else content)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3, 2), 7.0))
        self.bias = nn.Parameter(torch.full((3,), 7.0))


LOADS: list[dict[str, dict[str, str]]] = [
    {"*": {}},
    {"weight": {"key": "w"}, "bias": {"key": "b"}},
    {"weight": {"prefix": "0."}},
]
"""What rules load, by what they match: under the slot's own name, under a key, behind a prefix."""


def checked(spec: Spec) -> bool:
    """A file is loaded as an independent reader reads it, or refused; a refusal changes nothing."""
    path = Path(FOLDER.name) / "m.safetensors"
    content = content_of(spec)
    path.write_bytes(content)
    return sum(_loaded(path, content, load) for load in LOADS) > 0


def _loaded(path: Path, content: bytes, loads: dict[str, dict[str, str]]) -> bool:
    rules = {
        f"r{index}": {"match": match, "init": {"fn": "load", "path": str(path), **named}}
        for index, (match, named) in enumerate(loads.items())
    }
    model = Net()
    try:
        initplug.apply(model, {"unmatched": "keep", "rules": rules})
    except (initplug.PlanError, initplug.ApplyError) as error:
        well_said(error)
        assert "had been written" not in str(error), "refused after the first write"
        assert all(bool((tensor == 7).all()) for tensor in model.parameters()), "refused, and written to"
        return False
    for key, tensor in model.named_parameters():
        named = loads.get("*", loads.get(key))
        if named is not None:
            _same(content, named.get("key", named.get("prefix", "") + key), tensor)
    return True


def _same(content: bytes, key: str, tensor: torch.Tensor) -> None:
    """Raise unless a tensor is what stands in the file, read by hand."""
    (length,) = struct.unpack("<Q", content[:8])
    entry = json.loads(content[8 : 8 + length])[key]
    begin, end = entry["data_offsets"]
    data = content[8 + length + begin : 8 + length + end]
    assert entry["shape"] == list(tensor.shape)
    if entry["dtype"] == "BF16":
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif entry["dtype"] in NUMPY:
        values = np.frombuffer(data, NUMPY[entry["dtype"]])
    else:
        return
    with np.errstate(all="ignore"):
        wanted = values.astype(np.float32).reshape(tensor.shape)
    np.testing.assert_array_equal(tensor.detach().numpy(), wanted)
