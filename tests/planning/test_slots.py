"""Slots by columns and slots one by one say the same, of all slots and of some."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from initplug.planning.slots import Kin, Slots
from initplug.planning.walk import buffers_of, walk


def entangled() -> nn.Module:
    """Ties within parameters, within buffers and under parametrizations, a lazy and an empty tensor."""
    model = nn.Module()
    model.emb = nn.Embedding(8, 4, padding_idx=0)
    model.norm = nn.BatchNorm1d(4)
    model.twin = nn.BatchNorm1d(4)
    model.twin.running_mean = model.norm.running_mean
    model.tight = parametrizations.weight_norm(nn.Linear(4, 8))
    model.head = nn.Linear(4, 8, bias=False)
    model.head.weight = model.emb.weight
    model.late = nn.LazyLinear(3)
    model.none = nn.Parameter(torch.empty(0, 3))
    model.frozen = nn.Parameter(torch.empty(4, dtype=torch.bfloat16), requires_grad=False)
    return model


def agree(slots: Slots) -> None:
    rows = [*slots]
    assert slots.names == [slot.name for slot in rows]
    assert slots.keys == [slot.key for slot in rows]
    assert slots.nodes == [slot.node for slot in rows]
    assert all(one is slot.tensor for one, slot in zip(slots.tensors, rows, strict=True))
    assert [*slots.kins] == [slot.kin for slot in rows]
    assert slots.tied == [row for row, slot in enumerate(rows) if slot.others]
    assert slots.computed == [row for row, slot in enumerate(rows) if slot.computed is not None]
    assert [slots[row] for row in range(len(slots))] == rows
    assert [slots[row - len(slots)] for row in range(len(slots))] == rows
    assert list(slots[1:4]) == rows[1:4]


@pytest.mark.parametrize("buffers", [True, False])
def test_columns_are_what_slots_have(buffers: bool) -> None:
    tree = walk(entangled(), buffers=buffers)
    agree(tree.slots)
    for chosen in ([], [0], [0, 3, 4], list(range(1, len(tree.slots)))):
        part = tree.slots.taken(np.array(chosen, np.intp))
        agree(part)
        assert [*part] == [tree.slots[row] for row in chosen]
        agree(part.taken(np.arange(len(part))[::2]))


def test_names_are_torchs_and_ties_are_one_slot() -> None:
    model = entangled()
    slots = walk(model).slots
    known = {slot.name: slot for slot in slots}
    assert known["emb.weight"].aliases == ("head.weight",)
    assert known["norm.running_mean"].aliases == ("twin.running_mean",)
    assert known["tight.weight"].computed is not None
    assert known["tight.weight"].kin.shape == (8, 4)
    plain = [name for name, _ in model.named_parameters() if "parametrizations" not in name]
    assert [slot.name for slot in slots if slot.kind == "parameter" and slot.computed is None] == plain
    assert [slot.name for slot in slots if slot.kind == "buffer"] == [name for name, _ in model.named_buffers()]


def test_what_is_alike_is_one_kin_and_what_differs_in_anything_is_not() -> None:
    layers = [nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 3), nn.Linear(2, 2).half(), nn.Bilinear(2, 2, 2)]
    frozen = nn.Linear(2, 2).requires_grad_(False)
    slots = walk(nn.Sequential(*layers, frozen)).slots
    kins: list[Kin] = [slot.kin for slot in slots if slot.key == "weight"]
    assert kins[0] is kins[1]
    assert len({*map(id, kins)}) == 5
    assert (kins[2].shape, kins[3].dtype, kins[4].cls) == ((3, 2), torch.float16, nn.Bilinear)
    assert [kin.trainable for kin in kins] == [True] * 5 + [False]


def test_a_slot_is_current_after_its_tensor_was_exchanged() -> None:
    slots = walk(nn.Linear(2, 2)).slots
    weight, new = slots[0], torch.ones(2, 2)
    slots.columns.tensors[0] = new
    assert weight.tensor is new
    assert weight == slots[0]
    assert weight != slots[1]
    assert len({weight, slots[0], slots[1]}) == 2


def test_buffers_are_found_where_the_walk_left_them_out() -> None:
    model = entangled()
    with_them, without = walk(model), walk(model, buffers=False)
    names = [slot.name for slot in buffers_of(with_them)]
    assert names == [slot.name for slot in buffers_of(without)] == [name for name, _ in model.named_buffers()]
