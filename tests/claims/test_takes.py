"""The generator of the G-SimCLR claim: takes of unequal length, and how it counts negatives that should not repel."""

from __future__ import annotations

import numpy as np
import pytest

from autodidact.claims.g_simclr import CAMERA, frames_of, lengths, negatives_shared
from autodidact.data import open_source


@pytest.mark.parametrize("skew", [0.0, 1.0, 1.25])
def test_takes_have_the_asked_mean_length_and_skew(skew: float) -> None:
    counts = lengths(256, 32, skew, seed=0)
    assert len(counts) == 256
    assert counts.min() >= 2
    assert counts.mean() == pytest.approx(32, rel=0.06)
    ordered = np.sort(counts)[::-1]
    assert ordered[0] / ordered[3] == pytest.approx(4**skew, rel=0.02)
    assert np.array_equal(counts, lengths(256, 32, skew, seed=0))
    assert skew == 0 or not np.array_equal(counts, lengths(256, 32, skew, seed=1))


def test_frames_keep_label_and_take_of_their_image_and_differ_little_from_it() -> None:
    digits = open_source("digits").at(np.arange(20))
    counts = np.arange(1, 21)
    frames = frames_of(digits, counts, 16, CAMERA, seed=3)
    assert len(frames) == counts.sum()
    take = np.asarray(frames.column("take"))
    assert np.array_equal(np.bincount(take), counts)
    assert np.array_equal(frames.column("label"), np.asarray(digits.column("label"))[take])
    assert np.array_equal(frames.column("block"), np.arange(len(frames)) // 16)
    before = digits.batch(np.arange(20))["image"].float() / 255
    after = frames.batch(np.arange(len(frames)))["image"].float() / 255
    distance = (after[:, None] - before[None]).flatten(2).square().sum(-1)
    # A frame is nearer to its own image than to any other.
    assert np.array_equal(distance.argmin(1).numpy(), take)
    assert distance.min(1).values.min() > 0


def test_shared_negatives_are_counted_over_ordered_pairs() -> None:
    values = np.array([0, 0, 1, 2, 1, 1])
    # (0, 0, 1): 2 of 6 ordered pairs; (2, 1, 1): 2 of 6.
    assert negatives_shared(values, [np.array([0, 1, 2]), np.array([3, 4, 5])]) == pytest.approx(100 / 3)
