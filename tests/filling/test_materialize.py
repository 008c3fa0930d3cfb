"""Models on meta: what is built without memory and then filled is what is built with memory and then filled."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from nets import built_deferred, built_on_meta, every_tensor
from refusals import apply_error
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import initplug

NOISE: dict[str, Any] = {
    "rules": {"*": "normal std=0.5", "*.bias": 0.25},
    "unused": "ignore",
    "frozen": "write",  # some of these models freeze a scale
}


def on_meta(model: nn.Module) -> set[str]:
    return {name for name, tensor in every_tensor(model).items() if tensor.is_meta}


def apply(model: nn.Module, recipe: Any, **options: Any) -> Any:
    torch.manual_seed(3)
    return initplug.apply(model, recipe, **options)


# ------------------------------------------------------------------------------ the same as with memory


class TiedAndDoubled(nn.Module):
    """A head tied to an embedding, and a Parameter that is registered twice itself."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(7, 4, padding_idx=2)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.wte.weight
        scale = nn.Parameter(torch.ones(7), requires_grad=False)
        self.scale, self.again = scale, scale

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.wte(x)) * self.scale + self.again
        return y


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
        self.register_buffer("mask", torch.ones(5, 5).triu(1).bool(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(x, x, x, attn_mask=self.mask)[0]
        return y


class Lists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.many = nn.ParameterList([torch.zeros(3), torch.zeros(3)])
        self.named = nn.ParameterDict({"a": nn.Parameter(torch.zeros(3)), "b": nn.Parameter(torch.zeros(()))})

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.many[0] + self.many[1] * self.named["a"] + self.named["b"]
        return y


class Strided(nn.Module):
    """Parameters whose elements do not lie in order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack it
        self.turned = nn.Parameter(torch.empty(6, 40).t())
        self.gaps = nn.Parameter(torch.empty(8, 6)[:, ::2])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x).sum() + self.turned.sum() + self.gaps.sum()
        return y


def norms() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(3), nn.InstanceNorm1d(3, affine=True, track_running_stats=True))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "linear": (lambda: nn.Linear(3, 4), torch.ones(2, 3)),
    "lstm": (lambda: nn.LSTM(3, 4, 2, bidirectional=True), torch.ones(5, 2, 3)),
    "gru cell": (lambda: nn.GRUCell(3, 4), torch.ones(2, 3)),
    "norms": (norms, torch.arange(24.0).view(2, 3, 4)),
    "tied": (TiedAndDoubled, torch.arange(7)),
    "attention": (Attention, torch.linspace(-1, 1, 5 * 8).view(5, 8)),
    "lists": (Lists, torch.ones(3)),
    "strided": (Strided, torch.ones(2, 3, 4, 4)),
    "half": (lambda: nn.Linear(3, 4, dtype=torch.bfloat16), torch.ones(2, 3, dtype=torch.bfloat16)),
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(3, 4)), torch.ones(2, 3)),
    "spectral_norm": (lambda: parametrizations.spectral_norm(nn.Linear(3, 4)), torch.ones(2, 3)),
    "legacy spectral_norm": (lambda: nn.utils.spectral_norm(nn.Linear(3, 4)), torch.ones(2, 3)),
    "transformer": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0), 2, enable_nested_tensor=False),
        torch.linspace(-1, 1, 5 * 8).view(5, 1, 8),
    ),
}


def outputs(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [tensor for part in value for tensor in outputs(part)]


@pytest.mark.parametrize("how", [built_deferred, built_on_meta])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_filled_on_meta_is_the_model_filled_in_memory(name: str, how: Callable[..., Any]) -> None:
    build, x = MODELS[name]
    eager, late = build(), how(build)
    if how is built_on_meta and name == "attention":
        late.register_buffer("mask", torch.ones(5, 5).triu(1).bool(), persistent=False)
    assert all(parameter.is_meta for parameter in late.parameters())
    expected, audit = apply(eager, NOISE), apply(late, NOISE)
    mine, theirs = every_tensor(late), every_tensor(eager)
    assert mine.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert torch.equal(mine[key], tensor), key
        assert mine[key].stride() == tensor.stride(), key
        assert mine[key].requires_grad == tensor.requires_grad, key
        assert type(mine[key]) is type(tensor), key
    assert late.state_dict().keys() == eager.state_dict().keys()
    assert audit.to_dict()["rows"] == expected.to_dict()["rows"]
    late.eval(), eager.eval()
    for ours, other in zip(outputs(late(x)), outputs(eager(x)), strict=True):
        assert torch.equal(ours, other)


def test_legacy_weight_norm_on_meta_is_that_in_memory() -> None:
    def build() -> Any:
        return nn.utils.weight_norm(nn.Linear(3, 4))

    with pytest.warns(FutureWarning, match="weight_norm"):
        eager, late = build(), built_deferred(build)
    apply(eager, NOISE), apply(late, NOISE)
    assert all(torch.equal(tensor, every_tensor(late)[key]) for key, tensor in every_tensor(eager).items())
    assert torch.equal(late.weight, eager.weight)
    assert torch.equal(late(torch.ones(3)), eager(torch.ones(3)))


def test_the_default_of_construction_is_drawn_on_meta() -> None:
    late, eager = built_deferred(lambda: nn.Linear(64, 64)), nn.Linear(64, 64)
    torch.manual_seed(3)
    eager.reset_parameters()
    apply(late, {"rules": {"*": "keep default"}})
    assert torch.equal(late.weight, eager.weight)
    assert torch.equal(late.bias, eager.bias)


def test_an_lstm_computes_with_its_new_weights() -> None:
    late = built_deferred(lambda: nn.LSTM(3, 4))
    apply(late, NOISE)
    assert [id(weight) for weight in late._flat_weights] == [id(weight) for weight in late.parameters()]


def test_ties_stay_ties() -> None:
    late = built_deferred(TiedAndDoubled)
    assert late.wte.weight is late.head.weight
    assert late.scale is late.again
    audit = apply(late, NOISE)
    assert late.wte.weight is late.head.weight
    assert late.scale is late.again
    assert (audit["head.weight"].name, audit["again"].name) == ("wte.weight", "scale")


def test_shared_modules_stay_shared() -> None:
    shared = built_deferred(lambda: nn.Linear(2, 2))
    late = nn.Sequential(shared, nn.ReLU(), shared)
    apply(late, NOISE)
    assert not on_meta(late)
    assert late[0].weight is late[2].weight


# ------------------------------------------------------------------------------------------- building


def test_parameters_are_on_meta_and_buffers_are_not() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.register_buffer("table", torch.arange(3))
            self.register_buffer("values", self.linear.weight.detach().clone())
            self.register_buffer("device", torch.zeros(2, device=self.linear.weight.device))

    late = built_deferred(Mixed)
    assert on_meta(late) == {"linear.weight", "linear.bias", "values", "device"}
    assert every_tensor(late)["table"].tolist() == [0, 1, 2]


def test_parameters_keep_their_class_their_attributes_and_whether_they_are_trained() -> None:
    class Special(nn.Parameter):
        pass

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            weight = Special(torch.zeros(2), requires_grad=False)
            vars(weight)["before"] = 1
            self.weight = weight
            vars(weight)["after"] = 2
            vars(self.weight)["through"] = 3

    late = built_deferred(Model)
    for _ in range(2):
        weight = late.weight
        assert type(weight) is Special
        assert not weight.requires_grad
        assert vars(weight) == {"before": 1, "after": 2, "through": 3}
        apply(late, NOISE)
    assert not weight.is_meta


def test_a_parameter_from_outside_keeps_its_values() -> None:
    pretrained = nn.Linear(2, 2)
    before = pretrained.weight.detach().clone()
    late = nn.Module()
    with initplug.deferred():
        late.weight = pretrained.weight
        late.whole = pretrained
    assert late.weight.is_meta
    assert not pretrained.weight.is_meta
    assert torch.equal(pretrained.weight, before)


def test_a_parameter_that_is_gone_is_not_mistaken_for_a_new_one() -> None:
    late = nn.Module()
    with initplug.deferred():
        for index in range(50):  # memory, and so the ids of objects, is used again
            late.register_parameter(f"p{index}", nn.Parameter(torch.zeros(index + 1)))
    assert [tuple(parameter.shape) for parameter in late.parameters()] == [(index + 1,) for index in range(50)]


def test_building_fills_nothing_and_imports_no_sympy() -> None:
    program = (
        "import sys, torch, initplug\n"
        "from torch import nn\n"
        "with initplug.deferred():\n"
        "    model = nn.Transformer(8, 2, 1, 1, 16)\n"
        "    for parameter in model.parameters():\n"
        "        nn.init.normal_(parameter), nn.init.zeros_(tensor=parameter), nn.init.orthogonal_(torch.eye(3))\n"
        "        parameter.data.normal_()\n"
        "print('sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_constructors_may_set_data() -> None:
    class Setting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.linear.weight.data = torch.eye(3, 2, dtype=torch.float64)
            self.linear.bias.data = self.linear.weight.data[:, 0]
            table = torch.zeros(2)
            table.data = torch.ones(3)
            self.register_buffer("table", table)

    late = built_deferred(Setting)
    assert on_meta(late) == {"linear.weight", "linear.bias"}
    assert (late.linear.weight.shape, late.linear.weight.dtype) == ((3, 2), torch.float64)
    assert late.table.tolist() == [1, 1, 1]


def test_initializers_of_real_tensors_are_no_business_of_deferred() -> None:
    with initplug.deferred():
        table = nn.init.constant_(torch.empty(3), 2.0)
        drawn = torch.empty(1000).normal_()
    assert table.tolist() == [2, 2, 2]
    assert 0.8 < drawn.std() < 1.2


REGISTER = nn.Module.register_parameter


def test_leaving_restores_torch_whatever_happens() -> None:
    with pytest.raises(RuntimeError, match="constructor"), initplug.deferred():
        raise RuntimeError("constructor")
    assert nn.Module.register_parameter is REGISTER
    assert not nn.Linear(1, 1).weight.is_meta


def test_deferred_nests_and_decorates() -> None:
    scale = nn.Parameter(torch.ones(1))
    late = nn.Module()
    with initplug.deferred():
        with initplug.deferred():
            late.a = scale
        late.b = scale
        late.c = nn.Linear(1, 1)
    assert late.a is late.b
    assert late.c.weight.is_meta
    assert nn.Module.register_parameter is REGISTER
    assert initplug.deferred()(lambda: nn.Linear(1, 1))().weight.is_meta


def test_other_threads_build_as_ever() -> None:
    inside, leave, found = threading.Event(), threading.Event(), []

    def build() -> None:
        with initplug.deferred():
            inside.set()
            assert leave.wait(10)
            found.append(nn.Linear(1, 1).weight.is_meta)

    thread = threading.Thread(target=build)
    with initplug.deferred():
        thread.start()
        assert inside.wait(10)
    assert not nn.Linear(1, 1).weight.is_meta  # the other thread is still at it
    leave.set()
    thread.join()
    assert found == [True]
    assert nn.Module.register_parameter is REGISTER


def test_somebody_who_replaces_registration_meanwhile_is_left_alone() -> None:
    with initplug.deferred():
        ours = nn.Module.register_parameter
        theirs = lambda module, name, param: ours(module, name, param)  # noqa: E731  # a stand-in
        nn.Module.register_parameter = theirs  # type: ignore[method-assign]  # what others do
    try:
        assert nn.Module.register_parameter is theirs
        assert not nn.Linear(1, 1).weight.is_meta
        assert built_deferred(lambda: nn.Linear(1, 1)).weight.is_meta
        assert nn.Module.register_parameter is theirs
    finally:
        nn.Module.register_parameter = REGISTER  # type: ignore[method-assign]  # what it was


def test_apply_works_where_meta_is_still_asked_for() -> None:
    recipe = {"rules": {"*": "normal", "*.bias": 0}}
    with initplug.deferred(), torch.device("meta"):
        late = nn.Sequential(nn.LSTM(2, 2), parametrizations.weight_norm(nn.Linear(2, 2)))
        apply(late, recipe)
    assert not on_meta(late)


def test_lazy_modules_wait_for_their_first_batch() -> None:
    late = built_deferred(lambda: nn.Sequential(nn.LazyLinear(2), nn.Linear(2, 2)))
    with pytest.raises(initplug.ApplyError, match="2 of 4 slots cannot be written"):
        apply(late, NOISE)
    audit = initplug.apply(late, NOISE, only="^1")
    assert [row.status for row in audit] == ["lazy", "lazy", "initialized", "initialized"]
    assert late(torch.ones(1, 3)).shape == (1, 2)


# -------------------------------------------------------------------------------------------- buffers


class Many(nn.Module):
    """Buffers of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.spectral = parametrizations.spectral_norm(nn.Linear(2, 2))
        self.register_buffer("table", torch.arange(3.0))
        self.register_buffer("mask", torch.ones(2, 2).tril(), persistent=False)
        self.register_buffer("tied", self.norm.weight)


TABLE: dict[str, Any] = {
    "rules": {"*": "normal", "*norm.weight": 1, "table": {"match": "table", "kind": "buffer", "init": 4}},
}


def test_a_plan_tells_how_buffers_on_meta_are_restored() -> None:
    plan = initplug.plan(built_on_meta(Many), TABLE)
    assert plan.buffers == (
        ("table", "rule"),
        ("mask", "none"),
        ("norm.running_mean", "module type"),
        ("norm.running_var", "module type"),
        ("norm.num_batches_tracked", "module type"),
        ("spectral.parametrizations.weight.0._u", "recomputed after the fill"),
        ("spectral.parametrizations.weight.0._v", "recomputed after the fill"),
    )
    assert plan.to_dict()["buffers"][1] == {"name": "mask", "restore": "none"}
    assert plan.headline().endswith(
        "buffers on meta: 1 rule, 1 none, 3 module type, 2 recomputed after the fill",
    )
    assert "mask" not in plan


def test_a_plan_of_real_buffers_lists_none() -> None:
    assert initplug.plan(Many(), TABLE).buffers == ()
    assert initplug.plan(built_deferred(lambda: nn.BatchNorm1d(2)), "torch_default").buffers == ()


def test_what_nothing_restores_is_refused_by_name() -> None:
    first, only = apply_error(built_on_meta(Many), TABLE).splitlines()
    assert first == "1 tensor cannot be written"
    assert only.startswith("  mask: it is a buffer on meta, and nothing restores it (")


def test_buffers_on_meta_get_the_values_that_construction_gives() -> None:
    late = built_on_meta(Many)
    late.register_buffer("mask", torch.ones(2, 2).tril(), persistent=False)
    audit = apply(late, TABLE)
    assert late.norm.running_mean.tolist() == [0, 0]
    assert late.norm.running_var.tolist() == [1, 1]
    assert late.norm.num_batches_tracked.tolist() == 0
    assert late.norm.num_batches_tracked.dtype == torch.int64
    assert late.table.tolist() == [4, 4, 4]
    assert late.tied is late.norm.weight
    assert [buffer.restore for buffer in audit.plan.buffers].count("none") == 0
    assert set(late.state_dict()) == set(Many().state_dict())
    vectors = late.spectral.parametrizations.weight[0]
    original = late.spectral.parametrizations.weight.original.detach()
    sigma = vectors._u @ original @ vectors._v
    assert sigma.item() == pytest.approx(torch.linalg.matrix_norm(original, 2).item(), rel=1e-3)


def test_a_mask_that_was_made_from_a_weight_is_refused() -> None:
    late = built_deferred(lambda: prune.l1_unstructured(nn.Linear(2, 2), "weight", 1))  # type: ignore[no-untyped-call]  # torch's
    assert "weight_mask: it is a buffer on meta" in apply_error(late, NOISE)


def test_a_buffer_that_is_kept_on_meta_is_refused() -> None:
    recipe = {"rules": {"*": "normal", "means": {"match": "running_mean", "kind": "buffer", "init": "keep"}}}
    assert "running_mean: `keep` has nothing to keep" in apply_error(built_on_meta(lambda: nn.BatchNorm1d(2)), recipe)


# ----------------------------------------------------------------------------- only, mixtures, devices


def test_what_is_not_selected_stays_on_meta() -> None:
    late = built_on_meta(lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), Many()))
    audit = apply(late, {**TABLE, "unused": "ignore"}, only="^0")
    assert not late[0].weight.is_meta
    assert on_meta(late) == {name for name in every_tensor(late) if not name.startswith("0.")}
    assert {row.status for row in audit} == {"initialized", "kept"}
    apply(late, TABLE, only=["1.weight", "1.running_mean"])
    assert {name for name in on_meta(late) if name.startswith("1.")} == {
        "1.bias",
        "1.running_var",
        "1.num_batches_tracked",
    }
    assert "2.mask: it is a buffer on meta" in apply_error(late, TABLE, only=["2.mask"])


def test_vectors_of_a_spectral_norm_come_with_its_weight_alone() -> None:
    late = built_deferred(lambda: parametrizations.spectral_norm(nn.Linear(2, 2)))
    apply(late, NOISE, only="bias")
    assert on_meta(late) == {name for name in every_tensor(late) if name != "bias"}
    apply(late, NOISE, only=["weight"])
    assert not on_meta(late)


def test_missing_keys_of_a_checkpoint_are_filled() -> None:
    late = built_on_meta(lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    checkpoint = nn.Linear(2, 2).state_dict()
    missing = late.load_state_dict({f"0.{k}": v for k, v in checkpoint.items()}, strict=False, assign=True).missing_keys
    apply(late, NOISE, only=missing)
    assert not on_meta(late)
    assert torch.equal(late[0].weight, checkpoint["weight"])
    assert late[1].running_var.tolist() == [1, 1]


def test_what_has_memory_is_never_replaced() -> None:
    late: Any = nn.Sequential(nn.Linear(2, 2), built_deferred(lambda: nn.Linear(2, 2)))
    late[0].bias = built_deferred(lambda: nn.Linear(2, 2)).bias
    eager = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    weight, place = late[0].weight, late[0].weight.data_ptr()
    apply(late, NOISE), apply(eager, NOISE)
    assert late[0].weight is weight
    assert late[0].weight.data_ptr() == place
    assert all(torch.equal(tensor, every_tensor(late)[key]) for key, tensor in every_tensor(eager).items())


@pytest.mark.parametrize("device", ["cuda:77", "nowhere", "meta", torch.device("meta")])
def test_a_device_that_cannot_hold_the_model_is_told(device: Any) -> None:
    assert apply_error(built_deferred(lambda: nn.Linear(2, 2)), NOISE, device=device).startswith(f"device={device!r} ")


def test_devices_are_taken_by_name_and_as_they_are() -> None:
    for device in ("cpu", torch.device("cpu"), None):
        late = built_deferred(lambda: nn.Linear(2, 2))
        apply(late, NOISE, device=device)
        assert late.weight.device == torch.device("cpu")


# --------------------------------------------------------------------------- nothing is lost on failure


def test_kept_slots_on_meta_are_refused_all_together() -> None:
    late = built_deferred(lambda: nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2)))
    recipe = {
        "unmatched": "keep",
        "rules": {"^0.weight": "keep", "1.weight_ih_l0": 0, "1.weight_hh_l0": {"split": [0, "keep", 0, 0]}},
    }
    lines = apply_error(late, recipe).splitlines()
    assert lines[0] == "5 of 6 slots cannot be written"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        *("0.weight", "0.bias", "1.weight_hh_l0", "1.bias_ih_l0", "1.bias_hh_l0")
    ]


def test_a_plan_that_keeps_values_is_of_no_use_where_there_are_none() -> None:
    late = built_deferred(lambda: nn.Linear(2, 2))
    plan = initplug.plan(nn.Linear(2, 2), {"rules": {"*": "keep default"}})
    assert apply_error(late, plan).endswith(
        "\n  bias: `keep` has nothing to keep: it is on meta (the plan is of a model with values: plan this one)"
    )


def test_more_than_there_is_memory_is_told_and_nothing_changes() -> None:
    late = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.Linear(1 << 30, 1 << 30, device="meta"))
    assert apply_error(late, NOISE).startswith("4 tensors cannot be made on cpu: ")


class Stubborn(nn.Module):
    """Refuses one tensor after it has taken others."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 2)
        self.weight = nn.Parameter(torch.zeros(2))
        self.last = nn.Parameter(torch.zeros(2))
        self.known = {"weight": self.weight}
        self.listed = [self.weight, 1]
        self.pair = (self.weight, self.last)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "last" and "pair" in vars(self):
            raise AttributeError("last is final")
        super().__setattr__(name, value)


def test_a_module_that_refuses_its_tensor_is_named_and_nothing_changes() -> None:
    late = built_deferred(Stubborn)
    weights = [id(weight) for weight in late.rnn._flat_weights]
    assert apply_error(late, NOISE) == "last: it cannot be replaced (AttributeError: last is final)"
    assert [id(weight) for weight in late.rnn._flat_weights] == weights
    assert late.known["weight"] is late.listed[0] is late.pair[0] is late.weight


def test_containers_of_parameters_follow() -> None:
    late = built_deferred(type("Yielding", (Stubborn,), {"__setattr__": nn.Module.__setattr__}))
    listed = late.listed
    apply(late, NOISE)
    assert not late.weight.is_meta
    assert late.known["weight"] is late.listed[0] is late.pair[0] is late.weight
    assert late.pair[1] is late.last
    assert late.listed is listed
    assert late.listed[1] == 1


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.cache = {"half": self.weight.detach() / 2}


def test_tensors_that_are_neither_parameters_nor_buffers_are_refused_by_name() -> None:
    late = nn.Sequential(built_deferred(Caching))
    assert apply_error(late, NOISE) == (
        "1 tensor cannot be written\n"
        "  0.cache: it is on meta, neither a parameter nor a buffer, and nothing restores it"
    )
    apply(late, NOISE, only="weight")
    assert not on_meta(late)


def test_what_appears_on_meta_during_the_fill_is_told() -> None:
    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if isinstance(value, Tensor) and not value.is_meta:
                self.twin = torch.empty(2, device="meta")

    late = nn.Module()
    with torch.device("meta"):
        late.inner = Growing()
    with pytest.raises(initplug.ApplyError) as caught:
        apply(late, NOISE)
    assert str(caught.value) == "all slots have been written, but 1 tensor is still on meta\n  inner.twin"


# --------------------------------------------------------------------------------------- memory, plans


def test_tensors_that_share_memory_on_meta_share_it_afterwards() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            packed = torch.empty(4, 3)
            self.top, self.bottom = nn.Parameter(packed[:2]), nn.Parameter(packed[2:])

    eager, late = Packed(), built_on_meta(Packed)
    apply(eager, NOISE), apply(late, NOISE)
    assert all(torch.equal(tensor, every_tensor(late)[key]) for key, tensor in every_tensor(eager).items())
    assert late.top.untyped_storage().data_ptr() == late.bottom.untyped_storage().data_ptr()
    late = built_on_meta(Packed)
    late.bottom = nn.Parameter(late.top.detach())
    with pytest.warns(initplug.InitplugWarning, match="top and bottom are different tensors in the same memory"):
        apply(late, NOISE)


def test_a_plan_of_one_goes_to_the_other() -> None:
    def build() -> Any:
        return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))

    eager, late, stage = build(), built_on_meta(build), built_on_meta(lambda: nn.BatchNorm1d(3))
    plan = initplug.plan(late, NOISE)
    apply(eager, plan)
    audit = apply(late, initplug.plan(build(), NOISE))
    assert all(torch.equal(tensor, every_tensor(late)[key]) for key, tensor in every_tensor(eager).items())
    assert [buffer.name for buffer in audit.plan.buffers] == [f"1.{name}" for name in stage._buffers]
    audit = apply(stage, plan, prefix="1")
    assert not on_meta(stage)
    assert audit.plan.buffers == plan.buffers
    assert apply(build(), plan).plan.buffers == ()


def test_parametrizations_with_tensors_of_their_own_are_filled() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

        def right_inverse(self, x: Tensor) -> Tensor:
            return x / self.scale

    def build() -> nn.Module:
        linear = nn.Linear(2, 2)
        parametrize.register_parametrization(linear, "weight", Scaled())
        return linear

    recipe = {"rules": {"*": "normal", "*.scale": 2}}
    eager, late = build(), built_deferred(build)
    apply(eager, recipe)
    audit = apply(late, recipe)
    assert audit["weight"].status == "initialized"
    assert all(torch.equal(tensor, every_tensor(late)[key]) for key, tensor in every_tensor(eager).items())


def test_zero_elements_on_meta_come_off_it() -> None:
    late = built_deferred(lambda: nn.ParameterList([torch.zeros(0, 3), torch.zeros(2)]))
    assert [row.status for row in apply(late, NOISE)] == ["empty", "initialized"]
    assert not on_meta(late)
