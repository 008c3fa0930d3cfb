"""What plans and audits print: golden files, and what must hold of every table."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from typing import Any

import golden_model
import numpy as np
import pytest
import torch
from golden_model import GOLDEN, Golden, golden, texts
from torch import nn

import initplug
from initplug.auditing.audit import Audit
from initplug.errors import visible
from initplug.tables.files import to_csv, to_markdown
from initplug.tables.grouping import collapsed
from initplug.tables.text import Column, table


@pytest.fixture(scope="module")
def audit() -> Audit:
    return golden()


@pytest.fixture(scope="module")
def shown(audit: Audit) -> dict[str, str]:
    return texts(audit)


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir()))
def test_golden_files(shown: dict[str, str], name: str) -> None:
    assert shown[name] == (GOLDEN / name).read_text(encoding="utf-8"), f"see {golden_model.__file__}"


def test_there_is_a_golden_file_of_every_text(audit: Audit) -> None:
    assert texts(audit).keys() == {path.name for path in GOLDEN.iterdir()}


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_table_fits_its_terminal(audit: Audit, width: int) -> None:
    for text in (audit.to_text(width=width), audit.to_text(width=width, every=True), audit.plan.to_text(width=width)):
        assert max(map(len, text.splitlines())) <= width


def test_without_colours_a_table_is_plain_text(audit: Audit) -> None:
    for text in texts(audit).values():
        assert not [sign for sign in text if unicodedata.category(sign) in ("Cc", "Cf") and sign not in "\n\r"]


def test_colours_change_nothing_but_colours(audit: Audit) -> None:
    colored = audit.to_text(width=80, color=True)
    assert "\x1b[" in colored
    plain = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", colored).splitlines()]
    assert plain == audit.to_text(width=80).splitlines()


def test_csv_holds_every_row_and_fact(audit: Audit) -> None:
    lines = list(csv.DictReader(io.StringIO(audit.to_csv(), newline="")))
    rows = audit.to_dict()["rows"]
    assert [line["name"] for line in lines] == [visible(row["name"]) for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert line.keys() == row.keys()
        for key, value in row.items():
            if isinstance(value, float):
                assert float(line[key]) == value
            else:
                text = " ".join(map(str, value)) if isinstance(value, list) else value
                assert line[key] == ("" if text is None else visible(str(text)))
    assert audit.to_csv().count("\r\n") == len(rows) + 1


def test_every_format_tells_the_same(audit: Audit) -> None:
    rows = json.loads(audit.to_json())["rows"]
    markdown = [re.split(r"(?<!\\)\|", line)[1:-1] for line in audit.to_markdown().splitlines()[2:]]
    assert len(markdown) == len(rows)
    for cells, row in zip(markdown, rows, strict=True):
        name, shape, rule, init, mean, std, _, _, status, verdict, problem = (cell.strip() for cell in cells)
        assert name.strip("`").replace("\\|", "|") == visible(row["name"])
        assert shape == "×".join(map(str, row["shape"]))
        assert (rule.strip("`"), init.strip("`")) == (row["rule"] or "–", row["init"] or "–")
        assert (status, verdict, problem) == (row["status"], row["verdict"], row["problem"] or "–")
        for text, value in ((mean, row["mean"]), (std, row["std"])):
            assert text == "–" if value is None else float(text) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("name", ["`", "a``b", "`a", " a ", "*a*", "<b>", "a\\", "a\\|b", "x" * 500])
def test_a_name_in_markdown_is_code(name: str) -> None:
    model = nn.ParameterDict({name: torch.zeros(2)})
    line = initplug.apply(model, {"rules": {"*": 0}}).to_markdown().splitlines()[2]
    cells = re.split(r"(?<!\\)\|", line)
    assert len(cells) == 12
    found = re.fullmatch(r" (`+)( ?)(.*)\2\1 ", cells[1])
    assert found is not None
    assert found[3].replace("\\|", "|") == name
    assert found[1] not in re.findall("`+", found[3])


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("-", "'-"),
        ("\t=1", "\\t=1"),
        ("\r=1", "\\r=1"),
        ("-1", "-1"),
        ("+2", "+2"),
        ("-1e-3", "-1e-3"),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
    ],
)
def test_no_cell_of_a_csv_file_is_a_formula(name: str, written: str) -> None:
    audit = initplug.apply(nn.ParameterDict({name: torch.zeros(2)}), {"rules": {"*": "constant -0.5"}})
    (line,) = csv.DictReader(io.StringIO(audit.to_csv(), newline=""))
    assert line["name"] == written
    assert (line["mean"], line["measured_mean"]) == ("-0.5", "-0.5")
    assert [row["name"] for row in audit.to_dict()["rows"]] == [name]


def test_lists_of_a_csv_file_are_no_formulas_either() -> None:
    assert to_csv([{"aliases": ["=1", "b"], "shape": [-1]}], ["aliases", "shape"]).splitlines()[1] == "'=1 b,-1"


def test_what_a_problem_says_is_only_text_in_markdown() -> None:
    problem = "twin of a|b, <img src=x> *bold* `code` [link](x) &lt; \\"
    line = to_markdown([{"name": "w", "problem": problem}], ["name", "problem"]).splitlines()[2]
    (cell,) = re.split(r"(?<!\\)\|", line)[2:-1]
    assert re.sub(r"\\(.)", r"\1", cell.strip()) == problem
    assert not re.search(r"(?<!\\)[|<`*\[]", cell)


def test_an_empty_audit_is_a_table_without_rows() -> None:
    with pytest.warns(initplug.InitplugWarning, match="the Identity has no parameters"):
        audit = initplug.apply(nn.Identity(), {"rules": {}})
    assert str(audit).splitlines()[-1] == "the recipe: 0 slots, 0 elements"
    assert audit.to_csv().count("\r\n") == 1
    assert audit.to_markdown().count("\n") == 2


# Grouping.


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows]


def group(*given: str, **facts: Any) -> list[str]:
    return names(collapsed([{"name": name, **facts} for name in given], lambda row: ()))


def test_only_numbers_in_one_place_are_joined() -> None:
    assert group("h.0.w", "h.1.w", "h.2.w", "h.4.w", "h.9.w") == ["h.0-2,4,9.w"]
    assert group("h.0.w", "h.0.b", "h.1.w", "h.1.b") == ["h.0-1.w", "h.0-1.b"]
    assert group("a.0.b.0", "a.1.b.1") == ["a.0.b.0", "a.1.b.1"]
    assert group("a.0.b.0", "a.0.b.1", "a.1.b.0", "a.1.b.1") == ["a.0-1.b.0-1"]
    assert group("a.10", "a.9", "a.11") == ["a.9-11"]
    assert group("conv1.w", "conv2.w") == ["conv1.w", "conv2.w"]
    assert group("h.00.w", "h.0.w", "h.٣.w") == ["h.00.w", "h.0.w", "h.٣.w"]
    assert group("", "0") == ["", "0"]
    assert group() == []


def test_numbers_inside_segments_are_joined_where_the_table_is_long() -> None:
    blocks = [f"stage1.block_{block}.{key}" for block in range(30) for key in ("w", "b")]
    assert group(*blocks[:40]) == blocks[:40]
    assert group(*blocks) == ["stage1.block_0-29.w", "stage1.block_0-29.b"]


def test_what_does_not_agree_stands_alone() -> None:
    rows = [{"name": f"h.{place}.w", "std": std} for place, std in enumerate((1, 1, 2, 1))]
    assert names(collapsed(rows, lambda row: row["std"])) == ["h.0-1,3.w", "h.2.w"]
    assert len(collapsed(rows, lambda row: None)) == 4


def test_moments_of_a_group_are_those_of_all_its_values() -> None:
    generator = np.random.default_rng(0)
    samples = [generator.normal(place, 1 + place, 10 * (place + 1)) for place in range(5)]
    rows = [
        {
            "name": f"h.{place}.w",
            "measured_mean": float(sample.mean()),
            "measured_std": float(sample.std()),
            "measured_min": float(sample.min()),
            "measured_max": float(sample.max()),
            "measured_count": sample.size,
        }
        for place, sample in enumerate(samples)
    ]
    (row,) = collapsed(rows, lambda row: ())
    whole = np.concatenate(samples)
    assert row["measured_mean"] == pytest.approx(whole.mean())
    assert row["measured_std"] == pytest.approx(whole.std())
    assert (row["measured_min"], row["measured_max"]) == (whole.min(), whole.max())
    assert (row["measured_count"], row["slots"]) == (150, 5)
    rows[2]["measured_std"] = None
    (row,) = collapsed(rows, lambda row: ())
    assert row["measured_mean"] is None and row["measured_count"] == 150


def test_every_slot_is_in_exactly_one_line() -> None:
    audit = initplug.apply(Golden(), golden_model.RECIPE, seed=0)
    text = audit.to_text(width=10_000)
    covered = 0
    for line in text.splitlines()[2:-1]:
        runs = re.findall(r"(?<=\.)[0-9][0-9,-]*(?=[. ])", line.split("  ")[0] + " ")
        covered += math.prod(
            sum(1 + int(b or a) - int(a) for a, b in re.findall(r"(\d+)(?:-(\d+))?", run)) for run in runs
        )
    assert covered == len(audit)


# Terminals.


def test_wide_characters_take_two_places() -> None:
    rows = [{"name": "名" * 30, "verdict": "ok"}, {"name": "a" * 30, "verdict": "ok"}]
    columns = [Column("parameter", "name", gives=True), Column("verdict", "verdict")]
    for width in (30, 41, 60):
        lines = table(columns, rows, width=width).splitlines()
        assert all(sum(2 if sign == "名" else 1 for sign in line) <= width for line in lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202ertl", "\\u202ertl"),
        ("\x00", "\\x00"),
        ("\ud800", "\\ud800"),
        ("\u2028", "\\u2028"),
        ("名前 é 🙂 <b>", "名前 é 🙂 <b>"),
    ],
)
def test_what_cannot_be_seen_is_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown
