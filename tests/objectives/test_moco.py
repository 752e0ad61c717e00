"""Momentum contrast against a loop in float64: which keys repel, and what takes a gradient."""

from __future__ import annotations

import math

import pytest
import torch

from autodidact.objectives import info_nce, momentum_contrast, same_slot


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
