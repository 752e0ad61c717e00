"""Gaussian blur against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from autodidact.views import blur
from autodidact.views.scratch import Scratch


@pytest.mark.parametrize("kernel", [1, 3, 9, 23])
@pytest.mark.parametrize("sigmas", [(0.1,), (0.5, 1.0, 2.0), (2.0, 0.1)])
def test_blur_equals_torchvisions_at_the_same_kernel_and_sigma(
    kernel: int, sigmas: tuple[float, ...], generator: torch.Generator
) -> None:
    x = torch.rand(len(sigmas), 3, 25, 31, generator=generator)
    expected = torch.stack([tv.gaussian_blur(image, kernel, sigma) for image, sigma in zip(x, sigmas, strict=True)])
    torch.testing.assert_close(blur.gaussian_blur(x, torch.tensor(sigmas), kernel), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("kernel", "shape"), [(3, (2, 3)), (9, (25, 31)), (23, (12, 40))])
def test_products_of_an_accelerator_give_the_same_blur(
    kernel: int, shape: tuple[int, int], generator: torch.Generator
) -> None:
    x = torch.rand(3, 2, *shape, generator=generator)
    # All taps, none negligible: the mirrored images of far pixels weigh too.
    taps = torch.rand(3, kernel // 2 + 1, generator=generator)
    by_products, by_additions = (way(x.clone(), taps, Scratch()) for way in (blur.by_products_, blur.by_additions_))
    torch.testing.assert_close(by_products, by_additions, atol=1e-4, rtol=1e-5)


def test_the_matrix_of_a_blur_has_each_pixel_s_weights_in_a_row() -> None:
    matrix = blur.blur_matrix(torch.tensor([[0.4, 0.2, 0.1]]), 4)
    expected = [[0.4, 0.4, 0.2, 0.0], [0.2, 0.5, 0.2, 0.1], [0.1, 0.2, 0.5, 0.2], [0.0, 0.2, 0.4, 0.4]]
    torch.testing.assert_close(matrix, torch.tensor([expected]))


def test_sigma_zero_leaves_a_sample_unchanged(generator: torch.Generator) -> None:
    x = torch.rand(2, 1, 9, 9, generator=generator)
    blurred = blur.gaussian_blur(x, torch.tensor([0.0, 1.0]), 5)
    torch.testing.assert_close(blurred[0], x[0])
    assert float((blurred[1] - x[1]).abs().max()) > 0.05


def test_weights_sum_to_one_and_small_sigmas_keep_few_taps() -> None:
    taps = blur.gaussian_taps(torch.tensor([0.1, 0.5, 1.0, 2.0]), 23)
    torch.testing.assert_close(2 * taps.sum(1) - taps[:, 0], torch.ones(4))
    assert (taps > 0).sum(1).tolist() == [1, 3, 5, 9]


@pytest.mark.parametrize("kernel", [0, 4, -3])
def test_an_even_kernel_is_refused(kernel: int) -> None:
    with pytest.raises(ValueError, match="odd number of taps"):
        blur.gaussian_blur(torch.rand(1, 1, 8, 8), torch.ones(1), kernel)


def test_a_kernel_that_cannot_be_reflected_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 9 taps for images of 5 x 12 pixels, got 11"):
        blur.gaussian_blur(torch.rand(1, 1, 5, 12), torch.ones(1), 11)
    blur.gaussian_blur(torch.rand(1, 1, 5, 12), torch.ones(1), 9)
