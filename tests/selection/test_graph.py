"""The graph over tracks: who is linked, what follows from it, and what never does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from autodidact.selection import distinct_pairs, mutual_neighbours, partners, transitive_pairs


def pairs(found: Tensor) -> set[tuple[int, int]]:
    return {(a, b) for a, b in found.tolist()}


@given(tracks=st.lists(st.integers(0, 5), max_size=25), seed=st.integers(0, 9))
def test_a_partner_is_another_sample_of_the_track_and_there_is_none_for_a_lonely_one(tracks, seed):
    track = torch.tensor(tracks, dtype=torch.long)
    found = partners(track, torch.Generator().manual_seed(seed))
    for sample, partner in enumerate(found.tolist()):
        if tracks.count(tracks[sample]) == 1:
            assert partner == -1
        else:
            assert partner != sample
            assert tracks[partner] == tracks[sample]


def test_all_others_of_a_track_are_equally_likely_partners():
    track = torch.zeros(4, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([partners(track, generator) for _ in range(400)])
    shares = torch.stack([(drawn == other).double().mean(0) for other in range(4)])
    expected = (1 - torch.eye(4, dtype=torch.float64)) / 3
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.1)


def test_partners_follow_from_the_generator():
    track = torch.arange(40) // 4
    first, again, other = (partners(track, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def naive_neighbours(features: Tensor, tracks: Tensor, clusters: Tensor, k: int, least: float) -> set[tuple[int, int]]:
    near = []
    for i in range(len(features)):
        others = []
        for j in range(len(features)):
            cosine = float(torch.nn.functional.cosine_similarity(features[i], features[j], dim=0))
            if tracks[j] != tracks[i] and clusters[j] == clusters[i] and cosine >= least:
                others.append((cosine, j))
        near.append({j for _, j in sorted(others, reverse=True)[:k]})
    return {(i, j) for i in range(len(features)) for j in near[i] if i < j and i in near[j]}


@pytest.mark.parametrize(("k", "least"), [(1, -1.0), (3, -1.0), (3, 0.3), (50, 0.0)])
def test_edges_are_the_mutual_neighbours_of_a_naive_search(k, least):
    g = torch.Generator().manual_seed(3)
    features = torch.randn(40, 4, dtype=torch.float64, generator=g)
    tracks, clusters = torch.arange(40) // 3, torch.randint(3, (40,), generator=g)
    found = mutual_neighbours(features, tracks, clusters, k=k, least=least)
    assert pairs(found) == naive_neighbours(features, tracks, clusters, k, least)
    assert len(pairs(found)) == len(found) > 0
    assert found.tolist() == sorted(found.tolist())


def test_no_sample_has_more_edges_than_neighbours_even_where_all_are_near_to_it():
    hub = torch.cat([torch.ones(1, 5), torch.ones(1, 5) + 2 * torch.eye(5)])
    found = mutual_neighbours(hub, torch.arange(6), torch.zeros(6, dtype=torch.long), k=2)
    assert torch.bincount(found.flatten(), minlength=6).max() <= 2


def test_lonely_clusters_and_features_without_a_direction_have_no_edges():
    alone = mutual_neighbours(torch.randn(3, 2), torch.arange(3), torch.arange(3), k=2)
    assert alone.shape == (0, 2)
    zero = mutual_neighbours(torch.zeros(4, 2), torch.arange(4), torch.zeros(4, dtype=torch.long), k=2)
    assert zero.shape == (0, 2)


def test_a_cluster_number_that_nobody_has_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    features, tracks, clusters = torch.randn(30, 3, generator=generator), torch.arange(30) // 2, torch.arange(30) % 2
    found = mutual_neighbours(features, tracks, clusters, k=3)
    assert len(found)
    assert torch.equal(mutual_neighbours(features, tracks, 3 * clusters, k=3), found)


def test_features_that_are_all_equal_link_different_tracks_only():
    tracks = torch.tensor([0, 0, 1, 1])
    found = mutual_neighbours(torch.ones(4, 3), tracks, torch.zeros(4, dtype=torch.long), k=4)
    assert pairs(found) == {(0, 2), (0, 3), (1, 2), (1, 3)}


def test_the_closure_of_a_toy_graph_is_exactly_what_follows():
    # Four tracks of two samples, 0-1, 2-3, 4-5, 6-7, and the edges 0 - 2 and 4 - 6.
    partner = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    intra, following = transitive_pairs(torch.tensor([[0, 2], [4, 6]]), partner)
    assert pairs(intra) == {(0, 1), (2, 3), (4, 5), (6, 7)}
    assert pairs(following) == {(0, 3), (1, 2), (1, 3), (4, 7), (5, 6), (5, 7)}


def test_what_is_an_edge_already_does_not_follow_and_lonely_samples_carry_nothing_on():
    # 0 and 1 are a track, 2 is alone; 0 - 2 and 1 - 2 are edges.
    partner = torch.tensor([1, 0, -1])
    intra, following = transitive_pairs(torch.tensor([[0, 2], [1, 2]]), partner)
    assert pairs(intra) == {(0, 1)}
    assert pairs(following) == set()
    assert transitive_pairs(torch.zeros(0, 2, dtype=torch.long), partner)[1].shape == (0, 2)


@given(seed=st.integers(0, 20))
def test_what_follows_joins_different_tracks_each_pair_once_and_nothing_with_itself(seed):
    g = torch.Generator().manual_seed(seed)
    tracks = torch.randint(6, (20,), generator=g)
    edges = mutual_neighbours(torch.randn(20, 3, generator=g), tracks, torch.zeros(20, dtype=torch.long), k=3)
    intra, following = transitive_pairs(edges, partners(tracks, g))
    assert (tracks[following[:, 0]] != tracks[following[:, 1]]).all()
    assert (tracks[intra[:, 0]] == tracks[intra[:, 1]]).all()
    for found in (intra, following):
        assert len(pairs(found)) == len(found)
        assert (found[:, 0] < found[:, 1]).all()
    assert not pairs(following) & pairs(edges)


def test_distinct_pairs_have_no_order_no_repetition_no_loop_and_no_absent_end():
    given_pairs = torch.tensor([[3, 1], [1, 3], [2, 2], [-1, 4], [0, 5]])
    assert distinct_pairs(given_pairs).tolist() == [[0, 5], [1, 3]]


@pytest.mark.usefixtures("wrong_types")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"tracks": torch.arange(3)}, "5 rows need as many tracks"),
        ({"clusters": torch.arange(3)}, "5 rows need as many clusters"),
        ({"features": torch.full((5, 2), torch.nan)}, "NaN"),
    ],
)
def test_bad_input_is_refused(changes, said):
    arguments = {"features": torch.ones(5, 2), "tracks": torch.arange(5), "clusters": torch.zeros(5).long(), "k": 2}
    with pytest.raises(ValueError, match=said):
        mutual_neighbours(**{**arguments, **changes})
