"""Four kinds of images of one size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import open_source
from autodidact.worlds.kinds import LETTERS, PICTURES, enlarged, kinds


def test_there_are_as_many_images_of_each_kind_with_labels_and_draws_follow_the_seed():
    garments = open_source("digits", progress=False)
    made = kinds(garments, 160, seed=3)
    assert list(made) == ["garments", "textures", "digits", "letters"]
    for source in made.values():
        batch = source.batch(np.arange(len(source)))
        assert batch["image"].shape == (160, 1, 8, 8)
        assert batch["image"].dtype == torch.uint8
        assert len({*batch["label"].tolist()}) > 5
        assert len({*source.ids.tolist()}) == 160
    assert made["textures"].schema["label"].classes == PICTURES
    assert np.bincount(made["textures"].column("label")).tolist() == [20] * 8
    assert made["letters"].schema["label"].classes == tuple(LETTERS)
    again, other = kinds(garments, 160, seed=3), kinds(garments, 160, seed=4)
    for name, source in made.items():
        every = np.arange(160)
        assert torch.equal(source.batch(every)["image"], again[name].batch(every)["image"])
        assert not torch.equal(source.batch(every)["image"], other[name].batch(every)["image"])


def test_letters_have_ink_and_there_are_no_more_digits_than_were_written():
    made = kinds(open_source("digits", progress=False), 1_797, seed=0)
    letters = made["letters"].batch(np.arange(1_797))["image"]
    assert (letters.amax((1, 2, 3)) > 60).float().mean() > 0.95
    assert len(made["digits"]) == 1_797
    with pytest.raises(ValueError, match="there are 1797 garments, and 1798 are asked for"):
        kinds(open_source("digits", progress=False), 1_798, seed=0)


def test_an_enlarged_image_keeps_its_brightness():
    image = torch.full((1, 1, 8, 8), 100, dtype=torch.uint8)
    assert torch.equal(enlarged(image, 28), torch.full((1, 1, 28, 28), 100, dtype=torch.uint8))
