"""Histograms of oriented gradients of a whole batch (Dalal and Triggs, 2005), as a target (MaskFeat, 2112.09133)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def hog(
    images: Float[Tensor, "n c h w"], cell: tuple[int, int], *, bins: int = 9, eps: float = 1e-5
) -> Float[Tensor, "n c rows columns bins"]:
    """Histograms of the orientation of gradients in cells, of every channel by itself.

    The gradient is x[i + 1] - x[i - 1] along both axes, 0 along an axis at the border across it; its orientation in
    [0, 180) degrees falls into one of `bins` equal bins with its magnitude as weight, averaged over the cell; the
    histogram h of a cell becomes h / sqrt(|h|^2 + eps^2). This is skimage's `hog` of a channel with blocks of one cell
    and the norm "L2". MaskFeat's code differs at the border, where it mirrors the image, and weighs pixels by a
    Gaussian window.

    Parameters
    ----------
    images : sides that are multiples of the cell's; ValueError otherwise.
    cell : (height, width) in pixels.
    bins : number of orientations. Paper: 9.
    eps : keeps the histogram of a flat cell at 0.
    """
    n, c, h, w = images.shape
    if h % cell[0] or w % cell[1]:
        raise ValueError(f"images of {h}x{w} pixels are not made of cells of {cell[0]}x{cell[1]}")
    down, across = torch.zeros_like(images), torch.zeros_like(images)
    down[:, :, 1:-1] = images[:, :, 2:] - images[:, :, :-2]
    across[:, :, :, 1:-1] = images[:, :, :, 2:] - images[:, :, :, :-2]
    degrees = torch.rad2deg(torch.atan2(down, across)).remainder(180.0)
    # An angle just below 0 is rounded up to 180, which is the first bin, too.
    bin_ = (degrees * (bins / 180.0)).long().remainder(bins)
    votes = torch.zeros(n, c, bins, h, w, dtype=images.dtype, device=images.device)
    votes.scatter_(2, bin_[:, :, None], torch.hypot(down, across)[:, :, None])
    histogram = functional.avg_pool2d(votes.flatten(1, 2), cell, cell).unflatten(1, (c, bins)).permute(0, 1, 3, 4, 2)
    return histogram / (histogram.square().sum(dim=4, keepdim=True) + eps**2).sqrt()


def patch_hog(
    images: Float[Tensor, "n c h w"], patch: tuple[int, int], *, cells: int = 1, bins: int = 9
) -> Float[Tensor, "n t features"]:
    """`hog` of the cells of every patch, side by side, in the order of an encoder's tokens.

    Parameters
    ----------
    patch : (height, width) in pixels.
    cells : cells along each side of a patch, a divisor of both. MaskFeat: 2, of 8 pixels.
    """
    if patch[0] % cells or patch[1] % cells:
        raise ValueError(f"patches of {patch[0]}x{patch[1]} pixels cannot be cut into {cells} cells along each side")
    found = hog(images, (patch[0] // cells, patch[1] // cells), bins=bins)
    n, c, rows, columns, _ = found.shape
    cut = found.view(n, c, rows // cells, cells, columns // cells, cells, bins)
    return cut.permute(0, 2, 4, 1, 3, 5, 6).flatten(3).flatten(1, 2)


def hog_cells(patch: tuple[int, int], largest: int = 8) -> int:
    """Cells along each side of a patch such that none is longer than `largest` pixels: 2 of 16, 1 of 8 and below."""
    side = math.gcd(*patch)
    return next(cells for cells in range(1, side + 1) if side % cells == 0 and max(patch) // cells <= largest)
