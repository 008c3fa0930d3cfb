"""Sharded tensors: which part of the whole a rank holds, and with which other ranks.

Placements act on every dimension apart: a dimension's indices are split by each placement that cuts it, in the order of
the mesh, and a rank holds the product of what is left along each. Nothing of torch.distributed is imported before
somebody else has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from initplug.collectives import Circle
from initplug.filling.replicas import NO_REPLICAS, Replicas
from initplug.planning.parametrized import submodules_of
from initplug.planning.slots import PLAIN_TENSORS
from initplug.regions import Box, Region, Stretches, stretches_of
from initplug.torch_versions import STRIDED_UNEVENLY, dtensor, fsdp_module, marks_strided_shards

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor.placement_types import Placement


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is a DTensor.

    Example:
        >>> is_sharded(torch.zeros(2))
        False
    """
    if type(tensor) in PLAIN_TENSORS:  # nearly all
        return False
    sharded = dtensor()
    return sharded is not None and isinstance(tensor, sharded)


def local_of(tensor: Tensor) -> Tensor:
    """Return what this rank holds of a tensor; writing to it writes to the tensor."""
    if type(tensor) in PLAIN_TENSORS or not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        local: Tensor = cast("DTensor", tensor).to_local()
    return local


def unplaceable(tensor: Tensor) -> str | None:
    """Return why the elements of a DTensor have no place in a whole; None if they do."""
    placements = cast("DTensor", tensor).placements
    for placement in placements:
        if placement.is_partial():
            kind = type(placement).__name__.lstrip("_")
            return f"it is placed as {kind}: what a rank holds is a summand, which has no place in the whole"
        if not (placement.is_replicate() or _cuts(placement)):
            return f"its placement {placement} is none that is known"
    cut = [placement.dim for placement in placements if _cuts(placement)]  # type: ignore[attr-defined]  # those have one
    if len(cut) > len(set(cut)) and not marks_strided_shards():
        return f"one dimension is cut twice in its placements {placements}: torch says in which order since 2.5"
    strided = {placement.dim for placement in placements if _is_strided(placement)}  # type: ignore[attr-defined]  # as above
    if not STRIDED_UNEVENLY and any(_is_uneven(tensor, dim) for dim in strided):
        return f"one dimension is cut twice in unequal parts in its placements {placements}: torch can since 2.10"
    held, local = region_of(tensor), local_of(tensor)
    if held is None or held.sizes == tuple(local.shape) or not (held.count or local.numel()):
        return None
    return f"this rank holds {tuple(local.shape)}, where {held.sizes} was expected of its placements {placements}"


def _is_uneven(tensor: Tensor, dim: int) -> bool:
    """Return whether a dimension of a DTensor is cut into parts of unequal sizes."""
    sharded = cast("DTensor", tensor)
    parts = 1
    for placement, size in zip(sharded.placements, sharded.device_mesh.shape, strict=True):
        if _cuts(placement) and placement.dim == dim:  # type: ignore[attr-defined]  # those that cut have one
            parts *= size
    return tensor.shape[dim] % parts != 0


def _cuts(placement: Placement) -> bool:
    return placement.is_shard() or _is_strided(placement)


def _is_strided(placement: Placement) -> bool:
    return type(placement).__name__ == "_StridedShard"


def region_of(tensor: Tensor) -> Region | None:
    """Return what part of a tensor this rank holds; None for all of it.

    Args:
        tensor: plain, or a DTensor that `unplaceable` has no objection to.
    """
    if type(tensor) in PLAIN_TENSORS or not is_sharded(tensor):
        return None
    sharded = cast("DTensor", tensor)
    mesh = sharded.device_mesh
    region = region_at(tuple(tensor.shape), sharded.placements, tuple(mesh.shape), mesh.get_coordinate())
    return None if region.is_whole else region


def local_row(tensor: Tensor, row: int | None) -> int | None:
    """Return where a row of a tensor lies in what this rank holds; None if it holds none of it."""
    region = None if row is None else region_of(tensor)
    return row if region is None or row is None else region.place(0, row)


def region_at(
    shape: Sequence[int], placements: Sequence[Placement], mesh: Sequence[int], coordinate: Sequence[int] | None
) -> Region:
    """Return what part of a tensor the rank at a place of a mesh holds.

    Args:
        shape: sizes of the whole tensor.
        placements: one for each dimension of the mesh.
        mesh: its sizes.
        coordinate: of the rank; None for a rank outside the mesh, which holds nothing.

    Example:
        >>> region_at((7, 3), [], [], []).stretches, region_at((7, 3), [], [], None).count
        ((((0, 7),), ((0, 3),)), 0)
    """
    if coordinate is None:
        return Region(tuple(shape), ((),) * len(shape))
    cuts: list[list[tuple[Placement, int, int]]] = [[] for _ in shape]
    for placement, size, place in zip(placements, mesh, coordinate, strict=True):
        if _cuts(placement):
            cuts[placement.dim].append((placement, size, place))  # type: ignore[attr-defined]  # as those that cut have
    along = [_stretches_held(size, tuple(cut)) if cut else ((0, size),) for size, cut in zip(shape, cuts, strict=True)]
    return Region(tuple(shape), tuple(along))


@lru_cache(maxsize=4096)
def _stretches_held(size: int, cuts: tuple[tuple[Any, int, int], ...]) -> Stretches:
    """Return the indices along a dimension that are left of it, as torch itself cuts them."""
    dim = cuts[0][0].dim
    indices = torch.arange(size, device="cpu").view([1] * dim + [size])
    for placement, parts, place in cuts:
        pieces, _ = placement._split_tensor(indices, parts, with_padding=False, contiguous=True)
        indices = pieces[place] if place < len(pieces) else indices.narrow(dim, 0, 0)
    return stretches_of(indices.reshape(-1).numpy())


class Part(NamedTuple):
    """The part of a tensor that is held in one box: a view with the sizes of the box."""

    view: Tensor
    box: Box


def held_in(local: Tensor, region: Region | None) -> Iterator[Part]:
    """Yield the boxes of a region, as views of the tensor that holds it."""
    if region is None:
        yield Part(local, Box.whole(local.shape))
        return
    for places, box in region.boxes:
        view = local
        for dim, (place, size) in enumerate(zip(places, box.sizes, strict=True)):
            if size != local.shape[dim]:
                view = view.narrow(dim, place, size)
        yield Part(view, box)


def twin_of(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a DTensor without values of the same placements, whose local part is on a device."""
    with torch.no_grad():
        return torch.empty_like(tensor.detach(), device=device)


# Ranks --------------------------------------------------------------------------------------------------------


def reshard(model: nn.Module) -> None:
    """Make FSDP2 modules hold their shards: what is written to gathered parameters is lost."""
    wrapped = fsdp_module()
    if wrapped is None or not _distributed():
        return
    for module in submodules_of(model).values():
        if isinstance(module, wrapped):
            module.reshard()


def _distributed() -> bool:
    """Return whether there are other ranks that somebody has spoken to."""
    distributed: Any = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def has_other_ranks() -> bool:
    """Return whether there are other processes, which may hold other parts of a model."""
    return _distributed() and bool(sys.modules["torch.distributed"].get_world_size() > 1)


def undivided(*, experts: bool) -> bool:
    """Return whether no other rank can hold another part of a plain tensor.

    Args:
        experts: whether ranks share out experts, of which Megatron's tensor-parallel world says nothing.
    """
    for name in () if experts else ("megatron.core.parallel_state", "apex.transformer.parallel_state"):
        state: Any = sys.modules.get(name)
        if state is not None and state.model_parallel_is_initialized():
            return bool(state.get_tensor_model_parallel_world_size() == 1)
    return _distributed() and sys.modules["torch.distributed"].get_world_size() == 1


def circle_of(model: nn.Module, replicas: Replicas = NO_REPLICAS) -> Circle:
    """Return the ranks of a model's meshes and replicas, and the process groups over which they hear of each other.

    The default group, if a mesh or a group takes all its ranks; otherwise those of replicas and of each dimension of
    each mesh, in an order that all ranks have in common: one after another along a mesh, whatever the order in which a
    model holds its tensors.
    """
    if not _distributed():
        return Circle()
    import torch.distributed as dist

    meshes: dict[DeviceMesh, None] = {}
    for module in submodules_of(model).values() if dtensor() is not None else ():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            mesh = mesh_of(tensor) if tensor is not None else None
            if mesh is not None:
                meshes.setdefault(mesh)
    if not meshes and not replicas.groups:
        return Circle()
    together = [*(mesh.mesh.flatten().tolist() for mesh in meshes), *map(dist.get_process_group_ranks, replicas.groups)]
    ranks = frozenset(rank for members in together for rank in members)
    if any(len(members) == dist.get_world_size() for members in together):
        return Circle([dist.group.WORLD], ranks)
    groups: dict[tuple[int, ...], Any] = {}
    for group in (*replicas.groups, *(mesh.get_group(dim) for mesh in meshes for dim in range(mesh.ndim))):
        members = tuple(dist.get_process_group_ranks(group))
        if members not in groups or group.group_name < groups[members].group_name:
            groups[members] = group
    order = sorted(groups, key=lambda members: (tuple(rank - members[0] for rank in members), members[0]))
    return Circle([groups[members] for members in order], ranks)


def mesh_of(tensor: Tensor) -> DeviceMesh | None:
    """Return the mesh that a DTensor lives on; None for what is none, and for a rank that has no part in it."""
    if type(tensor) in PLAIN_TENSORS or not is_sharded(tensor):
        return None
    mesh = cast("DTensor", tensor).device_mesh
    return None if mesh.get_coordinate() is None else mesh
