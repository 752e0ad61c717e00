"""GMML's block corruption: the statistics its sheet asks for, exact fills, and an end for every size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label
from torch import Tensor

from autodidact.views import FILLS, gmml_corruption, gmml_mask, random_mask


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(n: int = 8, c: int = 3, h: int = 28, w: int = 28, seed: int = 9) -> Tensor:
    return torch.randn(n, c, h, w, generator=_generator(seed))


def _shares(mask: Tensor) -> Tensor:
    return mask.float().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("align", [1, 4])
def test_the_corrupted_share_lies_between_half_and_three_quarters_plus_one_block(align: int) -> None:
    shares = _shares(gmml_mask(500, (28, 28), _generator(), align=align))
    assert float(shares.min()) >= 0.5
    assert float(shares.max()) <= 0.75 + 0.3**2
    # The target is uniform on [0.5, 0.75]; the last block adds a little.
    assert 0.625 < float(shares.mean()) < 0.66
    assert float(shares.std()) > 0.05


def test_below_a_half_the_share_is_r_max_itself() -> None:
    shares = _shares(gmml_mask(300, (28, 28), _generator(), r_max=0.3))
    assert float(shares.min()) >= 0.3
    assert float(shares.mean()) < 0.34


def test_rectangles_are_added_until_the_target_is_reached_as_in_the_authors_loop() -> None:
    """The mean number of corrupted pixels and of connected pieces equal those of a plain loop over rectangles.

    GMML_drop_rand_patches of datasets/datasets_utils.py in Sara-Ahmed/GMML at commit 1882712 was run as well, once,
    outside the suite. Given the rectangles and the target areas drawn here, it makes the same mask and the same alien
    pixels bit for bit, for all of the 2,122 of 2,500 images that need no more than 62 rectangles (28, 32 and 64 x 48
    pixels, align 1, 4 and 8, r_max 0.75 and 0.3). With its own draws, 2,000 masks in each of six settings have the same
    shares (Kolmogorov-Smirnov p from 0.29 up) and mean numbers of pieces (within 1.3 standard errors).

    Up to 62 rectangles are drawn in a round here; 34 and 41 % of images of 28 and 32 pixels need more at align 1 and
    r_max 0.75. For targets of 72 to 75 % of 28 x 28 pixels pieces are 2.30 here and 2.27 there, the corrupted share of
    the first row 0.324 and 0.323.
    """

    def by_loop(generator: torch.Generator, h: int, w: int) -> Tensor:
        def uniform(low: int, high: int) -> int:
            return int(torch.randint(low, high, (), generator=generator))

        mask = torch.zeros(h, w, dtype=torch.bool)
        target = (0.5 + 0.25 * float(torch.rand((), generator=generator))) * h * w
        while int(mask.sum()) < target:
            top, left = uniform(0, h - 1), uniform(0, w - 1)
            height, width = min(uniform(1, int(0.3 * h)), h - top), min(uniform(1, int(0.3 * w)), w - left)
            mask[top : top + height, left : left + width] = True
        return mask

    slow = torch.stack([by_loop(_generator(seed), 24, 20) for seed in range(300)])
    fast = gmml_mask(2000, (24, 20), _generator())[:, 0]
    assert abs(float(slow.float().mean()) - float(fast.float().mean())) < 0.015
    torch.testing.assert_close(fast.float().mean(0), slow.float().mean(0), atol=0.13, rtol=0)
    pieces = [sum(label(mask.numpy())[1] for mask in masks) / len(masks) for masks in (slow, fast[:300])]
    assert abs(pieces[0] - pieces[1]) < 0.5


def test_groups_are_larger_than_those_of_isolated_patches_at_the_same_share() -> None:
    groups = gmml_mask(50, (28, 28), _generator(), align=4)[:, 0, ::4, ::4]
    isolated = torch.cat([random_mask(1, 49, int(mask.sum()), _generator(i)) for i, mask in enumerate(groups)])

    def piece(mask: Tensor) -> float:
        numbered, pieces = label(mask.numpy())
        return float((numbered > 0).sum()) / pieces

    ours = sum(piece(mask) for mask in groups) / 50
    assert ours > 1.5 * sum(piece(mask.view(7, 7)) for mask in isolated) / 50


def test_the_mask_is_where_the_image_changed() -> None:
    images = _images()
    corrupted, mask = gmml_corruption(images, _generator())
    assert torch.equal((corrupted != images).all(dim=1, keepdim=True), mask)
    assert torch.equal((corrupted != images).any(dim=1, keepdim=True), mask)


def test_noise_is_standard_normal() -> None:
    corrupted, mask = gmml_corruption(torch.zeros(20, 3, 28, 28), _generator())
    noise = corrupted[mask.expand_as(corrupted)]
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02


def test_zeros_are_zeros() -> None:
    images = _images()
    corrupted, mask = gmml_corruption(images, _generator(), fill="zeros")
    torch.testing.assert_close(corrupted, images.masked_fill(mask, 0.0))


def test_alien_pixels_are_the_donors_at_the_same_place() -> None:
    images, donors = _images(4), torch.tensor([1, 2, 3, 0])
    corrupted, mask = gmml_corruption(images, _generator(), fill="alien", donors=donors)
    assert torch.equal(corrupted, torch.where(mask, images[donors], images))


def test_an_image_that_is_its_own_donor_keeps_its_pixels_under_a_mask() -> None:
    images = _images(3)
    corrupted, mask = gmml_corruption(images, _generator(), fill="alien", donors=torch.arange(3))
    assert torch.equal(corrupted, images)
    assert float(_shares(mask).min()) >= 0.5


@pytest.mark.parametrize("align", [1, 4])
def test_self_pixels_come_from_a_moved_place_of_the_same_clean_image(align: int) -> None:
    h, w = 24, 20
    numbered = torch.arange(h * w, dtype=torch.float32).view(1, 1, h, w).expand(5, 1, h, w)
    corrupted, mask = gmml_corruption(numbered, _generator(), fill="self", align=align)
    assert set(corrupted.unique().tolist()) <= set(numbered.unique().tolist())
    source = corrupted.long()
    rows = source.div(w, rounding_mode="floor") - torch.arange(h)[:, None]
    columns = source % w - torch.arange(w)
    assert not rows[~mask].any()
    assert not columns[~mask].any()
    assert not (rows % align).any()
    # Inside a rectangle all pixels move together: far fewer moves than pixels.
    moves = {(int(r), int(c)) for r, c in zip(rows[0][mask[0]], columns[0][mask[0]], strict=True)}
    assert len(moves) < 0.3 * int(mask[0].sum())


def test_some_images_are_taken_clean_and_get_alien_blocks_instead() -> None:
    """Shares over both stages are those of the authors' loader and GMML_replace_list.

    Sara-Ahmed/GMML at commit 1882712, run once outside the suite on 2,000 images of 24 pixels: 0.475 and 0.474 on
    average, Kolmogorov-Smirnov p 0.79.
    """
    images = _images(400, 1, 16, 16)
    donors = (torch.arange(400) + 1) % 400
    corrupted, mask = gmml_corruption(images, _generator(), alien_p=0.5, donors=donors)
    alien = (torch.where(mask, images[donors], images) == corrupted).flatten(1).all(1)
    assert 0.4 < float(alien.float().mean()) < 0.6
    assert float(_shares(mask)[alien].max()) < 0.3 + 0.3**2
    assert float(_shares(mask)[~alien].min()) >= 0.5


def test_the_same_seed_gives_the_same_corruption() -> None:
    images = _images()
    for fill in FILLS:
        first, again = (gmml_corruption(images, _generator(3), fill=fill, alien_p=0.3) for _ in range(2))
        assert torch.equal(first.images, again.images)
        assert torch.equal(first.mask, again.mask)
    assert not torch.equal(gmml_corruption(images, _generator(4)).mask, gmml_corruption(images, _generator(3)).mask)


def test_the_input_is_left_alone() -> None:
    images = _images()
    kept = images.clone()
    for fill in FILLS:
        gmml_corruption(images, _generator(), fill=fill)
    assert torch.equal(images, kept)


@given(
    h=st.integers(1, 40),
    w=st.integers(1, 40),
    align=st.integers(1, 40),
    r_max=st.floats(0.01, 1),
    max_block=st.floats(0.01, 1),
    seed=st.integers(0, 9),
)
def test_every_size_alignment_and_share_comes_to_an_end_at_its_target(
    h: int, w: int, align: int, r_max: float, max_block: float, seed: int
) -> None:
    align = min(align, h, w)
    mask = gmml_mask(2, (h, w), _generator(seed), r_max=r_max, align=align, max_block=max_block)[:, 0]
    reach = (h // align * align) * (w // align * align)
    assert int(mask.flatten(1).sum(1).min()) >= min(int(min(0.5, r_max) * h * w), reach)
    cells = mask[:, : h // align * align, : w // align * align].unfold(1, align, align).unfold(2, align, align)
    assert bool((cells.all(dim=(3, 4)) == cells.any(dim=(3, 4))).all())


def test_patches_of_half_the_image_work_where_the_authors_code_fails() -> None:
    """GMML_drop_rand_patches at commit 1882712 raises "low >= high" here: randint(16, int(0.3 * 32))."""
    assert set(_shares(gmml_mask(20, (32, 32), _generator(), align=16)).tolist()) <= {0.5, 0.75}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r_max": 0.0}, "r_max must be a share"),
        ({"r_max": 1.1}, "r_max must be a share"),
        ({"alien_r_max": 1.1}, "alien_r_max must be a share"),
        ({"align": 29}, "align must be between 1 and the image's shorter side .28 px., got 29"),
        ({"align": 0}, "align must be between"),
        ({"max_block": 0.0}, "max_block must be a share"),
        ({"alien_p": 1.5}, "alien_p is a probability"),
    ],
)
def test_a_setting_out_of_range_is_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gmml_corruption(_images(2), _generator(), **options)


def test_a_batch_of_one_has_no_aliens() -> None:
    with pytest.raises(ValueError, match="this batch has one image"):
        gmml_corruption(_images(1), _generator(), fill="alien")
    assert gmml_corruption(_images(1), _generator()).mask.any()
