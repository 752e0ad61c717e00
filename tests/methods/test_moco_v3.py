"""MoCo v3: its queries, its keys, and the patch projection that stays at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.image.moco_v3 import MoCoV3
from autodidact.methods.method import Progress
from autodidact.training import Settings, train


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def made(source, name="small:vit?width=16&depth=2&heads=2", **options):
    torch.manual_seed(0)
    return MoCoV3(build(name, schema=source.schema), **{"hidden": 16, "dimensions": 8, **options})


def progress(step=0):
    return Progress(step, 100, 0, torch.Generator().manual_seed(step))


def test_each_views_prediction_finds_the_slow_copys_key_of_the_other_view(digits):
    method = made(digits, temperature=0.3)
    views = method.views(digits.batch(np.arange(6)), progress())
    query, key = {}, {}
    for name in ("a", "b"):
        query[name] = method.predictor(method.projector(method.encoder(views[name]).pooled)).double()
        key[name] = method.slow_projector(method.slow_encoder(views[name]).pooled).double()
    expected = sum(
        cross_entropy(normalize(query[u], dim=1) @ normalize(key[v], dim=1).T / 0.3, torch.arange(6))
        for u, v in ("ab", "ba")
    )
    found = method.loss(views, progress()).total
    assert float(found.detach()) == pytest.approx(2 * 0.3 * float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize(("freeze", "moves"), [(None, False), (True, False), (False, True)])
def test_the_patch_projection_stays_at_random_and_the_rest_learns(digits, freeze, moves):
    method = made(digits, freeze_patches=freeze)
    before = {name: p.detach().clone() for name, p in method.encoder.named_parameters()}
    train(method, digits.at(np.arange(64)), Settings(steps=2, batch_size=32, warmup=0.0), quiet=True)
    changed = {name: not torch.equal(p, before[name]) for name, p in method.encoder.named_parameters()}
    assert changed["model.patch_embed.proj.weight"] is moves
    assert changed["model.patch_embed.proj.bias"] is moves
    assert changed["model.blocks.0.attn.qkv.weight"]
    assert changed["model.pos_embed"]


def test_the_slow_copy_takes_no_gradient_and_comes_to_rest(digits):
    method = made(digits, momentum=0.8)
    method.loss(method.views(digits.batch(np.arange(6)), progress()), progress()).total.backward()
    slow = [p for name, p in method.named_parameters() if name.startswith("slow")]
    assert slow
    assert not any(p.requires_grad or p.grad is not None for p in slow)
    assert not {id(p) for group in method.groups() for p in group.parameters} & {id(p) for p in slow}
    with torch.no_grad():
        for p in method.projector.parameters():
            p.add_(1.0)
    before = [p.clone() for p in method.slow_projector.parameters()]
    method.after_update(progress(100))
    assert all(torch.equal(p, q) for p, q in zip(before, method.slow_projector.parameters(), strict=True))
    method.after_update(progress(0))
    for old, new, own in zip(before, method.slow_projector.parameters(), method.projector.parameters(), strict=True):
        torch.testing.assert_close(new, 0.8 * old + 0.2 * own)


def test_a_convolutional_network_has_no_patches_to_freeze(digits):
    method = made(digits, "small:convnet?width=4", layers=2, norm_prediction=False)
    assert [group.name for group in method.groups()] == ["all"]
    with pytest.raises(ValueError, match="small:convnet has no patch projection to freeze"):
        made(digits, "small:convnet?width=4", freeze_patches=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"momentum": 0.0}, "must not be 0"),
        ({"momentum": 1.5}, "momentum must lie in"),
    ],
)
def test_options_out_of_range_are_refused(digits, options, said):
    with pytest.raises(ValueError, match=said):
        made(digits, **options)


def test_a_batch_of_one_has_nothing_to_contrast_with(digits):
    method = made(digits).eval()
    method.slow_projector.module.eval()
    with pytest.raises(ValueError, match="a batch of 1 has no other image"):
        method.loss(method.views(digits.batch(np.arange(1)), progress()), progress())


def test_it_learns_digits_better_than_its_own_random_start(digits, taught):
    name = "small:vit?width=32&depth=2&heads=2&pool=avg"
    method = made(digits, name, momentum=0.9, temperature=0.5, hidden=64, dimensions=32)
    _, before, after = taught(method, 100, lr=5e-3)
    assert after > before + 0.04
