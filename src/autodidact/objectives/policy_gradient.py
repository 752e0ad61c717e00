"""Losses that turn rewards of samples into gradients of the model that drew them.

They take log-probabilities of drawn tokens; the other halves are in `advantages` (how good a sample was) and `kl` (what
keeps the policy near its reference). See the survey of RL for generative models (2308.14328) for how they relate.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autodidact.objectives.embeddings import check_temperature, full_precision
from autodidact.objectives.likelihood import Normaliser, check_tokens, mean_over_tokens
from autodidact.objectives.shards import mean_over_rows


def reinforce_loss(
    logprobs: Float[Tensor, "n t"],
    mask: Bool[Tensor, "n t"],
    advantages: Float[Tensor, " n"] | Float[Tensor, "n t"],
    normaliser: Normaliser = 1.0,
    *,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Score-function estimator of the gradient of the expected reward (REINFORCE, Williams 1992).

    ::

        L = - mean over sequences of sum_t A_t log pi(y_t | y_<t)

    Where A is R less something independent of the sample, the gradient of -L is unbiased for that of E R, as long as
    the samples are of this very policy: at temperature 1, without top-k or top-p, and before it has changed. The value
    of L means nothing.

    Parameters
    ----------
    logprobs : of drawn tokens, under the policy that is trained.
    mask : tokens that count: those the policy chose, up to the end token. Later ones carry no loss.
    advantages : of each sequence, or of each token. No gradient is taken through them.
    normaliser : see `mean_over_tokens`. Only a number keeps it unbiased: the words divide by lengths that were drawn.
    gather : under a process group, the mean is over the batch of all processes.

    Raises
    ------
    ValueError
        Shapes that do not fit, an empty batch, a normaliser that makes no sense.
    """
    check_tokens("reinforce_loss", mask, logprobs=logprobs)
    kept = full_precision(logprobs).where(mask, 0.0)
    return -mean_over_tokens(kept * _by_token(advantages, mask), mask, normaliser, gather=gather)


def clipped_loss(
    logprobs: Float[Tensor, "n t"],
    old: Float[Tensor, "n t"],
    mask: Bool[Tensor, "n t"],
    advantages: Float[Tensor, " n"] | Float[Tensor, "n t"],
    clip: float | tuple[float, float] = 0.2,
    normaliser: Normaliser = "token",
    *,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Surrogate for several steps on the same samples (PPO, 1707.06347, equation 7; GRPO, 2402.03300, equation 3).

    With the ratio r_t = pi(y_t) / pi_old(y_t) of each token::

        L = - mean of min( r_t A_t, clip(r_t, 1 - low, 1 + high) A_t )

    On the first step, with pi = pi_old, its gradient is that of `reinforce_loss`. Later it is biased: tokens past the
    bound on the side that the advantage pushes to carry no gradient. For the ratio of whole sequences give sums over
    tokens as sequences of one token.

    Parameters
    ----------
    logprobs : of drawn tokens, under the policy that is trained.
    old : under the policy that drew them. No gradient reaches it.
    mask, advantages, gather : see `reinforce_loss`.
    clip : low and high bound above 0, or one number for both; infinity does not clip.
    normaliser : see `mean_over_tokens`. GRPO divides by "sequence", DAPO (2503.14476) by "token", Dr. GRPO by a number.

    Raises
    ------
    ValueError
        Shapes that do not fit, an empty batch, a bound that is not above 0, a normaliser that makes no sense.
    """
    check_tokens("clipped_loss", mask, logprobs=logprobs, old=old)
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    if not (low > 0 and high > 0):
        raise ValueError(f"clip must be above 0, got {clip}")
    # Masked before the exponential: padding must not overflow.
    ratio = (full_precision(logprobs).where(mask, 0.0) - full_precision(old.detach()).where(mask, 0.0)).exp()
    by_token = _by_token(advantages, mask)
    worse = torch.minimum(ratio * by_token, ratio.clamp(1 - low, 1 + high) * by_token)
    return -mean_over_tokens(worse, mask, normaliser, gather=gather)


def value_loss(
    values: Float[Tensor, "n t"],
    old: Float[Tensor, "n t"],
    returns: Float[Tensor, "n t"],
    mask: Bool[Tensor, "n t"],
    clip: float = math.inf,
    normaliser: Normaliser = "token",
    *,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Half the squared error of a value function, kept near its own earlier predictions.

    ::

        L = mean of 1/2 max( (V - G)^2, (V_old + clip(V - V_old, -c, c) - G)^2 )

    Parameters
    ----------
    values : V, predicted return from each token on.
    old : V_old, as predicted when the samples were drawn. No gradient reaches it.
    returns : G, such as `gae` + V_old. No gradient reaches it.
    mask, normaliser, gather : see `mean_over_tokens`.
    clip : c > 0 in units of the return; infinity does not clip. SALMON (2310.05910) takes 0.2.

    Raises
    ------
    ValueError
        Shapes that differ, an empty batch, clip <= 0, a normaliser that makes no sense.
    """
    check_tokens("value_loss", mask, values=values, old=old, returns=returns)
    if not clip > 0:
        raise ValueError(f"clip must be above 0, got {clip}")
    v, v_old, g = (full_precision(x).where(mask, 0.0) for x in (values, old.detach(), returns.detach()))
    near = v_old + (v - v_old).clamp(-clip, clip)
    error = torch.maximum((v - g).square(), (near - g).square())
    return mean_over_tokens(error / 2, mask, normaliser, gather=gather)


def raml_weights(rewards: Float[Tensor, "g k"], tau: float) -> Float[Tensor, "g k"]:
    r"""Weights of the samples of each prompt for a likelihood loss: :math:`e^{R_i / \tau} / \sum_j e^{R_j / \tau}`.

    With samples of the policy it is reward-weighted regression (Peters and Schaal 2007); with samples that are all as
    likely as each other, reward-augmented maximum likelihood (Norouzi et al., 1609.00150). As tau tends to
    0 only the best is kept, ties shared: fine-tuning on the best of k. The weights serve as advantages of
    `reinforce_loss`.

    Parameters
    ----------
    rewards : of k samples of each of g prompts. Minus infinity gives a weight of 0.
    tau : > 0, in units of the reward.

    Raises
    ------
    ValueError
        tau <= 0, NaN or rewards of plus infinity, a prompt whose rewards are all minus infinity.
    """
    check_temperature("raml_weights", tau, "tau")
    rewards = full_precision(rewards.detach())
    if not torch.isfinite(rewards.amax(1)).all():
        raise ValueError("raml_weights: every prompt needs a finite reward, and none may be NaN or plus infinity")
    return torch.softmax(rewards / tau, dim=1)


def trajectory_balance(
    log_z: Float[Tensor, ""] | Float[Tensor, " n"],
    forward: Float[Tensor, " n"],
    backward: Float[Tensor, " n"],
    log_reward: Float[Tensor, " n"],
    *,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Squared imbalance of flows; 0 for all sequences where samples are drawn in proportion to R (2201.13259).

    ::

        L = mean ( log Z + log P_F(y) - log R(y) - log P_B(y) )^2

    Unlike a policy gradient it does not settle on one mode. The samples may come from any policy.

    Parameters
    ----------
    log_z : learned logarithm of the sum of R, one for all, or one a sequence where it depends on the prompt.
    forward : log-probability of each sequence, summed over its steps.
    backward : of the way back; 0 where there is one way only, as for text written from left to right.
    log_reward : log R, finite. No gradient reaches it.

    Raises
    ------
    ValueError
        Numbers of sequences that differ, or none; a log R that is not finite (R must be above 0).
    """
    if not forward.shape == backward.shape == log_reward.shape or forward.ndim != 1 or len(forward) == 0:
        raise ValueError(
            f"trajectory_balance needs one number a sequence, "
            f"got {tuple(forward.shape)}, {tuple(backward.shape)} and {tuple(log_reward.shape)}"
        )
    if log_z.shape not in ((), forward.shape):
        raise ValueError(f"log_z is one number or one a sequence, got {tuple(log_z.shape)}")
    if not torch.isfinite(log_reward).all():
        raise ValueError("trajectory_balance: rewards must be above 0, and finite")
    known = full_precision(log_reward.detach())
    imbalance = full_precision(log_z) + full_precision(forward) - known - full_precision(backward)
    return mean_over_rows(imbalance.square(), gather)


def _by_token(advantages: Tensor, mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n #t"]:
    if advantages.shape not in (mask.shape, mask.shape[:1]):
        raise ValueError(
            f"advantages are one a sequence or one a token of {tuple(mask.shape)}, got {tuple(advantages.shape)}"
        )
    by_token = full_precision(advantages.detach())
    # What stands outside the mask may be NaN, and would reach the gradient through the product.
    return by_token[:, None] if by_token.ndim == 1 else by_token.where(mask, 0.0)
