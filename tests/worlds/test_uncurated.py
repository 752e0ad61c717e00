"""Curated, balanced and uncurated garments: who is with whom, and how much of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import ArraySource, Field, Schema
from autodidact.worlds.uncurated import GROUPS, balanced, curated, pool


@pytest.fixture(scope="module")
def garments() -> ArraySource:
    rng = np.random.default_rng(0)
    images = np.zeros((3000, 1, 28, 28), dtype=np.uint8)
    images[:, :, 6:22, 10:18] = rng.integers(100, 256, (3000, 1, 16, 8))
    schema = Schema(image=Field("image", (1, 28, 28)), label=Field("label", classes=tuple("abcdefghij")))
    return ArraySource("g", {"image": images, "label": rng.integers(0, 10, 3000)}, schema, np.arange(3000))


def columns(source):
    return np.asarray(source.column("label")), np.asarray(source.column("truth_group"))


def test_outside_the_studio_a_curated_class_has_one_group(garments):
    labels, groups = columns(curated(garments, seed=1))
    assert (groups == 0).mean() == pytest.approx(0.9, abs=0.02)
    rare = groups > 0
    assert np.array_equal(groups[rare], 1 + labels[rare] % 3)


def test_in_a_balanced_set_groups_are_alike_and_say_nothing_of_the_class(garments):
    labels, groups = columns(balanced(garments, seed=1))
    assert np.bincount(groups) / 3000 == pytest.approx([0.25] * 4, abs=0.03)
    assert all(abs((groups[labels == c] == g).mean() - 0.25) < 0.08 for c in range(10) for g in range(4))


def test_a_pool_has_no_labels_skewed_groups_and_images_of_other_things(garments):
    source = pool(garments, exponent=1.0, irrelevant=0.3, seed=1)
    assert "label" not in source.schema
    groups = np.asarray(source.column("truth_group"))
    assert (groups == -1).mean() == pytest.approx(0.3, abs=0.03)
    shares = np.bincount(groups[groups >= 0]) / (groups >= 0).sum()
    assert shares == pytest.approx(np.array([1, 1 / 2, 1 / 3, 1 / 4]) / (25 / 12), abs=0.03)
    assert not set(source.ids) & set(garments.ids)


def test_groups_look_as_their_conditions_say_and_follow_from_the_seed(garments):
    few = garments.at(np.arange(400))
    source, again = balanced(few, seed=2), balanced(few, seed=2)
    images, groups = source.batch(np.arange(400))["image"].float() / 255, np.asarray(source.column("truth_group"))
    assert torch.equal(images, again.batch(np.arange(400))["image"].float() / 255)
    assert images.shape == (400, 1, 32, 32)
    corner = images[:, 0, :4, :4].std(dim=(1, 2))
    brightest = images.amax(dim=(1, 2, 3))
    assert float(corner[groups == 0].max()) == 0.0
    for code in range(1, len(GROUPS)):
        assert float(corner[groups == code].mean()) > 0.01
        assert float(brightest[groups == code].mean()) < float(brightest[groups == 0].mean())
    dark = (images[:, 0] < 0.06).all(dim=2).any(dim=1)
    assert dark[groups >= 2].all()
    assert not dark[groups < 2].any()


def test_dials_out_of_range_and_colour_images_are_refused(garments):
    with pytest.raises(ValueError, match=r"got 1\.5"):
        curated(garments, share=1.5)
    with pytest.raises(ValueError, match=r"got -1.* and 0\.2"):
        pool(garments, exponent=-1.0)
    colour = ArraySource(
        "c",
        {"image": torch.zeros(2, 3, 28, 28).byte(), "label": np.zeros(2)},
        Schema(image=Field("image", (3, 28, 28)), label=Field("label", classes=("a",))),
        np.arange(2),
    )
    with pytest.raises(ValueError, match="has 3 channels"):
        balanced(colour)
