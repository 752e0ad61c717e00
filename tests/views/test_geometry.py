"""Crops, resampling and affine maps against torchvision."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import ks_2samp
from torchvision.transforms import InterpolationMode, RandomResizedCrop
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


def test_resized_crop_mirrors_where_asked(generator: torch.Generator) -> None:
    x = torch.rand(4, 2, 9, 12, generator=generator)
    crops = torch.tensor([[1, 2, 6, 7]]).expand(4, 4)
    flip, turn = torch.tensor([False, True, False, True]), torch.tensor([False, False, True, True])
    plain = geometry.resized_crop(x, crops, (5, 8))
    both = geometry.resized_crop(x, crops, (5, 8), "bilinear", flip, turn)
    torch.testing.assert_close(both[1], plain[1].flip(2))
    torch.testing.assert_close(both[2], plain[2].flip(1))
    torch.testing.assert_close(both[3], plain[3].flip(1, 2))
    torch.testing.assert_close(both[0], plain[0])


@pytest.mark.parametrize("size", [(8, 8), (170, 170)])
def test_resized_crop_takes_the_named_samples(size: tuple[int, int], generator: torch.Generator) -> None:
    x = torch.randint(0, 256, (5, 3, 40, 56), generator=generator, dtype=torch.uint8)
    some = torch.tensor([4, 1])
    taken = geometry.resized_crop(x, CROPS[some], size, samples=some)
    assert torch.equal(taken, geometry.resized_crop(x, CROPS, size)[some])


def test_a_window_of_one_pixel_fills_the_view(generator: torch.Generator) -> None:
    x = torch.randint(0, 256, (1, 3, 9, 9), generator=generator, dtype=torch.uint8)
    for size in ((4, 4), (300, 300)):
        view = geometry.resized_crop(x, torch.tensor([[3, 8, 1, 1]]), size)
        torch.testing.assert_close(view, (x[:, :, 3:4, 8:9] / 255).expand_as(view))


SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def test_crops_are_drawn_as_torchvision_draws_them(generator: torch.Generator) -> None:
    n, height, width = 4000, 60, 90
    ours = geometry.sample_crops(torch.tensor([[0, 0, height, width]]).expand(n, 4), SCALE, RATIO, generator).double()
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(n)]).double()
    for what in (
        lambda c: c[:, 2] * c[:, 3] / (height * width),
        lambda c: (c[:, 3] / c[:, 2]).log(),
        lambda c: c[:, 0] + c[:, 2] / 2,
        lambda c: c[:, 1] + c[:, 3] / 2,
        lambda c: c[:, 2],
    ):
        assert ks_2samp(what(ours).numpy(), what(theirs).numpy()).pvalue > 1e-3


def test_every_crop_lies_in_its_box(generator: torch.Generator) -> None:
    boxes = torch.tensor([[0, 0, 1, 1], [2, 3, 7, 40], [5, 0, 50, 2], [1, 1, 30, 31]]).repeat(200, 1)
    crops = geometry.sample_crops(boxes, (0.01, 1.0), (0.5, 2.0), generator)
    assert bool((crops[:, 2:] >= 1).all())
    assert bool((crops[:, :2] >= boxes[:, :2]).all())
    assert bool((crops[:, :2] + crops[:, 2:] <= boxes[:, :2] + boxes[:, 2:]).all())


@pytest.mark.parametrize(("box", "expected"), [((0, 0, 10, 100), (0, 43, 10, 13)), ((0, 0, 100, 10), (43, 0, 13, 10))])
def test_a_box_that_no_try_fits_gives_torchvisions_central_crop(
    box: tuple[int, ...], expected: tuple[int, ...], generator: torch.Generator
) -> None:
    crop = geometry.sample_crops(torch.tensor([box]), (1.0, 1.0), RATIO, generator)
    image = torch.empty(3, box[2], box[3])
    assert RandomResizedCrop.get_params(image, [1.0, 1.0], list(RATIO)) == expected
    assert tuple(crop[0].tolist()) == expected


def test_boxes_are_rounded_and_cut_to_the_canvas() -> None:
    box = torch.tensor([[0.4, -3.0, 4.2, 8.0], [1.0, 2.0, 99.0, 2.6]])
    assert geometry.whole_boxes(2, 10, 12, box).tolist() == [[0, 0, 5, 5], [1, 2, 9, 3]]


@pytest.mark.parametrize("box", [[0, 0, 0, 5], [10, 0, 3, 3], [0, float("nan"), 3, 3]])
def test_a_box_that_holds_no_pixel_is_named(box: list[float]) -> None:
    with pytest.raises(ValueError, match=r"box 1 is .* 10 x 12 canvas"):
        geometry.whole_boxes(2, 10, 12, torch.tensor([[0.0, 0, 2, 2], box]))


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_an_affine_view_of_the_whole_image_equals_grid_sample_of_the_forward_map(
    padding: str, generator: torch.Generator
) -> None:
    x = torch.rand(3, 2, 15, 15, generator=generator)
    crops = torch.tensor([[0, 0, 15, 15]]).expand(3, 4)
    angle, shear = torch.tensor([30.0, -75.0, 0.0]), torch.tensor([0.0, 10.0, -25.0])
    zoom, shift = torch.tensor([1.0, 1.3, 0.7]), torch.tensor([[0.0, 0.0], [2.0, -1.0], [-3.0, 4.0]])
    matrix = geometry.affine_matrix(angle, shift, zoom, shear)
    forward = torch.zeros(3, 3, 3, dtype=torch.float64)
    for i in range(3):
        turn, slant = math.radians(angle[i].item()), math.tan(math.radians(shear[i].item()))
        rotate = torch.tensor(
            [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]], dtype=torch.float64
        )
        forward[i, :2, :2] = zoom[i].item() * rotate @ torch.tensor([[1, slant], [0, 1]], dtype=torch.float64)
        forward[i, :2, 2] = shift[i]
        forward[i, 2, 2] = 1
    scale = torch.diag(torch.tensor([2 / 15, 2 / 15, 1.0], dtype=torch.float64))
    theta = (scale @ torch.linalg.inv(forward) @ torch.linalg.inv(scale))[:, :2].float()
    grid = F.affine_grid(theta, [3, 2, 15, 15], align_corners=False)
    expected = F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    torch.testing.assert_close(geometry.affine_crop(x, crops, matrix, (15, 15), padding), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("angle", [90.0, -30.0, 12.5])
def test_rotation_turns_as_torchvisions_rotate_does(angle: float, generator: torch.Generator) -> None:
    x = torch.rand(1, 3, 21, 21, generator=generator)
    one, none = torch.ones(1), torch.zeros(1)
    matrix = geometry.affine_matrix(torch.tensor([angle]), torch.zeros(1, 2), one, none)
    ours = geometry.affine_crop(x, torch.tensor([[0, 0, 21, 21]]), matrix, (21, 21))
    expected = tv.rotate(x, angle, InterpolationMode.BILINEAR)
    # torchvision fills whatever touches the outside; inside the common disc the two are one interpolation.
    at = torch.arange(21) - 10
    disc = (at[:, None] ** 2 + at**2) < 81
    torch.testing.assert_close(ours[..., disc], expected[..., disc], atol=1e-4, rtol=0)


def test_an_affine_crop_without_motion_is_the_crop(generator: torch.Generator) -> None:
    x = torch.rand(2, 3, 30, 40, generator=generator)
    crops = torch.tensor([[3, 4, 20, 24], [0, 10, 30, 30]])
    still = geometry.affine_matrix(torch.zeros(2), torch.zeros(2, 2), torch.ones(2), torch.zeros(2))
    ours = geometry.affine_crop(x, crops, still, (32, 36), "border")
    inner = slice(2, -2)  # at a crop's border the affine crop still sees the image beyond it
    expected = geometry.resized_crop(x, crops, (32, 36))
    torch.testing.assert_close(ours[..., inner, inner], expected[..., inner, inner], atol=1e-5, rtol=0)


def test_an_affine_crop_of_a_large_canvas_is_averaged_not_aliased() -> None:
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    still = geometry.affine_matrix(torch.zeros(1), torch.zeros(1, 2), torch.ones(1), torch.zeros(1))
    view = geometry.affine_crop(stripes, torch.tensor([[0, 0, 64, 64]]), still, (16, 16))
    torch.testing.assert_close(view, torch.full_like(view, 0.5), atol=1e-5, rtol=0)
