"""A callback of Lightning that initialises the model before it is trained."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

if TYPE_CHECKING:
    from initplug.auditing.audit import Audit

try:
    from lightning.pytorch import Callback
except ModuleNotFoundError:
    try:
        from pytorch_lightning import Callback
    except ModuleNotFoundError:  # a callback is known by its methods, too
        Callback = object

BUILDERS = ("configure_model", "configure_sharded_model", "setup")
"""Hooks of a module that may build it, the last first; Lightning calls them after every callback's `setup`.

The second is the older name of the first.
"""

MARK = "_initplug_initialised"
"""The mark of an initialised module, by which its copies, pickled ones too, are known for what they are."""


class Initialize(Callback):  # type: ignore[misc]  # of Lightning, which need not be there
    """Initialise the module by a recipe when `fit` begins, before it is wrapped, moved, or restored from a checkpoint.

    A module that builds itself in `setup` or `configure_model` is initialised as soon as the last of these returns, but
    for tensors that they wrote themselves, as by loading weights: these stay as they are, with a warning. It happens
    once for each module: a second `fit` of the same one, or of a copy, goes on with what was trained, whatever callback
    it is given. The audit of the last module that this callback initialised is in `audit`.

    Args:
        recipe: anything that `initplug.load` takes.
        seed: 0 to 2^64 - 1; None for torch's global generator.
        report: where the audit is written, with a suffix that says how.

    Raises:
        ApplyError: as training begins, Lightning has not called the hook in which the module builds itself.

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
        if stage != "fit":
            return
        builder = _builder_of(pl_module)
        if builder is None:
            self._initialise(trainer, pl_module, {})
            return
        build = getattr(pl_module, builder)
        replaced = vars(pl_module).get(builder)
        before = _traces(pl_module)

        @functools.wraps(build)
        def build_and_initialise(*args: Any, **kwargs: Any) -> None:
            if replaced is None:
                delattr(pl_module, builder)
            else:
                setattr(pl_module, builder, replaced)
            build(*args, **kwargs)
            self._initialise(trainer, pl_module, before)

        setattr(pl_module, builder, build_and_initialise)
        self._waiting = None if MARK in vars(pl_module) else builder

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  # the signature is Lightning's
        """Raise if the module has not been initialised by now."""
        if self._waiting is not None:
            from initplug.errors import ApplyError

            raise ApplyError(
                f"{type(pl_module).__name__}.{self._waiting} was not called before training began, so that nothing is "
                "initialised; call initplug.apply at its end instead of using this callback"
            )

    def _initialise(self, trainer: Any, pl_module: Any, before: Mapping[int, Trace]) -> None:
        """Initialise a module that has not been initialised; warn of what is left as it is.

        Args:
            trainer: Lightning's.
            pl_module: the module, which its hooks have built.
            before: traces of the tensors that it had before these hooks ran.
        """
        from initplug.errors import shortened, warn
        from initplug.filling.apply import apply
        from initplug.filling.select import fitted
        from initplug.tables.files import REPORTS, check_path

        self._waiting = None
        kind, first = type(pl_module).__name__, getattr(trainer, "is_global_zero", True)
        if MARK in vars(pl_module):
            if first:
                self._tell_of_earlier(pl_module, before)
            return
        report = self.report if first else None
        if report is not None:
            check_path(report, REPORTS)
        recipe: Any = self.recipe
        only = None
        changed = {id(tensor) for tensor in _tensors(pl_module) if _is_written_since(tensor, before)}
        if changed:
            plan, _, slots, _, _ = fitted(pl_module, self.recipe, "")
            own = [slot.name for slot in slots if any(id(tensor) in changed for tensor in slot.stored)]
            if own:  # buffers that no rule selects are none
                recipe, only = plan, [name for name in plan.names if name not in own]
            if own and first:
                names = ", ".join(shortened(own))
                warn(f"the hooks of {kind} wrote {len(own)} of its tensors, which stay as they are: {names}")
        self.audit = apply(pl_module, recipe, seed=self.seed, only=only)
        vars(pl_module)[MARK] = (self.audit.plan.name or self.audit.plan.origin, self.audit.plan.digest, self.seed)
        if report is not None:
            self.audit.save(report)

    def _tell_of_earlier(self, pl_module: Any, before: Mapping[int, Trace]) -> None:
        """Warn of what an initialised module does not get: another recipe or seed, and values of parts built anew."""
        from initplug import load
        from initplug.errors import shortened, warn

        known = f"{type(pl_module).__name__} was initialised before"
        name, digest, seed = vars(pl_module)[MARK]
        recipe: Any = self.recipe if hasattr(self.recipe, "digest") else load(self.recipe)  # a plan has one, too
        if (recipe.digest, self.seed) != (digest, seed):
            warn(
                f"{known}, by {name} with seed={seed}, and goes on as it is: {recipe.name or recipe.origin} with "
                f"seed={self.seed} is not applied; initplug.apply draws anew"
            )
        new = [path for path, tensor in pl_module.named_parameters() if before and not _is_known(tensor, before)]
        if new:
            warn(
                f"{known}, and its hooks have built {len(new)} of its parameters anew, which stay as they are: "
                f"{', '.join(shortened(new))}; build them once, or call initplug.apply(…, only=…)"
            )


def _builder_of(module: Any) -> str | None:
    """Return the last hook in which a module may build itself; None where it has none of its own."""
    for name in BUILDERS:
        if name in vars(module):
            return name
        owner = next((cls for cls in type(module).__mro__ if name in vars(cls)), object)
        if owner is not object and owner.__module__.partition(".")[0] not in ("lightning", "pytorch_lightning"):
            return name
    return None


SAMPLE = 64
"""About how many elements of a tensor tell whether it has been written."""


class Trace(NamedTuple):
    """By what it is seen that a tensor has been written.

    Args:
        tensor: itself, as long as it is there.
        version: as torch counts what is written in place; writing to `.data`, as older code does, is left out.
        dtype: of the values.
        values: some of them, as text.
    """

    tensor: ref[Any]
    version: int
    dtype: Any
    values: str


def _tensors(module: Any) -> Iterator[Any]:
    return chain(module.parameters(), module.buffers())


def _traces(module: Any) -> dict[int, Trace]:
    """Return the traces of all tensors, by their ids, which may be those of others once a tensor is gone."""
    return {id(tensor): _trace(tensor) for tensor in _tensors(module)}


def _trace(tensor: Any) -> Trace:
    from initplug.filling.sharding import local_of

    try:
        local = local_of(tensor).detach()
        values = "" if local.is_meta else str(local.reshape(-1)[:: max(1, local.numel() // SAMPLE)].tolist())
        return Trace(ref(tensor), tensor._version, tensor.dtype, values)
    except (RuntimeError, ValueError):  # it waits for a first batch, or is of a kind of its own
        return Trace(ref(tensor), 0, tensor.dtype, "")


def _is_known(tensor: Any, traces: Mapping[int, Trace]) -> bool:
    """Return whether there is a trace of a tensor itself."""
    return id(tensor) in traces and traces[id(tensor)].tensor() is tensor


def _is_written_since(tensor: Any, traces: Mapping[int, Trace]) -> bool:
    """Return whether a tensor has been written since it was traced; a cast writes nothing."""
    if not _is_known(tensor, traces):
        return False
    before, now = traces[id(tensor)], _trace(tensor)
    return before.version != now.version or (before.dtype == now.dtype and before.values != now.values)
