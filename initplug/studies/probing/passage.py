"""One forward and backward pass under watch: hooks measure what modules and nonlinearities give; nothing is kept."""

from __future__ import annotations

import threading
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from initplug.planning.slots import Tree
from initplug.studies.probing.kept import Weights
from initplug.studies.probing.statistics import (
    Peaks,
    Spread,
    dead_of,
    peaks_of,
    saturated_of,
    scores_of,
    signal_of,
    spread_of,
    zeros_of,
)
from initplug.studies.probing.traces import Attention, Branch

MOST_CALLS = 32
"""Calls of one module that have rows; of a cell that runs for a thousand steps the others are counted."""


@dataclass(slots=True)
class Spot:
    """An output while the pass goes on, as far as it is known."""

    name: str
    kind: str
    function: str | None
    shape: tuple[int, ...]
    spread: Spread | None
    signal: float | None
    zeros: float | None
    dead: float | None
    saturated: float | None
    weights: bool
    also: list[str] = field(default_factory=list)
    gradient: Spread | None = None
    hooked: bool = False


class _Call(NamedTuple):
    """A module that was called, the row of its output, and how deep in the model it was."""

    name: str
    spot: int


class _Frame:
    """A module whose forward runs: its first input, its stream so far, and which rows are its own."""

    def __init__(self, module: nn.Module, name: str, first: Tensor | None, begin: int) -> None:
        self.module, self.name = module, name
        self.first = None if first is None else weakref.ref(first)
        self.version = -1 if first is None else _version(first)
        self.begin = begin
        self.streams = [] if first is None else [weakref.ref(first)]

    def carries(self, tensor: Tensor) -> bool:
        """Return whether a tensor is the input of the module, or what it became by the module's own sums."""
        return any(reference() is tensor for reference in self.streams)


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _functions() -> dict[Any, str]:
    """Return the nonlinearities by every function that computes them."""
    names = (
        *("relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "rrelu", "elu", "elu_", "selu", "celu"),
        *("gelu", "silu", "mish", "softplus", "softsign", "hardtanh", "hardtanh_", "hardswish", "hardsigmoid"),
        *("sigmoid", "sigmoid_", "tanh", "tanh_", "logsigmoid", "hardshrink", "tanhshrink", "glu", "threshold"),
    )
    found = {}
    for place in (functional, torch, Tensor, torch.special):
        for name in names:
            function = getattr(place, name, None)
            if function is not None:
                found[function] = name.rstrip("_")
    found[torch.special.expit] = "sigmoid"
    return found


FUNCTIONS = _functions()
SOFTMAX = frozenset({functional.softmax, torch.softmax, Tensor.softmax, torch.special.softmax})
SUMS = frozenset({"add", "add_", "__add__", "__radd__", "__iadd__"})
PASSING = frozenset(
    {"__getitem__", "pad", "clone", "contiguous", "view", "reshape", "flatten", "transpose", "permute", "to", "float"}
)
"""Functions that give what they are given, in another shape, cut or padded: a stream is still the stream."""

READ_DATA = Tensor.data.__get__  # type: ignore[attr-defined]  # a property of C
RECTIFIERS = frozenset({"relu", "relu6", "threshold"})
"""Functions that have nothing below zero, so that a unit can be dead."""

CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
"""Modules whose units lie along dimension 1."""


class Watch(TorchFunctionMode):
    """A watch on a pass: of functions as a mode, of modules by global hooks, so that nothing is written to the model.

    Args:
        tree: the model, walked; its names are those of the rows.
        weights: take copies of parameters before they are written.
    """

    def __init__(self, tree: Tree, weights: Weights) -> None:
        super().__init__()
        self.names = {id(node.module): node.name for node in reversed(tree.nodes)}
        self.classes = {id(node.module): node.cls.__name__ for node in tree.nodes}
        self.weighted = {id(node.module) for node in tree.nodes if any(True for _ in node.module.parameters())}
        self.weights = weights
        self.frames: list[_Frame] = []
        self.spots: list[Spot] = []
        self.calls: list[_Call] = []
        self.branches: list[Branch] = []
        self.attentions: list[Attention] = []
        self.reached: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()
        self.again: dict[str, list[Spot]] = defaultdict(list)
        self.produced: dict[int, tuple[weakref.ref[Tensor], int, int]] = {}
        self.unit_dims: dict[int, int] = {}
        self.handles: list[Any] = []
        self.thread = threading.get_ident()
        self.backward = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what runs inside."""
        with ExitStack() as stack:
            stack.callback(self._forget)
            stack.callback(register_module_forward_pre_hook(_unwatched(self._enter)).remove)
            stack.callback(register_module_forward_hook(_unwatched(self._leave)).remove)
            stack.enter_context(self)
            yield

    def _forget(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.produced.clear()

    def turn_back(self) -> None:
        """Go over to the backward pass: what runs forward from now on is computed again for a checkpoint."""
        self.backward = True
        self.frames.clear()
        for spot in self.spots:
            if not spot.hooked:
                for name in (spot.name, *spot.also):
                    self.again[name].append(spot)
        self.counts.clear()

    # Modules ------------------------------------------------------------------------------------------------

    def _enter(self, module: nn.Module, args: Any) -> None:
        name = self.names.get(id(module))
        if name is None or threading.get_ident() != self.thread:
            return
        floating = (one for one in args if isinstance(one, Tensor) and (one.is_floating_point() or one.is_complex()))
        first = next(floating, None)
        self.frames.append(_Frame(module, name, first, len(self.spots)))

    def _leave(self, module: nn.Module, _: Any, output: Any) -> None:
        name = self.names.get(id(module))
        if name is None or threading.get_ident() != self.thread:
            return
        while self.frames and self.frames[-1].module is not module:  # those whose errors the model caught
            self.frames.pop()
        frame = self.frames.pop() if self.frames else None
        self.reached.add(id(module))
        tensor = first_float(output)
        if tensor is None or tensor.layout != torch.strided:
            return
        own = any(parameter is not None and parameter.ndim > 1 for parameter in module._parameters.values())
        known = self._row_of(tensor)
        if known is not None:
            if frame is not None and known >= frame.begin:
                self._adopt(known, module, name)
            return  # else it handed on what it got, as dropout in eval mode does
        got = None if frame is None or frame.first is None or own else frame.first()
        if got is not None and _shows(got, frame, tensor):
            self._note(tensor, self._row_of(got))
            return
        if isinstance(module, CHANNELS_FIRST) and tensor.ndim > 1:
            self.unit_dims[tensor.ndim] = 1
        elif own or isinstance(module, nn.LayerNorm):
            self.unit_dims[tensor.ndim] = -1
        self._measure(tensor, self._called(name), self.classes[id(module)], None, own)

    def _called(self, name: str) -> str | None:
        """Return the name of one more call; None where there were enough."""
        name = name or "model"
        self.counts[name] += 1
        count = self.counts[name]
        if count > MOST_CALLS:
            self.uncounted[name] += 1
            return None
        return name if count == 1 else f"{name}#{count}"

    def _adopt(self, row: int, module: nn.Module, name: str) -> None:
        """Note that a module gave what a row has already: of a function that it called, or of its last child."""
        named = self._called(name)
        if named is None or self.backward:
            return
        spot = self.spots[row]
        if spot.name.startswith(f"{name or 'model'}:") and not any(True for _ in module.children()):
            spot.also.append(spot.name)
            spot.name, spot.kind = named, self.classes[id(module)]
        else:
            spot.also.append(named)
        self.calls.append(_Call(named, row))

    def _row_of(self, tensor: Tensor) -> int | None:
        """Return the row that measured a tensor as it is now."""
        found = self.produced.get(id(tensor))
        if found is None or found[0]() is not tensor or found[2] != _version(tensor):
            return None
        return found[1]

    def _note(self, tensor: Tensor, row: int | None) -> None:
        if row is not None:
            self.produced[id(tensor)] = weakref.ref(tensor), row, _version(tensor)

    def _measure(self, tensor: Tensor, name: str | None, kind: str, function: str | None, weights: bool) -> None:
        if name is None or not tensor.numel():
            return
        if self.backward:
            waiting = [spot for spot in self.again.get(name, ()) if not spot.hooked]
            if waiting and tensor.requires_grad:
                self._await_gradient(tensor, waiting[0])
            return
        unit_dim = self.unit_dims.get(tensor.ndim, 1 if tensor.ndim > 3 else -1)
        spot = Spot(
            name=name,
            kind=kind,
            function=function,
            shape=tuple(tensor.shape),
            spread=spread_of(tensor),
            signal=signal_of(tensor),
            zeros=zeros_of(tensor),
            dead=dead_of(tensor, unit_dim) if function in RECTIFIERS and tensor.ndim > 1 else None,
            saturated=None if function is None else saturated_of(tensor, function),
            weights=weights,
        )
        self._note(tensor, len(self.spots))
        self.calls.append(_Call(name, len(self.spots)))
        self.spots.append(spot)
        if tensor.requires_grad:
            self._await_gradient(tensor, spot)

    def _await_gradient(self, tensor: Tensor, spot: Spot) -> None:
        spot.hooked = True

        def measured(gradient: Tensor) -> None:
            if gradient.layout == torch.strided:
                spot.gradient = spread_of(gradient)

        self.handles.append(tensor.register_hook(_unwatched(measured)))  # type: ignore[no-untyped-call]  # torch's

    # Functions ----------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function, and look at what is of interest."""
        kwargs = kwargs or {}
        if threading.get_ident() != self.thread:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if args and id(args[0]) in self.weights.held and (_writes(name) or func == READ_DATA):
            self.weights.save(args[0])
        elif name in ("embedding", "embedding_bag") and _renormalises(args, kwargs):
            self.weights.save(next(one for one in (*args, *kwargs.values()) if id(one) in self.weights.held))
        if not self.frames:
            return func(*args, **kwargs)
        if func is functional.multi_head_attention_forward:
            with _SoftmaxWatch(self._attend):
                return func(*args, **kwargs)
        carrying: list[_Frame] = []
        if name in SUMS and len(args) > 1 and not self.backward:
            carrying = self._added(args)
        elif name in PASSING and args and isinstance(args[0], Tensor):
            carrying = [frame for frame in self.frames if frame.carries(args[0])]
        if name == "scaled_dot_product_attention":
            self._look_at(args, kwargs)
        elif func in SOFTMAX:
            self._look_at_scores(args, kwargs)
        output = func(*args, **kwargs)
        if isinstance(output, Tensor):
            for frame in carrying:
                frame.streams.append(weakref.ref(output))
        function = FUNCTIONS.get(func)
        if function is not None and isinstance(output, Tensor) and output.is_floating_point():
            self._measure(
                output, self._called(f"{self.frames[-1].name or 'model'}:{function}"), function, function, False
            )
        return output

    def _added(self, args: Any) -> list[_Frame]:
        """Measure a sum in which a block adds to its own input, and return the frames whose stream it is."""
        one, other = args[0], args[1]
        if not (isinstance(one, Tensor) and isinstance(other, Tensor)) or one.shape != other.shape or one.ndim < 2:
            return []
        for outer in self.frames:  # the outermost knows best which of two inputs is the stream
            for stream, added in ((one, other), (other, one)):
                if outer.carries(stream) and not outer.carries(added) and added.is_floating_point():
                    frames = [one for one in self.frames if one.carries(stream) and id(one.module) in self.weighted]
                    if not frames:  # a function of the user's that has no weights is no branch
                        return []
                    of_branch, of_stream = spread_of(added), spread_of(stream)
                    if of_branch is not None and of_stream is not None:
                        name = frames[-1].name or "model"
                        self.branches.append(Branch(name, of_branch.std, of_stream.std))
                    return frames
        return []

    def _look_at(self, args: Any, kwargs: Mapping[str, Any]) -> None:
        given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale"), args, strict=False))
        given.update(kwargs)
        query, key = given.get("query"), given.get("key")
        if isinstance(query, Tensor) and isinstance(key, Tensor) and not query.is_nested:
            causal = bool(given.get("is_causal"))
            self._attend(peaks_of(scores_of(query, key, given.get("attn_mask"), causal, given.get("scale"))))

    def _look_at_scores(self, args: Any, kwargs: Mapping[str, Any]) -> None:
        scores = args[0] if args else kwargs.get("input")
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if not isinstance(scores, Tensor) or dim not in (-1, scores.ndim - 1) or scores.ndim < 3:
            return
        named = "att" in self.classes[id(self.frames[-1].module)].lower()
        if scores.ndim > 3 or named or scores.shape[-1] == scores.shape[-2]:
            self._attend(peaks_of(scores))

    def _attend(self, peaks: Peaks | None) -> None:
        if peaks is not None and not self.backward:
            self.attentions.append(Attention(self.frames[-1].name or "model", peaks))


def _unwatched(hook: Callable[..., None]) -> Callable[..., None]:
    """Return a hook whose own functions are not watched."""

    def hooked(*args: Any) -> None:
        with torch._C.DisableTorchFunction():
            hook(*args)

    return hooked


def _writes(name: str) -> bool:
    """Return whether a function of this name writes its first argument."""
    return (name.endswith("_") and not name.endswith("__")) or name in ("__setitem__", "__iadd__", "__imul__")


def _renormalises(args: Any, kwargs: Mapping[str, Any]) -> bool:
    return (args[3] if len(args) > 3 else kwargs.get("max_norm")) is not None


def _shows(got: Tensor, frame: _Frame | None, tensor: Tensor) -> bool:
    """Return whether a tensor shows what a module got, in this or another shape, and nothing was written to it."""
    assert frame is not None  # which knows the input
    same = got is tensor or (got.numel() == tensor.numel() and got.data_ptr() == tensor.data_ptr())
    return same and frame.version == _version(tensor)


class _SoftmaxWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """A watch on the attention inside a function that torch's function modes see only as a whole."""

    def __init__(self, attend: Callable[[Peaks | None], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.attend = attend

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and look at the scores of attention."""
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if name in ("_softmax", "_safe_softmax"):
            self.attend(peaks_of(args[0]))
        elif name.startswith("_scaled_dot_product"):
            given = dict(zip((one.name for one in func._schema.arguments), args, strict=False)) | kwargs
            mask = given.get("attn_mask", given.get("attn_bias"))
            causal = bool(given.get("is_causal"))
            self.attend(peaks_of(scores_of(given["query"], given["key"], mask, causal, given.get("scale"))))
        return func(*args, **kwargs)


def first_float(output: Any) -> Tensor | None:
    """Return the first floating-point tensor in what a module gave.

    Example:
        >>> first_float({"ids": torch.tensor([1]), "logits": (torch.tensor([2.0]), None)})
        tensor([2.])
    """
    return next((tensor for _, tensor in floats(output)), None)


def floats(output: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the floating-point tensors in what a model gave, with their places in it."""
    if isinstance(output, Tensor):
        if output.is_floating_point() or output.is_complex():
            yield name, output
        return
    parts: Iterator[tuple[Any, Any]] | None = None
    if isinstance(output, Mapping):
        parts = iter(output.items())
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        parts = zip(output._fields, output, strict=True)
    elif isinstance(output, list | tuple):
        parts = iter(enumerate(output))
    elif is_dataclass(output) and not isinstance(output, type):
        parts = ((one.name, getattr(output, one.name)) for one in fields(output))
    for key, value in parts or ():
        yield from floats(value, f"{name}.{key}" if name else str(key))
