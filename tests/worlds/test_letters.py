"""Printed characters in many typefaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.worlds.letters import CHARACTERS, letters, typefaces


def test_characters_fill_their_images_and_follow_the_seed():
    made = letters(400, seed=1)
    images = made.batch(np.arange(400))["image"]
    assert images.shape == (400, 1, 28, 28)
    # Something bright, with black around it, that nearly touches two opposite edges.
    assert (images.amax((1, 2, 3)) > 200).all()
    ink = images[:, 0] > 60
    tall, wide = ink.any(2).sum(1), ink.any(1).sum(1)
    assert (torch.maximum(tall, wide) >= 20).all()
    assert made.schema["label"].classes == tuple(CHARACTERS)
    assert len({*made.column("label").tolist()}) > 45
    assert {*made.column("truth_face").tolist()} == {*range(len(typefaces()))}
    assert torch.equal(images, letters(400, seed=1).batch(np.arange(400))["image"])
    assert not torch.equal(images, letters(400, seed=2).batch(np.arange(400))["image"])


def test_a_character_looks_alike_in_all_typefaces_that_are_used():
    """None of them lacks a character: a missing one would be the same empty box for all."""
    for face in typefaces():
        made = letters(300, faces=[face], stretch=0, shear=0, seed=0)
        images, label = made.batch(np.arange(300))["image"], np.asarray(made.column("label"))
        shapes = {int(k): images[np.flatnonzero(label == k)[0]] for k in np.unique(label)}
        different = {shape.numpy().tobytes() for shape in shapes.values()}
        assert len(different) == len(shapes), face


def test_a_stretch_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"stretch is a relative change in \[0, 1\), got 1"):
        letters(3, stretch=1)
