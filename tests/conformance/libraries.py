"""Third-party libraries made importable, and models of theirs and of the examples by name."""

import contextlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]

os.environ["HF_HUB_OFFLINE"] = "1"  # models are built from configurations: nothing is to be looked up anywhere

# torchvision registers fake kernels for these two on import, which fails where its compiled library does not load
# (a wheel built for another torch, such as CUDA's beside a CPU torch). The models need neither operator.
SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def declare_torchvision_operators() -> torch.library.Library | None:
    """Declare the schemas that torchvision expects, unless its own compiled library brings them.

    Returns:
        The library that owns the declarations; they live as long as it does. None where nothing was missing.
    """
    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for compiled in [*Path(folder).glob("_C*.so"), *Path(folder).glob("_C*.pyd")]:
            with contextlib.suppress(OSError):  # it does not load: the case this function is for
                torch.ops.load_library(str(compiled))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    missing = [name for name in SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if not missing:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # likewise
    for name in missing:
        library.define(SCHEMAS[name])  # type: ignore[no-untyped-call]  # likewise
    return library


TORCHVISION_OPERATORS = declare_torchvision_operators()


def load_example(name: str) -> ModuleType:
    """The module `examples/models/{name}.py`: a user addresses it by path, so it is in no package."""
    path = ROOT / "examples" / "models" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torchvision_model(name: str) -> nn.Module:
    """A torchvision model, with torchvision's own weights."""
    models = pytest.importorskip("torchvision.models")
    model: nn.Module = models.get_model(name, weights=None)
    return model


def timm_model(name: str) -> nn.Module:
    """A timm model, with timm's own weights."""
    model: nn.Module = pytest.importorskip("timm").create_model(name)
    return model


def pytorchcv_model(name: str) -> nn.Module:
    """A pytorchcv model, with pytorchcv's own weights."""
    model: nn.Module = pytest.importorskip("pytorchcv.model_provider").get_model(name)
    return model
