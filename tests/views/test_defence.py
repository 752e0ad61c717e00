"""Defences take out of an image what a trigger hides in, and keep its type."""

from __future__ import annotations

import pytest
import torch

from autodidact.views.defence import defended
from autodidact.views.spectral import SpectralTrigger


def images(generator: torch.Generator) -> torch.Tensor:
    return torch.randint(60, 180, (3, 3, 32, 32), generator=generator).to(torch.uint8)


def test_without_colours_a_triggered_image_is_the_clean_one_but_for_rounding(generator):
    x = images(generator)
    clean, triggered = defended(x, "luminance"), defended(SpectralTrigger()(x), "luminance")
    assert triggered.dtype == torch.uint8
    assert torch.equal(triggered[:, 0], triggered[:, 2])
    assert int((clean.int() - triggered.int()).abs().max()) <= 1


def test_one_channel_has_no_colours_to_take_away(generator):
    x = images(generator)[:, :1]
    assert torch.equal(defended(x, "luminance"), x)


def test_a_blur_takes_the_highest_frequency_and_leaves_a_shade_alone(generator):
    pattern = 0.5 + SpectralTrigger(positions=((31, 31),)).pattern(3, 32, 32)[None]
    left = (defended(pattern, "blur", 1.0) - 0.5).norm() / (pattern - 0.5).norm()
    assert float(left) < 0.02
    flat = torch.full((1, 3, 8, 8), 200, dtype=torch.uint8)
    assert torch.equal(defended(flat, "blur", 2.0), flat)


@pytest.mark.parametrize("defence", ["luminance", "blur"])
def test_floats_and_bytes_are_defended_alike(defence, generator):
    x = images(generator)
    bytes_, floats = defended(x, defence), defended(x.float() / 255, defence)
    assert floats.dtype == torch.float32
    torch.testing.assert_close(bytes_.float() / 255, floats, atol=0.51 / 255, rtol=0)
