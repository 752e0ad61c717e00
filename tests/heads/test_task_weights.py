"""Weights of several losses that are learned with them."""

from __future__ import annotations

import math

import pytest
import torch

from autodidact.heads import UncertaintyWeights

LOSSES = {"one": 0.3, "two": 4.0, "three": 1.5}


def losses(**changed):
    return {name: torch.tensor(value) for name, value in {**LOSSES, **changed}.items()}


def test_it_is_its_definition_and_starts_as_the_plain_sum():
    weights = UncertaintyWeights(LOSSES)
    assert float(weights(losses()).detach()) == pytest.approx(sum(LOSSES.values()))
    a = [0.4, -1.0, 2.0]
    with torch.no_grad():
        weights.log_variances.copy_(torch.tensor(a))
    expected = sum(math.exp(-s) * value + s for s, value in zip(a, LOSSES.values(), strict=True))
    assert float(weights(losses()).detach()) == pytest.approx(expected, rel=1e-6)
    assert float(weights.weights()["two"]) == pytest.approx(math.e, rel=1e-6)


def test_the_optimum_is_the_logarithm_of_every_loss_and_has_no_gradient():
    weights = UncertaintyWeights(LOSSES)
    optimiser = torch.optim.LBFGS(weights.parameters(), lr=0.5, max_iter=100)

    def closure():
        optimiser.zero_grad()
        total = weights(losses())
        total.backward()
        return total

    optimiser.step(closure)
    optimum = torch.tensor([math.log(value) for value in LOSSES.values()])
    torch.testing.assert_close(weights.log_variances.detach(), optimum, atol=1e-3, rtol=0)
    with torch.no_grad():
        weights.log_variances.copy_(optimum)
    (gradient,) = torch.autograd.grad(weights(losses()), weights.log_variances)
    torch.testing.assert_close(gradient, torch.zeros(3), atol=1e-6, rtol=0)


def test_a_losss_gradient_is_weighted_and_the_uncertaintys_is_one_minus_what_it_leaves():
    weights = UncertaintyWeights(("one",))
    with torch.no_grad():
        weights.log_variances.fill_(0.7)
    loss = torch.tensor(2.0, requires_grad=True)
    weights({"one": loss}).backward()
    assert float(loss.grad) == pytest.approx(math.exp(-0.7), rel=1e-6)
    assert float(weights.log_variances.grad) == pytest.approx(1 - 2 * math.exp(-0.7), abs=1e-6)


def test_other_losses_than_it_was_made_for_are_refused():
    with pytest.raises(ValueError, match="weights are for the losses one, two, three, got one"):
        UncertaintyWeights(LOSSES)({"one": torch.tensor(1.0)})
