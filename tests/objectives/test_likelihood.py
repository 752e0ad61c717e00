"""Likelihood of answers: the loss by a loop, what lies outside the answer, and the three means over tokens."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autodidact.objectives import mean_over_tokens, sequence_logprobs, sft_loss


def tokens(n: int = 4, t: int = 6) -> tuple[Tensor, Tensor]:
    """Log-probabilities, and answers of 1 to n tokens that end at different places."""
    logprobs = -torch.rand(n, t, dtype=torch.float64) * 5
    places = torch.arange(t)
    starts = torch.arange(n)[:, None] % 2 + 1
    return logprobs, (places >= starts) & (places <= starts + torch.arange(n)[:, None])


def naive(logprobs: Tensor, answer: Tensor, mean: str) -> float:
    rows = [
        [value for value, counts in zip(row, mask, strict=True) if counts]
        for row, mask in zip(logprobs.tolist(), answer.tolist(), strict=True)
    ]
    if mean == "token":
        return -sum(map(sum, rows)) / sum(map(len, rows))
    return -sum(sum(row) / len(row) for row in rows) / len(rows)


@pytest.mark.parametrize("mean", ["token", "sequence"])
def test_it_is_the_mean_over_answer_tokens_of_a_loop(mean: str) -> None:
    logprobs, answer = tokens()
    assert float(sft_loss(logprobs, answer, mean=mean)) == pytest.approx(naive(logprobs, answer, mean), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_for_any_lengths_it_is_the_mean_of_a_loop(lengths: list[int], seed: int) -> None:
    logprobs = -torch.rand(len(lengths), 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    answer = torch.arange(7) < torch.tensor(lengths)[:, None]
    for mean in ("token", "sequence"):
        assert float(sft_loss(logprobs, answer, mean=mean)) == pytest.approx(naive(logprobs, answer, mean), abs=1e-12)


def test_the_loss_of_a_uniform_model_is_the_log_of_its_vocabulary() -> None:
    _, answer = tokens()
    loss = sft_loss(torch.full(answer.shape, -math.log(7), dtype=torch.float64), answer)
    assert float(loss) == pytest.approx(math.log(7), abs=1e-12)


def test_every_answer_token_has_the_same_gradient_and_no_other_token_has_any() -> None:
    logprobs, answer = tokens()
    sft_loss(logprobs.requires_grad_(), answer).backward()
    torch.testing.assert_close(logprobs.grad, -answer.double() / answer.sum())


def test_under_the_mean_of_sequences_each_answer_has_the_same_gradient_in_all() -> None:
    logprobs, answer = tokens()
    sft_loss(logprobs.requires_grad_(), answer, mean="sequence").backward()
    torch.testing.assert_close(logprobs.grad, -answer.double() / answer.sum(1, keepdim=True) / len(answer))


def test_prompt_and_padding_change_nothing_even_if_they_are_not_finite() -> None:
    logprobs, answer = tokens()
    spoilt = logprobs.where(answer, torch.tensor([math.nan, -math.inf, 1e9], dtype=torch.float64).repeat(2))
    spoilt.requires_grad_()
    loss = sft_loss(spoilt, answer)
    assert float(loss.detach()) == pytest.approx(float(sft_loss(logprobs, answer)), abs=1e-12)
    loss.backward()
    assert torch.isfinite(spoilt.grad).all()


def test_more_padding_changes_nothing() -> None:
    logprobs, answer = tokens()
    wide = torch.nn.functional.pad(logprobs, (3, 2)), torch.nn.functional.pad(answer, (3, 2))
    torch.testing.assert_close(sft_loss(*wide), sft_loss(logprobs, answer))


def test_narrow_input_is_computed_in_float32() -> None:
    logprobs, answer = tokens()
    found = sft_loss(logprobs.bfloat16(), answer)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, sft_loss(logprobs.bfloat16().float(), answer))


def test_an_answer_without_tokens_is_refused_and_named() -> None:
    logprobs, answer = tokens()
    with pytest.raises(ValueError, match=r"there is none in row\(s\) 2"):
        sft_loss(logprobs, answer.index_fill(0, torch.tensor([2]), False))


@pytest.mark.parametrize("constant", [1.0, 3, 6.0])
def test_with_a_number_it_is_the_mean_of_sums_over_sequences_divided_by_it(constant: float) -> None:
    values, mask = tokens()
    expected = sum(float(row[kept].sum()) for row, kept in zip(values, mask, strict=True)) / len(values) / constant
    assert float(mean_over_tokens(values, mask, constant)) == pytest.approx(expected, abs=1e-12)


def test_a_sequence_without_tokens_adds_nothing_to_a_sum_or_to_a_mean_over_tokens() -> None:
    values, mask = tokens()
    emptied = mask.index_fill(0, torch.tensor([1]), False)
    rest = torch.tensor([0, 2, 3])
    torch.testing.assert_close(mean_over_tokens(values, emptied), mean_over_tokens(values[rest], mask[rest]))
    torch.testing.assert_close(
        4 * mean_over_tokens(values, emptied, 1.0), 3 * mean_over_tokens(values[rest], mask[rest], 1.0)
    )
    with pytest.raises(ValueError, match="a mean over each sequence"):
        mean_over_tokens(values, emptied, "sequence")


def test_where_no_token_counts_the_mean_is_zero_with_zero_gradient() -> None:
    values, mask = tokens()
    found = mean_over_tokens(values.requires_grad_(), torch.zeros_like(mask))
    found.backward()
    assert float(found.detach()) == 0
    assert values.grad.abs().max() == 0


def test_the_log_probability_of_a_sequence_is_the_sum_over_its_tokens() -> None:
    logprobs, mask = tokens()
    expected = [math.fsum(row[kept].tolist()) for row, kept in zip(logprobs, mask, strict=True)]
    torch.testing.assert_close(sequence_logprobs(logprobs, mask).tolist(), expected)
    counts = mask.sum(1).tolist()
    means = [total / count for total, count in zip(expected, counts, strict=True)]
    torch.testing.assert_close(sequence_logprobs(logprobs, mask, mean=True).tolist(), means)


def test_weighted_means_count_changed_tokens_more_and_divide_by_the_weights() -> None:
    logprobs, mask = tokens()
    weights = torch.where(torch.arange(6) % 2 == 0, 5.0, 1.0).double().expand(4, 6)
    expected = [
        sum(float(logprobs[i, t] * weights[i, t]) for t in range(6) if mask[i, t])
        / sum(float(weights[i, t]) for t in range(6) if mask[i, t])
        for i in range(4)
    ]
    torch.testing.assert_close(sequence_logprobs(logprobs, mask, weights=weights, mean=True).tolist(), expected)
    ones = torch.ones_like(weights)
    torch.testing.assert_close(sequence_logprobs(logprobs, mask, weights=ones), sequence_logprobs(logprobs, mask))


def test_gradients_match_finite_differences() -> None:
    logprobs, mask = tokens(3, 4)
    logprobs.requires_grad_()
    weights = torch.rand(3, 4, dtype=torch.float64)
    for mean in ("token", "sequence"):
        assert torch.autograd.gradcheck(lambda x, mean=mean: sft_loss(x, mask, mean=mean), (logprobs,))
    assert torch.autograd.gradcheck(lambda x: sequence_logprobs(x, mask, weights=weights, mean=True), (logprobs,))


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_makes_no_sense_is_refused() -> None:
    logprobs, mask = tokens()
    with pytest.raises(ValueError, match=r"logprobs must have the mask's shape \(4, 6\), got \(4, 5\)"):
        sft_loss(logprobs[:, :5], mask)
    with pytest.raises(ValueError, match=r"with a row, got \(0, 6\)"):
        sft_loss(logprobs[:0], mask[:0])
    with pytest.raises(ValueError, match="mean is 'token' or 'sequence', got 'sum'"):
        sft_loss(logprobs, mask, mean="sum")
    for normaliser in ("row", 0.0, -1.0):
        with pytest.raises(ValueError, match="'token', 'sequence' or a number above 0"):
            mean_over_tokens(logprobs, mask, normaliser)
    with pytest.raises(ValueError, match=r"no token counts in row\(s\) 0, 1, 2, 3"):
        sequence_logprobs(logprobs, mask, weights=torch.zeros_like(logprobs), mean=True)
