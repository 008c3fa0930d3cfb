"""Other ways to initialise a model, each by its own code: a loop, mmengine, AllenNLP, llm-foundry, Modalities, mup.

Of three packages the files that initialise are loaded alone, since the rest of them needs another torch or a cluster:
what they import beside torch is replaced by the few names that they use. The files themselves are as published.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from torch import nn

import initplug

STD = 0.02

Way = Callable[[nn.Module, str, tuple[str, ...]], Any]
"""Initialises weights of a model by `normal`, `kaiming_normal` or `xavier_uniform`, those of layers of these classes
where a way goes by classes, and biases by 0. What it cannot be asked for raises `NotOfferedError`."""


class NotOfferedError(Exception):
    """The way has no such thing."""


class Peer(NamedTuple):
    """A way to initialise a model.

    Args:
        name: of the package; "a loop" is what one writes by hand.
        tried: the version that was run.
        released: year and month of that version.
        source: where its code is, with the lines that decide.
        way: its code.
    """

    name: str
    tried: str
    released: str
    source: str
    way: Callable[[], Way]

    @property
    def version(self) -> str | None:
        """The version that is here; None where there is none."""
        if self.name in ("a loop", "initplug"):
            return ""
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return None


def by_hand(init: Any = nn.init) -> Way:
    """Return the loop that one writes."""

    def way(model: nn.Module, scheme: str, layers: tuple[str, ...]) -> None:
        if layers == ("Liner",):
            raise NotOfferedError  # Python knows no such class
        calls: dict[str, Callable[..., Any]] = {
            "normal": partial(init.normal_, std=STD),
            "kaiming_normal": partial(init.kaiming_normal_, nonlinearity="relu"),
            "xavier_uniform": init.xavier_uniform_,
        }
        for module in model.modules():
            if {base.__name__ for base in type(module).__mro__} & {*layers}:
                weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
                if weight is not None:
                    calls[scheme](weight)
                if isinstance(bias, nn.Parameter):  # an LSTM's says whether it has any
                    nn.init.zeros_(bias)

    return way


def mmengine() -> Way:
    """Return `init_cfg`."""
    from mmengine.model.weight_init import initialize

    configs: dict[str, dict[str, Any]] = {
        "normal": {"type": "Normal", "std": STD},
        "kaiming_normal": {"type": "Kaiming", "mode": "fan_in"},
        "xavier_uniform": {"type": "Xavier", "distribution": "uniform"},
    }
    return lambda model, scheme, layers: initialize(model, {**configs[scheme], "layer": [*layers]})


def file_of(package: str, path: str, **beside: Any) -> ModuleType:
    """Return a file of a package as a module, with the modules that it imports beside it."""
    folder = _package(package)["__path__"][0]
    for name, held in beside.items():
        stub = ModuleType(name.replace("__", "."))
        vars(stub).update(held)
        sys.modules[stub.__name__] = stub
    spec = importlib.util.spec_from_file_location(f"{package}.{path}", Path(folder) / f"{path.replace('.', '/')}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Registry:
    """A registry of theirs: names and what is called so."""

    def __init__(self, **held: Any) -> None:
        self.held = held

    def register(self, name: str, **given: Any) -> Any:
        """Enter a function, or the class below a decorator."""
        if "func" in given:
            self.held[name] = given["func"]
        return lambda cls: cls

    def get(self, name: str) -> Any:
        """Return what is called so."""
        return self.held[name]

    def get_all(self) -> list[str]:
        """Return the names."""
        return [*self.held]


def allennlp() -> Way:
    """Return `InitializerApplicator`, by names alone."""
    registrable = type("Registrable", (), {"_registry": {}, "register": staticmethod(Registry().register)})
    common = {"FromParams": object, "Registrable": registrable}
    checks = {"ConfigurationError": type("ConfigurationError", (Exception,), {})}
    registrable._registry = {}  # type: ignore[attr-defined]  # theirs fills it as the file is read
    file = file_of(
        "allennlp",
        "nn.initializers",
        allennlp=_package("allennlp"),
        allennlp__common=common,
        allennlp__common__checks=checks,
    )
    calls: dict[str, Callable[..., Any]] = {
        "normal": partial(nn.init.normal_, std=STD),
        "kaiming_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
        "xavier_uniform": nn.init.xavier_uniform_,
    }

    def way(model: nn.Module, scheme: str, layers: tuple[str, ...]) -> None:
        names = "weight" if layers != ("Liner",) else "wieght"  # it knows no classes
        call = calls[scheme]
        regexes = [(names, lambda p, parameter_name: call(p)), ("bias", lambda p, parameter_name: nn.init.zeros_(p))]
        file.InitializerApplicator(regexes)(model)

    return way


def _package(name: str) -> dict[str, Any]:
    """Return what makes a module a package: where its files are."""
    spec = PathFinder.find_spec(name)  # of the files, whatever stands for the package by now
    return {"__path__": [] if spec is None else [*(spec.submodule_search_locations or [])]}


def llm_foundry() -> Way:
    """Return `param_init_fns`."""
    fcs = Registry(torch=nn.Linear)
    norms = Registry(layer=nn.LayerNorm, batch=nn.BatchNorm2d)
    registries = {"fcs": fcs, "norms": norms, "module_init_fns": Registry(), "param_init_fns": Registry()}
    dmoe = {"GLU": type("GLU", (), {}), "MLP": type("MLP", (), {})}
    file_of(
        "llmfoundry",
        "models.utils.param_init_fns",
        llmfoundry=_package("llmfoundry"),
        llmfoundry__layers_registry=registries,
        llmfoundry__models__layers__dmoe=dmoe,
    )
    functions = registries["param_init_fns"]
    given: dict[str, dict[str, Any]] = {
        "normal": {"name": "baseline_", "init_std": STD},
        "kaiming_normal": {"name": "kaiming_normal_", "init_nonlinearity": "relu"},
        "xavier_uniform": {"name": "xavier_uniform_", "init_gain": 1.0},
    }

    def way(model: nn.Module, scheme: str, layers: tuple[str, ...]) -> None:
        if layers == ("Liner",):
            raise NotOfferedError  # it has no rules that could be misspelt
        options = dict(given[scheme])
        call = functions.get(options.pop("name"))
        # What composer does when FSDP is set up, and MPT without it.
        width = next((m.embed_dim for m in model.modules() if isinstance(m, nn.MultiheadAttention)), 8)
        model.apply(lambda module: call(module, n_layers=2, d_model=width, **options))

    return way


def modalities() -> Way:
    """Return `initialization_routines`, which draws normal weights by full names."""
    interface = file_of("modalities", "nn.model_initialization.initialization_if", modalities=_package("modalities"))
    filters = file_of("modalities", "nn.model_initialization.parameter_name_filters")
    home = "modalities__nn__model_initialization"
    beside = {f"{home}__initialization_if": vars(interface), f"{home}__parameter_name_filters": vars(filters)}
    file = file_of("modalities", "nn.model_initialization.initialization_routines", **beside)

    def way(model: nn.Module, scheme: str, layers: tuple[str, ...]) -> None:
        if scheme != "normal":
            raise NotOfferedError
        names = [r".*weight"] if layers != ("Liner",) else [r".*\.wieght"]
        if "_wrapped" in layers:  # as its own filters, which begin at the root
            names = [r"0\.weight"]
        regexes = filters.RegexFilter(weights=names, biases=[r".*bias"])
        file.InitializationRoutines.get_plain_initialization(0.0, STD, regexes).initialize_in_place(model)

    return way


def mup() -> Way:
    """Return the loop with mup's initializers, at the base width."""
    import mup.init
    from mup import set_base_shapes

    loop = by_hand(mup.init)

    def way(model: nn.Module, scheme: str, layers: tuple[str, ...]) -> None:
        set_base_shapes(model, None, rescale_params=False)
        loop(model, scheme, layers)

    return way


def ours() -> Way:
    """Return a recipe."""
    schemes = {"normal": f"normal std={STD}", "kaiming_normal": "kaiming_normal effective relu"}

    def way(model: nn.Module, scheme: str, layers: tuple[str, ...]) -> Any:
        init: Any = schemes.get(scheme, scheme)
        rules: dict[str, Any] = {f"<{'|'.join(layers)}>.weight*": init, "*bias*": 0}
        if layers == ("MultiheadAttention",):
            rules = {"*.weight": init, "in_proj_weight.**": f"{init} split=3", "*bias*": 0}
        if layers == ("Liner",):
            rules["*"] = "default"
            rules = {"*": "default", **{name: one for name, one in rules.items() if name != "*"}}
        return initplug.apply(model, {"rules": rules}, seed=0)

    return way


GITHUB = "https://github.com"
PEERS = (
    Peer("initplug", "", "", "this repository", ours),
    Peer("a loop", "", "", "`for module in model.modules(): if isinstance(…): nn.init.…_(module.weight)`", by_hand),
    Peer(
        "mmengine",
        "0.10.7",
        "2025-03",
        f"[`BaseInit`]({GITHUB}/open-mmlab/mmengine/blob/v0.10.7/mmengine/model/weight_init.py)",
        mmengine,
    ),
    Peer(
        "allennlp",
        "2.10.1",
        "2022-10",
        f"[`InitializerApplicator`]({GITHUB}/allenai/allennlp/blob/v2.10.1/allennlp/nn/initializers.py)",
        allennlp,
    ),
    Peer(
        "llm-foundry",
        "0.22.0",
        "2025-07",
        f"[`generic_param_init_fn_`]({GITHUB}/mosaicml/llm-foundry/blob/v0.22.0/llmfoundry/models/utils/param_init_fns.py)",
        llm_foundry,
    ),
    Peer(
        "modalities",
        "0.5.0",
        "2026-02",
        f"[`initialization_routines`]({GITHUB}/Modalities/modalities/blob/main/src/modalities/nn/model_initialization/"
        "initialization_routines.py)",
        modalities,
    ),
    Peer("mup", "1.0.0", "2022-03", f"[`mup.init`]({GITHUB}/microsoft/mup/blob/main/mup/init.py)", mup),
)
