"""Pixels of patches, in the order of the tokens that a vision transformer makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autodidact.targets import image_of_patches, normalised_patches, patch_pixels, unit_tokens


def test_patches_are_cut_in_the_order_of_a_convolution_and_pixel_by_pixel() -> None:
    images = torch.rand(2, 3, 6, 8, dtype=torch.float64)
    pixels = patch_pixels(images, (2, 4))
    assert pixels.shape == (2, 6, 24)
    for row in range(3):
        for column in range(2):
            cut = images[:, :, 2 * row : 2 * row + 2, 4 * column : 4 * column + 4]
            assert torch.equal(pixels[:, 2 * row + column], cut.permute(0, 2, 3, 1).flatten(1))
    conv = nn.Conv2d(3, 5, (2, 4), (2, 4)).double()
    weight = conv.weight.permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(pixels @ weight.T + conv.bias, conv(images).flatten(2).transpose(1, 2))


def test_patches_put_together_are_the_image() -> None:
    images = torch.rand(2, 3, 6, 8)
    assert torch.equal(image_of_patches(patch_pixels(images, (2, 4)), (3, 2), (2, 4)), images)


def test_normalised_patches_equal_a_loop_and_a_flat_patch_is_zero() -> None:
    pixels = torch.rand(2, 3, 12, dtype=torch.float64)
    pixels[0, 1] = 0.7
    found = normalised_patches(pixels)
    for n in range(2):
        for t in range(3):
            mean = sum(pixels[n, t]) / 12
            var = sum((value - mean) ** 2 for value in pixels[n, t]) / 11
            torch.testing.assert_close(found[n, t], (pixels[n, t] - mean) / (var + 1e-6) ** 0.5)
    assert float(found[0, 1].abs().max()) < 1e-9


def test_sides_that_are_no_multiple_of_the_patch_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 6x8 pixels are not made of patches of 4x4"):
        patch_pixels(torch.rand(1, 1, 6, 8), (4, 4))


def test_unit_tokens_have_mean_0_and_variance_1_whatever_their_length() -> None:
    tokens = torch.randn(2, 3, 50, dtype=torch.float64)
    found = unit_tokens(7 * tokens + 3)
    torch.testing.assert_close(found.mean(dim=2), torch.zeros(2, 3, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(
        found.var(dim=2, unbiased=False), torch.ones(2, 3, dtype=torch.float64), rtol=1e-4, atol=0
    )
    assert unit_tokens(tokens.bfloat16()).dtype == torch.float32
