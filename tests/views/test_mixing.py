"""Mixtures of images: who is mixed with whom follows from the generator, and what cannot be mixed is refused."""

from __future__ import annotations

import pytest
import torch

from autodidact.views import draw_mixing, mix


def test_every_image_is_mixed_once_and_the_share_is_uniform(generator: torch.Generator) -> None:
    drawn = [draw_mixing(5, generator) for _ in range(2000)]
    assert all(sorted(order.tolist()) == list(range(5)) for order, _ in drawn)
    shares = torch.stack([share for _, share in drawn])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.std()) == pytest.approx(12**-0.5, abs=0.02)
    partners = torch.stack([order for order, _ in drawn]).float().mean(0)
    assert torch.allclose(partners, torch.tensor(2.0), atol=0.15)


def test_equal_generators_draw_the_same_mixtures() -> None:
    one, two = (draw_mixing(7, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_a_mixture_is_the_weighted_sum_of_an_image_and_its_partner() -> None:
    first, second = torch.rand(3, 1, 2, 2), torch.rand(3, 1, 2, 2)
    mixed = mix(first, second, torch.tensor([2, 0, 1]), 0.25)
    for row, partner in enumerate((2, 0, 1)):
        assert torch.equal(mixed[row], 0.25 * first[row] + 0.75 * second[partner])
    assert torch.equal(mix(first, second, torch.tensor([2, 0, 1]), 1.0), first)


def test_mixing_before_a_normalisation_is_mixing_after_it() -> None:
    first, second, order = torch.rand(4, 3, 2, 2), torch.rand(4, 3, 2, 2), torch.tensor([1, 2, 3, 0])
    after = mix((first - 0.4) / 0.2, (second - 0.4) / 0.2, order, 0.3)
    assert torch.allclose((mix(first, second, order, 0.3) - 0.4) / 0.2, after, atol=1e-6)


@pytest.mark.usefixtures("wrong_types")
def test_what_cannot_be_mixed_is_named() -> None:
    images, order = torch.rand(3, 1, 2, 2), torch.tensor([2, 0, 1])
    with pytest.raises(ValueError, match=r"only floating-point images can be mixed, got torch\.uint8"):
        mix((255 * images).byte(), (255 * images).byte(), order, 0.5)
    with pytest.raises(ValueError, match=r"lies in \[0, 1\], got 1\.5"):
        mix(images, images, order, 1.5)
    with pytest.raises(ValueError, match=r"lies in \[0, 1\], got -0\.5"):
        mix(images, images, order, -0.5)
    with pytest.raises(ValueError, match="one shape"):
        mix(images, images[:2], order, 0.5)
