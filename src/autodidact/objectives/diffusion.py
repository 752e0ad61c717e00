"""Diffusion: noise that is added step by step, and the steps back as draws of a Gaussian whose density is known.

Images, or whatever else is drawn, are x_0; x_T is noise. Steps are counted as in DDPM (Ho et al., 2006.11239): step t
leads from x_t to x_{t-1}, for t from T down to 1. What is computed of the schedule is computed in float64.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from autodidact.objectives.embeddings import full_precision
from autodidact.objectives.shards import mean_over_rows

NoiseSchedule = Literal["linear", "cosine"]
FIRST, LAST, STEPS = 1e-4, 0.02, 1000
"""Of DDPM's linear schedule: beta_1, beta_T and T."""


def noise_schedule(kind: NoiseSchedule, steps: int, largest: float = 0.999) -> Float64[Tensor, " steps"]:
    r"""Variances beta_1 to beta_T of the noise that each step adds.

    "linear" is DDPM's (2006.11239, section 4), from 1e-4 to 0.02 over 1,000 steps; with T steps both ends are
    multiplied by 1,000 / T, so that as much noise is added in all. "cosine" is that of Nichol and Dhariwal (2102.09672,
    equation 17): what is kept of the image after t steps is

    ::

        beta_t = 1 - abar_t / abar_{t-1},     abar_t = f(t) / f(0),     f(t) = cos^2( (t / T + 0.008) / 1.008 * pi / 2 )

    Parameters
    ----------
    kind : "linear" or "cosine".
    steps : T, 2 or more.
    largest : bound of the variances, in (0, 1). The way back divides by sqrt(1 - beta), and so multiplies what is wrong
        in the predicted noise: with tens of steps, whose last variances are large, a smaller bound is safer.

    Raises
    ------
    ValueError : another kind, fewer than 2 steps, a bound outside (0, 1).
    """
    if steps < 2:
        raise ValueError(f"noise is added in 2 steps or more, got {steps}")
    if not 0 < largest < 1:
        raise ValueError(f"the largest variance of a step lies in (0, 1), got {largest}")
    if kind == "linear":
        betas = torch.linspace(FIRST, LAST, steps, dtype=torch.float64) * STEPS / steps
    elif kind == "cosine":
        share = torch.arange(steps + 1, dtype=torch.float64) / steps
        kept = torch.cos((share + 0.008) / 1.008 * math.pi / 2).square()
        betas = 1 - kept[1:] / kept[:-1]
    else:
        raise ValueError(f"a noise schedule is linear or cosine, got {kind!r}")
    return betas.clamp(max=largest)


def kept_signal(betas: Float64[Tensor, " steps"]) -> Float64[Tensor, " steps"]:
    """abar_1 to abar_T: the share of the image's variance that is left after each step, the product of 1 - beta."""
    return torch.cumprod(1 - betas, dim=0)


def noised(
    x0: Float[Tensor, "n *rest"],
    t: Int[Tensor, " n"],
    noise: Float[Tensor, "n *rest"],
    betas: Float64[Tensor, " steps"],
) -> Float[Tensor, "n *rest"]:
    """x_t in one go: sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise (2006.11239, equation 4).

    Parameters
    ----------
    t : step of each row, from 1 to T.
    noise : standard normal.
    betas : see `noise_schedule`.
    """
    kept = kept_signal(betas)[t - 1]
    x0, noise = full_precision(x0), full_precision(noise)
    return _by_row(kept.sqrt(), x0) * x0 + _by_row((1 - kept).sqrt(), x0) * noise


def denoising_loss(
    said: Float[Tensor, "n *rest"],
    noise: Float[Tensor, "n *rest"],
    weights: Float[Tensor, " n"] | None = None,
    *,
    gather: bool = True,
) -> Float[Tensor, ""]:
    """Mean squared error of the predicted noise: the simple loss of DDPM (2006.11239, equation 14).

    Parameters
    ----------
    said, noise : predicted and true.
    weights : of the rows, for reward-weighted regression; the loss is the mean of weight times error. No gradient is
        taken through them.
    gather : under a process group, the mean is over the rows of all processes.
    """
    error = (full_precision(said) - full_precision(noise)).square().flatten(1).mean(dim=1)
    return mean_over_rows(error if weights is None else error * full_precision(weights.detach()), gather)


def ancestral_step(
    x: Float[Tensor, "n *rest"],
    said: Float[Tensor, "n *rest"],
    t: Int[Tensor, " n"],
    betas: Float64[Tensor, " steps"],
) -> tuple[Float[Tensor, "n *rest"], Float[Tensor, " n"]]:
    r"""Mean and standard deviation of p(x_{t-1} | x_t), from predicted noise (2006.11239, equations 7 and 11).

    ::

        mean = ( x_t - beta_t / sqrt(1 - abar_t) said ) / sqrt(1 - beta_t)
        std^2 = beta_t (1 - abar_{t-1}) / (1 - abar_t)

    The last step, t = 1, would have no noise by this formula, and so no density. It gets the standard deviation of step
    2, as where Nichol and Dhariwal (2102.09672) need its logarithm: every step is then an action of a policy whose
    gradient the score function estimates without bias. Whoever draws images to look at takes the mean there.

    Parameters
    ----------
    x : x_t.
    said : predicted noise. The gradient of the mean reaches it; the deviation is fixed.
    t : step of each row, from 1 to T.
    betas : see `noise_schedule`.
    """
    kept = kept_signal(betas)
    before = torch.cat([kept.new_ones(1), kept[:-1]])
    variance = betas * (1 - before) / (1 - kept)
    variance = torch.cat([variance[1:2], variance[1:]])
    x, said = full_precision(x), full_precision(said)
    beta, rest = betas[t - 1], 1 - kept[t - 1]
    mean = (x - _by_row(beta / rest.sqrt(), x) * said) / _by_row((1 - beta).sqrt(), x)
    return mean, variance[t - 1].sqrt().to(x)


def step_log_density(
    x: Float[Tensor, "n *rest"], mean: Float[Tensor, "n *rest"], std: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Logarithm of the normal density of x, in nats, summed over the values of a row.

    Parameters
    ----------
    x : where a step led. Take no gradient through it: it was drawn.
    mean, std : of the step, see `ancestral_step`; std is above 0.
    """
    x, mean, std = full_precision(x), full_precision(mean), full_precision(std)
    squares = (x - mean).square().flatten(1)
    count = squares.shape[1]
    return -squares.sum(dim=1) / (2 * std.square()) - count * (std.log() + math.log(2 * math.pi) / 2)


def step_divergence(
    mean: Float[Tensor, "n *rest"], other: Float[Tensor, "n *rest"], std: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """Divergence KL of two steps with one standard deviation, in nats: sum (mean - other)^2 / (2 std^2).

    Parameters
    ----------
    mean, other : of the two; it is the same both ways.
    std : of both, above 0.
    """
    mean, other, std = full_precision(mean), full_precision(other), full_precision(std)
    return (mean - other).square().flatten(1).sum(dim=1) / (2 * std.square())


def _by_row(values: Tensor, x: Tensor) -> Tensor:
    """One number a row in the shape and precision that a product with x needs."""
    return values.to(x).view(-1, *[1] * (x.ndim - 1))
