"""Parts of tensors: every rank's region, counted by hand, and words of any rows against those of the whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_parts import STRIDED, Placement, Replicate, Shard, StridedShard

from initplug.auditing.moments import Measured, Moments, measure
from initplug.auditing.ranks import RankEntry, merged
from initplug.auditing.verdicts import OK, Judgement
from initplug.columns import coded
from initplug.filling.batches import SMALL, Lot, LotKind
from initplug.filling.seeded import fill_from_names
from initplug.filling.sharding import held_in, is_sharded, region_at
from initplug.regions import Box, Region, split, stretches_of
from initplug.schemes.compositions import Drawn, Stacked
from initplug.schemes.distributions import Constant, Normal, Uniform


@st.composite
def placed(draw: Any) -> tuple[tuple[int, ...], list[Placement], list[int]]:
    """A shape, placements, and the mesh that they are for."""
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=3)))
    mesh = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    dims = st.integers(0, len(shape) - 1)
    plain = st.one_of(st.just(Replicate()), dims.map(Shard))
    factors = st.integers(1, 3)
    cuts = st.one_of(plain, st.builds(StridedShard, dims, split_factor=factors)) if STRIDED else plain
    return shape, [draw(cuts) for _ in mesh], mesh


def cut(shape: Sequence[int], placements: list[Placement], mesh: list[int], coordinate: Sequence[int]) -> Region:
    """What a rank holds, if torch cuts it at all: before 2.8 it cuts nothing unevenly in strides."""
    try:
        return region_at(shape, placements, mesh, coordinate)
    except AssertionError as error:
        assume("only allows even sharding" not in str(error))
        raise


@given(placed())
def test_the_ranks_of_a_mesh_hold_every_element_as_often_as_it_is_replicated(
    given: tuple[tuple[int, ...], list[Placement], list[int]],
) -> None:
    shape, placements, mesh = given
    held = np.zeros(shape, np.int64)
    for coordinate in itertools.product(*map(range, mesh)):
        region = cut(shape, placements, mesh, coordinate)
        assert region.count == sum(box.count for _, box in region.boxes)
        for _, box in region.boxes:
            held[tuple(slice(start, start + size) for start, size in zip(box.starts, box.sizes, strict=True))] += 1
    copies = math.prod(size for size, placement in zip(mesh, placements, strict=True) if placement.is_replicate())
    assert (held == copies).all()


def moments_of_fill(tensor: Tensor, distribution: Drawn, kind: LotKind, seed: int) -> Moments | None:
    measured = Measured.none(1)
    fill_from_names([Lot(kind, coded([distribution]), [0], ["w"], [tensor])], seed, 1, measured, lambda _: None)
    return measured[0]


@settings(max_examples=60)
@given(placed(), st.sampled_from([Normal(0.0, 1.0), Uniform(-1.0, 2.0), Constant(3.0), "split"]))
def test_what_a_rank_fills_is_its_part_of_the_whole(
    given: tuple[tuple[int, ...], list[Placement], list[int]], distribution: Any
) -> None:
    shape, placements, mesh = given
    if distribution == "split":
        shape = (2 * shape[0], *shape[1:])
        distribution = Stacked((Normal(0.0, 1.0), Constant(1.0)), 0)
    whole = torch.empty(shape)
    moments_of_fill(whole, distribution, LotKind(False), 5)
    for coordinate in itertools.product(*map(range, mesh)):
        region = cut(shape, placements, mesh, coordinate)
        local = torch.full(region.sizes, math.nan)
        moments_of_fill(local, distribution, LotKind(False, region), 5)
        for view, box in held_in(local, region):
            assert torch.equal(view, whole[box.within(Box.whole(shape))])


@pytest.mark.parametrize("size", [1, 5, 8, 96, 97, 500, SMALL, SMALL + 1, 3 * SMALL])
@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_small_and_large_parts_of_vectors_and_rows_are_those_of_the_whole(size: int, ranks: int) -> None:
    for shape, dim in [((size * ranks + 1,), 0), ((5, size * ranks + 1), 1), ((size + 3, 9), 0)]:
        whole = torch.empty(shape)
        moments_of_fill(whole, Normal(0.0, 1.0), LotKind(False), 1)
        for rank in range(ranks):
            region = region_at(shape, [Shard(dim)], [ranks], [rank])
            local = torch.empty(region.sizes)
            moments = moments_of_fill(local, Normal(0.0, 1.0), LotKind(True, region), 1)
            assert torch.equal(local, whole.chunk(ranks, dim)[rank] if local.numel() else local)
            measured = measure(local)
            assert (moments is None) == (measured is None)
            if moments is not None and measured is not None:
                assert moments.numel == local.numel()
                assert moments.mean == pytest.approx(measured.mean, abs=1e-6)


def test_places_of_indices_in_what_is_held() -> None:
    region = Region((10, 2), (stretches_of(np.array([0, 1, 6, 7, 8])), ((1, 1),)))
    assert [region.place(0, index) for index in (0, 1, 2, 6, 8, 9)] == [0, 1, None, 2, 4, None]
    assert not region.is_whole
    assert Region.whole((10, 2)).is_whole
    assert region_at((4,), [Shard(0)], [2], None).count == 0


def test_parts_of_an_extent_are_as_torch_cuts_chunks() -> None:
    whole = torch.arange(24).view(4, 6)
    for dim in (0, 1, -1):
        for box, chunk in zip(split(Box.whole((4, 6)), [(4, 6)[dim] // 2] * 2, dim), whole.chunk(2, dim), strict=True):
            assert torch.equal(whole[box.within(Box.whole((4, 6)))], chunk)


def test_plain_tensors_are_not_sharded_and_a_part_is_counted_once() -> None:
    assert not is_sharded(torch.zeros(2))
    assert not is_sharded(torch.nn.Parameter(torch.zeros(2)))
    halves = [Region((4,), (((0, 2),),)), Region((4,), (((2, 2),),))]
    parts = [
        RankEntry(Moments(2, mean, 0.5, mean - 1, mean + 1), halves[int(mean)], "initialized", OK) for mean in (0, 1)
    ]
    found = merged([*parts, *parts], 4)
    assert found.moments == pytest.approx(Moments(4, 0.5, math.sqrt(0.5), -1, 2))
    assert (found.whole, found.judgement) == (True, OK)
    worse = parts[0]._replace(judgement=Judgement("differs", "why"))
    assert merged([parts[0], worse, parts[1]], 4).judgement == Judgement("differs", "why")
    assert not merged(parts[:1], 4).whole
    assert merged([parts[0]._replace(region=None)], 4).moments == parts[0].moments
