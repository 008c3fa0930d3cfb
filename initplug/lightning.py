"""A callback of Lightning that initialises the model before it is trained."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from initplug.auditing import Audit

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:
    try:
        from pytorch_lightning import Callback
    except ModuleNotFoundError:  # a callback is known by its methods, too
        Callback = object

BUILDERS = ("configure_model", "configure_sharded_model")
"""Hooks of a module that may build it, which Lightning calls after every `setup`; the second is their older name."""

INITIALIZED: WeakKeyDictionary[Any, WeakSet[Any]] = WeakKeyDictionary()
"""The callbacks that have initialised a module, by the module; callbacks themselves must stay fit for pickling."""


class Initialize(Callback):  # type: ignore[misc]  # of Lightning, which need not be there
    """Initialise the module by a recipe when `fit` begins, before it is wrapped, moved, or restored from a checkpoint.

    A module that builds itself in `configure_model` is initialised as soon as that hook returns. It happens once for
    each module: a second `fit` of the same one goes on with what was trained, another one is initialised too. The
    audit of the last is in `audit`.

    Args:
        recipe: anything that `initplug.load` takes.
        seed: 0 to 2^64 - 1; None for torch's global generator.
        report: where the audit is written, with a suffix that says how.

    Raises:
        ApplyError: as training begins, Lightning has not called the `configure_model` of the module.

    Example:
        >>> from torch import nn
        >>> callback = Initialize("torch_default", seed=0)
        >>> callback.setup(None, nn.Linear(4, 2), "fit")
        >>> callback.audit["weight"].status
        'initialized'
    """

    def __init__(self, recipe: str | dict[str, Any], seed: int | None = None, report: str | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.seed = seed
        self.report = report
        self.audit: Audit | None = None
        self._waiting: str | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Initialise, or see to it that the hook which builds the module does; Lightning calls it on every process."""
        if stage != "fit" or self in INITIALIZED.get(pl_module, ()):
            return
        builder = _builder_of(pl_module)
        if builder is None:
            self._initialise(trainer, pl_module)
            return
        build = getattr(pl_module, builder)
        replaced = vars(pl_module).get(builder)

        @functools.wraps(build)
        def build_and_initialise() -> None:
            if replaced is None:
                delattr(pl_module, builder)
            else:
                setattr(pl_module, builder, replaced)
            build()
            if self not in INITIALIZED.get(pl_module, ()):
                self._initialise(trainer, pl_module)

        setattr(pl_module, builder, build_and_initialise)
        self._waiting = builder

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # the signature is Lightning's
        """Raise if the module has not been initialised by now."""
        if self._waiting is not None:
            from initplug.errors import ApplyError

            raise ApplyError(
                f"{type(pl_module).__name__}.{self._waiting} was not called before training began, so that nothing is "
                "initialised; call initplug.apply at its end instead of using this callback"
            )

    def _initialise(self, trainer: Any, pl_module: Any) -> None:
        from initplug.filling.apply import apply
        from initplug.tables.files import REPORTS, check_path

        self._waiting = None
        report = self.report if getattr(trainer, "is_global_zero", True) else None
        if report is not None:
            check_path(report, REPORTS)
        self.audit = apply(pl_module, self.recipe, seed=self.seed)
        INITIALIZED.setdefault(pl_module, WeakSet()).add(self)
        if report is not None:
            self.audit.save(report)


def _builder_of(module: Any) -> str | None:
    """Return the hook in which a module builds itself; None where it has none of its own."""
    for name in BUILDERS:
        if name in vars(module):
            return name
        owner = next((cls for cls in type(module).__mro__ if name in vars(cls)), object)
        if owner is not object and owner.__module__.partition(".")[0] not in ("lightning", "pytorch_lightning"):
            return name
    return None
