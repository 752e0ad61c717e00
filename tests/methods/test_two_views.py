"""SimCLR, DCL and Barlow Twins: what each descends on, and that it learns real digits through the real trainer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.image.barlow_twins import BarlowTwins
from autodidact.methods.image.byol import BYOL
from autodidact.methods.image.dcl import DCL
from autodidact.methods.image.moco_v3 import MoCoV3
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.image.vicreg import VICReg
from autodidact.methods.method import Progress, Views
from autodidact.model import load_model
from autodidact.objectives import barlow_twins, barlow_twins_floor, coupling, dcl, dclw, nt_xent
from autodidact.training import Settings, train


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def encoder(source, width=8, seed=0):
    torch.manual_seed(seed)
    return build("small:convnet", schema=source.schema, width=width)


def progress(step=0):
    return Progress(step, 100, 0, torch.Generator().manual_seed(step))


def views_of(method, source, n=24):
    return method.views(source.batch(np.arange(n)), progress())


def projections(method, views):
    loss = method.loss(views, progress())
    return loss, loss.watch["projection"], loss.watch["projection_b"]


@pytest.mark.parametrize(
    ("cls", "options", "objective"),
    [
        (SimCLR, {"temperature": 0.3}, lambda a, b: nt_xent(a, b, 0.3)),
        (DCL, {"temperature": 0.3}, lambda a, b: dcl(a, b, 0.3)),
        (DCL, {"temperature": 0.3, "weighting": "von_mises_fisher"}, lambda a, b: dclw(a, b, 0.3)),
        (BarlowTwins, {"lambd": 0.02, "dimensions": 16}, lambda a, b: barlow_twins(a, b, 0.02)),
    ],
)
def test_the_loss_is_the_papers_objective_on_the_projections_of_two_views(digits, cls, options, objective):
    method = cls(encoder(digits), **options)
    loss, z1, z2 = projections(method, views_of(method, digits))
    assert torch.allclose(loss.total, objective(z1, z2), rtol=1e-5)


def test_nt_xent_is_the_softplus_of_dcl_anchor_by_anchor_on_the_same_projections(digits):
    from autodidact.objectives import info_nce

    method = SimCLR(encoder(digits))
    _, z1, z2 = projections(method, views_of(method, digits))
    decoupled = info_nce(z1, z2, 0.1, positive_in_denominator=False, reduction="none")
    coupled = info_nce(z1, z2, 0.1, reduction="none")
    assert torch.allclose(coupled, torch.nn.functional.softplus(decoupled), atol=1e-5)


def test_the_two_views_of_an_image_are_drawn_apart_and_follow_from_the_generator(digits):
    method = SimCLR(encoder(digits))
    first, again = views_of(method, digits), views_of(method, digits)
    assert not torch.equal(first["a"], first["b"])
    assert torch.equal(first["a"], again["a"])
    assert torch.equal(first["b"], again["b"])


def test_pairs_that_are_not_allowed_to_repel_are_left_out_of_simclr_and_dcl(digits):
    for cls in (SimCLR, DCL):
        method = cls(encoder(digits))
        views = views_of(method, digits, 8)
        free = float(method.loss(views, progress(1)).total.detach())
        fewer = Views(views.named, views.ids, torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) > 0.5)
        assert float(method.loss(fewer, progress(1)).total.detach()) < free


def test_dcl_logs_the_coupling_that_its_gradient_is_freed_of(digits):
    method = DCL(encoder(digits), temperature=0.2)
    views = views_of(method, digits)
    loss, z1, z2 = projections(method, views)
    assert torch.allclose(loss.terms["coupling"], coupling(z1, z2, 0.2).mean())
    assert "coupling" not in method.loss(views, progress(1)).terms


def test_barlow_twins_logs_the_floor_that_batch_and_width_set(digits):
    method = BarlowTwins(encoder(digits), dimensions=64)
    loss, *_ = projections(method, views_of(method, digits))
    assert float(loss.terms["floor"]) == pytest.approx(barlow_twins_floor(24, 64, 0.0051))
    assert float(loss.total.detach()) > float(loss.terms["floor"])


def test_barlow_twins_passes_each_view_alone_through_the_encoders_batch_norms(digits):
    method = BarlowTwins(encoder(digits), dimensions=16)
    views = views_of(method, digits)
    expected = method.encoder(views["a"]).pooled
    method.encoder.load_state_dict(method.encoder.state_dict())
    watched = method.loss(views, progress()).watch["embedding"]
    assert torch.allclose(watched, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("cls", "options", "said"),
    [
        (SimCLR, {"temperature": 0.0}, "temperature"),
        (DCL, {"temperature": -1.0}, "temperature"),
        (DCL, {"weighting": "vmf"}, "weighting"),
        (BarlowTwins, {"lambd": -0.1}, "lambd"),
        (SimCLR, {"view": "simclrr"}, "nearest: 'simclr'"),
    ],
)
def test_options_out_of_range_are_refused(digits, cls, options, said):
    with pytest.raises(ValueError, match=said):
        cls(encoder(digits), **options)


@pytest.mark.parametrize(("cls", "options"), [(SimCLR, {}), (DCL, {}), (BarlowTwins, {"dimensions": 64})])
def test_it_learns_digits_better_than_its_own_random_start(digits, taught, cls, options, tmp_path):
    model, before, after = taught(cls(encoder(digits), **options), 100)
    assert after > before + 0.02
    rows = digits.batch(np.arange(20))
    with torch.no_grad():
        assert torch.equal(load_model(model.save(tmp_path)).embed(rows), model.embed(rows))


@pytest.mark.parametrize("cls", [SimCLR, BarlowTwins, VICReg, BYOL, MoCoV3])
def test_a_vision_transformer_learns_in_them_and_is_kept(digits, cls):
    torch.manual_seed(0)
    vit = build("small:vit?width=16&depth=1&heads=2", schema=digits.schema)
    method = cls(vit)
    before = {name: p.detach().clone() for name, p in vit.named_parameters()}
    model = train(method, digits.at(np.arange(64)), Settings(steps=2, batch_size=32, warmup=0.0), quiet=True)
    still = {name for name, p in model.encoder.named_parameters() if torch.equal(p, before[name])}
    assert still <= {"model.patch_embed.proj.weight", "model.patch_embed.proj.bias"}
    assert bool(still) == (cls is MoCoV3)
    assert torch.isfinite(model.eval().embed(digits.batch(np.arange(8)))).all()
