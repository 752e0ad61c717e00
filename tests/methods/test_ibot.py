"""iBOT: what is masked for whom, and the two terms of its loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.image.dino import DINO
from autodidact.methods.masked.ibot import IBOT
from autodidact.methods.method import Progress
from autodidact.model import Masked
from autodidact.objectives import dino_loss, masked_distillation, teacher_assignments

VIT = "small:vit?width=16&depth=2&heads=2"
SMALL = {"prototypes": 12, "hidden": 16, "bottleneck": 8, "local_count": 2}


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def made(source, cls=IBOT, name=VIT, **options):
    torch.manual_seed(0)
    return cls(build(name, schema=source.schema), **{**SMALL, **options})


def progress(step=0):
    return Progress(step, 100, 0, torch.Generator().manual_seed(step))


def shown(method, source, n=8, step=0):
    return method.views(source.batch(np.arange(n)), progress(step))


@pytest.mark.parametrize("centring", ["mean", "sinkhorn"])
def test_the_loss_is_dinos_and_that_of_the_masked_patches_of_the_same_view(digits, centring):
    method = made(digits, centring=centring, lam=0.7).eval()
    views = shown(method, digits)
    centre = torch.zeros(12) if centring == "mean" else None
    student, teacher, patches, seen = [], [], [], []
    for view, mask in zip((views["a"], views["b"]), views["masked"].chunk(2), strict=True):
        encoded = method.encoder(view, masked=Masked(mask, method.mask_token))
        student.append(method.head(encoded.pooled))
        patches.append(method.head(encoded.tokens))
        encoded = method.slow_encoder(view)
        teacher.append(method.slow_head(encoded.pooled))
        seen.append(method.slow_head(encoded.tokens))
    student += [method.head(method.encoder(views[name]).pooled) for name in ("c", "d")]
    said = teacher_assignments(torch.cat(seen).flatten(0, 1), centre, 0.04).view(16, 16, 12)
    images = dino_loss(student, teacher, centre)
    masked = masked_distillation(torch.cat(patches), said, views["masked"])
    loss = method.loss(views, progress())
    torch.testing.assert_close(loss.total, images + 0.7 * masked, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.terms["patches"], masked, rtol=1e-4, atol=1e-5)


def test_some_images_are_masked_each_by_the_same_number_of_patches_in_a_view(digits):
    method = made(digits, ratio=(0.2, 0.6))
    counts = [shown(method, digits, 40, step)["masked"].sum(1).view(2, 40) for step in range(10)]
    found = torch.stack(counts)
    assert 0.3 < float((found > 0).float().mean()) < 0.7
    shares = [of_view[of_view > 0].unique().tolist() for of_batch in counts for of_view in of_batch]
    assert all(len(share) == 1 for share in shares)
    assert {share[0] for share in shares} <= set(range(3, 11))
    assert len({share[0] for share in shares}) > 3
    every = shown(made(digits, mask_p=1.0), digits)["masked"]
    assert (every.sum(1) > 0).all()


def test_without_any_mask_it_is_dino(digits):
    method, dino = made(digits, mask_p=0.0), made(digits, DINO)
    dino.load_state_dict(method.state_dict(), strict=False)
    views = shown(method, digits)
    loss = method.loss(views, progress())
    assert float(loss.terms["patches"].detach()) == 0
    del views.named["masked"]
    torch.testing.assert_close(loss.total, dino.loss(views, progress()).total)


def test_images_and_patches_have_centres_of_their_own_that_follow_after_the_update(digits):
    method = made(digits, centre_momentum=0.8)
    views = shown(method, digits)
    method.loss(views, progress())
    seen = method.slow_encoder(torch.cat([views["a"], views["b"]]))
    assert not method.patch_centre.value.any()
    method.after_update(progress())
    means = method.slow_head.module(seen.pooled).mean(0), method.slow_head.module(seen.tokens).mean(dim=(0, 1))
    for centre, mean in zip((method.centre, method.patch_centre), means, strict=True):
        torch.testing.assert_close(centre.value, 0.2 * mean.detach(), rtol=1e-3, atol=1e-5)
    assert method.said == []


def test_the_mask_token_is_trained_and_is_no_part_of_what_is_kept(digits):
    method = made(digits)
    method.loss(shown(method, digits), progress()).total.backward()
    assert method.mask_token.grad.abs().sum() > 0
    assert not any(p.grad is not None for p in method.slow_encoder.parameters())
    trained = {id(p) for group in method.groups() for p in group.parameters}
    assert id(method.mask_token) in trained
    assert method.kept().encoder.state_dict().keys() == method.encoder.state_dict().keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ratio": (0.5, 0.1)}, "ratio is the lowest and the highest share"),
        ({"ratio": (0.0, 0.5)}, "ratio is the lowest and the highest share"),
        ({"ratio": (0.5,)}, "ratio is the lowest and the highest share"),
        ({"mask_p": 1.5}, "mask_p is a probability"),
        ({"lam": -1.0}, "lam must not be negative"),
        ({"prototypes": 1}, "at least 2 prototypes"),
    ],
)
def test_options_out_of_range_are_refused(digits, options, said):
    with pytest.raises(ValueError, match=said):
        made(digits, **options)


def test_an_encoder_that_cannot_mask_tokens_is_refused():
    with pytest.raises(ValueError, match="ibot needs a vision transformer"):
        IBOT(build("small:convnet", image_size=8, channels=1))


def test_it_learns_digits_better_than_its_own_random_start(digits, taught):
    method = made(
        digits,
        name="small:vit?width=32&depth=2&heads=2",
        prototypes=64,
        hidden=64,
        bottleneck=32,
        momentum=0.9,
        local_count=0,
        view_changes={"erase_p": 0.0, "noise_std": 0.0},
    )
    _, before, after = taught(method, 150)
    assert after > before + 0.03
