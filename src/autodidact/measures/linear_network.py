"""A deep linear network that predicts embeddings (JEPA) or inputs (MAE), descended in closed form on covariances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.catalog.nearest import unknown
from autodidact.measures.jepa_dynamics import OBJECTIVES, Objective


@dataclass
class LinearNetwork:
    r"""Encoder :math:`\bar W = W_L \cdots W_1` and linear head V, without biases.

    Attributes
    ----------
    layers : W_1 to W_L, in the order in which they are applied.
    head : V, predictor (jepa) or decoder (mae).
    """

    layers: list[Float[Tensor, "d d"]]
    head: Float[Tensor, "d d"]

    @classmethod
    def balanced(
        cls,
        objective: Objective,
        width: int,
        depth: int,
        start: float,
        generator: torch.Generator | None = None,
    ) -> LinearNetwork:
        """All matrices `start` times a rotation: balanced, and aligned with any features, as the theory begins.

        Parameters
        ----------
        objective : the head of a "jepa" leaves the encoder's output where it is, that of an "mae" turns it back to the
            input.
        width, depth : d and L, >= 1.
        start : amplitude of every layer, > 0.
        generator : of the rotations; without one they are all the identity.
        """
        _check_objective(objective)
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth are at least 1, got {width} and {depth}")
        if not start > 0:
            raise ValueError(f"start is the amplitude of a layer and must be positive, got {start}")
        turns = [_rotation(width, generator) for _ in range(depth)]
        back = _product(turns).T if objective == "mae" else torch.eye(width, dtype=torch.float64)
        return cls([start * turn for turn in turns], start * back)

    @property
    def encoder(self) -> Float[Tensor, "d d"]:
        """The product of the layers."""
        return _product(self.layers)

    def copy(self) -> LinearNetwork:
        """A network of its own with the same weights."""
        return LinearNetwork([layer.clone() for layer in self.layers], self.head.clone())

    def gradients(
        self,
        objective: Objective,
        sxx: Float[Tensor, "d d"],
        syx: Float[Tensor, "d d"],
        slow: Float[Tensor, "d d"] | None = None,
    ) -> LinearNetwork:
        r"""Gradients of the loss over all data::

            E    = V W Sxx - W' Syx  (jepa),   V W Sxx - Syx  (mae)
            dV   = E W^T
            dW_a = (V W_L .. W_{a+1})^T E (W_{a-1} .. W_1)^T

        Parameters
        ----------
        objective : "jepa" or "mae".
        sxx, syx : E[x x^T] and E[y x^T].
        slow : W', the encoder that makes JEPA's target, through which no gradient goes; default this one.
        """
        _check_objective(objective)
        encoder = self.encoder
        wanted = syx if objective == "mae" else (encoder if slow is None else slow) @ syx
        error = self.head @ encoder @ sxx - wanted
        below = [torch.eye(len(sxx), dtype=sxx.dtype)]
        for layer in self.layers[:-1]:
            below.append(layer @ below[-1])
        found, above = list[Tensor](), self.head
        for layer, under in zip(reversed(self.layers), reversed(below), strict=True):
            found.append(above.T @ error @ under.T)
            above = above @ layer
        return LinearNetwork(found[::-1], error @ encoder.T)

    def descent(
        self,
        objective: Objective,
        sxx: Float[Tensor, "d d"],
        syx: Float[Tensor, "d d"],
        *,
        rate: float,
        steps: int,
        momentum: float = 0.0,
    ) -> Iterator[LinearNetwork]:
        """Full-batch gradient descent of a copy of this network, which is yielded after every step.

        Parameters
        ----------
        rate : learning rate, > 0; a step is that much time of the gradient flow.
        steps : number of steps.
        momentum : share of the slow copy, whose encoder makes JEPA's target, that stays in every step, in [0, 1); 0
            makes the network its own target, as in the theory.
        """
        if not rate > 0 or not 0 <= momentum < 1:
            raise ValueError(f"rate must be positive and momentum lie in [0, 1), got {rate} and {momentum}")
        network, slow = self.copy(), self.copy()
        for _ in range(steps):
            target = slow.encoder if momentum else None
            by = network.gradients(objective, sxx, syx, target)
            for layer, gradient in zip([*network.layers, network.head], [*by.layers, by.head], strict=True):
                layer -= rate * gradient
            for behind, layer in zip(slow.layers, network.layers, strict=True):
                behind.lerp_(layer, 1 - momentum)
            yield network

    def imbalance(self) -> float:
        """Largest entry of the differences between neighbours, W_{a+1}^T W_{a+1} - W_a W_a^T and V^T V - W_L W_L^T,
        which gradient flow keeps as they are."""
        chain = [*self.layers, self.head]
        gaps = [above.T @ above - below @ below.T for below, above in pairwise(chain)]
        return max(float(gap.abs().max()) for gap in gaps)


def _product(layers: list[Tensor]) -> Float[Tensor, "d d"]:
    found = layers[0]
    for layer in layers[1:]:
        found = layer @ found
    return found


def _rotation(width: int, generator: torch.Generator | None) -> Float[Tensor, "d d"]:
    if generator is None:
        return torch.eye(width, dtype=torch.float64)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]


def _check_objective(objective: str) -> None:
    if objective not in OBJECTIVES:
        raise unknown("objective", str(objective), OBJECTIVES)
