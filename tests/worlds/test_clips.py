"""A clip shows its thing where its boxes say, and nothing else moves but what its dials name."""

from __future__ import annotations

import numpy as np

from autodidact.worlds.clips import clip

STILL = {"camera": 0.0, "speed": 0.0, "growth": 0.0, "noise": 0.0}


def test_a_clip_differs_from_the_same_without_its_thing_inside_the_boxes_only():
    shown, bare = clip(8, seed=3, noise=0.0), clip(8, seed=3, noise=0.0, size=0.0)
    rows, columns = np.mgrid[0:180, 0:240]
    for k in (0, 7):
        x, y, w, h = shown.boxes[k]
        inside = (columns >= x) & (columns <= x + w) & (rows >= y) & (rows <= y + h)
        other = (shown.frames[k] != bare.frames[k]).any(axis=2)
        assert not (other & ~inside).any()
        assert other[inside].mean() > 0.6  # a disc covers 0.79 of its box


def test_the_thing_moves_by_its_speed_and_stays_in_the_picture():
    made = clip(60, seed=0, camera=0.0, growth=0.0, speed=5.0)
    middles = made.boxes[:, :2] + made.boxes[:, 2:] / 2
    assert np.allclose(np.linalg.norm(np.diff(middles, axis=0), axis=1), 5.0)
    assert (made.boxes[:, :2] >= -1e-9).all()
    assert (made.boxes[:, :2] + made.boxes[:, 2:] <= np.array([240, 180]) + 1e-9).all()


def test_with_all_dials_at_zero_only_the_light_changes():
    first, second = clip(2, seed=1, **STILL).frames.astype(float)
    bright = first > 30
    ratio = second[bright] / first[bright]
    assert ratio.std() < 0.02


def test_the_camera_shifts_what_is_behind():
    made = clip(3, seed=2, size=0.0, noise=0.0, camera=4.0)
    change = np.abs(np.diff(made.frames.astype(float), axis=0)).mean()
    still = clip(3, seed=2, size=0.0, noise=0.0, camera=0.0)
    assert change > 3 * np.abs(np.diff(still.frames.astype(float), axis=0)).mean()


def test_a_seed_gives_the_same_clip_again():
    assert np.array_equal(clip(3, seed=5).frames, clip(3, seed=5).frames)
    assert not np.array_equal(clip(3, seed=5).frames, clip(3, seed=6).frames)
