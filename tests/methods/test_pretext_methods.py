"""Rotation, jigsaw and patch position: what is asked, of convolutional networks and of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.image.jigsaw import Jigsaw
from autodidact.methods.image.patch_position import PatchPosition
from autodidact.methods.image.rotation import Rotation
from autodidact.methods.method import Progress
from autodidact.training import Settings, train

NETWORKS = ["small:convnet?width=4", "small:vit?width=16&depth=1&heads=2"]


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def made(cls, source, name=NETWORKS[1], **options):
    torch.manual_seed(0)
    return cls(build(name, schema=source.schema), **options)


def progress(step=0):
    return Progress(step, 100, 0, torch.Generator().manual_seed(step))


@pytest.mark.parametrize("name", NETWORKS)
def test_rotation_asks_of_four_turns_of_each_image(digits, name):
    method = made(Rotation, digits, name, view="none").eval()
    views = method.views(digits.batch(np.arange(3)), progress())
    shown = views["shown"].unflatten(0, (3, 4))
    for k in range(4):
        torch.testing.assert_close(shown[:, k], torch.rot90(shown[:, 0], k, (-2, -1)))
    loss = method.loss(views, progress())
    logits = method.task.head(method.encoder(views["shown"]).pooled)
    labels = torch.tensor([0, 1, 2, 3] * 3)
    torch.testing.assert_close(loss.total, cross_entropy(logits, labels))
    assert float(loss.terms["right"]) == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert loss.watch["embedding"].shape == (3, method.encoder.width)


@pytest.mark.parametrize("name", NETWORKS)
def test_jigsaw_asks_in_which_order_tiles_in_their_own_units_lie(digits, name):
    method = made(Jigsaw, digits, name, orders=7, each=8, together=8, view="none").eval()
    views = method.views(digits.batch(np.arange(4)), progress())
    assert views["shown"].shape == (36, 1, 8, 8)
    seen = method.encoder.normalise(views["shown"])
    torch.testing.assert_close(seen.mean(dim=(2, 3)), torch.zeros(36, 1), atol=1e-3, rtol=0)
    logits = method.task.head(method.encoder(views["shown"]).pooled.unflatten(0, (4, 9)))
    assert logits.shape == (4, 7)
    torch.testing.assert_close(method.loss(views, progress()).total, cross_entropy(logits, views["done"]))


def test_with_a_gap_no_tile_of_the_jigsaw_goes_on_in_the_next(digits):
    wide, close = (made(Jigsaw, digits, gap=gap, normalise=False, view="none") for gap in (0.5, 0.0))
    assert (wide.task.size, close.task.size) == ((48, 48), (24, 24))
    batch = digits.batch(np.arange(4))
    first, second = (wide.views(batch, progress(step))["shown"] for step in (0, 1))
    assert not torch.equal(first, second)


def test_patch_position_asks_of_patches_without_position_where_they_belong(digits):
    method = made(PatchPosition, digits, share=0.3).eval()
    views = method.views(digits.batch(np.arange(5)), progress())
    assert views["unplaced"].sum(1).tolist() == [5] * 5
    tokens = method.encoder(views["images"], unplaced=views["unplaced"]).tokens
    losses = [
        cross_entropy(method.head(tokens[n, t]).double(), torch.tensor(t))
        for n, t in views["unplaced"].nonzero().tolist()
    ]
    torch.testing.assert_close(method.loss(views, progress()).total.double(), torch.stack(losses).mean())


def test_where_all_positions_are_dropped_patches_alike_cannot_be_told_apart(digits):
    method = made(PatchPosition, digits, share=1.0).eval()
    views = method.views(digits.batch(np.arange(2)), progress())
    assert views["unplaced"].all()
    views.named["images"] = torch.full_like(views["images"], 0.4)
    logits = method.head(method.encoder(views["images"], unplaced=views["unplaced"]).tokens)
    torch.testing.assert_close(logits, logits[:, :1].expand_as(logits))
    method.loss(views, progress()).total.backward()
    patches = method.encoder.model.pos_embed.grad[:, 1:]
    assert not patches.any()


@pytest.mark.parametrize(
    ("cls", "options", "said"),
    [
        (Rotation, {"hidden": -1}, "hidden must not be negative"),
        (Rotation, {"dropout": 1.0}, r"dropout lies in \[0, 1\)"),
        (Jigsaw, {"gap": 1.0}, "gap is a share of a tile's side"),
        (Jigsaw, {"orders": 1}, "at least 2 orders"),
        (Jigsaw, {"dropout": -0.1}, "dropout is a probability"),
        (PatchPosition, {"share": 0.0}, "share is a share of the patches"),
        (PatchPosition, {"share": 1.2}, "share is a share of the patches"),
        (Rotation, {"view": "weaks"}, "nearest: 'weak'"),
    ],
)
def test_options_out_of_range_are_refused(digits, cls, options, said):
    with pytest.raises(ValueError, match=said):
        made(cls, digits, **options)


def test_what_an_encoder_cannot_do_is_refused():
    with pytest.raises(ValueError, match="'rotation' needs square images, got 8 x 12"):
        Rotation(build("small:vit?width=8&depth=1&heads=2", image_size=(8, 12), channels=1))
    with pytest.raises(ValueError, match="needs a plain vision transformer such as small:vit, got small:convnet"):
        PatchPosition(build("small:convnet", image_size=8, channels=1))


@pytest.mark.parametrize(
    ("cls", "name", "options"),
    [
        (Rotation, "small:convnet?width=8", {}),
        (Jigsaw, "small:convnet?width=8", {"orders": 4, "dropout": 0.0, "gap": 0.0}),
        (PatchPosition, "small:vit?width=32&depth=2&heads=2", {}),
    ],
)
def test_the_answers_become_better_than_guesses(digits, cls, name, options):
    method = made(cls, digits, name, view="none", **options)
    train(method, digits.at(np.arange(512)), Settings(steps=60, batch_size=32, lr=3e-3), quiet=True)
    views = method.eval().views(digits.batch(np.arange(600, 700)), progress(7))
    with torch.no_grad():
        right = float(method.loss(views, progress()).terms["right"])
    guessed = 1 / (method.tokens if cls is PatchPosition else 4)
    assert right > 1.5 * guessed
