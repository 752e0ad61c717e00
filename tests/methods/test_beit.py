"""BEiT with a k-means codebook: clusters are found before the first update, and masked patches are classified."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.methods.masked.beit import BEiT
from autodidact.methods.method import Progress, Views
from autodidact.targets import patch_pixels
from autodidact.training import Settings, train


def beit(**options: object) -> BEiT:
    torch.manual_seed(0)
    encoder = build("small:vit?width=16&depth=1&heads=2&patch=2", image_size=8, channels=1, statistics=([0.3], [0.35]))
    return BEiT(encoder, **{"codes": 8, "fit": 500, **options})


def progress() -> Progress:
    return Progress(0, 10, 0, torch.Generator().manual_seed(0))


def test_the_loss_is_the_mean_cross_entropy_of_the_nearest_centroids() -> None:
    method = beit().double()
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 1, 8, 8, generator=generator, dtype=torch.float64)
    shown = Views({"images": images, **method.hide(3, generator)}, torch.arange(3))
    tokens, pixels = method.seen(shown).detach(), patch_pixels((images - 0.3) / 0.35, (2, 2))
    losses = []
    for row, patch in shown["mask"].nonzero().tolist():
        code = int((method.codebook.centroids - pixels[row, patch]).square().sum(1).argmin())
        logits = tokens[row, patch] @ method.head.weight.T + method.head.bias
        losses.append(float((logits.exp().sum().log() - logits[code]).detach()))
    found = float(method.loss(shown, progress()).total.detach())
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_the_codebook_is_found_before_the_first_update_in_patches_of_the_whole_source_and_then_stays() -> None:
    method, source = beit(), open_source("digits", progress=False).at(np.arange(128))
    books = []
    plain = method.loss

    def loss(views: Views, progress: Progress):  # type: ignore[no-untyped-def]
        books.append(method.codebook.centroids.clone())
        return plain(views, progress)

    method.loss = loss  # type: ignore[method-assign]
    before = method.codebook.centroids.clone()
    train(method, source, Settings(steps=3, batch_size=32, accelerator="cpu"), quiet=True)
    assert not torch.equal(books[0], before)
    assert all(torch.equal(book, books[0]) for book in books)
    pixels = method.pixels(method.encoder.prepare(source.batch(np.arange(128)).fields)).flatten(0, 1)
    near = torch.cdist(pixels, method.codebook.centroids).amin(dim=1).square().mean()
    assert near < 0.35 * (pixels - pixels.mean(dim=0)).square().sum(dim=1).mean()


def test_the_codebook_is_saved_with_the_method() -> None:
    method, other = beit(), beit()
    method.codebook.fit(torch.randn(50, 4), torch.Generator().manual_seed(0))
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.codebook.centroids, method.codebook.centroids)


def test_data_with_fewer_patches_than_codes_is_refused() -> None:
    source = open_source("digits", progress=False).at(np.arange(8))
    with pytest.raises(ValueError, match="200 codes need at least as many patches, this data has 128"):
        train(beit(codes=200), source, Settings(steps=1, batch_size=8, accelerator="cpu"), quiet=True)
    with pytest.raises(ValueError, match="fit must be at least codes"):
        beit(codes=200, fit=100)
