"""Crops, resampling and affine maps against torchvision."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from autodidact.views import geometry

MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
CROPS = torch.tensor([[0, 0, 40, 56], [3, 5, 10, 7], [39, 55, 1, 1], [20, 0, 20, 50], [1, 2, 33, 33]])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(16, 16), (33, 20), (64, 80), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_resized_crop_equals_torchvisions_antialiased_one(
    mode: str, size: tuple[int, int], dtype: torch.dtype, generator: torch.Generator
) -> None:
    x = torch.randint(0, 256, (5, 3, 40, 56), generator=generator, dtype=torch.uint8)
    exact = x.float() / 255
    if dtype == torch.float32:
        x = exact
    expected = torch.stack(
        [tv.resized_crop(i, *c, list(size), MODES[mode]) for i, c in zip(exact, CROPS.tolist(), strict=True)]
    )
    ours = geometry.resized_crop(x, CROPS, size, mode)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
