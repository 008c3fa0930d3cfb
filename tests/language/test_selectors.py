"""Selectors: a table of every form, and a brute-force matcher on random module trees."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

import initplug


def selected(model: nn.Module, match: str | list[str], **rule: Any) -> set[str]:
    recipe = {"unmatched": "keep", "unused": "ignore", "rules": {"r": {"match": match, "init": 0, **rule}}}
    return {assignment.name for assignment in initplug.plan(model, recipe) if assignment.rule == "r"}


class Bottleneck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 2, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(2)


class Wide(Bottleneck):
    pass


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wq = nn.Linear(2, 2, bias=False)
        self.wk = nn.Linear(2, 2, bias=False)
        self.wv = nn.Linear(2, 2, bias=False)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_scale = nn.Parameter(torch.ones(2))
        self.conv1 = nn.Conv2d(2, 2, 1)
        self.layer1 = nn.Sequential(Bottleneck(), Wide())
        self.attn = Attention()
        self.blocks = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(3))
        self.fc = nn.Linear(2, 2)


EVERYTHING = {
    "conv_scale",
    "conv1.weight",
    "conv1.bias",
    "layer1.0.conv1.weight",
    "layer1.0.bn3.weight",
    "layer1.0.bn3.bias",
    "layer1.1.conv1.weight",
    "layer1.1.bn3.weight",
    "layer1.1.bn3.bias",
    "attn.wq.weight",
    "attn.wk.weight",
    "attn.wv.weight",
    "blocks.0.weight",
    "blocks.1.weight",
    "blocks.2.weight",
    "fc.weight",
    "fc.bias",
}
LAYER1 = {name for name in EVERYTHING if name.startswith("layer1.")}
CONVS = "conv1.weight layer1.0.conv1.weight layer1.1.conv1.weight"
BN_WEIGHTS = "layer1.0.bn3.weight layer1.1.bn3.weight"
BN_BIASES = "layer1.0.bn3.bias layer1.1.bn3.bias"
BIASES = f"conv1.bias {BN_BIASES} fc.bias"
LINEARS = "attn.wq.weight attn.wk.weight attn.wv.weight blocks.0.weight blocks.1.weight blocks.2.weight fc.weight"

EXAMPLES: list[tuple[str, str]] = [
    # floating on the left
    ("conv1.weight", CONVS),
    ("weight", f"{CONVS} {BN_WEIGHTS} {LINEARS}"),
    ("0.bn3.bias", "layer1.0.bn3.bias"),
    ("conv_scale", "conv_scale"),
    ("onv1.weight", ""),
    # a selector that ends at a module takes what is below
    ("conv1", f"{CONVS} conv1.bias"),
    ("layer1.1", "layer1.1.conv1.weight layer1.1.bn3.weight layer1.1.bn3.bias"),
    ("conv*", f"{CONVS} conv1.bias conv_scale"),
    # anchored
    ("^conv1.weight", "conv1.weight"),
    ("^fc.weight", "fc.weight"),
    ("^conv_scale", "conv_scale"),
    ("^wq", ""),
    ("^bn3.bias", ""),
    ("^*.weight", "conv1.weight fc.weight"),
    ("^*", " ".join(EVERYTHING)),
    ("^<Linear>.weight", "fc.weight"),
    ("^<Net>", ""),
    # globs inside one segment
    ("*conv*.weight", CONVS),
    ("c?nv1.weight", CONVS),
    ("conv?.weight", CONVS),
    ("conv??.weight", ""),
    ("bn[3-5].bias", BN_BIASES),
    ("bn[!3-5].bias", ""),
    ("w[qk].weight", "attn.wq.weight attn.wk.weight"),
    ("w[!qk].weight", "attn.wv.weight"),
    ("w[a-k].weight", "attn.wk.weight"),
    ("layer1.[!0].bn3.bias", "layer1.1.bn3.bias"),
    ("layer1.*.bias", ""),
    # alternatives inside one segment
    ("(wq|wk).weight", "attn.wq.weight attn.wk.weight"),
    ("w(q|v).weight", "attn.wq.weight attn.wv.weight"),
    ("(bn3|fc).(weight|bias)", f"{BN_WEIGHTS} {BN_BIASES} fc.weight fc.bias"),
    ("(w?|f*).weight", "attn.wq.weight attn.wk.weight attn.wv.weight fc.weight"),
    # any number of segments
    ("layer1.**.bias", BN_BIASES),
    ("layer1.**", " ".join(LAYER1)),
    ("^layer1.**.conv1.weight", "layer1.0.conv1.weight layer1.1.conv1.weight"),
    ("attn.**.wq", "attn.wq.weight"),
    ("**.bias", BIASES),
    ("^**.bias", BIASES),
    ("**", " ".join(EVERYTHING)),
    ("^layer1.**.**.bn3.bias", BN_BIASES),
    # places from the end
    ("blocks.-1", "blocks.2.weight"),
    ("blocks.-2.weight", "blocks.1.weight"),
    ("blocks.-3", "blocks.0.weight"),
    ("blocks.-4", ""),
    ("^-1", "fc.weight fc.bias"),
    ("^layer1.-1.-1.bias", "layer1.1.bn3.bias"),
    ("attn.-1.weight", "attn.wv.weight"),
    # types
    ("<Conv2d|Linear>.weight", f"{CONVS} {LINEARS}"),
    ("<_ConvNd>.weight", CONVS),
    ("<*Norm*>.weight", BN_WEIGHTS),
    ("<*Norm*>", f"{BN_WEIGHTS} {BN_BIASES}"),
    ("<_BatchNorm>.bias", BN_BIASES),
    ("<Conv?d>.bias", "conv1.bias"),
    ("<Conv[13]d>.weight", ""),
    ("<torch.nn.Conv2d>.weight", CONVS),
    ("<torch.Conv2d>.weight", CONVS),
    ("<torch.nn.modules.batchnorm.BatchNorm2d>.weight", BN_WEIGHTS),
    ("<torch.n.Conv2d>.weight", ""),
    ("<torch.optim.Conv2d>.weight", ""),
    ("<Module>.conv_scale", "conv_scale"),
    ("<Conv2D>.weight", ""),
    # name and type of one segment
    ("conv*<Conv2d>.weight", CONVS),
    ("conv*<Linear>.weight", ""),
    ("w?<Linear|Conv2d>", "attn.wq.weight attn.wk.weight attn.wv.weight"),
    ("(fc|attn)<Linear>.weight", "fc.weight"),
    # types anywhere along the path
    ("<Bottleneck>.bn3.weight", BN_WEIGHTS),
    ("<Wide>.bn3.weight", "layer1.1.bn3.weight"),
    ("<Wide>", "layer1.1.conv1.weight layer1.1.bn3.weight layer1.1.bn3.bias"),
    ("<Sequential>.<Wide>.<_BatchNorm>.bias", "layer1.1.bn3.bias"),
    ("<Sequential>.**.bias", BN_BIASES),
    ("<ModuleList>.*.weight", "blocks.0.weight blocks.1.weight blocks.2.weight"),
    # the nameless root
    ("*", " ".join(EVERYTHING)),
    ("*.bias", BIASES),
    ("*.conv_scale", "conv_scale"),
    ("<Net>", " ".join(EVERYTHING)),
    ("<Net>.conv_scale", "conv_scale"),
    ("<Net>.conv1.bias", "conv1.bias"),
    ("<Net>.bn3.bias", ""),
    ("?.conv_scale", ""),
    # case
    ("Conv1.weight", ""),
]


@pytest.mark.parametrize(("selector", "expected"), EXAMPLES, ids=[selector for selector, _ in EXAMPLES])
def test_every_form_selects_exactly(selector: str, expected: str) -> None:
    assert selected(Net(), selector) == set(expected.split())


def test_the_last_child_of_any_module() -> None:
    expected = LAYER1 - {"layer1.0.conv1.weight"} | {"attn.wv.weight", "blocks.2.weight", "fc.weight", "fc.bias"}
    assert selected(Net(), "-1") == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("*.bias", {"bias"}),
        ("*", {"weight", "bias"}),
        ("<Linear>.weight", {"weight"}),
        ("<Linear>", {"weight", "bias"}),
        ("weight", {"weight"}),
        ("^weight", {"weight"}),
        ("^*.weight", set()),
        ("**.weight", {"weight"}),
        ("<Conv2d>.weight", set()),
    ],
)
def test_a_bare_layer_is_its_own_nameless_root(selector: str, expected: set[str]) -> None:
    assert selected(nn.Linear(2, 2), selector) == expected


def test_a_list_of_selectors_is_their_union() -> None:
    assert selected(Net(), ["^fc", "blocks.-1"]) == {"fc.weight", "fc.bias", "blocks.2.weight"}


def test_all_but_the_last() -> None:
    assert selected(Net(), "blocks", **{"except": "blocks.-1"}) == {"blocks.0.weight", "blocks.1.weight"}


class Head(nn.Linear):
    pass


def tower() -> nn.Module:
    """Two stacks whose last child is no linear layer, and one without a linear layer."""
    layers = [nn.Linear(2, 2), nn.Tanh(), Head(2, 2), nn.LayerNorm(2), nn.Linear(2, 2), nn.Tanh()]
    policy = nn.Sequential(*layers)
    value = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    return nn.ModuleDict({"policy": policy, "value": value, "norm": nn.Sequential(nn.LayerNorm(2))})


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("policy.<Linear>-1.weight", "policy.4.weight"),
        ("policy.<Linear>-2.weight", "policy.2.weight"),
        ("policy.<Linear>-3.weight", "policy.0.weight"),
        ("policy.<Linear>-4.weight", ""),
        ("policy.<Head>-1.weight", "policy.2.weight"),
        ("policy.<Head|LayerNorm>-1.weight", "policy.3.weight"),
        ("policy.<*Norm>-1.bias", "policy.3.bias"),
        ("<Linear>-1.weight", "policy.4.weight value.0.weight"),
        ("(policy|value).<torch.nn.Linear>-1", "policy.4.weight policy.4.bias value.0.weight value.0.bias"),
        ("**.<LayerNorm>-1.weight", "policy.3.weight value.1.weight norm.0.weight"),
        ("policy.-1<Tanh>", ""),
        ("policy.-1<Linear>.weight", ""),
        ("<Sequential>-1", "norm.0.weight norm.0.bias"),
        ("<Sequential>-3.<Linear>-1.bias", "policy.4.bias"),
        ("^<Sequential>-2.<LayerNorm>-1.weight", "value.1.weight"),
    ],
)
def test_the_last_child_of_a_class(selector: str, expected: str) -> None:
    assert selected(tower(), selector) == set(expected.split())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([nn.Linear, Head, nn.LayerNorm]), min_size=1, max_size=6),
    st.sampled_from(["Linear", "Head", "LayerNorm", "Linear|LayerNorm", "*"]),
    st.integers(1, 6),
)
def test_places_among_a_class_are_those_of_a_list_of_it(classes: list[type[nn.Module]], types: str, place: int) -> None:
    model = nn.Sequential(*(nn.LayerNorm(2) if each is nn.LayerNorm else each(2, 2) for each in classes))
    known = {"Linear": nn.Linear, "Head": Head, "LayerNorm": nn.LayerNorm, "*": nn.Module}
    wanted = tuple(known[name] for name in types.split("|"))
    alike = [name for name, child in model.named_children() if isinstance(child, wanted)]
    expected = {f"{alike[-place]}.weight"} if place <= len(alike) else set()
    assert selected(model, f"^<{types}>-{place}.weight") == expected


@pytest.mark.parametrize(
    ("selector", "told"),
    [
        ("a<Linear>-1", "the type ends its segment"),
        ("<Linear>-", "after a type stands a place from the end: <Linear>-1"),
        ("<Linear>-x", "after a type stands a place from the end: <Linear>-1"),
        ("<Linear>-1<Linear>", "the type ends its segment"),
        ("<Linear>-0", "places from the end start at -1"),
        ("<Linear>1", "the type ends its segment"),
    ],
)
def test_what_is_no_place_among_a_class(selector: str, told: str) -> None:
    with pytest.raises(initplug.RecipeError, match=re.escape(told)):
        initplug.load({"rules": {"r": {"match": selector, "init": 0}}})


def test_a_container_named_like_its_contents_takes_them_too() -> None:
    class Conv2dNormActivation(nn.Sequential):
        pass

    model = nn.Sequential(Conv2dNormActivation(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1)))
    assert selected(model, "<*Norm*>") == {"0.0.weight", "0.1.weight", "0.1.bias"}
    assert selected(model, "<*Norm*>.weight") == {"0.1.weight"}


def test_a_tied_tensor_is_selected_under_either_name() -> None:
    model = nn.ModuleDict({"wte": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    model["head"].weight = model["wte"].weight
    for selector in ("wte.weight", "head.weight", "<Linear>.weight", "<Embedding>", "^head"):
        assert selected(model, selector) == {"wte.weight"}
    assert selected(model, "*", **{"except": "head.weight"}) == set()


@pytest.mark.parametrize(
    "selector",
    ["", ".", "a..b", ".a", "a.", "(a", "a)", "[a", "<A", "A>", "<>", "()", "((a|b)|c)", "^", "a<A>b", "a|b", "[]"],
)
def test_invalid_selectors_are_recipe_errors(selector: str) -> None:
    with pytest.raises(initplug.RecipeError):
        initplug.load({"rules": {"r": {"match": selector, "init": 0}}})


# ------------------------------------------------------------------------------------------- brute force


class Alpha(nn.Module):
    pass


class Beta(Alpha):
    pass


class Gamma(nn.Module):
    pass


class BetaGamma(Beta, Gamma):
    pass


CLASSES: list[type[nn.Module]] = [Alpha, Beta, Gamma, BetaGamma]
NAMES = ["a", "b", "ab", "ba", "conv1", "conv2", "0", "1", "10"]


@dataclass(frozen=True)
class Node:
    name: str
    cls: type | None
    place: int | None


@dataclass(frozen=True)
class Token:
    """One piece of a glob: a literal character, `*`, `?`, a character class or a group of alternatives."""

    kind: str
    text: str
    chars: str = ""
    options: tuple[tuple[Token, ...], ...] = ()


@dataclass(frozen=True)
class Segment:
    """One segment of a selector; `anywhere` is `**`."""

    text: str
    anywhere: bool = False
    place: int | None = None
    name: tuple[Token, ...] | None = None
    types: tuple[tuple[str, tuple[Token, ...]], ...] = ()


@dataclass(frozen=True)
class Sketch:
    text: str
    anchored: bool
    segments: tuple[Segment, ...]


def glob_matches(tokens: tuple[Token, ...], text: str) -> bool:
    if not tokens:
        return text == ""
    head, rest = tokens[0], tokens[1:]
    if head.kind == "star":
        return any(glob_matches(rest, text[i:]) for i in range(len(text) + 1))
    if head.kind == "group":
        return any(glob_matches(option + rest, text) for option in head.options)
    if text == "":
        return False
    if head.kind == "any":
        return glob_matches(rest, text[1:])
    if head.kind == "not":
        return text[0] not in head.chars and glob_matches(rest, text[1:])
    return text[0] in head.chars and glob_matches(rest, text[1:])


def type_matches(package: str, name: tuple[Token, ...], cls: type) -> bool:
    for base in cls.__mro__:
        inside = not package or base.__module__ == package or base.__module__.startswith(package + ".")
        if inside and glob_matches(name, base.__name__):
            return True
    return False


def segment_matches(segment: Segment, node: Node) -> bool:
    if segment.place is not None:
        return node.place == segment.place
    if segment.name is not None and not glob_matches(segment.name, node.name):
        return False
    if segment.types:
        cls = node.cls
        return cls is not None and any(type_matches(package, name, cls) for package, name in segment.types)
    return True


def segments_match(segments: tuple[Segment, ...], nodes: tuple[Node, ...]) -> bool:
    if not segments:
        return not nodes
    if segments[0].anywhere:
        return any(segments_match(segments[1:], nodes[i:]) for i in range(len(nodes) + 1))
    return bool(nodes) and segment_matches(segments[0], nodes[0]) and segments_match(segments[1:], nodes[1:])


def node_matches(sketch: Sketch, path: tuple[Node, ...]) -> bool:
    if sketch.anchored:
        return segments_match(sketch.segments, path[1:])
    return any(segments_match(sketch.segments, path[i:]) for i in range(len(path)))


def parameter_paths(
    module: nn.Module, above: tuple[Node, ...] = (), name: str = "", place: int | None = None
) -> Iterator[tuple[tuple[Node, ...], nn.Parameter]]:
    here = (*above, Node(name, type(module), place))
    for own, parameter in module._parameters.items():
        if parameter is not None:
            yield (*here, Node(own, None, None)), parameter
    children = list(module._modules.items())
    for i, (own, child) in enumerate(children):
        if child is not None:
            yield from parameter_paths(child, here, own, i - len(children))


def dotted(path: tuple[Node, ...]) -> str:
    return ".".join(node.name for node in path[1:])


def brute_force(model: nn.Module, sketch: Sketch) -> set[str]:
    """Every name, aliases included, of every tensor one of whose paths runs through a matching node."""
    names: dict[int, list[str]] = {}
    hit: set[int] = set()
    for path, parameter in parameter_paths(model):
        names.setdefault(id(parameter), []).append(dotted(path))
        if any(node_matches(sketch, path[: k + 1]) for k in range(len(path))):
            hit.add(id(parameter))
    return {name for key in hit for name in names[key]}


@st.composite
def models(draw: st.DrawFn) -> nn.Module:
    finished: list[nn.Module] = []
    tensors: list[nn.Parameter] = []

    def build(depth: int) -> nn.Module:
        module = draw(st.sampled_from(CLASSES))()
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=4)):
            kinds = ["parameter"]
            kinds += ["module", "module"] if depth < 3 else []
            kinds += ["shared"] if finished else []
            kinds += ["tied"] if tensors else []
            kind = draw(st.sampled_from(kinds))
            if kind == "module":
                module.add_module(name, build(depth + 1))
            elif kind == "shared":
                module.add_module(name, draw(st.sampled_from(finished)))
            elif kind == "tied":
                module.register_parameter(name, draw(st.sampled_from(tensors)))
            else:
                tensors.append(nn.Parameter(torch.ones(2)))
                module.register_parameter(name, tensors[-1])
        finished.append(module)
        return module

    return build(0)


def literal(text: str) -> tuple[Token, ...]:
    return tuple(Token("one", character, character) for character in text)


def text_of(tokens: tuple[Token, ...]) -> str:
    return "".join(token.text for token in tokens)


def no_double_star(tokens: list[tuple[Token, ...]]) -> bool:
    return "**" not in "".join(text_of(piece) for piece in tokens)


PLAIN_PIECES = st.one_of(
    st.sampled_from(["a", "b", "ab", "conv", "0", "1", "conv1", "10"]).map(literal),
    st.just((Token("star", "*"),)),
    st.just((Token("any", "?"),)),
    st.sampled_from([("[ab]", "ab"), ("[a-c]", "abc"), ("[0-9]", "0123456789"), ("[12]", "12")]).map(
        lambda pair: (Token("one", pair[0], pair[1]),)
    ),
    st.sampled_from([("[!a]", "a"), ("[!0-8]", "012345678"), ("[!ab]", "ab")]).map(
        lambda pair: (Token("not", pair[0], pair[1]),)
    ),
)


def joined(pieces: list[tuple[Token, ...]]) -> tuple[Token, ...]:
    return tuple(token for piece in pieces for token in piece)


PLAIN_GLOBS = st.lists(PLAIN_PIECES, min_size=1, max_size=3).filter(no_double_star).map(joined)


def group(options: list[tuple[Token, ...]]) -> tuple[Token, ...]:
    return (Token("group", "(" + "|".join(text_of(option) for option in options) + ")", options=tuple(options)),)


GROUPS = st.lists(PLAIN_GLOBS, min_size=2, max_size=3).map(group)
NAME_GLOBS = st.one_of(
    st.sampled_from(NAMES).map(literal),
    st.lists(st.one_of(PLAIN_PIECES, GROUPS), min_size=1, max_size=3).filter(no_double_star).map(joined),
)
TYPE_GLOBS = st.one_of(
    st.sampled_from(["Alpha", "Beta", "Gamma", "BetaGamma", "Module", "alpha"]).map(literal),
    st.just((*literal("Beta"), Token("star", "*"))),
    st.just((Token("star", "*"), *literal("Gamma"))),
    st.just((Token("any", "?"), *literal("eta"))),
    st.just((Token("one", "[AG]", "AG"), Token("star", "*"), *literal("a"))),
)
TYPES = st.lists(
    st.tuples(st.sampled_from(["", "", "", Alpha.__module__, "torch.nn", "torch"]), TYPE_GLOBS), min_size=1, max_size=2
)


def bracketed(types: list[tuple[str, tuple[Token, ...]]]) -> str:
    return "<" + "|".join((f"{package}." if package else "") + text_of(name) for package, name in types) + ">"


SEGMENTS = st.one_of(
    NAME_GLOBS.map(lambda name: Segment(text_of(name), name=name)),
    NAME_GLOBS.map(lambda name: Segment(text_of(name), name=name)),
    st.just(Segment("**", anywhere=True)),
    st.sampled_from([-1, -2, -3]).map(lambda place: Segment(str(place), place=place)),
    TYPES.map(lambda types: Segment(bracketed(types), types=tuple(types))),
    st.tuples(NAME_GLOBS, TYPES).map(
        lambda pair: Segment(text_of(pair[0]) + bracketed(pair[1]), name=pair[0], types=tuple(pair[1]))
    ),
)


def sketch(anchored: bool, segments: list[Segment]) -> Sketch:
    text = ("^" if anchored else "") + ".".join(segment.text for segment in segments)
    return Sketch(text, anchored, tuple(segments))


# `???` stands for a missing value in Hydra's files, so no recipe can hold it as a selector.
SKETCHES = st.builds(sketch, st.booleans(), st.lists(SEGMENTS, min_size=1, max_size=4)).filter(
    lambda one: one.text != "???"
)
THOROUGH = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@given(model=models(), wanted=SKETCHES)
@THOROUGH
def test_the_planner_selects_what_brute_force_selects(model: nn.Module, wanted: Sketch) -> None:
    recipe = {"unmatched": "keep", "unused": "ignore", "rules": {"r": {"match": wanted.text, "init": 0}}}
    plan = initplug.plan(model, recipe)
    every_name = {dotted(path) for path, _ in parameter_paths(model)}
    assert {name for name in every_name if plan[name].rule == "r"} == brute_force(model, wanted), wanted.text


@given(model=models(), wanted=st.lists(SKETCHES, min_size=2, max_size=4))
@settings(THOROUGH, max_examples=200)
def test_the_last_match_wins_and_the_others_are_shadowed(model: nn.Module, wanted: list[Sketch]) -> None:
    rules = {f"r{i}": {"match": one.text, "init": i} for i, one in enumerate(wanted)}
    plan = initplug.plan(model, {"unmatched": "keep", "unused": "ignore", "rules": rules})
    hits = {f"r{i}": brute_force(model, one) for i, one in enumerate(wanted)}
    for path, _ in parameter_paths(model):
        matching = [rule for rule in rules if dotted(path) in hits[rule]]
        assignment = plan[dotted(path)]
        assert assignment.rule == (matching[-1] if matching else None)
        assert sorted(assignment.shadowed) == matching[:-1]


@given(model=models(), wanted=SKETCHES, unwanted=SKETCHES)
@settings(THOROUGH, max_examples=200)
def test_except_takes_away_what_it_selects(model: nn.Module, wanted: Sketch, unwanted: Sketch) -> None:
    rule = {"match": wanted.text, "except": [unwanted.text], "init": 0}
    plan = initplug.plan(model, {"unmatched": "keep", "unused": "ignore", "rules": {"r": rule}})
    every_name = {dotted(path) for path, _ in parameter_paths(model)}
    expected = brute_force(model, wanted) - brute_force(model, unwanted)
    assert {name for name in every_name if plan[name].rule == "r"} == expected


@given(model=models())
@settings(THOROUGH, max_examples=100)
def test_every_tensor_is_one_slot_with_all_its_names(model: nn.Module) -> None:
    plan = initplug.plan(model, {"rules": {"*": 0}})
    assert [assignment.name for assignment in plan] == [name for name, _ in model.named_parameters()]
    names: dict[int, set[str]] = {}
    for path, parameter in parameter_paths(model):
        names.setdefault(id(parameter), set()).add(dotted(path))
    found = [{assignment.name, *assignment.aliases} for assignment in plan]
    assert sorted(map(sorted, found)) == sorted(map(sorted, names.values()))


def test_the_brute_force_matcher_agrees_with_the_table() -> None:
    def glob(text: str) -> tuple[Token, ...]:
        special = {"*": Token("star", "*"), "?": Token("any", "?")}
        return tuple(special.get(character, Token("one", character, character)) for character in text)

    simple = [(text, expected) for text, expected in EXAMPLES if not set("<([-") & set(text)]
    assert len(simple) > 20
    for text, expected in simple:
        segments = [
            Segment(part, anywhere=True) if part == "**" else Segment(part, name=glob(part))
            for part in text.removeprefix("^").split(".")
        ]
        assert brute_force(Net(), sketch(text.startswith("^"), segments)) == set(expected.split()), text
