from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from parametrization_parts import Halved, Noisy, public_weight, with_parts
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from untouched import bits, untouched

import initplug

NORMAL: dict[str, Any] = {"rules": {"*": 0.125, "*.weight": "normal std=0.5"}}
MAPS = ("householder", "cayley", "matrix_exp")


class Packed(nn.Module):
    """A symmetric matrix from its upper triangle: another shape outside than inside."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = torch.triu_indices(self.size, self.size)
        full = x.new_zeros(self.size, self.size)
        full[rows, columns] = x
        full[columns, rows] = x
        return full

    def right_inverse(self, value: Tensor) -> Tensor:
        rows, columns = torch.triu_indices(self.size, self.size)
        return value[rows, columns]


class Summed(nn.Module):
    """Two tensors outside the parametrization for one inside."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other

    def right_inverse(self, value: Tensor) -> tuple[Tensor, Tensor]:
        return value / 2, value / 2


KINDS: dict[str, Callable[[], nn.Module]] = {
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(6, 8)),
    "weight_norm of everything": lambda: parametrizations.weight_norm(nn.Linear(6, 8), dim=None),  # type: ignore[arg-type]  # as documented
    "weight_norm of a transposed convolution": lambda: parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 3)),
    "weight_norm of a grouped convolution": lambda: parametrizations.weight_norm(nn.Conv1d(4, 8, 3, groups=2)),
    "weight_norm of a table": lambda: parametrizations.weight_norm(nn.Embedding(9, 5)),
    "halved over weight_norm": lambda: with_parts(parametrizations.weight_norm(nn.Linear(6, 8)), Halved()),
    "halved": lambda: with_parts(nn.Linear(6, 8), Halved(), Halved()),
    "noisy": lambda: with_parts(nn.Linear(6, 8), Noisy()),
    "summed": lambda: with_parts(nn.Linear(6, 8), Summed()),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(6, 8)),
    "spectral_norm of a transposed convolution": lambda: parametrizations.spectral_norm(nn.ConvTranspose2d(4, 6, 3)),
    "spectral_norm over weight_norm": lambda: parametrizations.spectral_norm(
        parametrizations.weight_norm(nn.Linear(6, 8))
    ),
    "packed": lambda: with_parts(nn.Linear(6, 6), Packed(6), unsafe=True),
    **{
        f"orthogonal {how} {rows}x{columns}": lambda how=how, rows=rows, columns=columns: (  # type: ignore[misc]  # lambdas take no types
            parametrizations.orthogonal(nn.Linear(columns, rows), orthogonal_map=how)
        )
        for how in MAPS
        for rows, columns in ((6, 6), (4, 6), (6, 4))
    },
    "orthogonal householder alone": lambda: parametrizations.orthogonal(
        nn.Linear(6, 8), orthogonal_map="householder", use_trivialization=False
    ),
    "halved over orthogonal": lambda: with_parts(parametrizations.orthogonal(nn.Linear(6, 6)), Halved()),
}
PROJECTED = [kind for kind in KINDS if kind.startswith(("orthogonal", "spectral", "packed")) or "over orth" in kind]
FAITHFUL = [kind for kind in KINDS if kind not in PROJECTED]


def model_of(kind: str) -> nn.Sequential:
    """Plain, parametrized, plain, frozen in place so that a stray draw shows."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 5), KINDS[kind](), nn.Linear(2, 7))


def public(raw: str) -> str:
    head, found, tail = raw.partition(".parametrizations.")
    return f"{head}.{tail.split('.')[0]}" if found else raw


def by_hand(model: nn.Sequential) -> dict[str, Tensor]:
    """Draws into contiguous tensors in the raw model's order, each public tensor once, set as a user would."""
    drawn: dict[str, Tensor] = {}
    for raw, _ in list(model.named_parameters()):
        name = public(raw)
        if name in drawn:
            continue
        place, key = name.split(".")
        owner: Any = model[int(place)]
        value = torch.empty(public_weight(owner).shape if key == "weight" else owner.bias.shape)
        if key == "weight":
            nn.init.normal_(value, std=0.5)
        else:
            nn.init.constant_(value, 0.125)
        drawn[name] = value
        with torch.no_grad():
            if raw == name:
                getattr(owner, key).copy_(value)
            else:
                setattr(owner, key, value.clone())
    return drawn


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_equals_what_a_user_would_store(kind: str) -> None:
    ours, theirs = model_of(kind), model_of(kind)
    identities = [(name, id(tensor), tensor.requires_grad) for name, tensor in ours.named_parameters()]
    torch.manual_seed(0)
    audit = initplug.apply(ours, NORMAL)
    torch.manual_seed(0)
    drawn = by_hand(theirs)
    assert {row.name for row in audit} == set(drawn)
    fresh = {name: tensor for name, tensor in ours.state_dict().items() if not name.endswith(("._u", "._v"))}
    wrong = [
        name for name, tensor in theirs.state_dict().items() if name in fresh and bits(tensor) != bits(fresh[name])
    ]
    assert wrong == []
    assert identities == [(name, id(tensor), tensor.requires_grad) for name, tensor in ours.named_parameters()]
    row = audit["1.weight"]
    assert (row.status, row.verdict) == (("projected", "untestable") if kind in PROJECTED else ("initialized", "ok"))
    assert tuple(row.shape) == tuple(drawn["1.weight"].shape)
    if kind in FAITHFUL:
        assert torch.allclose(public_weight(ours[1]), drawn["1.weight"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", ["all train", "all eval", "mixed"])
def test_what_is_measured_is_there_and_modes_and_readings_stay(kind: str, training: str) -> None:
    model = model_of(kind).train(training == "all train")
    if training == "mixed":
        for index, part in enumerate(model.modules()):
            part.training = index % 2 == 0
    modes = [part.training for part in model.modules()]
    readings = [int(count) for name, count in model.named_buffers() if name.endswith("readings")]
    audit = initplug.apply(model, NORMAL)
    value = public_weight(model[1])
    row = audit["1.weight"]
    assert row.measured_mean == pytest.approx(value.mean().item(), abs=1e-5)
    assert row.measured_std == pytest.approx(value.std(correction=0).item(), rel=1e-4)
    assert (row.measured_min, row.measured_max) == pytest.approx((value.min().item(), value.max().item()), rel=1e-4)
    assert [part.training for part in model.modules()] == modes
    assert [int(count) for name, count in model.named_buffers() if name.endswith("readings")] == readings
    with untouched(model):
        again = initplug.audit(model, NORMAL)["1.weight"]
        initplug.plan(model, NORMAL)
    assert again.status == "read" and again.measured_std == pytest.approx(row.measured_std)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_says_of_a_parametrized_layer_what_it_says_of_the_plain_one(kind: str) -> None:
    if kind == "packed":
        return  # it hides a shape of its own
    rules = {"*": "normal", "*.bias": "fan_uniform", "<Linear|_ConvNd>.weight": "kaiming_normal effective fan_out"}
    recipe = {"unused": "ignore", "rules": rules}
    parametrized = model_of(kind)
    plain = copy.deepcopy(parametrized)
    parametrize.remove_parametrizations(plain[1], "weight")
    rows, expected = (
        {row["name"]: row for row in initplug.plan(one, recipe).to_dict()["rows"]} for one in (parametrized, plain)
    )
    assert rows == expected
    bare = initplug.plan(parametrized[1], recipe)
    assert {row.name for row in bare} <= {"weight", "bias"} and bare["weight"].module_type == type(plain[1]).__name__


@pytest.mark.parametrize("kind", ["spectral_norm", "spectral_norm of a transposed convolution"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("init", ["normal std=20", "orthogonal", 3, "uniform 0.5 1.5"])
def test_the_largest_singular_value_is_one_at_once(kind: str, training: bool, init: Any) -> None:
    model = KINDS[kind]().train(training)
    initplug.apply(model, {"rules": {"*": 0.1, "*.weight": init}})
    norm: Any = model.get_submodule("parametrizations.weight.0")
    matrix = norm._reshape_weight_to_matrix(public_weight(model))
    assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=0.05)
    assert norm._u.norm().item() == pytest.approx(1, abs=1e-4) and norm._v.norm().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["weight_norm", "halved", "summed", "halved over weight_norm"])
def test_rounding_in_short_dtypes_is_no_projection(kind: str, dtype: torch.dtype) -> None:
    model = nn.Sequential(KINDS[kind]().to(dtype))
    row = initplug.apply(model, NORMAL)["0.weight"]
    assert (row.status, row.verdict, row.dtype) == ("initialized", "ok", str(dtype).removeprefix("torch."))


@pytest.mark.parametrize("init", [0.1, -7.7, {"split": [0.1, 0.3]}, {"split": [0.3, "uniform 1 2"], "dim": 1}])
def test_rounding_of_constants_is_no_difference(init: Any) -> None:
    found = set()
    for size in range(2, 30, 2):
        model = parametrizations.weight_norm(nn.Linear(size, size))
        recipe = {"rules": {"*": 0, "*.weight": init}}
        row = initplug.apply(model, recipe)["weight"]
        found |= {row.status, row.verdict, initplug.audit(model, recipe)["weight"].verdict}
    assert found == {"initialized", "ok"}


def test_a_value_that_the_parametrization_can_hold_is_no_projection() -> None:
    packed = KINDS["packed"]()
    row = initplug.apply(packed, {"rules": {"*": 0, "*.weight": 2}})["weight"]
    assert (row.shape, row.status, row.verdict) == ((6, 6), "initialized", "ok")
    packed = KINDS["packed"]()
    assert initplug.apply(packed, {"rules": {"*": 0, "*.weight": "eye"}})["weight"].status == "initialized"


@pytest.mark.parametrize("kind", [kind for kind in FAITHFUL if kind != "weight_norm of a table"])  # of 9 rows
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("parts", [[1, "keep"], ["keep", "normal std=0.5"]])
def test_a_kept_part_reads_as_before(kind: str, dim: int, parts: list[Any]) -> None:
    model = model_of(kind)
    _scribble()
    before = public_weight(model[1]).chunk(2, dim)
    recipe = {"rules": {"*": 0, "^1.weight": {"split": parts, "dim": dim}}}
    torch.manual_seed(0)
    audit = initplug.apply(model, recipe)
    torch.manual_seed(0)
    after = public_weight(model[1]).chunk(2, dim)
    for part, old, new in zip(parts, before, after, strict=True):
        if part == "keep":
            assert torch.allclose(new, old, rtol=1e-5, atol=1e-6)
        elif part == 1:
            assert torch.allclose(new, torch.ones(()), rtol=1e-5)
        else:
            assert new.std().item() == pytest.approx(0.5, rel=0.5)
    assert (audit["1.weight"].status, audit["1.weight"].verdict) == ("initialized", "ok")


def _scribble() -> None:
    """Leave traces in freed memory, which a tensor without values would show."""
    for _ in range(8):
        del [torch.full((size,), 77.0) for size in range(8, 300, 8)][:]


def test_cached_readings_are_neither_believed_nor_left_behind() -> None:
    model = model_of("weight_norm")
    layer: Any = model[1]
    with parametrize.cached():
        old = layer.weight.detach().clone()
        entries = len(parametrize._cache)
        initplug.plan(model, NORMAL)
        audit = initplug.apply(model, NORMAL)
        assert len(parametrize._cache) <= entries
    new = public_weight(layer)
    assert not torch.equal(old, new)
    assert audit["1.weight"].measured_mean == pytest.approx(new.mean().item(), abs=1e-6)
    assert audit["1.weight"].status == "initialized"


def test_a_stack_that_torch_itself_cannot_read_is_refused_by_name() -> None:
    stack = parametrizations.weight_norm(with_parts(nn.Linear(6, 8), Halved()))  # torch registers it without a word
    with pytest.raises(TypeError):
        public_weight(stack)
    model = nn.Sequential(nn.Linear(2, 2), stack)
    with untouched(model), pytest.raises(initplug.InitplugError, match=r"1\.weight"):
        initplug.apply(model, NORMAL)


# Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "selector",
    ["^1.weight", "1.weight", "<Linear>.weight", "<torch.nn.Linear>.weight", "*.weight", "^-2.weight", "^1", "wei*"],
)
def test_selectors_find_the_public_name(selector: str) -> None:
    for kind in ("weight_norm", "halved", "orthogonal householder 6x6"):
        model = model_of(kind)
        plan = initplug.plan(model, {"rules": {"*": 0, selector: "normal"}})
        assert plan["1.weight"].rule == selector
        audit = initplug.apply(model, plan, only=["1.weight"])
        assert [row.name for row in audit if row.status != "kept"] == ["1.weight"]
        assert len(audit.to_dict()["rows"]) == 6


def test_raw_names_select_in_only_and_the_slot_is_written_once() -> None:
    for kind in KINDS:
        model = model_of(kind)
        raw = [name for name in model.state_dict() if ".original" in name]
        for names in (raw, [*reversed(raw), "1.weight"]):
            torch.manual_seed(0)
            audit = initplug.apply(model, NORMAL, only=names)
            after = torch.get_rng_state()
            assert [row.name for row in audit if row.status != "kept"] == ["1.weight"], (kind, names)
            torch.manual_seed(0)
            initplug.apply(model, NORMAL, only=["1.weight"])
            assert torch.equal(torch.get_rng_state(), after)


# Afterwards -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_still_trains_saves_and_sheds_its_parametrization(kind: str) -> None:
    model: Any = KINDS[kind]()
    initplug.apply(model, NORMAL)
    model.eval()
    value = public_weight(model)
    twin: Any = KINDS[kind]().eval()
    twin.load_state_dict(model.state_dict())
    assert torch.allclose(public_weight(twin), value, atol=1e-6)
    model.weight.sum().backward()
    stored = model.get_submodule("parametrizations.weight")
    assert any(parameter.grad is not None for parameter in stored.parameters())
    assert all(parameter.is_leaf for parameter in model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parametrize.remove_parametrizations(twin, "weight", leave_parametrized=True)
    assert torch.allclose(twin.weight, value, atol=1e-6)
