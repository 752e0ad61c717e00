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


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_greyscale_replaces_the_channels_of_the_chosen_samples_alone(channels: int, generator: torch.Generator) -> None:
    x = _images(generator, 4, channels)
    chosen = torch.tensor([True, False, True, False])
    ours = colour.to_grey(x, chosen)
    assert torch.equal(ours[~chosen], x[~chosen])
    expected = tv.rgb_to_grayscale(x, num_output_channels=3) if channels == 3 else x.mean(1, True).expand_as(x)
    torch.testing.assert_close(ours[chosen], expected[chosen], atol=1e-6, rtol=0)


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.8])
def test_solarise_equals_torchvisions(threshold: float, generator: torch.Generator) -> None:
    x = _images(generator)
    chosen = torch.tensor([True, False, True, False, True, True])
    ours = colour.solarise(x, chosen, threshold)
    assert torch.equal(ours[~chosen], x[~chosen])
    torch.testing.assert_close(ours[chosen], tv.solarize(x[chosen], threshold), atol=1e-7, rtol=0)


def test_channels_without_colour_keep_their_hue_and_mix_with_their_mean(generator: torch.Generator) -> None:
    x = torch.rand(2, 5, 6, 7, generator=generator)
    factor = torch.tensor([0.3, 1.5])
    assert torch.equal(colour.adjust_hue(x, torch.tensor([0.2, -0.4])), x)
    f = factor[:, None, None, None]
    expected = (f * x + (1 - f) * x.mean(1, keepdim=True)).clamp(0, 1)
    torch.testing.assert_close(colour.adjust_saturation(x, factor), expected, atol=1e-6, rtol=0)


def test_a_blend_serves_samples_that_are_due_different_jitters(generator: torch.Generator) -> None:
    x = _images(generator, 3)
    factor = torch.tensor([1.4, 0.6, 1.7])
    grey, mean = torch.tensor([0.0, 0.0, -0.7]), torch.tensor([0.0, 0.4, 0.0])
    ours = colour.blend_(x.clone(), factor, grey, mean)
    torch.testing.assert_close(ours[0], tv.adjust_brightness(x[0], 1.4), atol=2e-6, rtol=0)
    torch.testing.assert_close(ours[1], tv.adjust_contrast(x[1], 0.6), atol=2e-6, rtol=0)
    torch.testing.assert_close(ours[2], tv.adjust_saturation(x[2], 1.7), atol=2e-6, rtol=0)


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.2), ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)), ((0.5,), 0.5)])
def test_normalise_equals_torchvisions(mean: float | tuple, std: float | tuple, generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 4, 5, generator=generator)
    each = [[v] * 3 if isinstance(v, float) else list(v) * (3 // len(v)) for v in (mean, std)]
    torch.testing.assert_close(colour.normalise(x, mean, std), tv.normalize(x, *each), atol=1e-6, rtol=1e-6)


def test_normalise_says_which_statistics_do_not_fit() -> None:
    x = torch.rand(1, 3, 2, 2)
    with pytest.raises(ValueError, match="mean has 2 values for images of 3 channels"):
        colour.normalise(x, (0.5, 0.5), 1.0)
    with pytest.raises(ValueError, match="std must be above 0"):
        colour.normalise(x, 0.5, (0.2, 0.0, 0.2))


def test_pure_functions_leave_their_input_alone(generator: torch.Generator) -> None:
    x = _images(generator, 2)
    kept, half, yes = x.clone(), torch.tensor([0.5, 1.5]), torch.tensor([True, True])
    for call in (
        lambda: colour.adjust_brightness(x, half),
        lambda: colour.adjust_contrast(x, half),
        lambda: colour.adjust_saturation(x, half),
        lambda: colour.adjust_hue(x, half / 3),
        lambda: colour.to_grey(x, yes),
        lambda: colour.solarise(x, yes),
        lambda: colour.normalise(x, 0.5, 0.5),
    ):
        call()
        assert torch.equal(x, kept)
