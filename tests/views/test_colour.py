"""Colour ops equal torchvision's at the same parameters, sample by sample."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from autodidact.views import colour


def _images(generator: torch.Generator, n: int = 6, channels: int = 3) -> Tensor:
    """Random images with the corner cases of hue: greys, pure colours, ties of two channels, black and white."""
    x = torch.rand(n, channels, 11, 14, generator=generator)
    x[:, :, 0] = torch.randint(0, 2, (n, channels, 14), generator=generator).float()
    x[:, :, 1] = torch.randint(0, 4, (n, channels, 14), generator=generator) / 3
    x[:, :, 2] = x[:, :1, 2]
    return x


PAIRS: dict[str, tuple[Callable, Callable, tuple[float, ...]]] = {
    "brightness": (colour.adjust_brightness, tv.adjust_brightness, (0.0, 0.3, 0.9, 1.0, 1.4, 1.8)),
    "contrast": (colour.adjust_contrast, tv.adjust_contrast, (0.0, 0.3, 0.9, 1.0, 1.4, 1.8)),
    "saturation": (colour.adjust_saturation, tv.adjust_saturation, (0.0, 0.3, 0.9, 1.0, 1.4, 1.8)),
    "hue": (colour.adjust_hue, tv.adjust_hue, (-0.5, -0.35, -0.01, 0.0, 0.2, 0.5)),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jitter_op_equals_torchvisions_at_the_same_factor(
    name: str, channels: int, generator: torch.Generator
) -> None:
    ours, theirs, factors = PAIRS[name]
    x = _images(generator, len(factors), channels)
    expected = torch.stack([theirs(image, factor) for image, factor in zip(x, factors, strict=True)])
    torch.testing.assert_close(ours(x.clone(), torch.tensor(factors)), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("shift", [round(-0.5 + 0.05 * i, 2) for i in range(21)])
def test_hue_equals_torchvisions_around_the_whole_circle(shift: float, generator: torch.Generator) -> None:
    x = _images(generator)
    expected = tv.adjust_hue(x, shift)
    torch.testing.assert_close(colour.adjust_hue(x, torch.full((6,), shift)), expected, atol=2e-6, rtol=0)
