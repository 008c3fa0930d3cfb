"""Initialization for PyTorch that is declared, planned, applied and audited.

    audit = initplug.apply(model, "resnext")

Importing initplug imports neither torch nor hydra; names are looked up when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from initplug._version import __version__ as __version__

if TYPE_CHECKING:
    from initplug import lightning as lightning
    from initplug import testing as testing
    from initplug.auditing.audit import Audit as Audit
    from initplug.errors import ApplyError as ApplyError
    from initplug.errors import Finding as Finding
    from initplug.errors import InitplugError as InitplugError
    from initplug.errors import InitplugWarning as InitplugWarning
    from initplug.errors import PlanError as PlanError
    from initplug.errors import ProbeError as ProbeError
    from initplug.errors import RecipeError as RecipeError
    from initplug.filling.apply import apply as apply
    from initplug.filling.apply import audit as audit
    from initplug.filling.deferred import deferred as deferred
    from initplug.language.loading import load as load
    from initplug.language.preset_list import preset_names as preset_names
    from initplug.language.recipe import Recipe as Recipe
    from initplug.language.recipe import Rule as Rule
    from initplug.planning.assignment import Assignment as Assignment
    from initplug.planning.draft import plan as plan
    from initplug.planning.plan import Plan as Plan
    from initplug.schemes.compositions import Stacked as Stacked
    from initplug.schemes.distributions import Constant as Constant
    from initplug.schemes.distributions import Normal as Normal
    from initplug.schemes.distributions import TruncatedNormal as TruncatedNormal
    from initplug.schemes.distributions import Uniform as Uniform
    from initplug.schemes.fans import Fans as Fans
    from initplug.schemes.initializers import initializer as initializer
    from initplug.schemes.structures.orthogonal import Orthogonal as Orthogonal
    from initplug.studies.calibrate import calibrate as calibrate
    from initplug.studies.calibrating.calibration import Calibration as Calibration
    from initplug.studies.diff import diff as diff
    from initplug.studies.infer import infer as infer
    from initplug.studies.inferring.inference import Inference as Inference
    from initplug.studies.probe import probe as probe
    from initplug.studies.probing.comparison import Probe as Probe
    from initplug.studies.record import record as record
    from initplug.studies.recording.recording import Recording as Recording
    from initplug.studies.suggest import suggest as suggest

_HOMES = {
    "load": "language.loading",
    "preset_names": "language.preset_list",
    "plan": "planning.draft",
    "apply": "filling.apply",
    "audit": "filling.apply",
    "deferred": "filling.deferred",
    "suggest": "studies.suggest",
    "diff": "studies.diff",
    "record": "studies.record",
    "infer": "studies.infer",
    "calibrate": "studies.calibrate",
    "probe": "studies.probe",
    "initializer": "schemes.initializers",
    "Recipe": "language.recipe",
    "Rule": "language.recipe",
    "Plan": "planning.plan",
    "Assignment": "planning.assignment",
    "Audit": "auditing.audit",
    "Recording": "studies.recording.recording",
    "Inference": "studies.inferring.inference",
    "Calibration": "studies.calibrating.calibration",
    "Probe": "studies.probing.comparison",
    "Fans": "schemes.fans",
    "Constant": "schemes.distributions",
    "Normal": "schemes.distributions",
    "Orthogonal": "schemes.structures.orthogonal",
    "Stacked": "schemes.compositions",
    "TruncatedNormal": "schemes.distributions",
    "Uniform": "schemes.distributions",
    "Finding": "errors",
    "InitplugError": "errors",
    "RecipeError": "errors",
    "PlanError": "errors",
    "ApplyError": "errors",
    "ProbeError": "errors",
    "InitplugWarning": "errors",
}

_MODULES = ("lightning", "testing")
"""The modules of this package that are imported by their own names, beside training."""

__all__ = [*_HOMES]

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"initplug.{name}")
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'initplug' has no attribute {name!r}")
        value = getattr(import_module(f"initplug.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, *(name for name in globals() if name.startswith("__"))])
