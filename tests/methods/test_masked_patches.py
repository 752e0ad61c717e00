"""What all methods owe that hide patches: exact counts, and a plain encoder afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from autodidact.catalog import cards, target
from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.methods.masked_patches import MaskedPatches, MaskTokens, light_augment, masked_count
from autodidact.methods.method import Method, Progress, Views

NAMES = ("mae", "simmim", "maskfeat", "beit", "data2vec", "i_jepa")
WITH_TOKENS = ("simmim", "maskfeat", "beit", "data2vec")
OPTIONS = {"beit": {"codes": 32, "fit": 1_000}}


def made(name: str, **options: object) -> MaskedPatches:
    torch.manual_seed(0)
    encoder = build("small:vit?width=32&depth=2&heads=2&patch=2", image_size=8, channels=1, statistics=([0.3], [0.35]))
    method = target(cards()[name])(encoder, **{**OPTIONS.get(name, {}), **options})
    assert isinstance(method, MaskedPatches)
    return method


def progress(seed: int = 0, step: int = 0) -> Progress:
    return Progress(step, 10, 0, torch.Generator().manual_seed(seed))


def views(method: Method, n: int = 8, seed: int = 0) -> Views:
    batch = open_source("digits", progress=False).batch(np.arange(n))
    with torch.no_grad():
        return method.views(batch, progress(seed))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_the_plain_encoder_whose_tokens_are_averaged(name: str) -> None:
    method = made(name)
    kept = method.kept().eval()
    plain = build("small:vit?width=32&depth=2&heads=2&patch=2", image_size=8, channels=1)
    assert kept.encoder.state_dict().keys() == plain.state_dict().keys()
    batch = open_source("digits", progress=False).batch(np.arange(4))
    with torch.no_grad():
        tokens = kept.encoder(kept.encoder.prepare(batch.fields)).tokens
        torch.testing.assert_close(kept.embed(batch), tokens.mean(dim=1))
    assert all(parameter.requires_grad for parameter in kept.parameters())


@pytest.mark.parametrize("name", WITH_TOKENS)
@pytest.mark.parametrize("masking", ["random", "blocks", "units"])
def test_every_image_has_the_same_number_of_masked_patches(name: str, masking: str) -> None:
    method = made(name, masking=masking, ratio=0.3)
    shown = views(method, 30)
    assert shown["mask"].sum(dim=1).tolist() == [5] * 30
    for row, index in zip(shown["mask"], shown["masked"], strict=True):
        assert torch.equal(row.nonzero()[:, 0], index)
    assert len(shown["mask"].unique(dim=0)) > 5


@pytest.mark.parametrize("name", WITH_TOKENS)
def test_nothing_of_a_masked_patch_reaches_the_network(name: str) -> None:
    method = made(name).eval()
    shown = views(method)
    hidden = Views({**shown.named, "images": shown["images"].clone()}, shown.ids)
    for row, patch in shown["mask"].nonzero().tolist():
        top, left = 2 * (patch // 4), 2 * (patch % 4)
        hidden["images"][row, :, top : top + 2, left : left + 2] = 0.9
    assert isinstance(method, MaskTokens)
    assert torch.equal(method.seen(hidden), method.seen(shown))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    method = made(name).eval()
    shown = views(method)
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    turned = Views({key: value[order] for key, value in shown.named.items()}, shown.ids[order])
    with torch.no_grad():
        assert float(method.loss(turned, progress()).total) == pytest.approx(
            float(method.loss(shown, progress()).total), rel=1e-4
        )


@pytest.mark.parametrize("name", ["data2vec", "i_jepa"])
def test_no_gradient_reaches_the_teacher_and_it_follows_the_network(name: str) -> None:
    method = made(name, momentum=0.75)
    method.loss(views(method), progress()).total.backward()
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    before = [p.clone() for p in method.teacher.module.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    method.after_update(progress(step=5))
    # I-JEPA's momentum is half way from 0.75 to 1 by then.
    share = 0.25 if name == "data2vec" else 0.125
    for old, new, student in zip(before, method.teacher.module.parameters(), method.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, old + share * (student - old), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mae", "simmim", "beit"])
def test_a_method_that_paints_shows_what_it_painted(name: str) -> None:
    method = made(name).eval()
    shown = views(method)
    with torch.no_grad():
        pictures = method.pictures(shown)
    assert list(pictures) == ["augmented", "masked", "repainted"]
    assert torch.equal(pictures["augmented"], shown["images"])
    differ = (pictures["repainted"] != shown["images"]).flatten(1).any(dim=1)
    assert bool(differ.all())


def test_the_steepest_ratios_leave_one_patch_on_either_side() -> None:
    assert [masked_count(ratio, 16) for ratio in (0.001, 0.5, 0.75, 0.999)] == [1, 8, 12, 15]
    assert masked_count(0.75, 49) == 37
    for ratio in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="ratio is the share of the patches"):
            masked_count(ratio, 16)


def test_small_images_keep_more_of_their_area_unless_a_view_is_named() -> None:
    def crop(side: int, view: str = "auto", **changes: object) -> object:
        return light_augment(build("small:vit", image_size=side, channels=1), view, changes).crop_scale

    assert crop(28) == (0.4, 1.0)
    assert crop(96) == (0.2, 1.0)
    assert crop(28, "weak") == (0.2, 1.0)
    assert crop(28, crop_scale=[0.5, 1.0]) == (0.5, 1.0)
    assert crop(28, "none") is None


def test_a_transformer_with_registers_and_one_that_is_not_square_are_masked_too() -> None:
    torch.manual_seed(0)
    for name in NAMES:
        encoder = build("small:vit?width=16&depth=2&heads=2&patch=2&registers=2", image_size=(8, 12), channels=1)
        method = target(cards()[name])(encoder, **OPTIONS.get(name, {}))
        images = torch.rand(4, 1, 8, 12)
        shown = Views({"images": images, **method.hide(4, torch.Generator().manual_seed(0))}, torch.arange(4))
        loss: Tensor = method.loss(shown, progress()).total
        loss.backward()
        assert torch.isfinite(loss), name
