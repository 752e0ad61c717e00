"""Mixtures of the images of two batches (mixup, Zhang et al., arXiv 1710.09412)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def draw_mixing(n: int, generator: torch.Generator) -> tuple[Int[Tensor, " n"], Float[Tensor, ""]]:
    """Who is mixed with whom, and how much: a random permutation of n, and one share, uniform on [0, 1)."""
    device = generator.device
    order = torch.randperm(n, generator=generator, device=device)
    return order, torch.rand((), generator=generator, device=device)


def mix(
    first: Shaped[Tensor, "n *shape"],
    second: Shaped[Tensor, "n *shape"],
    order: Int[Tensor, " n"],
    share: Float[Tensor, ""] | float,
) -> Float[Tensor, "n *shape"]:
    """``share * first + (1 - share) * second[order]``.

    Mixing before or after a normalisation by channel is the same, since the two shares add up to 1.

    Raises
    ------
    ValueError
        Integer images, which have no values in between; two shapes; a share outside [0, 1] (looked at on the CPU only:
        elsewhere that would make every step wait).
    """
    if not (first.is_floating_point() and second.is_floating_point()):
        raise ValueError(f"only floating-point images can be mixed, got {first.dtype} and {second.dtype}")
    if first.shape != second.shape:
        raise ValueError(f"images to mix must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    if not (isinstance(share, Tensor) and share.device.type != "cpu") and not 0 <= float(share) <= 1:
        raise ValueError(f"the share of the first images lies in [0, 1], got {float(share)}")
    return share * first + (1 - share) * second[order]
