"""Columns of few distinct values are the lists that they stand for, whatever is asked of them."""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from initplug.columns import Coded, coded, paired

WORDS = ["weight", "bias", "scale", "shift"]
rows_of = st.lists(st.sampled_from(WORDS), max_size=40)


@given(rows_of)
def test_a_column_is_the_sequence_that_it_was_made_of(rows: list[str]) -> None:
    column = coded(rows)
    assert [*column] == rows
    assert len(column) == len(rows)
    assert [column[place] for place in range(len(rows))] == rows
    assert [*column[1:7]] == rows[1:7]
    assert [*reversed(column)] == rows[::-1]
    assert sorted(column.values) == sorted(set(rows))
    assert Counter(column) == Counter(rows)


@given(rows_of)
def test_groups_have_every_row_once_in_the_order_of_first_appearance(rows: list[str]) -> None:
    groups = coded(rows).groups()
    assert [value for value, _ in groups] == list(dict.fromkeys(rows))
    for value, places in groups:
        assert places.tolist() == [place for place, row in enumerate(rows) if row == value]
    assert coded(rows).distinct == list(dict.fromkeys(rows))


@given(rows_of, st.data())
def test_parts_forget_no_row_and_name_no_value_that_is_gone(rows: list[str], data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20)) if rows else []
    part = coded(rows).taken(np.array(places, np.intp))
    assert [*part] == [rows[place] for place in places]
    assert sorted(part.distinct) == sorted({rows[place] for place in places})


@given(rows_of, st.data())
def test_replaced_rows_differ_and_the_others_stay(rows: list[str], data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), unique=True)) if rows else []
    others = {place: data.draw(st.sampled_from([*WORDS, "new"])) for place in places}
    column = coded(rows)
    assert [*column.replaced(others)] == [others.get(place, row) for place, row in enumerate(rows)]
    assert [*column] == rows


@given(rows_of, rows_of)
def test_columns_follow_each_other_and_stand_side_by_side(one: list[str], other: list[str]) -> None:
    assert [*coded(one).then(coded(other))] == one + other
    length = min(len(one), len(other))
    one, other = one[:length], other[:length]
    pairs = paired(coded(one), coded(other))
    assert [*pairs] == [*zip(one, other, strict=True)]
    assert len(pairs.values) == len({*zip(one, other, strict=True)})


@given(rows_of)
def test_questions_are_asked_once_for_each_value(rows: list[str]) -> None:
    asked: list[str] = []

    def length(value: str) -> int:
        asked.append(value)
        return len(value)

    assert [*coded(rows).each(length)] == [len(row) for row in rows]
    assert sorted(asked) == sorted(set(rows))
    assert coded(rows).where(lambda value: "i" in value).tolist() == [at for at, row in enumerate(rows) if "i" in row]


def test_equal_objects_that_are_not_the_same_stay_apart() -> None:
    one, other = ["a"], ["a"]
    column = coded([one, other, one])
    assert len(column.values) == 2
    assert column[0] is one
    assert column[1] is other


def test_a_column_outlives_its_list_a_copy_and_a_pickle() -> None:
    column = coded([str(place % 3) for place in range(9)])
    for other in (copy.deepcopy(column), pickle.loads(pickle.dumps(column))):
        assert isinstance(other, Coded)
        assert [*other] == [*column]
    with pytest.raises(IndexError):
        column[9]
