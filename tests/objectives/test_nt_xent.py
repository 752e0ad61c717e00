"""NT-Xent: what SimCLR and SimCLR v2 say of it, by a double loop and in limiting cases."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodidact.objectives import nt_xent


def anchor_losses(z1: Tensor, z2: Tensor, t: float) -> list[float]:
    """The loss of every anchor, those of the first view before those of the second."""
    rows = [row / row.norm() for row in torch.cat([z1, z2])]
    pairs = len(z1)
    found = []
    for i, anchor in enumerate(rows):
        positive = (i + pairs) % (2 * pairs)
        total = sum(math.exp(float(anchor @ other) / t) for k, other in enumerate(rows) if k != i)
        found.append(-float(anchor @ rows[positive]) / t + math.log(total))
    return found


@pytest.mark.parametrize("t", [0.1, 0.5])
def test_the_authors_value_the_sum_of_two_means_over_anchors_is_twice_this_one(t: float) -> None:
    z1, z2 = torch.randn(2, 7, 5, dtype=torch.float64)
    each = anchor_losses(z1, z2, t)
    theirs = sum(each[:7]) / 7 + sum(each[7:]) / 7
    assert 2 * float(nt_xent(z1, z2, t)) == pytest.approx(theirs, abs=1e-10)


@pytest.mark.parametrize("n", [2, 9])
def test_equal_embeddings_leave_the_choice_among_all_others(n: int) -> None:
    z = torch.randn(1, 6, dtype=torch.float64).expand(n, 6)
    assert float(nt_xent(z, z, 0.1)) == pytest.approx(math.log(2 * n - 1), abs=1e-10)


def test_the_gradient_is_orthogonal_to_each_embedding() -> None:
    z1, z2 = (torch.randn(6, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    nt_xent(z1, z2, 0.2).backward()
    for z in (z1, z2):
        assert z.grad is not None
        assert z.grad.norm(dim=1).min() > 1e-4
        assert (z.grad * z).sum(dim=1).abs().max() < 1e-12
