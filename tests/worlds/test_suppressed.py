"""Worlds in which one feature is easy: what is added, what is independent, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import ArraySource, Field, Source, open_source
from autodidact.data.schema import Schema
from autodidact.worlds.open_set import KINDS, open_set
from autodidact.worlds.suppressed import composite, random_bits


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False).at(np.arange(400))


@pytest.fixture(scope="module")
def garments() -> Source:
    """Images of 28 x 28 pixels whose label is their brightness."""
    label = np.arange(300) % 10
    pixels = torch.from_numpy(20 * label + 40)[:, None, None, None].expand(-1, 1, 28, 28).to(torch.uint8)
    schema = Schema(image=Field("image", (1, 28, 28)), label=Field("label", classes=tuple("abcdefghij")))
    return ArraySource("garments", {"image": pixels, "label": label}, schema, np.arange(300))


def images(source: Source) -> torch.Tensor:
    return source.batch(np.arange(len(source)))["image"]


def test_bits_stand_in_channels_of_their_own_and_leave_the_image_alone(digits):
    made = random_bits(digits, 3, seed=0)
    shown = images(made)
    assert torch.equal(shown[:, :1], images(digits))
    bits = (shown[:, 1:] > 0).long()
    assert set(shown[:, 1:].unique().tolist()) == {0, 255}
    assert torch.equal(bits, bits[:, :, :1, :1].expand_as(bits))
    code = 4 * bits[:, 0, 0, 0] + 2 * bits[:, 1, 0, 0] + bits[:, 2, 0, 0]
    assert np.array_equal(made.column("truth_bits"), code.numpy())
    assert np.array_equal(made.column("label"), digits.column("label"))
    assert np.array_equal(made.ids, digits.ids)


def test_bits_are_fair_coins_that_follow_from_the_seed(digits):
    made = [np.asarray(random_bits(digits, 4, seed=seed).column("truth_bits")) for seed in (0, 0, 1)]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])
    assert abs(np.mean([code >> k & 1 for code in made for k in range(4)]) - 0.5) < 0.05


def test_no_bits_are_the_images_as_they_were(digits):
    assert torch.equal(images(random_bits(digits, 0, seed=0)), images(digits))


def test_the_three_parts_of_a_composite_are_independent_and_follow_from_the_seed(garments):
    first, again, other = (composite(garments, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(images(first), images(again))
    assert not torch.equal(images(first), images(other))
    columns = [np.asarray(first.column(name)) for name in ("label", "truth_colours", "truth_digit")]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(columns[a], columns[b])[0, 1]) < 0.15


@pytest.mark.parametrize("stripes", [1, 2])
def test_the_left_half_of_a_composite_shows_its_colours_and_nothing_else(garments, stripes):
    made = composite(garments, stripes=stripes, seed=0)
    code = np.asarray(made.column("truth_colours"))
    height = 32 // stripes
    for k in range(stripes):
        left = images(made)[:, :, k * height : (k + 1) * height, :16].float().mean((2, 3))
        hue = left / left.sum(1, keepdim=True)
        colour = torch.from_numpy(code // 10 ** (stripes - 1 - k) % 10)
        centres = torch.stack([hue[colour == c].mean(0) for c in range(10)])
        assert torch.equal(torch.cdist(hue, centres).argmin(1), colour)


def test_the_digits_of_a_held_part_are_other_ones_than_those_of_training(garments):
    train, held = (composite(garments, part=part, seed=0) for part in ("train", "held"))
    assert not np.array_equal(train.column("truth_digit"), held.column("truth_digit"))


def test_an_open_set_holds_the_asked_share_of_relevant_images_and_the_other_kinds_alike(garments):
    relevant = garments.at(np.arange(100))
    pool = open_set(relevant, garments, 400, share=0.1, seed=0)
    counts = np.bincount(np.asarray(pool.column("truth_kind")))
    assert counts.tolist() == [40, 90, 90, 90, 90]
    assert len(counts) == len(KINDS)
    shown = {row.tobytes() for row in images(pool)[np.asarray(pool.column("truth_kind")) == 0].numpy()}
    assert shown <= {row.tobytes() for row in images(relevant).numpy()}
    assert images(pool).shape == (400, 1, 28, 28)
    assert len(np.unique(pool.ids)) == 400
    assert torch.equal(images(pool), images(open_set(relevant, garments, 400, share=0.1, seed=0)))


def test_numbers_that_make_no_sense_are_refused(digits, garments):
    with pytest.raises(ValueError, match="negative"):
        random_bits(digits, -1, seed=0)
    with pytest.raises(ValueError, match="at most 300 relevant"):
        open_set(garments, garments, 10_000, share=0.5, seed=0)
