"""Styles by Fourier amplitude: an image takes the low-frequency amplitude of another and keeps its own phase.

Amplitude at low frequencies carries illumination, colour and contrast, phase carries the layout (Yang and Soatto, FDA,
2004.05498). One style for every image is ordinary Fourier augmentation; one for all images of a batch is Batch Styles
Standardization (2303.06088). The other half of a style is the look that a view's colour jitter and blur give it, which
`look_of` and `with_look` make one for a batch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from autodidact.views.parameters import ViewParameters
from autodidact.views.parcel import sent

LOOK = ("jitter", "order", "grey", "sigma", "solarise", "noise")
"""What of a view's parameters makes its look, in the order of `look_of`."""
NO_PHASE = 1e-6
"""Amplitude, as a share of that of a white image at frequency 0, up to which it is rounding and has no phase."""


def restyle(
    images: Shaped[Tensor, "n c h w"],
    styles: Shaped[Tensor, "v m c h w"],
    ratios: Float[Tensor, "v m"],
) -> Float[Tensor, "v n c h w"]:
    r"""Images with the low-frequency amplitude of others, several times over.

    With :math:`A_i e^{i P_i}` the Fourier transform of channel by channel of image i, :math:`A_j` the amplitude of its
    style and :math:`M_r` 1 inside the centred rectangle of area share r and 0 outside::

        x~_i = clamp( F^-1( (M_r A_j + (1 - M_r) A_i) exp(i P_i) ), 0, 1 )

    The rectangle has the frequencies of at most sqrt(r) / 2 cycles a pixel along each axis, of either sign, so the
    result is real. With r > 0 it holds frequency 0, the mean of a channel; with r = 0 it is empty and nothing changes;
    with r = 1 only the phase of an image remains. Where an image has no energy (all frequencies of a constant image but
    0) it has no phase either, and stays without.

    Parameters
    ----------
    images : tensor (n, c, h, w)
        uint8 (0 to 255) or floating point (0 to 1), any number of channels, on any device.
    styles : tensor (v, m, c, h, w), m = 1 or n
        Images whose amplitude is taken: one for all images, or one for each, in each of v versions.
    ratios : tensor (v, m)
        Area share r in [0, 1] of the part of the spectrum that is taken.

    Returns
    -------
    float32 tensor (v, n, c, h, w) in [0, 1]; float64 of float64 images.

    Raises
    ------
    ValueError
        Styles neither one nor n, or of another size; ratios outside [0, 1].
    """
    if styles.shape[1] not in (1, len(images)) or styles.shape[2:] != images.shape[1:]:
        raise ValueError(
            f"styles must be (versions, 1 or {len(images)}, {', '.join(map(str, images.shape[1:]))}), "
            f"got {tuple(styles.shape)}"
        )
    if ratios.shape != styles.shape[:2] or not bool(((ratios >= 0) & (ratios <= 1)).all()):
        raise ValueError(f"one ratio in [0, 1] a style is needed, got {ratios.tolist()} for {tuple(styles.shape[:2])}")
    height, width = images.shape[-2:]
    spectrum = torch.fft.rfft2(_unit_range(images))
    amplitude = spectrum.abs()
    taken = low_frequencies(ratios, height, width)[:, :, None] & (amplitude > NO_PHASE * height * width)
    gain = torch.fft.rfft2(_unit_range(styles)).abs() / amplitude
    return torch.fft.irfft2(spectrum * gain.where(taken, 1.0), s=(height, width)).clamp_(0, 1)


def low_frequencies(ratios: Float[Tensor, "*some"], height: int, width: int) -> Bool[Tensor, "*some height half"]:
    """Which frequencies of `torch.fft.rfft2` lie in the centred rectangle that has a share of the spectrum's area."""
    down = torch.fft.fftfreq(height, device=ratios.device).abs()
    right = torch.fft.rfftfreq(width, device=ratios.device)
    # A hair wider than half the root, so that a side of sqrt(r) keeps the frequency on its edge after rounding.
    reach = ratios[..., None, None].sqrt() / 2 + 1e-6
    return (down[:, None] <= reach) & (right <= reach) & (ratios[..., None, None] > 0)


def draw_references(
    images: Shaped[Tensor, "n c h w"], count: int, generator: torch.Generator, *, far: bool = False
) -> Int[Tensor, " count"]:
    """Different images of a batch to take styles from.

    Parameters
    ----------
    images : tensor (n, c, h, w)
    count : int
        How many, at most n.
    generator : torch.Generator
        The only source of randomness.
    far : bool
        The first at random, and each further one as far as possible in mean colour from those before it, so that they
        differ where the whole batch hardly does.

    Raises
    ------
    ValueError
        More references than images.
    """
    n = len(images)
    if not 1 <= count <= n:
        raise ValueError(f"{count} styles need as many images to take them from; the batch has {n}")
    order = sent(torch.randperm(n, generator=generator, device=generator.device), images.device)
    if not far:
        return order[:count]
    colours = _unit_range(images).mean(dim=(2, 3))[order]
    distance = torch.full((n,), torch.inf, device=images.device)
    chosen = [torch.zeros((), dtype=torch.long, device=images.device)]
    while len(chosen) < count:
        distance = torch.minimum(distance, (colours - colours[chosen[-1]]).square().sum(dim=1))
        chosen.append(distance.argmax())
    return order[torch.stack(chosen)]


def look_of(parameters: ViewParameters) -> Float[Tensor, " numbers"]:
    """Colour jitter and its order, greyscale, blur, solarising and noise of the first sample, as numbers."""
    return torch.cat([getattr(parameters, name)[0].reshape(-1).float() for name in LOOK])


def with_look(parameters: ViewParameters, look: Float[Tensor, " numbers"]) -> ViewParameters:
    """The same windows, mirrors, noise pixels and erased rectangles with one look for all samples."""
    changed, start = {}, 0
    for name in LOOK:
        own = getattr(parameters, name)
        size = own[0].numel()
        changed[name] = look[start : start + size].to(own.dtype).view(own.shape[1:]).expand(own.shape)
        start += size
    return replace(parameters, **changed)


def split_look(parameters: ViewParameters, shape: tuple[int, int]) -> tuple[ViewParameters, ViewParameters]:
    """Parameters in two halves that are rendered one after the other: the geometry, then on views of `shape` the rest.

    The second half crops nothing, so that something else may be done to the views in between.
    """
    n = len(parameters)
    plain = ViewParameters.plain(torch.tensor([[0, 0, *shape]]).expand(n, 4))
    geometric = ("crop", "flip", "vertical_flip", "affine")
    first = replace(plain, **{name: getattr(parameters, name) for name in geometric})
    second = replace(parameters, **{name: getattr(plain, name) for name in geometric})
    return first, second


def _unit_range(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images.float() / 255
    return images if images.dtype == torch.float64 else images.float()
