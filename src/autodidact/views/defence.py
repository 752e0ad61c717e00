"""What takes hidden patterns out of images, at a price: their colours, or their high frequencies."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Shaped
from torch import Tensor

from autodidact.views.blur import gaussian_blur
from autodidact.views.colour import luminance

Defence = Literal["luminance", "blur"]
DEFENCES: tuple[Defence, ...] = ("luminance", "blur")
REACH = 3
"""Standard deviations of a blur that its taps cover to one side."""


def defended(images: Shaped[Tensor, "n c h w"], defence: Defence, sigma: float = 1.0) -> Shaped[Tensor, "n c h w"]:
    """Images without their colours ("luminance"), or blurred by `sigma` pixels ("blur"); of the same shape and type.

    Parameters
    ----------
    images : uint8 (0 to 255) or floating point (0 to 1), which fill their canvas: a blur would mix in what lies around.
    sigma : standard deviation of the blur in pixels, > 0.
    """
    eight_bit = images.dtype == torch.uint8
    x = images.float() / 255 if eight_bit else images.float()
    if defence == "luminance":
        x = luminance(x).expand_as(x)
    else:
        taps = min(2 * math.ceil(REACH * sigma) + 1, 2 * min(x.shape[2:]) - 1)
        x = gaussian_blur(x, torch.full((len(x),), sigma), taps)
    return (x * 255).round().clamp(0, 255).to(torch.uint8) if eight_bit else x.to(images.dtype)
