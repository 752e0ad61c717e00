"""Momentum contrast against a loop in float64: which keys repel, and what takes a gradient."""

from __future__ import annotations

import math

import pytest
import torch

from autodidact.objectives import cross_view_contrast, info_nce, momentum_contrast, same_slot


def rows(n, seed, d=6):
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(q, k, bank, t, allowed):
    unit = [[x / math.sqrt(float((x * x).sum())) for x in of] for of in (q, k, bank)]
    losses = []
    for i, (a, b) in enumerate(zip(unit[0], unit[1], strict=True)):
        positive = float(a @ b) / t
        others = [float(a @ c) / t for j, c in enumerate(unit[2]) if allowed[i, j]]
        losses.append(math.log(math.fsum(map(math.exp, [positive, *others]))) - positive)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("t", [0.07, 0.2, 1.0])
def test_it_is_its_definition(t):
    """Cross-entropy of the logits in the authors' `MoCo.forward` (moco/builder.py at 4397a04): to 1e-6 in float32."""
    q, k, bank = rows(5, 0), rows(5, 1), rows(9, 2)
    allowed = torch.rand(5, 9, generator=torch.Generator().manual_seed(3)) > 0.4
    found = momentum_contrast(q, k, bank, t, allowed=allowed)
    assert float(found) == pytest.approx(naive(q, k, bank, t, allowed), rel=1e-10)
    everything = torch.ones(5, 9, dtype=torch.bool)
    assert float(momentum_contrast(q, k, bank, t)) == pytest.approx(naive(q, k, bank, t, everything), rel=1e-10)


def test_only_queries_take_a_gradient():
    q, k, bank = (x.requires_grad_() for x in (rows(4, 0), rows(4, 1), rows(7, 2)))
    momentum_contrast(q, k, bank).backward()
    assert q.grad.abs().sum() > 0
    assert k.grad is None
    assert bank.grad is None


def test_the_gradient_is_that_of_finite_differences():
    k, bank = rows(3, 1), rows(5, 2)
    assert torch.autograd.gradcheck(lambda q: momentum_contrast(q, k, bank, 0.5), rows(3, 0).requires_grad_())


def test_a_query_without_negatives_loses_nothing():
    q = rows(2, 0).requires_grad_()
    allowed = torch.tensor([[False, False], [True, True]])
    total = momentum_contrast(q, rows(2, 1), rows(2, 2), allowed=allowed)
    total.backward()
    assert not q.grad[0].any()
    assert q.grad[1].any()


def test_equal_embeddings_lose_the_log_of_the_number_of_keys():
    assert float(momentum_contrast(torch.ones(3, 4), torch.ones(3, 4), torch.ones(8, 4))) == pytest.approx(math.log(9))


def test_values_out_of_range_are_refused():
    q, k = rows(3, 0), rows(3, 1)
    with pytest.raises(ValueError, match=r"K >= 1, got \(0, 6\)"):
        momentum_contrast(q, k, rows(0, 2))
    with pytest.raises(ValueError, match="temperature must be a positive number, got 0"):
        momentum_contrast(q, k, rows(3, 2), 0.0)
    with pytest.raises(ValueError, match="the bank holds NaN"):
        momentum_contrast(q, k, torch.full((2, 6), float("nan"), dtype=torch.float64))
    with pytest.raises(ValueError, match="the first view holds NaN"):
        momentum_contrast(q * float("nan"), k, rows(3, 2))


# Keys of the other view: the loss of MoCo v3 and SiT.


def naive_across(queries, keys, t):
    total = 0.0
    for u, v in zip(queries, reversed(keys), strict=True):
        for i in range(len(u)):
            a = u[i] / math.sqrt(float(u[i] @ u[i]))
            logits = [float(a @ b) / math.sqrt(float(b @ b)) / t for b in v]
            total += 2 * t * (math.log(math.fsum(map(math.exp, logits))) - logits[i]) / len(u)
    return total


@pytest.mark.parametrize("t", [0.1, 0.2, 1.0])
def test_the_contrast_across_views_is_its_definition(t):
    """MoCo.contrastive_loss of moco/builder.py in facebookresearch/moco-v3 at c349e6e and SimCLR of main.py in
    Sara-Ahmed/SiT at 7f22e9c, both views, give the same with the same gradients, to 1e-15 in float64."""
    queries, keys = (rows(5, 0), rows(5, 1)), (rows(5, 2), rows(5, 3))
    assert float(cross_view_contrast(queries, keys, t)) == pytest.approx(naive_across(queries, keys, t), rel=1e-12)


def test_the_contrast_across_views_does_not_hang_on_the_order_of_views_or_batch():
    queries, keys = (rows(5, 0), rows(5, 1)), (rows(5, 2), rows(5, 3))
    whole = cross_view_contrast(queries, keys)
    torch.testing.assert_close(cross_view_contrast(queries[::-1], keys[::-1]), whole)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = cross_view_contrast(tuple(q[order] for q in queries), tuple(k[order] for k in keys))
    torch.testing.assert_close(moved, whole)


def test_aligned_views_of_images_at_right_angles_lose_what_the_closed_form_says():
    z, t = 3 * torch.eye(6, dtype=torch.float64), 0.2
    expected = 4 * t * math.log(1 + 5 * math.exp(-1 / t))
    assert float(cross_view_contrast((z, z), (z, z), t)) == pytest.approx(expected, rel=1e-12)


def test_across_views_only_queries_take_a_gradient_and_it_is_that_of_finite_differences():
    queries, keys = [rows(3, s).requires_grad_() for s in (0, 1)], [rows(3, s).requires_grad_() for s in (2, 3)]
    cross_view_contrast(tuple(queries), tuple(keys)).backward()
    assert all(q.grad.abs().sum() > 0 for q in queries)
    assert all(k.grad is None for k in keys)
    fixed = tuple(k.detach() for k in keys)
    assert torch.autograd.gradcheck(lambda *q: cross_view_contrast(q, fixed, 0.5), queries)


def test_one_image_has_no_others_to_be_contrasted_with():
    one = (rows(1, 0), rows(1, 1))
    with pytest.raises(ValueError, match="a batch of 1 has no other image"):
        cross_view_contrast(one, one)


# Negatives of the own slot: the loss of BSS.


def naive_bss(z, t):
    """The loss of SimCLR with BSS: z (n, v, d); negatives are the other samples in the anchor's slot."""
    n, v, _ = z.shape
    z = torch.nn.functional.normalize(z, dim=2)
    total = 0.0
    for i in range(n):
        for a in range(v):
            others = math.fsum(math.exp(float(z[i, a] @ z[k, a]) / t) for k in range(n) if k != i)
            for b in range(v):
                if b != a:
                    positive = float(z[i, a] @ z[i, b]) / t
                    total -= positive - math.log(math.exp(positive) + others)
    return total / (n * v * (v - 1))


@pytest.mark.parametrize("slots", [2, 3, 4])
def test_nt_xent_inside_slots_is_the_loss_of_bss(slots):
    z = torch.stack([rows(6, seed) for seed in range(slots)], dim=1)
    pairs = [(a, b) for a in range(slots) for b in range(a + 1, slots)]
    rules = [same_slot(torch.full((6,), a), torch.full((6,), b)) for a, b in pairs]
    found = [info_nce(z[:, a], z[:, b], 0.3, allowed=rule) for (a, b), rule in zip(pairs, rules, strict=True)]
    assert float(torch.stack(found).mean()) == pytest.approx(naive_bss(z, 0.3), rel=1e-10)


def test_with_one_slot_for_both_views_it_is_nt_xent():
    z1, z2 = rows(6, 0), rows(6, 1)
    one = torch.zeros(6, dtype=torch.long)
    assert float(info_nce(z1, z2, allowed=same_slot(one, one))) == pytest.approx(float(info_nce(z1, z2)), rel=1e-12)


def test_equal_embeddings_lose_the_log_of_n_inside_slots_and_of_2n_minus_1_among_all():
    z = torch.ones(8, 4)
    inside = info_nce(z, z, allowed=same_slot(torch.zeros(8, dtype=torch.long), torch.ones(8, dtype=torch.long)))
    assert float(inside) == pytest.approx(math.log(8))
    assert float(info_nce(z, z)) == pytest.approx(math.log(15))


def test_slots_may_differ_from_row_to_row_and_leave_out_a_queue():
    z1, z2, queue = rows(4, 0), rows(4, 1), rows(3, 2)
    slot = torch.tensor([0, 1, 0, 1])
    allowed = torch.cat([slot, slot])[:, None] == torch.cat([slot, slot])
    expected = info_nce(z1, z2, allowed=allowed)
    assert float(info_nce(z1, z2, allowed=same_slot(slot, slot))) == pytest.approx(float(expected), rel=1e-12)
    with_queue = info_nce(z1, z2, allowed=same_slot(slot, slot), negatives=queue)
    assert float(with_queue) == pytest.approx(float(expected), rel=1e-12)
