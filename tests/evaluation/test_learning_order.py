"""The picture of the order in which features are learned, where there is little to draw."""

from __future__ import annotations

import numpy as np
import torch

from autodidact.evaluation.learning_order import OrderFound
from autodidact.measures import learning_order


def test_features_that_are_learned_from_the_start_are_drawn_all_the_same():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(400, 2)))
    order = learning_order(x, x, start=0.95)
    assert all((times == 0).all() for times in order.times.values())
    for panel in OrderFound("noise", "alike", len(x), order, ("a", "b")).curves():
        assert set(panel.lines) == {"a", "b"}
        assert np.isfinite([point for line in panel.lines.values() for point in line]).all()
