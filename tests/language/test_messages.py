"""Bad recipes and the exact message of each: what is wrong, where, what was expected, what was probably meant."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_errors import recipe_error

import initplug

# Texts, with their messages.
BAD_TEXTS: list[tuple[str, str]] = [
    ("[1, 2]\n", "<text>:1:1: a recipe is a mapping with the key rules, this is a list"),
    ("\n", "<text>: a recipe is a mapping with the key rules, this is null"),
    ("rules\n", "<text>:1:1: a recipe is a mapping with the key rules, this is the text 'rules'"),
    ("rules: 3\n", "<text>:1:8: rules: expected a mapping of rules, got the number 3"),
    ("rules: [a]\n", "<text>:1:8: rules: expected a mapping of rules, got a list"),
    ("rules: null\n", "<text>:1:8: rules: expected a mapping of rules, got null"),
    ("name: x\n", "<text>: required key 'rules' is missing"),
    ("ruls: {}\nrules: {}\n", "<text>:1:1: ruls: unknown key 'ruls' (did you mean rules?)"),
    ("rules: {}\nname: 3\n", "<text>:2:7: name: expected a text, got the number 3"),
    ("rules: {}\nsource: {a: 1}\n", "<text>:2:9: source: expected a text or a list of texts, got a mapping"),
    ("rules: {}\nunmatched: kep\n", "<text>:2:12: unmatched: 'kep' is not one of error, keep (did you mean keep?)"),
    ("rules: {}\nunused: no_way\n", "<text>:2:9: unused: 'no_way' is not one of warn, error, ignore"),
    ("rules: {}\nfrozen: wirte\n", "<text>:2:9: frozen: 'wirte' is not one of keep, write (did you mean write?)"),
    (
        "rules:\n  a: {match: a, init: 0, trainable: maybe}\n",
        "<text>:2:37: rules.a.trainable: 'maybe' is not one of true, false, any",
    ),
    (
        "rules:\n  a: {match: a, init: 0, trainable: 'true'}\n",
        "<text>:2:38: rules.a.trainable: 'true' is not one of true, false, any (remove the quotes)",
    ),
    (
        "rules:\n  a: {match: a, init: 0, trainable: Any}\n",
        "<text>:2:37: rules.a.trainable: 'Any' is not one of true, false, any (did you mean any?)",
    ),
    (
        "rules:\n  a: {match: a, init: 0, trainable: any, kind: buffer}\n",
        "<text>:2:37: rules.a.trainable: buffers never require a gradient (it goes with parameters: remove it, or kind)",
    ),
    (
        "rules:\n  a: {trainable: any, init: 0}\n",
        "<text>:2:6: rules.a: rule 'a' has no match (add match:, or name the rule by its selector, a.**)",
    ),
    ("rules: {}\nunmatched: true\n", "<text>:2:12: unmatched: true is not one of error, keep"),
    ("rules:\n  a*: 0\n  a*: 1\n", "<text>:3:3: duplicate key 'a*' (first at line 2)"),
    ("rules:\n  a*: &x 0\n", "<text>:2:7: recipes have no anchors (quote a text that begins with '&')"),
    (
        "rules:\n  a*: !!python/object:os.system ls\n",
        "<text>:2:7: recipes have no tags (quote a text that begins with '!')",
    ),
    ("%YAML 1.1\n---\nrules: {}\n", "<text>:1:1: recipes have no directives (quote a text that begins with '%')"),
    (
        "rules:\n  *.bias: 0\n *.w: 1\n",
        "<text>:3:2: not YAML: while parsing a block mapping, expected <block end>, but found '<block mapping start>'",
    ),
    (
        "rules: {conv[12].weight: 0}\n",
        "<text>:1:13: not YAML: while parsing a flow mapping, expected ',' or '}', but got '[' (in flow style, {…} and […], quote the selector)",
    ),
    (
        "rules: {a: {match: conv?.weight, match: [a, b}}\n",
        "<text>:1:24: not YAML: while parsing a flow mapping, expected ',' or '}', but got '?' (in flow style, {…} and […], quote the selector)",
    ),
    (
        "rules:\n\t*.bias: 0\n",
        "<text>:2:1: not YAML: while scanning for the next token, found character '\\t' that cannot start any token",
    ),
    (
        "rules: {}\n---\nrules: {}\n",
        "<text>:2:1: not YAML: expected a single document in the stream, but found another document",
    ),
    ("rules:\n  a*: 'x\n", "<text>:3:1: not YAML: while scanning a quoted scalar, found unexpected end of stream"),
    ("a: \x07\n", "<text>:1:4: not YAML: the character '\\x07'"),
    ('a: "\\UFFFFFFFF"\n', "<text>: not YAML: an escape such as \\UFFFFFFFF names no character"),
    (
        "rules:\n  ? [a, b]\n  : 0\n",
        "<text>:2:5: a key must be a text (in flow style, {…} and […], quote the selector)",
    ),
    ("rules:\n  1.10: 0\n", "<text>:2:3: the key '1.10' reads as a number (quote it)"),
    (
        "rules:\n  on: 0\n",
        "<text>:2:3: readers disagree on 'on' (some readers take it for a truth value: write true or false, or quote the text)",
    ),
    ("rules:\n  null: 0\n", "<text>:2:3: the key 'null' reads as null (quote it)"),
    (
        "rules:\n  0: zeros\n",
        "<text>:2:6: rules.0: '0' is no selector (a rule without match is named by its selector, which holds one of . * ? [ ( < ^: 0.**: zeros by name, <…>: zeros by type)",
    ),
    (
        "rules:\n  <<: {a: 1}\n",
        "<text>:2:4: rules['<<']: bad selector '<<': '<' inside '<'\n<text>:2:7: rules['<<']: an initializer given as a mapping needs the key fn (such as {fn: kaiming_normal, mode: fan_out})",
    ),
    (
        "rules:\n  a*: 010\n",
        "<text>:2:7: readers disagree on '010' (some readers take it for octal: write the number in decimal, or quote the text)",
    ),
    ("rules:\n  a*: 0x10\n", "<text>:2:7: readers disagree on '0x10' (write the number in decimal, or quote the text)"),
    (
        "rules:\n  a*: 12:30\n",
        "<text>:2:7: readers disagree on '12:30' (some readers take it for base 60: quote the text)",
    ),
    ("rules:\n  a*: -.5\n", "<text>:2:7: readers disagree on '-.5' (write a digit before the point)"),
    (
        "rules:\n  a*: yes\n",
        "<text>:2:7: readers disagree on 'yes' (some readers take it for a truth value: write true or false, or quote the text)",
    ),
    ("rules:\n  a*: .inf\n", "<text>:2:7: readers disagree on '.inf' (numbers are finite)"),
    ("rules:\n  a*: .nan\n", "<text>:2:7: readers disagree on '.nan' (numbers are finite)"),
    ("rules:\n  a*: 1e999\n", "<text>:2:7: the number is too large (numbers are finite)"),
    ("rules:\n  a*: .5e3\n", "<text>:2:7: readers disagree on '.5e3' (write a digit before the point)"),
    ("rules:\n  a*: 0b11\n", "<text>:2:7: readers disagree on '0b11' (write the number in decimal, or quote the text)"),
    (
        "rules:\n  bn: 0\n",
        "<text>:2:7: rules.bn: 'bn' is no selector (a rule without match is named by its selector, which holds one of . * ? [ ( < ^: bn.**: 0 by name, <…>: 0 by type)",
    ),
    (
        "rules:\n  conv: {init: 0}\n",
        "<text>:2:9: rules.conv: rule 'conv' has no match (add match:, or name the rule by its selector, conv.**)",
    ),
    ("rules:\n  conv: {match: a*}\n", "<text>:2:3: rules.conv: required key 'init' is missing"),
    (
        "rules:\n  conv: {match: a*, init: 0, knd: buffer}\n",
        "<text>:2:30: rules.conv.knd: unknown key 'knd' (did you mean kind?)",
    ),
    (
        "rules:\n  conv: {match: a*, init: 0, kind: bufer}\n",
        "<text>:2:36: rules.conv.kind: 'bufer' is not one of parameter, buffer (did you mean buffer?)",
    ),
    (
        "rules:\n  conv: {match: a*, init: 0, optional: 1}\n",
        "<text>:2:40: rules.conv.optional: expected true or false, got the number 1",
    ),
    (
        "rules:\n  conv: {match: a*, except: b, exclude: c, init: 0}\n",
        "<text>:2:32: rules.conv.exclude: except and exclude are two names of one key (keep one of them, or set one to null)",
    ),
    (
        "rules:\n  conv: {match: a*, exclude: [b, c..d], init: 0}\n",
        "<text>:2:36: rules.conv.exclude[1]: bad selector 'c..d': empty segment between dots",
    ),
    (
        "rules:\n  conv: {match: a*, init: 0, expect: 2}\n",
        "<text>:2:38: rules.conv.expect: expected a mapping with per and times, got the number 2 ({per: <Block>, times: 2})",
    ),
    (
        "rules:\n  conv: {match: a*, init: 0, expect: {per: h.*}}\n",
        "<text>:2:38: rules.conv.expect: expect needs times",
    ),
    (
        "rules:\n  conv: {match: a*, init: 0, expect: {per: h..a, tims: 2}}\n",
        "<text>:2:46: rules.conv.expect.per: bad selector 'h..a': empty segment between dots\n"
        "<text>:2:56: rules.conv.expect.tims: expect takes no tims (did you mean times?)",
    ),
    (
        "rules:\n  conv: {match: a*, init: 0, expect: {per: 3, times: 2.0}}\n",
        "<text>:2:44: rules.conv.expect.per: expected a selector, got the number 3 (quote the selector)\n"
        "<text>:2:54: rules.conv.expect.times: 2.0 is not a number of slots",
    ),
    (
        "rules:\n  conv: {expect: {per: h.*, times: 2}, init: 0}\n",
        "<text>:2:9: rules.conv: rule 'conv' has no match (add match:, or name the rule by its selector, conv.**)",
    ),
    (
        "rules:\n  conv: {match: a*, init: 0, ndim: two}\n",
        "<text>:2:36: rules.conv.ndim: 'two' is not a number of dimensions (write 2, [2, 4] or '>=2')",
    ),
    (
        "rules:\n  conv: {match: a*, init: 0, ndim: -1}\n",
        "<text>:2:36: rules.conv.ndim: -1 is not a number of dimensions (write 2, [2, 4] or '>=2')",
    ),
    (
        "rules:\n  conv: {match: a*, init: 0, ndim: []}\n",
        "<text>:2:36: rules.conv.ndim: [] is not a number of dimensions (write 2, [2, 4] or '>=2')",
    ),
    (
        "rules:\n  conv: {match: 3, init: 0}\n",
        "<text>:2:17: rules.conv.match: expected a selector or a list of selectors, got the number 3 (quote the selector)",
    ),
    (
        "rules:\n  conv: {match: [], init: 0}\n",
        "<text>:2:17: rules.conv.match: expected at least one selector, the list is empty",
    ),
    (
        "rules:\n  conv: {match: [a, 3], init: 0}\n",
        "<text>:2:21: rules.conv.match[1]: expected a selector, got the number 3 (quote the selector)",
    ),
    (
        "rules:\n  conv: {match: {a: 1}, init: 0}\n",
        "<text>:2:17: rules.conv.match: expected a selector or a list of selectors, got a mapping",
    ),
    (
        "rules:\n  conv: {match: a*, except: 'a..b', init: 0}\n",
        "<text>:2:32: rules.conv.except: bad selector 'a..b': empty segment between dots",
    ),
    (
        "rules:\n  a*: [0, 1]\n",
        "<text>:2:7: rules['a*']: expected an initializer (a number, a text or a mapping with fn), got a list",
    ),
    (
        "rules:\n  a*: true\n",
        "<text>:2:7: rules['a*']: true is no initializer (a rule is disabled by setting the rule itself to null)",
    ),
    (
        "rules:\n  a: {match: a*, init: null}\n",
        "<text>:2:24: rules.a.init: null is no initializer (a rule is disabled by setting the rule itself to null)",
    ),
    (
        "rules:\n  a*: {}\n",
        "<text>:2:7: rules['a*']: an initializer given as a mapping needs the key fn (such as {fn: kaiming_normal, mode: fan_out})",
    ),
    (
        "rules:\n  a*: kaimng_normal\n",
        "<text>:2:7: rules['a*']: unknown initializer 'kaimng_normal' (did you mean kaiming_normal?)",
    ),
    (
        "rules:\n  a*: kaiming_normal fan_inn\n",
        "<text>:2:22: rules['a*']: 'fan_inn' is no word of kaiming_normal (did you mean fan_in?)",
    ),
    ("rules:\n  a*: kaiming_normal mode\n", "<text>:2:22: rules['a*']: mode needs a value: write mode=…"),
    (
        "rules:\n  a*: kaiming_normal mode=fan_inn\n",
        "<text>:2:7: rules['a*']: mode: 'fan_inn' is not one of fan_in, fan_out (did you mean fan_in?)",
    ),
    ("rules:\n  a*: normal 0.02\n", "<text>:2:14: rules['a*']: normal takes no bare number: write std=0.02"),
    ("rules:\n  a*: normal std=\n", "<text>:2:14: rules['a*']: std= has no value"),
    ("rules:\n  a*: normal std=1 std=2\n", "<text>:2:20: rules['a*']: std is given twice"),
    ("rules:\n  a*: normal std=abc\n", "<text>:2:7: rules['a*']: std: 'abc' is not a number of at least 0"),
    ("rules:\n  a*: normal sd=1\n", "<text>:2:7: rules['a*']: normal takes no sd (did you mean std?)"),
    ("rules:\n  a*: uniform 1\n", "<text>:2:7: rules['a*']: uniform needs high (write uniform high=…)"),
    ("rules:\n  a*: uniform 1 2 3\n", "<text>:2:19: rules['a*']: uniform takes 2 bare numbers (low high)"),
    ("rules:\n  a*: uniform 2 1\n", "<text>:2:7: rules['a*']: uniform: low must not exceed high, they are 2 and 1"),
    (
        "rules:\n  a*: zeros fan_out\n",
        "<text>:2:13: rules['a*']: 'fan_out' is no word of zeros (its words are fans: torch, effective, flat)",
    ),
    ("rules:\n  a*: zeros 1\n", "<text>:2:13: rules['a*']: zeros takes no number"),
    ("rules:\n  a*: ''\n", "<text>:2:8: rules['a*']: an initializer cannot be empty"),
    (
        "rules:\n  a*: keep flat\n",
        "<text>:2:12: rules['a*']: 'flat' is no word of keep (its words are otherwise: error, default)",
    ),
    (
        "rules:\n  a*: {fn: normal, std: '0.02'}\n",
        "<text>:2:26: rules['a*'].std: '0.02' is a text, not a number of at least 0 (remove the quotes)",
    ),
    (
        "rules:\n  a*: {fn: normal, std: '1e-4'}\n",
        "<text>:2:26: rules['a*'].std: '1e-4' is a text, not a number of at least 0 "
        "(remove the quotes; PyYAML takes 1e-4 for a text and 1.0e-4 for a number)",
    ),
    ("rules:\n  a*: '0.5'\n", "<text>:2:8: rules['a*']: '0.5' is a text, not a number (remove the quotes)"),
    (
        "rules:\n  a*: {fn: normal, factor: '2'}\n",
        "<text>:2:29: rules['a*'].factor: '2' is a text, not a number (remove the quotes)",
    ),
    (
        "rules:\n  a*: {fn: normal, factor: {count: b, times: '2'}}\n",
        "<text>:2:47: rules['a*'].factor.times: '2' is a text, not a number (remove the quotes)",
    ),
    (
        "rules:\n  a*: {fn: normal, std: 100000000000000000000}\n",
        "<text>:2:25: rules['a*'].std: 100000000000000000000 is beyond 64 bits "
        "(larger numbers have a point or an exponent: 1.5, 1e30)",
    ),
    (
        f"rules:\n  a*: normal std={'1' * 5000}\n",
        "<text>:2:7: rules['a*']: std: inf is not a number of at least 0 (numbers are finite)",
    ),
    (
        "rules:\n  a*: {fn: trunc_normal, std: 0.02, a: -2, b: 2}\n",
        "<text>:2:37: rules['a*'].a: trunc_normal takes no a (write low, torch's a)\n"
        "<text>:2:44: rules['a*'].b: trunc_normal takes no b (write high, torch's b)",
    ),
    (
        f"rules:\n  {'a' * 500}*: {{fn: normal, {'b' * 500}: 1}}\n",
        f"<text>:2:519: rules['{'a' * 56}…'].{'b' * 29}…{'b' * 30}: normal takes no {'b' * 29}…{'b' * 30} "
        "(it takes mean, std, fans, split, sizes, dim, batch_dims, factor)",
    ),
    (
        "rules:\n  a*: {match: x, init: 0, ndim: '>=99999999999'}\n",
        "<text>:2:34: rules['a*'].ndim: '>=99999999999' is not a number of dimensions (write 2, [2, 4] or '>=2')",
    ),
    (
        "rules:\n  blocks.-99999999999999999999: 0\n",
        "<text>:2:10: rules['blocks.-99999999999999999999']: bad selector 'blocks.-99999999999999999999': "
        "a place has at most 17 digits",
    ),
    ("rules:\n  a*: {fn: normal, std: true}\n", "<text>:2:25: rules['a*'].std: true is not a number of at least 0"),
    ("rules:\n  a*: {fn: normal, std: -1}\n", "<text>:2:25: rules['a*'].std: -1 is not a number of at least 0"),
    ("rules:\n  a*: {fn: normal, std: null}\n", "<text>:2:25: rules['a*'].std: null is not a number of at least 0"),
    ("rules:\n  a*: {fn: normal, men: 0}\n", "<text>:2:20: rules['a*'].men: normal takes no men (did you mean mean?)"),
    ("rules:\n  a*: {fn: constant}\n", "<text>:2:7: rules['a*']: constant needs value (write constant value=…)"),
    (
        "rules:\n  a*: {func: normal}\n",
        "<text>:2:7: rules['a*']: an initializer given as a mapping needs the key fn (write fn instead of func)",
    ),
    ("rules:\n  a*: {fn: 3}\n", "<text>:2:12: rules['a*'].fn: fn holds the name of an initializer, not the number 3"),
    (
        "rules:\n  a*: {fn: kaiming_normal fan_out}\n",
        "<text>:2:12: rules['a*'].fn: fn holds the name alone (write the arguments as keys, or the whole as one text under init)",
    ),
    (
        "rules:\n  a*: {fn: kaiming_normal, nonlinearity: relu, a: 1}\n",
        "<text>:2:7: rules['a*']: kaiming_normal: a is the slope of leaky_relu and says nothing for relu",
    ),
    (
        "rules:\n  a*: {fn: kaiming_normal, mode: fan_avg}\n",
        "<text>:2:34: rules['a*'].mode: 'fan_avg' is not one of fan_in, fan_out (did you mean fan_in?)",
    ),
    ("rules:\n  a*: {fn: trunc_normal, low: -1}\n", "<text>:2:7: rules['a*']: trunc_normal: low and high go together"),
    (
        "rules:\n  a*: {fn: trunc_normal, low: -1, high: 1, cutoff: 2}\n",
        "<text>:2:7: rules['a*']: trunc_normal: cutoff (in std) and low/high (absolute) exclude each other",
    ),
    (
        "rules:\n  a*: {fn: trunc_normal, std: 0.01, low: 1, high: 2}\n",
        "<text>:2:7: rules['a*']: trunc_normal: the interval [1, 2] lies wholly beyond 6 std of mean 0, std 0.01",
    ),
    (
        "rules:\n  a*: {fn: variance_scaling, distribution: normal, correction: none}\n",
        "<text>:2:7: rules['a*']: variance_scaling: correction is for truncated_normal and says nothing for normal",
    ),
    (
        "rules:\n  a*: {fn: prior_bias, p: 1}\n",
        "<text>:2:27: rules['a*'].p: 1 is not a number above 0 and below 1 or uniform",
    ),
    (
        "rules:\n  a*: {fn: prior_bias, p: uniforms}\n",
        "<text>:2:27: rules['a*'].p: 'uniforms' is not a number above 0 and below 1 or uniform (did you mean uniform?)",
    ),
    (
        "rules:\n  a*: {fn: xavier_uniform, gain: rellu}\n",
        "<text>:2:34: rules['a*'].gain: 'rellu' is not a number or one of linear, conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d, sigmoid, tanh, relu, leaky_relu, selu, gelu, silu, mish, elu, softplus, hardswish (did you mean relu?)",
    ),
    (
        "rules:\n  a*: {fn: fan_uniform, of: a._b}\n",
        "<text>:2:29: rules['a*'].of: 'a._b' is not a reference (weight, ..q.weight, ^shared.weight)",
    ),
    (
        "rules:\n  a*: {fn: normal, fans: effectiv}\n",
        "<text>:2:26: rules['a*'].fans: 'effectiv' is not one of torch, effective, flat (did you mean effective?)",
    ),
    (
        "rules:\n  a*: {_target_: torch.nn.init.zeros_}\n",
        "<text>:2:7: rules['a*']: an initializer given as a mapping needs the key fn (write fn instead of _target_)",
    ),
    ("rules:\n  'a..b': 0\n", "<text>:2:6: rules['a..b']: bad selector 'a..b': empty segment between dots"),
    ("rules:\n  'a.': 0\n", "<text>:2:6: rules['a.']: bad selector 'a.': empty segment between dots"),
    ("rules:\n  'a[12': 0\n", "<text>:2:5: rules['a[12']: bad selector 'a[12': '[' is never closed"),
    ("rules:\n  '(a|b': 0\n", "<text>:2:4: rules['(a|b']: bad selector '(a|b': '(' is never closed"),
    ("rules:\n  'a|b*': 0\n", "<text>:2:5: rules['a|b*']: bad selector 'a|b*': alternatives need parentheses: (a|b)"),
    ("rules:\n  '(a(b))': 0\n", "<text>:2:6: rules['(a(b))']: bad selector '(a(b))': alternatives are not nested"),
    ("rules:\n  '(a||b)': 0\n", "<text>:2:7: rules['(a||b)']: bad selector '(a||b)': empty alternative"),
    ("rules:\n  '<>': 0\n", "<text>:2:5: rules['<>']: bad selector '<>': empty alternative"),
    ("rules:\n  '<A>b': 0\n", "<text>:2:7: rules['<A>b']: bad selector '<A>b': the type ends its segment"),
    ("rules:\n  'a**': 0\n", "<text>:2:5: rules['a**']: bad selector 'a**': '**' stands alone in its segment"),
    ("rules:\n  'a.^b': 0\n", "<text>:2:6: rules['a.^b']: bad selector 'a.^b': '^' stands only at the beginning"),
    ("rules:\n  'x[^a]': 0\n", "<text>:2:6: rules['x[^a]']: bad selector 'x[^a]': a negated class is written [!…]"),
    ("rules:\n  'x[c-a]': 0\n", "<text>:2:5: rules['x[c-a]']: bad selector 'x[c-a]': the range c-a is empty"),
    ("rules:\n  ' a*': 0\n", "<text>:2:4: rules[' a*']: bad selector ' a*': a selector has no white space around it"),
    ("rules:\n  'a*)': 0\n", "<text>:2:6: rules['a*)']: bad selector 'a*)': ')' closes nothing"),
    ("rules:\n  x: {match: '', init: 0}\n", "<text>:2:15: rules.x.match: bad selector '': a selector cannot be empty"),
    (
        "rules:\n  x: {match: b.-0, init: 0}\n",
        "<text>:2:16: rules.x.match: bad selector 'b.-0': places from the end start at -1",
    ),
    (
        "rules:\n  a*: ${std}\n",
        "<text>:2:7: rules['a*']: '${std}' holds an interpolation, which only an application can resolve (compose the recipe with Hydra and pass its config)",
    ),
    ("rules:\n  a*: '???'\n", "<text>:2:8: rules['a*']: ??? stands for a value that is still missing"),
    (
        "rules:\n  a${b}*: 0\n",
        "<text>:2:3: rules['a${b}*']: 'a${b}*' holds an interpolation, which only an application can resolve (compose the recipe with Hydra and pass its config)",
    ),
    (
        "rules:\n  x: {match: a*, init: {fn: normal, std: '${oc.env:HOME}'}}\n",
        "<text>:2:43: rules.x.init.std: '${oc.env:HOME}' holds an interpolation, which only an application can resolve (compose the recipe with Hydra and pass its config)",
    ),
    ("defaults: resnext\nrules: {}\n", "<text>:1:11: defaults: expected a list of recipes, got the text 'resnext'"),
    (
        "defaults: [resnxt]\nrules: {}\n",
        "<text>:1:12: defaults[0]: there is no recipe called 'resnxt' (did you mean resnext?)",
    ),
    ("defaults: [resnext, resnext]\nrules: {}\n", "<text>:1:21: defaults[1]: 'resnext' stands twice"),
    ("defaults: [_self_, _self_]\nrules: {}\n", "<text>:1:20: defaults[1]: '_self_' stands twice"),
    (
        "defaults: [{model: a}]\nrules: {}\n",
        "<text>:1:12: defaults[0]: {'model': 'a'} is neither a recipe's name, a relative file name nor _self_ (compose anything else with Hydra)",
    ),
    (
        "defaults: ['init@x: a']\nrules: {}\n",
        "<text>:1:13: defaults[0]: 'init@x: a' is neither a recipe's name, a relative file name nor _self_ (compose anything else with Hydra)",
    ),
    (
        "defaults: [/etc/passwd]\nrules: {}\n",
        "<text>:1:12: defaults[0]: '/etc/passwd' is neither a recipe's name, a relative file name nor _self_ (compose anything else with Hydra)",
    ),
    (
        "defaults: [resnext]\nrules:\n  conv:\n    init: {fn: constant, value: 1}\n",
        "resnext.yaml:23:32: rules.conv.init.mode: constant takes no mode: it is left over from kaiming_normal, since merging keeps keys (to replace the whole initializer, write init: constant 1)\nresnext.yaml:23:47: rules.conv.init.nonlinearity: constant takes no nonlinearity: it is left over from kaiming_normal, since merging keeps keys (to replace the whole initializer, write init: constant 1)",
    ),
    (
        "defaults: [resnext]\nrules:\n  conv: zeros\n",
        "<text>:3:9: rules.conv: 'conv' is no selector (a rule without match is named by its selector, which holds one of . * ? [ ( < ^: conv.**: zeros by name, <…>: zeros by type; to change the rule called conv, set rules.conv.init=zeros)",
    ),
    (
        "defaults: [resnext]\nrules:\n  bn: {init: {fn: normal, mode: fan_in}}\n",
        "<text>:3:27: rules.bn.init.mode: normal takes no mode (it takes mean, std, fans, split, sizes, dim, batch_dims, factor)",
    ),
    ("rules:\n  a*: copy\n", "<text>:2:7: rules['a*']: copy needs source (write copy source=…)"),
    (
        "rules:\n  a*: copy ..q.weight\n",
        "<text>:2:12: rules['a*']: '..q.weight' is no word of copy (write source=..q.weight)",
    ),
    (
        "rules:\n  a*: copy source=q._weight\n",
        "<text>:2:7: rules['a*']: source: 'q._weight' is not a reference (weight, ..q.weight, ^shared.weight)",
    ),
    ("rules:\n  a*: copy source=q factor=2\n", "<text>:2:7: rules['a*']: copy takes no factor (it takes source)"),
    (
        "rules:\n  a*: {fn: copy, source: ..q, split: 3}\n",
        "<text>:2:31: rules['a*'].split: copy takes no split (it takes source)",
    ),
    (
        "rules:\n  a*: {split: [0, copy source=q]}\n",
        "<text>:2:19: rules['a*'].split[1]: copy fills a whole tensor and is no part of a split (give it a rule of its own)",
    ),
    (
        "rules:\n  a*: {split: [{fn: load, path: x}, 0]}\n",
        "<text>:2:16: rules['a*'].split[0]: load fills a whole tensor and is no part of a split (give it a rule of its own)",
    ),
    ("rules:\n  a*: load\n", "<text>:2:7: rules['a*']: load needs path (write load path=…)"),
    (
        "rules:\n  a*: load body.safetensors\n",
        "<text>:2:12: rules['a*']: 'body.safetensors' is no word of load (write path=body.safetensors)",
    ),
    ("rules:\n  a*: load 3\n", "<text>:2:12: rules['a*']: load takes no number"),
    ("rules:\n  a*: load path=\n", "<text>:2:12: rules['a*']: path= has no value"),
    ("rules:\n  a*: {fn: load, path: ''}\n", "<text>:2:7: rules['a*']: load: path is empty"),
    ("rules:\n  a*: {fn: load, path: 3}\n", "<text>:2:24: rules['a*'].path: 3 is not a text"),
    ("rules:\n  a*: {fn: load, path: x, key: 0}\n", "<text>:2:32: rules['a*'].key: 0 is not a text"),
    (
        "rules:\n  a*: load path=x key=y prefix=z.\n",
        "<text>:2:7: rules['a*']: load: key is the whole name in the file, and prefix what stands before the slot's: give one of them",
    ),
    (
        "rules:\n  a*: {fn: load, path: x, batch_dims: 1}\n",
        "<text>:2:27: rules['a*'].batch_dims: load takes no batch_dims (it takes path, key, prefix, missing)",
    ),
]

# Overrides of the preset `resnext`, with their messages.
BAD_OVERRIDES: list[tuple[str, str]] = [
    (
        "rules.conv.init.mode=fan_x",
        "override: rules.conv.init.mode=fan_x: rules.conv.init.mode: 'fan_x' is not one of fan_in, fan_out (did you mean fan_in?)",
    ),
    (
        "rules.conv.init.mod=fan_in",
        "override: rules.conv.init.mod=fan_in: there is no rules.conv.init.mod to override (did you mean rules.conv.init.mode?)",
    ),
    (
        "rules.con.init=0",
        "override: rules.con.init=0: there is no rules.con.init to override (did you mean rules.conv.init?)",
    ),
    (
        "rules.conv=zeros",
        "override: rules.conv=zeros: rules.conv: 'conv' is no selector (a rule without match is named by its selector, which holds one of . * ? [ ( < ^: conv.**: zeros by name, <…>: zeros by type; to change the rule called conv, set rules.conv.init=zeros)",
    ),
    (
        "rules.conv.init.fn=constant",
        "resnext.yaml:23:11: rules.conv.init: constant needs value (write constant value=…)\nresnext.yaml:23:32: rules.conv.init.mode: constant takes no mode: it is left over from kaiming_normal, since merging keeps keys (to replace the whole initializer, write init: constant value=…)\nresnext.yaml:23:47: rules.conv.init.nonlinearity: constant takes no nonlinearity: it is left over from kaiming_normal, since merging keeps keys (to replace the whole initializer, write init: constant value=…)",
    ),
    ("unmatched=kep", "override: unmatched=kep: unmatched: 'kep' is not one of error, keep (did you mean keep?)"),
    (
        "rules.bn.init.mode=fan_in",
        "override: rules.bn.init.mode=fan_in: rules.bn.init is 1, which has no key 'mode' (replace the whole: 'rules.bn.init=\"…\"')",
    ),
    ("+rules.bias=0", "override: +rules.bias=0: rules.bias is there already (leave out the +: rules.bias.init=0)"),
    (
        "~rules.head",
        "override: ~rules.head: rules.head does not exist, so it cannot be deleted (its rules are conv, bn, bias, classifier)",
    ),
    ("~rules.bn.init=2", "override: ~rules.bn.init=2: rules.bn.init is 1, not 2, so it is not deleted"),
    (
        "rules.conv.init.mode=fan_in,fan_out",
        "override: rules.conv.init.mode=fan_in,fan_out: a sweep stands for many recipes (sweep with Hydra, or give one value)",
    ),
    (
        "rules.conv.init.mode=choice(fan_in,fan_out)",
        "override: rules.conv.init.mode=choice(fan_in,fan_out): a sweep stands for many recipes (sweep with Hydra, or give one value)",
    ),
    (
        "rules.conv.init.mode=${mode}",
        "override: rules.conv.init.mode=${mode}: an interpolation cannot be resolved here (compose the recipe with Hydra)",
    ),
    ("init@model=vit", "override: init@model=vit: config groups belong to a Hydra application"),
    ("init/x=y", "override: init/x=y: config groups belong to a Hydra application"),
    (
        "rules.conv*.init=0",
        "override: rules.conv*.init=0: not in Hydra's notation, key=value: token recognition error at: '*' (keys hold no * and no dots of their own: name the rule, or write '+rules={conv*: {init: 0}}')",
    ),
    (
        "rules.<Linear>.init=0",
        "override: rules.<Linear>.init=0: not in Hydra's notation, key=value: token recognition error at: '.' (keys hold no * and no dots of their own: name the rule)",
    ),
    ("a=b=c", "override: a=b=c: not in Hydra's notation, key=value: mismatched input '=' expecting <EOF>"),
    (
        "",
        "override: : not in Hydra's notation, key=value: mismatched input '<EOF>' expecting {EQUAL, '~', '+', '@', KEY_SPECIAL, DOT_PATH, ID}",
    ),
    ("rules", "override: rules: not in Hydra's notation, key=value: missing EQUAL at '<EOF>'"),
    (
        "rules.conv.init=[1",
        "override: rules.conv.init=[1: not in Hydra's notation, key=value: no viable alternative at input '[1'",
    ),
    (
        "rules.conv.init.mode=",
        "override: rules.conv.init.mode=: rules.conv.init.mode: '' is not one of fan_in, fan_out",
    ),
    (
        "rules.classifier.match.0=fc",
        "override: rules.classifier.match.0=fc: rules.classifier.match is '<Linear>.weight', which has no key '0' (replace the whole: 'rules.classifier.match=\"…\"')",
    ),
    (
        "rules.conv.match=[]",
        "override: rules.conv.match=[]: rules.conv.match: expected at least one selector, the list is empty",
    ),
    (
        "+rules.x=0",
        "override: +rules.x=0: 'x' is no rule and no selector (to add a rule, write '+rules={x.**: 0}' by name, '+rules.x={match: …, init: 0}' by any selector)",
    ),
]


@pytest.mark.parametrize(("text", "expected"), BAD_TEXTS, ids=[repr(text)[:60] for text, _ in BAD_TEXTS])
def test_a_bad_text_has_its_message(text: str, expected: str) -> None:
    assert recipe_error(text) == expected


@pytest.mark.parametrize(("override", "expected"), BAD_OVERRIDES, ids=[override for override, _ in BAD_OVERRIDES])
def test_a_bad_override_has_its_message(override: str, expected: str) -> None:
    assert recipe_error("resnext", override) == expected


def test_the_table_is_long_enough() -> None:
    assert len({text for text, _ in BAD_TEXTS}) >= 60


# Sources that are no texts.

BAD_SOURCES: list[tuple[object, str]] = [
    (None, "a recipe is a preset's name, a path, a YAML text, a mapping or a Recipe, not null"),
    (3, "a recipe is a preset's name, a path, a YAML text, a mapping or a Recipe, not the number 3"),
    (b"rules: {}\n", "a recipe is a preset's name, a path, a YAML text, a mapping or a Recipe, not a bytes"),
    ("", "there is no preset and no file called '' (`initplug presets` lists what there is)"),
    ("resnxt", "there is no preset and no file called 'resnxt' (did you mean resnext?)"),
    ("rules: {}", "there is no preset and no file called 'rules: {}' (a YAML text holds a newline)"),
    ("a\0b", "there is no preset and no file called 'a\\x00b' (`initplug presets` lists what there is)"),
    ({}, "<mapping>: required key 'rules' is missing"),
    ({"rules": {("a", "b"): 0}}, "<mapping>: rules: the key ('a', 'b') is no text"),
    ({"rules": {"a*": {1, 2}}}, "<mapping>: rules['a*']: a recipe holds plain data, not a set"),
    ({"rules": {"a*": float("nan")}}, "<mapping>: rules['a*']: value: nan is not a number (numbers are finite)"),
    ({"rules": {"a*": 10**400}},
     "<mapping>: rules['a*']: value: a number of 1,329 bits is beyond 64 bits "
     "(larger numbers have a point or an exponent: 1.5, 1e30)"),
    ({"rules": {1: 0, "1": 1}}, "<mapping>: rules: duplicate key '1'"),
    ({"rules": {"a*": {"fn": "normal", "factor": [1] * 33}}},
     "<mapping>: rules['a*'].factor: a list of factors has at most 32, not 33"),
    ({"rules": {"a" * 5000 + "*": 0}},
     f"<mapping>: rules['{'a' * 56}…']: bad selector '{'a' * 56}…': it has more than 4,096 characters"),
    ({"rules": {"*" + "(a|b)" * 10 + str(i): 0 for i in range(20)}},
     "<mapping>: rules: the alternatives of its selectors come to 20,480 names, at most 16,384 are matched "
     "(a selector stands for many names: *.bias, <Conv2d>.weight)"),
    ({"rules": {}, "defaults": ["a"] * 65}, "<mapping>: defaults: a recipe is merged from at most 64 recipes"),
    ({"rules": {}, "defaults": ["a" * 5000]},
     f"<mapping>: defaults[0]: there is no recipe called '{'a' * 56}…' (`initplug presets` lists what there is)"),
    ({"rules": {"a*": {"fn": "normal", "std": "${s}"}}},
     "<mapping>: rules['a*'].std: '${s}' holds an interpolation, which only an application can resolve "
     "(compose the recipe with Hydra and pass its config)"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), BAD_SOURCES, ids=[repr(source)[:40] for source, _ in BAD_SOURCES])
def test_a_bad_source_has_its_message(source: object, expected: str) -> None:
    assert recipe_error(source) == expected


def test_a_mapping_inside_itself_is_no_recipe() -> None:
    rules: dict[str, object] = {}
    rules["a*"] = rules
    assert recipe_error({"rules": rules}) == "<mapping>: rules['a*']['a*']['a*']: nested deeper than 32"


DOTTED = {"rules": {"conv*": "kaiming_normal", "bn.weight": 1, "<Linear>.weight": 1, "*.bias": 0}}
DOTTED_OVERRIDES: list[tuple[str, str]] = [
    (
        "rules.bn.weight=2",
        "there is no rules.bn.weight to override (a name that holds dots stands in braces: 'rules={bn.weight: 2}')",
    ),
    (
        "+rules.bn.weight=2",
        "there is no rules.bn.weight to override (a name that holds dots stands in braces: 'rules={bn.weight: 2}')",
    ),
    (
        "rules.bn.weight.init.std=2",
        "there is no rules.bn.weight.init.std to override (a name that holds dots stands in braces: 'rules={bn.weight: {init: {std: 2}}}')",
    ),
    (
        "~rules.bn.weight",
        "rules.bn.weight does not exist, so it cannot be deleted (a name that holds dots stands in braces: 'rules={bn.weight: null}')",
    ),
    (
        "+rules.fc.weight.init=0",
        "there is no rules.fc.weight.init to override (a name that holds dots stands in braces: '+rules={fc.weight: {init: 0}}')",
    ),
    (
        "rules.bn.wieght=2",
        "there is no rules.bn.wieght to override (did you mean 'rules={bn.weight: …}'?)",
    ),
    (
        "rules.conv.init=0",
        "there is no rules.conv.init to override (did you mean 'rules={conv*: …}'?)",
    ),
]


@pytest.mark.parametrize(("override", "expected"), DOTTED_OVERRIDES, ids=[override for override, _ in DOTTED_OVERRIDES])
def test_an_override_of_a_rule_that_is_called_as_it_selects(override: str, expected: str) -> None:
    assert recipe_error(DOTTED, override) == f"override: {override}: {expected}"


@pytest.mark.parametrize(
    ("override", "rule", "text"),
    [
        ("rules={bn.weight: 2}", "bn.weight", "constant 2"),
        ("rules={*.bias: {init: 3}}", "*.bias", "constant 3"),
        ("rules={conv*: zeros}", "conv*", "zeros"),
        ("+rules={fc.weight: {init: 0}}", "fc.weight", "constant 0"),
    ],
)
def test_what_the_hints_show_is_read_as_hydra_reads_it(tmp_path: Path, override: str, rule: str, text: str) -> None:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from initplug.cli.hydra_config import version_base

    alone = initplug.load(DOTTED, [override])
    OmegaConf.save({"init": DOTTED}, tmp_path / "config.yaml")
    with initialize_config_dir(str(tmp_path), **version_base()):
        composed = initplug.load(compose("config", [override.replace("rules", "init.rules")]).init)
    for recipe in (alone, composed):
        found = recipe.rules[rule]
        assert found is not None and found.init.text == text


RULES = "its rules are conv, bn, bias, classifier"
HINTS: list[tuple[str, str, tuple[str, ...]]] = [
    (
        "rules.linaers.init.std=0.1",
        f"there is no rules.linaers.init.std to override ({RULES}; to add one, write +rules.linaers={{match: …, init: …}})",
        ("+rules.linaers={match: fc.weight, init: zeros}",),
    ),
    (
        "rules.foo=1",
        f"there is no rules.foo to override ({RULES}; to add a rule, write '+rules={{foo.**: 1}}' by name, "
        "'+rules.foo={match: …, init: 1}' by any selector)",
        ("+rules={foo.**: 1}", "+rules.foo={match: fc.weight, init: 1}"),
    ),
    (
        "+rules.foo=1",
        "'foo' is no rule and no selector (to add a rule, write '+rules={foo.**: 1}' by name, "
        "'+rules.foo={match: …, init: 1}' by any selector)",
        ("+rules={foo.**: 1}", "+rules.foo={match: fc.weight, init: 1}"),
    ),
    (
        "+rules.clasifier=1",
        "'clasifier' is no rule and no selector (did you mean rules.classifier.init=1? to add a rule, write "
        "'+rules={clasifier.**: 1}' by name, '+rules.clasifier={match: …, init: 1}' by any selector)",
        ("rules.classifier.init=1", "+rules={clasifier.**: 1}", "+rules.clasifier={match: fc.weight, init: 1}"),
    ),
    ("rules.foo=null", f"there is no rules.foo to override ({RULES})", ("rules.bn=null",)),
    (
        "rules.foo={match: fc.weight, init: 1}",
        "there is no rules.foo to override (to add it, write +rules.foo={match: fc.weight, init: 1})",
        ("+rules.foo={match: fc.weight, init: 1}",),
    ),
    (
        "rules.clasifier.init=1",
        "there is no rules.clasifier.init to override (did you mean rules.classifier.init?)",
        ("rules.classifier.init=1",),
    ),
    (
        "~rules.clasifier",
        "rules.clasifier does not exist, so it cannot be deleted (did you mean ~rules.classifier?)",
        ("~rules.classifier",),
    ),
    (
        "~rules.head",
        f"rules.head does not exist, so it cannot be deleted ({RULES})",
        ("~rules.classifier",),
    ),
    (
        "rules.conv.init.linearity=linear",
        "there is no rules.conv.init.linearity to override (did you mean rules.conv.init.nonlinearity?)",
        ("rules.conv.init.nonlinearity=linear",),
    ),
    (
        "rules.conv.init.width=2",
        "there is no rules.conv.init.width to override "
        "(it takes mode, nonlinearity, a, fans, split, sizes, dim, batch_dims, factor)",
        ("+rules.conv.init.factor=2",),
    ),
    (
        "rules.conv.init.factor=2",
        "there is no rules.conv.init.factor to override (to add it, write +rules.conv.init.factor=2)",
        ("+rules.conv.init.factor=2",),
    ),
    (
        "rules.conv.exept=fc",
        "there is no rules.conv.exept to override (did you mean except?)",
        ("+rules.conv.except=fc",),
    ),
    (
        "rules.conv.exclude=fc",
        "there is no rules.conv.exclude to override (to add it, write +rules.conv.exclude=fc)",
        ("+rules.conv.exclude=fc",),
    ),
    (
        "rules.conv.zzz=fc",
        "there is no rules.conv.zzz to override "
        "(a rule has match, except, init, kind, trainable, ndim, optional, expect, exclude)",
        ("+rules.conv.optional=true",),
    ),
    (
        "zzz=keep",
        "there is no zzz to override "
        "(known: name, about, source, family, deviations, proven_on, unmatched, unused, frozen, rules)",
        ("unmatched=keep",),
    ),
    ("unmatchd=keep", "there is no unmatchd to override (did you mean unmatched?)", ("unmatched=keep",)),
    (
        "rules.conv=zeros",
        "rules.conv: 'conv' is no selector (a rule without match is named by its selector, which holds one of "
        ". * ? [ ( < ^: conv.**: zeros by name, <…>: zeros by type; to change the rule called conv, set "
        "rules.conv.init=zeros)",
        ("rules.conv.init=zeros",),
    ),
    (
        "+rules.conv=zeros",
        "rules.conv is there already (leave out the +: rules.conv.init=zeros)",
        ("rules.conv.init=zeros",),
    ),
    ("+unmatched=keep", "unmatched is there already (leave out the +: unmatched=keep)", ("unmatched=keep",)),
    (
        "rules.conv.init.mode.x=1",
        "rules.conv.init.mode is 'fan_out', which has no key 'x' (replace the whole: 'rules.conv.init.mode=\"…\"')",
        ('rules.conv.init.mode="fan_in"',),
    ),
    (
        "rules={zzz: {match: fc.weight, init: 1}}",
        "Key 'zzz' is not in struct (to add keys to what is there, write ++rules={zzz: {match: fc.weight, init: 1}}; "
        "to replace the whole, give a text such as 'constant 1')",
        ("++rules={zzz: {match: fc.weight, init: 1}}",),
    ),
    (
        "rules.conv*.init=0",
        "not in Hydra's notation, key=value: token recognition error at: '*' (keys hold no * and no dots of their own: "
        "name the rule, or write '+rules={conv*: {init: 0}}')",
        ("+rules={conv*: {init: 0}}", "rules.conv.init=0"),
    ),
    (
        "+rules.fc.weight.init=0",
        "there is no rules.fc.weight.init to override (a name that holds dots stands in braces: "
        "'+rules={fc.weight: {init: 0}}')",
        ("+rules={fc.weight: {init: 0}}",),
    ),
    (
        "rules.classifier.init=1/sqrt(2)",
        "not in Hydra's notation, key=value: mismatched input '(' expecting <EOF> "
        "(quote the number: rules.classifier.init='\"1/sqrt(2)\"')",
        ('rules.classifier.init="1/sqrt(2)"',),
    ),
]


@pytest.mark.parametrize(("override", "expected", "ways_out"), HINTS, ids=[override for override, _, _ in HINTS])
def test_every_way_out_of_an_override_works(override: str, expected: str, ways_out: tuple[str, ...]) -> None:
    assert recipe_error("resnext", override) == f"override: {override}: {expected}"
    for way_out in ways_out:
        initplug.load("resnext", [way_out])


def test_a_rule_that_is_null_or_a_list_has_a_way_out_too() -> None:
    recipe = {"rules": {"off": None, "w": {"match": ["a.weight"], "init": 1}, "bn.weight": 1, "conv*": 1}}
    for override, expected, way_out in (
        (
            "rules.off.init=1",
            "there is no rules.off.init to override (the rule is null: write rules.off={match: …, init: …})",
            "rules.off={match: a, init: 1}",
        ),
        ("~rules.w.match.0", "a list is replaced as a whole (write rules.w.match=[…])", "rules.w.match=[b]"),
        (
            "~rules.bn.wieght",
            "rules.bn.wieght does not exist, so it cannot be deleted (did you mean 'rules={bn.weight: null}'?)",
            "rules={bn.weight: null}",
        ),
        (
            "~rules.conv",
            "rules.conv does not exist, so it cannot be deleted (did you mean 'rules={conv*: null}'?)",
            "rules={conv*: null}",
        ),
        ("~name", "name does not exist, so it cannot be deleted", "+name=mine"),
    ):
        assert recipe_error(recipe, override) == f"override: {override}: {expected}"
        initplug.load(recipe, [way_out])
    assert recipe_error({"rules": {}}, "~rules.w").endswith("cannot be deleted (it has no rules)")


def test_only_a_rule_that_was_there_can_be_changed() -> None:
    text = "defaults: [resnext]\nrules:\n  conv: zeros\n  new: zeros\n"
    first, second = recipe_error(text).splitlines()
    assert first.endswith("; to change the rule called conv, set rules.conv.init=zeros)")
    assert second.endswith("new.**: zeros by name, <…>: zeros by type)")
    assert "to change" not in recipe_error({"rules": {"new": 0}})
    text = "defaults: [resnext]\nrules:\n  clasifier: zeros\n  convs: {init: zeros}\n"
    first, second = recipe_error(text).splitlines()
    assert first.endswith("clasifier.**: zeros by name, <…>: zeros by type; or did you mean classifier?)")
    assert second.endswith("(add match:, or name the rule by its selector, convs.**; or did you mean conv?)")
    assert recipe_error("resnext", "+rules.clasifier.init=0").endswith("clasifier.**; or did you mean classifier?)")
    assert recipe_error("resnext", "rules={conv: 0}").endswith("set rules.conv.init=0)")


def test_overrides_are_a_list() -> None:
    with pytest.raises(initplug.RecipeError, match="overrides is a list of texts"):
        initplug.load("resnext", "rules.conv.init.mode=fan_in")


# Files.


def test_a_missing_file(tmp_path: Path) -> None:
    assert recipe_error(tmp_path / "no.yaml") == f"{tmp_path}/no.yaml: cannot be read: No such file or directory"


def test_a_directory(tmp_path: Path) -> None:
    assert recipe_error(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.yaml"
    path.write_bytes(bytes(range(256)))
    assert recipe_error(path) == f"{path}: not a text file (UTF-8)"


def test_ten_megabytes_of_brackets(tmp_path: Path) -> None:
    path = tmp_path / "brackets.yaml"
    path.write_text("[" * 10_000_000)
    assert recipe_error(path) == f"{path}: the text has more than 262,144 characters ({SMALLER})"


SMALLER = "a selector stands for many names: *.bias, <Conv2d>.weight"


def test_deep_nesting() -> None:
    assert recipe_error("rules: " + "[" * 40 + "\n") == "<text>:1:39: nested deeper than 32"
    assert recipe_error("[" * 200_000 + "\n") == "<text>:1:33: nested deeper than 32"


def test_a_cycle_in_defaults_is_found_where_it_closes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("defaults: [b]\nrules: {}\n")
    (tmp_path / "b.yaml").write_text("defaults: [a]\nrules: {}\n")
    expected = f"{tmp_path}/b.yaml:1:12: defaults[0]: 'a' is composed twice: `defaults` repeat a recipe or form a cycle"
    assert recipe_error(tmp_path / "a.yaml") == expected


def test_a_recipe_that_two_others_include_is_refused_as_hydra_refuses_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("defaults: [b, c]\nrules: {}\n")
    (tmp_path / "b.yaml").write_text("defaults: [resnext]\nrules: {}\n")
    (tmp_path / "c.yaml").write_text("defaults: [resnext]\nrules: {}\n")
    assert "'resnext' is composed twice" in recipe_error(tmp_path / "a.yaml")


def test_a_fault_in_a_merged_file_is_told_there(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("rules:\n  a:\n    match: a*\n    init: {fn: normal, std: -1}\n")
    (tmp_path / "mine.yaml").write_text("defaults: [base]\nrules:\n  b: {match: b*, init: kaiming_normal fan_inn}\n")
    assert recipe_error(tmp_path / "mine.yaml").splitlines() == [
        f"{tmp_path}/base.yaml:4:29: rules.a.init.std: -1 is not a number of at least 0",
        f"{tmp_path}/mine.yaml:3:39: rules.b.init: 'fan_inn' is no word of kaiming_normal (did you mean fan_in?)",
    ]


def test_a_key_left_over_from_a_merge_names_its_initializer(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("rules:\n  a:\n    match: a*\n    init: {fn: kaiming_normal, mode: fan_out}\n")
    mine = tmp_path / "mine.yaml"
    mine.write_text("defaults: [base]\nrules:\n  a: {init: {fn: normal, std: 0.02}}\n")
    assert recipe_error(mine) == (
        f"{tmp_path}/base.yaml:4:32: rules.a.init.mode: normal takes no mode: it is left over from kaiming_normal, since "
        "merging keeps keys (to replace the whole initializer, write init: normal std=0.02)"
    )


def test_a_left_over_key_in_a_config_says_why_it_may_be_there() -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.create({"rules": {"a*": {"fn": "orthogonal_like", "mode": "fan_out"}}})
    assert "unknown initializer 'orthogonal_like'" in recipe_error(config)
    config = OmegaConf.create(
        {"rules": {"a": {"match": "a*", "init": {"fn": "constant", "value": 1, "mode": "fan_out"}}}}
    )
    assert recipe_error(config) == (
        "<config>: rules.a.init.mode: constant takes no mode: it belongs to kaiming_uniform, kaiming_normal, "
        "variance_scaling, fan_uniform and may be left over, since Hydra merges mappings (to replace the whole "
        "initializer, write init: constant 1)"
    )


def test_a_missing_value_in_a_config_is_told_with_its_key() -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.create({"rules": {"a": {"match": "a*", "init": {"fn": "normal", "std": "???"}}}})
    assert recipe_error(config) == "<config>: rules.a.init.std: Missing mandatory value: std"


def test_a_mapping_whose_keys_cannot_be_listed() -> None:
    class Broken(dict[str, object]):
        def items(self) -> NoReturn:
            raise RuntimeError("no keys\nat all")

    expected = "<mapping>: rules.conv.init: its keys cannot be listed: RuntimeError: no keys"
    assert recipe_error({"rules": {"conv": {"match": "a*", "init": Broken()}}}) == expected


def test_findings_carry_their_parts() -> None:
    with pytest.raises(initplug.RecipeError) as caught:
        initplug.load("rules:\n  conv:\n    match: a*\n    init: {fn: kaiming_normal, mode: fan_inn}\n")
    (finding,) = caught.value.findings
    assert (finding.path, finding.file, finding.line, finding.column) == ("rules.conv.init.mode", "<text>", 4, 38)
    assert finding.message == "'fan_inn' is not one of fan_in, fan_out"
    assert finding.hint == "did you mean fan_in?"


def test_at_most_ten_findings_are_printed() -> None:
    text = "rules:\n" + "".join(f"  a{index}*: nope\n" for index in range(13))
    lines = recipe_error(text).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "… and 3 more"


# Nothing but a RecipeError, whatever comes in.

VALID = "name: x\nrules:\n  conv*: kaiming_normal fan_out\n  bn: {match: [<_BatchNorm>.weight], init: 1, ndim: '>=1'}\n  *.bias: 0\n"
LINES = st.sampled_from(
    [*VALID.splitlines(), "defaults: [resnext, _self_]", "unused: error", "  x: null", "? [", "- *x", "&"]
)


def accepts_or_refuses(source: object, overrides: tuple[str, ...] = ()) -> None:
    try:
        assert isinstance(initplug.load(source, overrides), initplug.Recipe)
    except initplug.RecipeError as error:
        assert str(error)
        assert error.findings


@given(st.text() | st.text(alphabet="ab.*?[]()<>|^-!:{},'\"#&%@`\n \t0123456789=$"))
def test_no_text_gets_past_the_reader_but_as_a_recipe_error(text: str) -> None:
    accepts_or_refuses(text + "\n")
    accepts_or_refuses(f"rules:\n  {text}: 0\n")
    accepts_or_refuses({"rules": {"x": {"match": text, "init": 0}, "y*": text}})


@given(st.lists(LINES, max_size=8).map("\n".join), st.integers(0, 200), st.text(max_size=3))
def test_no_mutation_of_a_recipe_does(text: str, position: int, inserted: str) -> None:
    accepts_or_refuses(f"{text[:position]}{inserted}{text[position:]}\n")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=3),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(
            st.sampled_from(["match", "init", "fn", "std", "rules", "except", "ndim", "a*"]), part, max_size=4
        )
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_no_mapping_does(value: object) -> None:
    accepts_or_refuses({"rules": value})
    accepts_or_refuses({"rules": {"a*": value}})
    accepts_or_refuses(value)


@settings(deadline=None)
@given(st.text(max_size=20) | st.text(alphabet="rules.conv.init.mode=~+@[]{},'\"", max_size=30))
def test_no_override_does(override: str) -> None:
    accepts_or_refuses("resnext", (override,))
