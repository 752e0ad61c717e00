"""How a view looks: brightness, contrast, saturation, hue, greyscale, solarise, normalise.

Pure functions of images in [0, 1] and one parameter a sample, each equal to torchvision's functional of that name. Hue
is defined for three channels only and leaves others as they are. Luminance is 0.2989 R + 0.587 G + 0.114 B for three
channels and the mean of the channels for any other number, so saturation and greyscale mix with that mean (and do
nothing to one channel).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_LUMINANCE = (0.2989, 0.587, 0.114)


def luminance(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Weighted sum of three channels, or the mean of any other number."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    r, g, b = x.unbind(1)
    return (_LUMINANCE[0] * r).add_(g, alpha=_LUMINANCE[1]).add_(b, alpha=_LUMINANCE[2])[:, None]


def adjust_brightness(x: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """clamp(factor * x): 0 is black, 1 unchanged."""
    return (x * _each(factor, x)).clamp_(0, 1)


def adjust_contrast(x: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """clamp(m + factor * (x - m)), m the mean luminance of the image: 0 is flat grey, 1 unchanged."""
    mean = luminance(x.mean(dim=(2, 3), keepdim=True))
    factor = _each(factor, x)
    return (x * factor).add_((1 - factor) * mean).clamp_(0, 1)


def adjust_saturation(x: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """clamp(g + factor * (x - g)), g the luminance of the pixel: 0 is grey, 1 unchanged."""
    if x.shape[1] == 1:
        return x.clone()
    factor = _each(factor, x)
    return (x * factor).add_((1 - factor) * luminance(x)).clamp_(0, 1)


def adjust_hue(x: Float[Tensor, "n c h w"], shift: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Turn the hue by `shift` of a full circle (-0.5 to 0.5), keeping value and saturation of the HSV cone.

    No division and no conversion to HSV and back. With c = max - min, the hue angle times c, in sixths of a circle, is
    H = g - b where r is largest, b - r + 2c where g is, r - g - 2c where b is: between -3c and 3c. A channel whose own
    angle is a (red 0, green 2, blue -2) is min + clamp(||H - a'c| - 3c| - c, 0, c) after turning, with a' = a - 6 shift
    wrapped to [-3, 3].
    """
    if x.shape[1] != 3:
        return x.clone()
    r, g, b = x.unbind(1)
    top = torch.maximum(torch.maximum(r, g), b)
    bottom = torch.minimum(torch.minimum(r, g), b)
    chroma = top - bottom
    hue = torch.where(r == top, g - b, torch.where(g == top, b - r + 2 * chroma, r - g - 2 * chroma))
    own = torch.tensor([0.0, 2.0, -2.0], device=x.device) - 6 * shift.to(x.device)[:, None]
    own = torch.remainder(own + 3, 6) - 3
    away = (hue[:, None] - own[:, :, None, None] * chroma[:, None]).abs_()
    away.sub_(3 * chroma[:, None]).abs_().sub_((chroma - bottom)[:, None])
    return torch.clamp(away, bottom[:, None], top[:, None])


def to_grey(x: Float[Tensor, "n c h w"], chosen: Bool[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Every channel replaced by the luminance, in the chosen samples."""
    if x.shape[1] == 1:
        return x.clone()
    return torch.where(_each(chosen, x), luminance(x), x)


def solarise(
    x: Float[Tensor, "n c h w"], chosen: Bool[Tensor, " n"], threshold: float = 0.5
) -> Float[Tensor, "n c h w"]:
    """1 - x where x >= threshold, in the chosen samples."""
    return torch.where(_each(chosen, x) & (x >= threshold), 1 - x, x)


def normalise(
    x: Float[Tensor, "n c h w"], mean: Sequence[float] | float, std: Sequence[float] | float
) -> Float[Tensor, "n c h w"]:
    """(x - mean) / std channel by channel; one number serves all channels."""
    centre, spread = (_channel_values(name, value, x) for name, value in (("mean", mean), ("std", std)))
    if bool((spread <= 0).any()):
        raise ValueError(f"std must be above 0 in every channel, got {std}")
    return (x - centre.to(x.device)) / spread.to(x.device)


def _channel_values(name: str, value: Sequence[float] | float, x: Tensor) -> Tensor:
    values = torch.as_tensor(value, dtype=torch.float32).flatten()
    if values.numel() not in (1, x.shape[1]):
        raise ValueError(f"{name} has {values.numel()} values for images of {x.shape[1]} channels")
    return values.view(1, -1, 1, 1)


def _each(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.device).view(-1, 1, 1, 1)
