"""Tensors that ranks share without a mesh: replicas, and what torch's first FSDP puts together for a while.

DistributedDataParallel makes replicas equal when it is built and never again: what is written later is each rank's own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from torch import Tensor, nn

from initplug.planning.parametrized import submodules_of
from initplug.planning.slots import Slots


class Replicas(NamedTuple):
    """The parts of a model that ranks share without a mesh.

    Args:
        groups: the process groups of those ranks.
        ranks: the ranks of each group that shares a tensor, by the tensor's id.
    """

    groups: tuple[Any, ...] = ()
    ranks: Mapping[int, tuple[tuple[int, ...], ...]] = {}

    def by_row(self, slots: Slots) -> dict[int, tuple[tuple[int, ...], ...]]:
        """Return the ranks of each group that shares a slot, by its row."""
        if not self.ranks:
            return {}
        found = {row: ranks for row, tensor in enumerate(slots.tensors) if (ranks := self.ranks.get(id(tensor)))}
        for row in slots.computed:  # of which each tensor that it is stored in may be shared
            stored = [ranks for tensor in slots[row].stored for ranks in self.ranks.get(id(tensor), ())]
            found.update({row: tuple(dict.fromkeys(stored))} if stored else {})
        return found


NO_REPLICAS = Replicas()


def replicated(model: nn.Module) -> Replicas:
    """Return what ranks share of a model by its wrappers; one rank alone shares nothing."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return NO_REPLICAS
    if distributed.get_world_size() == 1:
        return NO_REPLICAS
    groups: dict[tuple[int, ...], Any] = {}
    found: dict[int, dict[tuple[int, ...], None]] = {}
    for module in submodules_of(model).values():
        for group, tensors in _shared_by(module):
            try:
                ranks = tuple(sorted(distributed.get_process_group_ranks(group)))
            except (KeyError, RuntimeError, ValueError):  # a group of a world that has ended: its ranks hear of nobody
                continue
            if len(ranks) > 1 and tensors:
                if ranks not in groups or group.group_name < groups[ranks].group_name:  # all ranks choose the same
                    groups[ranks] = group
                for tensor in tensors:
                    found.setdefault(id(tensor), {})[ranks] = None
    return Replicas(tuple(groups.values()), {one: tuple(ranks) for one, ranks in found.items()})


def _shared_by(module: nn.Module) -> Iterator[tuple[Any, list[Tensor]]]:
    """Yield the process groups over which a module shares tensors, with those."""
    composable: Any = sys.modules.get("torch.distributed._composable.replicate")
    first: Any = sys.modules.get("torch.distributed.fsdp")
    wrapper: Any = module
    if isinstance(module, getattr(composable, "DDP", ())):  # which wraps with the first batch, and makes replicas then
        wrapper = getattr(composable.replicate.state(module), "_ddp", None)
    if isinstance(wrapper, nn.parallel.DistributedDataParallel):
        yield wrapper.process_group, _synchronised(wrapper)
    elif isinstance(module, getattr(first, "FullyShardedDataParallel", ())):
        handle, gathered = wrapper._handle, wrapper.training_state.name == "SUMMON_FULL_PARAMS"
        infos = handle.flat_param._param_infos if handle is not None and gathered else ()
        held = [info.module._parameters.get(info.param_name) for info in infos]
        whole = [tensor for tensor in held if tensor is not None]
        for key in ("process_group", "_inter_node_pg"):  # the second only where shards are replicated
            if getattr(wrapper, key, None) is not None:
                yield getattr(wrapper, key), whole


def _synchronised(wrapper: nn.parallel.DistributedDataParallel) -> list[Tensor]:
    """Return the tensors below a wrapper but for those that it was told to ignore: these are each rank's own."""
    named = chain(wrapper.module.named_parameters(), wrapper.module.named_buffers())
    return [tensor for name, tensor in named if name not in wrapper.parameters_to_ignore]
