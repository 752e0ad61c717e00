"""How a view looks: brightness, contrast, saturation, hue, greyscale, solarise, normalise.

Each takes images in [0, 1] and one parameter a sample, and equals torchvision's functional of that name. Hue is defined
for three channels only and leaves others as they are. Luminance is 0.2989 R + 0.587 G + 0.114 B for three channels and
the mean of the channels for any other number, so saturation and greyscale mix with that mean (and do nothing to a
single channel).

Names that end in an underscore overwrite the images given. The cost is memory traffic, not arithmetic, so those work in
reused scratch memory, and only by operations that torch vectorises: on a CPU `where` and masks are several times
slower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autodidact.views.scratch import Scratch

_LUMINANCE = (0.2989, 0.587, 0.114)


def luminance(x: Float[Tensor, "n c h w"], scratch: Scratch | None = None) -> Float[Tensor, "n 1 h w"]:
    """Weighted sum of three channels, or the mean of any other number."""
    first = x[:, :1]
    out = (scratch or Scratch()).like("luminance", first)
    if x.shape[1] != 3:
        return torch.mean(x, dim=1, keepdim=True, out=out)
    torch.mul(first, _LUMINANCE[0], out=out)
    return out.add_(x[:, 1:2], alpha=_LUMINANCE[1]).add_(x[:, 2:], alpha=_LUMINANCE[2])


def blend_(
    x: Float[Tensor, "n c h w"],
    factor: Float[Tensor, " n"],
    grey: Float[Tensor, " n"] | None = None,
    mean: Float[Tensor, " n"] | None = None,
    scratch: Scratch | None = None,
) -> Float[Tensor, "n c h w"]:
    """clamp(factor * x + grey * g + mean * m), g the luminance of the pixel and m its mean over the image.

    Brightness, contrast and saturation are all of this form, so samples that are each due another of the three can be
    worked on together. Left out, `grey` and `mean` are zero.
    """
    added: Tensor | None = None
    if grey is not None or mean is not None:
        g = luminance(x, scratch)
        m = None if mean is None else g.mean(dim=(2, 3), keepdim=True).mul_(mean[:, None, None, None])
        if grey is None:
            added = m
        else:
            added = g.mul_(grey[:, None, None, None])
            if m is not None:
                added.add_(m)
    factor = factor[:, None, None, None]
    x = x.mul_(factor) if added is None else torch.addcmul(added, x, factor, out=x)
    return x.clamp_(0, 1)


def adjust_brightness(x: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """clamp(factor * x): 0 is black, 1 unchanged."""
    return blend_(x.clone(), factor.to(x.device))


def adjust_contrast(x: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """clamp(m + factor * (x - m)), m the mean luminance of the image: 0 is flat grey, 1 unchanged."""
    factor = factor.to(x.device)
    return blend_(x.clone(), factor, mean=1 - factor)


def adjust_saturation(x: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """clamp(g + factor * (x - g)), g the luminance of the pixel: 0 is grey, 1 unchanged."""
    factor = factor.to(x.device)
    return x.clone() if x.shape[1] == 1 else blend_(x.clone(), factor, grey=1 - factor)


def adjust_hue(x: Float[Tensor, "n c h w"], shift: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Turn the hue by `shift` of a full circle (-0.5 to 0.5), keeping value and saturation of HSV."""
    return turn_hue_(x.clone(), hue_centres(shift).to(x.device)) if x.shape[1] == 3 else x.clone()


def hue_centres(shift: Float[Tensor, " n"]) -> Float[Tensor, "n 3"]:
    """Where on the old hue circle the channels' pure colours lie once it is turned by `shift`, in sixths, negated."""
    return torch.remainder(6 * shift[:, None] - torch.tensor([0.0, 2.0, -2.0], device=shift.device) + 3, 6) - 3


def turn_hue_(
    x: Float[Tensor, "n 3 h w"], centres: Float[Tensor, "n 3"], scratch: Scratch | None = None
) -> Float[Tensor, "n 3 h w"]:
    """`adjust_hue` in place, with no division, no branches and no HSV image.

    Let c = max - min, and measure angles on the hue circle in sixths of a turn times c. The angle from pure red is
    |H| = G + B - R + max - 2 min, from 0 to 3c, and its sign that of G - B. A channel whose own pure colour lies at a
    (red 0, green 2, blue -2) gets, once the hue is turned, the value

        min + clamp(||H - a' c| - 3c| - c, 0, c),    a' = a - 6 shift, wrapped to [-3, 3]

    since 3c - ||.| - 3c| is the distance on the circle, and a channel is at max within one sixth of its pure colour and
    at min beyond two. `centres` holds -a' (see `hue_centres`).
    """
    scratch = scratch or Scratch()
    r, g, b = x[:, :1], x[:, 1:2], x[:, 2:]
    top, bottom, hue, chroma = (scratch.like(name, r) for name in ("top", "bottom", "hue", "chroma"))
    torch.maximum(torch.maximum(r, g, out=top), b, out=top)
    torch.minimum(torch.minimum(r, g, out=bottom), b, out=bottom)
    torch.add(g, b, out=hue).sub_(r).add_(top).sub_(bottom, alpha=2)
    hue.copysign_(torch.sub(g, b, out=chroma))
    torch.sub(top, bottom, out=chroma)
    torch.addcmul(hue, chroma, centres[:, :, None, None], out=x)
    x.abs_().sub_(chroma, alpha=3).abs_().add_(torch.sub(bottom, chroma, out=chroma))
    return torch.clamp(x, bottom, top, out=x)


def to_grey(x: Float[Tensor, "n c h w"], chosen: Bool[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Every channel replaced by the luminance, in the chosen samples."""
    out = x.clone()
    chosen = chosen.to(x.device)
    out[chosen] = to_grey_(out[chosen])
    return out


def to_grey_(x: Float[Tensor, "n c h w"], scratch: Scratch | None = None) -> Float[Tensor, "n c h w"]:
    """Every channel replaced by the luminance."""
    return x if x.shape[1] == 1 else x.copy_(luminance(x, scratch))


def solarise(
    x: Float[Tensor, "n c h w"], chosen: Bool[Tensor, " n"], threshold: float = 0.5
) -> Float[Tensor, "n c h w"]:
    """1 - x where x >= threshold, in the chosen samples."""
    out = x.clone()
    chosen = chosen.to(x.device)
    out[chosen] = solarise_(out[chosen], threshold)
    return out


def solarise_(x: Float[Tensor, "n c h w"], threshold: float = 0.5) -> Float[Tensor, "n c h w"]:
    """1 - x where x >= threshold. At 0.5 that is min(x, 1 - x)."""
    flipped = torch.rsub(x, 1)
    if threshold == 0.5:
        return torch.minimum(x, flipped, out=x)
    return x.copy_(torch.where(x >= threshold, flipped, x))


def normalise(
    x: Float[Tensor, "n c h w"], mean: Sequence[float] | float, std: Sequence[float] | float
) -> Float[Tensor, "n c h w"]:
    """(x - mean) / std channel by channel; one number serves all channels."""
    scale, offset = normalisation(mean, std, x.shape[1], x.device)
    return x * scale + offset


def normalisation(
    mean: Sequence[float] | float, std: Sequence[float] | float, channels: int, device: torch.device
) -> tuple[Float[Tensor, "1 _ 1 1"], Float[Tensor, "1 _ 1 1"]]:
    """scale = 1 / std and offset = -mean / std, so that scale * x + offset normalises x."""
    values = []
    for name, given in (("mean", mean), ("std", std)):
        each = [given] if isinstance(given, int | float) else list(given)
        if len(each) not in (1, channels):
            raise ValueError(f"{name} has {len(each)} values for images of {channels} channels")
        values.append(torch.tensor(each, dtype=torch.float64).expand(channels).view(1, -1, 1, 1))
    centre, spread = values
    if bool((spread <= 0).any()):
        raise ValueError(f"std must be above 0 in every channel, got {std}")
    return (1 / spread).to(device, torch.float32), (-centre / spread).to(device, torch.float32)
