"""Why networks that predict themselves do not collapse: the linear dynamics of DirectPred's theory, to compute with.

Tian, Chen, Ganguli (arXiv 2102.06810, sections 3 and 4). A linear network W and a linear predictor W_p see two views
of each sample; X is the covariance of the samples' means over views, X' what the views add to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class PredictorDynamics:
    r"""Gradient flow of predictor and network with weight decay.

    Attributes
    ----------
    rate : :math:`\alpha_p`, learning rate of the predictor relative to the network's, > 0.
    decay : :math:`\eta`, weight decay of both, >= 0.
    noise : :math:`\sigma^2`, for the decoupled modes: :math:`X = I`, :math:`X' = \sigma^2 I`, >= 0.
    target : :math:`\tau`, for the decoupled modes: the target network is :math:`\tau W`, in (0, 1]; 1 without a slow
        copy, below 1 for one that lags behind a growing network.
    """

    rate: float = 1.0
    decay: float = 0.0
    noise: float = 0.0
    target: float = 1.0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"rate must be positive, got {self.rate}")
        if self.decay < 0 or self.noise < 0:
            raise ValueError(f"decay and noise must not be negative, got {self.decay} and {self.noise}")
        if not 0 < self.target <= 1:
            raise ValueError(f"target is a share of the network in (0, 1], got {self.target}")

    def velocity(
        self,
        predictor: Float[Tensor, "d d"],
        network: Float[Tensor, "d k"],
        means: Float[Tensor, "k k"],
        spread: Float[Tensor, "k k"],
        slow: Float[Tensor, "d k"] | None = None,
    ) -> tuple[Float[Tensor, "d d"], Float[Tensor, "d k"]]:
        r"""Time derivatives of :math:`W_p` and :math:`W` (equations 2 and 3)::

            G      = -W_p W (X + X') + W_a X
            dW_p   = rate G W^T - decay W_p
            dW     = W_p^T G - decay W

        which is the descent of :math:`E \|W_p W x_1 - W_a x_2\|^2 / 2` with a constant target.

        Parameters
        ----------
        predictor, network : W_p and W.
        means, spread : X and X'.
        slow : W_a; by default the network itself, behind the stop-gradient.
        """
        wanted = network if slow is None else slow
        pull = wanted @ means - predictor @ network @ (means + spread)
        return self.rate * pull @ network.T - self.decay * predictor, predictor.T @ pull - self.decay * network

    def velocity_without_predictor(
        self, network: Float[Tensor, "d k"], means: Float[Tensor, "k k"], spread: Float[Tensor, "k k"]
    ) -> Float[Tensor, "d k"]:
        """Time derivative of W for W_p = I: ``-W X' - decay W``. Whatever the views change decays, all else too."""
        return self.velocity(torch.eye(len(network), dtype=network.dtype), network, means, spread)[1]

    def velocity_without_stop(
        self,
        predictor: Float[Tensor, "d d"],
        network: Float[Tensor, "d k"],
        means: Float[Tensor, "k k"],
        spread: Float[Tensor, "k k"],
    ) -> Float[Tensor, "d k"]:
        r"""Time derivative of W when the gradient flows through the target too (theorem 2).

        :math:`-(I - W_p)^T (I - W_p) W X - (W_p^T W_p + I) W X' - \eta W`: a negative semi-definite map of W for any
        predictor, so W never grows.
        """
        unit = torch.eye(len(predictor), dtype=predictor.dtype)
        short = unit - predictor
        lost = short.T @ short @ network @ means + (predictor.T @ predictor + unit) @ network @ spread
        return -lost - self.decay * network

    def imbalance(self, predictor: Float[Tensor, "d d"], network: Float[Tensor, "d k"]) -> Float[Tensor, "d d"]:
        r""":math:`W W^T - W_p^T W_p / \alpha_p`, which decays as :math:`e^{-2 \eta t}` on any data (theorem 1)."""
        return network @ network.T - predictor.T @ predictor / self.rate

    def mode_velocity(self, p: float, s: float) -> tuple[float, float]:
        r"""Time derivatives of an eigenvalue p of W_p and the one s of :math:`W W^T` with the same eigenvector::

        dp = rate s (target - (1 + noise) p) - decay p
        ds = 2 p s (target - (1 + noise) p) - 2 decay s
        """
        pull = self.target - (1 + self.noise) * p
        return self.rate * s * pull - self.decay * p, 2 * p * s * pull - 2 * self.decay * s

    def balanced_velocity(self, p: float) -> float:
        """``dp = p^2 (target - (1 + noise) p) - decay p``: a mode with s = p^2 / rate, where all modes end up."""
        return p * p * (self.target - (1 + self.noise) * p) - self.decay * p

    def fixed_points(self) -> tuple[float, ...]:
        r"""Where a balanced mode rests: 0, and p- and p+ where there are such.

        :math:`p_\pm = (\tau \pm \sqrt{\tau^2 - 4 \eta (1 + \sigma^2)}) / (2 (1 + \sigma^2))`

        0 and p+ are stable, and p- is the edge: a mode below it collapses, one above it grows to p+. With
        `decay` above `critical_decay` only 0 is left.
        """
        under = self.target**2 - 4 * self.decay * (1 + self.noise)
        if under < 0:
            return (0.0,)
        middle, half = self.target / (2 * (1 + self.noise)), math.sqrt(under) / (2 * (1 + self.noise))
        return 0.0, middle - half, middle + half

    @property
    def critical_decay(self) -> float:
        r""":math:`\tau^2 / (4 (1 + \sigma^2))`, the weight decay above which every mode collapses."""
        return self.target**2 / (4 * (1 + self.noise))


def misalignment(a: Float[Tensor, "d d"], b: Float[Tensor, "d d"]) -> float:
    r"""Commutator :math:`\|ab - ba\|_F / (\|a\|_F \|b\|_F)`: 0 where symmetric matrices share their eigenvectors."""
    scale = float(a.norm() * b.norm())
    if scale == 0:
        raise ValueError("a matrix of zeros has every eigenvector: its misalignment is not defined")
    return float((a @ b - b @ a).norm()) / scale


def flow(
    velocity: Callable[..., tuple[Tensor, ...]], state: tuple[Tensor, ...], *, time: float, steps: int
) -> tuple[Tensor, ...]:
    """The state after `time`, by `steps` steps of the classical Runge-Kutta method.

    Parameters
    ----------
    velocity : the parts of the state -> their time derivatives.
    state : float64 tensors; a state of numbers is made of scalar tensors.
    time : how far to go, in units of one over the network's learning rate.
    steps : number of steps, >= 1. The error falls with its fourth power.
    """
    if steps < 1:
        raise ValueError(f"a flow takes at least 1 step, got {steps}")
    h = time / steps

    def moved(by: tuple[Tensor, ...], far: float) -> tuple[Tensor, ...]:
        return tuple(part + far * change for part, change in zip(state, by, strict=True))

    for _ in range(steps):
        first = velocity(*state)
        second = velocity(*moved(first, h / 2))
        third = velocity(*moved(second, h / 2))
        fourth = velocity(*moved(third, h))
        slopes = tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(first, second, third, fourth, strict=True))
        state = moved(slopes, h)
    return state
