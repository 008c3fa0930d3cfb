"""What MODEL on the command line names: a constructor, imported and called."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from initplug.errors import did_you_mean

if TYPE_CHECKING:
    from torch import nn


class Failure(click.ClickException):
    """An end with a message on standard error and an exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # click declares it on the class and reads it here

    def show(self, file: Any = None) -> None:  # noqa: ARG002  # click's signature
        """Print the message as it is."""
        click.echo(self.format_message(), err=True)


@contextmanager
def user_code() -> Iterator[None]:
    """Send what a model's own code prints, in Python or below it, to standard error."""
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


TARGET = re.compile(r"(?P<where>.+?):(?P<name>[A-Za-z_][\w.]*)(?P<call>\(.*\))?", re.DOTALL)


class Model(NamedTuple):
    """A MODEL argument and what it names."""

    target: str
    constructor: Any
    arguments: list[Any]
    keywords: dict[str, Any]


def named(target: str) -> Model:
    """What a MODEL argument names, imported: before recipes are read, since its module may have initializers."""
    found = TARGET.fullmatch(target)
    if found is None:
        raise Failure(f"MODEL {target!r}: expected package.module:callable or path/to/file.py:callable", 2)
    arguments, keywords = _arguments(target, found["call"])
    constructor = _imported(target, found["where"], found["name"])
    if not callable(constructor):
        raise Failure(f"MODEL {target!r}: {found['name']} is a {type(constructor).__name__}, not a callable", 2)
    return Model(target, constructor, arguments, keywords)


def built_from(model: Model, *, meta: bool) -> nn.Module:
    """The model that a MODEL argument names."""
    import torch

    if isinstance(model.constructor, torch.nn.Module):
        return model.constructor
    built = _constructed(model.target, lambda: model.constructor(*model.arguments, **model.keywords), meta=meta)
    if not isinstance(built, torch.nn.Module):
        raise Failure(f"MODEL {model.target!r} gave a {type(built).__name__}, not a torch.nn.Module")
    return built


def _constructed(target: str, build: Callable[[], Any], *, meta: bool) -> Any:
    """What a constructor gives; without memory for parameters if possible, else without memory for anything."""
    import torch

    from initplug import deferred

    if not meta:
        return _attempted(target, build, torch.device("cpu"))
    # One way fails where a parameter meets a buffer, the other where a buffer's value is needed.
    try:
        return _attempted(target, build, deferred())
    except Failure:
        return _attempted(target, build, torch.device("meta"), "; if it needs real values, try --real")


def _attempted(target: str, build: Callable[[], Any], way: AbstractContextManager[Any], way_out: str = "") -> Any:
    try:
        with user_code(), way:
            return build()
    except (Exception, SystemExit) as error:
        # A call with the wrong arguments fails the same way on any device.
        hint = "" if isinstance(error, TypeError) else way_out
        raise Failure(f"MODEL {target!r} raised {one_line(error)}{hint}") from None


def _arguments(target: str, call: str | None) -> tuple[list[Any], dict[str, Any]]:
    """Literal arguments of a call."""
    if call is None:
        return [], {}
    try:
        parsed = ast.parse(f"f{call}", mode="eval").body
        assert isinstance(parsed, ast.Call)
        arguments = [ast.literal_eval(argument) for argument in parsed.args]
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in parsed.keywords if keyword.arg}
        if len(keywords) < len(parsed.keywords):
            raise ValueError("** is no literal")
    except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError):
        raise Failure(f"MODEL {target!r}: arguments are literals, such as (num_classes=10)", 2) from None
    return arguments, keywords


def _imported(target: str, where: str, name: str) -> Any:
    """The object that `where:name` names; the current directory comes first on the import path."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        with user_code():
            found: Any = _module(where)
    except (Exception, SystemExit) as error:
        raise Failure(f"MODEL {target!r} cannot be imported: {one_line(error)}", 2) from None
    for step in name.split("."):
        if not hasattr(found, step):
            hint = did_you_mean(step, dir(found))
            raise Failure(f"MODEL {target!r}: {where} has no {step!r}" + (f" ({hint})" if hint else ""), 2)
        found = getattr(found, step)
    return found


def _module(where: str) -> Any:
    if not where.endswith(".py"):
        return importlib.import_module(where)
    path = Path(where)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {where}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # a .py file always has a spec
    assert spec.loader is not None  # and a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def one_line(error: BaseException) -> str:
    """What was raised, by its kind and the first line of its text."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".rstrip(": ")
