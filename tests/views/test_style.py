"""Styles by Fourier amplitude: against numpy image by image, and what they must leave alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.views import Augment, draw_references, look_of, restyle, split_look, with_look
from autodidact.views.style import low_frequencies

SHAPES = [(3, 12, 12), (1, 9, 13), (5, 8, 11), (3, 7, 7)]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


def pictures(n, shape, seed=0, low=0.0, high=1.0):
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))
    return low + (high - low) * x


def by_numpy(image, style, ratio):
    """The definition: full transforms with frequency 0 in the centre, one channel at a time, in float64."""
    out = np.empty_like(image, dtype=np.float64)
    residue = 0.0
    for channel in range(len(image)):
        own, other = (np.fft.fftshift(np.fft.fft2(x[channel].astype(np.float64))) for x in (image, style))
        height, width = own.shape
        down = np.arange(height) - height // 2
        right = np.arange(width) - width // 2
        inside = (np.abs(down)[:, None] <= np.sqrt(ratio) * height / 2 + 1e-4) & (
            np.abs(right)[None] <= np.sqrt(ratio) * width / 2 + 1e-4
        )
        amplitude = np.where(inside & (ratio > 0), np.abs(other), np.abs(own))
        back = np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * np.angle(own))))
        residue = max(residue, float(np.abs(back.imag).max()))
        out[channel] = back.real
    return out, residue


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ratio", [0.0, 0.004, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_equals_numpys_transform_of_each_image_and_the_result_is_real(shape, ratio, device):
    images = pictures(4, shape)
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-12)):
        given = images.to(device, dtype)
        found = restyle(given, given[None, 2:3], torch.full((1, 1), ratio, device=device))[0]
        assert found.dtype == dtype
        for image, made in zip(images.numpy(), found.cpu().numpy(), strict=True):
            expected, residue = by_numpy(image, images[2].numpy(), ratio)
            np.testing.assert_allclose(made, expected.clip(0, 1), atol=tolerance)
            assert residue < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_one_style_have_one_amplitude_inside_the_rectangle_and_their_own_phase(shape):
    # Little contrast, so that nothing is clamped.
    images = pictures(6, shape, low=0.45, high=0.55)
    ratio = torch.full((1, 1), 0.2)
    found = restyle(images, images[None, 3:4], ratio)[0]
    assert float(found.min()) > 0
    assert float(found.max()) < 1
    inside = low_frequencies(ratio, *shape[1:])[0, 0]
    before, after = torch.fft.rfft2(images.double()), torch.fft.rfft2(found.double())
    assert (after.abs() - before[3].abs())[..., inside].abs().max() < 1e-4
    assert (after.abs() - before.abs())[..., ~inside].abs().max() < 1e-4
    # Angles of small amplitudes are noise: the distance of the directions is weighed by the amplitude.
    turned = (after / after.abs() - before / before.abs()).abs() * before.abs()
    assert turned.max() < 1e-4


@pytest.mark.parametrize("ratio", [0.0, 0.15, 1.0])
def test_the_image_that_the_style_comes_from_stays_as_it_is(ratio):
    images = pictures(5, (3, 14, 14))
    found = restyle(images, images[None, 1:2], torch.full((1, 1), ratio))[0]
    torch.testing.assert_close(found[1], images[1], atol=1e-5, rtol=0)
    if ratio == 0:
        torch.testing.assert_close(found, images, atol=1e-5, rtol=0)


def test_each_image_may_have_a_style_of_its_own_and_several_versions_are_made_at_once():
    images = pictures(4, (3, 10, 10))
    index = torch.tensor([[1, 0, 3, 2], [2, 3, 0, 1]])
    ratios = torch.rand(2, 4, generator=torch.Generator().manual_seed(1))
    found = restyle(images, images[index], ratios)
    for version in range(2):
        for i in range(4):
            style, ratio = images[index[version, i]][None, None], ratios[version, i].view(1, 1)
            one = restyle(images[i : i + 1], style, ratio)
            torch.testing.assert_close(found[version, i], one[0, 0], atol=1e-5, rtol=0)


def test_whole_numbers_are_taken_as_255ths():
    images = (255 * pictures(3, (3, 8, 8))).to(torch.uint8)
    whole = restyle(images, images[None, :1], torch.full((1, 1), 0.1))
    assert torch.equal(whole, restyle(images.float() / 255, images[None, :1].float() / 255, torch.full((1, 1), 0.1)))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_image_takes_the_mean_of_the_style_and_nothing_else_and_gives_no_nan(value):
    images = pictures(2, (3, 32, 32))
    images[0] = value
    found = restyle(images, images[None, 1:2], torch.full((1, 1), 0.1))[0, 0]
    expected = images[1].mean(dim=(1, 2)) if value else torch.zeros(3)
    torch.testing.assert_close(found, expected[:, None, None].expand(3, 32, 32), atol=1e-3, rtol=0)
    back = restyle(images, images[None, :1], torch.ones(1, 1))
    assert torch.isfinite(back).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1), st.floats(0, 1))
def test_the_rectangle_grows_with_its_share_from_nothing_to_the_whole_spectrum(height, width, a, b):
    small, large = (low_frequencies(torch.tensor(r), height, width) for r in sorted((a, b)))
    assert bool((small <= large).all())
    assert not low_frequencies(torch.tensor(0.0), height, width).any()
    assert low_frequencies(torch.tensor(1.0), height, width).all()
    # Both signs of a vertical frequency are in or out together.
    assert torch.equal(large[1:], large[1:].flip(0))


def test_references_are_different_images_and_follow_from_the_generator():
    images = pictures(7, (3, 4, 4))
    for far in (False, True):
        drawn = [draw_references(images, 7, torch.Generator().manual_seed(s), far=far) for s in (0, 0, 1)]
        assert sorted(drawn[0].tolist()) == list(range(7))
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])


def test_far_references_find_the_rare_domain():
    images = torch.full((40, 3, 4, 4), 0.2) + 0.01 * pictures(40, (3, 4, 4))
    images[17, 0] = 0.9
    for seed in range(5):
        assert 17 in draw_references(images, 2, torch.Generator().manual_seed(seed), far=True).tolist()


def test_one_look_for_all_changes_colours_and_nothing_of_the_geometry():
    augment = Augment(
        size=12, jitter=(0.8, 0.8, 0.8, 0.2), grey_p=0.3, blur_p=0.5, solarise_p=0.3, noise_std=0.1, erase_p=0.5
    )
    drawn = augment.draw(20, 16, 16, torch.Generator().manual_seed(0))
    shared = with_look(drawn, look_of(drawn))
    for name in ("jitter", "order", "grey", "sigma", "solarise", "noise"):
        own = getattr(drawn, name)
        assert torch.equal(getattr(shared, name), own[:1].expand(own.shape))
        assert getattr(shared, name).dtype == own.dtype
    for name in ("crop", "flip", "vertical_flip", "affine", "erase", "noise_seed"):
        assert torch.equal(getattr(shared, name), getattr(drawn, name))


def test_geometry_and_look_rendered_one_after_the_other_are_the_whole_view():
    augment = Augment(
        size=(10, 12), rotate=20.0, jitter=(0.5, 0.5, 0.5, 0.2), blur_p=0.5, erase_p=0.5, mean=0.4, std=0.3
    )
    images = pictures(9, (3, 16, 15))
    drawn = augment.draw(9, 16, 15, torch.Generator().manual_seed(3))
    first, second = split_look(drawn, augment.shape)
    halves = augment.render(replace(augment, mean=0.0, std=1.0).render(images, first), second)
    torch.testing.assert_close(halves, augment.render(images, drawn), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("wrong_types")
@pytest.mark.parametrize(
    ("styles", "ratios", "said"),
    [
        ((1, 2, 3, 8, 8), (1, 2), "1 or 3"),
        ((1, 1, 3, 8, 9), (1, 1), "3, 8, 8"),
        ((1, 1, 3, 8, 8), (1, 3), "one ratio"),
    ],
)
def test_styles_that_do_not_fit_are_refused(styles, ratios, said):
    with pytest.raises(ValueError, match=said):
        restyle(pictures(3, (3, 8, 8)), torch.rand(styles), torch.full(ratios, 0.1))


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    images = pictures(3, (3, 8, 8))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        restyle(images, images[None, :1], torch.full((1, 1), ratio))


def test_more_references_than_images_are_refused():
    with pytest.raises(ValueError, match="3 styles need as many images to take them from; the batch has 2"):
        draw_references(pictures(2, (3, 4, 4)), 3, torch.Generator())
