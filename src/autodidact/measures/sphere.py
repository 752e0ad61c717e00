"""How embeddings sit on the unit sphere: close for one sample, spread over samples (Wang and Isola, 2005.10242)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_BLOCK = 2048


@torch.no_grad()
def alignment(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], *, alpha: float = 2.0) -> float:
    r"""Mean distance of positive pairs, :math:`E \|u_1 - u_2\|^\alpha` with rows normalised (section 4.1).

    0 for identical views; with alpha = 2 about 2 for unrelated ones, 4 at most.

    Raises
    ------
    ValueError
        Views that differ in shape, or none at all.
    """
    if z1.shape != z2.shape or len(z1) == 0:
        raise ValueError(f"alignment needs two equal, non-empty shapes, got {tuple(z1.shape)} and {tuple(z2.shape)}")
    return float((_unit(z1) - _unit(z2)).norm(dim=1).pow(alpha).double().mean())


@torch.no_grad()
def uniformity(z: Float[Tensor, "n d"], *, t: float = 2.0) -> float:
    r"""Log of the mean Gaussian potential of pairs, :math:`\log E_{i<j} \exp(-t \|u_i - u_j\|^2)` (section 4.1).

    0 for a constant encoder, about -2 t when spread evenly in many dimensions. Every pair counts; memory stays at one
    block of them.

    Raises
    ------
    ValueError
        Fewer than 2 rows, or t <= 0.
    """
    if len(z) < 2:
        raise ValueError(f"uniformity is over pairs and needs at least 2 rows, got {len(z)}")
    if not t > 0:
        raise ValueError(f"uniformity: t must be positive, got {t}")
    u = _unit(z)
    total = 0.0
    for first in range(0, len(u), _BLOCK):
        rows = u[first : first + _BLOCK]
        for start in range(first, len(u), _BLOCK):
            # |u - v|^2 = 2 - 2 u.v on the sphere.
            potential = (rows @ u[start : start + _BLOCK].T).sub_(1).mul_(2 * t).exp_()
            if start == first:
                potential.triu_(diagonal=1)
            total += float(potential.sum(dtype=torch.float64))
    return math.log(total / (len(u) * (len(u) - 1) / 2))


def _unit(z: Tensor) -> Tensor:
    z = z.detach()
    return torch.nn.functional.normalize(z if z.dtype == torch.float64 else z.float(), dim=1)
