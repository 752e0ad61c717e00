"""Figures by group, hits, neighbours and copies, each worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from autodidact.measures.groups import by_group, hits, precision_at, reciprocal_ranks

GROUPS = np.array([0, 0, 0, 0, 1, 1, 2, -1])
RIGHT = np.array([True, True, True, False, False, True, False, True])


def test_means_the_worst_and_the_gap_by_hand():
    found = by_group(RIGHT, GROUPS, ("north", "south", "east"))
    assert found.means == {"north": 0.75, "south": 0.5, "east": 0.0}
    assert found.counts == {"north": 4, "south": 2, "east": 1}
    assert (found.worst, found.gap, found.few) == (0.0, 0.75, ())


@pytest.mark.parametrize("least", [0, 1])
def test_a_group_without_a_member_is_counted_as_none_and_marked_but_has_no_mean(least: int):
    found = by_group(RIGHT, GROUPS, ("north", "south", "east", "nowhere"), least)
    assert found.means == {"north": 0.75, "south": 0.5, "east": 0.0}
    assert found.counts == {"north": 4, "south": 2, "east": 1, "nowhere": 0}
    assert (found.worst, found.gap, found.few) == (0.0, 0.75, ("nowhere",))


def test_small_groups_are_shown_and_marked_but_decide_nothing():
    found = by_group(RIGHT, GROUPS, ("north", "south", "east"), least=2)
    assert found.means["east"] == 0.0
    assert found.few == ("east",)
    assert (found.worst, found.gap) == (0.5, 0.25)


def test_where_no_group_has_enough_members_there_is_an_error_that_counts_them():
    with pytest.raises(ValueError, match=r"no group has 9 members.*north 4, south 2, east 1, nowhere 0"):
        by_group(RIGHT, GROUPS, ("north", "south", "east", "nowhere"), least=9)


def test_a_hit_is_the_true_class_among_those_named():
    ranked = np.array([[1, 2], [0, 3], [2, 0]])
    assert hits(ranked, np.array([2, 1, 2])).tolist() == [True, False, True]
    assert hits(ranked[:, :1], np.array([2, 1, 2])).tolist() == [False, False, True]


def test_precision_is_the_share_of_neighbours_with_the_same_label():
    labels = np.array([0, 0, 1, 1])
    near = np.array([[1, 2, 3], [2, 0, 3], [3, 0, 1], [0, 1, 2]])
    assert precision_at(near, labels, 1).tolist() == [1.0, 0.0, 1.0, 0.0]
    assert precision_at(near, labels, 2).tolist() == [0.5, 0.5, 0.5, 0.0]
    np.testing.assert_allclose(precision_at(near, labels, 3), [1 / 3] * 4)
    with pytest.raises(ValueError, match="between 1 and the 3 neighbours"):
        precision_at(near, labels, 4)


def test_ranks_of_copies_by_hand_with_ties_counting_half():
    bank = np.array([[1.0, 0], [0, 2], [3, 3], [0, 1]])
    queries = np.array([[5.0, 0], [0, 1], [1, 0]])
    # The first finds itself; the second is as near to 1 as to 3; for the third 0 is nearer than 2.
    np.testing.assert_allclose(reciprocal_ranks(queries, bank, np.array([0, 1, 2])), [1.0, 1 / 1.5, 1 / 2])
