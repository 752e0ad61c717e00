"""Triplets of pairs against a naive loop: which negatives count, when nothing is lost, who is pushed where."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autodidact.objectives import pair_triplets
from autodidact.objectives.triplet import strangers

N, D = 9, 6


def drawn(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs, and (cluster, track) of both ends; float64."""
    g = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(N, D, dtype=torch.float64, generator=g) for _ in range(2))
    cluster1, cluster2 = (torch.randint(4, (N,), generator=g) for _ in range(2))
    return (
        z1,
        z2,
        torch.stack([cluster1, torch.arange(N) // 2], 1),
        torch.stack([cluster2, torch.arange(N) // 2 + 20], 1),
    )


def distance(a: Tensor, b: Tensor) -> float:
    return 1 - float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def naive(z1, z2, marks1, marks2, margin, hardest, semi_hard) -> tuple[float, float]:
    """The loss, and the share of anchors without a negative."""
    ends = [(z, mark) for z, mark in zip(torch.cat([z1, z2]), torch.cat([marks1, marks2]).tolist(), strict=True)]
    losses, lonely = [], 0
    for i in range(2 * N):
        anchor, positive = ends[i][0], ends[(i + N) % (2 * N)][0]
        known = (marks1[i % N].tolist(), marks2[i % N].tolist())
        near = distance(anchor, positive)
        far = [
            distance(anchor, z)
            for z, mark in ends
            if all(mark[c] != own[c] for own in known for c in range(2))
            and (not semi_hard or distance(anchor, z) > near)
        ]
        lonely += not far
        losses += [max(0.0, near - other + margin) for other in sorted(far)[:hardest]]
    return sum(losses) / len(losses), lonely / (2 * N)


@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize("hardest", [1, 3, None])
def test_the_loss_is_that_of_a_naive_loop(hardest, semi_hard):
    arguments = drawn()
    found = pair_triplets(*arguments, margin=0.4, hardest=hardest, semi_hard=semi_hard)
    total, lonely = naive(*arguments, 0.4, hardest, semi_hard)
    assert float(found.total) == pytest.approx(total, rel=1e-10)
    assert float(found.left_out) == pytest.approx(lonely)


def test_nothing_is_lost_once_every_negative_is_farther_by_the_margin():
    axes = torch.eye(4, dtype=torch.float64)
    marks = torch.arange(4)[:, None]
    assert float(pair_triplets(axes, axes, marks, marks, margin=1.0).total) == pytest.approx(0, abs=1e-15)
    found = pair_triplets(axes, axes, marks, marks, margin=1.25)
    assert float(found.total) == pytest.approx(0.25)
    assert float(found.active) == 1.0


def test_opposite_ends_are_two_apart_which_is_the_most():
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    marks = torch.tensor([[0], [1]])
    # D(x, p) = 2; the two ends of the other pair are both 1 away.
    assert float(pair_triplets(z, -z, marks, marks, margin=0.5).total) == pytest.approx(1.5)


def test_the_length_of_an_embedding_does_not_matter_and_the_gradient_is_across_it():
    z1, z2, marks1, marks2 = drawn()
    first = pair_triplets(z1, z2, marks1, marks2).total
    scale = torch.linspace(0.1, 9, N, dtype=torch.float64)[:, None]
    torch.testing.assert_close(pair_triplets(scale * z1, z2 / scale, marks1, marks2).total, first)
    z1.requires_grad_()
    pair_triplets(z1, z2, marks1, marks2).total.backward()
    assert float(z1.grad.abs().max()) > 1e-3
    torch.testing.assert_close((z1.grad * z1).sum(1), torch.zeros(N, dtype=torch.float64))


def test_gradients_agree_with_finite_differences():
    z1, z2, marks1, marks2 = drawn()
    ends = (z1.requires_grad_(), z2.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: pair_triplets(a, b, marks1, marks2, hardest=3).total, ends)


def test_negatives_never_share_a_cluster_or_a_track_with_either_end():
    _, _, marks1, marks2 = drawn(5)
    pool = torch.cat([marks1, marks2])
    expected = [
        [all(other[c] not in (first[c], second[c]) for c in range(2)) for other in pool.tolist()]
        for first, second in zip(marks1.tolist(), marks2.tolist(), strict=True)
    ]
    permitted = strangers(marks1, marks2, pool)
    assert permitted.tolist() == expected
    assert not permitted.diagonal().any()
    assert not permitted[:, N:].diagonal().any()


def test_only_the_negatives_of_the_largest_loss_are_pushed():
    # One pair whose ends are alike against strangers at growing distance, which are alone in a cluster of their own.
    angles = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0], dtype=torch.float64)
    z = torch.stack([angles.cos(), angles.sin()], 1)
    first, second = z.clone().requires_grad_(), z.clone()
    marks = torch.tensor([[0], [1], [1], [1], [1]])
    pair_triplets(first, second, marks, marks, margin=9.0, hardest=2).total.backward()
    # Pair 0 pushes its two nearest, both ends of pair 1; the others have only pair 0's ends to be pushed from.
    towards = torch.stack([z[0] - (z[0] @ row) * row for row in z[1:]]) / 20
    # There are 20 triplets. Pairs 1 to 4 have both ends of pair 0 as negatives; of them pair 0 has only pair 1.
    torch.testing.assert_close(first.grad[2:], 2 * towards[1:], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(first.grad[1], 4 * towards[0], rtol=1e-9, atol=1e-12)


def test_an_anchor_without_a_stranger_counts_in_no_triplet():
    z1, z2, *_ = drawn()
    marks = torch.zeros(N, 1, dtype=torch.long)
    found = pair_triplets(z1.requires_grad_(), z2, marks, marks)
    found.total.backward()
    assert (float(found.total.detach()), float(found.active), float(found.left_out)) == (0.0, 0.0, 1.0)
    assert torch.equal(z1.grad, torch.zeros_like(z1))


def test_embeddings_that_are_all_alike_or_zero_give_a_finite_loss_and_gradient():
    _, _, marks1, marks2 = drawn()
    for value in (0.0, 1.0):
        z = torch.full((N, D), value, requires_grad=True)
        total = pair_triplets(z, z, marks1, marks2, margin=0.5).total
        total.backward()
        assert float(total.detach()) == pytest.approx(0.5, abs=1e-6)
        assert torch.isfinite(z.grad).all()


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"margin": 0.0}, "margin must be positive"),
        ({"hardest": 0}, "hardest must be at least 1"),
        ({"marks1": torch.zeros(3, 2, dtype=torch.long)}, "9 pairs need as many marks"),
        ({"z2": torch.zeros(N, D + 1, dtype=torch.float64)}, "one shape"),
        ({"z1": torch.full((N, D), torch.nan, dtype=torch.float64)}, "NaN"),
    ],
)
def test_bad_input_is_refused(changes, said):
    names = ("z1", "z2", "marks1", "marks2")
    with pytest.raises(ValueError, match=said):
        pair_triplets(**{**dict(zip(names, drawn(), strict=True)), **changes})
