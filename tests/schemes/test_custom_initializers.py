"""Initializers of others: what can be registered, how recipes speak to it, and what becomes of what it gives."""

from __future__ import annotations

import importlib
import math
import pickle
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt, Interval, Le
from nets import of_shape
from numpy.typing import NDArray
from recipe_errors import rule_error
from torch import nn

import initplug
from initplug.language.arguments import MODIFIERS
from initplug.language.init import read_init
from initplug.language.recipe import RULE_KEYS
from initplug.language.schema import schema
from initplug.schemes.compositions import Batched, Drawn, Keep
from initplug.schemes.fans import Fans
from initplug.schemes.registry import REGISTRY, RESERVED, Reference
from initplug.schemes.structures.base import Draw
from initplug.schemes.structures.identity import Dirac, Eye
from initplug.schemes.structures.orthogonal import Orthogonal
from initplug.schemes.structures.sincos import SinCos


def planned(init: Any, *shape: int) -> initplug.Assignment:
    return initplug.plan(of_shape(*shape), {"rules": {"w*": init}})["w"]


def misfit(init: Any, *shape: int) -> str:
    """The line that a plan has for what does not fit."""
    with pytest.raises(initplug.PlanError) as caught:
        planned(init, *shape)
    (finding,) = caught.value.findings
    assert finding.path == "w"
    return finding.message


def tuned(
    fans: Fans,
    *,
    width: Annotated[float, Gt(0)] = 1.0,
    depth: Annotated[int, Ge(1), Le(99)] = 1,
    shape: Literal["bell", "flat"] = "bell",
    signed: bool = True,
    note: str = "",
    floor: float | None = 0.0,
) -> Drawn:
    """Noise of standard deviation width / (depth · √fan_in)."""
    std = width / depth / math.sqrt(fans.fan_in)
    return initplug.Normal(0.0, std) if shape == "bell" else initplug.Uniform(-std * signed, std)


def ramp(shape: tuple[int, ...], draw: Draw, *, step: float = 1.0) -> NDArray[np.float32]:
    """Multiples of step, with noise."""
    count = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    return np.float32(step) * count + draw.normal("noise")


# The decorator.


def test_decorating_gives_the_function_itself() -> None:
    assert initplug.initializer(tuned) is tuned
    assert initplug.initializer(kind="whole", bare=("step",))(ramp) is ramp
    assert REGISTRY["tuned"].summary == "Noise of standard deviation width / (depth · √fan_in)."
    assert REGISTRY["ramp"].kind == "whole"


def test_registering_a_function_again_is_no_clash() -> None:
    initplug.initializer(tuned)
    assert initplug.initializer(tuned) is tuned


def test_a_module_can_be_reloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
        import initplug
        @initplug.initializer
        def halves(fans):
            return initplug.Constant(0.5)
    """
    (tmp_path / "reloaded_scheme.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.reload(importlib.import_module("reloaded_scheme"))
    assert REGISTRY["halves"].home == "reloaded_scheme"


def test_who_types_may_correct_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"initplug": initplug, "__name__": "__main__"}
    text = "@initplug.initializer\ndef typed(fans):\n    return initplug.Constant({})\n"
    exec(text.format(1), names)
    with pytest.raises(ValueError, match="there is already an initializer called 'typed'"):
        exec(text.format(2), names)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    exec(text.format(2), names)
    assert planned("typed", 2).distribution == initplug.Constant(2)


def no_annotation(fans, *, share=1.0): ...  # type: ignore[no-untyped-def]  # what is refused # noqa: ANN001, ANN201
def no_fans() -> Any: ...
def two_first(fans: Any, share: float) -> Any: ...
def other_name(size: Any) -> Any: ...
def whole_by_mistake(shape: Any, draw: Any) -> Any: ...
def starred(fans: Any, *rest: float) -> Any: ...
def keywords(fans: Any, **rest: float) -> Any: ...
def of_lists(fans: Any, *, lengths: list[int]) -> Any: ...
def of_anything(fans: Any, *, share: Any) -> Any: ...
def of_nothing(fans: Any, *, share: None) -> Any: ...
def of_half_a_union(fans: Any, *, share: float | bytes) -> Any: ...
def of_intervals(fans: Any, *, share: Annotated[float, Interval(gt=0)]) -> Any: ...
def of_bytes(fans: Any, *, share: Literal[b"a"]) -> Any: ...
def of_unknown(fans: Any, *, share: Nowhere) -> Any: ...  # type: ignore[name-defined]  # noqa: F821  # what is refused
def of_spaces(fans: Any, *, mode: Literal["one two"]) -> Any: ...
def of_numbers(fans: Any, *, mode: Literal["2d"]) -> Any: ...
def modifier(fans: Any, *, factor: float) -> Any: ...
def rule_key(fans: Any, *, kind: str) -> Any: ...
def unspelled(fans: Any, *, größe: float) -> Any: ...
def listed(fans: Any, *, share: float = []) -> Any: ...  # type: ignore[assignment]  # what is refused
def endless(fans: Any, *, share: float = math.inf) -> Any: ...
def of_text(fans: Any, *, of: str) -> Any: ...
def absent(fans: Any, *, share: float = None) -> Any: ...  # type: ignore[assignment]  # likewise # noqa: RUF013
def misspelt(fans: Any, *, mode: Literal["bell", "flat"] = "flt") -> Any: ...  # type: ignore[assignment]  # likewise
def fraction(fans: Any, *, count: int = 0.5) -> Any: ...  # type: ignore[assignment]  # likewise
def either(fans: Any, *, source: Reference | float) -> Any: ...
def split(fans: Any) -> Any: ...
def normal(fans: Any) -> Any: ...
def größe(fans: Any) -> Any: ...
def fine(fans: Any, *, share: float = 1.0, label: str = "") -> Any: ...
def of_whole(shape: Any, draw: Any, *, of: Reference) -> Any: ...


KEYS = "batch_dims, dim, except, exclude, expect, factor, fans, fn, init, kind, match, sizes, split, trainable"
BY = "they can by int, float, bool, str, Literal, Annotated with bounds, Reference, and unions of these and None"
REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (normal, {}, "there is already an initializer called 'normal' (initplug.schemes.initializers)"),
    (split, {}, "'split' cannot name an initializer: recipes read it as something else"),
    (
        größe,
        {},
        "'größe' cannot name an initializer: recipes spell letters, digits and _, a letter or _ first",
    ),
    (
        lambda fans: fans,
        {},
        "'<lambda>' cannot name an initializer: recipes spell letters, digits and _, a letter or _ first",
    ),
    (Fans, {}, "an initializer is a function, not <class 'initplug.schemes.fans.Fans'>"),
    (fine, {"kind": "hole"}, "initializer 'fine': kind is one of distribution, whole, not 'hole'"),
    (fine, {"bare": "share"}, "bare holds the names of arguments, such as ('share',), not the text 'share'"),
    (
        fine,
        {"bare": ("shar",)},
        "initializer 'fine': bare names 'shar', which is no argument (did you mean share?)",
    ),
    (fine, {"bare": ("label",)}, "initializer 'fine': bare names 'label', which takes no number"),
    (
        no_annotation,
        {},
        "initializer 'no_annotation': argument 'share' has no annotation, by which recipes are checked",
    ),
    (no_fans, {}, "initializer 'no_fans' takes () by position: it takes (fans, *, …)"),
    (
        two_first,
        {},
        "initializer 'two_first' takes (fans, share) by position: it takes (fans, *, …); write * before share",
    ),
    (other_name, {}, "initializer 'other_name' takes (size) by position: it takes (fans, *, …)"),
    (
        whole_by_mistake,
        {},
        "initializer 'whole_by_mistake' takes (shape, draw) by position: it takes (fans, *, …); "
        'with kind="whole" it takes (shape, draw, *, …)',
    ),
    (fine, {"kind": "whole"}, "initializer 'fine' takes (fans) by position: it takes (shape, draw, *, …)"),
    (starred, {}, "initializer 'starred' takes *rest: it takes (fans, *, …), every argument by its name"),
    (keywords, {}, "initializer 'keywords' takes **rest: it takes (fans, *, …), every argument by its name"),
    (
        of_lists,
        {},
        "initializer 'of_lists': argument 'lengths' is annotated with list[int], by which recipes cannot be checked; "
        + BY,
    ),
    (
        of_anything,
        {},
        "initializer 'of_anything': argument 'share' is annotated with Any, by which recipes cannot be checked; " + BY,
    ),
    (
        of_nothing,
        {},
        "initializer 'of_nothing': argument 'share' is annotated with NoneType, by which recipes cannot be checked; "
        + BY,
    ),
    (
        of_half_a_union,
        {},
        "initializer 'of_half_a_union': argument 'share' is annotated with bytes, by which recipes cannot be checked; "
        + BY,
    ),
    (
        of_bytes,
        {},
        "initializer 'of_bytes': argument 'share' is annotated with Literal[b'a'], "
        "by which recipes cannot be checked; " + BY,
    ),
    (of_unknown, {}, "initializer 'of_unknown': its annotations cannot be read: name 'Nowhere' is not defined"),
    (
        of_spaces,
        {},
        "initializer 'of_spaces': argument 'mode' has the word 'one two', "
        "which no text can spell alone: no spaces, no =, no numbers",
    ),
    (
        of_numbers,
        {},
        "initializer 'of_numbers': argument 'mode' has the word '2d', "
        "which no text can spell alone: no spaces, no =, no numbers",
    ),
    (
        modifier,
        {},
        f"initializer 'modifier': argument 'factor' has the name of a key that recipes use themselves ({KEYS})",
    ),
    (
        rule_key,
        {},
        f"initializer 'rule_key': argument 'kind' has the name of a key that recipes use themselves ({KEYS})",
    ),
    (
        unspelled,
        {},
        "initializer 'unspelled': argument 'größe' cannot be spelled in recipes: letters, digits and _",
    ),
    (
        listed,
        {},
        "initializer 'listed': argument 'share' has the default []: recipes hold numbers, texts, true, false and null",
    ),
    (endless, {}, "initializer 'endless': argument 'share' has the default inf: numbers of recipes are finite"),
    (
        of_text,
        {},
        "initializer 'of_text': argument 'of' is a Reference, the tensor whose fans the function gets",
    ),
    (absent, {}, "initializer 'absent': argument 'share' has the default None, which its annotation does not take"),
    (misspelt, {}, "initializer 'misspelt': argument 'mode' has the default 'flt', which its annotation does not take"),
    (fraction, {}, "initializer 'fraction': argument 'count' has the default 0.5, which its annotation does not take"),
    (
        either,
        {},
        f"initializer 'either': argument 'source' is annotated with {str(Reference | float).removeprefix('typing.')}, "
        "by which recipes cannot be checked; " + BY,
    ),
    (fine, {"bare": ("share", "share")}, "initializer 'fine': bare names 'share' twice"),
    (
        whole_by_mistake,
        {"kind": "whole", "any_shape": True},
        "initializer 'whole_by_mistake': any_shape is for functions of fans, not for whole tensors",
    ),
    (of_whole, {"kind": "whole"}, "initializer 'of_whole': argument 'of' has no fans to take"),
    (
        ramp,
        {"kind": "whole", "any_shape": True},
        "initializer 'ramp': any_shape is for functions of fans, not for whole tensors",
    ),
]


@pytest.mark.parametrize(("function", "options", "message"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_recipes_cannot_speak_to_is_refused(
    function: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    before = dict(REGISTRY)
    with pytest.raises(ValueError) as caught:
        initplug.initializer(**options)(function)
    assert str(caught.value) == message
    assert before == REGISTRY


def test_bounds_that_the_language_cannot_tell_are_refused() -> None:
    with pytest.raises(ValueError, match=r"argument 'share' is annotated with .*Interval"):
        initplug.initializer(of_intervals)


def test_reserved_are_the_keys_of_the_language() -> None:
    assert {"fn", *MODIFIERS, *RULE_KEYS} == RESERVED


# What recipes say to it.


def test_whatever_a_function_for_any_shape_raises_is_told_of_the_recipe() -> None:
    @initplug.initializer(any_shape=True)
    def picky(fans: Fans, *, width: float = 1.0) -> initplug.Normal:
        return initplug.Normal(0.0, {1.0: 0.5}[width])

    assert read_init("picky").fn == "picky"
    assert rule_error("picky width=2") == "<mapping>: rules['w*']: picky failed: KeyError: 2"


def test_all_forms_say_the_same() -> None:
    initplug.initializer(bare=("width", "depth"))(tuned)
    mapping = {"fn": "tuned", "width": 0.5, "depth": 3, "shape": "flat", "signed": False, "note": "7", "floor": None}
    text = read_init("tuned 0.5 3 flat signed=false note=7 floor=null")
    assert text == read_init(mapping)
    assert text.text == "tuned 0.5 3 flat signed=false note=7 floor=null"
    assert read_init(text.text) == text
    assert read_init(text.plain()) == text
    assert read_init("tuned 1.0 signed=true").text == "tuned"


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("tuned width=0", "<mapping>: rules['w*']: width: 0 is not a number above 0"),
        ("tuned depth=1.5", "<mapping>: rules['w*']: depth: 1.5 is not a whole number of at least 1 and of at most 99"),
        ("tuned depth=100", "<mapping>: rules['w*']: depth: 100 is not a whole number of at least 1 and of at most 99"),
        ({"fn": "tuned", "width": True}, "<mapping>: rules['w*'].width: true is not a number above 0"),
        ({"fn": "tuned", "signed": 1}, "<mapping>: rules['w*'].signed: 1 is not true or false"),
        ({"fn": "tuned", "note": 7}, "<mapping>: rules['w*'].note: 7 is not a text"),
        ({"fn": "tuned", "width": None}, "<mapping>: rules['w*'].width: null is not a number above 0"),
        ("tuned bel", "<mapping>: rules['w*']: 'bel' is no word of tuned (did you mean bell?)"),
        ("tuned 3", "<mapping>: rules['w*']: tuned takes no bare number: write width=3"),
        ("tuned wdth=3", "<mapping>: rules['w*']: tuned takes no wdth (did you mean width?)"),
        ("tuend", "<mapping>: rules['w*']: unknown initializer 'tuend' (did you mean tuned?)"),
    ],
)
def test_arguments_are_validated_strictly(init: Any, message: str) -> None:
    initplug.initializer(tuned)
    assert rule_error(init) == message


def test_a_bare_number_is_shown_where_it_could_go() -> None:
    def labelled(fans: Fans, *, label: str = "", exact: bool = False, share: float = 1.0) -> Drawn:
        return initplug.Constant(share)

    initplug.initializer(labelled)
    assert rule_error("labelled 3").endswith("labelled takes no bare number: write share=3")


def test_a_missing_argument_is_told() -> None:
    def given(fans: Fans, *, share: float) -> Drawn:
        return initplug.Constant(share)

    initplug.initializer(bare=("share",))(given)
    assert rule_error("given") == "<mapping>: rules['w*']: given needs share (write given share=…)"
    assert planned("given 3", 2).distribution == initplug.Constant(3)


def test_a_function_is_not_called_before_there_is_a_tensor() -> None:
    calls: list[Fans] = []

    def counted(fans: Fans) -> Drawn:
        calls.append(fans)
        return initplug.Constant(1.0)

    initplug.initializer(counted)
    recipe = initplug.load({"rules": {"w*": "counted"}})
    assert calls == []
    initplug.plan(of_shape(4, 2), recipe)
    assert calls == [Fans((4, 2))]


def test_the_schema_knows_it() -> None:
    initplug.initializer(bare=("width",))(tuned)
    validator = jsonschema.Draft202012Validator(schema())
    assert validator.is_valid({"rules": {"w*": "tuned 2"}})
    assert validator.is_valid({"rules": {"w*": {"fn": "tuned", "width": 2, "floor": None, "signed": False}}})
    assert not validator.is_valid({"rules": {"w*": {"fn": "tuned", "wdth": 2}}})
    assert not validator.is_valid({"rules": {"w*": {"fn": "tuned", "width": 0}}})


# What it gives.


def test_a_distribution_is_planned_drawn_and_measured() -> None:
    initplug.initializer(tuned)
    row = planned("tuned width=2", 64, 100)
    assert (row.mean, row.std, row.low, row.high) == (0.0, 0.2, None, None)
    module = of_shape(64, 100)
    torch.manual_seed(5)
    audit = initplug.apply(module, {"rules": {"w*": "tuned width=2 factor=0.5"}})
    torch.manual_seed(5)
    assert torch.equal(module.get_parameter("w"), nn.init.normal_(torch.empty(64, 100), 0.0, 0.1))
    assert audit["w"].verdict == "ok"


def test_fans_modifiers_reach_it() -> None:
    initplug.initializer(tuned)
    assert planned("tuned split=4", 8, 16).fan_out == 2
    assert planned("tuned batch_dims=1", 8, 16, 25).std == pytest.approx(0.2)
    assert planned("tuned", 8, 4, 5, 5).std == pytest.approx(0.1)
    assert misfit("tuned", 8) == "(8,): tuned: there is no fan_in below two dimensions"


def test_of_gives_the_fans_of_another_tensor() -> None:
    def like(fans: Fans, *, of: Reference) -> Drawn:
        return initplug.Constant(float(fans.fan_in))

    initplug.initializer(like)
    plan = initplug.plan(nn.Linear(5, 3), {"rules": {"bias*": "like of=weight", "weight*": 0}})
    assert plan["bias"].distribution == initplug.Constant(5.0)


GIVEN: list[tuple[Any, str]] = [
    (None, "None, which is no distribution"),
    (0.5, "0.5, which is no distribution"),
    (Keep(), "Keep(otherwise='error'), which is no distribution"),
    (initplug.Normal, "<class 'initplug.schemes.distributions.Normal'>, which is no distribution"),
    ("x" * 99, "'" + "x" * 58 + "…, which is no distribution"),
    (initplug.Constant("1"), "Constant(value='1'), in which '1' is no number"),  # type: ignore[arg-type]  # what is refused
    (initplug.Constant(math.nan), "Constant(value=nan), in which nan is no number"),
    (initplug.Normal(0.0, math.nan), "Normal(mean=0.0, std=nan), in which nan is no number"),
    (
        Orthogonal(1.0, 4, 6),
        "Orthogonal(gain=1.0, rows=4, columns=6), which is for a tensor of another shape than (6, 4)",
    ),
    (Eye(1.0, 4, 6), "Eye(gain=1.0, rows=4, columns=6), which is for a tensor of another shape than (6, 4)"),
    (
        Dirac(1.0, 1, (6, 4)),
        "Dirac(gain=1.0, groups=1, shape=(6, 4)), which is for a tensor of another shape than (6, 4)",
    ),
    (
        Batched(Orthogonal(1.0, 6, 4), 2),
        "Batched(part=Orthogonal(gain=1.0, rows=6, columns=4), dims=2), which a tensor of shape (6, 4) cannot have",
    ),
    (initplug.Stacked((initplug.Constant(0.0),) * 4, 0), "4 parts for the 6 elements of dimension 0"),
    (
        initplug.Stacked((initplug.Constant(0.0),) * 2, 2),
        "parts along dimension 2, which a tensor of shape (6, 4) does not have",
    ),
    (initplug.Stacked((initplug.Constant(0.0), 3), 0), "3, which is no distribution"),  # type: ignore[arg-type]  # likewise
]


@pytest.mark.parametrize(("given", "told"), GIVEN)
def test_what_is_no_distribution_of_the_tensor_is_told_by_the_plan(given: Any, told: str) -> None:
    def odd(fans: Fans) -> Any:
        return given

    initplug.initializer(odd)
    assert misfit("odd", 6, 4) == f"(6, 4): odd gave {told}"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (initplug.Constant(math.inf), "odd: inf does not fit float32, which ends at 3.40282e+38"),
        (initplug.Uniform(-math.inf, math.inf), "odd: -inf does not fit float32, which ends at -3.40282e+38"),
        (initplug.Uniform(math.inf, math.inf), "odd: inf does not fit float32, which ends at 3.40282e+38"),
        (initplug.Normal(0.0, 1e38), "odd: -6e+38 does not fit float32, which ends at -3.40282e+38"),
    ],
)
def test_what_the_dtype_does_not_hold_is_told_by_the_plan(given: Drawn, told: str) -> None:
    def odd(fans: Fans) -> Drawn:
        return given

    initplug.initializer(odd)
    assert misfit("odd", 6, 4) == f"(6, 4): {told}"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("too narrow"), "odd does not fit: too narrow"),
        (KeyError("size"), "odd failed: KeyError: 'size'"),
        (ZeroDivisionError("division by zero"), "odd does not fit: division by zero"),
        (AssertionError("first\nsecond"), "odd failed: AssertionError: first"),
        (SystemExit(3), "odd failed: SystemExit: 3"),
    ],
)
def test_what_it_raises_is_told_by_the_plan(error: BaseException, told: str) -> None:
    def odd(fans: Fans) -> Drawn:
        raise error

    initplug.initializer(odd)
    assert misfit("odd", 6, 4) == f"(6, 4): {told}"


@pytest.mark.parametrize(
    "given",
    [
        initplug.Constant(3),
        initplug.TruncatedNormal(0.0, 1.0, -2.0, 2.0),
        initplug.Stacked((initplug.Constant(0.0), Keep(), initplug.Normal(0.0, 1.0)), -2),
        Orthogonal(2.0, 6, 4),
        Eye(1.0, 6, 4),
        SinCos(1.0, 1, 0, 10000.0, 6, 4),
    ],
)
def test_every_distribution_may_be_given(given: Drawn) -> None:
    def odd(fans: Fans) -> Drawn:
        return given

    initplug.initializer(odd)
    assert planned("odd", 6, 4).distribution == given
    assert initplug.apply(of_shape(6, 4), {"rules": {"w*": "odd"}}).summary["verdict"].keys() <= {"ok"}


def test_numbers_of_numpy_become_plain_ones() -> None:
    def odd(fans: Fans) -> Drawn:
        return initplug.Normal(np.float32(0.5), np.float64(2.0))  # type: ignore[arg-type]  # what numpy's own functions give

    initplug.initializer(odd)
    given = planned("odd", 6, 4).distribution
    assert given == initplug.Normal(0.5, 2.0)
    assert isinstance(given, initplug.Normal) and type(given.mean) is type(given.std) is float


# Whole tensors.


@pytest.fixture
def whole() -> None:
    initplug.initializer(kind="whole", bare=("step",))(ramp)


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_whole_tensor_is_computed_from_the_global_generator_and_cast_once(dtype: torch.dtype) -> None:
    module = of_shape(6, 4, dtype=dtype)
    torch.manual_seed(3)
    audit = initplug.apply(module, {"rules": {"w*": "ramp 0.1 factor=3"}})
    torch.manual_seed(3)
    expected = (torch.arange(24.0).view(6, 4) * 0.1 + torch.randn(6, 4)) * 3
    assert torch.equal(module.get_parameter("w"), expected.to(dtype))
    row = audit["w"]
    assert (row.mean, row.std, row.low, row.high, row.verdict) == (None, None, None, None, "untestable")
    assert row.measured_mean == pytest.approx(expected.to(dtype).double().mean().item())
    assert row.to_dict()["distribution"] == "3·ramp(step=0.1)"
    assert "NaN" not in audit.to_json()


@pytest.mark.usefixtures("whole")
def test_what_has_become_infinite_differs() -> None:
    module, recipe = of_shape(6, 4), {"rules": {"w*": "ramp"}}
    assert initplug.audit(module, recipe)["w"].verdict == "untestable"
    module.get_parameter("w").data[0, 0] = math.inf
    assert initplug.audit(module, recipe)["w"].verdict == "differs"


@pytest.mark.usefixtures("whole")
def test_parts_and_stacks_are_computed_one_by_one() -> None:
    module = of_shape(2, 6, 4)
    torch.manual_seed(3)
    initplug.apply(module, {"rules": {"w*": {"fn": "ramp", "batch_dims": 1, "split": 3, "dim": 1}}})
    # A split comes first: three parts, and two tensors of (2, 4) in each.
    torch.manual_seed(3)
    for part in module.get_parameter("w").chunk(3, 1):
        for one in part:
            assert torch.allclose(one, torch.arange(8.0).view(2, 4) + torch.randn(2, 4))


@pytest.mark.usefixtures("whole")
def test_a_part_may_be_whole_and_another_kept() -> None:
    module = of_shape(6, 4)
    audit = initplug.apply(module, {"rules": {"w*": {"split": ["ramp", "keep", 0]}}})
    first, second, third = module.get_parameter("w").chunk(3)
    assert (second == 7).all() and (third == 0).all() and (first != 7).all()
    assert audit["w"].verdict == "untestable"
    assert audit["w"].std is None


@pytest.mark.usefixtures("whole")
def test_padding_rows_are_zeroed_after_it() -> None:
    embedding = nn.Embedding(6, 4, padding_idx=2)
    initplug.apply(embedding, {"rules": {"*": "ramp"}})
    assert (embedding.weight[2] == 0).all() and (embedding.weight[3] != 0).all()


@pytest.mark.usefixtures("whole")
def test_a_plan_of_it_survives_pickling() -> None:
    module = of_shape(6, 4)
    plan = pickle.loads(pickle.dumps(initplug.plan(module, {"rules": {"w*": "ramp"}})))
    torch.manual_seed(3)
    initplug.apply(module, plan)
    torch.manual_seed(3)
    assert torch.equal(module.get_parameter("w"), torch.arange(24.0).view(6, 4) + torch.randn(6, 4))


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    ("dtype", "told"),
    [
        (torch.int64, "ramp: int64 tensors take constants only"),
        (torch.complex64, "ramp: complex tensors take constants, normal, truncated and uniform draws only"),
    ],
)
def test_dtypes_that_take_no_draws_are_refused_by_the_plan(dtype: torch.dtype, told: str) -> None:
    with pytest.raises(initplug.PlanError, match=told):
        initplug.plan(of_shape(6, 4, dtype=dtype), {"frozen": "write", "rules": {"w*": "ramp"}})


def test_a_tag_gives_the_same_numbers_again_whatever_became_of_them() -> None:
    def twice(shape: tuple[int, ...], draw: Draw) -> NDArray[np.float32]:
        first = draw.uniform("angle")
        first *= 2
        assert first.dtype == np.float32 and first.shape == shape
        assert (draw.uniform("angle") < 1).all() and (draw.uniform("angle") >= 0).all()
        assert (draw.normal("one") != draw.normal("other")).any()
        return first - 2 * draw.uniform("angle")

    initplug.initializer(kind="whole")(twice)
    module = of_shape(50, 4)
    initplug.apply(module, {"rules": {"w*": "twice"}})
    assert (module.get_parameter("w") == 0).all()


BAD_WHOLES: list[tuple[Callable[[tuple[int, ...], Draw], Any], str]] = [
    (lambda shape, draw: np.zeros(shape), "bad gave an array of float64, not of float32"),
    (lambda shape, draw: draw.normal("a").T, "bad gave an array of shape (4, 6), not (6, 4)"),
    (lambda shape, draw: draw.normal("a").tolist(), "bad gave a list, not a float32 array"),
    (lambda shape, draw: torch.zeros(shape), "bad gave a Tensor, not a float32 array"),
    (lambda shape, draw: draw.normal("a") * np.float32(np.nan), "bad gave values that are infinite or NaN"),
    (lambda shape, draw: draw.normal(3), "bad failed: TypeError: a tag is a text, not 3"),  # type: ignore[arg-type]  # what is refused
    (
        lambda shape, draw: draw.normal("a") + draw.uniform("a"),
        "bad failed: ValueError: the tag 'a' is for normal numbers: ask for uniform ones under another",
    ),
    (lambda shape, draw: dict[str, int]()["size"], "bad failed: KeyError: 'size'"),
    (lambda shape, draw: sys.exit(3), "bad failed: SystemExit: 3"),
    (lambda shape, draw: np.full(shape, 1e6, np.float32), "bad gave values beyond float16"),
]


@pytest.mark.parametrize(("function", "told"), BAD_WHOLES, ids=[told for _, told in BAD_WHOLES])
@pytest.mark.parametrize("init", ["bad", {"fn": "bad", "batch_dims": 1}, {"split": [0, "bad"], "dim": 1}], ids=str)
@pytest.mark.parametrize("seed", [None, 0])
def test_a_bad_whole_is_told_and_its_tensor_stays(
    function: Callable[[tuple[int, ...], Draw], Any], told: str, init: Any, seed: int | None
) -> None:
    def bad(shape: tuple[int, ...], draw: Draw) -> Any:
        return function(shape, draw)

    initplug.initializer(kind="whole")(bad)
    shape: tuple[int, ...] = (6, 4)
    if init != "bad":
        shape = (2, 6, 4) if "batch_dims" in init else (6, 8)
    module = of_shape(*shape, dtype=torch.float16)
    with pytest.raises(initplug.ApplyError) as caught:
        initplug.apply(module, {"rules": {"w*": init}}, seed=seed)
    assert str(caught.value) == f"writing stopped at w: ValueError: {told}\n0 of 1 slots had been written"
    assert (module.get_parameter("w") == 7).all()


@pytest.mark.parametrize("seed", [None, 0])
def test_a_tag_that_is_no_text_is_told_with_and_without_a_seed(seed: int | None) -> None:
    def numbered(shape: tuple[int, ...], draw: Draw) -> NDArray[np.float32]:
        return draw.uniform(3)  # type: ignore[arg-type]  # what is refused

    initplug.initializer(kind="whole")(numbered)
    with pytest.raises(initplug.ApplyError, match="numbered failed: TypeError: a tag is a text, not 3"):
        initplug.apply(of_shape(6, 4), {"rules": {"w*": "numbered"}}, seed=seed)


def test_arrays_of_any_layout_are_taken() -> None:
    def turned(shape: tuple[int, ...], draw: Draw) -> NDArray[np.float32]:
        values: NDArray[np.float32] = np.arange(math.prod(shape), dtype=np.float32).reshape(shape[::-1])
        values = values.T[::-1, ::-1]
        values.flags.writeable = False
        return values

    initplug.initializer(kind="whole")(turned)
    module = of_shape(2, 3)
    initplug.apply(module, {"rules": {"w*": "turned"}})
    assert module.get_parameter("w").tolist() == [[5, 3, 1], [4, 2, 0]]


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize(
    "init", [{"fn": "second", "batch_dims": 1}, {"split": ["normal", "second", "second"]}], ids=str
)
def test_nothing_of_a_tensor_is_written_where_a_later_part_fails(init: Any, seed: int | None) -> None:
    calls = []

    def second(shape: tuple[int, ...], draw: Draw) -> NDArray[np.float32]:
        calls.append(shape)
        if len(calls) > 1:
            raise RuntimeError("not again")
        return draw.normal("a")

    initplug.initializer(kind="whole")(second)
    module = of_shape(300, 100, 4)
    with pytest.raises(initplug.ApplyError, match="second failed: RuntimeError: not again"):
        initplug.apply(module, {"rules": {"w*": init}}, seed=seed)
    assert len(calls) == 2
    assert (module.get_parameter("w") == 7).all()


@pytest.mark.parametrize("seed", [None, 0])
def test_a_tensor_without_dimensions_may_be_whole(seed: int | None) -> None:
    def scalar(shape: tuple[int, ...], draw: Draw) -> Any:
        return 0 * draw.normal("a") + np.float32(0.5)

    initplug.initializer(kind="whole")(scalar)
    module = of_shape()
    initplug.apply(module, {"rules": {"w*": "scalar factor=3"}}, seed=seed)
    assert module.get_parameter("w").item() == 1.5


@pytest.mark.usefixtures("whole")
def test_a_table_with_a_padding_row_that_has_become_infinite_differs() -> None:
    embedding, recipe = nn.Embedding(6, 4, padding_idx=2), {"rules": {"*": "ramp"}}
    assert initplug.apply(embedding, recipe)["weight"].verdict == "untestable"
    embedding.weight.detach()[0, 0] = math.nan
    assert initplug.audit(embedding, recipe)["weight"].verdict == "differs"


# Parts of what is stacked.

STACKS: list[tuple[Drawn, tuple[Any, ...]]] = [
    (initplug.Stacked((initplug.Constant(1.0), initplug.Constant(2.0)), 0), ([1, 1, 2, 2], [1, 1, 2, 2])),
    (initplug.Stacked((initplug.Constant(1.0), initplug.Constant(2.0)), -2), ([1, 1, 2, 2], [1, 1, 2, 2])),
    (initplug.Stacked((initplug.Constant(1.0), Eye(1.0, 2, 2)), 0), ([1, 1, 1, 0], [1, 1, 0, 1])),
    (Batched(Orthogonal(1.0, 2, 1), 1), ()),
]


@pytest.mark.parametrize(("given", "columns"), STACKS, ids=str)
@pytest.mark.parametrize("seed", [None, 0])
def test_batch_dims_stack_what_an_initializer_gives(given: Drawn, columns: tuple[Any, ...], seed: int | None) -> None:
    def packed(fans: Fans) -> Drawn:
        assert fans.shape in ((4, 2), (4, 2, 1))
        return given

    initplug.initializer(packed)
    module = of_shape(3, 4, 2) if columns else of_shape(3, 4, 2, 1)
    audit = initplug.apply(module, {"rules": {"w*": {"fn": "packed", "batch_dims": 1}}}, seed=seed)
    assert audit["w"].verdict == "ok"
    for one in module.get_parameter("w"):
        if columns:
            assert one.T.tolist() == list(columns)
        else:
            assert torch.allclose(one.square().sum((1, 2)), torch.ones(4))


# What a one-line text says.


def packing(
    fans: Fans,
    *,
    low: float = 0.0,
    high: float = 1.0,
    rows: Literal["bell", "flat"] = "bell",
    columns: Literal["bell", "box"] = "box",
) -> Drawn:
    """Noise."""
    return initplug.Uniform(low, high)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"low": -1.0, "high": 2.0}, "packing 2.0 -1.0"),
        ({"low": -1.0}, "packing low=-1.0"),
        ({"high": 2.0}, "packing 2.0"),
        ({"columns": "bell"}, "packing columns=bell"),
        ({"rows": "flat"}, "packing flat"),
        ({"fans": "flat"}, "packing fans=flat"),
        ({"fans": "effective"}, "packing effective"),
    ],
)
def test_a_text_is_read_as_what_it_was_written_of(arguments: dict[str, Any], text: str) -> None:
    initplug.initializer(bare=("high", "low"))(packing)
    init = read_init({"fn": "packing", **arguments})
    assert init.text == text
    assert read_init(text) == init


def test_a_word_of_two_arguments_is_refused_alone() -> None:
    initplug.initializer(packing)
    assert rule_error("packing bell") == (
        "<mapping>: rules['w*']: 'bell' is a word of rows and columns (write rows=bell)"
    )


# Names that other initializers give a meaning.


def test_an_argument_called_otherwise_means_nothing_but_its_own() -> None:
    def spare(fans: Fans, *, otherwise: Literal["default", "none"] = "none") -> Drawn:
        return initplug.Constant(3.0)

    initplug.initializer(spare)
    plan = initplug.plan(nn.Linear(3, 2, device="meta"), {"rules": {"*": "spare default"}})
    assert plan["weight"].distribution == initplug.Constant(3.0)


@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyError("size"), "probed failed: KeyError: 'size'"), (SystemExit(3), "probed failed: SystemExit: 3")],
)
def test_what_a_function_raises_without_a_tensor_is_told(error: BaseException, told: str) -> None:
    def probed(fans: Fans) -> Drawn:
        raise error

    initplug.initializer(any_shape=True)(probed)
    assert rule_error("probed") == f"<mapping>: rules['w*']: {told}"
