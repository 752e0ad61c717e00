"""What every member of the ViT suite owes it: on one small vision transformer, in twenty updates, its loss falls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from autodidact.catalog import cards, target
from autodidact.compare.vit_suite import CARD
from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.methods.method import Loss, Progress, Views
from autodidact.training import Settings, train

HEADS: dict[str, dict[str, Any]] = {
    "rotation": {"view": "none"},
    "jigsaw": {"orders": 4, "each": 64, "together": 64, "dropout": 0.0, "gap": 0.0, "normalise": False},
    "beit": {"codes": 32, "fit": 1_000},
    "moco_v3": {"hidden": 32, "dimensions": 16},
    "swav": {"prototypes": 16, "local_count": 1},
    "dino": {"centring": "sinkhorn", "prototypes": 32, "hidden": 32, "bottleneck": 16, "local_count": 1},
    "byol": {"hidden": 32, "dimensions": 16},
    "i_jepa": {"depth": 1},
    "barlow_twins": {"dimensions": 8},
    "vicreg": {"dimensions": 8},
    "ibot": {"centring": "sinkhorn", "prototypes": 32, "hidden": 32, "bottleneck": 16, "local_count": 1},
    "sit": {"hidden": 32, "dimensions": 16},
}
"""Small heads and easy tasks, with which so few updates show something."""
SLOW = {"vicreg": 0.99}
"""VICReg's terms of variance and covariance hold each other up at first."""


@pytest.mark.parametrize("name", CARD.members)
def test_the_loss_falls_in_twenty_updates(name: str) -> None:
    """DINO and iBOT are balanced by Sinkhorn-Knopp here: a centred loss rises while its centre settles. Images are
    turned without being cropped first, which makes rotation too hard for so few updates."""
    losses = losses_of(name, HEADS.get(name, {}), steps=20, lr=1e-2)
    assert len(losses) == 20
    assert all(np.isfinite(losses))
    assert np.mean(losses[-3:]) < SLOW.get(name, 0.95) * np.mean(losses[:3])


@pytest.mark.parametrize(("name", "terms", "options"), [("dino", 1, {"norm": "batch"}), ("ibot", 2, {})])
def test_a_centred_loss_falls_once_its_centre_has_settled(name: str, terms: int, options: dict[str, Any]) -> None:
    """And below what all prototypes alike would give, which is where a collapse ends."""
    heads = {key: value for key, value in HEADS[name].items() if key != "centring"}
    losses = losses_of(name, heads | options, steps=100, lr=3e-3)
    by_ten = np.mean(np.reshape(losses, (10, 10)), axis=1)
    assert by_ten[-1] < 0.95 * by_ten.max()
    assert by_ten[-1] < 0.98 * terms * np.log(heads["prototypes"])


def losses_of(name: str, options: dict[str, Any], *, steps: int, lr: float) -> list[float]:
    torch.manual_seed(0)
    network = "small:vit?width=16&depth=1&heads=2&patch=2&registers=1"
    encoder = build(network, image_size=8, channels=1, statistics=([0.3], [0.35]))
    method, losses = target(cards()[name])(encoder, **options), list[float]()
    plain = method.loss

    def loss(views: Views, progress: Progress) -> Loss:
        found = plain(views, progress)
        losses.append(float(found.total.detach()))
        return found

    method.loss = loss
    source = open_source("digits", progress=False).at(np.arange(256))
    train(method, source, Settings(steps=steps, batch_size=64, lr=lr, accelerator="cpu"), quiet=True)
    return losses
