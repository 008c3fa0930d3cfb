"""Traces put together of a watched pass: layers with their ratios, the blocks, what was never reached."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from torch import nn

from initplug.planning.slots import Node, Tree
from initplug.studies.probing.passage import MOST_CALLS, Spot, Watch
from initplug.studies.probing.statistics import FirstLoss, Spread
from initplug.studies.probing.traces import Layer, Trace

LEAST_BLOCKS = 3
"""The least number of blocks of one class that makes a depth."""

COVERED = 0.8
"""The share of the largest coverage at which a finer class of blocks is taken: of a stage's blocks, not of stages."""


def assembled(
    name: str,
    tree: Tree,
    watch: Watch,
    *,
    trained: Collection[int] = (),
    start: str = "",
    logits: FirstLoss | None = None,
    remarks: Sequence[str] = (),
    failed: str | None = None,
) -> Trace:
    """Return the trace of a pass.

    Args:
        name: of the trace.
        tree: the model, walked.
        watch: that saw the pass.
        trained: identities of the parameters that got a gradient.
        start: what the backward pass began from.
        logits: the first loss, where there are logits.
        remarks: on how the pass was made.
        failed: the layer whose forward raised.
    """
    told = [*remarks]
    if watch.uncounted:
        calls = ", ".join(f"{key} ({count + MOST_CALLS})" for key, count in watch.uncounted.items())
        told.append(f"of modules that are called often the first {MOST_CALLS} calls have rows: {calls}")
    return Trace(
        name=name,
        layers=_layers(watch.spots),
        branches=tuple(watch.branches),
        attentions=tuple(watch.attentions),
        blocks=() if failed else _blocks(tree, watch),
        unreached=() if failed else _unreached(tree, watch.reached, trained),
        start=start,
        logits=logits,
        remarks=tuple(told),
        failed=failed,
    )


def _layers(spots: Sequence[Spot]) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for spot in spots:
        std, gradient = _std(spot.spread), _std(spot.gradient)
        before = layers[-1] if layers else None
        layers.append(
            Layer(
                name=spot.name,
                kind=spot.kind,
                function=spot.function,
                also=tuple(spot.also),
                shape=spot.shape,
                mean=spot.spread.mean if spot.spread is not None and spot.spread.finite else None,
                std=std,
                signal=spot.signal if std is not None else None,
                zeros=spot.zeros,
                dead=spot.dead,
                saturated=spot.saturated,
                gradient=gradient,
                ratio=_ratio(std, None if before is None else before.std),
                gradient_ratio=_ratio(gradient, None if before is None else before.gradient),
                finite=spot.spread is None or spot.spread.finite,
                gradient_finite=None if spot.gradient is None else spot.gradient.finite,
                weights=spot.weights,
            )
        )
    return tuple(layers)


def _std(spread: Spread | None) -> float | None:
    return spread.std if spread is not None and spread.finite else None


def _ratio(one: float | None, before: float | None) -> float | None:
    return one / before if one is not None and before else None


def _blocks(tree: Tree, watch: Watch) -> tuple[str, ...]:
    """Return the calls of the repeated blocks that hold most of the model's parameters, in order."""
    parameters = _parameters_below(tree)
    nodes = {node.name or "model": (place, node) for place, node in enumerate(tree.nodes)}
    calls: dict[type, list[str]] = defaultdict(list)
    covered: dict[type, dict[int, int]] = defaultdict(dict)
    for call in watch.calls:
        found = nodes.get(call.name.partition("#")[0])
        if found is None:
            continue
        place, node = found
        if _is_block(node) and parameters[place] and not _within_its_class(tree, node):
            calls[node.cls].append(call.name)
            covered[node.cls][place] = parameters[place]
    sizes = {cls: sum(covered[cls].values()) for cls, names in calls.items() if len(names) >= LEAST_BLOCKS}
    if not sizes:
        return ()
    most = max(sizes.values())
    chosen = max((cls for cls in sizes if sizes[cls] >= COVERED * most), key=lambda cls: len(calls[cls]))
    return tuple(calls[chosen])


def _is_block(node: Node) -> bool:
    return bool(node.module._modules) and re.search(r"\d$", node.key) is not None


def _within_its_class(tree: Tree, node: Node) -> bool:
    parent = node.parent
    while parent >= 0:
        if tree.nodes[parent].cls is node.cls and _is_block(tree.nodes[parent]):
            return True
        parent = tree.nodes[parent].parent
    return False


def _parameters_below(tree: Tree) -> list[int]:
    """Return the number of elements of parameters at and below each node."""
    counts = [sum(one.numel() for one in node.module._parameters.values() if one is not None) for node in tree.nodes]
    for place in range(len(tree.nodes) - 1, 0, -1):
        parent = tree.nodes[place].parent
        if parent >= 0:
            counts[parent] += counts[place]
    return counts


def _unreached(tree: Tree, reached: Collection[int], trained: Collection[int]) -> tuple[str, ...]:
    """Return the outermost modules that were never called, none below them either, and whose parameters are unused.

    A module without parameters, such as a dropout beside fused attention, is none of them.
    """
    held = _parameters_below(tree)
    used = [id(node.module) in reached or _is_trained(node.module, trained) for node in tree.nodes]
    for place in range(len(tree.nodes) - 1, 0, -1):
        if used[place] and tree.nodes[place].parent >= 0:
            used[tree.nodes[place].parent] = True
    found = []
    for place, node in enumerate(tree.nodes):
        if not used[place] and held[place] and (node.parent < 0 or used[node.parent]):
            found.append(node.name or "model")
    return tuple(found)


def _is_trained(module: nn.Module, trained: Collection[int]) -> bool:
    return any(id(parameter) in trained for parameter in module._parameters.values())
