"""The loss of a judge on two views, and the rating that its digits come to, against plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch

from autodidact.objectives.judging import two_view_loss

VOCABULARY = 17


def drawn(seed: int, rows: int = 6, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shares(row: torch.Tensor) -> list[float]:
    weights = [math.exp(float(x)) for x in row]
    return [weight / math.fsum(weights) for weight in weights]


def naive(teacher, student, targets, alpha, alpha_kd):
    total = 0.0
    for t, s, target in zip(teacher, student, targets.tolist(), strict=True):
        p, q = shares(t), shares(s)
        kl = math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += -math.log(p[target]) - alpha * math.log(q[target]) + alpha_kd * kl
    return total / len(targets)


def test_the_loss_is_the_likelihood_of_both_views_and_their_divergence():
    targets = torch.tensor([3, 4, 12, 7, 7, 5])
    for alpha, alpha_kd in ((0.3, 2.0), (0.0, 0.0), (1.0, 0.5)):
        found, _ = two_view_loss(drawn(0), drawn(1), targets, alpha=alpha, alpha_kd=alpha_kd)
        assert float(found) == pytest.approx(naive(drawn(0), drawn(1), targets, alpha, alpha_kd), abs=1e-12)


def test_views_that_are_alike_do_not_diverge():
    _, terms = two_view_loss(drawn(0), drawn(0), torch.full((6,), 4))
    assert float(terms["divergence"]) == 0
    assert float(terms["referenced"]) == float(terms["free"])


def test_the_divergence_teaches_the_view_without_the_reference_alone():
    targets = torch.tensor([3, 4, 12, 7, 7, 5])

    def gradients(alpha: float, alpha_kd: float):
        teacher, student = drawn(0).requires_grad_(), drawn(1).requires_grad_()
        two_view_loss(teacher, student, targets, alpha=alpha, alpha_kd=alpha_kd)[0].backward()
        return teacher.grad, student.grad

    with_kd, without = gradients(0.3, 2.0), gradients(0.3, 0.0)
    assert torch.equal(with_kd[0], without[0])
    # The gradient of KL(p || softmax(s)) by s is softmax(s) - p, here over six rows, twice.
    expected = 2 * (drawn(1).softmax(1) - drawn(0).softmax(1)) / 6
    torch.testing.assert_close(with_kd[1] - without[1], expected)
    assert not gradients(0.0, 0.0)[1].any()


def test_unequal_numbers_of_rated_tokens_are_refused():
    with pytest.raises(ValueError, match="both views need the same rated tokens"):
        two_view_loss(drawn(0, 6), drawn(1, 5), torch.zeros(6, dtype=torch.long))
    with pytest.raises(ValueError, match=r"0 or more, got -1\.0"):
        two_view_loss(drawn(0), drawn(1), torch.zeros(6, dtype=torch.long), alpha=-1.0)
