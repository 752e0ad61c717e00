"""Splits and label fractions: decided by each sample's own hash."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.data import ArraySource, Field, Schema, label_fraction, open_source, split
from autodidact.data.ids import row_ids

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def labelled(labels: list[int], kind: str = "label") -> ArraySource:
    values = np.array(labels, dtype=np.int64 if kind == "label" else np.float32)
    field = Field("label", classes=("ant", "bee", "cat")) if kind == "label" else Field("target")
    return ArraySource("pets", {kind: values}, Schema({kind: field}), row_ids("pets", "", len(values)))


def membership(source: ArraySource, **options) -> dict[int, str]:
    return {int(i): name for name, part in split(source, SHARES, **options).items() for i in part.ids}


def test_parts_are_disjoint_and_complete():
    source = labelled([0, 1, 2] * 200)
    parts = split(source, SHARES)
    assert sorted(np.concatenate([part.ids for part in parts.values()])) == sorted(source.ids)
    assert list(parts) == ["train", "val", "test"]


@pytest.mark.parametrize("by", [None, "label"])
def test_the_same_seed_gives_the_same_split_and_another_seed_another(by):
    source = labelled([0, 1, 2] * 200)
    assert membership(source, by=by) == membership(source, by=by)
    assert membership(source, by=by) != membership(source, seed=1, by=by)


def test_the_order_of_samples_does_not_matter():
    source = labelled([0, 1, 2] * 200)
    turned = source.at(np.arange(600)[::-1])
    for by in (None, "label"):
        assert membership(source, by=by) == membership(turned, by=by)


@settings(max_examples=20, deadline=None)
@given(before=st.integers(200, 500), added=st.integers(1, 500), seed=st.integers(0, 99))
def test_no_sample_moves_when_others_are_added(before, added, seed):
    small, large = labelled([0] * before), labelled([0] * (before + added))
    old, new = membership(small, seed=seed), membership(large, seed=seed)
    assert all(new[i] == part for i, part in old.items())


def test_parts_have_their_shares_up_to_the_luck_of_a_draw():
    parts = split(labelled([0] * 20_000), SHARES)
    for name, share in SHARES.items():
        assert abs(len(parts[name]) - 20_000 * share) < 4 * np.sqrt(20_000 * share * (1 - share))


def test_stratified_parts_hold_the_exact_share_of_every_class():
    source = labelled([0] * 500 + [1] * 100 + [2] * 10)
    parts = split(source, SHARES, by="label")
    for name, expected in {"train": [400, 80, 8], "val": [50, 10, 1], "test": [50, 10, 1]}.items():
        assert np.bincount(parts[name].column("label")).tolist() == expected


def test_stratified_parts_lose_few_samples_when_a_class_grows():
    # The price of exactness: those near a quota move, at most as many as were added.
    old = membership(labelled([0] * 1000), by="label")
    new = membership(labelled([0] * 1050), by="label")
    moved = sum(new[i] != part for i, part in old.items())
    assert 0 < moved <= 50


def test_groups_stay_together():
    subject = np.arange(400) // 4
    source = labelled([0] * 400)
    parts = split(source, SHARES, group=subject)
    where = [{int(s) for s in subject[np.isin(source.ids, part.ids)]} for part in parts.values()]
    assert sum(map(len, where)) == len(set.union(*where)) == 100


def test_shares_are_relative():
    source = labelled([0] * 300)
    one, two = split(source, {"a": 1, "b": 3}), split(source, {"a": 0.25, "b": 0.75})
    assert one["a"].ids.tolist() == two["a"].ids.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": {"a": 1, "b": 0}}, "shares must be positive"),
        ({"shares": {}}, "shares must be positive"),
        ({"shares": SHARES, "by": "label", "group": "label"}, "exclude each other"),
        ({"shares": {"a": 1, "b": 1e-9}}, "part 'b' of 'pets' would be empty"),
        ({"shares": SHARES, "by": "nothing"}, "no field 'nothing'"),
        ({"shares": SHARES, "group": np.zeros(3, dtype=np.int64)}, "one whole number per sample"),
    ],
)
def test_impossible_splits_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        split(labelled([0, 1, 2] * 20), **options)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("2-per-class", [2, 2, 2]), ("10%", [30, 10, 1]), (0.1, [30, 10, 1]), ("1%", [3, 1, 1]), ("100%", [300, 100, 6])],
)
def test_a_fraction_takes_its_share_of_every_class(amount, expected):
    source = labelled([0] * 300 + [1] * 100 + [2] * 6 + [-1] * 50)
    positions = label_fraction(source, amount)
    assert np.bincount(source.column("label")[positions]).tolist() == expected
    assert positions.tolist() == sorted(positions)


def test_a_smaller_fraction_is_part_of_a_larger_one():
    source = open_source("digits")
    drawn = [set(label_fraction(source, amount, seed=4).tolist()) for amount in ("1-per-class", "1%", "10%", "100%")]
    assert all(a <= b for a, b in pairwise(drawn))
    assert len(drawn[3]) == len(source)


def test_other_seeds_draw_other_labels():
    source = open_source("digits")
    assert label_fraction(source, "1%", 0).tolist() != label_fraction(source, "1%", 1).tolist()


def test_a_fraction_of_a_quantity_is_drawn_without_classes():
    source = labelled([1.5, float("nan")] * 100, kind="target")
    positions = label_fraction(source, "10%", field="target")
    assert len(positions) == 10
    assert np.isfinite(source.column("target")[positions]).all()


@pytest.mark.parametrize(
    ("labels", "amount", "message"),
    [
        ([0, 1] * 5, "7-per-class", "asks for 7 samples of each class, 'ant' of 'pets' has 5"),
        ([1] * 5, "1%", "all labels of 'pets' are 'bee': one class"),
        ([-1] * 5, "1%", "no sample of 'pets' has a known 'label'"),
        ([0, 1] * 5, "0%", "not understood; accepted are 1%"),
        ([0, 1] * 5, "101%", "not understood"),
        ([0, 1] * 5, "0-per-class", "not understood"),
        ([0, 1] * 5, "some", "not understood"),
        ([0, 1] * 5, "2-per-clas", "not understood"),
    ],
)
def test_fractions_that_cannot_be_had_are_errors(labels, amount, message):
    with pytest.raises(ValueError, match=message):
        label_fraction(labelled(labels), amount)


def test_a_fraction_of_unlabelled_data_is_an_error_that_says_what_to_do():
    source = open_source("diabetes")
    with pytest.raises(ValueError, match="no field 'label'"):
        label_fraction(source, "1%")
    with pytest.raises(ValueError, match="give a percentage"):
        label_fraction(source, "2-per-class", field="target")
