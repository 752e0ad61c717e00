"""Preferences: which of two answers is better, as a loss of a reward model (Bradley-Terry) or of a policy (DPO)."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from autodidact.objectives.embeddings import full_precision
from autodidact.objectives.shards import mean_over_rows


def bradley_terry_loss(
    better: Float[Tensor, " n"], worse: Float[Tensor, " n"], *, gather: bool = True
) -> Float[Tensor, ""]:
    r"""Negative log-likelihood of preferences under rewards r (as in SALMON, 2310.05910).

    ::

        L = - mean log sigma(r_better - r_worse)

    Parameters
    ----------
    better, worse : rewards of the two answers of each pair.
    gather : under a process group, the mean is over the pairs of all processes.

    Raises
    ------
    ValueError
        Numbers of rewards that differ, or none.
    """
    _check_pairs("bradley_terry_loss", better=better, worse=worse)
    return mean_over_rows(-logsigmoid(full_precision(better) - full_precision(worse)), gather)


def implicit_rewards(
    logprobs: Float[Tensor, " n"], ref: Float[Tensor, " n"] | None, beta: float
) -> Float[Tensor, " n"]:
    r"""The reward that a policy tuned by DPO stands for, up to a term of the prompt (2305.18290, equation 5).

    :math:`\beta (\log \pi(y) - \log \pi_{ref}(y))`; without a reference :math:`\beta \log \pi(y)`, as if all answers
    were alike to it. No gradient reaches `ref`.

    Raises
    ------
    ValueError
        Numbers of sequences that differ, or none, beta <= 0.
    """
    _check_pairs("implicit_rewards", logprobs=logprobs, ref=ref)
    if not beta > 0:
        raise ValueError(f"beta must be above 0, got {beta}")
    logprobs = full_precision(logprobs)
    return beta * (logprobs if ref is None else logprobs - full_precision(ref.detach()))


def preference_margins(
    chosen: Float[Tensor, " n"],
    rejected: Float[Tensor, " n"],
    ref_chosen: Float[Tensor, " n"] | None,
    ref_rejected: Float[Tensor, " n"] | None,
    beta: float,
) -> Float[Tensor, " n"]:
    """Implicit reward of the chosen answer less that of the rejected one; above 0 the policy agrees with the pair.

    Parameters and errors as in `dpo_loss`.
    """
    _check_pairs("a preference", chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    if (ref_chosen is None) != (ref_rejected is None):
        raise ValueError("the reference must be given for both answers or for neither")
    return implicit_rewards(chosen, ref_chosen, beta) - implicit_rewards(rejected, ref_rejected, beta)


def dpo_loss(
    chosen: Float[Tensor, " n"],
    rejected: Float[Tensor, " n"],
    ref_chosen: Float[Tensor, " n"] | None,
    ref_rejected: Float[Tensor, " n"] | None,
    beta: float = 0.1,
    *,
    label_smoothing: float = 0.0,
    nll_weight: float = 0.0,
    chosen_tokens: Int[Tensor, " n"] | None = None,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Direct preference optimisation (Rafailov et al., 2305.18290, equation 7).

    With the margin m of implicit rewards, label smoothing e and the weight a of the likelihood of the chosen answer::

        m = beta [ (log pi(y+) - log ref(y+)) - (log pi(y-) - log ref(y-)) ]
        L = mean over pairs of  - (1 - e) log sigma(m) - e log sigma(-m) - a log pi(y+)

    It is log 2 where policy and reference agree and e = a = 0. Its gradient with respect to log pi(y+) is then
    -beta sigma(-m), and the opposite with respect to log pi(y-). Only differences count: log pi(y+) may fall as the
    loss does, which the likelihood term prevents. Over all pairs that rewards r would order, with the odds of
    Bradley-Terry, the optimum is pi proportional to ref exp(r / beta).

    No gradient reaches the reference. Weights of tokens go into the sums, see `sequence_logprobs`.

    Parameters
    ----------
    chosen, rejected : log-probabilities of whole answers under the policy, summed over their tokens.
    ref_chosen, ref_rejected : the same under the frozen reference, or None for both: free of a reference.
    beta : > 0; the smaller, the further the policy may move.
    label_smoothing : e in [0, 0.5), the share of pairs believed to be the wrong way round.
    nll_weight : a >= 0. STIC (2405.19716) takes 1 / 1024 of the sum over tokens.
    chosen_tokens : tokens of each chosen answer. Where given, the likelihood term is a log pi(y+) / |y+|, as in
        iterative reasoning preference optimisation (2404.19733). For the mean over the tokens of the batch add
        `sft_loss` instead.
    gather : under a process group, the mean is over the pairs of all processes.

    Raises
    ------
    ValueError
        Numbers of sequences that differ, or none, a reference for one answer only, beta <= 0, label smoothing outside
        [0, 0.5), a weight below 0, a chosen answer without tokens.
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing must be in [0, 0.5), got {label_smoothing}")
    if not nll_weight >= 0:
        raise ValueError(f"nll_weight must be 0 or more, got {nll_weight}")
    margins = preference_margins(chosen, rejected, ref_chosen, ref_rejected, beta)
    losses = -logsigmoid(margins)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * logsigmoid(-margins)
    if nll_weight:
        nll = -full_precision(chosen)
        if chosen_tokens is not None:
            _check_pairs("dpo_loss", chosen=chosen, chosen_tokens=chosen_tokens)
            if not (chosen_tokens > 0).all():
                raise ValueError(f"every chosen answer needs a token, got {chosen_tokens.tolist()}")
            nll = nll / chosen_tokens
        losses = losses + nll_weight * nll
    return mean_over_rows(losses, gather)


def _check_pairs(name: str, **sides: Tensor | None) -> None:
    shapes = {what: tuple(side.shape) for what, side in sides.items() if side is not None}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 or shape[0] == 0 for shape in shapes.values()):
        raise ValueError(f"{name} needs one number a sequence and at least one sequence, got {shapes}")
