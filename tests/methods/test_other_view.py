"""BYOL, SimSiam and DirectPred: what is predicted, what takes no gradient, how the target and the predictor follow."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.heads import SetPredictor, copied_predictor, direct_predictor
from autodidact.measures import Spectrum
from autodidact.methods.image.byol import BYOL
from autodidact.methods.image.direct_pred import DirectPred
from autodidact.methods.image.simsiam import SimSiam
from autodidact.methods.method import Progress
from autodidact.training import Settings, train

METHODS = [
    (BYOL, {"hidden": 16, "dimensions": 12}),
    (BYOL, {"hidden": 16, "dimensions": 12, "momentum": 0.0}),
    (SimSiam, {"dimensions": 16, "bottleneck": 4}),
    (DirectPred, {"hidden": 16, "dimensions": 12}),
    (DirectPred, {"hidden": 16, "dimensions": 12, "momentum": 0.0, "head": "linear"}),
]


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


def projected(encode, project, images):
    return project(encode(images).pooled)


def naive(said, wanted):
    """Both directions, row by row in float64."""
    total = 0.0
    for p, t in zip(said, wanted, strict=True):
        p, t = p.detach().double(), t.detach().double()
        total += sum(2 - 2 * float(a @ b / (a.norm() * b.norm())) for a, b in zip(p, t, strict=True)) / len(p)
    return total


@pytest.mark.parametrize(("cls", "options"), METHODS)
def test_the_loss_is_how_far_each_prediction_is_from_the_targets_projection_of_the_other_view(digits, cls, options):
    method = cls(encoder(digits), **options)
    views = views_of(method, digits)
    z = [projected(method.encoder, method.projector, views[name]) for name in ("a", "b")]
    other = z
    if method.slow_encoder is not None:
        other = [projected(method.slow_encoder, method.slow_projector, views[name]) for name in ("a", "b")]
    wanted = naive([method.predictor(each) for each in z], other[::-1])
    found = float(method.loss(views, progress()).total.detach())
    assert found == pytest.approx(wanted / 4 - 1 if cls is SimSiam else wanted, abs=1e-5)


@pytest.mark.parametrize(("cls", "options"), METHODS)
def test_the_target_takes_no_gradient_and_the_network_does(digits, cls, options):
    method = cls(encoder(digits), **options)
    method.loss(views_of(method, digits), progress()).total.backward()
    slow = [p for name, p in method.named_parameters() if name.startswith("slow")]
    assert bool(slow) == (method.slow_encoder is not None)
    assert not any(p.requires_grad or p.grad is not None for p in slow)
    assert all(p.grad is not None for p in method.encoder.parameters())


@pytest.mark.parametrize("cls", [BYOL, DirectPred])
def test_a_slow_copy_that_is_no_slower_is_what_a_network_that_is_its_own_target_has(digits, cls):
    own = cls(encoder(digits), momentum=0.0, hidden=16, dimensions=12)
    copied = cls(encoder(digits), momentum=0.5, hidden=16, dimensions=12)
    copied.load_state_dict(own.state_dict(), strict=False)
    copied.slow_encoder.update(copied.encoder, 0.0)
    copied.slow_projector.update(copied.projector, 0.0)
    views, gradients = views_of(own, digits), []
    for method in (own, copied):
        loss = method.loss(views, progress()).total
        gradients.append(torch.autograd.grad(loss, list(method.projector.parameters())))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_without_the_stop_simsiam_descends_through_both_sides(digits):
    stopped = SimSiam(encoder(digits), dimensions=16, bottleneck=4)
    free = SimSiam(encoder(digits), dimensions=16, bottleneck=4, stop_gradient=False)
    free.load_state_dict(stopped.state_dict())
    views = views_of(stopped, digits)
    losses = [method.loss(views, progress()).total for method in (stopped, free)]
    assert torch.equal(losses[0], losses[1])
    first, second = (
        torch.autograd.grad(loss, next(method.encoder.parameters()))[0]
        for loss, method in zip(losses, (stopped, free), strict=True)
    )
    assert not torch.allclose(first, second, rtol=1e-2)


@pytest.mark.parametrize(("cls", "at_the_end"), [(BYOL, 1.0), (DirectPred, 0.8)])
def test_the_slow_copy_follows_byols_ever_slower_and_direct_preds_at_a_constant_pace(digits, cls, at_the_end):
    method = cls(encoder(digits), momentum=0.8, hidden=16, dimensions=12)
    method.loss(views_of(method, digits), progress())
    pairs = [(method.projector, method.slow_projector), (method.encoder, method.slow_encoder)]
    for step, momentum in ((0, 0.8), (50, (0.8 + at_the_end) / 2), (100, at_the_end)):
        method.loss(views_of(method, digits), progress())
        before = [{name: p.clone() for name, p in slow.module.named_parameters()} for _, slow in pairs]
        with torch.no_grad():
            for quick, _ in pairs:
                for p in quick.parameters():
                    p += 1.0
        method.after_update(progress(step))
        for (quick, slow), old in zip(pairs, before, strict=True):
            student = dict(quick.named_parameters())
            for name, p in slow.module.named_parameters():
                wanted = momentum * old[name].double() + (1 - momentum) * student[name].detach().double()
                torch.testing.assert_close(p.double(), wanted, rtol=1e-5, atol=1e-5)


def test_the_target_uses_batch_statistics_whatever_mode_the_method_is_in(digits):
    method = BYOL(encoder(digits), hidden=16, dimensions=12).eval().train()
    assert method.slow_projector.module[1].training
    views = views_of(method, digits)
    alike = projected(method.encoder, method.projector, views["a"])
    torch.testing.assert_close(projected(method.slow_encoder, method.slow_projector, views["a"]), alike)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"eps": 0.1},
        {"momentum": 0.0},
        {"exponent": 0.25, "rho": 0.6},
        {"relative": False, "momentum": 0.0},
        {"centred": True},
        {"head": "directcopy", "eps": 0.3},
        {"head": "directcopy", "momentum": 0.0, "centred": True, "rho": 0.0},
    ],
)
def test_direct_pred_sets_its_predictor_from_the_projections_of_both_views(digits, options):
    method = DirectPred(encoder(digits), hidden=16, dimensions=12, **options)
    followed = []
    for step in range(2):
        loss = method.loss(method.views(digits.batch(np.arange(24 * step, 24 * step + 24)), progress(step)), progress())
        z = torch.cat([loss.watch["projection"], loss.watch["projection_b"]]).detach().double()
        followed.append(torch.cov(z.T, correction=0) if options.get("centred") else z.T @ z / len(z))
        method.after_update(progress(step))
    rho, eps = options.get("rho", 0.3), options.get("eps", 0.01)
    wanted = rho * followed[0] + (1 - rho) * followed[1]
    torch.testing.assert_close(method.predictor.correlation.double(), wanted, rtol=1e-4, atol=1e-5)
    if options.get("head") == "directcopy":
        weight = copied_predictor(wanted, eps=eps)
    else:
        exponent, relative = options.get("exponent", 0.5), options.get("relative", True)
        weight = direct_predictor(wanted, exponent=exponent, eps=eps, relative=relative)
    torch.testing.assert_close(method.predictor.weight.double(), weight, atol=3e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head": "linear", "freq": 0}, "head 'linear' does not read freq; leave that out"),
        ({"head": "mlp", "eps": 0.1, "rho": 0.5}, "head 'mlp' does not read eps, rho"),
        ({"head": "none", "centred": True}, "head 'none' does not read centred"),
        ({"head": "directcopy", "relative": False, "rho": 0.5}, "head 'directcopy' does not read relative; leave"),
    ],
)
def test_what_a_head_does_not_read_is_refused(digits, options, said):
    with pytest.raises(ValueError, match=said):
        DirectPred(encoder(digits), **options)


def test_set_in_every_update_the_predictor_is_no_concern_of_the_optimiser(digits):
    method = DirectPred(encoder(digits), hidden=16, dimensions=12)
    assert not any(name.startswith("predictor") for name, _ in method.named_parameters())
    hybrid = DirectPred(encoder(digits), hidden=16, dimensions=12, freq=5)
    assert [name for name, _ in hybrid.named_parameters() if name.startswith("predictor")] == ["predictor.weight"]


@pytest.mark.parametrize(
    ("head", "kind"),
    [("directcopy", SetPredictor), ("linear", nn.Linear), ("mlp", nn.Sequential), ("none", nn.Identity)],
)
def test_the_predictors_that_it_is_compared_with_go_through_the_same_method(digits, head, kind):
    method = DirectPred(encoder(digits), head=head, hidden=16, dimensions=12)
    assert isinstance(method.predictor, kind)
    train(method, digits.at(np.arange(64)), Settings(steps=2, batch_size=32, lr=1e-3), quiet=True)


@pytest.mark.parametrize("options", [{}, {"freq": 3}])
def test_training_follows_from_the_seed(digits, options):
    def weights():
        method = DirectPred(encoder(digits, 4), hidden=8, dimensions=8, **options)
        settings = Settings(steps=5, batch_size=16, optimizer="sgd", lr=0.1, seed=3)
        train(method, digits.at(np.arange(64)), settings, quiet=True)
        return method.state_dict()

    one, two = weights(), weights()
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_projections_that_are_all_zero_are_named_a_collapse(digits):
    method = DirectPred(encoder(digits), hidden=16, dimensions=12)
    for p in (method.projector[-1].weight, method.projector[-1].bias):
        nn.init.zeros_(p)
    method.loss(views_of(method, digits), progress())
    with pytest.raises(ValueError, match="the network has collapsed"):
        method.after_update(progress())


@pytest.mark.parametrize(
    ("cls", "options", "said"),
    [
        (BYOL, {"momentum": 1.5}, r"momentum must lie in \[0, 1\], got 1.5"),
        (DirectPred, {"head": "directpredd"}, "did you mean 'directpred'"),
        (DirectPred, {"rho": 1.0}, "rho"),
        (DirectPred, {"freq": 0}, "every 1 or more updates"),
        (DirectPred, {"eps": -1.0}, "eps"),
        (SimSiam, {"view": "simclrr"}, "nearest: 'simclr'"),
    ],
)
def test_options_out_of_range_are_refused(digits, cls, options, said):
    with pytest.raises(ValueError, match=said):
        cls(encoder(digits), **options)


def spread(method, source):
    """Standard deviation of the projections on the sphere, summed over dimensions: 1 if even, 0 if collapsed."""
    method = copy.deepcopy(method).eval()
    with torch.no_grad():
        images = method.encoder.prepare(source.batch(np.arange(200)).fields)
        z = projected(method.encoder, method.projector, images)
    return float(Spectrum(normalize=True).update(z).per_dimension_std().square().sum().sqrt())


def test_direct_pred_keeps_projections_apart_that_collapse_without_a_predictor(digits):
    found = {}
    for head in ("directpred", "none"):
        method = DirectPred(encoder(digits, 4), head=head, momentum=0.9, hidden=32, dimensions=16)
        settings = Settings(steps=40, batch_size=64, optimizer="sgd", lr=0.3, weight_decay=4e-4)
        train(method, digits.at(np.arange(600)), settings, quiet=True)
        found[head] = spread(method, digits)
    assert found["none"] < 0.5 * found["directpred"]


@pytest.mark.parametrize(
    ("cls", "options", "steps", "rate"),
    [
        (BYOL, {"momentum": 0.9, "hidden": 64}, 260, 0.2),
        (SimSiam, {"dimensions": 64, "bottleneck": 16}, 360, 0.4),
        (DirectPred, {"momentum": 0.9, "hidden": 64, "dimensions": 64}, 360, 0.2),
    ],
)
def test_it_learns_digits_better_than_its_own_random_start(digits, taught, cls, options, steps, rate):
    _, before, after = taught(cls(encoder(digits), **options), steps, optimizer="sgd", lr=rate)
    assert after > before + 0.02
