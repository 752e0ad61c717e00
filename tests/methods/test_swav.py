"""SwAV: what is predicted from what, prototypes, queue and slots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.image.swav import SwAV
from autodidact.methods.method import Progress, Views
from autodidact.objectives import sinkhorn, swapped_prediction
from autodidact.training import Settings, train


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def made(source, width=4, **options):
    torch.manual_seed(0)
    encoder = build("small:convnet", schema=source.schema, width=width)
    return SwAV(encoder, **{"dimensions": 8, "prototypes": 10, "local_count": 2, **options})


def progress(step=0, epoch=0):
    return Progress(step, 100, epoch, torch.Generator().manual_seed(step))


def shown(method, source, n=12, step=0):
    return method.views(source.batch(np.arange(n)), progress(step))


def scores_of(method, views):
    """Unit projections and scores of all views; batch norms see the large views together, and the small ones."""
    a, b, c, d = views.named.values()
    h = torch.cat([method.encoder(torch.cat(pair)).pooled for pair in ((a, b), (c, d))])
    z = normalize(method.projector(h), dim=1)
    return [part.detach().chunk(4) for part in (z, z @ method.prototypes.weight.T)]


def total(loss):
    return float(loss.total.detach())


def test_a_batch_of_one_image_is_refused_unless_there_is_a_queue(digits):
    one = digits.batch(np.arange(1))
    method = made(digits)
    with pytest.raises(ValueError, match="batches of at least 2 images"):
        method.loss(method.views(one, progress()), progress())
    queued = made(digits, queue=16)
    assert torch.isfinite(queued.loss(queued.views(one, progress()), progress()).total)


def test_every_other_view_predicts_the_balanced_codes_of_the_two_large_views(digits):
    method = made(digits)
    views = shown(method, digits)
    assert [tuple(v.shape[2:]) for v in views.named.values()] == [(8, 8), (8, 8), (4, 4), (4, 4)]
    _, scores = scores_of(method, views)
    expected = swapped_prediction(scores, [sinkhorn(s, 0.02) for s in scores[:2]])
    assert total(method.loss(views, progress())) == pytest.approx(float(expected), rel=1e-5)


def test_prototypes_have_unit_length_after_every_update(digits):
    method = made(digits)
    with torch.no_grad():
        method.prototypes.weight.mul_(3.0)
    method.after_update(progress())
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(10))


def test_prototypes_stay_as_they_are_for_the_first_updates_and_learn_then(digits):
    settings = Settings(steps=4, batch_size=16, warmup=0.0, schedule="constant", lr=1e-2)
    for frozen, moves in ((4, False), (2, True)):
        method = made(digits, frozen=frozen)
        before = method.prototypes.weight.detach().clone()
        train(method, digits.at(np.arange(64)), settings, quiet=True)
        assert torch.allclose(method.prototypes.weight, before, atol=1e-6) is not moves


def test_the_queue_balances_the_codes_from_its_epoch_on(digits):
    method = made(digits, queue=20, queue_from=1)
    first = shown(method, digits, 12, 0)
    z, _ = scores_of(method, first)
    method.loss(first, progress())
    method.after_update(progress())
    for queue, pushed in zip(method.queues, z[:2], strict=True):
        torch.testing.assert_close(queue.embeddings, pushed, atol=1e-5, rtol=0)
    views = shown(method, digits, 12, 1)
    _, scores = scores_of(method, views)
    weight = method.prototypes.weight.detach()
    with_queue = [
        sinkhorn(torch.cat([s, q.embeddings @ weight.T]), 0.02)[:12]
        for s, q in zip(scores[:2], method.queues, strict=True)
    ]
    found = {epoch: total(method.loss(views, progress(1, epoch))) for epoch in (0, 1)}
    alone = [sinkhorn(s, 0.02) for s in scores[:2]]
    assert found[0] == pytest.approx(float(swapped_prediction(scores, alone)), rel=1e-5)
    assert found[1] == pytest.approx(float(swapped_prediction(scores, with_queue)), rel=1e-5)
    assert found[0] != pytest.approx(found[1], rel=1e-5)


def test_codes_are_balanced_inside_each_slot_and_without_the_queue(digits):
    method = made(digits, queue=20, queue_from=0)
    for queue in method.queues:
        queue.push(normalize(torch.randn(20, 8), dim=1))
    plain = shown(method, digits)
    slot = torch.arange(12) % 2
    views = Views(plain.named, plain.ids, slot=dict.fromkeys(plain.named, slot))
    _, scores = scores_of(method, views)
    codes = []
    for s in scores[:2]:
        code = torch.empty_like(s)
        for kind in (0, 1):
            code[slot == kind] = sinkhorn(s[slot == kind], 0.02)
        codes.append(code)
    held = method.queues[0].embeddings.clone()
    assert total(method.loss(views, progress())) == pytest.approx(float(swapped_prediction(scores, codes)), rel=1e-5)
    method.after_update(progress())
    assert torch.equal(method.queues[0].embeddings, held)


def test_without_small_views_any_encoder_serves(digits):
    method = made(digits, local_count=0)
    views = shown(method, digits)
    assert list(views.named) == ["a", "b"]
    assert torch.isfinite(method.loss(views, progress()).total)


def test_large_images_are_cropped_as_in_the_paper_and_small_ones_less():
    large = SwAV(build("small:convnet", image_size=224, channels=3, width=4))
    small = SwAV(build("small:convnet", image_size=28, channels=1, width=4))
    assert [(a.crop_scale, a.shape[0]) for a in large.augments] == [((0.14, 1.0), 224)] * 2 + [((0.05, 0.14), 96)] * 4
    assert [(a.crop_scale, a.shape[0]) for a in small.augments] == [((0.3, 1.0), 28)] * 2 + [((0.2, 0.5), 14)] * 4
    whole = SwAV(build("small:convnet", image_size=28, channels=1, width=4), view="none", local_count=1)
    assert [a.crop_scale for a in whole.augments] == [None, None, (0.2, 0.5)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0.0}, "temperature must be positive, got 0"),
        ({"epsilon": -1.0}, "epsilon must be positive, got -1"),
        ({"prototypes": 1}, "at least 2 prototypes"),
        ({"iterations": 0}, "1 iteration"),
        ({"queue": -1}, "queue must not be negative"),
        ({"local_count": 25}, "local_count is at most 24, got 25"),
    ],
)
def test_options_out_of_range_are_refused(digits, options, said):
    with pytest.raises(ValueError, match=said):
        made(digits, **options)


def test_it_learns_digits_better_than_its_own_random_start(digits, taught):
    method = made(digits, width=8, dimensions=128, prototypes=40, frozen=20, local_count=0)
    _, before, after = taught(method, 100)
    assert after > before + 0.03
