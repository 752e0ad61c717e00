"""Digits on surfaces: the masks are where the ink is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.worlds.scenes import digit_scenes
from autodidact.worlds.textures import textures


@pytest.mark.parametrize("digits", [1, 2])
def test_the_ink_is_brighter_or_darker_inside_the_masks_and_nothing_is_there_outside(digits):
    source = digit_scenes(60, digits=digits, size=(14, 16), contrast=(0.4, 0.45), seed=1)
    batch = source.batch(np.arange(60))
    image, masks = batch["image"].float()[:, 0] / 255, batch["truth_masks"]
    assert masks.shape == (60, digits, 32, 32)
    inside = masks.any(dim=1)
    assert 0.02 < float(inside.float().mean()) < 0.4
    differences = [
        float(image[i][masks[i, k]].mean() - image[i][~inside[i]].mean()) for i in range(60) for k in range(digits)
    ]
    assert all(abs(difference) > 0.08 for difference in differences)
    assert 0.3 < np.mean([difference > 0 for difference in differences]) < 0.7
    if digits == 2:
        assert not masks[:, 0, :, 16:].any()
        assert not masks[:, 1, :, :16].any()


def test_the_same_seed_gives_the_same_and_other_digits_are_held_back():
    once, again, other = (digit_scenes(20, seed=seed).batch(np.arange(20))["image"] for seed in (3, 3, 4))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    held = digit_scenes(20, part="held", seed=3)
    assert not np.array_equal(held.ids, digit_scenes(20, seed=3).ids)


def test_surfaces_are_alike_in_brightness_and_roughness():
    quiet = digit_scenes(80, contrast=(0.0, 0.0), size=(4, 4), seed=0).batch(np.arange(80))["image"].float() / 255
    assert float(quiet.std(dim=(1, 2, 3)).std()) < 0.02


def test_digits_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 digits of 14 to 20 pixels do not fit into 32"):
        digit_scenes(2, digits=2)
    with pytest.raises(ValueError, match="roughness must not be negative"):
        digit_scenes(2, roughness=-0.1)


def test_textures_have_the_sides_that_were_asked_for():
    rng = np.random.default_rng(0)
    assert textures(3, 20, rng).shape == (3, 1, 20, 20)
    assert textures(0, 20, rng).shape == (0, 1, 20, 20)
