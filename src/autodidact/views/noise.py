"""Gaussian noise, each sample with its own strength and its own seed.

A sample's noise is a function of its seed and the pixel's number alone: the same in every batch and chunk and on every
device, and made for a whole batch at once, for which a generator a sample would be slow.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.views.scratch import Scratch


def standard_noise(
    seeds: Int[Tensor, " n"], shape: tuple[int, ...], scratch: Scratch | None = None
) -> Float[Tensor, "n *shape"]:
    """Independent standard normal numbers, (n, *shape), on the device of `seeds`.

    A hash of seed and position gives two uniform numbers, the Box-Muller transform two normal ones:
    sqrt(-2 log u) cos(2 pi v) and sqrt(-2 log u) sin(2 pi v). Magnitudes end at about 6.
    """
    n, count = len(seeds), math.prod(shape)
    half = (count + 1) // 2
    scratch = scratch or Scratch()
    bits, uniform = (
        scratch.take(name, (n, 2 * half), seeds.device, kind)
        for name, kind in (("bits", torch.int32), ("noise", torch.float32))
    )
    position = torch.arange(2 * half, dtype=torch.int32, device=seeds.device)
    start = _mixed(seeds.remainder(2**31).to(torch.int32), scratch)
    _mixed(torch.bitwise_xor(position, start[:, None], out=bits), scratch)
    uniform.copy_(bits).mul_(2.0**-32).add_(0.5)
    radius, angle = uniform[:, :half], uniform[:, half:]
    radius.clamp_(min=1e-9).log_().mul_(-2).sqrt_()
    angle.mul_(2 * math.pi)
    sine = torch.sin(angle)
    angle.cos_().mul_(radius)
    radius.mul_(sine)
    return uniform[:, :count].view(n, *shape) if count == 2 * half else uniform[:, :count].reshape(n, *shape)


def add_noise(
    x: Float[Tensor, "n c h w"], std: Float[Tensor, " n"], noise: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """clamp(x + std * noise) to [0, 1]; `noise` is standard normal."""
    return add_noise_(x.clone(), std.to(x.device), noise)


def add_noise_(
    x: Float[Tensor, "n c h w"], std: Float[Tensor, " n"], noise: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """`add_noise` in place."""
    return x.addcmul_(noise, std[:, None, None, None]).clamp_(0, 1)


def _mixed(x: Int[Tensor, "..."], scratch: Scratch) -> Int[Tensor, "..."]:
    """Scramble int32 numbers in place: xor-shift and multiply (constants of C. Wellons' "lowbias32" hash)."""
    shifted = scratch.like("shifted", x)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32), (16, 1)):
        # The shift is arithmetic; the mask makes it a logical one.
        torch.bitwise_right_shift(x, shift, out=shifted).bitwise_and_(2 ** (32 - shift) - 1)
        x.bitwise_xor_(shifted).mul_(factor)
    return x
