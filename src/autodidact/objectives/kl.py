r"""How far a policy is from its reference: estimates of the KL divergence, the reward that pays for it, entropy.

All of them are of the reverse divergence KL(pi || ref), with tokens y drawn from pi. As values k1 and k3 are unbiased;
as losses, differentiated through log pi with the samples held fixed, they are three different things:

- k1 = log pi - ref has the expected gradient E[grad log pi] = 0, wherever pi is. **It does nothing in a loss.** It
  belongs into the reward, without gradient (`reward_with_kl`): E[k1 grad log pi] is the gradient of the divergence.
- k2 = (log pi - ref)^2 / 2 has the expected gradient E[k1 grad log pi], the right one, though its value is not the
  divergence.
- k3 has the expected gradient of the forward divergence KL(ref || pi). Both agree near pi = ref to first order.

`kl_categorical` sums over the whole vocabulary, so its value and gradient are exact at the states that were visited.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autodidact.objectives.embeddings import full_precision
from autodidact.objectives.likelihood import check_tokens


def kl_k1(logprobs: Float[Tensor, "n t"], ref: Float[Tensor, "n t"], mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n t"]:
    """log pi - log ref of each token; 0 outside the mask. For the reward: in a loss it has no expected gradient.

    Parameters
    ----------
    logprobs : of tokens drawn from the policy, under it.
    ref : of the same tokens under the reference. No gradient reaches it.
    mask : tokens that count, up to the end token.

    Raises
    ------
    ValueError
        Shapes that differ, an empty batch.
    """
    check_tokens("the divergence", mask, logprobs=logprobs, ref=ref)
    # Masked before the difference: padding may have a log-probability of minus infinity in both.
    return full_precision(logprobs).where(mask, 0.0) - full_precision(ref.detach()).where(mask, 0.0)


def kl_k2(logprobs: Float[Tensor, "n t"], ref: Float[Tensor, "n t"], mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n t"]:
    """(log pi - log ref)^2 / 2 of each token; as a loss it has the gradient of KL(pi || ref). See `kl_k1`."""
    return kl_k1(logprobs, ref, mask).square() / 2


def kl_k3(logprobs: Float[Tensor, "n t"], ref: Float[Tensor, "n t"], mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n t"]:
    """exp(d) - d - 1 of each token with d = log ref - log pi: never negative, of low variance (Schulman, 2020).

    As a loss it has the gradient of KL(ref || pi), as in GRPO (2402.03300, equation 4). See `kl_k1`.
    """
    d = -kl_k1(logprobs, ref, mask)
    return torch.expm1(d) - d


def kl_categorical(logits: Float[Tensor, "n t v"], ref_logits: Float[Tensor, "n t v"]) -> Float[Tensor, "n t"]:
    """KL(pi || ref) of the next token, exact over the vocabulary. No gradient reaches the reference.

    Logits of minus infinity are tokens that the policy never says; they count as 0.

    Raises
    ------
    ValueError
        Shapes that differ.
    """
    if logits.shape != ref_logits.shape:
        raise ValueError(
            f"kl_categorical: both logits must have one shape (sequences, tokens, vocabulary), "
            f"got {tuple(logits.shape)} and {tuple(ref_logits.shape)}"
        )
    log_pi = full_precision(logits).log_softmax(-1)
    log_ref = full_precision(ref_logits.detach()).log_softmax(-1)
    never = log_pi == -torch.inf
    return (log_pi.exp() * (log_pi - log_ref).masked_fill(never, 0.0)).sum(-1)


def token_entropy(logits: Float[Tensor, "n t v"]) -> Float[Tensor, "n t"]:
    """Entropy of the next token in nats, in [0, log v]; added to what is climbed it keeps a policy from narrowing."""
    log_pi = full_precision(logits).log_softmax(-1)
    return -(log_pi.exp() * log_pi.masked_fill(log_pi == -torch.inf, 0.0)).sum(-1)


@torch.no_grad()
def reward_with_kl(
    rewards: Float[Tensor, " n"],
    logprobs: Float[Tensor, "n t"],
    ref: Float[Tensor, "n t"],
    mask: Bool[Tensor, "n t"],
    beta: float,
    *,
    kl: Callable[[Tensor, Tensor, Tensor], Tensor] = kl_k1,
) -> Float[Tensor, "n t"]:
    r"""Rewards of tokens: the price of leaving the reference at each, the reward of the sequence at the last.

    ::

        r_t = - beta kl_t + R [t is the last token]

    With k1 the policy that maximises the expected sum is pi proportional to ref exp(R / beta).

    Parameters
    ----------
    rewards : R of each sequence.
    logprobs, ref, mask : see `kl_k1`.
    beta : price of a nat, 0 or more.
    kl : the estimate. SALMON (2310.05910) takes k1 where it is positive:
        ``lambda *given: kl_k1(*given).clamp(min=0)``.

    Returns
    -------
    0 outside the mask, without gradient.

    Raises
    ------
    ValueError
        Shapes that differ, a sequence without tokens, beta < 0.
    """
    check_tokens("reward_with_kl", mask, logprobs=logprobs, ref=ref)
    if rewards.shape != mask.shape[:1]:
        raise ValueError(f"reward_with_kl: one reward a sequence is needed, got {tuple(rewards.shape)}")
    if not beta >= 0:
        raise ValueError(f"beta must be 0 or more, got {beta}")
    if not mask.any(1).all():
        raise ValueError("reward_with_kl: a sequence without tokens has no last one to reward")
    found = -beta * kl(logprobs, ref, mask)
    last = mask.shape[1] - 1 - mask.int().flip(1).argmax(1)
    return found.scatter_add(1, last[:, None], rewards.to(found)[:, None])


def adapted_beta(beta: float, kl: float, target: float, *, rate: float = 0.1, clip: float = 0.2) -> float:
    """The price of a nat after a batch, so that the divergence tends to a target (Ziegler et al., 1909.08593).

    beta (1 + rate clip(kl / target - 1, -clip, clip)): at most 2 % up or down a batch by default.

    Parameters
    ----------
    kl : measured, nats a sequence, in the units of `target`.

    Raises
    ------
    ValueError
        beta < 0, target <= 0, NaN.
    """
    if not (beta >= 0 and target > 0 and kl == kl):
        raise ValueError(f"an adaptive beta needs beta >= 0, target > 0 and a number, got {beta}, {target} and {kl}")
    return beta * (1 + rate * min(max(kl / target - 1, -clip), clip))
