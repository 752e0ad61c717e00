"""SwAV (Caron et al., arXiv 2006.09882): balanced assignments to prototypes, and their prediction from other views."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.objectives.embeddings import check_finite, check_temperature, full_precision, full_precision_region
from autodidact.objectives.shards import gathered, mean_over_rows, world_size


def power_law(count: int, exponent: float) -> Float[Tensor, " k"]:
    """Shares k^-exponent for k = 1 ... count, divided by their sum: the `marginal` of prototypes for data with few
    frequent and many rare kinds.

    Parameters
    ----------
    count : of the shares, >= 1.
    exponent : >= 0; 0 makes them all alike.
    """
    if count < 1 or exponent < 0:
        raise ValueError(f"a power law needs a count >= 1 and an exponent >= 0, got {count} and {exponent}")
    shares = torch.arange(1, count + 1, dtype=torch.float64) ** -exponent
    return (shares / shares.sum()).float()


@torch.no_grad()
def sinkhorn(
    scores: Float[Tensor, "n k"],
    epsilon: float = 0.05,
    iterations: int = 3,
    *,
    marginal: Float[Tensor, " k"] | None = None,
    gather: bool = True,
) -> Float[Tensor, "n k"]:
    r"""Soft assignments of samples to prototypes that use all prototypes alike (section 3.1, equations 3 to 5).

    :math:`Q = \mathrm{Diag}(u) \exp(S / \varepsilon) \mathrm{Diag}(v)` maximises the sum of the scores plus epsilon
    times the entropy under equal marginals. Each iteration of Sinkhorn-Knopp scales the prototypes to an equal share of
    the batch and then the samples to 1, so rows of the result sum to 1 exactly and columns to N / K nearly. Computed
    with logarithms, so that no epsilon overflows. Without gradient.

    Parameters
    ----------
    scores : tensor of shape (N, K)
        Similarities of samples and prototypes; cosines, in SwAV.
    epsilon : float
        > 0; small ones give one prototype a sample, large ones all of them equally. Paper: 0.05.
    iterations : int
        >= 1. Paper: 3.
    marginal : tensor of shape (K,), optional
        Share of the samples that each prototype is to get, > 0; only their proportions count. Default: all alike.
        Columns then sum to N times the share nearly.
    gather : bool
        Under a process group, balance over the samples of all processes; each gets the rows of its own.

    Raises
    ------
    ValueError
        epsilon <= 0, iterations < 1, shares that are not positive, NaN or infinite scores.
    """
    check_temperature("sinkhorn", epsilon, "epsilon")
    if iterations < 1:
        raise ValueError(f"sinkhorn: iterations must be at least 1, got {iterations}")
    if scores.device.type == "cpu":
        check_finite("sinkhorn: the scores", scores)
    if marginal is not None and not bool((marginal > 0).all()):
        raise ValueError("sinkhorn: the shares of the prototypes must be positive")
    processes = world_size(gather)
    log_q = full_precision(scores) / epsilon
    for _ in range(iterations):
        mass = log_q.logsumexp(0)
        if processes > 1:
            mass = torch.stack(gathered(mass[None], [1] * processes)).logsumexp(0)[0]
        log_q = log_q - mass
        if marginal is not None:
            log_q = log_q + marginal.to(log_q.dtype).log()
        log_q = log_q - log_q.logsumexp(1, keepdim=True)
    return log_q.exp()


def swapped_prediction(
    scores: Sequence[Float[Tensor, "n k"]],
    codes: Sequence[Float[Tensor, "n k"]],
    temperature: float = 0.1,
    *,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Cross-entropy of the codes of some views under the scores of all other views (section 3.1, equations 1 and 2).

    With the code :math:`q^{(v)}` of view v and :math:`p^{(u)} = \mathrm{softmax}(s^{(u)} / t)`::

        L = - mean over views v with a code, u != v, and samples i of  sum_k q_ik^(v) log p_ik^(u)

    Parameters
    ----------
    scores : tensors of shape (N, K), one a view, at least two
        Similarities with the prototypes, row i of all from sample i.
    codes : tensors of shape (N, K)
        Assignments of the first views, as many as there are codes. They take no gradient.
    temperature : float
        t > 0. Paper: 0.1.
    gather : bool
        Under a process group, the mean is over the samples of all processes.

    Raises
    ------
    ValueError
        Fewer than two views, no codes or more codes than views, temperature <= 0.
    """
    check_temperature("swapped prediction", temperature)
    if len(scores) < 2 or not 1 <= len(codes) <= len(scores):
        raise ValueError(
            f"a swapped prediction needs two views and a code of at least one, got {len(scores)} views and "
            f"{len(codes)} codes"
        )
    with full_precision_region(scores[0].device):
        predicted = [(full_precision(s) / temperature).log_softmax(1) for s in scores]
        losses = [
            -(code.detach().to(log_p.dtype) * log_p).sum(1)
            for v, code in enumerate(codes)
            for u, log_p in enumerate(predicted)
            if u != v
        ]
        return mean_over_rows(torch.stack(losses).mean(0), gather)
