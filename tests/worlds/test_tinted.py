"""Tinted pictures keep what they show, and their colours are a nuisance that leaves room for small patterns."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from autodidact.data import Source, open_source
from autodidact.views.spectral import SpectralTrigger, kept_energy
from autodidact.worlds.tinted import tinted


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False).at(np.arange(600))


def test_samples_keep_ids_names_and_labels_and_the_same_colours_whenever_they_are_drawn(digits):
    world, again = tinted(digits), tinted(digits.at(np.arange(40, 80)))
    assert (world.ids == digits.ids).all()
    assert list(world.names) == list(digits.names)
    assert (world.column("label") == digits.column("label")).all()
    some = world.batch(np.arange(40, 80)).fields
    assert (some["image"] == again.batch(np.arange(40)).fields["image"]).all()
    assert (tinted(digits, seed=8).batch(np.arange(2))["image"] != world.batch(np.arange(2))["image"]).any()


def test_pixels_leave_room_for_the_trigger_of_ctrl(digits):
    images = tinted(digits).batch(np.arange(600))["image"]
    assert images.shape[1:] == (3, 32, 32)
    assert int(images.min()) >= 38
    assert int(images.max()) <= 230
    assert float(kept_energy(images, SpectralTrigger().pattern(3, 32, 32)).min()) > 0.99


def test_colours_say_nothing_of_the_label_and_shapes_do(digits):
    world = tinted(digits)
    fields, labels = world.batch(np.arange(600)).fields, np.asarray(world.column("label"))
    rows = {
        "colours": fields["truth_colours"].reshape(600, 6).numpy(),
        "shapes": fields["image"].float().mean(1)[:, 2::4, 2::4].reshape(600, 64).numpy() / 255,
    }
    scores = {
        name: LogisticRegression(max_iter=300).fit(x[:400], labels[:400]).score(x[400:], labels[400:])
        for name, x in rows.items()
    }
    assert scores["colours"] < 0.2
    assert scores["shapes"] > 0.5


def test_without_saturation_the_pictures_are_grey(digits):
    images = tinted(digits, saturation=(0.0, 0.0)).batch(np.arange(20))["image"].int()
    assert int((images.amax(1) - images.amin(1)).max()) == 0


def test_colour_images_and_impossible_saturations_are_refused(digits):
    with pytest.raises(ValueError, match="one channel, 'tinted digits' has 3"):
        tinted(tinted(digits))
    with pytest.raises(ValueError, match=r"low <= high <= 1, got \(0.5, 0.2\)"):
        tinted(digits, saturation=(0.5, 0.2))
    with pytest.raises(ValueError, match="the tinted world needs a field 'label'"):
        tinted(digits.without("label"))
