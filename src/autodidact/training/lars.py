"""LARS: layer-wise adaptive rates for large batches (You et al., arXiv 1708.03888)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    r"""Stochastic gradient descent with momentum whose rate is scaled per parameter tensor.

    With weight decay :math:`\beta`, trust coefficient :math:`\eta` and momentum :math:`m` (algorithm 1)::

        g' = g + beta w
        r  = eta ||w|| / ||g'||     where both norms are positive, else 1
        v <- m v + r g'
        w <- w - lr v

    The paper adds :math:`\beta \|w\|` to the norm of the plain gradient instead of taking the norm of their sum, and
    multiplies the rate into v; this is the form of the Barlow Twins and BYOL recipes, in which the rate of one step
    does not linger in the momentum of the next.

    Parameters
    ----------
    params : iterable of parameters or of groups
        A group may set ``adapt`` (bool): when given it decides for all its tensors whether they are adapted and
        decayed. Left out (None), tensors with fewer than two dimensions (biases, norm scales) are neither.
    lr : float
        Base rate, >= 0. Barlow Twins: 0.2 * batch / 256 for weights, 0.0048 * batch / 256 for biases.
    momentum : float
        m in [0, 1).
    weight_decay : float
        beta >= 0.
    trust : float
        eta > 0.

    Raises
    ------
    ValueError
        A setting outside its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        adapt: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": adapt},
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with settings of its own; those left out are the optimiser's."""
        super().add_param_group(param_group)
        _check(self.param_groups[-1])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if weight.ndim > 1 if group["adapt"] is None else group["adapt"]:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
            size, slope = torch.linalg.vector_norm(weight), torch.linalg.vector_norm(gradient)
            ratio = (group["trust"] * size / slope).where((size > 0) & (slope > 0), 1.0)
            gradient = gradient * ratio
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        velocity = state["velocity"].mul_(group["momentum"]).add_(gradient)
        weight.add_(velocity, alpha=-group["lr"])


def _check(group: dict[str, Any]) -> None:
    for name, right, wanted in (
        ("lr", group["lr"] >= 0, ">= 0"),
        ("momentum", 0 <= group["momentum"] < 1, "in [0, 1)"),
        ("weight_decay", group["weight_decay"] >= 0, ">= 0"),
        ("trust", group["trust"] > 0, "> 0"),
    ):
        if not right:
            raise ValueError(f"LARS: {name} must be {wanted}, got {group[name]}")
