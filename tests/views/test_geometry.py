"""Crops, resampling and affine maps against torchvision."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from autodidact.views import geometry

MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
CROPS = torch.tensor([[0, 0, 40, 56], [3, 5, 10, 7], [39, 55, 1, 1], [20, 0, 20, 50], [1, 2, 33, 33]])


def _torchvision(x: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    return torch.stack(
        [tv.resized_crop(image, *crop, list(size), MODES[mode]) for image, crop in zip(x, CROPS.tolist(), strict=True)]
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(16, 16), (33, 20), (64, 80), (150, 170), (1, 1)])
def test_resized_crop_of_float_images_equals_torchvisions(
    mode: str, size: tuple[int, int], generator: torch.Generator
) -> None:
    x = torch.rand(5, 3, 40, 56, generator=generator)
    torch.testing.assert_close(
        geometry.resized_crop(x, CROPS, size, mode), _torchvision(x, size, mode), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(16, 16), (33, 20), (150, 170)])
def test_resized_crop_of_uint8_images_is_within_one_grey_level_of_the_exact_one(
    size: tuple[int, int], channels: int, layout: torch.memory_format, generator: torch.Generator
) -> None:
    x = torch.randint(0, 256, (5, channels, 40, 56), generator=generator, dtype=torch.uint8)
    ours = geometry.resized_crop(x.contiguous(memory_format=layout), CROPS, size)
    exact = _torchvision(x.double() / 255, size, "bilinear")
    torch.testing.assert_close(ours, exact.float(), atol=1.001 / 255, rtol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_large_views_of_uint8_images_equal_torchvisions_bit_for_bit_in_bicubic_too(
    layout: torch.memory_format, generator: torch.Generator
) -> None:
    x = torch.randint(0, 256, (4, 3, 40, 56), generator=generator, dtype=torch.uint8).contiguous(memory_format=layout)
    crops = CROPS[[0, 1, 3, 4]]
    ours = geometry.resized_crop(x, crops, (150, 170), "bicubic")
    for image, crop, view in zip(x, crops.tolist(), ours, strict=True):
        expected = tv.resized_crop(image, *crop, [150, 170], MODES["bicubic"])
        torch.testing.assert_close(view * 255, expected.float(), atol=1e-4, rtol=0)
