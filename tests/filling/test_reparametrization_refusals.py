from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from parametrization_parts import Exponential, Symmetric, older
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from untouched import untouched

import initplug


class Identity(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Setting(Identity):
    """Both ways, the way back as told."""

    def __init__(self, back: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.back: Callable[[Tensor], Any] = lambda value: value
        self.later = back

    def right_inverse(self, value: Tensor) -> Any:
        return self.back(value)


class Picky(nn.Module):
    """A forward that does not take every value."""

    def forward(self, x: Tensor) -> Tensor:
        if bool((x > 1).any()):
            raise OverflowError("too large a weight")
        return x

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def raising(value: Tensor) -> Tensor:
    raise ArithmeticError("no way back from here")


def linear(rows: int = 6, columns: int = 6) -> nn.Linear:
    return nn.Linear(columns, rows)


def parametrized(*parts: nn.Module) -> nn.Module:
    """A square layer with parametrizations whose way back is only broken once they are registered."""
    layer = linear()
    with torch.no_grad():
        layer.weight.abs_().clamp_(min=0.01)
    for part in parts:
        parametrize.register_parametrization(layer, "weight", part)
        if isinstance(part, Setting):
            part.back = part.later
    return layer


def with_original(tensor: Tensor) -> nn.Module:
    """A stored tensor that cannot be written in place."""
    layer = parametrized(Setting(lambda value: value))
    layer.get_submodule("parametrizations.weight").register_parameter("original", nn.Parameter(tensor))
    return layer


class Case(NamedTuple):
    build: Callable[[], nn.Module]
    init: Any
    word: str


weight_norm, spectral_norm, orthogonal = (
    parametrizations.weight_norm,
    parametrizations.spectral_norm,
    parametrizations.orthogonal,
)
CASES: dict[str, Case] = {
    "no way back": Case(lambda: parametrized(Symmetric()), "normal", "right_inverse"),
    "no way back below": Case(
        lambda: parametrized(Symmetric(), Setting(lambda value: value)), "normal", "right_inverse"
    ),
    "no way back above": Case(lambda: parametrized(Setting(lambda value: value), Identity()), 1, "right_inverse"),
    "a way back that raises": Case(lambda: parametrized(Setting(raising)), "normal", "no way back from here"),
    "a way back to another shape": Case(lambda: parametrized(Setting(lambda value: value[:2])), "normal", ""),
    "a way back to another dtype": Case(lambda: parametrized(Setting(lambda value: value.double())), "normal", ""),
    "a way back to no tensor": Case(lambda: parametrized(Setting(lambda value: None)), "normal", ""),
    "a way back to too many": Case(lambda: parametrized(Setting(lambda value: (value, value))), "normal", ""),
    "a value that cannot be read": Case(lambda: parametrized(Picky()), 5, "too large a weight"),
    "a logarithm of zero below a mask": Case(lambda: parametrized(Exponential()), "normal", "NaN|infinite"),
    "matrix_exp without trivialization": Case(
        lambda: orthogonal(linear(), orthogonal_map="matrix_exp", use_trivialization=False), "normal", ""
    ),
    "cayley without trivialization": Case(
        lambda: orthogonal(linear(), orthogonal_map="cayley", use_trivialization=False), "orthogonal", ""
    ),
    "zeros through weight_norm": Case(lambda: weight_norm(linear()), 0, "NaN"),
    "zeros through weight_norm in whole": Case(
        lambda: weight_norm(linear(), dim=None),  # type: ignore[arg-type]  # as documented
        0,
        "NaN",
    ),
    "zeros through weight_norm of a convolution": Case(lambda: weight_norm(nn.Conv2d(2, 3, 3)), 0, "NaN"),
    "what underflows in weight_norm": Case(lambda: weight_norm(linear()), 1e-30, "NaN"),
    "what overflows in weight_norm": Case(lambda: weight_norm(linear()), 1e30, "NaN|infinite"),
    "a part of zeros through weight_norm": Case(
        lambda: weight_norm(linear()), {"split": ["normal", 0, "normal"]}, "NaN"
    ),
    "rows without a one through weight_norm": Case(lambda: weight_norm(linear(6, 4)), "eye", "NaN"),
    "filters of nothing through weight_norm": Case(lambda: weight_norm(nn.Conv2d(2, 5, 3)), "dirac", "NaN"),
    "a padding row through weight_norm": Case(lambda: weight_norm(nn.Embedding(6, 6, padding_idx=2)), "normal", "NaN"),
    "zeros through spectral_norm": Case(lambda: spectral_norm(linear()), 0, "NaN"),
    "zeros through spectral_norm of a convolution": Case(lambda: spectral_norm(nn.Conv2d(2, 3, 3)), 0, "NaN"),
    "zeros through the older weight_norm": Case(lambda: older(nn.utils.weight_norm, linear()), 0, "NaN"),
    "zeros through the older spectral_norm": Case(lambda: older(nn.utils.spectral_norm, linear()), 0, "NaN"),
    "an expanded original": Case(lambda: with_original(torch.zeros(1, 6).expand(6, 6)), "normal", "expanded"),
    "a sparse original": Case(lambda: with_original(torch.eye(6).to_sparse()), "normal", "sparse"),
}


def model_of(case: str) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 2), CASES[case].build(), nn.Linear(3, 3))


def recipe(init: Any) -> dict[str, Any]:
    return {"unused": "ignore", "rules": {"*": "normal std=0.5", "*.bias": 0.25, "^1.weight": init}}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("training", [True, False])
def test_what_cannot_be_set_is_refused_by_name_before_any_write(case: str, training: bool) -> None:
    model = model_of(case).train(training)
    with (
        untouched(model),
        pytest.raises(initplug.InitplugError, match=rf"1\.weight[\s\S]*({CASES[case].word})") as caught,
    ):
        initplug.apply(model, recipe(CASES[case].init))
    assert [finding.path for finding in caught.value.findings] == ["1.weight"]
    assert "parametrizations.weight" not in str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_set_is_no_matter_where_it_is_left_alone(case: str) -> None:
    model = model_of(case)
    bias = model[1]._parameters.get("bias")
    stored = [parameter for parameter in model[1].parameters() if parameter is not bias]
    kept = [(id(parameter), parameter._version) for parameter in stored]
    for init, only in ((CASES[case].init, ["0.weight", "2.bias"]), (CASES[case].init, "^0"), ("keep", None)):
        audit = initplug.apply(model, recipe(init), only=only)
        assert (audit["0.weight"].status, audit["1.weight"].status) == ("initialized", "kept")
        assert [(id(parameter), parameter._version) for parameter in stored] == kept


def test_all_that_cannot_be_set_is_told_together() -> None:
    model = nn.ModuleDict({case.replace(" ", "_"): CASES[case].build() for case in CASES if CASES[case].init == 0})
    model["one_way"] = parametrized(Symmetric())
    model["expanded"] = nn.ParameterDict({"weight": nn.Parameter(torch.zeros(1).expand(3))})
    with untouched(model), pytest.raises(initplug.InitplugError) as caught:
        initplug.apply(model, {"rules": {"*": 0}})
    text = str(caught.value)
    assert {finding.path for finding in caught.value.findings} >= {"one_way.weight", "expanded.weight"}
    assert "one_way.weight" in text and "expanded.weight" in text
    # Once these are mended, the zeros come to light.
    del model["one_way"], model["expanded"]
    with untouched(model), pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, {"rules": {"*": 0}})
    assert {finding.path for finding in caught.value.findings} == {f"{key}.weight" for key in model}


@pytest.mark.parametrize("init", [1, -2.5, "normal std=1e-6", "uniform 1 2", "eye", "orthogonal", "sparse 0.1"])
def test_what_can_be_set_is_not_refused(init: Any) -> None:
    torch.manual_seed(0)
    for made in (weight_norm(linear()), older(nn.utils.weight_norm, linear())):
        model: Any = made
        row = initplug.apply(model, {"rules": {"*": 0, "*.weight": init}})["weight"]
        assert (row.status, row.verdict) == ("initialized", "ok")
        assert bool(torch.isfinite(model(torch.ones(1, 6))).all())


def test_a_refusal_in_inference_mode_and_what_is_fine_there() -> None:
    with torch.inference_mode():
        model = nn.Sequential(parametrized(Setting(lambda value: value)))
    with untouched(model), pytest.raises(initplug.ApplyError, match=r"inference"):
        initplug.apply(model, {"rules": {"*": 1}})
    with torch.inference_mode():
        audit = initplug.apply(model, {"rules": {"*": 1}})
        assert {(row.status, row.measured_mean) for row in audit} == {("initialized", 1)}


def test_frozen_stored_tensors_are_written_and_stay_frozen() -> None:
    for made in (weight_norm(linear()), older(nn.utils.weight_norm, linear())):
        model: Any = made
        model.requires_grad_(False)
        audit = initplug.apply(model, {"frozen": "write", "rules": {"*": "normal"}})
        assert {(row.status, row.trainable) for row in audit} == {("initialized", False)}
        assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning")  # torch's own, as it builds them
def test_empty_parametrized_tensors_are_recorded() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(0, 4), nn.Linear(2, 2))
    parametrize.register_parametrization(model[1], "weight", Setting(lambda value: value))
    audit = initplug.apply(model, {"rules": {"*": "normal"}})
    assert (audit["1.weight"].status, audit["1.weight"].shape) == ("empty", (4, 0))
    assert (audit["2.weight"].status, audit["1.bias"].status) == ("initialized", "initialized")


def test_a_stop_in_the_middle_says_what_had_been_written() -> None:
    way = Setting(lambda value: value)
    model = nn.Sequential(nn.Linear(2, 2), parametrized(way), nn.Linear(2, 2))
    last = [parameter.detach().clone() for parameter in model[2].parameters()]

    def breaking(done: int, total: int) -> None:
        way.back = raising

    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(model, {"rules": {"*": 3}}, progress=breaking)
    text = str(caught.value)
    assert all(word in text for word in ("1.weight", "no way back from here", "0.weight", "0.bias", "1.bias"))
    assert "2.weight" not in text
    assert all(bool((parameter == 3).all()) for parameter in model[0].parameters())
    assert all(torch.equal(*pair) for pair in zip(last, model[2].parameters(), strict=True))
