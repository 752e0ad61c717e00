"""MoCo: what repels a query, what the slow copy is, and that keys hang on nothing but their own image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.image.moco import MoCo
from autodidact.methods.method import Progress, Views


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def made(source, width=4, **options):
    torch.manual_seed(0)
    encoder = build("small:convnet", schema=source.schema, width=width)
    return MoCo(encoder, **{"dimensions": 8, "queue": 12, **options})


def progress(step=0):
    return Progress(step, 100, 0, torch.Generator().manual_seed(step))


def shown(method, source, rows, step=0):
    return method.views(source.batch(np.asarray(rows)), progress(step))


def cross_entropy(q, k, bank, allowed, t=0.2):
    q, k, bank = (normalize(x.double(), dim=1) for x in (q, k, bank))
    logits = torch.cat([(q * k).sum(1, keepdim=True), (q @ bank.T).masked_fill(~allowed, -torch.inf)], dim=1) / t
    return torch.nn.functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def keys_of(method, images):
    return method.slow_projector(method.slow_encoder(images).pooled)


def test_a_query_is_contrasted_with_the_other_keys_of_its_batch_and_the_queue_except_its_own_images_keys(digits):
    method = made(digits)
    for step, rows in enumerate(([0, 1, 2, 3], [2, 3, 4, 5])):
        method.loss(shown(method, digits, rows, step), progress(step))
        method.after_update(progress(step))
    views = shown(method, digits, [0, 4, 6], 2)
    loss = method.loss(views, progress())
    keys = keys_of(method, views["b"])
    bank = torch.cat([keys, method.queue.embeddings])
    ids = torch.cat([views.ids, method.queue.ids])
    allowed = views.ids[:, None] != ids
    assert (~allowed).sum(1).tolist() == [2, 2, 1]
    assert float(loss.total.detach()) == pytest.approx(
        float(cross_entropy(loss.watch["projection"].detach(), keys, bank, allowed)), rel=1e-5
    )


def test_symmetric_makes_each_view_query_once(digits):
    method = made(digits, symmetric=True)
    views = shown(method, digits, range(6))
    keys = {name: keys_of(method, views[name]) for name in "ab"}
    queries = {name: method.projector(method.encoder(views[name]).pooled).detach() for name in "ab"}
    bank = torch.cat([keys["b"], keys["a"]])
    allowed = ~torch.eye(6, dtype=torch.bool).repeat(1, 2)
    expected = [cross_entropy(queries[u], keys[v], bank, allowed) for u, v in ("ab", "ba")]
    assert float(method.loss(views, progress()).total.detach()) == pytest.approx(float(sum(expected)) / 2, rel=1e-5)
    method.after_update(progress())
    assert len(method.queue) == 12


def test_where_views_have_slots_only_keys_of_the_querys_slot_repel_and_the_queue_is_left_alone(digits):
    method = made(digits)
    method.queue.push(torch.randn(12, 8), torch.arange(12))
    held = method.queue.embeddings.clone()
    plain = shown(method, digits, range(6))
    slot = {name: torch.full((6,), number) for number, name in enumerate("ab")}
    views = Views(plain.named, plain.ids, slot=slot)
    keys = {name: keys_of(method, views[name]) for name in "ab"}
    queries = {name: method.projector(method.encoder(views[name]).pooled).detach() for name in "ab"}
    others = ~torch.eye(6, dtype=torch.bool)
    expected = [cross_entropy(queries[u], keys[v], keys[u], others) for u, v in ("ab", "ba")]
    assert float(method.loss(views, progress()).total.detach()) == pytest.approx(float(sum(expected)) / 2, rel=1e-5)
    method.after_update(progress())
    assert torch.equal(method.queue.embeddings, held)


def test_a_key_depends_on_its_own_image_alone_so_no_batch_statistic_leaks_into_it(digits):
    method = made(digits)
    for _ in range(3):
        method.loss(shown(method, digits, range(8)), progress())
        method.after_update(progress())
    images = shown(method, digits, range(8))["b"]
    method.train()
    torch.testing.assert_close(keys_of(method, images)[:2], keys_of(method, images[:2]))
    alone, among = (method.encoder(images[rows]).pooled[:2] for rows in (slice(2), slice(8)))
    assert (alone - among).abs().max() > 1e-3


def test_the_slow_copy_takes_no_gradient_and_follows_by_its_momentum(digits):
    method = made(digits, momentum=0.9)
    loss = method.loss(shown(method, digits, range(6)), progress())
    loss.total.backward()
    slow = list(method.slow_encoder.module.parameters())
    assert all(p.grad is None for p in slow)
    before = [p.clone() for p in slow]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    method.after_update(progress())
    for old, new, own in zip(before, slow, method.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * own)
    trained = {id(p) for group in method.groups() for p in group.parameters}
    assert not trained & {id(p) for p in slow}


def test_all_keys_of_an_accumulated_update_reach_the_queue_with_their_ids(digits):
    method = made(digits)
    for rows in ([0, 1, 2], [7, 8]):
        method.loss(shown(method, digits, rows), progress())
    assert len(method.queue) == 0
    method.after_update(progress())
    assert method.queue.ids.tolist() == digits.ids[[0, 1, 2, 7, 8]].tolist()
    assert method.made == []


@pytest.mark.parametrize(
    ("options", "said"),
    [({"temperature": 0.0}, "temperature"), ({"momentum": 1.5}, "momentum"), ({"queue": 0}, "size=0")],
)
def test_options_out_of_range_are_refused(digits, options, said):
    with pytest.raises(ValueError, match=said):
        made(digits, **options)


def test_it_learns_digits_better_than_its_own_random_start(digits, taught):
    _, before, after = taught(made(digits, width=8, momentum=0.99, queue=256, dimensions=128, symmetric=True), 200)
    assert after > before + 0.03
