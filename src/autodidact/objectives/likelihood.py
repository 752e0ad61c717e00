"""Likelihood of given tokens: fine-tuning on answers, sums over sequences, and the means that token losses share."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from autodidact.objectives.embeddings import full_precision
from autodidact.objectives.shards import mean_over_rows

Normaliser = Literal["token", "sequence"] | int | float
"""What a sum over tokens is divided by, see `mean_over_tokens`."""


def sft_loss(
    logprobs: Float[Tensor, "n t"],
    answer: Bool[Tensor, "n t"],
    *,
    mean: Literal["token", "sequence"] = "token",
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Negative log-likelihood of answers, in nats (supervised fine-tuning on completions).

    With the tokens o of the answer to prompt x::

        L = - mean over answer tokens of log pi(o_t | x, o_<t)

    SELF-GUIDE (2407.12874) writes it as the mean within an answer, which is "sequence" here: every answer weighs the
    same. "token" lets every token weigh the same, as most trainers do.

    Parameters
    ----------
    logprobs : log-probability of each token after the tokens before it.
    answer : the tokens of the answer, the end token among them; all others have no part in value or gradient.
    mean : over the tokens of the batch, or over the answers of their own mean.
    gather : under a process group, the mean is over the batch of all processes.

    Raises
    ------
    ValueError
        A row without an answer token, shapes that differ, an empty batch, an unknown mean.
    """
    check_tokens("sft_loss", answer, logprobs=logprobs)
    if mean not in ("token", "sequence"):
        raise ValueError(f"sft_loss: mean is 'token' or 'sequence', got {mean!r}")
    _refuse_empty_rows("sft_loss", answer)
    return -mean_over_tokens(logprobs, answer, mean, gather=gather)


def sequence_logprobs(
    logprobs: Float[Tensor, "n t"],
    mask: Bool[Tensor, "n t"],
    *,
    weights: Float[Tensor, "n t"] | None = None,
    mean: bool = False,
) -> Float[Tensor, " n"]:
    r"""Log-probability of each sequence: the sum over its tokens.

    With weights it is :math:`\sum_t w_t \log \pi(y_t)`, and with `mean` that divided by :math:`\sum_t w_t`. Weights of
    1 on tokens that two answers share and more on those that differ, with `mean`, give the score that RLHF-V
    (2312.00849) hands to DPO.

    Parameters
    ----------
    logprobs : log-probability of each token.
    mask : tokens that count.
    weights : of the tokens, 0 or more; 1 each where not given.
    mean : divide by the weights that count, or by the number of tokens.

    Raises
    ------
    ValueError
        Shapes that differ, an empty batch; with `mean`, a row whose weights sum to 0.
    """
    check_tokens("sequence_logprobs", mask, logprobs=logprobs, weights=weights)
    kept = full_precision(logprobs).where(mask, 0.0)
    if weights is None:
        total, counted = kept.sum(1), mask.sum(1)
    else:
        weights = weights.to(kept).where(mask, 0.0)
        total, counted = (kept * weights).sum(1), weights.sum(1)
    if not mean:
        return total
    if not (counted > 0).all():
        raise ValueError(f"sequence_logprobs: no token counts in {_listed(counted <= 0)}, so there is no mean")
    return total / counted


def mean_over_tokens(
    values: Float[Tensor, "n t"], mask: Bool[Tensor, "n t"], normaliser: Normaliser = "token", *, gather: bool = True
) -> Float[Tensor, ""]:
    r"""Mean of values of tokens; those outside the mask have no part in value or gradient, NaN among them.

    "token"
        Sum over all tokens divided by their number. A sequence weighs as much as it is long.
    "sequence"
        Mean over sequences of the mean over their tokens: each token of a long sequence weighs less.
    a number c
        Mean over sequences of their sum divided by c. With c = 1 it is the loss of whole sequences, whose gradient a
        policy gradient is about; other c only scale it. The divisor does not depend on the lengths, so that no length
        is favoured (Dr. GRPO, 2503.20783, takes the longest that is allowed).

    Parameters
    ----------
    gather : under a process group, the mean is over the batch of all processes; "token" divides by all their tokens.

    Returns
    -------
    float32 (float64 for float64 input). 0 under "token" where no token counts.

    Raises
    ------
    ValueError
        Shapes that differ, an empty batch, a normaliser that is neither of the words nor above 0, a row without tokens
        under "sequence".
    """
    check_tokens("mean_over_tokens", mask, values=values)
    kept = full_precision(values).where(mask, 0.0)
    if normaliser == "token":
        return mean_over_rows(kept.flatten(), gather, counted=mask.flatten())
    if normaliser == "sequence":
        _refuse_empty_rows("a mean over each sequence", mask)
        return mean_over_rows(kept.sum(1) / mask.sum(1), gather)
    if isinstance(normaliser, str) or not normaliser > 0:
        raise ValueError(f"normaliser is 'token', 'sequence' or a number above 0, got {normaliser!r}")
    return mean_over_rows(kept.sum(1) / normaliser, gather)


def check_tokens(name: str, mask: Tensor, **others: Tensor | None) -> None:
    """Refuse what is not a batch of tokens with one mask (n, t)."""
    if mask.ndim != 2 or len(mask) == 0:
        raise ValueError(f"{name}: the mask must be a matrix (sequences, tokens) with a row, got {tuple(mask.shape)}")
    for what, given in others.items():
        if given is not None and given.shape != mask.shape:
            raise ValueError(f"{name}: {what} must have the mask's shape {tuple(mask.shape)}, got {tuple(given.shape)}")


def _refuse_empty_rows(name: str, mask: Bool[Tensor, "n t"]) -> None:
    empty = ~mask.any(1)
    if empty.any():
        raise ValueError(f"{name}: every sequence needs a token that counts, there is none in {_listed(empty)}")


def _listed(wrong: Bool[Tensor, " n"]) -> str:
    rows = wrong.nonzero().flatten().tolist()
    return "row(s) " + ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
