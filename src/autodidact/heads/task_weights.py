"""Weights of several losses that are learned with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class UncertaintyWeights(nn.Module):
    r"""Sum of losses, each over its own learned uncertainty (Kendall, Gal, Cipolla, 1705.07115, section 3).

    With losses L_i and learned a_i, the logarithms of the variances of homoscedastic noise::

        L = sum_i exp(-a_i) L_i + a_i

    For fixed losses the optimum is a_i = log L_i, where every term weighs 1 / L_i: tasks count alike whatever their
    scales. All a_i start at 0, so all weights at 1. Losses must stay positive; the weight of one that goes to 0 grows
    without bound. The paper has a factor 1/2 on all a_i, or on those of classifications, which is a matter of scale.

    Parameters
    ----------
    names : of the losses.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.log_variances = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, losses: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        if set(losses) != set(self.names):
            raise ValueError(f"weights are for the losses {', '.join(self.names)}, got {', '.join(losses) or 'none'}")
        stacked = torch.stack([losses[name].float() for name in self.names])
        return ((-self.log_variances).exp() * stacked + self.log_variances).sum()

    def weights(self) -> dict[str, Float[Tensor, ""]]:
        """exp(-a_i) of every loss, for the log."""
        return dict(zip(self.names, (-self.log_variances.detach()).exp().unbind(), strict=True))
