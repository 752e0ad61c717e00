"""Sinkhorn-Knopp and the swapped prediction against loops in float64, and in their limits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.objectives import power_law, sinkhorn, swapped_prediction


def scores(n, k, seed=0, dtype=torch.float64):
    return torch.rand(n, k, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def naive_sinkhorn(s, epsilon, iterations):
    """Scale the prototypes, then the samples, one entry at a time."""
    n, k = s.shape
    q = [[math.exp(float(s[i, j]) / epsilon) for j in range(k)] for i in range(n)]
    for _ in range(iterations):
        for j in range(k):
            total = math.fsum(q[i][j] for i in range(n))
            for i in range(n):
                q[i][j] /= total * k
        for i in range(n):
            total = math.fsum(q[i])
            for j in range(k):
                q[i][j] /= total * n
    return [[n * value for value in row] for row in q]


@pytest.mark.parametrize(("n", "k", "epsilon", "iterations"), [(7, 3, 0.05, 3), (4, 9, 0.3, 1), (6, 6, 0.1, 10)])
def test_sinkhorn_is_its_definition(n, k, epsilon, iterations):
    """Also the authors' `distributed_sinkhorn` (main_swav.py at 04b8f43), to 3e-7 in float32; their loss, exactly."""
    s = scores(n, k)
    expected = torch.tensor(naive_sinkhorn(s, epsilon, iterations), dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(s, epsilon, iterations), expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(2, 20), st.sampled_from([0.02, 0.05, 0.5]), st.integers(0, 99))
def test_every_sample_is_assigned_wholly_and_many_iterations_use_all_prototypes_alike(n, k, epsilon, seed):
    codes = sinkhorn(scores(n, k, seed), epsilon, 2000)
    assert (codes >= 0).all()
    torch.testing.assert_close(codes.sum(1), torch.ones(n, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(0), torch.full((k,), n / k, dtype=torch.float64), rtol=0.05, atol=0.02)


def test_equal_scores_give_uniform_codes_and_a_large_epsilon_tends_there():
    uniform = torch.full((6, 4), 0.25, dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(torch.zeros(6, 4, dtype=torch.float64)), uniform)
    assert (sinkhorn(scores(6, 4), 1e6) - uniform).abs().max() < 1e-5


def test_a_small_epsilon_gives_each_sample_one_prototype_and_does_not_overflow():
    codes = sinkhorn(torch.eye(8) + 0.1 * scores(8, 8, dtype=torch.float32), 1e-4, 3)
    torch.testing.assert_close(codes, torch.eye(8))


def test_samples_that_all_prefer_one_prototype_are_spread():
    s = scores(12, 4)
    s[:, 0] += 1
    assert sinkhorn(s, 0.05, 50).sum(0).max() < 3.3


def test_a_swapped_prediction_is_its_definition():
    views = [scores(5, 4, seed) for seed in range(4)]
    codes = [sinkhorn(view, 0.1) for view in views[:2]]
    total = 0.0
    for v, code in enumerate(codes):
        for u, view in enumerate(views):
            if u == v:
                continue
            for i in range(5):
                log_sum = math.log(math.fsum(math.exp(float(x) / 0.3) for x in view[i]))
                total -= math.fsum(float(code[i, k]) * (float(view[i, k]) / 0.3 - log_sum) for k in range(4))
    assert float(swapped_prediction(views, codes, 0.3)) == pytest.approx(total / (2 * 3 * 5), rel=1e-12)


def test_codes_take_no_gradient_and_the_scores_of_a_view_do_not_learn_from_its_own_code():
    first, second = (scores(5, 4, seed).requires_grad_() for seed in range(2))
    code = scores(5, 4, 2).softmax(1).requires_grad_()
    swapped_prediction([first, second], [code]).backward()
    assert first.grad is None or not first.grad.any()
    assert second.grad.abs().sum() > 0
    assert code.grad is None


def test_the_gradient_is_that_of_finite_differences():
    codes = [sinkhorn(scores(3, 4, seed)) for seed in (5, 6)]
    views = [scores(3, 4, seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(lambda *s: swapped_prediction(s, codes, 0.5), views)


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="epsilon must be a positive number, got 0"):
        sinkhorn(scores(3, 3), 0.0)
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        sinkhorn(scores(3, 3), iterations=0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        sinkhorn(torch.tensor([[0.0, float("nan")]]))
    with pytest.raises(ValueError, match="got 1 views and 1 codes"):
        swapped_prediction([scores(3, 3)], [scores(3, 3)])
    with pytest.raises(ValueError, match="temperature"):
        swapped_prediction([scores(3, 3)] * 2, [scores(3, 3)], 0.0)


def test_many_iterations_bring_the_prototypes_to_their_shares_within_a_thousandth():
    s = scores(400, 20)
    assert (sinkhorn(s, 0.05, 50).mean(0) - 1 / 20).abs().max() < 1e-3
    shares = power_law(20, 1.0).double()
    assert (sinkhorn(s, 0.05, 50, marginal=shares).mean(0) - shares).abs().max() < 1e-3


@pytest.mark.parametrize("iterations", [1, 4])
def test_sinkhorn_with_shares_is_its_definition(iterations):
    s, shares = scores(6, 4), [0.5, 0.25, 0.2, 0.05]
    q = [[math.exp(float(v) / 0.1) for v in row] for row in s]
    for _ in range(iterations):
        for j, share in enumerate(shares):
            total = math.fsum(row[j] for row in q)
            for row in q:
                row[j] *= share / total
        for row in q:
            total = math.fsum(row)
            row[:] = [value / total for value in row]
    found = sinkhorn(s, 0.1, iterations, marginal=torch.tensor(shares, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor(q, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    # Only the proportions of the shares count, and equal ones change nothing.
    torch.testing.assert_close(sinkhorn(s, 0.1, iterations, marginal=7 * torch.tensor(shares).double()), found)
    torch.testing.assert_close(sinkhorn(s, 0.1, iterations, marginal=torch.ones(4)), sinkhorn(s, 0.1, iterations))


def test_a_power_law_has_shares_in_the_proportions_of_the_ranks_powers():
    torch.testing.assert_close(power_law(3, 1.0), torch.tensor([6 / 11, 3 / 11, 2 / 11]))
    torch.testing.assert_close(power_law(5, 0.0), torch.full((5,), 0.2))
    with pytest.raises(ValueError, match="exponent >= 0, got 3 and -1"):
        power_law(3, -1.0)


def test_scores_of_a_thousand_are_safe_in_float32():
    s = 1000 * scores(16, 8, dtype=torch.float32)
    codes = sinkhorn(s, 0.03, 10)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(codes.sum(1), torch.ones(16))
    torch.testing.assert_close(codes.double(), sinkhorn(s.double(), 0.03, 10), rtol=0, atol=0.02)


def test_identical_views_with_hard_codes_reach_the_least_cross_entropy():
    hard = torch.eye(4, dtype=torch.float64)
    s = (20 * hard).requires_grad_()
    loss = swapped_prediction([s, s, s], [hard, hard], 0.1)
    assert float(loss.detach()) < 1e-12
    loss.backward()
    assert s.grad.abs().max() < 1e-12


def test_shares_that_are_not_positive_are_refused():
    with pytest.raises(ValueError, match="shares of the prototypes must be positive"):
        sinkhorn(scores(3, 2), marginal=torch.tensor([1.0, 0.0]))
