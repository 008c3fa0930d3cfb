"""Models, and what is none, for the command line to find: constructors and attributes that do all that code can do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.fc = nn.Linear(2, width)
        self.norm = nn.BatchNorm1d(width)


def net(width: int = 4) -> nn.Module:
    return Net(width)


def raising(*_: object) -> NoReturn:
    raise RuntimeError("the constructor\nis broken\x1b[31m")


def exiting(*_: object) -> NoReturn:
    sys.exit("gone")


def recursing(*given: object) -> Any:
    return recursing(*given)


class OddError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class BareError(BaseException):
    """An error that `except Exception` lets through."""


def unprintable_error() -> NoReturn:
    raise OddError


def raising_oddly() -> NoReturn:
    raise KeyError(("several", "things"), b"\xff", None)


def base_raising() -> NoReturn:
    raise BareError("base")


def printing(width: int = 4) -> nn.Module:
    print("from the constructor")  # models do
    return Net(width)


def warning(width: int = 4) -> nn.Module:
    warnings.warn("from the constructor", UserWarning, stacklevel=1)
    return Net(width)


def generator() -> Iterator[nn.Module]:
    yield Net()


def wants(first: object, second: object) -> nn.Module:
    return Net()


def wants_keywords(*, width: int) -> nn.Module:
    return Net(width)


def needs_values() -> nn.Module:
    return Net(4 if Net().fc.weight.sum().item() < 9 else 5)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(3))


def empty() -> nn.Module:
    return nn.Sequential()


def frozen() -> nn.Module:
    return Net().requires_grad_(False)


def cyclic() -> nn.Module:
    module = Net()
    module.fc.add_module("back", module)
    return module


class Unprintable(nn.Module):
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Lying(nn.Module):
    def named_parameters(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no parameters")


def lying() -> nn.Module:
    return Lying()


class Meta(type):
    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise TypeError("never made")


class Metaclassed(metaclass=Meta):
    pass


class Halved(nn.Module):
    """A module whose constructor forgets its base's."""

    def __init__(self) -> None:
        pass


class Getter:
    inner = Net

    @property
    def odd(self) -> NoReturn:
        raise RuntimeError("no attribute")

    @property
    def exits(self) -> NoReturn:
        sys.exit(3)

    def __dir__(self) -> NoReturn:
        raise RuntimeError("no list")


class Classless:
    """An object that raises whatever it is asked for."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"no {name}")


getter = Getter()
classless = Classless()
number, nothing, text = 3, None, "text"
instance = Net()
tensor = torch.ones(2)
