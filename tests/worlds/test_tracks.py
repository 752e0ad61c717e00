"""Tracks of things: steady paths, other parts of a photograph behind, and the thing itself where all of it is off."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import open_source
from autodidact.worlds.tracks import tracks


@pytest.fixture(scope="module")
def digits():
    return open_source("digits", progress=False).at(np.arange(60))


def test_tracks_follow_from_the_seed_and_keep_the_label_of_their_thing(digits):
    first, again, other = (tracks(digits, 3, seed=seed) for seed in (1, 1, 2))
    at = np.arange(180)
    assert torch.equal(first.batch(at)["image"], again.batch(at)["image"])
    assert not torch.equal(first.batch(at)["image"], other.batch(at)["image"])
    assert np.array_equal(first.column("track"), np.repeat(np.arange(60), 3))
    assert np.array_equal(first.column("label"), np.repeat(digits.column("label"), 3))


def test_the_angle_goes_on_by_a_stride_and_stays_within_the_turn(digits):
    angle = tracks(digits, 6, turn=75.0, stride=25.0).column("truth_angle").reshape(60, 6)
    assert np.abs(angle).max() <= 75
    steps = np.abs(np.diff(angle, axis=1))
    assert (steps <= 25 + 1e-3).all()
    assert (np.isclose(steps, 25, atol=1e-3)).mean() > 0.6
    # Canonical viewpoints differ: first views are spread over the whole range.
    assert np.histogram(angle[:, 0], bins=3, range=(-75, 75))[0].min() > 8


def test_without_nuisance_of_rotation_photograph_and_light_a_view_is_still_of_its_thing(digits):
    plain = tracks(digits, 1, size=8, turn=0.0, stride=0.0, background=0.0, light=0.0)
    seen = plain.batch(np.arange(60))["image"].float().flatten(1)
    things = digits.batch(np.arange(60))["image"].float().flatten(1)
    nearest = torch.nn.functional.normalize(seen) @ torch.nn.functional.normalize(things).T
    assert float((nearest.argmax(1) == torch.arange(60)).float().mean()) > 0.6


def test_the_photograph_stands_behind_and_its_contrast_is_a_dial(digits):
    def corner(background):
        views = tracks(digits, 2, background=background, light=0.0).batch(np.arange(120))["image"]
        return views[:, 0, :3, :3].float().mean()

    assert corner(0.0) < 20
    assert corner(0.6) > corner(0.3) > corner(0.0) + 10


def test_a_track_has_a_view(digits):
    with pytest.raises(ValueError, match="at least 1 view"):
        tracks(digits, 0)
