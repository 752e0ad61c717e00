"""Preferences: Bradley-Terry and DPO against naive formulas, their gradients, and the optimum that DPO tends to.

`test_against_trl.py` holds them to the loss code of DPOTrainer in trl, where that is installed.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autodidact.objectives import (
    bradley_terry_loss,
    dpo_loss,
    implicit_rewards,
    preference_margins,
    sequence_logprobs,
    sft_loss,
)


def pairs(n: int = 5) -> list[Tensor]:
    """Log-probabilities of chosen and rejected answers under the policy, then under the reference."""
    return [-torch.rand(n, dtype=torch.float64) * 20 for _ in range(4)]


def naive_dpo(given: list[Tensor], beta: float, e: float = 0.0, alpha: float = 0.0) -> float:
    total = 0.0
    for chosen, rejected, ref_chosen, ref_rejected in zip(*(x.tolist() for x in given), strict=True):
        margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
        total += (1 - e) * math.log(1 + math.exp(-margin)) + e * math.log(1 + math.exp(margin)) - alpha * chosen
    return total / len(given[0])


finite = st.floats(-30, 30)


@settings(max_examples=60, deadline=None)
@given(rewards=st.lists(st.tuples(finite, finite), min_size=1, max_size=6))
def test_bradley_terry_is_the_mean_of_log_one_plus_exp_of_the_negative_difference(rewards) -> None:
    better, worse = torch.tensor(rewards, dtype=torch.float64).unbind(1)
    expected = sum(math.log(1 + math.exp(-(b - w))) for b, w in rewards) / len(rewards)
    assert float(bradley_terry_loss(better, worse)) == pytest.approx(expected, abs=1e-10)


def test_bradley_terry_stays_finite_for_rewards_far_apart() -> None:
    far = torch.tensor([1e4], dtype=torch.float32, requires_grad=True)
    loss = bradley_terry_loss(torch.zeros(1), far)
    loss.backward()
    assert float(loss.detach()) == 1e4
    assert float(far.grad) == 1
    assert float(bradley_terry_loss(far.detach(), torch.zeros(1))) == 0


def test_a_constant_added_to_all_rewards_changes_nothing() -> None:
    better, worse, *_ = pairs()
    torch.testing.assert_close(bradley_terry_loss(better + 3, worse + 3), bradley_terry_loss(better, worse))


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0])
@pytest.mark.parametrize(("e", "alpha"), [(0.0, 0.0), (0.1, 0.0), (0.0, 1 / 1024), (0.3, 0.5)])
def test_dpo_is_the_mean_of_its_formula(beta: float, e: float, alpha: float) -> None:
    given = pairs()
    found = dpo_loss(*given, beta, label_smoothing=e, nll_weight=alpha)
    assert float(found) == pytest.approx(naive_dpo(given, beta, e, alpha), abs=1e-10)


def test_where_policy_and_reference_agree_it_is_log_two() -> None:
    chosen, rejected, *_ = pairs()
    assert float(dpo_loss(chosen, rejected, chosen, rejected, 0.3)) == pytest.approx(math.log(2), abs=1e-12)


def test_the_gradient_of_a_chosen_log_probability_is_minus_beta_sigma_of_the_negative_margin() -> None:
    given = [side.requires_grad_() for side in pairs()]
    beta = 0.2
    dpo_loss(*given, beta).backward()
    for i in range(5):
        a, b, c, d = (float(x.detach()[i]) for x in given)
        margin = beta * ((a - c) - (b - d))
        expected = -beta / (1 + math.exp(margin)) / 5
        assert float(given[0].grad[i]) == pytest.approx(expected, abs=1e-12)
        assert float(given[1].grad[i]) == pytest.approx(-expected, abs=1e-12)


def test_no_gradient_reaches_the_reference() -> None:
    given = [side.requires_grad_() for side in pairs()]
    dpo_loss(*given, 0.1, nll_weight=0.1).backward()
    assert given[0].grad is not None
    assert given[2].grad is None
    assert given[3].grad is None


def test_swapping_the_answers_negates_the_margin() -> None:
    chosen, rejected, ref_chosen, ref_rejected = pairs()
    margin = preference_margins(chosen, rejected, ref_chosen, ref_rejected, 0.1)
    torch.testing.assert_close(preference_margins(rejected, chosen, ref_rejected, ref_chosen, 0.1), -margin)


def test_the_margin_is_the_difference_of_implicit_rewards() -> None:
    chosen, rejected, ref_chosen, ref_rejected = pairs()
    expected = implicit_rewards(chosen, ref_chosen, 0.5) - implicit_rewards(rejected, ref_rejected, 0.5)
    torch.testing.assert_close(preference_margins(chosen, rejected, ref_chosen, ref_rejected, 0.5), expected)
    torch.testing.assert_close(implicit_rewards(chosen, ref_chosen, 0.5), 0.5 * (chosen - ref_chosen))


def test_dpo_is_bradley_terry_of_implicit_rewards() -> None:
    given = pairs()
    rewards = implicit_rewards(given[0], given[2], 0.1), implicit_rewards(given[1], given[3], 0.1)
    torch.testing.assert_close(dpo_loss(*given, 0.1), bradley_terry_loss(*rewards))


def test_without_a_reference_it_is_that_of_a_reference_to_which_all_answers_are_alike() -> None:
    chosen, rejected, *_ = pairs()
    same = torch.full((5,), -3.0, dtype=torch.float64)
    torch.testing.assert_close(dpo_loss(chosen, rejected, None, None, 0.1), dpo_loss(chosen, rejected, same, same, 0.1))


def test_identical_answers_have_no_gradient() -> None:
    answer = torch.randn(5, dtype=torch.float64, requires_grad=True)
    dpo_loss(answer, answer, answer.detach(), answer.detach(), 0.1).backward()
    assert answer.grad.abs().max() == 0


def test_as_beta_vanishes_only_the_likelihood_and_log_two_are_left() -> None:
    given = pairs()
    found = float(dpo_loss(*given, 1e-12, nll_weight=0.25))
    assert found == pytest.approx(math.log(2) - 0.25 * float(given[0].mean()), abs=1e-9)


def test_the_likelihood_a_token_is_the_mean_within_each_chosen_answer() -> None:
    logprobs = -torch.rand(4, 6, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([1, 6, 3, 2])[:, None]
    chosen = sequence_logprobs(logprobs, mask)
    _, rejected, ref_chosen, ref_rejected = pairs(4)
    given = (chosen, rejected, ref_chosen, ref_rejected, 0.1)
    found = dpo_loss(*given, nll_weight=2.0, chosen_tokens=mask.sum(1))
    torch.testing.assert_close(found, dpo_loss(*given) + 2 * sft_loss(logprobs, mask, mean="sequence"))


def test_prompt_tokens_and_padding_have_no_part_in_it() -> None:
    logprobs = -torch.rand(4, 6, dtype=torch.float64)
    mask = (torch.arange(6) > 1) & (torch.arange(6) < 5)
    spoilt = logprobs.where(mask, -7.0)
    rest = [torch.zeros(4, dtype=torch.float64)] * 3
    kept = mask.expand(4, 6)
    torch.testing.assert_close(
        dpo_loss(sequence_logprobs(spoilt, kept), *rest, 0.1), dpo_loss(sequence_logprobs(logprobs, kept), *rest, 0.1)
    )


def test_margins_far_apart_stay_finite_in_value_and_gradient() -> None:
    chosen = torch.tensor([-1e5, 1e5], requires_grad=True)
    loss = dpo_loss(chosen, torch.zeros(2), torch.zeros(2), torch.zeros(2), 1.0, label_smoothing=0.1)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1e5 / 2)
    torch.testing.assert_close(chosen.grad, torch.tensor([-0.9, 0.1]) / 2)


def test_gradients_match_finite_differences() -> None:
    given = [side.requires_grad_() for side in pairs(3)]
    tokens = torch.tensor([1, 4, 2])
    for options in ({}, {"label_smoothing": 0.2}, {"nll_weight": 0.3, "chosen_tokens": tokens}):
        assert torch.autograd.gradcheck(
            lambda a, b, options=options: dpo_loss(a, b, *(x.detach() for x in given[2:]), 0.5, **options), given[:2]
        )
    assert torch.autograd.gradcheck(bradley_terry_loss, given[:2])


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_in_a_world_of_one_token_it_converges_to_the_reference_tilted_by_the_rewards(beta: float) -> None:
    rewards, reference = (0.0, 0.4, -0.7, 1.1), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    ordered = list(itertools.permutations(range(4), 2))
    odds = [1 / (1 + math.exp(rewards[b] - rewards[a])) for a, b in ordered]
    optimiser = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def loss() -> Tensor:
        optimiser.zero_grad()
        log_pi = logits.log_softmax(0)
        total = logits.new_zeros(())
        for (a, b), p in zip(ordered, odds, strict=True):
            total = total + p * dpo_loss(log_pi[[a]], log_pi[[b]], reference.log()[[a]], reference.log()[[b]], beta)
        total.backward()
        return total

    optimiser.step(loss)
    tilted = [float(p) * math.exp(r / beta) for p, r in zip(reference, rewards, strict=True)]
    expected = torch.tensor(tilted, dtype=torch.float64) / sum(tilted)
    torch.testing.assert_close(logits.detach().softmax(0), expected, atol=1e-3, rtol=0)


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_makes_no_sense_is_refused() -> None:
    chosen, rejected, ref_chosen, ref_rejected = pairs()
    with pytest.raises(ValueError, match="beta must be above 0, got 0"):
        dpo_loss(chosen, rejected, ref_chosen, ref_rejected, 0.0)
    with pytest.raises(ValueError, match="for both answers or for neither"):
        dpo_loss(chosen, rejected, ref_chosen, None)
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 0.5\), got 0.5"):
        dpo_loss(chosen, rejected, ref_chosen, ref_rejected, label_smoothing=0.5)
    with pytest.raises(ValueError, match="nll_weight must be 0 or more, got -1"):
        dpo_loss(chosen, rejected, ref_chosen, ref_rejected, nll_weight=-1.0)
    with pytest.raises(ValueError, match="every chosen answer needs a token"):
        dpo_loss(chosen, rejected, None, None, nll_weight=1.0, chosen_tokens=torch.tensor([1, 0, 2, 1, 1]))
    for wrong in (rejected[:3], rejected[:, None]):
        with pytest.raises(ValueError, match="one number a sequence"):
            dpo_loss(chosen, wrong, ref_chosen, ref_rejected)
    with pytest.raises(ValueError, match="at least one sequence"):
        bradley_terry_loss(chosen[:0], rejected[:0])
