"""LARS against one float64 step at a time."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from autodidact.training.lars import LARS


def naive(
    weight: list[float], gradients: list[list[float]], *, lr: float, m: float, decay: float, trust: float, adapted: bool
) -> list[float]:
    velocity = [0.0] * len(weight)
    for gradient in gradients:
        if adapted:
            gradient = [g + decay * w for g, w in zip(gradient, weight, strict=True)]
            size, slope = (math.sqrt(sum(v * v for v in vector)) for vector in (weight, gradient))
            ratio = trust * size / slope if size > 0 and slope > 0 else 1.0
            gradient = [ratio * g for g in gradient]
        velocity = [m * v + g for v, g in zip(velocity, gradient, strict=True)]
        weight = [w - lr * v for w, v in zip(weight, velocity, strict=True)]
    return weight


@pytest.mark.parametrize(
    ("shape", "adapt", "adapted"),
    [((2, 3), None, True), ((6,), None, False), ((6,), True, True), ((2, 3), False, False)],
)
def test_five_steps_are_five_steps_of_the_formula(shape: tuple[int, ...], adapt: bool | None, adapted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    gradients = [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(5)]
    expected = naive(
        weight.flatten().tolist(),
        [g.flatten().tolist() for g in gradients],
        lr=0.3,
        m=0.9,
        decay=0.01,
        trust=0.02,
        adapted=adapted,
    )
    optimiser = LARS([{"params": [weight], "adapt": adapt}], lr=0.3, momentum=0.9, weight_decay=0.01, trust=0.02)
    for gradient in gradients:
        weight.grad = gradient
        optimiser.step()
    assert weight.flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_a_step_does_not_depend_on_the_scale_of_the_gradient() -> None:
    first, second = (torch.ones(2, 2, requires_grad=True) for _ in range(2))
    first.grad, second.grad = torch.eye(2), 1000 * torch.eye(2)
    LARS([first, second], lr=1.0).step()
    torch.testing.assert_close(first, second)


def test_zero_weights_or_gradients_leave_the_rate_unscaled() -> None:
    fresh, still = torch.zeros(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    fresh.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    LARS([fresh, still], lr=0.5).step()
    assert torch.equal(fresh.detach(), torch.full((2, 2), -0.5))
    assert torch.equal(still.detach(), torch.ones(2, 2))


def test_parameters_without_gradient_stay() -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    LARS([weight], lr=0.5, weight_decay=0.1).step()
    assert torch.equal(weight.detach(), torch.ones(2, 2))


def test_a_closure_is_evaluated_with_gradient() -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    optimiser = LARS([weight], lr=0.5)

    def closure() -> torch.Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimiser.step(closure).item() == 4.0
    assert (weight < 1).all()


def test_restored_momentum_goes_on_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 3, generator=generator).requires_grad_()
    optimiser = LARS([weight], lr=0.1)
    weight.grad = torch.randn(3, 3, generator=generator)
    optimiser.step()
    copied = weight.detach().clone().requires_grad_()
    restored = LARS([copied], lr=0.1)
    restored.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    weight.grad = copied.grad = torch.randn(3, 3, generator=generator)
    optimiser.step()
    restored.step()
    assert torch.equal(weight, copied)


def test_settings_outside_their_range_are_named_for_every_group() -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    for settings, message in (
        ({"lr": -1.0}, "lr must be >= 0, got -1.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be >= 0, got -0.1"),
        ({"trust": 0.0}, "trust must be > 0, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            LARS([weight], **settings)
        with pytest.raises(ValueError, match=message):
            LARS([{"params": [weight], **settings}])


def test_steps_are_those_of_the_authors_implementation() -> None:
    """A check made once outside this repository, and its figures kept.

    The LARS of main.py in facebookresearch/barlowtwins at commit 8e8d284, with both of its filters on, and this one
    with its defaults trained the same two-layer network with batch norm (seed 0) for 50 steps at lr 0.3 and weight
    decay 0.01. The weights were equal bit for bit. Here one step is computed by hand instead.
    """
    weight = torch.tensor([[3.0, 4.0]], requires_grad=True)
    weight.grad = torch.tensor([[0.0, 2.0]])
    LARS([weight], lr=2.0, trust=0.1).step()
    # trust * 5 / 2 = 0.25 times the gradient, times the rate.
    torch.testing.assert_close(weight.detach(), torch.tensor([[3.0, 3.0]]))
