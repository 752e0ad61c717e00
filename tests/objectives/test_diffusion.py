"""Diffusion against naive float64 loops, and the policy gradient of its steps against a gradient in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodidact.objectives import (
    ancestral_step,
    clipped_loss,
    denoising_loss,
    kept_signal,
    noise_schedule,
    noised,
    reinforce_loss,
    step_divergence,
    step_log_density,
)

KINDS = ("linear", "cosine")


def naive_betas(kind: str, steps: int, largest: float) -> list[float]:
    if kind == "linear":
        low, high = 1e-4 * 1000 / steps, 0.02 * 1000 / steps
        return [min(low + (high - low) * k / (steps - 1), largest) for k in range(steps)]
    f = [math.cos((k / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(steps + 1)]
    return [min(1 - f[k + 1] / f[k], largest) for k in range(steps)]


def naive_kept(betas: list[float], t: int) -> float:
    return math.prod(1 - beta for beta in betas[:t])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("steps", "largest"), [(2, 0.999), (20, 0.5), (1000, 0.999)])
def test_schedules_are_those_of_the_papers(kind: str, steps: int, largest: float) -> None:
    betas = noise_schedule(kind, steps, largest)
    assert betas.tolist() == pytest.approx(naive_betas(kind, steps, largest), rel=1e-12)
    assert kept_signal(betas)[-1].item() == pytest.approx(naive_kept(betas.tolist(), steps), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [20, 50, 1000])
def test_however_many_steps_hardly_anything_is_left_of_the_image(kind: str, steps: int) -> None:
    assert kept_signal(noise_schedule(kind, steps))[-1] < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_noise_and_the_step_back_equal_a_loop_in_float64(kind: str) -> None:
    betas = noise_schedule(kind, 7, 0.5)
    plain = betas.tolist()
    x0, noise, said = torch.randn(3, 7, 2, 3, 3).unbind(0)
    t = torch.arange(1, 8)
    xt = noised(x0, t, noise, betas)
    mean, std = ancestral_step(xt, said, t, betas)
    assert xt.dtype == mean.dtype == std.dtype == torch.float32
    for row in range(7):
        kept, before = naive_kept(plain, row + 1), naive_kept(plain, row)
        floor = max(row, 1)
        variance = plain[floor] * (1 - naive_kept(plain, floor)) / (1 - naive_kept(plain, floor + 1))
        if row:
            assert variance == pytest.approx(plain[row] * (1 - before) / (1 - kept))
        assert std[row].item() == pytest.approx(math.sqrt(variance), rel=1e-6)
        for a, b, c, e, m in zip(
            *(x[row].double().flatten().tolist() for x in (x0, noise, said, xt, mean)), strict=True
        ):
            assert e == pytest.approx(math.sqrt(kept) * a + math.sqrt(1 - kept) * b, abs=1e-6)
            want = (e - plain[row] / math.sqrt(1 - kept) * c) / math.sqrt(1 - plain[row])
            assert m == pytest.approx(want, abs=2e-6)


def test_with_the_true_noise_the_mean_is_that_of_the_posterior() -> None:
    betas = noise_schedule("cosine", 9, 0.9)
    x0, noise = torch.randn(2, 9, 4, dtype=torch.float64).unbind(0)
    t = torch.arange(1, 10)
    xt = noised(x0, t, noise, betas)
    mean, _ = ancestral_step(xt, noise, t, betas)
    kept = kept_signal(betas)
    before = torch.cat([kept.new_ones(1), kept[:-1]])
    # Equation 7 of DDPM, of x_0 and x_t instead of the noise.
    want = (before.sqrt() * betas / (1 - kept))[:, None] * x0
    want = want + ((1 - betas).sqrt() * (1 - before) / (1 - kept))[:, None] * xt
    torch.testing.assert_close(mean, want)
    torch.testing.assert_close(mean[0], x0[0])


def test_the_last_step_has_the_deviation_of_the_one_before_it_and_so_a_density() -> None:
    betas = noise_schedule("linear", 20, 0.5)
    _, std = ancestral_step(torch.zeros(20, 1), torch.zeros(20, 1), torch.arange(1, 21), betas)
    assert (std > 0).all()
    assert std[0] == std[1]
    assert (std[1:].diff() > 0).all()


def test_the_log_density_of_a_step_is_that_of_the_normal_distribution() -> None:
    x, mean = torch.randn(2, 5, 1, 8, 8).unbind(0)
    std = torch.rand(5) + 0.01
    want = torch.distributions.Normal(mean.double(), std.double().view(-1, 1, 1, 1)).log_prob(x.double()).sum((1, 2, 3))
    torch.testing.assert_close(step_log_density(x, mean, std).double(), want, rtol=1e-5, atol=0)
    exact = step_log_density(x.double(), mean.double(), std.double())
    torch.testing.assert_close(exact, want, rtol=1e-12, atol=0)


def test_the_divergence_of_steps_is_that_of_normal_distributions_and_0_between_equal_ones() -> None:
    mean, other = torch.randn(2, 5, 3, 2, dtype=torch.float64).unbind(0)
    std = torch.rand(5, dtype=torch.float64) + 0.1
    normal = [torch.distributions.Normal(m, std.view(-1, 1, 1)) for m in (mean, other)]
    want = torch.distributions.kl_divergence(*normal).sum((1, 2))
    torch.testing.assert_close(step_divergence(mean, other, std), want)
    torch.testing.assert_close(step_divergence(other, mean, std), want)
    assert step_divergence(mean, mean, std).abs().max() == 0


def test_the_denoising_loss_is_a_mean_over_values_and_rows_and_weights_carry_no_gradient() -> None:
    said, noise = torch.randn(2, 4, 2, 3, dtype=torch.float64).unbind(0)
    weights = torch.rand(4, dtype=torch.float64, requires_grad=True)
    error = [
        sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / 6
        for x, y in zip(said.flatten(1).tolist(), noise.flatten(1).tolist(), strict=True)
    ]
    assert denoising_loss(said, noise).item() == pytest.approx(sum(error) / 4)
    weighed = denoising_loss(said.requires_grad_(), noise, weights)
    assert weighed.item() == pytest.approx(sum(w * e for w, e in zip(weights.tolist(), error, strict=True)) / 4)
    weighed.backward()
    assert weights.grad is None
    assert denoising_loss(said, said).item() == 0


def test_half_precision_is_computed_in_float32() -> None:
    x, said = torch.randn(2, 3, 4).bfloat16().unbind(0)
    betas = noise_schedule("linear", 5, 0.5)
    t = torch.tensor([1, 3, 5])
    mean, std = ancestral_step(x, said, t, betas)
    exact, _ = ancestral_step(x.double(), said.double(), t, betas)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), exact, rtol=1e-5, atol=1e-5)
    for value in (step_log_density(x, said, std), step_divergence(x, said, std), denoising_loss(x, said)):
        assert value.dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "steps", "largest", "said"),
    [("linear", 1, 0.5, "2 steps or more"), ("cosine", 5, 1.0, r"lies in \(0, 1\)"), ("square", 5, 0.5, "or cosine")],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_what_is_no_schedule_is_refused(kind: str, steps: int, largest: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        noise_schedule(kind, steps, largest)


BETAS = noise_schedule("linear", 2, 0.5)
SLOPE, SHIFT = 0.3, -0.2
WORTH = torch.tensor([1.0, -0.5], dtype=torch.float64)
"""A linear reward of two values: its expected value is the reward of the mean."""


def walked(parameters: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draws of x_0 by a linear denoiser; the log-densities of both steps, and those under which they were drawn."""
    x = torch.randn(rows, 2, dtype=torch.float64)
    densities = []
    for step in (2, 1):
        t = torch.full((rows,), step)
        mean, std = ancestral_step(x, parameters[0] * x + parameters[1], t, BETAS)
        drawn = (mean + std[:, None] * torch.randn_like(x)).detach()
        densities.append(step_log_density(drawn, mean, std))
        x = drawn
    both = torch.stack(densities, dim=1)
    return x, both, both.detach()


def exact_gradient() -> Tensor:
    """Of the expected reward: E x_T is 0, and every step maps the mean alone."""
    parameters = torch.tensor([SLOPE, SHIFT], dtype=torch.float64, requires_grad=True)
    mean = torch.zeros(1, 2, dtype=torch.float64)
    for step in (2, 1):
        mean, _ = ancestral_step(mean, parameters[0] * mean + parameters[1], torch.tensor([step]), BETAS)
    (mean @ WORTH).sum().backward()
    assert parameters.grad is not None
    return parameters.grad


@pytest.mark.parametrize("clipped", [False, True])
def test_the_mean_of_the_score_function_estimator_is_the_gradient_of_the_expected_reward(clipped: bool) -> None:
    found = []
    for _ in range(100):
        parameters = torch.tensor([SLOPE, SHIFT], dtype=torch.float64, requires_grad=True)
        x0, logprobs, old = walked(parameters, 4000)
        worth, counted = x0 @ WORTH, torch.ones(4000, 2, dtype=torch.bool)
        loss = (
            clipped_loss(logprobs, old, counted, worth, 0.2, 1.0)
            if clipped
            else reinforce_loss(logprobs, counted, worth)
        )
        (-loss).backward()
        found.append(parameters.grad)
    each = torch.stack([gradient for gradient in found if gradient is not None])
    error = each.std(dim=0) / len(each) ** 0.5
    wanted = exact_gradient()
    assert ((each.mean(dim=0) - wanted).abs() < 4 * error).all()
    # What is compared is not lost in the error of the comparison.
    assert (error < 0.1 * wanted.abs().max()).all()


def test_the_ratio_of_a_step_that_was_just_drawn_is_exactly_1() -> None:
    _, logprobs, old = walked(torch.tensor([SLOPE, SHIFT], dtype=torch.float64, requires_grad=True), 50)
    assert torch.equal((logprobs - old).exp(), torch.ones(50, 2, dtype=torch.float64))
