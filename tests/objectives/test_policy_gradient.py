"""Policy gradients on a policy small enough to enumerate: three tokens, two places, nine answers.

Every estimator is compared with the exact gradient of the expected reward, by the mean over all samples that could have
been drawn, each weighted with its probability.

`test_against_trl.py` holds them to the loss code of GRPOTrainer and RLOOTrainer in trl, where that is installed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autodidact.objectives import (
    adapted_beta,
    clipped_loss,
    gae,
    group_normalised,
    kl_categorical,
    kl_k1,
    kl_k2,
    kl_k3,
    raml_weights,
    reinforce_loss,
    reward_with_kl,
    rloo,
    running_baseline,
    self_critical,
    token_entropy,
    trajectory_balance,
    value_loss,
    whitened,
)

ANSWERS = torch.tensor(list(itertools.product(range(3), repeat=2)))
REWARDS = torch.tensor([0.0, 1.0, 0.2, -0.5, 2.0, 0.3, 0.7, -1.0, 1.5], dtype=torch.float64)
WHOLE = torch.ones(9, 2, dtype=torch.bool)


def parameters(seed: int = 0) -> Tensor:
    """Logits: row 0 of the first token, row 1 + i of the second after token i."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, dtype=torch.float64, generator=generator).requires_grad_()


def states(theta: Tensor) -> Tensor:
    """Logits at both places of every answer, (9, 2, 3)."""
    return torch.stack([theta[0].expand(9, 3), theta[1 + ANSWERS[:, 0]]], 1)


def logprobs(theta: Tensor) -> Tensor:
    """Log-probabilities of the tokens of every answer, (9, 2)."""
    return states(theta).log_softmax(-1).gather(2, ANSWERS[..., None])[..., 0]


def probabilities(theta: Tensor) -> Tensor:
    return logprobs(theta).sum(1).exp()


def exact(theta: Tensor, rewards: Tensor = REWARDS) -> Tensor:
    """The gradient of the expected reward, by summation over all answers."""
    return torch.autograd.grad(probabilities(theta) @ rewards, theta)[0]


def expected(theta: Tensor, loss: Callable[[Tensor, Tensor], Tensor], k: int = 1) -> Tensor:
    """The mean of minus the gradient of a loss of k samples, over all samples.

    The loss is given the log-probabilities and the rewards of the samples, (k, 2) and (1, k).
    """
    all_logprobs, p = logprobs(theta), probabilities(theta).detach()
    total = theta.new_zeros(())
    for drawn in itertools.product(range(9), repeat=k):
        at = list(drawn)
        total = total - p[at].prod() * loss(all_logprobs[at], REWARDS[at][None])
    return torch.autograd.grad(total, theta)[0]


def reinforce(advantages: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda drawn, rewards: reinforce_loss(drawn, WHOLE[: len(drawn)], advantages(rewards).flatten())


def test_reinforce_is_unbiased_whatever_its_running_baseline() -> None:
    theta = parameters()
    for baseline in (0.0, -3.0):
        found = expected(theta, reinforce(lambda r, b=baseline: running_baseline(r[0], b)[0]))
        torch.testing.assert_close(found, exact(theta), atol=1e-10, rtol=0)


def test_self_critical_is_unbiased() -> None:
    theta = parameters()
    first = int(theta[0].argmax())
    greedy = REWARDS[3 * first + int(theta[1 + first].argmax())][None]
    found = expected(theta, reinforce(lambda r: self_critical(r, greedy)))
    torch.testing.assert_close(found, exact(theta), atol=1e-10, rtol=0)


@pytest.mark.parametrize("k", [2, 3])
def test_leaving_one_out_is_unbiased(k: int) -> None:
    theta = parameters()
    torch.testing.assert_close(expected(theta, reinforce(rloo), k), exact(theta), atol=1e-10, rtol=0)


def test_a_group_mean_that_includes_the_sample_scales_the_gradient_by_k_minus_one_over_k() -> None:
    theta = parameters()
    found = expected(theta, reinforce(lambda r: group_normalised(r, std=False)), 2)
    torch.testing.assert_close(found, exact(theta) / 2, atol=1e-10, rtol=0)


def test_dividing_by_the_spread_of_two_samples_climbs_the_probability_of_winning_instead() -> None:
    theta = parameters()
    found = expected(theta, reinforce(lambda r: group_normalised(r, eps=1e-12)), 2)
    p = probabilities(theta).detach()
    ahead = (REWARDS[:, None] > REWARDS).double() - (REWARDS[:, None] < REWARDS).double()
    torch.testing.assert_close(found, exact(theta, ahead @ p / math.sqrt(2)), atol=1e-9, rtol=0)
    right = exact(theta)
    cosine = float((found * right).sum() / found.norm() / right.norm())
    assert cosine < 0.99


def test_on_the_first_step_the_clipped_loss_has_the_gradient_of_reinforce() -> None:
    theta = parameters()
    advantages = REWARDS - 0.3
    for normaliser in ("token", "sequence", 1.0):
        drawn = logprobs(theta)
        clipped = clipped_loss(drawn, drawn.detach(), WHOLE, advantages, 0.2, normaliser)
        plain = reinforce_loss(drawn, WHOLE, advantages, normaliser)
        first, second = (torch.autograd.grad(loss, theta, retain_graph=True)[0] for loss in (clipped, plain))
        torch.testing.assert_close(first, second, atol=1e-14, rtol=0)


def test_off_the_sampling_policy_clipping_is_biased_and_the_bare_ratio_is_not() -> None:
    """In whole sequences as single tokens, for which importance weights are exact."""
    theta, old = parameters(), logprobs(parameters(1)).detach().sum(1, keepdim=True)
    mask = WHOLE[:, :1]

    def gradient(clip: float) -> Tensor:
        # The sum over all answers, each weighted with its probability under the policy that drew it.
        weights = 9 * old.exp()[:, 0] * REWARDS
        loss = clipped_loss(logprobs(theta).sum(1, keepdim=True), old, mask, weights, clip, 1.0)
        return -torch.autograd.grad(loss, theta)[0]

    torch.testing.assert_close(gradient(math.inf), exact(theta), atol=1e-10, rtol=0)
    assert (gradient(0.2) - exact(theta)).abs().max() > 1e-2


@pytest.mark.parametrize("constant", [-5.0, 0.1, 1e3])
def test_a_constant_added_to_the_rewards_changes_no_advantage_of_a_group(constant: float) -> None:
    rewards = torch.randn(5, 4, dtype=torch.float64)
    for advantages in (rloo, group_normalised, lambda r: group_normalised(r, std=False)):
        torch.testing.assert_close(advantages(rewards + constant), advantages(rewards), atol=1e-10, rtol=0)


@settings(max_examples=60, deadline=None)
@given(rewards=st.lists(st.lists(st.floats(-10, 10), min_size=4, max_size=4), min_size=1, max_size=4))
def test_group_advantages_are_those_of_a_loop(rewards) -> None:
    given = torch.tensor(rewards, dtype=torch.float64)
    for row, left_out, normal in zip(rewards, rloo(given).tolist(), group_normalised(given).tolist(), strict=True):
        mean = sum(row) / 4
        spread = math.sqrt(sum((r - mean) ** 2 for r in row) / 3)
        for i, r in enumerate(row):
            assert left_out[i] == pytest.approx(r - (sum(row) - r) / 3, abs=1e-9)
            assert normal[i] == pytest.approx((r - mean) / (spread + 1e-4), abs=1e-7)


def test_equal_rewards_give_no_advantage_at_all() -> None:
    equal = torch.full((3, 7), 0.1)
    for advantages in (rloo(equal), group_normalised(equal), group_normalised(equal, eps=1e-12)):
        assert advantages.abs().max() == 0


def test_nearly_equal_rewards_do_not_explode() -> None:
    rewards = torch.tensor([[0.5, 0.5, 0.5, 0.5 + 1e-7]], dtype=torch.float64)
    assert group_normalised(rewards).abs().max() < 1e-2


def test_a_running_baseline_is_that_of_earlier_rewards_and_moves_towards_later_ones() -> None:
    rewards = torch.tensor([1.0, 3.0], dtype=torch.float64)
    advantages, after = running_baseline(rewards, 0.5, 0.9)
    assert advantages.tolist() == [0.5, 2.5]
    assert after == pytest.approx(0.9 * 0.5 + 0.1 * 2)


def episodes() -> tuple[Tensor, Tensor, Tensor]:
    """Rewards and values with NaN outside the mask: padding, a gap, a sequence of one token, and one without any."""
    mask = torch.tensor([[1, 1, 1, 1, 0], [0, 1, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
    rewards, values = (torch.randn(4, 5, dtype=torch.float64).where(mask, math.nan) for _ in range(2))
    return rewards, values, mask


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.95), (1.0, 0.0), (0.5, 1.0)])
def test_generalised_advantages_are_the_discounted_sum_of_errors(gamma: float, lam: float) -> None:
    rewards, values, mask = episodes()
    found = gae(rewards, values, mask, gamma, lam)
    for i in range(4):
        at = [t for t in range(5) if mask[i, t]]
        r, v = ([float(x[i, t]) for t in at] for x in (rewards, values))
        errors = [r[s] + gamma * (v[s + 1] if s + 1 < len(at) else 0) - v[s] for s in range(len(at))]
        for s, t in enumerate(at):
            naive = sum((gamma * lam) ** (u - s) * errors[u] for u in range(s, len(at)))
            assert float(found[i, t]) == pytest.approx(naive, abs=1e-12)
    assert (found[~mask] == 0).all()


def test_without_discount_the_generalised_advantage_is_the_return_less_the_value() -> None:
    rewards, values, mask = episodes()
    kept = rewards.where(mask, 0.0)
    returns = kept.flip(1).cumsum(1).flip(1)
    expected = (returns - values).where(mask, 0.0)
    torch.testing.assert_close(gae(rewards, values, mask, 1.0, 1.0), expected)


def test_whitened_advantages_have_mean_zero_and_variance_one_over_the_batch() -> None:
    rewards, _, mask = episodes()
    found = whitened(rewards, mask)[mask]
    values = rewards[mask]
    torch.testing.assert_close(found, (values - values.mean()) / values.std(correction=0), rtol=1e-6, atol=0)
    assert (whitened(rewards, mask)[~mask] == 0).all()


def test_reinforce_and_clipped_losses_are_those_of_a_loop() -> None:
    mask = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
    drawn, old = (-torch.rand(3, 5, dtype=torch.float64) for _ in range(2))
    advantages = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    plain, clipped = [], []
    for i in range(3):
        plain.append([-float(advantages[i] * drawn[i, t]) for t in range(5) if mask[i, t]])
        rows = []
        for t in range(5):
            if mask[i, t]:
                ratio = math.exp(float(drawn[i, t] - old[i, t]))
                bounded = min(max(ratio, 1 - 0.1), 1 + 0.3)
                rows.append(-min(ratio * float(advantages[i]), bounded * float(advantages[i])))
        clipped.append(rows)
    for rows, loss in (
        (plain, lambda normaliser: reinforce_loss(drawn, mask, advantages, normaliser)),
        (clipped, lambda normaliser: clipped_loss(drawn, old, mask, advantages, (0.1, 0.3), normaliser)),
    ):
        assert float(loss("token")) == pytest.approx(sum(map(sum, rows)) / 10, abs=1e-12)
        assert float(loss("sequence")) == pytest.approx(sum(sum(r) / len(r) for r in rows) / 3, abs=1e-12)
        assert float(loss(5.0)) == pytest.approx(sum(map(sum, rows)) / 3 / 5, abs=1e-12)


def test_tokens_past_the_bound_that_their_advantage_pushes_to_carry_no_gradient() -> None:
    ratios = torch.tensor([[1.5, 0.5, 1.5, 0.5, 1.1]], dtype=torch.float64)
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0, 1.0]], dtype=torch.float64)
    drawn = ratios.log().requires_grad_()
    clipped_loss(drawn, torch.zeros_like(ratios), ratios > 0, advantages, 0.2, 1.0).backward()
    expected = [0.0, -0.5, 1.5, 0.0, -1.1]
    torch.testing.assert_close(drawn.grad[0].tolist(), expected)


def test_tokens_after_the_end_carry_neither_loss_nor_divergence() -> None:
    mask = torch.arange(4) < torch.tensor([2, 4])[:, None]
    given = [(-torch.rand(2, 4, dtype=torch.float64)).where(mask, -math.inf).requires_grad_() for _ in range(2)]
    drawn, other = given
    advantages = torch.ones(2, 4, dtype=torch.float64).where(mask, math.nan)
    total = reinforce_loss(drawn, mask, advantages) + clipped_loss(drawn, other, mask, advantages)
    for kl in (kl_k1, kl_k2, kl_k3):
        found = kl(drawn, other, mask)
        assert (found[~mask] == 0).all()
        total = total + found.sum()
    assert (reward_with_kl(torch.ones(2, dtype=torch.float64), drawn, other, mask, 0.1)[~mask] == 0).all()
    total.backward()
    assert torch.isfinite(total.detach())
    assert (drawn.grad[~mask] == 0).all()
    assert torch.isfinite(drawn.grad).all()


def test_the_value_loss_takes_the_worse_of_the_prediction_and_the_one_kept_near_the_old() -> None:
    values, old, returns = torch.randn(3, 4, 5, dtype=torch.float64)
    mask = torch.rand(4, 5) < 0.7
    naive = []
    for v, o, g in zip(values[mask].tolist(), old[mask].tolist(), returns[mask].tolist(), strict=True):
        near = o + min(max(v - o, -0.2), 0.2)
        naive.append(max((v - g) ** 2, (near - g) ** 2) / 2)
    assert float(value_loss(values, old, returns, mask, 0.2)) == pytest.approx(sum(naive) / len(naive), abs=1e-12)
    squared = (values - returns)[mask].square().mean() / 2
    torch.testing.assert_close(value_loss(values, old, returns, mask), squared)


def divergence(theta: Tensor, reference: Tensor) -> Tensor:
    """KL of whole answers."""
    ours, theirs = logprobs(theta).sum(1), logprobs(reference).sum(1)
    return (ours.exp() * (ours - theirs)).sum()


def of_one_token(theta: Tensor, reference: Tensor, kl: Callable[..., Tensor]) -> tuple[float, Tensor]:
    """Expected value of an estimate for the first token, and its expected gradient through log pi."""
    ours, theirs = theta[0].log_softmax(0)[:, None], reference[0].log_softmax(0)[:, None].detach()
    loss = (ours.exp().detach() * kl(ours, theirs, torch.ones(3, 1, dtype=torch.bool))).sum()
    return float(loss.detach()), torch.autograd.grad(loss, theta)[0][0]


def test_as_values_k1_and_k3_are_unbiased() -> None:
    theta, reference = parameters(), parameters(1)
    right = float(kl_categorical(theta[None, :1], reference[None, :1]).detach())
    for kl in (kl_k1, kl_k3):
        assert of_one_token(theta, reference, kl)[0] == pytest.approx(right, abs=1e-12)


def test_differentiated_through_log_pi_k1_does_nothing_k2_is_right_and_k3_is_the_forward_divergence() -> None:
    theta, reference = parameters(), parameters(1)
    ours, theirs = theta[0].log_softmax(0), reference[0].log_softmax(0).detach()
    reverse = torch.autograd.grad((ours.exp() * (ours - theirs)).sum(), theta, retain_graph=True)[0][0]
    forward = torch.autograd.grad((theirs.exp() * (theirs - ours)).sum(), theta)[0][0]
    assert of_one_token(theta, reference, kl_k1)[1].abs().max() < 1e-12
    torch.testing.assert_close(of_one_token(theta, reference, kl_k2)[1], reverse, atol=1e-12, rtol=0)
    torch.testing.assert_close(of_one_token(theta, reference, kl_k3)[1], forward, atol=1e-12, rtol=0)
    assert (forward - reverse).abs().max() > 1e-2


def test_the_exact_divergence_is_a_sum_over_the_vocabulary_and_differentiable() -> None:
    logits, other = torch.randn(2, 2, 3, 5, dtype=torch.float64)
    found = kl_categorical(logits, other)
    p, q = logits.softmax(-1), other.softmax(-1)
    naive = sum(p[..., v] * (p[..., v] / q[..., v]).log() for v in range(5))
    torch.testing.assert_close(found, naive)
    assert torch.autograd.gradcheck(lambda x: kl_categorical(x, other), (logits.requires_grad_(),))


def test_tokens_that_are_never_said_add_nothing_to_divergence_and_entropy() -> None:
    logits = torch.tensor([[[0.3, -math.inf, 0.9]]], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([[[1.0, 2.0, -1.0]]], dtype=torch.float64)
    kept = torch.tensor([0, 2])
    found = kl_categorical(logits, other) + token_entropy(logits)
    p, q = logits.detach()[..., kept].softmax(-1), other.softmax(-1)[..., kept]
    torch.testing.assert_close(found.detach(), (p * (p / q).log() - p * p.log()).sum(-1))
    found.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_entropy_is_the_log_of_the_vocabulary_where_all_tokens_are_alike_and_zero_where_one_is_sure() -> None:
    logits = torch.tensor([[[2.0] * 4, [0.0, 900.0, 0.0, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(token_entropy(logits)[0].tolist(), [math.log(4), 0.0])


@settings(max_examples=60, deadline=None)
@given(d=st.floats(-8, 8), small=st.booleans())
def test_k3_is_never_negative(d: float, small: bool) -> None:
    ref = torch.tensor([[d * (1e-5 if small else 1.0)]], dtype=torch.float32)
    assert float(kl_k3(torch.zeros(1, 1), ref, torch.ones(1, 1, dtype=torch.bool))) >= 0


def test_at_the_reference_all_divergences_and_the_gradients_of_k2_and_k3_are_zero() -> None:
    theta = parameters()
    drawn = logprobs(theta)
    for kl in (kl_k1, kl_k2, kl_k3):
        assert kl(drawn, drawn, WHOLE).abs().max() == 0
    for kl in (kl_k2, kl_k3):
        assert torch.autograd.grad(kl(drawn, drawn, WHOLE).sum(), theta, retain_graph=True)[0].abs().max() == 0
    assert kl_categorical(states(theta), states(theta)).abs().max() == 0


def test_the_reward_stands_at_the_last_token_and_the_price_at_every_token() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 0, 1]]).bool()
    drawn, ref = (-torch.rand(2, 4, dtype=torch.float64) for _ in range(2))
    found = reward_with_kl(torch.tensor([2.0, -1.0], dtype=torch.float64), drawn, ref, mask, 0.3)
    naive = (-0.3 * (drawn - ref)).where(mask, 0.0)
    naive[0, 2] += 2
    naive[1, 3] -= 1
    torch.testing.assert_close(found, naive)
    clamped = reward_with_kl(
        torch.zeros(2, dtype=torch.float64), drawn, ref, mask, 0.3, kl=lambda *g: kl_k1(*g).clamp(min=0)
    )
    torch.testing.assert_close(clamped, (-0.3 * (drawn - ref).clamp(min=0)).where(mask, 0.0))


def test_in_the_reward_k1_gives_the_exact_gradient_of_reward_less_divergence() -> None:
    theta, reference, beta = parameters(), parameters(1), 0.4
    drawn, p = logprobs(theta), probabilities(theta).detach()
    shaped = reward_with_kl(REWARDS, drawn, logprobs(reference), WHOLE, beta)
    to_go = gae(shaped, torch.zeros_like(shaped), WHOLE, 1.0, 1.0)
    found = -torch.autograd.grad(reinforce_loss(drawn, WHOLE, 9 * p[:, None] * to_go), theta)[0]
    right = torch.autograd.grad(probabilities(theta) @ REWARDS - beta * divergence(theta, reference), theta)[0]
    torch.testing.assert_close(found, right, atol=1e-10, rtol=0)


def test_reward_less_divergence_converges_to_the_reference_tilted_by_the_rewards() -> None:
    theta, reference, beta = parameters(), parameters(1).detach(), 0.7
    ref = logprobs(reference)
    optimiser = torch.optim.Adam([theta], lr=0.1)
    for _ in range(150):
        drawn, p = logprobs(theta), probabilities(theta).detach()
        shaped = reward_with_kl(REWARDS, drawn, ref, WHOLE, beta)
        to_go = gae(shaped, torch.zeros_like(shaped), WHOLE, 1.0, 1.0)
        optimiser.zero_grad()
        reinforce_loss(drawn, WHOLE, 9 * p[:, None] * to_go).backward()
        optimiser.step()
    tilted = probabilities(reference) * (REWARDS / beta).exp()
    torch.testing.assert_close(probabilities(theta).detach(), tilted / tilted.sum(), atol=1e-3, rtol=0)


def test_the_price_rises_above_the_target_and_falls_below_it_within_bounds() -> None:
    assert adapted_beta(0.1, kl=6.0, target=6.0) == 0.1
    assert adapted_beta(0.1, kl=6.6, target=6.0) == pytest.approx(0.1 * 1.01)
    assert adapted_beta(0.1, kl=60.0, target=6.0) == pytest.approx(0.1 * 1.02)
    assert adapted_beta(0.1, kl=0.0, target=6.0, rate=0.5, clip=0.4) == pytest.approx(0.1 * 0.8)


def test_likelihood_weights_are_a_softmax_of_rewards_and_tend_to_the_best_and_to_all() -> None:
    rewards = torch.tensor([[1.0, 2.0, 2.0], [0.0, -math.inf, 3.0]], dtype=torch.float64)
    weights = [[math.exp(r / 0.5) for r in row] for row in rewards.tolist()]
    expected = [[w / sum(row) for w in row] for row in weights]
    torch.testing.assert_close(raml_weights(rewards, 0.5).tolist(), expected)
    torch.testing.assert_close(raml_weights(rewards, 1e-4).tolist(), [[0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(raml_weights(rewards[:1], 1e9).tolist(), [[1 / 3] * 3])


def test_flows_balance_where_answers_are_drawn_in_proportion_to_the_reward() -> None:
    log_reward = REWARDS
    log_z = log_reward.logsumexp(0).requires_grad_()
    forward = (log_reward - log_reward.logsumexp(0)).requires_grad_()
    loss = trajectory_balance(log_z, forward, torch.zeros(9, dtype=torch.float64), log_reward)
    loss.backward()
    assert float(loss.detach()) < 1e-24
    assert max(float(log_z.grad.abs()), float(forward.grad.abs().max())) < 1e-12


def test_imbalance_is_squared_and_averaged() -> None:
    log_z, forward, backward, log_reward = torch.randn(4, 6, dtype=torch.float64)
    terms = zip(*(x.tolist() for x in (log_z, forward, backward, log_reward)), strict=True)
    naive = sum((z + f - r - b) ** 2 for z, f, b, r in terms) / 6
    assert float(trajectory_balance(log_z, forward, backward, log_reward)) == pytest.approx(naive, abs=1e-12)


def test_trained_for_balance_a_policy_draws_in_proportion_to_the_reward() -> None:
    theta, log_z = parameters(), torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([theta, log_z], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        trajectory_balance(log_z, logprobs(theta).sum(1), torch.zeros(9, dtype=torch.float64), REWARDS).backward()
        optimiser.step()
    torch.testing.assert_close(probabilities(theta).detach(), REWARDS.softmax(0), atol=1e-3, rtol=0)


def test_gradients_match_finite_differences() -> None:
    drawn = (-torch.rand(3, 4, dtype=torch.float64)).requires_grad_()
    other, mask = -torch.rand(3, 4, dtype=torch.float64), torch.arange(4) < torch.tensor([4, 1, 2])[:, None]
    advantages = torch.randn(3, dtype=torch.float64)
    for loss in (
        lambda x: reinforce_loss(x, mask, advantages),
        lambda x: clipped_loss(x, other, mask, advantages, 0.2, "sequence"),
        lambda x: value_loss(x, other, other * 2, mask, 0.1),
        lambda x: kl_k2(x, other, mask),
        lambda x: kl_k3(x, other, mask),
    ):
        assert torch.autograd.gradcheck(loss, (drawn,))
    assert torch.autograd.gradcheck(token_entropy, (torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True),))


def test_no_gradient_reaches_rewards_advantages_or_the_reference() -> None:
    theta = parameters()
    drawn = logprobs(theta)
    constants = [torch.rand(9, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    advantages, old, ref = constants
    shaped = reward_with_kl(REWARDS.clone().requires_grad_(), drawn, ref, WHOLE, 0.1)
    assert not shaped.requires_grad
    assert not rloo(advantages).requires_grad
    total = clipped_loss(drawn, old, WHOLE, advantages) + reinforce_loss(drawn, WHOLE, advantages)
    (total + kl_k3(drawn, ref, WHOLE).sum()).backward()
    assert theta.grad is not None
    assert all(constant.grad is None for constant in constants)


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_makes_no_sense_is_refused() -> None:
    drawn, mask, zeros = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3)
    for group in (rloo, group_normalised):
        with pytest.raises(ValueError, match=r"of 2 or more samples, got \(2, 1\)"):
            group(torch.zeros(2, 1))
        for bad in (math.nan, math.inf):
            with pytest.raises(ValueError, match="finite rewards, 1 of 2 are not; leave out samples"):
                group(torch.tensor([[bad, 1.0]]))
    with pytest.raises(ValueError, match="one greedy reward a prompt"):
        self_critical(drawn, torch.zeros(3))
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\)"):
        running_baseline(torch.zeros(2), momentum=1.0)
    with pytest.raises(ValueError, match="finite rewards"):
        running_baseline(torch.tensor([math.nan]))
    with pytest.raises(ValueError, match="eps must be above 0"):
        group_normalised(drawn, eps=0.0)
    with pytest.raises(ValueError, match=r"lam must be in \[0, 1\], got 1.5"):
        gae(drawn, zeros, mask, 1.0, 1.5)
    with pytest.raises(ValueError, match="advantages are one a sequence or one a token"):
        reinforce_loss(drawn, mask, torch.zeros(3))
    with pytest.raises(ValueError, match="clip must be above 0, got 0"):
        clipped_loss(drawn, zeros, mask, torch.zeros(2), 0.0)
    with pytest.raises(ValueError, match="clip must be above 0, got -1"):
        value_loss(drawn, zeros, zeros, mask, -1.0)
    with pytest.raises(ValueError, match=r"beta must be 0 or more, got -0\.1"):
        reward_with_kl(torch.zeros(2), drawn, zeros, mask, -0.1)
    with pytest.raises(ValueError, match="no last one to reward"):
        reward_with_kl(torch.zeros(2), drawn, zeros, mask & (torch.arange(2) > 0)[:, None], 0.1)
    with pytest.raises(ValueError, match="one reward a sequence"):
        reward_with_kl(torch.zeros(3), drawn, zeros, mask, 0.1)
    with pytest.raises(ValueError, match="target > 0"):
        adapted_beta(0.1, 1.0, 0.0)
    with pytest.raises(ValueError, match="tau must be a positive number, got 0"):
        raml_weights(drawn, 0.0)
    with pytest.raises(ValueError, match="every prompt needs a finite reward"):
        raml_weights(torch.full((1, 2), -math.inf), 1.0)
    with pytest.raises(ValueError, match="both logits must have one shape"):
        kl_categorical(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5))
    one = torch.zeros(2)
    with pytest.raises(ValueError, match="rewards must be above 0"):
        trajectory_balance(torch.zeros(()), one, one, torch.full((2,), -math.inf))
    with pytest.raises(ValueError, match="one number a sequence"):
        trajectory_balance(torch.zeros(()), one, one[:1], one)
    with pytest.raises(ValueError, match="log_z is one number or one a sequence"):
        trajectory_balance(torch.zeros(3), one, one, one)
