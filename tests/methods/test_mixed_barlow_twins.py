"""Mixed Barlow Twins is Barlow Twins without its term, and with it asks mixtures of mixed images; VICReg beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.image.barlow_twins import BarlowTwins
from autodidact.methods.image.mixed_barlow_twins import MixedBarlowTwins
from autodidact.methods.image.vicreg import VICReg
from autodidact.methods.method import Progress, Views
from autodidact.objectives import barlow_twins, mixing_gap, vicreg
from autodidact.training import Settings, train


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def encoder(source, width=8, seed=0):
    torch.manual_seed(seed)
    return build("small:convnet", schema=source.schema, width=width)


def progress(step=0, total=100):
    return Progress(step, total, 0, torch.Generator().manual_seed(step))


def views_of(method, source, n=24):
    return method.views(source.batch(np.arange(n)), progress())


def loss_of(method, views, **when):
    return method.loss(views, progress(**when))


def test_without_its_term_training_is_barlow_twins_bit_for_bit(digits):
    def trained(cls, **options):
        method = cls(encoder(digits), lambd=0.01, dimensions=16, **options)
        train(method, digits.at(np.arange(128)), Settings(steps=4, batch_size=32, lr=3e-3), quiet=True)
        return method.state_dict()

    plain, without = trained(BarlowTwins), trained(MixedBarlowTwins, lam_reg=0.0)
    assert plain.keys() == without.keys()
    assert all(torch.equal(value, without[name]) for name, value in plain.items())


def test_the_loss_is_that_of_barlow_twins_and_the_weighted_gap_of_the_mixed_images(digits):
    method = MixedBarlowTwins(encoder(digits), lam_reg=3.0, lambd=0.02, dimensions=16)
    views = views_of(method, digits)
    z1, z2, mixed = (method.projector(method.encoder(views[name]).pooled) for name in ("a", "b", "mixed"))
    gap = mixing_gap(mixed, z1, z2, views["order"], views["share"])
    loss = loss_of(method, views)
    torch.testing.assert_close(loss.terms["gap"], gap)
    torch.testing.assert_close(loss.total, barlow_twins(z1, z2, 0.02) + 3.0 * 0.02 * gap)


def composed(z1, z2, mixed, views, *, unbiased=False, normalise=False, **options):
    """The loss as the paper writes it, without a word of how the method does it."""
    if normalise:
        z1, z2, mixed = (z / z.norm(dim=1, keepdim=True) * 1e4 for z in (z1, z2, mixed))
    gap = mixing_gap(mixed, z1, z2, views["order"], views["share"], unbiased=unbiased, **options)
    return barlow_twins(z1, z2, 0.02, unbiased=unbiased) + 4.0 * 0.02 * gap


@pytest.mark.parametrize("option", ["restandardise", "stop_target", "unbiased", "normalise"])
def test_each_option_changes_the_loss_and_its_gradient_as_in_the_objectives(digits, option):
    method = MixedBarlowTwins(encoder(digits), lambd=0.02, dimensions=16, **{option: True}).double()
    views = views_of(method, digits)
    for name in ("a", "b", "mixed"):
        views.named[name] = views[name].double()
    weight = method.projector[-1].weight
    found = loss_of(method, views).total
    losses = [found]
    for given in ({option: True}, {}):
        parts = [method.projector(method.encoder(views[name]).pooled) for name in ("a", "b", "mixed")]
        losses.append(composed(*parts, views, **given))
    slopes = [torch.autograd.grad(loss, weight)[0] for loss in losses]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-5, atol=1e-8)
    assert not torch.allclose(slopes[0], slopes[2], rtol=1e-3)


def test_normalised_it_is_the_authors_loss_whatever_the_width():
    """Theirs divides by the standard deviation without an eps; see `test_mixing`, where their figures are."""
    generator = torch.Generator().manual_seed(0)
    z1 = torch.randn(40, 512, dtype=torch.float64, generator=generator)
    z2 = z1 + torch.randn(40, 512, dtype=torch.float64, generator=generator)
    order, share = torch.randperm(40, generator=generator), torch.tensor(0.3, dtype=torch.float64)
    mixed = torch.tanh(0.3 * z1 + 0.7 * z2[order])

    def theirs(z):
        z = torch.nn.functional.normalize(z, dim=1)
        return (z - z.mean(0)) / z.std(0)

    a, b, m = (theirs(z) for z in (z1, z2, mixed))
    cross = a.T @ b / 40
    on = (cross.diagonal() - 1).square().sum()
    off = cross.square().sum() - cross.diagonal().square().sum()
    target = 0.3 * a + 0.7 * b[order]
    gap = sum(((m.T @ z - target.T @ z) / 40).square().sum() for z in (a, b))
    method = MixedBarlowTwins(
        build("small:convnet", image_size=8, channels=1, width=4), lambd=0.02, unbiased=True, normalise=True
    )
    method.projector, method._pooled = torch.nn.Identity(), lambda views: views
    views = Views({"mixed": mixed, "order": order, "share": share})
    found, _ = method.objective(z1, z2, views, progress())
    assert float(found.detach()) == pytest.approx(float(on + 0.02 * off + 4 * 0.02 * gap), rel=1e-6)


def test_mixed_images_are_mixtures_of_the_two_views_that_plain_barlow_twins_would_see(digits):
    method, plain = MixedBarlowTwins(encoder(digits), dimensions=16), BarlowTwins(encoder(digits), dimensions=16)
    views, same = views_of(method, digits), views_of(plain, digits)
    assert torch.equal(views["a"], same["a"])
    assert torch.equal(views["b"], same["b"])
    share = views["share"]
    torch.testing.assert_close(views["mixed"], share * views["a"] + (1 - share) * views["b"][views["order"]])


def test_a_share_of_1_or_0_has_no_gap_with_batch_norms_in_training_too(digits):
    method = MixedBarlowTwins(encoder(digits), dimensions=16).double()
    views = views_of(method, digits)
    first, second = views["a"].double(), views["b"].double()
    order = torch.randperm(24)
    for share, mixed in ((1.0, first), (0.0, second[order])):
        named = {"a": first, "b": second, "mixed": mixed, "order": order, "share": torch.tensor(share)}
        assert float(loss_of(method, Views(named)).terms["gap"].detach()) < 1e-20


def test_the_weight_of_the_gap_rises_over_the_ramp(digits):
    method = MixedBarlowTwins(encoder(digits), lam_reg=2.0, lambd=0.1, ramp=0.5, dimensions=16)
    views = views_of(method, digits)
    for step, weight in ((0, 0.0), (25, 1.0), (50, 2.0), (90, 2.0)):
        loss = loss_of(method, views, step=step)
        expected = loss.terms["redundancy"] + weight * 0.1 * loss.terms["gap"]
        torch.testing.assert_close(loss.total, expected)


def test_the_length_of_a_projection_plays_no_part_when_normalised(digits):
    method = MixedBarlowTwins(encoder(digits), dimensions=16, normalise=True)
    z1, z2 = torch.randn(24, 16), torch.randn(24, 16)
    views = views_of(method, digits)
    scales = torch.rand(24, 1) + 0.5
    one, two = (method.objective(z, z2, views, progress())[0] for z in (z1, scales * z1))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    method.normalise = False
    assert not torch.allclose(one, method.objective(scales * z1, z2, views, progress())[0], rtol=1e-3)


@pytest.mark.parametrize("n", [7, 24])
def test_batches_of_any_size_are_mixed(digits, n):
    method = MixedBarlowTwins(encoder(digits), dimensions=16)
    assert torch.isfinite(loss_of(method, views_of(method, digits, n)).total)


def test_a_single_image_is_refused(digits):
    method = MixedBarlowTwins(encoder(digits), dimensions=16).eval()
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        loss_of(method, views_of(method, digits, 1))


def test_vicreg_weighs_its_three_terms(digits):
    method = VICReg(encoder(digits), invariance=2.0, variance=3.0, covariance=5.0, dimensions=16)
    loss = loss_of(method, views_of(method, digits))
    found = vicreg(loss.watch["projection"], loss.watch["projection_b"])
    torch.testing.assert_close(loss.total, 2 * found.invariance + 3 * found.variance + 5 * found.covariance)
    assert set(loss.terms) == {"invariance", "variance", "covariance"}


@pytest.mark.parametrize(
    ("cls", "options", "said"),
    [
        (MixedBarlowTwins, {"lam_reg": -1.0}, "lam_reg"),
        (MixedBarlowTwins, {"lambd": -1.0}, "lambd"),
        (MixedBarlowTwins, {"ramp": 1.5}, r"share of the updates in \[0, 1\], got 1.5"),
        (VICReg, {"variance": -1.0}, "variance must not be negative"),
    ],
)
def test_options_out_of_range_are_refused(digits, cls, options, said):
    with pytest.raises(ValueError, match=said):
        cls(encoder(digits), **options)


@pytest.mark.parametrize(("cls", "options"), [(MixedBarlowTwins, {}), (VICReg, {})])
def test_it_learns_digits_better_than_its_own_random_start(digits, taught, cls, options):
    _, before, after = taught(cls(encoder(digits), dimensions=64, **options), 100)
    assert after > before + 0.02
