"""A callback of Lightning that initialises the model before it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from initplug.auditing import Audit

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:
    try:
        from pytorch_lightning import Callback
    except ModuleNotFoundError:  # a callback is known by its methods, too
        Callback = object


class Initialize(Callback):  # type: ignore[misc]  # of Lightning, which need not be there
    """Initialise the module by a recipe when `fit` begins, before it is wrapped, moved, or restored from a checkpoint.

    It happens once: a second `fit` goes on with what was trained. The audit is in `audit` afterwards.

    Args:
        recipe: anything that `initplug.load` takes.
        seed: 0 to 2^64 - 1; None for torch's global generator.
        report: where the audit is written, with a suffix that says how.

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

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Initialise; Lightning calls it on every process."""
        from initplug.filling.apply import apply

        if stage != "fit" or self.audit is not None:
            return
        self.audit = apply(pl_module, self.recipe, seed=self.seed)
        if self.report is not None and getattr(trainer, "is_global_zero", True):
            self.audit.save(self.report)
