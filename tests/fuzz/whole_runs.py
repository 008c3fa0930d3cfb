"""Small models with all that models hold, under random recipes: planned, applied twice, and left alone by refusals."""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any

import torch
from fuzzing import well_said
from preset_pool import INITS, SELECTORS, SHORT
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import initplug

LAYERS = [
    "linear", "linear", "conv", "norm", "embedding", "padded", "lstm", "attention", "transposed", "scalar", "empty",
    "bfloat16", "double", "integer", "complex", "frozen", "buffer", "expanded", "weight_norm", "orthogonal", "tied",
    "shared", "strided", "lazy", "meta", "view", "list", "grad", "parametrized_twice", "large",
]  # fmt: skip


def made(random: Random) -> dict[str, Any]:
    """Layers, rules and how they are applied."""
    rules: dict[str, Any] = {}
    if random.random() < 0.7:
        rules["all"] = {
            "match": "*",
            "init": random.choice((0, "normal std=0.02", "uniform -1 1", "keep", "trunc_normal")),
        }
    for index in range(random.randrange(4)):
        match = random.choice((*SELECTORS, "*.weight", "*.bias", "^0", "<Linear>", "^*.weight"))
        rule: dict[str, Any] = {"match": match, "init": random.choice((*SHORT, *INITS))}
        if random.random() < 0.2:
            rule["except"] = random.choice((*SELECTORS, "^0"))
        if random.random() < 0.15:
            rule["kind"] = "buffer"
        if random.random() < 0.2:
            rule["ndim"] = random.choice((1, 2, ">=2", [2, 4]))
        rules[f"r{index}"] = rule
    return {
        "layers": [random.choice(LAYERS) for _ in range(random.randrange(1, 5))],
        "recipe": {"unmatched": random.choice(("keep", "keep", "error")), "unused": "ignore", "rules": rules},
        "seed": random.choice((None, 0, 1, 2**64 - 1)),
        "only": random.choice((None, None, None, "^0", ["0.weight"], "*.weight")),
        "threads": random.choice((None, 1, 2)),
        "stops": random.choice((None, None, None, 1, 2, 5)),
    }


def _layer(name: str, before: list[nn.Module]) -> nn.Module:
    module = nn.Linear(3, 4)
    match name:
        case "conv":
            return nn.Conv2d(4, 6, 3, groups=2)
        case "transposed":
            return nn.ConvTranspose1d(2, 3, 2)
        case "norm":
            return nn.BatchNorm2d(4)
        case "embedding":
            return nn.Embedding(5, 3)
        case "padded":
            return nn.Embedding(5, 3, padding_idx=-2)
        case "lstm":
            return nn.LSTM(3, 2, num_layers=2)
        case "attention":
            return nn.MultiheadAttention(4, 2)
        case "bfloat16":
            return module.to(torch.bfloat16)
        case "double":
            return module.to(torch.float64)
        case "frozen":
            return module.requires_grad_(False)
        case "meta":
            return module.to("meta")
        case "lazy":
            return nn.LazyLinear(3)
        case "large":
            return nn.Linear(700, 500)
        case "weight_norm":
            return _parametrized(module, parametrizations.weight_norm)
        case "orthogonal":
            return _parametrized(module, parametrizations.orthogonal)
        case "parametrized_twice":
            return _parametrized(_parametrized(module, parametrizations.spectral_norm), parametrizations.weight_norm)
        case "shared":
            return before[-1] if before else module
        case "list":
            return nn.ModuleList([nn.Linear(2, 2), nn.ParameterList([nn.Parameter(torch.ones(2, 2))])])
        case "tied":
            if before and before[0]._parameters.get("weight") is not None:
                module._parameters["weight"] = before[0]._parameters["weight"]
        case "grad":
            module.weight.grad = torch.ones_like(module.weight)
        case _:
            module.register_parameter("extra", _tensor(name))
            if name == "buffer":
                module.register_buffer("mask", torch.ones(2, 2))
                module.register_buffer("count", torch.tensor(3))
    return module


def _parametrized(module: nn.Module, how: Any) -> nn.Module:
    how(module)
    return module


def _tensor(name: str) -> nn.Parameter | None:
    match name:
        case "scalar":
            return nn.Parameter(torch.tensor(7.0))
        case "empty":
            return nn.Parameter(torch.empty(0, 3))
        case "integer":
            return nn.Parameter(torch.ones(2, 2, dtype=torch.int32), requires_grad=False)
        case "complex":
            return nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
        case "expanded":
            return nn.Parameter(torch.ones(1).expand(4))
        case "strided":
            return nn.Parameter(torch.ones(4, 6)[::2, ::3])
        case "view":
            return nn.Parameter(torch.ones(6).view(2, 3).t())
        case _:
            return None


def grown(layers: list[str]) -> nn.Module:
    """The model of these layers, its values the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules: list[nn.Module] = []
        for name in layers:
            modules.append(_layer(name, modules))
    return nn.Sequential(*modules)


def checked(spec: dict[str, Any]) -> bool:
    """Refused, the model is as it was; applied, every tensor is told of, and under one seed twice it is the same."""
    model = grown(spec["layers"])
    before = image(model)
    state = torch.get_rng_state()
    if spec["stops"] is not None:
        _stopped(spec, before)
    try:
        audit = _applied(model, spec)
    except initplug.InitplugError as error:
        well_said(error)
        if "had been written" not in str(error):
            assert image(model) == before, "refused, and written to"
            assert torch.equal(torch.get_rng_state(), state), "refused, and the generator moved"
        else:
            raise AssertionError(f"not found before the first write: {error}") from error
        return False
    names = Counter(name for row in audit if row.kind == "parameter" for name in (row.name, *row.aliases))
    assert names == Counter(_parameter_names(model)), names
    assert {row.status for row in audit} <= {"initialized", "kept", "empty", "lazy", "projected"}
    assert not audit.problems(), [(row.name, row.problem) for row in audit.problems()]
    untouched = [row.name for row in audit if row.status == "kept"]
    after = image(model)
    if spec["seed"] is not None:
        assert torch.equal(torch.get_rng_state(), state), "a seeded run moved the generator"
        _compared(model, spec, audit)
        assert image(model) == after, "an audit has written"
        other = grown(spec["layers"])
        torch.rand(3)
        _applied(other, {**spec, "threads": 1})
        assert image(other) == after, "other bits under the same seed"
        _applied(model, spec)
        if not untouched:
            assert image(model) == after, "other bits when applied twice"
    return True


def _compared(model: nn.Module, spec: dict[str, Any], applied: initplug.Audit) -> None:
    """Audit under the seed: all that was written is exact, until a bit of it is another."""

    def verdicts() -> dict[str, Any]:
        found = initplug.audit(model, copy.deepcopy(spec["recipe"]), seed=spec["seed"], only=spec["only"])
        return {row.name: row.verdict for row in found}

    found = verdicts()
    written = [row.name for row in applied if row.status == "initialized"]
    assert {found[name] for name in written} <= {"exact", "untestable"}, {name: found[name] for name in written}
    parameters = dict(model.named_parameters())
    name = next((name for name in written if found[name] == "exact" and name in parameters), None)
    if name is not None:
        tensor = parameters[name].data
        kept, other = tensor.clone(), tensor.contiguous().clone()
        other.view(-1).view(torch.uint8)[0] ^= 1
        tensor.copy_(other)
        assert verdicts()[name] == "differs", f"a bit of {name} is another, and its verdict is {verdicts()[name]}"
        tensor.copy_(kept)


def _stopped(spec: dict[str, Any], before: list[tuple[str, Any]]) -> None:
    """Stop an atomic run after some slots: the model is as it was, wherever that is."""
    model, state, grads = grown(spec["layers"]), torch.get_rng_state(), torch.is_grad_enabled()

    def progress(done: int, _: int) -> None:
        if done == spec["stops"]:
            raise RuntimeError("stopped")

    with suppress(initplug.InitplugError):
        _applied(model, spec, atomic=True, progress=progress)
        return  # fewer slots than that
    assert image(model) == before, "an atomic run that was stopped has left something written"
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled() == grads


def _applied(model: nn.Module, spec: dict[str, Any], **how: Any) -> initplug.Audit:
    given = {key: spec[key] for key in ("seed", "only", "threads")}
    return initplug.apply(model, copy.deepcopy(spec["recipe"]), **given, **how)


def _parameter_names(model: nn.Module) -> list[str]:
    """Every name of every parameter, a parametrized one by its public name."""
    found = []
    for name, _ in model.named_parameters(remove_duplicate=False):
        head, inside, tail = name.partition("parametrizations.")
        public = head + tail.split(".")[0] if inside else name
        if public not in found:
            found.append(public)
    return found


def image(model: nn.Module) -> list[tuple[str, Any]]:
    """Every tensor's bits, by name."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return [(name, _bits(tensor)) for name, tensor in tensors]


def _bits(tensor: Tensor) -> Any:
    if nn.parameter.is_lazy(tensor) or tensor.is_meta:
        return type(tensor).__name__, tensor.is_meta
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
