from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from parametrization_parts import Doubled, Exponential, Symmetric, older, with_parts
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import initplug
import initplug.filling.checks as refusing
import initplug.filling.owners as writing
import initplug.filling.write as execution

ADAPTERS = {"match": "*lora*", "init": "normal std=0.1", "optional": True}
RECIPE = {"rules": {"*.weight": "normal std=0.5", "*.bias": 0.25, "adapters": ADAPTERS}}


def pruned(how: Any, module: nn.Module, *arguments: Any, **named: Any) -> nn.Module:
    how(module, "weight", *arguments, **named)
    return module


class LowRank(nn.Module):
    """The weight and a product of its own, as adapters add it."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.lora_a = nn.Parameter(torch.zeros(rows, 2))
        self.lora_b = nn.Parameter(torch.zeros(2, columns))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.lora_a @ self.lora_b

    def right_inverse(self, value: Tensor) -> Tensor:
        return value - self.lora_a @ self.lora_b


def linear(rows: int = 20, columns: int = 30) -> nn.Linear:
    return nn.Linear(columns, rows)


FAITHFUL: dict[str, Callable[[], nn.Module]] = {
    "weight_norm": lambda: parametrizations.weight_norm(linear()),
    "weight_norm along another dim": lambda: parametrizations.weight_norm(linear(), dim=1),
    "weight_norm of a convolution": lambda: parametrizations.weight_norm(nn.Conv2d(3, 8, 3)),
    "weight_norm below another": lambda: with_parts(parametrizations.weight_norm(linear()), Doubled()),
    "custom": lambda: with_parts(linear(), Doubled(), Doubled()),
    "adapter": lambda: with_parts(linear(), LowRank(20, 30)),
    "old weight_norm": lambda: older(nn.utils.weight_norm, linear()),
    "pruned by a full mask": lambda: pruned(prune.custom_from_mask, linear(), torch.ones(20, 30)),
}
PROJECTING: dict[str, Callable[[], nn.Module]] = {
    "spectral_norm": lambda: parametrizations.spectral_norm(linear()),
    "spectral_norm of a convolution": lambda: parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)),
    "orthogonal": lambda: parametrizations.orthogonal(linear()),
    "orthogonal by householder": lambda: parametrizations.orthogonal(linear(), orthogonal_map="householder"),
    "orthogonal by householder alone": lambda: parametrizations.orthogonal(
        linear(), orthogonal_map="householder", use_trivialization=False
    ),
    "orthogonal by cayley": lambda: parametrizations.orthogonal(linear(20, 20), orthogonal_map="cayley"),
    "orthogonal by matrix_exp": lambda: parametrizations.orthogonal(linear(20, 20), orthogonal_map="matrix_exp"),
    "old spectral_norm": lambda: older(nn.utils.spectral_norm, linear()),
    "pruned": lambda: pruned(prune.l1_unstructured, linear(), 0.5),
    "pruned twice": lambda: pruned(prune.random_structured, pruned(prune.l1_unstructured, linear(), 0.3), 0.2, dim=0),
}


def effective(module: nn.Module) -> Tensor:
    """The weight that the forward pass in evaluation mode uses, without the bias."""
    training = module.training
    found: Tensor
    module.eval()
    with torch.no_grad():
        if isinstance(module, nn.Linear):
            found = (module(torch.eye(module.in_features)) - module.bias).T
        else:
            assert isinstance(module, nn.Conv2d)
            module(torch.zeros(1, 3, 5, 5))
            found = module.weight.detach().clone()
    module.train(training)
    return found


def snapshot(model: nn.Module) -> dict[str, tuple[int, Tensor]]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: (id(tensor), tensor.detach().clone()) for name, tensor in named}


def unchanged(model: nn.Module, before: dict[str, tuple[int, Tensor]]) -> bool:
    after = snapshot(model)
    return list(after) == list(before) and all(
        after[name][0] == before[name][0] and torch.equal(after[name][1].nan_to_num(), before[name][1].nan_to_num())
        for name in before
    )


@pytest.mark.parametrize("kind", FAITHFUL)
@pytest.mark.parametrize("seed", [None, 3])
def test_a_computed_weight_is_known_by_its_public_name_and_arrives(kind: str, seed: int | None) -> None:
    model = nn.Sequential(FAITHFUL[kind]())
    kept, training = [id(parameter) for parameter in model.parameters()], model[0].training
    torch.manual_seed(0)
    audit = initplug.apply(model, RECIPE, seed=seed)
    row = audit["0.weight"]
    assert (row.module_type, row.shape) == (
        type(model[0]).__name__.removeprefix("Parametrized"),
        effective(model[0]).shape,
    )
    assert {row.status for row in audit} == {"initialized"} and {row.verdict for row in audit} == {"ok"}
    assert row.measured_std == pytest.approx(effective(model[0]).std(correction=0).item(), rel=1e-4)
    assert [id(parameter) for parameter in model.parameters()] == kept and model[0].training == training
    assert initplug.audit(model, RECIPE)["0.weight"].verdict == "ok"


@pytest.mark.parametrize("kind", FAITHFUL)
def test_the_bits_are_those_of_the_hand_written_draw(kind: str) -> None:
    model = nn.Sequential(FAITHFUL[kind]())
    row = initplug.plan(model, {"rules": {"*": "normal std=0.5"}})["0.weight"]
    torch.manual_seed(0)
    expected = nn.init.normal_(torch.empty(row.shape), std=0.5)
    torch.manual_seed(0)
    initplug.apply(model, {"rules": {"*": 0, "*.weight": "normal std=0.5"}})
    assert torch.allclose(effective(model[0]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", PROJECTING)
@pytest.mark.parametrize("seed", [None, 3])
def test_what_is_not_read_back_is_projected(kind: str, seed: int | None) -> None:
    model = nn.Sequential(PROJECTING[kind]())
    torch.manual_seed(0)
    audit = initplug.apply(model, RECIPE, seed=seed)
    row = audit["0.weight"]
    assert (row.status, row.verdict) == ("projected", "untestable")
    weight = effective(model[0])
    assert row.measured_std == pytest.approx(weight.std(correction=0).item(), rel=1e-3)
    assert audit["0.bias"].verdict == "ok"
    again = initplug.audit(model, RECIPE)["0.weight"]
    assert (again.status, again.verdict) == ("read", "untestable")
    if "orthogonal" in kind:
        assert torch.allclose(weight @ weight.T, torch.eye(20), atol=1e-4)


@pytest.mark.parametrize("kind", ["spectral_norm", "spectral_norm of a convolution", "old spectral_norm"])
def test_spectral_norms_hold_at_once(kind: str) -> None:
    model = PROJECTING[kind]()
    initplug.apply(model, {"rules": {"*.weight": "normal std=7", "*.bias": 0}}, seed=0)
    assert torch.linalg.matrix_norm(effective(model).flatten(1), 2).item() == pytest.approx(1, abs=1e-5)


NORMED: dict[str, Callable[[], Any]] = {
    "square": lambda: nn.Linear(256, 256),
    "wide": lambda: nn.Linear(1000, 64),
    "tall": lambda: nn.Linear(64, 1000),
    "one row": lambda: nn.Linear(9, 1),
    "one column": lambda: nn.Linear(1, 9),
    "convolution": lambda: nn.Conv2d(32, 64, 3),
    "transposed": lambda: nn.ConvTranspose2d(64, 32, 3),
    "complex": lambda: nn.Linear(32, 32, dtype=torch.complex64),
    "double": lambda: nn.Linear(100, 100, dtype=torch.float64),
}


@pytest.mark.parametrize("kind", NORMED)
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_norm_is_one_before_and_after_the_first_forward_pass(kind: str, old: bool, training: bool) -> None:
    if old and kind == "complex":
        return  # torch's older function multiplies by the vectors without conjugating them
    plain = NORMED[kind]()
    model: Any = older(nn.utils.spectral_norm, plain) if old else parametrizations.spectral_norm(plain)
    initplug.apply(model.train(training), {"rules": {"*": "normal"}}, seed=0)
    rows = 1 if kind == "transposed" else 0  # the dimension whose slices torch takes for rows
    for _ in range(2):
        matrix = model.weight.detach().movedim(rows, 0).flatten(1)
        assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=1e-4)
        width = model.weight.shape[0 if kind == "transposed" else 1]
        model(torch.ones(2, width, *[5] * (model.weight.ndim - 2), dtype=model.weight.dtype))


@pytest.mark.parametrize(
    "weight",
    [
        torch.eye(5),
        torch.ones(3, 4),
        torch.tensor([[1.0, -1], [2, -2]]),  # which equal numbers tell nothing of
        torch.randn(4, 4, generator=torch.Generator().manual_seed(0)) * 1e25,
        torch.zeros(6, 6).index_fill(0, torch.tensor([2]), 3.0),
        torch.linspace(1, 300, 300).diag(),
    ],
    ids=["equal values", "one value", "no mean", "squares overflow", "one row", "close values"],
)
def test_the_vectors_of_any_matrix_are_found(weight: Tensor) -> None:
    rows, columns = weight.shape
    left, right = torch.empty(rows), torch.empty(columns)
    writing._write_dominant_vectors(weight, left, right)
    assert (left @ weight @ right).item() == pytest.approx(torch.linalg.matrix_norm(weight, 2).item(), rel=1e-4)
    assert (left.norm().item(), right.norm().item()) == pytest.approx((1, 1))


@pytest.mark.parametrize("kind", [*FAITHFUL, *PROJECTING])
def test_planning_and_auditing_move_nothing(kind: str) -> None:
    model = nn.Sequential((FAITHFUL | PROJECTING)[kind]())
    before, generator = snapshot(model), torch.get_rng_state()
    initplug.plan(model, RECIPE)
    initplug.audit(model, RECIPE)
    assert unchanged(model, before) and torch.equal(torch.get_rng_state(), generator)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("kind", [*FAITHFUL, *PROJECTING])
def test_default_is_what_the_plain_layer_draws(kind: str) -> None:
    if kind == "adapter":
        return  # its own parameters have no reset
    model = (FAITHFUL | PROJECTING)[kind]()
    row = initplug.plan(model, "torch_default")["weight"]
    bound = 1 / math.sqrt(math.prod(row.shape[1:]))
    assert isinstance(row.distribution, initplug.Uniform)
    assert (row.low, row.high) == pytest.approx((-bound, bound))


def test_default_reaches_a_weight_that_was_computed_below_a_reset() -> None:
    model = nn.MultiheadAttention(8, 2)
    parametrizations.weight_norm(model, "in_proj_weight")
    row = initplug.plan(model, "torch_default")["in_proj_weight"]
    assert row.high == pytest.approx(math.sqrt(6 / (8 + 24)))


# What parametrizations own ----------------------------------------------------------------------------------------


def test_parameters_of_parametrizations_are_slots_and_come_first() -> None:
    model = nn.ModuleDict({"fc": with_parts(linear(), LowRank(20, 30))})
    names = ["fc.bias", "fc.parametrizations.weight.0.lora_a", "fc.parametrizations.weight.0.lora_b", "fc.weight"]
    assert [row.name for row in initplug.plan(model, RECIPE)] == names
    initplug.apply(model, RECIPE, seed=0)
    alone = nn.ModuleDict({"fc": linear()})
    initplug.apply(alone, RECIPE, seed=0)
    assert torch.allclose(effective(model["fc"]), effective(alone["fc"]), atol=1e-5)


def test_places_are_counted_without_the_holder_of_parametrizations() -> None:
    model = nn.Sequential(linear(), linear())
    model.register_parameter("scale", nn.Parameter(torch.ones(3)))
    with_parts(model, Doubled(), name="scale")
    plan = initplug.plan(model, {"rules": {"*": 0, "^-1": 1}})
    assert [row.rule for row in plan] == ["*", "*", "^-1", "^-1", "*"]


def test_selectors_and_references_see_public_names() -> None:
    model = nn.ModuleDict(
        {"a": parametrizations.weight_norm(linear(20, 16)), "b": older(nn.utils.weight_norm, linear(20, 16))}
    )
    rules = {"<Linear>.weight": "xavier_uniform", "*.bias": "fan_uniform of=weight", "<Parametrized*>": 5}
    with pytest.warns(initplug.InitplugWarning, match="selects nothing"):
        plan = initplug.plan(model, {"rules": rules})
    assert {row.name: row.rule for row in plan if row.name.endswith("weight")} == {
        "a.weight": "<Linear>.weight",
        "b.weight": "<Linear>.weight",
    }
    assert plan["a.bias"].high == plan["b.bias"].high == 0.25


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("weight_norm", ["0.parametrizations.weight.original0", "0.parametrizations.weight.original1"]),
        ("old weight_norm", ["0.weight_v", "0.weight_g"]),
        ("pruned", ["0.weight_orig"]),
    ],
)
def test_only_takes_what_a_state_dict_calls_it(kind: str, raw: list[str]) -> None:
    model = nn.Sequential((FAITHFUL | PROJECTING)[kind]())
    audit = initplug.apply(model, RECIPE, only=raw)
    assert [row.name for row in audit if row.status not in ("kept",)] == ["0.weight"]


def test_padding_rows_of_a_computed_embedding_stay_zero() -> None:
    model = with_parts(nn.Embedding(5, 4, padding_idx=2), Doubled())
    initplug.apply(model, {"rules": {"*": "normal"}})
    weight = model(torch.arange(5))
    assert not weight[2].any() and weight[[0, 1, 3, 4]].all()


# Ties -------------------------------------------------------------------------------------------------------------


def tie(model: nn.ModuleDict, name: str, other: str) -> None:
    model[name].register_parameter("weight", model[other].get_parameter("weight"))


def test_a_plain_tensor_and_one_computed_from_it_are_one_slot() -> None:
    model = nn.ModuleDict({"plain": linear(6, 6), "doubled": linear(6, 6)})
    tie(model, "doubled", "plain")
    with_parts(model["doubled"], Doubled())
    plan = initplug.plan(model, {"rules": {"*.weight": "normal", "*.bias": 0}})
    assert (plan["plain.weight"].aliases, len(plan)) == (("doubled.weight",), 3)
    audit = initplug.apply(model, plan, seed=0)
    assert audit["plain.weight"].status == "projected"  # the other owner reads twice of what was drawn
    assert torch.equal(effective(model["doubled"]), 2 * model["plain"].get_parameter("weight").detach())


def test_two_owners_that_compute_from_one_tensor_are_one_slot() -> None:
    model = nn.ModuleDict({"a": linear(6, 6), "b": linear(6, 6)})
    tie(model, "b", "a")
    for name in ("a", "b"):
        with_parts(model[name], Doubled())
    torch.manual_seed(0)
    expected = nn.init.normal_(torch.empty(6, 6))
    torch.manual_seed(0)
    audit = initplug.apply(model, {"rules": {"*": 0, "*.weight": "normal"}})
    assert audit["a.weight"].aliases == ("b.weight",) and audit["a.weight"].status == "initialized"
    assert torch.equal(effective(model["a"]), expected) and torch.equal(effective(model["b"]), expected)


def test_tensors_that_share_only_a_part_of_what_they_store_are_told() -> None:
    model = nn.ModuleDict({name: parametrizations.weight_norm(linear(6, 6)) for name in ("a", "b")})
    lists = [module.get_submodule("parametrizations.weight") for module in model.values()]
    lists[1].register_parameter("original1", lists[0].get_parameter("original1"))
    with pytest.raises(
        initplug.PlanError, match=r"b\.weight and a\.weight are computed from tensors that they share in part"
    ):
        initplug.plan(model, RECIPE)


# Refusals ---------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "no right_inverse": (
        lambda: with_parts(linear(6, 6), Symmetric()),
        "normal",
        r"0\.weight: its parametrization Symmetric has no right_inverse",
    ),
    "no right_inverse below one": (
        lambda: with_parts(linear(6, 6), Symmetric(), Doubled()),
        "normal",
        "Symmetric has no right_inverse",
    ),
    "a setter that raises": (
        lambda: parametrizations.orthogonal(linear(6, 6), orthogonal_map="cayley", use_trivialization=False),
        "normal",
        "It is not possible to assign to the matrix exponential or the Cayley parametrizations",
    ),
    "zero through weight_norm": (
        lambda: parametrizations.weight_norm(linear()),
        0,
        "WeightNorm makes it infinite or NaN",
    ),
    "zero through spectral_norm": (
        lambda: parametrizations.spectral_norm(linear()),
        0,
        "SpectralNorm makes it infinite or NaN",
    ),
    "zero through the old weight_norm": (
        lambda: older(nn.utils.weight_norm, linear()),
        0,
        "WeightNorm makes it infinite",
    ),
    "zero through the old spectral_norm": (
        lambda: older(nn.utils.spectral_norm, linear()),
        0,
        "SpectralNorm makes it infinite",
    ),
    "a logarithm of what is negative": (lambda: with_parts(linear(), Exponential()), "normal", "Exponential makes it"),
}


@pytest.mark.parametrize("refusal", REFUSED)
@pytest.mark.parametrize("seed", [None, 0])
def test_what_cannot_be_assigned_is_refused_before_the_first_write(refusal: str, seed: int | None) -> None:
    build, init, message = REFUSED[refusal]
    model = nn.Sequential(build(), nn.Linear(20, 3))
    before, generator = snapshot(model), torch.get_rng_state()
    with pytest.raises(initplug.ApplyError, match=message) as caught:
        initplug.apply(model, {"rules": {"*": 1, "*.weight": init}}, seed=seed)
    assert [finding.path for finding in caught.value.findings] == ["0.weight"]
    assert unchanged(model, before) and torch.equal(torch.get_rng_state(), generator)
    assert initplug.apply(model, {"rules": {"*": 1, "^0.weight": "keep"}})["0.weight"].status == "kept"


def test_a_shape_that_only_values_tell_is_an_error_of_the_plan() -> None:
    class Compressed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[x.abs() > 0.01].reshape(-1)

    model = linear(6, 6)
    parametrize.register_parametrization(model, "weight", Compressed(), unsafe=True)
    with pytest.raises(initplug.PlanError, match="the shape of weight cannot be told without values"):
        initplug.plan(model, RECIPE)


# Each verification is needed: without it a test sees a wrong result ------------------------------------------------


def silent_loss(seed: int | None = None, *, tied: bool = False) -> None:
    """An owner that swaps a tensor before it is written."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False))
    if tied:
        model[2].weight = model[1].weight

    def swap(done: int, total: int) -> None:
        model[2 if tied else 1].register_parameter("weight", nn.Parameter(torch.zeros(1, 3)))

    with pytest.raises(initplug.ApplyError, match="the owner no longer holds the tensor"):
        initplug.apply(model, {"rules": {"*": 1}}, seed=seed, progress=swap)


def silent_loss_under_a_seed() -> None:
    silent_loss(seed=0)


def silent_loss_of_a_tie() -> None:
    silent_loss(tied=True)


def projection() -> None:
    test_what_is_not_read_back_is_projected("spectral_norm", None)


def nan_through_weight_norm() -> None:
    test_what_cannot_be_assigned_is_refused_before_the_first_write("zero through weight_norm", None)


def missing_inverse() -> None:
    test_what_cannot_be_assigned_is_refused_before_the_first_write("no right_inverse", None)


def stale_vectors() -> None:
    test_spectral_norms_hold_at_once("spectral_norm")


def moved_vectors() -> None:
    test_planning_and_auditing_move_nothing("spectral_norm")


def partial_ties() -> None:
    test_a_plain_tensor_and_one_computed_from_it_are_one_slot()


class NoContext:
    def __init__(self, *_: object) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


MUTATIONS: list[tuple[Callable[[], None], Any, str, Any]] = [
    (silent_loss, execution, "in_place", lambda holder, key, tensor: True),
    (silent_loss_under_a_seed, execution, "strayed", lambda tree, slots, rows: None),
    (silent_loss_of_a_tie, execution, "arrived", lambda tree, slot: True),
    (projection, execution, "reads_back", lambda slot, value: True),
    (partial_ties, execution, "reads_back", lambda slot, value: True),
    (nan_through_weight_norm, refusing, "rehearsed", lambda slot, fill: True),
    (missing_inverse, refusing, "refusal", lambda slot: None),
    (stale_vectors, writing, "_refresh_singular_vectors", lambda by: None),
    (moved_vectors, writing, "evaluating", NoContext),
]


@pytest.mark.parametrize(
    ("scene", "module", "name", "mutant"), MUTATIONS, ids=lambda part: getattr(part, "__name__", None)
)
def test_a_verification_that_is_removed_is_missed(
    scene: Callable[[], None], module: Any, name: str, mutant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene()
    monkeypatch.setattr(module, name, mutant)
    with pytest.raises((AssertionError, pytest.fail.Exception, initplug.ApplyError)):
        scene()


def test_copies_of_a_model_are_independent() -> None:
    model = nn.Sequential(parametrizations.weight_norm(linear()))
    other = copy.deepcopy(model)
    initplug.apply(other, RECIPE, seed=0)
    assert not torch.equal(effective(model[0]), effective(other[0]))
