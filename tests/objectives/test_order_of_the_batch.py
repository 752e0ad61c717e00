"""A batch is a set: in another order of its samples the loss is the same, and so is each sample's gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from autodidact.objectives import cosine_prediction, masked_distillation, sinkhorn, swapped_prediction, vicreg

N, D, T = 9, 4, 3


def swapped(a: Tensor, b: Tensor) -> Tensor:
    return swapped_prediction([a, b], [sinkhorn(a.detach()), sinkhorn(b.detach())])


def weighed(a: Tensor, b: Tensor) -> Tensor:
    found = vicreg(a, b)
    return 25 * found.invariance + 25 * found.variance + found.covariance


def distilled(a: Tensor, b: Tensor) -> Tensor:
    """Patches are hidden where the teacher is sure: in some images several, in one none."""
    said = b.detach().view(N, T, D).softmax(2)
    hidden = said.amax(dim=2) > 0.6
    return masked_distillation(a.view(N, T, D), said, hidden)


@pytest.mark.parametrize(("loss", "width"), [(cosine_prediction, D), (weighed, D), (swapped, D), (distilled, T * D)])
def test_the_order_of_the_batch_changes_neither_the_loss_nor_any_samples_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], width: int
) -> None:
    a, b = torch.randn(2, N, width, dtype=torch.float64)
    order = torch.tensor([4, 0, 7, 1, 8, 3, 2, 6, 5])

    def found(rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        rows = rows.clone().requires_grad_()
        value = loss(rows, others)
        return value.detach(), torch.autograd.grad(value, rows)[0]

    (value, gradient), (moved, moved_gradient) = found(a, b), found(a[order], b[order])
    torch.testing.assert_close(moved, value)
    torch.testing.assert_close(moved_gradient, gradient[order])
    assert not torch.isclose(loss(a[order], b), value)
