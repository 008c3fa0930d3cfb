"""A model and its inputs -> the trace of one forward and one backward pass, after which all is as it was."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from initplug.errors import Finding, ProbeError, brief, headed
from initplug.filling.sharding import is_sharded
from initplug.filling.streams import fill_box
from initplug.filling.words import key_of
from initplug.planning.elsewhere import elsewhere
from initplug.planning.opaque import is_fake
from initplug.planning.slots import Tree
from initplug.planning.walk import walk
from initplug.planning.wrappers import unwrapped
from initplug.regions import Box
from initplug.schemes.distributions import Normal
from initplug.studies.probing.assembly import assembled
from initplug.studies.probing.inputs import Inputs
from initplug.studies.probing.kept import kept
from initplug.studies.probing.passage import Watch, floats
from initplug.studies.probing.statistics import FirstLoss, first_loss_of

Loss = Callable[[Any], Any]


def walked(model: nn.Module, *, values: bool = True) -> Tree:
    """Return the model, walked, if a pass can go through it.

    Args:
        model: any module.
        values: whether its parameters must have them.

    Raises:
        PlanError: it is no module, or a scripted one.
        ProbeError: tensors are lazy, sharded, fake or elsewhere, or on meta where they must have values.
    """
    tree = walk(model)
    found = {row: one.message for row, one in elsewhere(tree, tree.slots).items()}
    found |= {tree.slots.names.index(name): one.message for name, one in tree.flat.items()}
    for row, slot in enumerate(tree.slots):
        for tensor in slot.stored:
            if is_lazy(tensor):
                found[row] = "it is lazy: run one batch first"
            elif is_sharded(tensor):
                found[row] = "it is sharded (DTensor): probe the model before it is cut, on one device"
            elif is_fake(tensor):
                found[row] = "it is a fake tensor, which has no values"
            elif tensor.is_meta and values and row not in found:
                found[row] = "it is on meta and has no values: apply a recipe first, or probe with recipes= and seed="
    if found:
        findings = [Finding(tree.slots[row].name, message) for row, message in sorted(found.items())]
        raise ProbeError(
            headed(f"{len(findings)} of {len(tree.slots)} tensors hold no whole values", findings), findings
        )
    return tree


def traced(model: nn.Module, inputs: Inputs, *, loss: Loss | None, name: str, remarks: Sequence[str] = ()) -> Any:
    """Return the trace of one forward and one backward pass.

    Args:
        model: with values; it is as it was afterwards, also after an exception.
        inputs: of its forward.
        loss: makes the scalar that the backward pass starts from; without one it starts from unit normals.
        name: of the trace.
        remarks: to begin the trace's own with.

    Raises:
        ProbeError: the forward raised, or nothing needs a gradient, or the loss is no scalar.
    """
    tree, inner, told = walked(model), unwrapped(model), [*remarks]
    if _is_compiled(tree, model):
        told.append("the model is compiled: it was run as it was before that")
    with torch.inference_mode(False), torch.enable_grad(), kept(inner) as weights, _eager():
        watch = Watch(tree, weights)
        args = [_recordable(value) for value in inputs.positional]
        kwargs = {key: _recordable(value) for key, value in inputs.named.items()}
        with watch.watching():
            try:
                output = inner(*args, **kwargs)
            except Exception as error:
                raise _failure(error, name, tree, watch, inputs) from error
            start, seeds, beginning = _start(output, loss)
            try:
                watch.turn_back()
                trained = _turned_back(inner, start, seeds)
            except Exception as error:
                last = f" ({len(watch.spots)} layers were measured forward)"
                raise ProbeError(f"the backward pass raised {brief(error)}{last}") from error
        logits = _logits(output)
        return assembled(name, tree, watch, trained=trained, start=beginning, logits=logits, remarks=told)


def _recordable(value: Any) -> Any:
    """Return an input that a graph can hold: a copy of what was made in inference mode."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _failure(error: Exception, name: str, tree: Tree, watch: Watch, inputs: Inputs) -> ProbeError:
    """Return the error that says which layer's forward raised, and what was measured before."""
    frame = watch.frames[-1] if watch.frames else None
    place = (frame.name or "the model") if frame is not None else "the model"
    kind = watch.classes[id(frame.module)] if frame is not None else tree.nodes[0].cls.__name__
    trace = assembled(name, tree, watch, failed=place)
    lines = [f"forward of {place} ({kind}) raised {brief(error)}", f"  inputs: {inputs.text}"]
    measured = [layer for layer in trace.layers if layer.std is not None]
    if measured:
        last = measured[-1]
        counted = "1 layer was" if len(trace.layers) == 1 else f"{len(trace.layers)} layers were"
        sizes = "×".join(map(str, last.shape))
        lines.append(f"  {counted} measured before; the last is {last.name} ({last.kind}), {sizes}, std {last.std:.4g}")
    else:
        lines.append("  no layer was measured before: see that inputs have the shape, dtype and device that it takes")
    return ProbeError("\n".join(lines), [Finding(place, brief(error))], trace)


def _is_compiled(tree: Tree, model: nn.Module) -> bool:
    modules = [model, *model.modules()]
    names = {type(module).__name__ for module in modules}
    return "OptimizedModule" in names or any(node.module._compiled_call_impl is not None for node in tree.nodes)


@contextmanager
def _eager() -> Iterator[None]:
    """Run compiled parts as they were written, and no fused path around the modules of a Transformer layer."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        # Of parts that are compiled by themselves: a wrapper is none of the modules that have rows.
        warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global hooks")
        fused = torch.backends.mha.get_fastpath_enabled()
        stack.callback(torch.backends.mha.set_fastpath_enabled, fused)
        torch.backends.mha.set_fastpath_enabled(False)
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


# The backward pass ------------------------------------------------------------------------------------------


def _start(output: Any, loss: Loss | None) -> tuple[list[Tensor], list[Tensor | None], str]:
    """Return the tensors that the backward pass starts from, the gradients there, and what that is in words."""
    if loss is not None:
        try:
            value = loss(output)
        except Exception as error:
            raise ProbeError(f"loss raised {brief(error)}") from error
        if not isinstance(value, Tensor):
            raise ProbeError(f"loss returned a {type(value).__name__}, not a scalar tensor")
        if value.numel() != 1 or value.is_complex() or not value.is_floating_point():
            raise ProbeError(f"loss returned {tuple(value.shape)} of {_dtype(value)}, not a scalar: take its mean")
        if not value.requires_grad:
            raise ProbeError("loss gave a number that no gradient leads back from: it was detached, or made of others")
        return [value.reshape(())], [None], "loss"
    found = [(name, tensor) for name, tensor in floats(output) if tensor.requires_grad]
    if not found:
        raise ProbeError(_without_gradient(output))
    own = next((tensor for name, tensor in found if name == "loss" and tensor.numel() == 1), None)
    if own is not None:
        return [own.reshape(())], [None], "the model's own loss"
    named = next(([one] for one in found if one[0] == "logits"), found)
    seeds: list[Tensor | None] = [_unit_normals(tensor, name) for name, tensor in named]
    places = ", ".join(name for name, _ in named if name)
    return [tensor for _, tensor in named], seeds, "unit normals" + (f" at {places}" if places else "")


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _without_gradient(output: Any) -> str:
    """Return why no backward pass can start."""
    if next(floats(output), None) is None:
        return (
            f"forward gave no floating-point tensor but a {type(output).__name__}: there is no gradient to start from"
        )
    return (
        "nothing that forward gave needs a gradient: all parameters that it uses are frozen, or it ran under "
        "no_grad or detached its output"
    )


def _unit_normals(tensor: Tensor, name: str) -> Tensor:
    values = np.empty(tensor.numel(), np.float32)
    fill_box(values, Normal(0.0, 1.0), key_of(0, f"gradient {name}".rstrip()), Box.whole(tuple(tensor.shape)))
    return torch.from_numpy(values).view(tensor.shape).to(tensor.device, tensor.dtype)


def _turned_back(model: nn.Module, outputs: list[Tensor], seeds: list[Tensor | None]) -> set[int]:
    """Send gradients back, and return the identities of the parameters that got one; their `.grad` is left alone."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    leaves, reentrant = _leaves(outputs)
    if not parameters or reentrant:
        return _accumulated([*parameters, *leaves], outputs, seeds)
    gradients = torch.autograd.grad(outputs, parameters, seeds, allow_unused=True)
    return {id(one) for one, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def _accumulated(leaves: list[Tensor], outputs: list[Tensor], seeds: list[Tensor | None]) -> set[int]:
    """Send gradients back through checkpoints that only `backward` can pass, as they were before afterwards."""
    hooked = [one for one in leaves if getattr(one, "_post_accumulate_grad_hooks", None)]
    if hooked:
        raise ProbeError(
            f"{len(hooked)} parameters have hooks that run once their gradient is there, and reentrant checkpoints "
            "would run them: use_reentrant=False, or probe before the hooks are set"
        )
    before = [leaf.grad for leaf in leaves]
    try:
        for leaf in leaves:
            leaf.grad = None
        torch.autograd.backward(outputs, seeds)
        return {id(leaf) for leaf in leaves if leaf.grad is not None}
    finally:
        for leaf, gradient in zip(leaves, before, strict=True):
            leaf.grad = gradient


def _leaves(outputs: list[Tensor]) -> tuple[list[Tensor], bool]:
    """Return the leaves of a graph, and whether it holds a checkpoint that calls `backward` inside."""
    waiting: list[Any] = [tensor.grad_fn for tensor in outputs]
    seen, leaves, reentrant = set(), {}, False
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        reentrant |= node.name() == "CheckpointFunctionBackward"
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves[id(leaf)] = leaf
        waiting += [following for following, _ in node.next_functions]
    return list(leaves.values()), reentrant


def _logits(output: Any) -> FirstLoss | None:
    """Return the first loss, where a model gave (batch, classes), or (batch, length, classes), of finite numbers."""
    found = list(floats(output))
    tensor = next((tensor for name, tensor in found if name == "logits"), found[0][1] if len(found) == 1 else None)
    if tensor is None or tensor.is_complex() or tensor.ndim not in (2, 3) or tensor.shape[-1] < 2:
        return None
    measured = first_loss_of(tensor)
    return measured if np.isfinite(measured.loss) else None
