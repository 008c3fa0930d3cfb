"""A Hydra application, composed without leaving the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from initplug.cli.hydra_config import version_base

FILES = {
    "config.yaml": """\
defaults:
  - init: resnext
  - _self_
  - optional experiment: null
width: 32
mode: fan_in
""",
    "nested.yaml": """\
defaults:
  - init@model.init: wrn
  - _self_
model: {width: 32}
""",
    "init/mine.yaml": """\
defaults: [resnext, _self_]
rules:
  bn: {init: 0.5}
  head:
    match: fc.weight
    init: {fn: normal, std: 0.01}
""",
    "init/wide.yaml": """\
rules:
  conv:
    match: "<_ConvNd>.weight"
    init: {fn: normal, std: "${width}"}
  rest: {match: "*", init: "${mode}"}
""",
    "init/missing.yaml": """\
defaults: [resnext, _self_]
rules:
  conv: {match: "???"}
  fc: {match: fc, init: "???"}
""",
    "init/anchored.yaml": """\
rules:
  conv: &conv {match: conv.weight, init: {fn: kaiming_normal, mode: fan_inn}}
  fc: {<<: *conv, match: fc.weight}
""",
    "init/excepting.yaml": """\
defaults: [resnext, _self_]
rules:
  conv: {except: stem.**}
""",
    "init/excluding.yaml": """\
defaults: [excepting, _self_]
rules:
  conv: {exclude: head.**}
""",
    "init/both.yaml": """\
defaults: [resnext, _self_]
rules:
  conv: {except: stem.**, exclude: head.**}
""",
    "experiment/wide.yaml": """\
# @package _global_
defaults:
  - override /init: mine
init:
  rules:
    head: {init: {std: -1}}
""",
}


Application = Callable[..., Any]


def write_configs(folder: Path) -> Path:
    """The configs of an application, written below a folder."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@contextmanager
def composing(conf: Path) -> Iterator[Application]:
    """What gives the config that a function under `hydra.main` gets for some overrides."""

    def composed(*overrides: str, name: str = "config") -> Any:
        config = compose(name, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        return config

    try:
        with initialize_config_dir(str(conf), **version_base()):
            yield composed
    finally:
        HydraConfig.instance().cfg = None
        GlobalHydra.instance().clear()
