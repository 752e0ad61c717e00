"""Erased rectangles."""

from __future__ import annotations

import torch
from scipy.stats import ks_2samp
from torchvision.transforms import RandomErasing

from autodidact.views import erase


def test_rectangles_are_drawn_as_torchvision_draws_them(generator: torch.Generator) -> None:
    n, scale, ratio = 3000, (0.02, 0.33), (0.3, 3.3)
    ours = erase.sample_rectangles(n, (50, 40), scale, ratio, generator).double()
    torch.manual_seed(0)
    image = torch.zeros(1, 50, 40)
    theirs = torch.tensor([RandomErasing.get_params(image, scale, ratio, [0.0])[:4] for _ in range(n)]).double()
    for column in range(4):
        assert ks_2samp(ours[:, column].numpy(), theirs[:, column].numpy()).pvalue > 1e-3


def test_only_the_rectangle_of_a_sample_is_filled(generator: torch.Generator) -> None:
    x = torch.rand(3, 2, 6, 7, generator=generator)
    rectangles = torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0], [5, 6, 1, 1]])
    expected = x.clone()
    expected[0, :, 1:4, 2:6] = 0.25
    expected[2, :, 5, 6] = 0.25
    assert torch.equal(erase.erase(x, rectangles, 0.25), expected)


def test_an_image_too_small_for_any_rectangle_is_left_whole(generator: torch.Generator) -> None:
    rectangles = erase.sample_rectangles(20, (1, 1), (0.5, 1.0), (0.3, 3.3), generator)
    assert bool((rectangles[:, 2:] == 0).any(dim=1).all())


def test_all_at_once_as_an_accelerator_does_it_equals_one_by_one():
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(200, 3, 13, 9, generator=generator)
    rectangles = erase.sample_rectangles(200, (13, 9), (0.02, 0.6), (0.3, 3.3), generator)
    rectangles[::3] = 0
    rectangles[1] = torch.tensor([0, 0, 13, 9])
    one_by_one = erase.erase(x, rectangles, 0.5)
    assert not torch.equal(one_by_one, x)
    assert torch.equal(erase.erase_at_once_(x, rectangles, 0.5), one_by_one)
