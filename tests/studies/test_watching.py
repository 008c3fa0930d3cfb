"""What a constructor writes is read back as the distribution that it was written with, however it was written."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.init import trunc_normal_ as cut_normal
from torch.nn.init import xavier_uniform_ as glorot

from initplug.schemes.compositions import Batched, Stacked
from initplug.schemes.distributions import Complex, Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.log_uniform import LogUniform
from initplug.schemes.structures.arange import Arange
from initplug.schemes.structures.identity import Dirac, Eye
from initplug.schemes.structures.orthogonal import Orthogonal
from initplug.schemes.structures.sincos import SinCos
from initplug.schemes.structures.sparse import Sparse
from initplug.schemes.uniform_log import UniformLog
from initplug.studies.recording.construction import watched
from initplug.studies.recording.forms import Computed, Given, Outcome, Table, Unwritten
from initplug.studies.recording.rows import Row

SHAPE = (8, 6)


class Net(nn.Module):
    """A parameter that a function makes."""

    def __init__(self, make: Callable[[], Tensor]) -> None:
        super().__init__()
        self.w = nn.Parameter(make())


def row_of(make: Callable[[], Tensor]) -> Row:
    (row,) = watched(lambda: Net(make)).rows
    return row


def after(*writes: Callable[[Tensor], object], shape: tuple[int, ...] = SHAPE) -> Callable[[], Tensor]:
    """A function that makes memory and writes to it."""

    def make() -> Tensor:
        tensor = torch.empty(shape)
        with torch.no_grad():
            for write in writes:
                write(tensor)
        return tensor

    return make


def init(name: str, *given: object, **named: object) -> Callable[[Tensor], object]:
    return lambda tensor: getattr(nn.init, name)(tensor, *given, **named)


def by_erfinv(tensor: Tensor, mean: float, std: float, low: float, high: float) -> None:
    """The way of older timm and of JAX."""
    below, above = ((1 + math.erf((end - mean) / std / math.sqrt(2))) / 2 for end in (low, high))
    tensor.uniform_(2 * below - 1, 2 * above - 1).erfinv_().mul_(std * math.sqrt(2)).add_(mean).clamp_(low, high)


def mamba(floor: float = 1e-4) -> Tensor:
    steps = torch.exp(torch.rand(16) * (math.log(0.1) - math.log(0.001)) + math.log(0.001)).clamp(min=floor)
    return steps + torch.log(-torch.expm1(-steps))


def by_rejection(write: Callable[[Tensor, Tensor], Tensor], std: float = 0.5) -> Tensor:
    """The way of loops that draw anew what lies beyond two deviations, and give up after a while."""
    tensor = torch.empty(16, 16).normal_(0, std)
    for _ in range(20):
        beyond = (tensor < -2 * std) | (tensor > 2 * std)
        tensor = write(tensor, beyond)
    return tensor


def in_place(tensor: Tensor, beyond: Tensor) -> Tensor:
    tensor[beyond] = torch.randn(int(beyond.sum())) * 0.5
    return tensor


def by_gather() -> Tensor:
    """The way of the first of four that is near enough."""
    four = torch.empty(16, 16, 4).normal_()
    near = (four < 2) & (four > -2)
    return four.gather(-1, near.max(-1, keepdim=True)[1]).squeeze(-1).mul_(0.1).add_(1)


def without_norm(scale: float = 1.0) -> Tensor:
    """What weight norm leaves when it is taken off."""
    layer = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 3, 4), dim=2)
    if scale != 1:
        layer.parametrizations["weight"].original0.data.mul_(scale)
    nn.utils.parametrize.remove_parametrizations(layer, "weight")
    weight: Tensor = layer.weight.detach()
    return weight


def padded(tensor: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, 6), tensor, torch.ones(1, 6)])


READ: dict[str, tuple[Callable[[], Tensor], Outcome]] = {
    "init normal": (after(init("normal_", 1.0, 2.0)), Normal(1.0, 2.0)),
    "init uniform": (after(init("uniform_", -1.0)), Uniform(-1.0, 1.0)),
    "an alias": (after(glorot), Uniform(-math.sqrt(6 / 14), math.sqrt(6 / 14))),
    "a partial": (after(partial(cut_normal, std=0.02)), TruncatedNormal(0.0, 0.02, -2.0, 2.0)),
    "kaiming": (after(init("kaiming_normal_", mode="fan_out")), Normal(0.0, math.sqrt(2 / 8))),
    "orthogonal": (after(init("orthogonal_", 0.5)), Orthogonal(0.5, 8, 6)),
    "sparse": (after(init("sparse_", 0.5)), Sparse(0.01, 0.5, 8)),
    "eye": (after(init("eye_")), Eye(1.0, 8, 6)),
    "dirac": (after(init("dirac_"), shape=(4, 4, 3)), Dirac(1.0, 1, (4, 4, 3))),
    "randn": (lambda: torch.randn(SHAPE) * 0.02, Normal(0.0, 0.02)),
    "rand": (lambda: (torch.rand(SHAPE) - 0.5) / 4, Uniform(-0.125, 0.125)),
    "rand backwards": (lambda: 1 - 2 * torch.rand(SHAPE), Uniform(-1.0, 1.0)),
    "torch.normal": (lambda: torch.normal(1.0, 0.5, SHAPE), Normal(1.0, 0.5)),
    "normal of tensors": (lambda: torch.normal(torch.zeros(SHAPE), torch.full(SHAPE, 0.5)), Normal(0.0, 0.5)),
    "the legacy constructor": (lambda: torch.Tensor(8, 6).uniform_(0, 2), Uniform(0.0, 2.0)),
    "zeros": (lambda: torch.zeros(3), Constant(0.0)),
    "full": (lambda: torch.full((3,), 0.5), Constant(0.5)),
    "ones scaled": (lambda: 1e-6 * torch.ones(3), Constant(1e-6)),
    "a list": (lambda: torch.tensor([2.0, 2.0]), Constant(2.0)),
    "linspace": (lambda: torch.linspace(0, 1, 7), Table()),
    "numpy zeros": (lambda: torch.from_numpy(np.zeros(3, np.float32)), Constant(0.0)),
    "scaled afterwards": (after(init("normal_"), lambda t: t.mul_(0.5), lambda t: t.add_(1)), Normal(1.0, 0.5)),
    "scaled by a tensor": (after(init("normal_"), lambda t: t.div_(torch.tensor(4.0))), Normal(0.0, 0.25)),
    "overwritten": (after(init("normal_"), init("zeros_")), Constant(0.0)),
    "data": (after(lambda t: t.data.normal_(0, 0.5)), Normal(0.0, 0.5)),
    "copy_": (after(lambda t: t.copy_(torch.randn(SHAPE))), Normal(0.0, 1.0)),
    "set_ by data": (after(lambda t: setattr(t, "data", torch.ones(SHAPE))), Constant(1.0)),
    "halves": (lambda: (torch.randn(SHAPE) * 0.1).half().float(), Normal(0.0, 0.1)),
    "double": (lambda: torch.randn(SHAPE, dtype=torch.float64), Normal(0.0, 1.0)),
    "transposed": (after(lambda t: init("kaiming_normal_")(t.t())), Normal(0.0, math.sqrt(2 / 8))),
    "a view": (after(lambda t: t.view(-1).fill_(2)), Constant(2.0)),
    "by erfinv": (after(partial(by_erfinv, mean=0, std=1, low=-2, high=2)), TruncatedNormal(0.0, 1.0, -2.0, 2.0)),
    "mamba": (mamba, LogUniform(0.001, 0.1, "inverse_softplus")),
    "mamba, raised": (partial(mamba, 0.01), LogUniform(0.001, 0.1, "inverse_softplus", 0.01)),
    "log uniform": (lambda: (torch.rand(9) * 2).exp(), LogUniform(1.0, math.exp(2.0))),
    "the logarithm of uniform draws": (lambda: torch.empty(16).uniform_(1, 16).log(), UniformLog(1.0, 16.0)),
    "a sum of draws": (lambda: 3 * torch.randn(5) + 4 * torch.randn(5), Normal(0.0, 5.0)),
    "rows": (after(lambda t: [row.normal_(0, 0.1) for row in t]), Normal(0.0, 0.1)),
    "a row and the rest": (
        after(init("normal_"), lambda t: t[:4].zero_()),
        Stacked((Constant(0.0), Normal(0.0, 1.0)), 0),
    ),
    "columns": (
        after(init("normal_"), lambda t: t[:, :3].mul_(2)),
        Stacked((Normal(0.0, 2.0), Normal(0.0, 1.0)), 1),
    ),
    "every other row": (
        after(lambda t: t[0::2].fill_(1), lambda t: t[1::2].fill_(0)),
        Stacked((Constant(1.0), Constant(0.0)) * 4, 0),
    ),
    "chunks": (
        after(lambda t: [init("orthogonal_")(part) for part in t.chunk(2)]),
        Stacked((Orthogonal(1.0, 4, 6),) * 2, 0),
    ),
    "experts": (
        after(lambda t: [init("orthogonal_")(part) for part in t], shape=(3, 4, 6)),
        Batched(Orthogonal(1.0, 4, 6), 1),
    ),
    "cat": (lambda: torch.cat([torch.randn(3, 2), torch.zeros(3, 2)]), Stacked((Normal(0.0, 1.0), Constant(0.0)), 0)),
    "stack": (
        lambda: torch.stack([torch.rand(3), torch.randn(3)], 1),
        Stacked((Uniform(0.0, 1.0), Normal(0.0, 1.0)), 1),
    ),
    "cat, scaled, cloned": (
        lambda: (torch.cat([torch.randn(2), torch.rand(2)]) * 2).clone(),
        Stacked((Normal(0.0, 2.0), Uniform(0.0, 2.0)), 0),
    ),
    "not equal parts": (
        lambda: padded(torch.randn(2, 6)),
        Stacked((Constant(0.0), Normal(0.0, 1.0), Normal(0.0, 1.0), Constant(1.0)), 0),
    ),
    "parts of several sizes": (
        lambda: torch.cat([torch.zeros(3, 2), torch.randn(27, 2)]),
        Stacked((Constant(0.0), Normal(0.0, 1.0)), 0, (3, 27)),
    ),
    "a cat of constants": (
        lambda: torch.cat([torch.ones(2), torch.zeros(2)]),
        Stacked((Constant(1.0), Constant(0.0)), 0),
    ),
    "padded": (lambda: nn.functional.pad(torch.zeros(3), (1, 2)), Constant(0.0)),
    "padded by nothing": (lambda: nn.functional.pad(torch.randn(3, 2), (0, 0)), Normal(0.0, 1.0)),
    "unwritten": (after(), Unwritten()),
    "unwritten, scaled": (after(lambda t: t.mul_(0.5)), Unwritten()),
    "gates": (
        lambda: torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat_interleave(2),
        Stacked((Constant(0.0), Constant(1.0), Constant(0.0), Constant(0.0)), 0),
    ),
    "sincos": (
        lambda: torch.from_numpy(SinCos(1.0, 1, 0, 10000.0, 5, 4).values().astype(np.float32)),
        SinCos(1.0, 1, 0, 10000.0, 5, 4),
    ),
    "by rejection": (
        lambda: by_rejection(lambda t, beyond: torch.where(beyond, torch.empty_like(t).normal_(0, 0.5), t)),
        TruncatedNormal(0.0, 0.5, -1.0, 1.0),
    ),
    "by rejection in place": (lambda: by_rejection(in_place), TruncatedNormal(0.0, 0.5, -1.0, 1.0)),
    "the first of four": (by_gather, TruncatedNormal(1.0, 0.1, 0.8, 1.2)),
    "those that are near enough": (
        lambda: (x := torch.randn(900))[x.abs() < 1][:256].view(16, 16),
        TruncatedNormal(0.0, 1.0, -1.0, 1.0),
    ),
    "halves exchanged": (lambda: torch.cat([(x := torch.randn(SHAPE))[4:], x[:4]]), Normal(0.0, 1.0)),
    "rows by a mask": (
        after(init("normal_"), lambda t: t.__setitem__(torch.arange(8) < 4, 0.0)),
        Stacked((Constant(0.0), Normal(0.0, 1.0)), 0),
    ),
    "rows by numbers": (
        after(init("normal_"), lambda t: t.__setitem__(torch.tensor([0, 2]), 0.0)),
        Stacked((Constant(0.0), Normal(0.0, 1.0)) * 2 + (Normal(0.0, 1.0),) * 4, 0),
    ),
    "columns filled": (
        after(init("normal_"), lambda t: t.index_fill_(1, torch.tensor([0, 1, 2]), 1.0)),
        Stacked((Constant(1.0), Normal(0.0, 1.0)), 1),
    ),
    "rows copied": (
        after(init("zeros_"), lambda t: t.index_copy_(0, torch.arange(4), torch.rand(4, 6))),
        Stacked((Uniform(0.0, 1.0), Constant(0.0)), 0),
    ),
    "a mask filled": (
        after(init("normal_"), lambda t: t.masked_fill_(torch.arange(8)[:, None] > 3, 1.0)),
        Stacked((Normal(0.0, 1.0), Constant(1.0)), 0),
    ),
    "scattered": (
        after(init("zeros_"), lambda t: t.scatter_(0, torch.arange(4)[:, None].expand(4, 6), torch.randn(4, 6))),
        Stacked((Normal(0.0, 1.0), Constant(0.0)), 0),
    ),
    "flipped": (lambda: torch.randn(SHAPE).flip(0), Normal(0.0, 1.0)),
    "weight norm taken off": (without_norm, Uniform(-0.25, 0.25)),
    "times of pi": (lambda: math.pi * torch.arange(5).repeat(3, 1), Arange(1.0, 0.0, math.pi, 1, "none", (3, 5))),
    "numbers along the first": (
        lambda: (2 + 0.5 * torch.arange(5))[:, None].repeat(1, 3),
        Arange(1.0, 2.0, 0.5, 0, "none", (5, 3)),
    ),
    "numpy eye": (lambda: torch.from_numpy(np.eye(4, 6, dtype=np.float32)), Eye(1.0, 4, 6)),
}


@pytest.mark.parametrize(("make", "expected"), READ.values(), ids=READ)
def test_what_is_written_is_read(make: Callable[[], Tensor], expected: Outcome) -> None:
    outcome = row_of(make).outcome
    assert type(outcome) is type(expected)
    if isinstance(expected, Stacked):
        assert isinstance(outcome, Stacked)
        assert (outcome.dim, outcome.sizes) == (expected.dim, expected.sizes)
        assert [repr(part) for part in outcome.parts] == [repr(part) for part in expected.parts]
    elif isinstance(expected, Normal | Uniform | TruncatedNormal | LogUniform):
        found, wanted = vars_of(outcome), vars_of(expected)
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    else:
        assert outcome == expected


def vars_of(outcome: object) -> list[float]:
    names = getattr(type(outcome), "__dataclass_fields__", ())
    return [value for name in names if isinstance(value := getattr(outcome, name), int | float)]


COMPUTED: dict[str, tuple[Callable[[], Tensor], str]] = {
    "a product of draws": (lambda: torch.randn(SHAPE) * torch.rand(SHAPE), "mul (of two draws)"),
    "a varying scale": (lambda: torch.randn(SHAPE) * torch.arange(6), "mul (with a tensor of values that differ)"),
    "a norm": (lambda: (x := torch.randn(SHAPE)) / x.norm(), "norm of draws"),
    "repeated": (lambda: torch.randn(1, 6).repeat(8, 1), "a draw is repeated"),
    "expanded": (lambda: torch.randn(1, 6).expand(8, 6).clone(), "a draw is repeated"),
    "broadcast": (after(lambda t: t.copy_(torch.randn(6))), "a draw is repeated"),
    "added by broadcasting": (lambda: torch.zeros(SHAPE) + torch.randn(6), "add repeats a draw"),
    "twice": (lambda: torch.cat([x := torch.randn(4), x]), "a draw is repeated in it"),
    "twice by copies": (
        after(lambda t: [t[:4].copy_(x := torch.randn(4, 6)), t[4:].copy_(x)]),
        "a draw is repeated in it",
    ),
    "a difference with itself": (lambda: (x := torch.randn(4)) - x, "sub (of two draws)"),
    "clamped": (lambda: torch.randn(SHAPE).clamp(-1, 1), "clamp (what it clamps reaches beyond its bounds)"),
    "whole numbers": (lambda: (torch.rand(4) * 10).long().float(), "a draw is cast to whole numbers"),
    "bernoulli": (lambda: torch.bernoulli(torch.full((4,), 0.5)), "draws by bernoulli"),
    "part of an orthogonal one": (
        lambda: nn.init.orthogonal_(torch.empty(8, 8))[:4].clone(),
        "a part of, or several orthogonal(gain=1)",
    ),
    "a triangle": (lambda: torch.randn(4, 4).tril(), "its parts are not equal parts along a dimension"),
    "another norm": (partial(without_norm, 2.0), "norm of draws"),
    "rows twice": (lambda: torch.randn(4, 4)[torch.tensor([0, 1, 1, 2])], "a draw is repeated"),
    "halves that overlap": (lambda: torch.cat([(x := torch.randn(8, 6))[2:], x[:4]]), "a draw is repeated in it"),
    "signs": (lambda: torch.where(torch.randn(SHAPE) > 0, 1.0, -1.0), "where by a comparison of other draws"),
    "those that are far out": (
        lambda: (x := torch.randn(900))[x.abs() > 1][:200],
        "index by sizes that are not near 0",
    ),
    "added where they are far out": (
        lambda: (x := torch.randn(SHAPE)).index_put((x > 1,), torch.randn(1), accumulate=True),
        "index_put adds",
    ),
    "replaced by others": (
        lambda: (x := torch.randn(SHAPE)).masked_fill(x.abs() > 2, 0.0),
        "masked_fill by a comparison of draws, with draws of another kind",
    ),
    "a part unwritten": (after(lambda t: t[:4].normal_()), "a part of it is never written"),
    "numpy": (lambda: torch.from_numpy(np.random.randn(4)).float(), "drawn outside torch, or in another thread"),
    "python": (lambda: torch.tensor([random.random() for _ in range(4)]), "drawn outside torch, or in another thread"),
}


@pytest.mark.parametrize(("make", "reason"), COMPUTED.values(), ids=COMPUTED)
def test_what_has_no_closed_form_is_computed(make: Callable[[], Tensor], reason: str) -> None:
    # Of NumPy's and Python's own draws a first number is no test: the generators end as they began.
    assert row_of(make).outcome == Computed(reason)


def states() -> tuple[list[int], list[int], object]:
    """Of torch's, NumPy's and Python's generators."""
    return torch.get_rng_state().tolist(), np.random.get_state(legacy=False)["state"]["key"].tolist(), random.getstate()


def test_every_generator_ends_as_it_began() -> None:
    before = states()
    watched(lambda: Net(lambda: torch.randn(3) + torch.from_numpy(np.random.randn(3)) + random.random()))
    assert states() == before


def test_a_row_tells_the_lines_that_wrote_it() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)  # line 1
            nn.init.normal_(self.fc.weight)  # line 2
            self.fc.weight.data[:2].zero_()  # line 3

    weight, bias = watched(Written).rows
    first = Written.__init__.__code__.co_firstlineno
    assert [(place.file, place.line - first) for place in weight.places] == [(__file__, 3), (__file__, 4)]
    assert [(place.file, place.line - first) for place in bias.places] == [(__file__, 2)]
    assert bias.call is not None
    assert bias.call.name == "uniform_"


def test_a_call_is_known_by_name_and_arguments_under_any_name() -> None:
    def ours(tensor: Tensor) -> None:
        glorot(tensor, gain=0.5)

    call = row_of(after(ours)).call
    assert call is not None
    assert (call.name, dict(call.arguments)) == ("xavier_uniform_", {"gain": 0.5})


class Tied(nn.Module):
    def __init__(self, before: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        if before:
            self.b.weight = self.a.weight
        nn.init.zeros_(self.a.weight)
        nn.init.ones_(self.b.weight)
        if not before:
            self.b.weight = self.a.weight


@pytest.mark.parametrize(("before", "value"), [(True, 1.0), (False, 0.0)])
def test_a_tied_parameter_is_one_row(before: bool, value: float) -> None:
    (row,) = watched(lambda: Tied(before)).rows
    assert (row.name, row.aliases, row.outcome) == ("a.weight", ("b.weight",), Constant(value))


def test_clones_are_twins_of_the_first() -> None:
    layer = nn.Linear(4, 4)
    rows = watched(lambda: nn.Sequential(first := nn.Linear(4, 4), copy.deepcopy(first), nn.Linear(4, 4))).rows
    assert layer.weight.shape == (4, 4)
    assert [row.twin for row in rows] == [None, None, "0.weight", "0.bias", None, None]


def test_a_state_dict_makes_twins() -> None:
    def build() -> nn.Module:
        online, target = nn.Linear(4, 4), nn.Linear(4, 4)
        target.load_state_dict(online.state_dict())
        return nn.ModuleList([online, target])

    assert [row.twin for row in watched(build).rows] == [None, None, "0.weight", "0.bias"]


def test_the_padding_row_of_an_embedding_is_no_part_of_it() -> None:
    (row,) = watched(lambda: nn.Embedding(5, 4, padding_idx=2)).rows
    assert row.outcome == Normal(0.0, 1.0)


def fill(part: nn.Module) -> None:
    if isinstance(part, nn.Linear):
        nn.init.constant_(part.weight, 2)


def test_a_parent_that_writes_last_counts() -> None:
    def build() -> nn.Module:
        net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        return net.apply(fill)

    assert [row.outcome for row in watched(build).rows] == [
        Constant(2.0),
        Uniform(-0.5, 0.5),
        Constant(1.0),
        Constant(0.0),
    ]


def test_what_a_function_does_to_a_model_that_is_there() -> None:
    model = nn.Linear(4, 4)
    before = model.bias.detach().clone()
    weight, bias = watched(lambda: model.apply(fill)).rows
    assert weight.outcome == Constant(2.0)
    assert bias.outcome == Given()
    assert torch.equal(model.bias, before)


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_a_parametrized_tensor_is_what_was_there_before(wrap: Callable[[nn.Module], nn.Module]) -> None:
    rows = {row.name: row for row in watched(lambda: wrap(nn.Linear(4, 4))).rows}
    assert vars_of(rows["weight"].outcome) == pytest.approx([-0.5, 0.5])


def test_the_older_weight_norm_is_read_too() -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        rows = {row.name: row for row in watched(lambda: nn.utils.weight_norm(nn.Linear(4, 4))).rows}
    assert vars_of(rows["weight"].outcome) == pytest.approx([-0.5, 0.5])


def test_what_waits_for_its_shape_says_so() -> None:
    weight, _ = watched(lambda: nn.LazyLinear(4)).rows
    assert weight.outcome == Computed("it waits for a first batch to learn its shape")


def test_what_is_on_meta_cannot_be_told() -> None:
    def build() -> nn.Module:
        with torch.device("meta"):
            layer = nn.Linear(4, 4)
            nn.init.trunc_normal_(layer.weight)  # which returns at once
            return layer

    reason = "it is on meta, where it cannot be seen what would be written"
    assert [row.outcome for row in watched(build).rows] == [Computed(reason)] * 2


def test_a_tensor_without_elements_holds_nothing() -> None:
    row = row_of(lambda: torch.empty(0, 3))
    assert (row.numel, row.outcome) == (0, Given())


def test_what_comes_from_elsewhere_has_the_line_that_registers_it() -> None:
    row = row_of(lambda: torch.tensor(3.0))
    assert row.outcome == Constant(3.0)
    assert row.place is not None
    assert Path(row.place.file).read_text().splitlines()[row.place.line - 1].strip() == "self.w = nn.Parameter(make())"


def test_other_tensors_than_plain_ones_are_told() -> None:
    row = row_of(lambda: torch.eye(3).to_sparse())
    assert row.outcome == Computed("it is no plain tensor in memory")


def test_complex_normals_are_read() -> None:
    assert row_of(lambda: torch.randn(3, dtype=torch.complex64)).outcome == Normal(0.0, 1.0)
    assert row_of(lambda: torch.rand(3, dtype=torch.complex64)).outcome == Complex(Uniform(0.0, 1.0), Uniform(0.0, 1.0))


def test_complex_numbers_are_pairs_of_real_ones() -> None:
    pairs = row_of(lambda: torch.view_as_real(torch.randn(3, dtype=torch.complex64)))
    assert vars_of(pairs.outcome) == pytest.approx([0.0, math.sqrt(0.5)])
    assert vars_of(row_of(lambda: torch.view_as_complex(torch.randn(3, 2))).outcome) == pytest.approx([0, math.sqrt(2)])
    bits = row_of(lambda: torch.rand(4).view(torch.int32).float())
    assert isinstance(bits.outcome, Computed)


def test_a_recording_within_a_recording_sees_its_own() -> None:
    def build() -> nn.Module:
        net = nn.Linear(4, 4)
        (inner, _) = watched(lambda: nn.Linear(2, 2)).rows
        assert vars_of(inner.outcome) == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)])
        return net

    assert vars_of(watched(build).rows[0].outcome) == pytest.approx([-0.5, 0.5])


def test_frozen_parameters_have_rows() -> None:
    (row,) = watched(lambda: nn.ParameterList([nn.Parameter(torch.zeros(3), requires_grad=False)])).rows
    assert (row.trainable, row.outcome) == (False, Constant(0.0))


# Any order of steps ---------------------------------------------------------------------------------------------------

STEPS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "times": lambda t, x: t * x,
    "times from the left": lambda t, x: x * t,
    "over": lambda t, x: t / x,
    "plus": lambda t, x: t + x,
    "minus": lambda t, x: t - x,
    "from": lambda t, x: x - t,
    "negative": lambda t, x: -t,
    "in place": lambda t, x: t.mul_(x).add_(x),
    "plus a multiple": lambda t, x: t.add_(torch.ones_like(t), alpha=x),
    "clone": lambda t, x: t.clone(),
    "transposed": lambda t, x: t.t().contiguous(),
    "flat and back": lambda t, x: t.reshape(-1).view(t.shape),
    "into empty memory": lambda t, x: torch.empty_like(t).copy_(t),
    "double": lambda t, x: t.double(),
    "rows apart": lambda t, x: torch.cat([t[:10], t[10:]]),
    "plus another draw": lambda t, x: t + 0 * torch.randn_like(t),
}
BASES: dict[str, Callable[[], Tensor]] = {
    "normal": lambda: torch.randn(64, 64),
    "uniform": lambda: torch.rand(64, 64),
    "cut": lambda: cut_normal(torch.empty(64, 64)),
}


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(BASES)),
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from([-2.0, -0.5, 0.25, 1.5, 3.0])), max_size=6),
)
def test_moments_are_those_of_what_comes_of_any_steps(base: str, steps: list[tuple[str, float]]) -> None:
    values: list[Tensor] = []

    def make() -> Tensor:
        tensor = BASES[base]()
        for name, number in steps:
            tensor = STEPS[name](tensor, number)
        values.append(tensor)
        return tensor

    outcome = row_of(make).outcome
    if isinstance(outcome, Computed):  # a sum of draws of other kinds, or a draw in two pieces
        assert {name for name, _ in steps} & {"plus another draw", "rows apart"}
        return
    assert isinstance(outcome, Normal | Uniform | TruncatedNormal)
    found = values[0].double()
    assert abs(found.mean().item() - outcome.mean) < 6 * outcome.std / 64
    assert found.std().item() == pytest.approx(outcome.std, rel=0.08)
    assert outcome.low - 1e-5 <= found.min().item()
    assert found.max().item() <= outcome.high + 1e-5


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 7), st.integers(1, 8), st.integers(0, 3), st.integers(1, 4), st.sampled_from([0, 1, 2])
        ),
        max_size=5,
    )
)
def test_parts_are_where_they_were_written(writes: list[tuple[int, int, int, int, int]]) -> None:
    means, stds = np.zeros((8, 4)), np.ones((8, 4))

    def make() -> Tensor:
        tensor = torch.randn(8, 4)
        for top, height, left, width, kind in writes:
            part = tensor[top : top + height, left : left + width]
            where = np.s_[top : top + height, left : left + width]
            if kind == 0:
                part.fill_(2)
                means[where], stds[where] = 2, 0
            elif kind == 1:
                part.normal_(1, 3)
                means[where], stds[where] = 1, 3
            else:
                part.mul_(2)
                means[where], stds[where] = 2 * means[where], 2 * stds[where]
        return tensor

    outcome = row_of(make).outcome
    lines = [(means == means.take([0], 1 - dim)).all() and (stds == stds.take([0], 1 - dim)).all() for dim in (0, 1)]
    if isinstance(outcome, Computed | Table):
        assert not any(lines)
        return
    for part, mean, std in zip(*expanded(outcome, (8, 4)), means.reshape(-1), stds.reshape(-1), strict=True):
        assert (part[0], part[1]) == (mean, std)


def expanded(outcome: object, shape: tuple[int, int]) -> tuple[list[tuple[float, float]]]:
    """The mean and the standard deviation of every element."""
    parts = outcome.parts if isinstance(outcome, Stacked) else (outcome,)
    dim = outcome.dim if isinstance(outcome, Stacked) else 0
    moments = np.array([(part.mean, part.std) for part in parts if isinstance(part, Constant | Normal)])
    each = moments.repeat(outcome.lengths(shape[dim]) if isinstance(outcome, Stacked) else shape[dim], 0)
    table = each[:, None] if dim == 0 else each[None]
    return ([(float(mean), float(std)) for mean, std in np.broadcast_to(table, (*shape, 2)).reshape(-1, 2)],)
