"""Whole views: against the same steps by torchvision, one sample at a time; and what must not change them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from autodidact.views import PRESETS, Augment, Look, ViewParameters, eval_view
from autodidact.views.noise import standard_noise

EVERYTHING = Augment(
    size=(20, 27),
    vertical_flip=0.3,
    jitter=(0.8, 0.8, 0.8, 0.2),
    grey_p=0.3,
    blur_p=0.6,
    blur_kernel=7,
    solarise_p=0.3,
    noise_std=0.1,
    erase_p=0.5,
    erase_value=0.5,
    mean=0.4,
    std=0.25,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _by_torchvision(image: Tensor, p: ViewParameters, look: Look) -> Tensor:
    """The view of one image (c, h, w), p of one row: every step by torchvision, in the documented order."""
    mode = InterpolationMode.BICUBIC if look.interpolation == "bicubic" else InterpolationMode.BILINEAR
    x = tv.resized_crop(image, *p.crop[0].tolist(), list(look.shape), mode).clamp(0, 1)
    x = tv.horizontal_flip(x) if p.flip[0] else x
    x = tv.vertical_flip(x) if p.vertical_flip[0] else x
    jitters = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    for op in p.order[0].tolist():
        x = jitters[op](x, p.jitter[0, op].item())
    x = tv.rgb_to_grayscale(x, num_output_channels=3) if p.grey[0] else x
    x = tv.gaussian_blur(x, look.kernel, p.sigma[0].item()) if p.sigma[0] > 0 else x
    x = tv.solarize(x, look.solarise_threshold) if p.solarise[0] else x
    x = (x + p.noise[0] * standard_noise(p.noise_seed, tuple(x.shape))[0]).clamp(0, 1)
    top, left, height, width = p.erase[0].tolist()
    x[:, top : top + height, left : left + width] = look.erase_value
    return (x - look.mean) / look.std


@pytest.mark.parametrize("size", [(20, 27), (130, 120)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_view_equals_torchvisions_steps_at_the_same_parameters(size: tuple[int, int], interpolation: str) -> None:
    augment = replace(EVERYTHING, size=size, interpolation=interpolation)
    n = 40 if size[0] < 100 else 12
    images = torch.rand(n, 3, 32, 30, generator=_generator())
    p = augment.draw(n, 32, 30, _generator(1))
    expected = torch.stack([_by_torchvision(images[i], p[i : i + 1], augment) for i in range(n)])
    off = (augment.render(images, p) - expected).abs() * augment.std
    # Solarising jumps at its threshold: a pixel within rounding of it may land on the other side.
    jumped = off > 1e-3
    assert float(jumped.float().mean()) < 1e-3
    assert float(off[~jumped].max()) < 2e-4


def test_every_step_of_the_comparison_was_drawn_and_every_order_too() -> None:
    p = EVERYTHING.draw(2000, 32, 30, _generator(1))
    for drawn in (p.flip, p.vertical_flip, p.grey, p.solarise, p.sigma > 0, p.erase[:, 2] > 0, p.jitter[:, 3] != 0):
        assert 0.1 < float(drawn.float().mean()) < 0.9
    orders, counts = p.order.unique(dim=0, return_counts=True)
    assert len(orders) == 24
    assert 40 < int(counts.min()) <= int(counts.max()) < 140


def test_probabilities_and_ranges_are_kept() -> None:
    n = 20_000
    p = replace(EVERYTHING, rotate=20.0, translate=0.1, zoom=(0.5, 2.0), shear=5.0).draw(n, 32, 32, _generator())
    for drawn, probability in (
        (p.flip, 0.5),
        (p.vertical_flip, 0.3),
        (p.grey, 0.3),
        (p.sigma > 0, 0.6),
        (p.solarise, 0.3),
        (p.jitter[:, 0] != 1, 0.8),
    ):
        assert abs(float(drawn.float().mean()) - probability) < 0.015
    jittered = p.jitter[p.jitter[:, 0] != 1]
    for column, (low, high) in enumerate([(0.2, 1.8)] * 3 + [(-0.2, 0.2)]):
        assert low <= float(jittered[:, column].min()) < low + 0.01
        assert high - 0.01 < float(jittered[:, column].max()) <= high
    for column, (low, high) in enumerate([(-20.0, 20.0), (-0.1, 0.1), (-0.1, 0.1), (0.5, 2.0), (-5.0, 5.0)]):
        assert low - 1e-5 <= float(p.affine[:, column].min())
        assert float(p.affine[:, column].max()) <= high + 1e-5
    assert abs(float(p.affine[:, 3].log().mean())) < 0.02


def test_the_same_seed_gives_the_same_views_and_another_seed_others() -> None:
    images = torch.rand(9, 3, 16, 16, generator=_generator())
    first, again, other = (EVERYTHING(images, _generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_the_passed_generator_is_used() -> None:
    images = torch.rand(4, 3, 16, 16, generator=_generator())
    before = torch.get_rng_state()
    EVERYTHING(images, _generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("augment", [EVERYTHING, Augment.preset("tiny", 24)], ids=["everything", "tiny"])
def test_a_sample_is_rendered_alike_alone_and_in_any_chunk(augment: Augment) -> None:
    images = torch.rand(13, 3, 32, 30, generator=_generator())
    p = augment.draw(13, 32, 30, _generator(1))
    whole = augment.render(images, p)
    for chunk in (1, 4, 13):
        torch.testing.assert_close(augment.render(images, p, chunk=chunk), whole, atol=2e-5, rtol=0)
    alone = torch.cat([augment.render(images[i : i + 1], p[i : i + 1]) for i in range(13)])
    torch.testing.assert_close(alone, whole, atol=2e-5, rtol=0)


def test_the_number_of_threads_does_not_change_a_view() -> None:
    images = torch.rand(70, 3, 100, 60, generator=_generator())
    augment = replace(EVERYTHING, size=100)
    p = augment.draw(70, 100, 60, _generator(1))
    torch.set_num_threads(1)
    alone = augment.render(images, p)
    torch.set_num_threads(3)
    together = augment.render(images, p)
    torch.testing.assert_close(alone, together, atol=2e-5, rtol=0)


def test_memory_that_is_reused_leaves_no_trace() -> None:
    large, small = torch.rand(6, 3, 70, 60, generator=_generator()), torch.rand(3, 3, 12, 12, generator=_generator(1))
    p = EVERYTHING.draw(3, 12, 12, _generator(2))
    first = EVERYTHING.render(small, p)
    kept = first.clone()
    replace(EVERYTHING, size=64)(large, _generator(3))
    assert torch.equal(first, kept)
    assert torch.equal(EVERYTHING.render(small, p), kept)


@pytest.mark.parametrize("size", [24, 150])
def test_uint8_and_float_images_agree_within_a_grey_level(size: int) -> None:
    images = torch.randint(0, 256, (8, 3, 40, 50), generator=_generator(), dtype=torch.uint8)
    weak = Augment.preset("weak", size)
    p = weak.draw(8, 40, 50, _generator(1))
    torch.testing.assert_close(weak.render(images, p), weak.render(images / 255, p), atol=1.001 / 255, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats_are_read_and_the_view_is_float32(dtype: torch.dtype) -> None:
    images = torch.rand(4, 3, 20, 20, generator=_generator()).to(dtype)
    p = EVERYTHING.draw(4, 20, 20, _generator(1))
    view = EVERYTHING.render(images, p)
    assert view.dtype == torch.float32
    torch.testing.assert_close(view, EVERYTHING.render(images.float(), p))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize(("height", "width", "size"), [(1, 1, 1), (1, 1, 8), (9, 5, (4, 7)), (12, 30, 16)])
def test_every_recipe_takes_any_channels_and_any_size(
    name: str, channels: int, height: int, width: int, size: int | tuple[int, int]
) -> None:
    images = torch.randint(0, 256, (3, channels, height, width), generator=_generator(), dtype=torch.uint8)
    view = Augment.preset(name, size)(images, _generator(1))
    assert view.shape[2:] == ((size, size) if isinstance(size, int) else size)
    assert -1e-6 <= float(view.min()) <= float(view.max()) <= 1 + 1e-6


@pytest.mark.parametrize("augment", [EVERYTHING, *(Augment.preset(name, 24) for name in PRESETS)])
def test_rendering_never_waits_for_a_value_of_the_device(augment: Augment) -> None:
    images = torch.empty(16, 3, 32, 30, dtype=torch.uint8, device="meta")
    # Tensors without content: to ask for a value of theirs is an error.
    view = augment(images, _generator())
    assert (view.shape, view.device.type) == ((16, 3, *augment.shape), "meta")


def test_a_batch_of_none_is_a_batch_of_none() -> None:
    assert EVERYTHING(torch.rand(0, 3, 8, 8), _generator()).shape == (0, 3, 20, 27)


def test_views_can_be_read_straight_from_a_memory_map(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 20, 24), dtype=np.uint8)
    pixels.tofile(tmp_path / "pixels")
    mapped = torch.from_numpy(np.memmap(tmp_path / "pixels", np.uint8, "r+", shape=pixels.shape))
    p = EVERYTHING.draw(6, 20, 24, _generator(1))
    assert torch.equal(EVERYTHING.render(mapped, p), EVERYTHING.render(torch.from_numpy(pixels), p))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_images_of_another_type_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"must be uint8 or floating point, got {dtype}"):
        EVERYTHING(torch.zeros(1, 3, 4, 4, dtype=dtype), _generator())


@pytest.mark.parametrize("name", ["simclr", "tiny", "weak", "none"])
def test_a_box_keeps_views_inside_the_image_on_its_canvas(name: str) -> None:
    images, box = torch.zeros(20, 3, 40, 50), torch.tensor([[5.0, 10.0, 20.0, 24.0]]).expand(20, 4)
    images[:, :, 5:25, 10:34] = 1
    augment = Augment.preset(name, 16)
    calm = replace(
        augment, jitter=(0.0,) * 4, blur_p=0.0, noise_std=0.0, erase_p=0.0, rotate=0.0, translate=0.0, grey_p=0.0
    )
    torch.testing.assert_close(calm(images, _generator(), box), torch.ones(20, 3, 16, 16))


def test_parameters_can_be_shared_over_frames() -> None:
    clip = torch.rand(2, 5, 3, 16, 16, generator=_generator())
    calm = replace(EVERYTHING, noise_std=0.0)
    p = calm.draw(2, 16, 16, _generator(1))
    frames = calm.render(clip.flatten(0, 1), p[torch.arange(2).repeat_interleave(5)]).unflatten(0, (2, 5))
    torch.testing.assert_close(frames[:, 3], calm.render(clip[:, 3], p), atol=2e-5, rtol=0)


def test_the_evaluation_view_is_the_resized_image_normalised() -> None:
    images = torch.randint(0, 256, (3, 3, 20, 26), generator=_generator(), dtype=torch.uint8)
    expected = (tv.resize(images / 255, [12, 12], antialias=True) - 0.5) / 0.2
    torch.testing.assert_close(eval_view(images, 12, mean=0.5, std=0.2), expected, atol=1e-4, rtol=0)
    boxed = eval_view(images, (6, 8), box=torch.tensor([[2.0, 3.0, 10.0, 15.0]]).expand(3, 4))
    expected = tv.resized_crop(images / 255, 2, 3, 10, 15, [6, 8], antialias=True)
    torch.testing.assert_close(boxed, expected, atol=1e-5, rtol=0)


def test_the_evaluation_view_at_its_own_size_is_the_image_itself() -> None:
    images = torch.randint(0, 256, (3, 2, 20, 26), generator=_generator(), dtype=torch.uint8)
    torch.testing.assert_close(eval_view(images, (20, 26)), images / 255)


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown view recipe 'simclrr'; nearest: 'simclr'"):
        Augment.preset("simclrr", 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "size must be at least 1 pixel, got 0"),
        ({"flip": 1.5}, "flip is a probability between 0 and 1, got 1.5"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale must be .low, high. with 0 < low <= high <= 1"),
        ({"crop_scale": (0.5, 1.2)}, "crop_scale must be"),
        ({"crop_ratio": (0.0, 1.0)}, "crop_ratio must be"),
        ({"jitter": (0.1, 0.1, 0.1, 0.6)}, "hue at most 0.5 turns"),
        ({"rotate": -1.0}, "rotate is a largest amount"),
        ({"blur_kernel": 4}, "blur_kernel must be an odd number"),
        ({"erase_value": 2.0}, "erase_value is a grey value between 0 and 1"),
    ],
)
def test_a_setting_out_of_range_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**changes)


def test_the_two_views_of_barlow_twins_differ_in_blur_and_solarising_alone() -> None:
    a, b = PRESETS["barlow_a"], PRESETS["barlow_b"]
    assert {f.name for f in fields(a) if getattr(a, f.name) != getattr(b, f.name)} == {"blur_p", "solarise_p"}
    assert (a.blur_p, a.solarise_p, b.blur_p, b.solarise_p) == (1.0, 0.0, 0.1, 0.2)


def test_digits_are_never_mirrored() -> None:
    p = PRESETS["tiny"].draw(1000, 8, 8, _generator())
    assert not p.flip.any()
    assert not p.vertical_flip.any()
