"""The constructor that MODEL on the command line names, imported and called."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import click

from initplug.errors import NAME, InitplugError, bounded, brief, cut, did_you_mean

if TYPE_CHECKING:
    from torch import nn


class Failure(click.ClickException):
    """An end with a message on standard error and an exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(bounded(message))
        self.exit_code = status  # type: ignore[misc]  # click declares it on the class and reads it here

    def show(self, file: Any = None) -> None:  # noqa: ARG002  # click's signature
        """Print the message as it is."""
        click.echo(self.format_message(), err=True)


ENDS = (KeyboardInterrupt, InitplugError, click.ClickException, click.exceptions.Exit, click.Abort)
"""What goes on its way through a model's own code: it has its line already, or is no error."""


@contextmanager
def user_code(said: str | None = None, status: int = 1, way_out: str = "") -> Iterator[None]:
    """Run code that others wrote: what it prints goes to standard error, and whatever it raises ends in a line.

    Args:
        said: how the line begins; without it the line says where the code is.
        status: of the exit.
        way_out: how the line ends, unless the call itself is wrong, which is so whatever else is done.
    """
    try:
        with _printing_elsewhere():
            yield
    except ENDS:
        raise
    except BaseException as error:  # SystemExit, too, and what others derive from it
        if said is None and isinstance(error, Exception) and _is_ours(error):
            raise  # the command says what and where
        if said is None:
            raise Failure(f"the model's own code raised {brief(error)}{raised_at(error)}", status) from None
        hint = "" if isinstance(error, TypeError) else way_out
        raise Failure(f"{said} {brief(error)}{hint}", status) from None


def raised_at(error: BaseException) -> str:
    """Return where an error was raised, in brackets."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def _is_ours(error: BaseException) -> bool:
    """Return whether it was a line of this package that raised an error, and nobody else's."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(__file__).parent.parent in Path(frames[-1].filename).parents


@contextmanager
def _printing_elsewhere() -> Iterator[None]:
    """Send what is printed, in Python or below it, to standard error."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # no such descriptors: only Python's own stream can be sent elsewhere
        kept = None
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


PLAIN_TARGET = re.compile(r"(?P<where>.+):(?P<name>[A-Za-z_][\w.]*)", re.DOTALL)
CALLED_TARGET = re.compile(r"(?P<where>.+?):(?P<name>[A-Za-z_][\w.]*)(?P<call>\(.*\))", re.DOTALL)


def shown_target(target: str) -> str:
    """Return a MODEL argument as messages call it."""
    return cut(repr(target), NAME)


class Model(NamedTuple):
    """A MODEL argument and what it names."""

    target: str
    constructor: Any
    arguments: list[Any]
    keywords: dict[str, Any]


def import_model(target: str, word: str = "MODEL") -> Model:
    """Import what a MODEL argument names: before recipes are read, since its module may have initializers.

    Args:
        target: package.module:callable or path/to/file.py:callable, optionally with literal arguments.
        word: that messages have for it.
    """
    found = (CALLED_TARGET if target.endswith(")") else PLAIN_TARGET).fullmatch(target)
    if found is None:
        expected = "expected package.module:callable or path/to/file.py:callable"
        raise Failure(f"{word} {shown_target(target)}: {expected}", 2)
    where, name, call = found["where"], found["name"], found.groupdict().get("call")
    arguments, keywords = ([], {}) if call is None else _arguments(f"{word} {shown_target(target)}", call)
    constructor = _import_target(f"{word} {shown_target(target)}", where, name)
    if not callable(constructor):
        raise Failure(f"{word} {shown_target(target)}: {name} is a {type(constructor).__name__}, not a callable", 2)
    return Model(target, constructor, arguments, keywords)


def build_model(model: Model, *, meta: bool) -> nn.Module:
    """Build the model that a MODEL argument names."""
    torch = _torch()
    with user_code(f"MODEL {shown_target(model.target)} raised"):
        is_model = isinstance(model.constructor, torch.nn.Module)  # which asks it for its class
    if is_model:
        return cast("nn.Module", model.constructor)
    return _checked(model, _construct(model.target, lambda: _called(model), meta=meta))


def _checked(model: Model, built: Any) -> nn.Module:
    """Return what a constructor gave, if it is a module."""
    torch = _torch()
    with user_code(f"MODEL {shown_target(model.target)} raised"):
        is_model = isinstance(built, torch.nn.Module)
    if not is_model:
        raise Failure(f"MODEL {shown_target(model.target)} gave a {type(built).__name__}, not a torch.nn.Module")
    return cast("nn.Module", built)


def constructor_of(model: Model) -> Callable[[], nn.Module]:
    """Return a function that builds the model that a MODEL argument names, on the CPU."""
    torch = _torch()
    with user_code(f"MODEL {shown_target(model.target)} raised"):
        is_model = isinstance(model.constructor, torch.nn.Module)
    if is_model:
        raise Failure(f"MODEL {shown_target(model.target)} is built already: name what builds it", 2)
    return lambda: _checked(model, _construct(model.target, lambda: _called(model), meta=False))


def call_target(target: str, word: str) -> Any:
    """Return what a callable gives that the command line names as it names a MODEL."""
    model = import_model(target, word)
    with user_code(f"{word} {shown_target(target)} raised"):
        return _called(model)


def _called(model: Model) -> Any:
    return model.constructor(*model.arguments, **model.keywords)


def _torch() -> Any:
    """Return torch, if it can be imported and is of a version that will do."""
    try:
        import torch

        import initplug.torch_versions  # noqa: F401  # which refuses older ones
    except ImportError as error:
        needed = "" if "pip install" in str(error) else ": pip install 'torch>=2.4'"
        raise Failure(f"{error}{needed}") from None
    except OSError as error:  # a library of it cannot be loaded
        raise Failure(f"torch cannot be loaded ({error}): pip install --force-reinstall torch") from None
    return torch


def _construct(target: str, build: Callable[[], Any], *, meta: bool) -> Any:
    """Call a constructor, without memory for parameters if possible, else without memory for anything."""
    import torch

    from initplug import deferred

    said = f"MODEL {shown_target(target)} raised"
    if not meta:
        with user_code(said), torch.device("cpu"):
            return build()
    # One way fails where a parameter meets a buffer, the other where a buffer's value is needed.
    try:
        with user_code(said), deferred():
            return build()
    except Failure:
        with user_code(said, way_out="; if it needs real values, try --real"), torch.device("meta"):
            return build()


def _arguments(told: str, call: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the literal arguments of a call."""
    wrong = Failure(f"{told}: arguments are literals, such as (num_classes=10)", 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that texts may hold
            parsed = ast.parse(f"f{call}", mode="eval").body
            if not isinstance(parsed, ast.Call) or not isinstance(parsed.func, ast.Name):
                raise wrong  # f(1)(2) and f(1) + f(2) begin and end alike
            arguments = [ast.literal_eval(argument) for argument in parsed.args]
            keywords = [(keyword.arg, ast.literal_eval(keyword.value)) for keyword in parsed.keywords]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):  # unhashable keys are a TypeError
        raise wrong from None
    given = {name: value for name, value in keywords if name is not None}
    if len(given) < len(keywords):  # one twice, or **, which is no literal
        raise wrong
    return arguments, given


# Where it is imported from ----------------------------------------------------------------------------------

ABSENT = object()


def _import_target(told: str, where: str, name: str) -> Any:
    """Import the object that `where:name` names; the current directory comes first on the import path."""
    said = f"{told} cannot be imported:"
    path = Path(where) if where.endswith(".py") else None
    with user_code(said, 2):
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"there is no file {where}")
    _torch()
    import initplug

    initplug.apply  # noqa: B018  # what we need is loaded before a file of the user's can be taken for it
    with user_code(said, 2):
        importlib.invalidate_caches()
        sys.path.insert(0, str(Path.cwd()))
        found = importlib.import_module(where) if path is None else _import_file(path)
        for step in name.split("."):
            above, found = found, getattr(found, step, ABSENT)
            if found is ABSENT:
                hint = did_you_mean(step, dir(above))
                raise Failure(f"{told}: {where} has no {step!r}" + (f" ({hint})" if hint else ""), 2)
    return found


def _import_file(path: Path) -> Any:
    """Import a file as a module, with the files beside it where its own imports find them.

    It is imported by its own name, unless that is another module's, as that of a json.py: then its folder comes last on
    the import path, so that whoever imports json gets what it wants, and the file gets a name of its own.
    """
    file, name, before = path.resolve(), path.stem, list(sys.path)
    sys.path[:] = [*(entry for entry in before if Path(entry).resolve() != file.parent), str(file.parent)]
    spec = importlib.util.find_spec(name) if name.isidentifier() and name not in sys.modules else None
    if spec is not None and spec.origin is not None and Path(spec.origin).resolve() == file:
        if str(file.parent) in before:
            sys.path[:] = before
        return importlib.import_module(name)
    alias = "initplug_model_" + re.sub(r"\W", "_", name)
    spec = importlib.util.spec_from_file_location(alias, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be read as a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module  # dataclasses, type hints and pickles look for the module of a class here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise
    return module
