"""What is lost from a view: Gaussian blur, noise, erased rectangles. Pure functions of one parameter a sample."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def gaussian_blur(
    x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], kernel: int | tuple[int, int]
) -> Float[Tensor, "n c h w"]:
    """Blur with a sampled Gaussian of standard deviation `sigma` pixels over `kernel` taps, edges reflected.

    Equals torchvision's `gaussian_blur(kernel_size=kernel, sigma=sigma)`. A sigma of 0 leaves the sample unchanged.

    Parameters
    ----------
    x : float tensor (n, c, h, w)
    sigma : float tensor (n,)
        Standard deviation in pixels.
    kernel : int or (int, int)
        Taps, odd; (vertical, horizontal) if two. Half of it must be smaller than the image's side, for reflection.
    """
    vertical, horizontal = (kernel, kernel) if isinstance(kernel, int) else kernel
    rows = _blur_matrix(sigma.to(x.device), x.shape[2], vertical)
    columns = _blur_matrix(sigma.to(x.device), x.shape[3], horizontal)
    return torch.matmul(rows[:, None], torch.matmul(x, columns.transpose(1, 2)[:, None]))


def _blur_matrix(sigma: Tensor, length: int, kernel: int) -> Tensor:
    """(n, length, length): row i holds the taps around pixel i, those beyond an edge reflected back."""
    if kernel < 1 or kernel % 2 == 0 or kernel // 2 >= max(length, 2):
        raise ValueError(f"the blur kernel must be odd and at most {2 * length - 1} for {length} pixels, got {kernel}")
    half = kernel // 2
    taps = torch.arange(-half, half + 1, device=sigma.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (taps / sigma.clamp(min=1e-3)[:, None]) ** 2)
    weights = weights / weights.sum(dim=1, keepdim=True)
    at = (torch.arange(length, device=sigma.device)[:, None] + taps.long()).abs()
    at = torch.where(at >= length, 2 * (length - 1) - at, at).clamp_(0, length - 1)
    matrix = torch.zeros(sigma.shape[0], length, length, device=sigma.device)
    return matrix.scatter_add_(2, at.expand(len(sigma), -1, -1), weights[:, None].expand(-1, length, -1))


def add_noise(
    x: Float[Tensor, "n c h w"], std: Float[Tensor, " n"], noise: Float[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """clamp(x + std * noise) to [0, 1]; `noise` is standard normal."""
    return torch.addcmul(x, noise, std.to(x.device).view(-1, 1, 1, 1)).clamp_(0, 1)


def sample_rectangles(
    n: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Int[Tensor, "n 4"]:
    """Rectangles (top, left, height, width) as torchvision's RandomErasing draws them.

    Ten tries of area U(scale) * H * W and aspect ratio height / width exp(U(log ratio)), of which the first smaller
    than the image in both directions counts; if none is, the rectangle is empty.
    """
    height, width = size
    u = torch.rand(n, 22, generator=generator, device=generator.device, dtype=torch.float64).cpu()
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[:, :10])
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(log_low + (log_high - log_low) * u[:, 10:20])
    tried_height, tried_width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (tried_height < height) & (tried_width < width)
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    h = torch.where(found, tried_height.gather(1, first)[:, 0], 0.0)
    w = torch.where(found, tried_width.gather(1, first)[:, 0], 0.0)
    top, left = (u[:, 20] * (height - h + 1)).floor(), (u[:, 21] * (width - w + 1)).floor()
    return torch.stack([top, left, h, w], dim=1).long()


def erase(x: Float[Tensor, "n c h w"], rectangles: Int[Tensor, "n 4"], value: float = 0.0) -> Float[Tensor, "n c h w"]:
    """Each sample's rectangle (top, left, height, width; empty = none) filled with `value`."""
    top, left, height, width = rectangles.to(x.device)[:, :, None].unbind(1)
    rows, columns = torch.arange(x.shape[2], device=x.device), torch.arange(x.shape[3], device=x.device)
    inside_rows = (rows >= top) & (rows < top + height)
    inside_columns = (columns >= left) & (columns < left + width)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return x.masked_fill(inside, value)
