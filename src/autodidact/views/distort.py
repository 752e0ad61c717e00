"""Distortions of fixed strength, to see what a model still knows of an image: noise, blur, contrast, negative, crop."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from autodidact.views.blur import gaussian_blur

Distortion = Literal["noise", "blur", "contrast", "invert", "crop"]
STRENGTHS: dict[Distortion, tuple[float, float, float]] = {
    "noise": (0.05, 0.1, 0.2),
    "blur": (0.02, 0.04, 0.08),
    "contrast": (0.6, 0.4, 0.2),
    "invert": (0.7, 0.85, 1.0),
    "crop": (0.8, 0.65, 0.5),
}
"""Standard deviation of Gaussian noise; that of a Gaussian blur as a share of the smaller side; factor of the distances
from the image's mean; share of its negative, 1 - x, in the picture; share of the sides that is left."""


def distort(
    images: UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"],
    kind: Distortion,
    strength: int,
    generator: torch.Generator,
) -> UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"]:
    """Distort images of 8 bits, or in [0, 1]; what comes back is of the same type and size.

    Parameters
    ----------
    images : any number of channels.
    kind : "noise", independent for each pixel and channel; "blur"; "contrast", towards the image's mean; "invert",
        towards its negative; "crop", a part at a random place, enlarged to the image's size.
    strength : 1, 2 or 3, see `STRENGTHS`.
    generator : for noise and the places of crops.
    """
    if kind not in STRENGTHS or not 1 <= strength <= 3:
        raise ValueError(f"a distortion is one of {', '.join(STRENGTHS)} at strength 1 to 3, got {kind} at {strength}")
    x = images.float() / 255 if images.dtype == torch.uint8 else images
    amount = STRENGTHS[kind][strength - 1]
    n, _, height, width = x.shape
    if kind == "noise":
        x = x + amount * torch.randn(x.shape, generator=generator).to(x.device)
    elif kind == "blur":
        sigma = amount * min(height, width)
        taps = 2 * min(max(1, round(3 * sigma)), min(height, width) - 1) + 1
        x = gaussian_blur(x, torch.full((n,), sigma), taps)
    elif kind == "contrast":
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x = mean + amount * (x - mean)
    elif kind == "invert":
        x = x + amount * (1 - 2 * x)
    else:
        # From -1 to 1 is the whole image; the part is `amount` as long, its middle up to 1 - amount off.
        middle = (1 - amount) * (2 * torch.rand(n, 2, generator=generator) - 1).to(x.device)
        affine = torch.zeros(n, 2, 3, device=x.device, dtype=x.dtype)
        affine[:, 0, 0] = affine[:, 1, 1] = amount
        affine[:, :, 2] = middle
        grid = F.affine_grid(affine, list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = x.clamp(0, 1)
    return (255 * x).round().to(torch.uint8) if images.dtype == torch.uint8 else x
