"""Traps of initialization, each a model that every way is let loose on, and what came of it in a word.

A trap measures: values, errors, warnings, what is logged. It asks nothing of a way but to initialise the model.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from others import STD, NotOfferedError, Way
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class Ran(NamedTuple):
    """What a way did.

    Args:
        error: what it raised.
        said: what it warned of, or logged as a warning.
        logged: what it logged as information.
        result: what it returned.
    """

    error: Exception | None
    said: str
    logged: str
    result: Any


class _Heard(logging.Handler):
    """What is logged, as warnings and as information."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.warned: list[str] = []
        self.logged: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        (self.warned if record.levelno >= logging.WARNING else self.logged).append(record.getMessage())


def ran(way: Way, model: nn.Module, scheme: str = "normal", layers: tuple[str, ...] = ("Linear",)) -> Ran:
    """Let a way loose on a model."""
    error, result, heard = None, None, _Heard()
    root = logging.getLogger()
    level = root.level
    root.addHandler(heard)
    root.setLevel(logging.INFO)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = way(model, scheme, layers)
        except NotOfferedError:
            raise
        except Exception as raised:  # whatever it is, that is what users of it see
            error = raised
        finally:
            root.removeHandler(heard)
            root.setLevel(level)
    said = [*(str(one.message) for one in caught), *heard.warned]
    return Ran(error, "\n".join(said), "\n".join(heard.logged), result)


def close(tensor: torch.Tensor, std: float, within: float = 0.15) -> bool:
    """Return whether the spread of a tensor is what was asked for."""
    return abs(tensor.detach().std().item() / std - 1) < within


class Trap(NamedTuple):
    """A trap.

    Args:
        title: what may go wrong.
        right: what ought to happen.
        spring: what comes of a way: a word or two.
    """

    title: str
    right: str
    spring: Callable[[Way], str]


def told(done: Ran, name: str) -> str:
    """Return how a fault was told, if it was."""
    if done.error is not None:
        return "error" if name in str(done.error) else "unclear error"
    return "warning" if name in done.said else "logged" if name in done.logged else "silent"


def without_rule(way: Way) -> str:
    """A parameter that nobody speaks of: a class token beside a Linear."""
    model: Any = nn.Sequential(nn.Linear(32, 32))
    model.register_parameter("token", nn.Parameter(torch.zeros(32)))
    done = ran(way, model)
    # llm-foundry names the class that it does not know.
    return told(done, "token") if "Sequential parameters" not in str(done.error) else "error"


def misspelt(way: Way) -> str:
    """A rule that selects nothing."""
    return told(ran(way, nn.Sequential(nn.Linear(32, 32)), layers=("Liner",)), "e")


def parametrized(way: Way) -> str:
    """A Linear under weight_norm: is its weight drawn, or something that is computed anew?"""
    model: Any = nn.Sequential(weight_norm(nn.Linear(64, 64)))
    model[0].parametrizations.weight.original0.data.fill_(3.0)
    done = ran(way, model)
    if done.error is not None:
        return "error"
    return "right" if close(model[0].weight, STD) else "lost"


def frozen(way: Way) -> str:
    """A table that was computed and frozen."""
    model: Any = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    model[0].requires_grad_(False).weight.fill_(0.5)
    done = ran(way, model)
    kept = bool((model[0].weight == 0.5).all())
    return ("kept, warning" if done.said else "kept") if kept else "drawn over"


def on_meta(way: Way) -> str:
    """A model on meta: does it hold values afterwards, or is that told?"""
    with torch.device("meta"):
        model: Any = nn.Sequential(nn.Linear(16, 16))
    done = ran(way, model)
    if done.error is not None:
        return "error"
    return "silent: still on meta" if model[0].weight.is_meta else "filled"


def lazy(way: Way) -> str:
    """A lazy layer, which has no shape yet."""
    done = ran(way, nn.Sequential(nn.LazyLinear(16), nn.Linear(16, 16)), layers=("LazyLinear", "Linear"))
    if done.error is None:
        return "silent"
    return "error by name" if "0.weight" in str(done.error) else "error"


def padding(way: Way) -> str:
    """The padding row of an embedding."""
    model: Any = nn.Sequential(nn.Embedding(32, 32, padding_idx=0))
    done = ran(way, model, layers=("Embedding",))
    if done.error is not None:
        return "error"
    return "zero" if not model[0].weight[0].any() else "overwritten"


def recurrent(way: Way) -> str:
    """An LSTM, none of whose tensors is called weight."""
    model: Any = nn.Sequential(nn.LSTM(64, 64))
    done = ran(way, model, layers=("LSTM",))
    if done.error is not None:
        return "error"
    return "drawn" if close(model[0].weight_ih_l0, STD) else "silent: not drawn"


def packed(way: Way) -> str:
    """Xavier's bound for the packed projections of attention: of one of three, or of all together."""
    model: Any = nn.Sequential(nn.MultiheadAttention(64, 4))
    nn.init.zeros_(model[0].in_proj_weight)
    done = ran(way, model, "xavier_uniform", ("MultiheadAttention",))
    if done.error is not None:
        return "error"
    weight = model[0].in_proj_weight
    if close(weight, math.sqrt(2 / (64 + 64)), 0.1):
        return "of each"
    return "of the pack" if close(weight, math.sqrt(2 / (64 + 3 * 64)), 0.1) else "silent: not drawn"


def transposed(way: Way) -> str:
    """Kaiming's std of a transposed convolution whose stride is 1: by the channels that feed an output, or others."""
    model: Any = nn.Sequential(nn.ConvTranspose2d(64, 16, 3))
    nn.init.zeros_(model[0].weight)
    done = ran(way, model, "kaiming_normal", ("ConvTranspose2d",))
    if done.error is not None:
        return "error"
    if close(model[0].weight, math.sqrt(2 / (64 * 9)), 0.1):
        return "right, if asked"
    return "fans swapped" if close(model[0].weight, math.sqrt(2 / (16 * 9)), 0.1) else "silent: not drawn"


def half_done(way: Way) -> str:
    """A scheme that needs fans, on a model with a vector for a weight: is something written before the error?"""
    model: Any = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16))
    before = model[0].weight.clone()
    done = ran(way, model, "kaiming_normal", ("Linear", "LayerNorm"))
    if done.error is None:
        return "norm by its own rule" if bool((model[1].weight == 1).all()) else "silent"
    where = "1.weight" in str(done.error)
    untouched = torch.equal(before, model[0].weight)
    return f"error{' by name' if where else ''}, {'nothing written' if untouched else 'half written'}"


def another_layer(way: Way) -> str:
    """A layer more in front: does that change what the others draw?"""
    one: Any = nn.Sequential()
    more: Any = nn.Sequential()
    more.add_module("stem", nn.Linear(16, 16))
    for model in (one, more):
        model.add_module("head", nn.Linear(16, 16))
        torch.manual_seed(0)
        ran(way, model)
    return "unchanged" if torch.equal(one.head.weight, more.head.weight) else "all others change"


def wrapped(way: Way) -> str:
    """A model below torch.compile, addressed as it is without."""
    model: Any = nn.Sequential(nn.Linear(64, 64))
    compiled: Any = torch.compile(model)
    done = ran(way, compiled, layers=("Linear", "_wrapped"))
    if done.error is not None:
        return "error"
    return "drawn" if close(model[0].weight, STD) else "silent: not drawn"


class Tied(nn.Module):
    """An embedding whose weight is the head's."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = nn.Embedding(64, 64), nn.Linear(64, 64, bias=False)
        self.head.weight = self.tokens.weight


def tied(way: Way) -> str:
    """A tied tensor: is it drawn once, or once under each of its names?"""
    drawn: list[int] = []
    model: Any = Tied()
    calls: Any = torch.Tensor.normal_

    def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if tensor.data_ptr() == model.tokens.weight.data_ptr():
            drawn.append(1)
        return calls(tensor, *args, **kwargs)

    setattr(torch.Tensor, "normal_", counted)  # noqa: B010  # no type checker takes the assignment
    try:
        done = ran(way, model, layers=("Embedding", "Linear"))
    finally:
        setattr(torch.Tensor, "normal_", calls)  # noqa: B010  # likewise
    if done.error is not None:
        return "error"
    return "twice" if len(drawn) > 1 else "once"


def account(way: Way) -> str:
    """What was done, parameter by parameter, with what was expected and measured: is there anything to look at?"""
    done = ran(way, nn.Sequential(nn.Linear(16, 16)))
    if hasattr(done.result, "to_json"):
        return "a row for each"
    return "a log line for each" if "0.weight" in done.logged and "0.bias" in done.logged else "nothing"


TRAPS = (
    Trap("a parameter that nothing speaks of", "told", without_rule),
    Trap("a rule that selects nothing", "told", misspelt),
    Trap("a weight under `weight_norm`", "drawn", parametrized),
    Trap("a frozen table", "kept, and told", frozen),
    Trap("parameters on meta", "filled, or told", on_meta),
    Trap("a lazy layer", "told by name", lazy),
    Trap("the padding row of an embedding", "zero", padding),
    Trap("an LSTM, without a tensor called weight", "drawn, or told", recurrent),
    Trap("Xavier's bound of packed projections", "of each", packed),
    Trap("Kaiming's std of a transposed convolution", "of what feeds an output", transposed),
    Trap("a scheme that does not fit one tensor", "told, nothing written", half_done),
    Trap("a layer more in front", "no other changes", another_layer),
    Trap("a model below `torch.compile`", "drawn", wrapped),
    Trap("a tied tensor", "drawn once", tied),
    Trap("what was done, afterwards", "a row for each parameter", account),
)
