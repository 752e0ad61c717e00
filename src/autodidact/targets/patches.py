"""Pixels of the patches of an image, in the order of an encoder's tokens, and back."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor


def patch_pixels(images: Shaped[Tensor, "n c h w"], patch: tuple[int, int]) -> Shaped[Tensor, "n t p"]:
    """The pixels of every patch in raster order: within a patch row by row, the channels of a pixel side by side.

    Parameters
    ----------
    images : sides that are multiples of the patch's; ValueError otherwise.
    patch : (height, width) in pixels.
    """
    n, c, h, w = images.shape
    if h % patch[0] or w % patch[1]:
        raise ValueError(f"images of {h}x{w} pixels are not made of patches of {patch[0]}x{patch[1]}")
    cut = images.reshape(n, c, h // patch[0], patch[0], w // patch[1], patch[1])
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def image_of_patches(
    pixels: Shaped[Tensor, "n t p"], grid: tuple[int, int], patch: tuple[int, int]
) -> Shaped[Tensor, "n c h w"]:
    """Inverse of `patch_pixels`; `grid` is (rows, columns) of patches."""
    cut = pixels.unflatten(2, (*patch, -1)).unflatten(1, grid)
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def normalised_patches(pixels: Float[Tensor, "n t p"], eps: float = 1e-6) -> Float[Tensor, "n t p"]:
    """Each patch minus its mean, divided by its standard deviation: (x - mean) / sqrt(var + eps) (MAE, 2111.06377).

    The variance is the unbiased one, as in the authors' code.
    """
    mean, spread = patch_statistics(pixels, eps)
    return (pixels - mean) / spread


def patch_statistics(
    pixels: Float[Tensor, "n t p"], eps: float = 1e-6
) -> tuple[Float[Tensor, "n t 1"], Float[Tensor, "n t 1"]]:
    """Mean and standard deviation of each patch, as `normalised_patches` uses them."""
    return pixels.mean(dim=2, keepdim=True), (pixels.var(dim=2, keepdim=True) + eps).sqrt()
