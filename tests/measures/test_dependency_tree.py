"""Trees of the greatest sum against networkx and against all trees, their parts, and thresholds."""

from __future__ import annotations

from itertools import product

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.measures import dependency_tree, foreground, parts_of


def is_tree(parents: list[int]) -> bool:
    roots = [i for i, parent in enumerate(parents) if parent < 0]
    if len(roots) != 1:
        return False
    for start in range(len(parents)):
        node, steps = start, 0
        while parents[node] >= 0 and steps <= len(parents):
            node, steps = parents[node], steps + 1
        if node != roots[0]:
            return False
    return True


def total(scores, parents) -> float:
    return sum(float(scores[i, parent]) for i, parent in enumerate(parents) if parent >= 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_sum_is_that_of_networkx(seed):
    """networkx 3's `maximum_spanning_arborescence` with the root made the only node without a parent."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(9, 9, generator=generator, dtype=torch.float64)
    root = int(torch.randint(9, (), generator=generator))
    graph = networkx.DiGraph()
    graph.add_weighted_edges_from((j, i, float(scores[i, j])) for i in range(9) for j in range(9) if i not in (j, root))
    wanted = sum(d["weight"] for *_, d in networkx.maximum_spanning_arborescence(graph).edges(data=True))
    found = dependency_tree(scores[None], torch.tensor([root]))[0].tolist()
    assert is_tree(found)
    assert found[root] == -1
    assert total(scores, found) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_tree_of_four_tokens_has_a_greater_sum(seed):
    scores = torch.rand(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = dependency_tree(scores[None], torch.tensor([2]))[0].tolist()
    trees = (list(p) for p in product(range(-1, 4), repeat=4) if p[2] == -1 and is_tree(list(p)))
    assert total(scores, found) == pytest.approx(max(total(scores, tree) for tree in trees))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.sampled_from([0, 1, 2, 5]), st.integers(0, 99))
def test_there_is_always_one_root_and_no_cycle_also_among_ties_and_zeros(t, levels, seed):
    scores = torch.from_numpy(np.random.default_rng(seed).integers(0, levels + 1, (3, t, t)).astype(np.float32))
    for parents in dependency_tree(scores).tolist():
        assert is_tree(parents)


def test_a_chain_gives_a_chain_and_a_star_a_star():
    chain, star = torch.zeros(2, 5, 5)
    for i in range(1, 5):
        chain[i, i - 1] = 1
        star[i, 0] = 1
    parents = dependency_tree(torch.stack([chain, star]), torch.tensor([0, 0]))
    assert parents.tolist() == [[-1, 0, 1, 2, 3], [-1, 0, 0, 0, 0]]
    assert parts_of(parents).tolist() == [[0, 1, 1, 1, 1], [0, 1, 2, 3, 4]]


def test_the_root_is_by_default_what_fits_most_as_a_parent_itself_not_counted():
    scores = torch.eye(4)[None] * 100
    scores[0, :, 2] += 1
    assert dependency_tree(scores).tolist() == [[2, 2, -1, 2]]


def test_parts_are_the_subtrees_below_the_roots_children():
    #        2
    #      0   4
    #     1 3   5
    assert parts_of(torch.tensor([[2, 0, -1, 0, 2, 4]])).tolist() == [[0, 0, 2, 0, 4, 4]]
    assert parts_of(torch.tensor([[-1]])).tolist() == [[0]]


def test_scores_that_are_not_finite_and_roots_that_are_no_token_are_refused():
    with pytest.raises(ValueError, match="must be finite"):
        dependency_tree(torch.full((1, 2, 2), float("nan")))
    with pytest.raises(ValueError, match="one of the 2 tokens, got \\[5\\]"):
        dependency_tree(torch.zeros(1, 2, 2), torch.tensor([5]))


def test_thresholds_by_hand_and_otsu_as_scikit_image_has_it():
    values = torch.tensor([[0.0, 0.1, 0.1, 0.9, 1.0], [3.0, 3.0, 3.0, 3.0, 3.0]])
    assert foreground(values).tolist() == [[False, False, False, True, True], [False] * 5]
    assert foreground(values, "otsu").tolist() == [[False, False, False, True, True], [False] * 5]
    from skimage.filters import threshold_otsu

    levels = torch.randint(0, 256, (6, 40), generator=torch.Generator().manual_seed(0))
    for row, found in zip(levels, foreground(levels.float(), "otsu"), strict=True):
        assert found.tolist() == (row.numpy() > threshold_otsu(row.numpy().astype(np.uint8))).tolist()


def test_a_threshold_that_does_not_exist_is_refused(wrong_types):
    with pytest.raises(ValueError, match="'mean' or 'otsu', got 'median'"):
        foreground(torch.zeros(1, 2), "median")
