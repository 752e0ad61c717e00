"""Distortions do what they say, alike for bytes and floats."""

from __future__ import annotations

import pytest
import torch

from autodidact.views.distort import STRENGTHS, distort


def images(n=4, c=3, side=24):
    return torch.rand(n, c, side, side, generator=torch.Generator().manual_seed(0))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", STRENGTHS)
@pytest.mark.parametrize("strength", [1, 2, 3])
def test_bytes_and_floats_are_distorted_alike_and_stay_images(kind, strength):
    x = (255 * images()).round() / 255
    found = distort(x, kind, strength, seeded())
    as_bytes = distort((255 * x).round().to(torch.uint8), kind, strength, seeded())
    assert as_bytes.dtype == torch.uint8
    assert found.min() >= 0
    assert found.max() <= 1
    assert (as_bytes.float() / 255 - found).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(found, distort(x, kind, strength, seeded()))


@pytest.mark.parametrize("kind", ["noise", "blur", "contrast", "invert"])
def test_more_strength_changes_more(kind):
    changes = [float((distort(images(), kind, s, seeded()) - images()).abs().mean()) for s in (1, 2, 3)]
    assert changes == sorted(changes)
    assert changes[0] > 0


def test_noise_has_its_standard_deviation():
    grey = torch.full((2, 1, 64, 64), 0.5)
    assert float((distort(grey, "noise", 1, seeded()) - grey).std()) == pytest.approx(0.05, rel=0.05)


def test_contrast_shrinks_the_distances_from_the_mean():
    x = images()
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(distort(x, "contrast", 2, seeded()), mean + 0.4 * (x - mean))


def test_the_negative_takes_the_place_of_the_picture():
    x = images()
    torch.testing.assert_close(distort(x, "invert", 3, seeded()), 1 - x)
    torch.testing.assert_close(distort(x, "invert", 1, seeded()), 0.3 * x + 0.7 * (1 - x))


def test_blur_leaves_a_flat_image_and_a_crop_of_a_ramp_is_a_ramp_of_less_steepness():
    flat = torch.full((1, 1, 16, 16), 0.3)
    torch.testing.assert_close(distort(flat, "blur", 3, seeded()), flat)
    ramp = torch.linspace(0, 1, 33).expand(1, 1, 33, 33)
    found = distort(ramp, "crop", 3, seeded())[0, 0]
    torch.testing.assert_close(found.diff(dim=1), torch.full((33, 32), 0.5 / 32), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("kind", "strength"), [("fog", 1), ("noise", 0), ("noise", 4)])
def test_other_kinds_and_strengths_are_refused(kind, strength, wrong_types):
    with pytest.raises(ValueError, match=f"got {kind} at {strength}"):
        distort(images(), kind, strength, seeded())
