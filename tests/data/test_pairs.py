"""Pairs of samples as samples: both are read at once, under names and ids that stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import ArraySource, Field, Schema, Source, Store, together
from autodidact.data.pairs import Pairs, pair_ids, stored_pairs


@pytest.fixture
def base() -> Source:
    schema = Schema(numeric=Field("numeric", (2,)), cluster=Field("group"))
    values = {"numeric": np.arange(12, dtype=np.float32).reshape(6, 2), "cluster": np.array([5, 5, 6, 6, 7, 7])}
    return ArraySource("six", values, schema, np.array([60, 50, 40, 30, 20, 10]))


def test_a_pair_is_read_with_the_fields_of_both(base):
    batch = Pairs(base, np.array([[0, 5], [3, 1]])).batch(np.array([1, 0]))
    assert torch.equal(batch["numeric"], torch.tensor([[6.0, 7.0], [0.0, 1.0]]))
    assert torch.equal(batch["other_numeric"], torch.tensor([[2.0, 3.0], [10.0, 11.0]]))
    assert batch["other_cluster"].tolist() == [5, 7]


def test_columns_and_schema_are_those_of_both(base):
    pairs = Pairs(base, np.array([[0, 5], [3, 1]]))
    assert pairs.column("cluster").tolist() == [5, 6]
    assert pairs.column("other_cluster").tolist() == [7, 5]
    assert pairs.schema["other_numeric"] == base.schema["numeric"]
    assert pairs.names == ["0 + 5", "3 + 1"]


def test_the_id_of_a_pair_depends_on_both_and_on_their_order():
    first, second = np.meshgrid(np.arange(100), np.arange(100))
    ids = pair_ids(first.ravel(), second.ravel())
    assert len(np.unique(ids)) == 10_000
    assert ids.min() >= 0
    assert np.array_equal(ids[:7], pair_ids(first.ravel()[:7], second.ravel()[:7]))


def test_stored_pairs_are_found_by_kind_and_can_stand_side_by_side(base):
    store = Store(name="pairs")
    store.append([1, 2, 3], first=[60, 50, 10], second=[40, 30, 20], kind=["inter", "inter", "intra"])
    inter, intra = (stored_pairs(base, store, kind) for kind in ("inter", "intra"))
    assert inter.pairs.tolist() == [[0, 2], [1, 3]]
    assert intra.pairs.tolist() == [[5, 4]]
    assert together(inter=inter, intra=intra).schema["inter.other_cluster"].kind == "group"
    with pytest.raises(ValueError, match="no pair of kind 'transitive'"):
        stored_pairs(base, store, "transitive")


@pytest.mark.parametrize("pairs", [np.zeros((0, 2), dtype=np.int64), np.zeros((3, 3), dtype=np.int64)])
def test_what_is_no_list_of_pairs_is_refused(base, pairs):
    with pytest.raises(ValueError, match="two positions each"):
        Pairs(base, pairs)
