"""BYOL's objective against a loop in plain floats, its range, and where its gradient does not go."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodidact.objectives import cosine_prediction


def pair(n: int = 7, d: int = 5, *, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]


def test_the_loss_is_the_mean_squared_distance_of_unit_rows() -> None:
    prediction, target = pair()
    total = 0.0
    for p, t in zip(prediction.tolist(), target.tolist(), strict=True):
        p_length, t_length = (math.sqrt(math.fsum(v * v for v in row)) for row in (p, t))
        total += math.fsum((a / p_length - b / t_length) ** 2 for a, b in zip(p, t, strict=True))
    assert float(cosine_prediction(prediction, target).detach()) == pytest.approx(total / 7, rel=1e-12)


def test_it_is_0_for_the_same_direction_2_for_unrelated_ones_and_4_for_opposite_ones() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert float(cosine_prediction(3 * rows, rows)) == 0.0
    assert float(cosine_prediction(rows.flip(0), rows)) == 2.0
    assert float(cosine_prediction(-rows, rows)) == 4.0


def test_the_scale_of_each_prediction_plays_no_part() -> None:
    prediction, target = (z.detach() for z in pair())
    scales = torch.rand(7, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(cosine_prediction(scales * prediction, target), cosine_prediction(prediction, target))


def test_gradients_match_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda p, t: cosine_prediction(p, t, stop_gradient=False), pair(4, 3))


def test_the_target_takes_no_gradient_unless_asked_to() -> None:
    prediction, target = pair()
    cosine_prediction(prediction, target).backward()
    assert target.grad is None
    constant = prediction.grad.clone()
    cosine_prediction(prediction, target, stop_gradient=False).backward()
    assert target.grad is not None
    torch.testing.assert_close(prediction.grad, 2 * constant)


def test_a_network_that_predicts_itself_has_another_gradient_without_the_stop() -> None:
    z = pair()[0]
    predictor = torch.randn(5, 5, dtype=torch.float64)

    def gradient(stop: bool) -> Tensor:
        return torch.autograd.grad(cosine_prediction(z @ predictor, z.flip(0), stop_gradient=stop), z)[0]

    assert not torch.allclose(gradient(True), gradient(False))


def test_a_row_of_zeros_costs_2_and_takes_no_gradient() -> None:
    prediction, target = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3)
    loss = cosine_prediction(prediction, target)
    loss.backward()
    assert float(loss.detach()) == 2.0
    assert torch.equal(prediction.grad, torch.zeros(2, 3))


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named() -> None:
    good = torch.randn(4, 3)
    for arguments, message in (
        ((good, torch.randn(5, 3)), r"one shape .* got \(4, 3\) and \(5, 3\)"),
        ((good * torch.nan, good), "first view holds NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            cosine_prediction(*arguments)
