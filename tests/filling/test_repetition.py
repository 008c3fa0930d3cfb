"""Rows that repeat are found and named; what repeats by design or by chance is not."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from functools import partial

import pytest
import torch
from samples import normals
from torch import Tensor, nn

import initplug
from initplug.auditing import repetition as module
from initplug.auditing.moments import measure
from initplug.auditing.repetition import repetition
from initplug.filling.torch_draws import draw_from_generator
from initplug.schemes.compositions import Batched, Drawn, Keep, Planned, Stacked
from initplug.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform
from initplug.schemes.structures.arange import Arange
from initplug.schemes.structures.identity import Dirac, Eye
from initplug.schemes.structures.orthogonal import Orthogonal
from initplug.schemes.structures.sincos import SinCos
from initplug.schemes.structures.sparse import Sparse

NORMAL = Normal(0.0, 0.02)


drawn = partial(normals, std=0.02)


def with_rows(tensor: Tensor, **changes: int | str) -> Tensor:
    """A copy in which row `r3` is 0, or that of another place."""
    changed = tensor.clone()
    for row, what in changes.items():
        changed[int(row[1:])] = tensor[int(what[1:])] if isinstance(what, str) else what
    return changed


SPOILT: dict[str, tuple[Callable[[], Tensor], str]] = {
    "first half again": (lambda: torch.cat([drawn(32, 48)] * 2), "its rows are 2 equal blocks of 32"),
    "four shards": (lambda: torch.cat([drawn(16, 48)] * 4), "its rows are 4 equal blocks of 16"),
    "shards of columns": (lambda: torch.cat([drawn(32, 24)] * 2, 1), "its columns are 2 equal blocks of 24"),
    "a convolution": (lambda: torch.cat([drawn(8, 4, 3, 3)] * 2), "its rows are 2 equal blocks of 8"),
    "its inputs": (lambda: torch.cat([drawn(8, 4, 3, 3)] * 2, 1), "its columns are 2 equal blocks of 4"),
    "a vector": (lambda: torch.cat([drawn(64)] * 2), "its elements are 2 equal blocks of 64"),
    "all rows": (lambda: drawn(1, 48).repeat(32, 1), "its rows are equal"),
    "a dead row": (lambda: with_rows(drawn(64, 48), r5=0), "row 5 is 0 throughout"),
    "a masked row": (lambda: drawn(64, 48) * with_rows(torch.ones(64, 1), r5=0), "row 5 is 0 throughout"),
    "dead rows": (
        lambda: with_rows(drawn(64, 48), r5=0, r9=0),
        "2 of 64 rows hold one value: row 5 is 0 throughout",
    ),
    "a level row": (lambda: with_rows(drawn(64, 48), r5=1), "row 5 is 1 throughout"),
    "a dead input": (lambda: with_rows(drawn(48, 64), r5=0).t(), "column 5 is 0 throughout"),
    "a twin": (lambda: with_rows(drawn(64, 48), r9="r2"), "row 9 equals row 2"),
    "twins": (
        lambda: with_rows(drawn(64, 48), r9="r2", r7="r3"),
        "2 of 64 rows equal an earlier one: row 7 equals row 3",
    ),
    "a twin column": (lambda: with_rows(drawn(48, 64), r9="r2").t().contiguous(), "column 9 equals column 2"),
    "both": (lambda: with_rows(drawn(64, 48), r1=0, r9="r2"), "row 1 is 0 throughout; row 9 equals row 2"),
}


@pytest.mark.parametrize("name", SPOILT)
@pytest.mark.parametrize("chunk", [40, 1 << 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_repeats_is_named(name: str, chunk: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCHED_AT_A_TIME", chunk)
    make, problem = SPOILT[name]
    assert repetition(make().to(dtype), NORMAL) == problem


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_only_nearly_equal_is_not_named(name: str) -> None:
    tensor = SPOILT[name][0]()
    noisy = tensor + torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1)) * 1e-4
    assert repetition(noisy, NORMAL) is None


BY_DESIGN: dict[str, tuple[Tensor, Planned | None]] = {
    "constant": (torch.zeros(64, 48), Constant(0.0)),
    "kept": (torch.zeros(64, 48), Keep()),
    "nothing planned": (torch.zeros(64, 48), None),
    "eye": (torch.eye(64), Eye(1.0, 64, 64)),
    "dirac": (nn.init.dirac_(torch.empty(64, 32, 3, 3)), Dirac(1.0, 1, (64, 32, 3, 3))),
    "sparse": (torch.zeros(64, 48), Sparse(0.01, 0.9, 64)),
    "sincos": (torch.zeros(65, 48), SinCos(1.0, 2, 1, 10000.0, 65, 48)),
    "arange": (torch.arange(48.0).repeat(64, 1), Arange(1.0, 0.0, 1.0, 1, "none", (64, 48))),
    "no elements": (torch.zeros(0, 48), NORMAL),
    "no dimensions": (torch.tensor(0.0), NORMAL),
    "two elements": (torch.zeros(2), NORMAL),
    "rows of one element": (torch.zeros(64, 1).fill_(0.1) + torch.arange(64)[:, None] // 2, NORMAL),
}


@pytest.mark.parametrize("name", BY_DESIGN)
def test_what_repeats_by_design_or_could_by_chance_is_passed_over(name: str) -> None:
    tensor, distribution = BY_DESIGN[name]
    assert repetition(tensor, distribution) is None


def test_short_rows_of_a_coarse_dtype_are_equal_by_chance_and_passed_over() -> None:
    table = drawn(5000, 2, dtype=torch.bfloat16)
    assert len(torch.unique(table.float(), dim=0)) < 5000
    assert repetition(table, NORMAL) is None
    far = (drawn(4000, 3) * 1e-5 + 3).float()
    assert len(torch.unique(far, dim=0)) < 4000
    assert repetition(far, Normal(3.0, 2e-7)) is None


SHAPES = [
    (7,),
    (16,),
    (64,),
    (40, 2),
    (300, 3),
    (2000, 4),
    (64, 1, 3, 3),
    (32, 16, 1, 1),
    (8, 8, 3, 3),
    (3, 5, 7),
    (256, 100),
]
DISTRIBUTIONS: list[Drawn] = [
    NORMAL,
    Uniform(-0.1, 0.1),
    TruncatedNormal(0.0, 0.02, -0.04, 0.04),
    Normal(1.0, 1e-4),
    Stacked((NORMAL, NORMAL), 0),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_no_false_alarm_in_thousands_of_draws(distribution: Drawn, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    single = distribution.parts[0] if isinstance(distribution, Stacked) else distribution
    assert not isinstance(single, Keep)
    for shape in SHAPES:
        for _ in range(20):
            tensor = torch.empty(shape, dtype=dtype)
            draw_from_generator(single, tensor)
            assert repetition(tensor, distribution) is None, shape


@pytest.mark.parametrize("shape", [(8, 8), (64, 2), (2, 64), (100, 30), (3, 3), (16, 8, 3, 3)])
def test_no_false_alarm_in_orthogonal_matrices_and_stacks_of_them(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    rows, columns = shape[0], torch.Size(shape[1:]).numel()
    for _ in range(20):
        tensor = nn.init.orthogonal_(torch.empty(shape))
        assert repetition(tensor, Orthogonal(1.0, rows, columns)) is None
    stack = torch.stack([nn.init.orthogonal_(torch.empty(rows, columns)) for _ in range(6)])
    assert repetition(stack, Batched(Orthogonal(1.0, rows, columns), 1)) is None
    if columns >= 8:
        stack[4] = stack[1]
        assert repetition(stack, Batched(Orthogonal(1.0, rows, columns), 1)) is not None


def test_parts_are_looked_at_one_by_one_where_not_all_are_drawn() -> None:
    gates = Stacked((NORMAL, Constant(0.0), Keep(), NORMAL), 0)
    fine = torch.cat([drawn(8, 48), torch.zeros(8, 48), torch.ones(8, 48), drawn(8, 48, seed=1)])
    assert repetition(fine, gates) is None
    fine[31] = fine[30]
    assert repetition(fine, gates) == "part 4 of 4: row 7 equals row 6"
    assert repetition(torch.cat([drawn(8, 48)] * 3), Stacked((NORMAL,) * 3, 0)) == "its rows are 3 equal blocks of 8"


def test_a_padding_row_is_passed_over() -> None:
    table = with_rows(drawn(64, 48), r5=0)
    assert repetition(table, NORMAL, padding_row=5) is None
    assert repetition(with_rows(table, r9="r2"), NORMAL, padding_row=5) == "row 9 equals row 2"
    twin = table.clone()
    twin[:, 7] = twin[:, 3]
    assert repetition(twin, NORMAL, padding_row=5) == "column 7 equals column 3"


def test_complex_tensors_and_layouts() -> None:
    wave = torch.complex(drawn(32, 48), drawn(32, 48, seed=1))
    assert repetition(wave, NORMAL) is None
    assert repetition(with_rows(wave, r9="r2"), NORMAL) == "row 9 equals row 2"
    images = with_rows(drawn(32, 8, 3, 3), r9="r2").contiguous(memory_format=torch.channels_last)
    assert repetition(images, NORMAL) == "row 9 equals row 2"
    assert repetition(with_rows(drawn(64, 96), r8="r2")[::2, 1::3], NORMAL) == "row 4 equals row 1"


def test_a_large_tensor_takes_no_more_than_a_few_times_its_measuring() -> None:
    large = drawn(4096, 1024)

    def best(function: Callable[[], object]) -> float:
        return min(timeit.repeat(function, timer=time.thread_time, number=1, repeat=3))

    assert best(lambda: repetition(large, NORMAL)) < 20 * best(lambda: measure(large))  # it is about three times


# Through the public door.


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 64)
        self.table = nn.Embedding(50, 16, padding_idx=3)


RULES = {"fc.weight": "xavier_uniform", "*.bias": 0, "table.weight": "normal std=0.02"}


def test_an_audit_names_the_row_and_the_reason_and_an_apply_does_not_look() -> None:
    model = Net()
    applied = initplug.apply(model, {"rules": RULES}, seed=0)
    assert applied.problems() == []
    assert initplug.audit(model, {"rules": RULES}).problems() == []
    with torch.no_grad():
        model.fc.weight[32:] = model.fc.weight[:32]
        model.table.weight[7] = 0
    (one, other) = initplug.audit(model, {"rules": RULES}).problems()
    assert (one.name, one.verdict, one.problem) == ("fc.weight", "differs", "its rows are 2 equal blocks of 32")
    assert (other.name, other.problem) == ("table.weight", "row 7 is 0 throughout")
