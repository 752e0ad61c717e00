"""What a method still knows: its own loss on held-out samples, and the neighbours of what it embeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import ArraySource, Field, Schema, open_source
from autodidact.encoders import build
from autodidact.evaluation.retained import held_out_loss, neighbour_accuracy
from autodidact.methods.image.barlow_twins import BarlowTwins
from autodidact.methods.method import Progress
from autodidact.model import Model


def test_the_held_out_loss_is_the_mean_over_whole_batches_and_leaves_everything_as_it_was():
    digits = open_source("digits", progress=False).at(np.arange(40))
    torch.manual_seed(0)
    method = BarlowTwins(build("small:convnet", schema=digits.schema, width=4), dimensions=8).train()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    state = torch.random.get_rng_state()
    found = held_out_loss(method, digits, 16, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert method.training
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    progress = Progress(0, 1, 0, torch.Generator().manual_seed(3))
    with torch.no_grad():
        losses = [
            method.eval().loss(method.views(digits.batch(np.arange(at, at + 16)), progress), progress).total
            for at in (0, 16)
        ]
    assert found == pytest.approx(float(sum(losses) / 2))
    assert held_out_loss(method, digits.at(np.arange(10)), 16) > 0


class Plain(Model):
    """Embeds a vector as itself."""

    kind = "plain"
    abilities = ("embed",)

    @classmethod
    def from_settings(cls, settings):
        return cls()

    def embed(self, batch):
        return batch["x"]


def test_neighbours_of_well_parted_classes_are_right_and_unknown_classes_do_not_count():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1, -1], 20)
    points = rng.normal(size=(60, 3)).astype(np.float32) * 0.1
    points[labels == 1] += 5
    points[labels == -1] += rng.normal(size=3).astype(np.float32) * 9
    schema = Schema(x=Field("vector", (3,)), label=Field("label", classes=("a", "b")))
    source = ArraySource("points", {"x": points, "label": labels}, schema, np.arange(60))
    train, held = source.at(np.arange(42)), source.at(np.arange(42, 60))
    assert neighbour_accuracy(Plain(), train, held, "label") == 1.0
