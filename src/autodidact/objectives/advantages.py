"""Advantages: by how much a sample did better than expected, with what is expected estimated in several ways.

They are what `reinforce_loss` and `clipped_loss` weigh log-probabilities with. None of them carries a gradient.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autodidact.objectives.embeddings import full_precision
from autodidact.objectives.likelihood import check_tokens, mean_over_tokens


def running_baseline(
    rewards: Float[Tensor, " n"], baseline: float = 0.0, momentum: float = 0.9
) -> tuple[Float[Tensor, " n"], float]:
    """R - b with a running mean b of earlier rewards, and the running mean after these (REINFORCE, Williams 1992).

    The baseline that is taken off knows nothing of the samples it is taken from, so the gradient stays unbiased,
    whatever its value.

    Parameters
    ----------
    rewards : of samples.
    baseline : b, before these samples.
    momentum : in [0, 1), what stays of b: b <- momentum b + (1 - momentum) mean R.

    Raises
    ------
    ValueError
        No rewards, NaN or infinite ones, a momentum outside [0, 1).
    """
    rewards = _checked("running_baseline", rewards)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    return rewards - baseline, momentum * baseline + (1 - momentum) * float(rewards.mean())


def self_critical(rewards: Float[Tensor, "g k"], greedy: Float[Tensor, " g"]) -> Float[Tensor, "g k"]:
    """R - R(greedy): better than what the policy says at temperature 0 (Rennie et al., 1612.00563).

    Parameters
    ----------
    rewards : of k samples of each of g prompts.
    greedy : of the greedy answer to each prompt.

    Raises
    ------
    ValueError
        Numbers of prompts that differ, no rewards, NaN or infinite ones.
    """
    if rewards.ndim != 2 or greedy.shape != rewards.shape[:1]:
        raise ValueError(
            f"self_critical needs rewards (prompts, samples) and one greedy reward a prompt, "
            f"got {tuple(rewards.shape)} and {tuple(greedy.shape)}"
        )
    return _checked("self_critical", rewards) - _checked("self_critical", greedy)[:, None]


def rloo(rewards: Float[Tensor, "g k"]) -> Float[Tensor, "g k"]:
    r"""R less the mean reward of the other samples of the prompt (Kool et al. 2019; RLOO, 2402.14740).

    .. math:: A_i = R_i - \frac{1}{k - 1} \sum_{j \ne i} R_j

    Unbiased, since the others are independent of sample i. A constant added to all rewards of a prompt changes nothing.

    Parameters
    ----------
    rewards : of k >= 2 samples of each of g prompts.

    Raises
    ------
    ValueError
        Fewer than two samples a prompt, NaN or infinite rewards.
    """
    rewards = _grouped("rloo", rewards)
    k = rewards.shape[1]
    return _centred(rewards) * (k / (k - 1))


def group_normalised(rewards: Float[Tensor, "g k"], *, std: bool = True, eps: float = 1e-4) -> Float[Tensor, "g k"]:
    r"""R less the mean of the prompt's samples, divided by their spread (GRPO, 2402.03300, section 4.1.2).

    .. math:: A_i = (R_i - \bar R) / (s + \epsilon)

    with s the standard deviation that divides by k - 1. Both steps bias the gradient. The mean includes the sample
    itself, which only scales by (k - 1) / k. The spread depends on the samples, so what is climbed is no longer the
    expected reward: prompts whose answers are nearly all right or all wrong weigh more (2503.20783), and of two samples
    only the order counts, not by how much they differ. Without `std`, times k / (k - 1), it is `rloo`.

    Parameters
    ----------
    rewards : of k >= 2 samples of each of g prompts.
    std : divide by the spread.
    eps : > 0, keeps a group of nearly equal rewards from exploding. A group of equal rewards is exactly 0.

    Raises
    ------
    ValueError
        Fewer than two samples a prompt, NaN or infinite rewards, eps <= 0.
    """
    if not eps > 0:
        raise ValueError(f"eps must be above 0, got {eps}")
    rewards = _grouped("group_normalised", rewards)
    centred = _centred(rewards)
    return centred / (centred.std(1, keepdim=True) + eps) if std else centred


@torch.no_grad()
def gae(
    rewards: Float[Tensor, "n t"],
    values: Float[Tensor, "n t"],
    mask: Bool[Tensor, "n t"],
    gamma: float = 1.0,
    lam: float = 0.95,
) -> Float[Tensor, "n t"]:
    r"""Generalised advantage estimation (Schulman et al., 1506.02438, equation 16).

    Over the tokens of a sequence that count, one after another, with value 0 after the last::

        d_t = r_t + gamma V_{t+1} - V_t,        A_t = d_t + gamma lam A_{t+1}

    With gamma = lam = 1 it is the sum of the rewards from t on less V_t. The target of the value function is A + V.

    Parameters
    ----------
    rewards : of each token, such as `reward_with_kl` gives.
    values : predicted return from each token on, seen before the token is written. No gradient is taken.
    mask : tokens that count. Gaps are skipped: what comes after a gap follows what comes before it.
    gamma, lam : in [0, 1]. Under lam = 1 there is no bias, under 0 the least variance.

    Returns
    -------
    0 outside the mask.

    Raises
    ------
    ValueError
        Shapes that differ, an empty batch, gamma or lam outside [0, 1].
    """
    check_tokens("gae", mask, rewards=rewards, values=values)
    for name, given in (("gamma", gamma), ("lam", lam)):
        if not 0 <= given <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {given}")
    rewards, values = full_precision(rewards), full_precision(values)
    found = torch.zeros_like(rewards)
    next_value = next_advantage = rewards.new_zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        here = mask[:, t]
        error = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = (error + gamma * lam * next_advantage).where(here, next_advantage)
        next_value = values[:, t].where(here, next_value)
        found[:, t] = next_advantage.where(here, 0.0)
    return found


@torch.no_grad()
def whitened(
    advantages: Float[Tensor, "n t"], mask: Bool[Tensor, "n t"], *, eps: float = 1e-8, gather: bool = True
) -> Float[Tensor, "n t"]:
    """Advantages of tokens with mean 0 and variance 1 over the whole batch, 0 outside the mask.

    As in SALMON (2310.05910). A constant offset of the rewards disappears here, and so does their scale.

    Parameters
    ----------
    eps : added to the variance.
    gather : under a process group, mean and variance are those of all processes.

    Raises
    ------
    ValueError
        Shapes that differ, an empty batch.
    """
    centred = full_precision(advantages) - mean_over_tokens(advantages, mask, gather=gather)
    variance = mean_over_tokens(centred.square(), mask, gather=gather)
    return (centred * (variance + eps).rsqrt()).where(mask, 0.0)


def _centred(rewards: Float[Tensor, "g k"]) -> Float[Tensor, "g k"]:
    # Rounding of the mean would leave equal rewards a little apart from it, which a small spread would then blow up.
    equal = rewards.amax(1, keepdim=True) == rewards.amin(1, keepdim=True)
    return (rewards - rewards.mean(1, keepdim=True)).masked_fill(equal, 0.0)


def _grouped(name: str, rewards: Tensor) -> Tensor:
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"{name} needs rewards (prompts, samples) of 2 or more samples, got {tuple(rewards.shape)}")
    return _checked(name, rewards)


def _checked(name: str, rewards: Tensor) -> Tensor:
    rewards = full_precision(rewards.detach())
    if rewards.numel() == 0 or not torch.isfinite(rewards).all():
        raise ValueError(
            f"{name} needs finite rewards, {int((~torch.isfinite(rewards)).sum())} of {rewards.numel()} are not; "
            f"leave out samples whose reward is not known"
        )
    return rewards
